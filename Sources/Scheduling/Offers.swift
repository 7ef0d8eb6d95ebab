/// What a task asks of the worker that it is given to.
package struct Demand: Equatable, Sendable {
    package var cpus: UInt32
    package var runner: Runner
    package init(cpus: UInt32, runner: Runner = .everyWorker) {
        self.cpus = cpus
        self.runner = runner
    }

    package enum Runner: Equatable, Sendable {
        /// The worker itself, or a subworker that the session brings.
        case everyWorker
        /// A subworker that some worker has offered, by its number.
        case subworker(Int)
        /// A subworker that no worker has ever offered.
        case nobody
    }
}

/// Which workers can take a task, whether they have room or not.
package enum Fit: Equatable, Sendable { case nobody, some, all }

/// Which workers offer which subworkers.
///
/// Few workers differ, so those that offer the same are of one kind, and whether a worker offers a subworker is one look into a table.
///
/// `ffi/NAME` stands for a library of a subworker, `ffi/` for every one.
struct Offers: Sendable {
    private var numbers: [String: Int] = [:]
    /// By number.
    private var names: ContiguousArray<String> = []
    private var kinds: [[String]: Int] = [:]
    /// By kind, then by number of the subworker. Rows are shorter than there are numbers when those came later.
    private var table: ContiguousArray<ContiguousArray<Bool>> = []
    /// What kinds offer all of, in their order.
    private var families: ContiguousArray<[String]> = []

    /// - Returns: the kind of a worker that offers them.
    mutating func kind(of subworkers: [String]) -> Int {
        let offered = Set(subworkers).sorted()
        if let known = kinds[offered] { return known }
        for name in offered where numbers[name] == nil { _ = add(name) }
        let kind = table.count
        kinds[offered] = kind
        table.append([])
        families.append(offered.filter { $0.hasSuffix("/") })
        for name in offered { set(numbers[name]!, of: kind) }
        if !families[kind].isEmpty {
            for number in names.indices where families[kind].contains(where: names[number].hasPrefix) { set(number, of: kind) }
        }
        return kind
    }

    private mutating func add(_ name: String) -> Int {
        let number = names.count
        numbers[name] = number
        names.append(name)
        for kind in table.indices where families[kind].contains(where: name.hasPrefix) { set(number, of: kind) }
        return number
    }

    private mutating func set(_ number: Int, of kind: Int) {
        while table[kind].count <= number { table[kind].append(false) }
        table[kind][number] = true
    }

    /// One that is offered with all of its family gets a number of its own all the same: another worker may offer it alone.
    mutating func runner(_ subworker: String) -> Demand.Runner {
        if let number = numbers[subworker] { return .subworker(number) }
        guard families.contains(where: { $0.contains(where: subworker.hasPrefix) }) else { return .nobody }
        return .subworker(add(subworker))
    }

    func offers(_ kind: Int, _ runner: Demand.Runner) -> Bool {
        switch runner {
        case .everyWorker: true
        case .subworker(let number): number < table[kind].count && table[kind][number]
        case .nobody: false
        }
    }
}
