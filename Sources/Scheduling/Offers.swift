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
struct Offers: Sendable {
    private var numbers: [String: Int] = [:]
    private var kinds: [[String]: Int] = [:]
    /// By kind, then by number of the subworker. Rows are shorter than there are numbers when those came later.
    private var table: ContiguousArray<ContiguousArray<Bool>> = []

    /// - Returns: the kind of a worker that offers them.
    mutating func kind(of subworkers: [String]) -> Int {
        let names = Set(subworkers).sorted()
        if let known = kinds[names] { return known }
        for name in names where numbers[name] == nil { numbers[name] = numbers.count }
        var row = ContiguousArray(repeating: false, count: numbers.count)
        for name in names { row[numbers[name]!] = true }
        kinds[names] = table.count
        table.append(row)
        return table.count - 1
    }

    func runner(_ subworker: String) -> Demand.Runner { numbers[subworker].map { .subworker($0) } ?? .nobody }

    func offers(_ kind: Int, _ runner: Demand.Runner) -> Bool {
        switch runner {
        case .everyWorker: true
        case .subworker(let number): number < table[kind].count && table[kind][number]
        case .nobody: false
        }
    }
}
