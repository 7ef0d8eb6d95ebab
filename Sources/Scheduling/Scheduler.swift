import TaskModel

/// Chooses a worker for each ready task: the one where it is expected to begin first.
///
/// A worker is given more than it can run at once, so that it never waits for a round trip, but only as much as it is
/// expected to work off in `queueNanoseconds`: moving it to a worker that joins later costs two round trips.
package struct Scheduler: Sendable {
    /// One worker as the scheduler sees it.
    package struct Load: Equatable, Sendable {
        package var cpus: UInt32
        /// Of workers that offer the same subworkers.
        var kind: Int
        /// CPUs asked for by the tasks that it has and that have no outcome.
        package var assignedCPUs: UInt64 = 0
        package var assignedCount: UInt32 = 0
        /// Expected run time of those tasks, each times its CPUs.
        package var expectedNanoseconds: UInt64 = 0
        // Tasks that are asked back from other workers for this one, and how many are asked back from this one.
        package internal(set) var incomingCount: UInt32 = 0
        package internal(set) var incomingCPUs: UInt64 = 0
        package internal(set) var incomingNanoseconds: UInt64 = 0
        package internal(set) var outgoingCount: UInt32 = 0
        /// When the worker last gave a task back, done or not, or had a CPU without one.
        package internal(set) var movedAt = Instant(nanoseconds: 0)
        init(cpus: UInt32, kind: Int) {
            self.cpus = cpus
            self.kind = kind
        }
    }

    /// Two round trips over a network with a margin: with less, short tasks leave workers idle.
    package static let queueNanoseconds: UInt64 = 50_000_000
    /// What is assumed of a template that never ran.
    package static let unknownNanoseconds: UInt64 = 10_000_000
    /// No task is cheaper than this for its worker, whatever its own code takes.
    package static let leastNanoseconds: UInt64 = 20_000
    /// Of tasks that ask for no CPU a worker runs 64 at once, and so many more wait there for their turn.
    package static let weightlessCountMax: UInt32 = 128
    /// Bytes per nanosecond of the data plane between two machines, for weighing a transfer against waiting.
    private static let bytesPerNanosecond: UInt64 = 1

    /// By worker index; `nil` for one that is gone.
    package internal(set) var loads: ContiguousArray<Load?> = []
    /// Indices of the workers that are here, rising: what is looked at for a task does not grow with those that are gone.
    private(set) var present: ContiguousArray<Int> = []
    private var offers = Offers()

    package init() {}

    /// - Parameter subworkers: names of those that it offers.
    /// - Returns: the index of the new worker: the number of all that ever joined.
    package mutating func join(cpus: UInt32, subworkers: [String] = []) -> Int {
        loads.append(Load(cpus: cpus, kind: offers.kind(of: subworkers)))
        present.append(loads.count - 1)
        return loads.count - 1
    }

    /// A worker that had left is back, under the same index and with nothing to do.
    package mutating func rejoin(_ worker: Int, cpus: UInt32, subworkers: [String] = []) {
        if loads[worker] == nil { present.insert(worker, at: present.firstIndex { $0 > worker } ?? present.count) }
        loads[worker] = Load(cpus: cpus, kind: offers.kind(of: subworkers))
    }

    package mutating func leave(_ worker: Int) {
        loads[worker] = nil
        present.removeAll { $0 == worker }
    }

    /// The worker that would begin the task first, counting what it waits for and what it has to fetch.
    ///
    /// - Parameters:
    ///   - demand: what the task occupies and who runs it.
    ///   - totalBytes: size of all its inputs.
    ///   - localBytes: how much of that each worker has, by index; empty when no worker has any.
    /// - Returns: an index, the lowest on a tie so that a run can be replayed; `nil` when every queue that it could join is full.
    /// - Complexity: O(workers), no allocation.
    package func place(_ demand: Demand, totalBytes: UInt64, localBytes: ContiguousArray<UInt64>) -> Int? {
        let cpus = demand.cpus
        var best: Int?
        var bestCost = UInt64.max
        for index in present {
            guard let load = loads[index], canTake(load, demand), hasRoom(load, cpus: cpus) else { continue }
            let local = localBytes.isEmpty ? 0 : localBytes[index]
            let cost = begin(load, cpus: cpus, missingBytes: totalBytes > local ? totalBytes - local : 0)
            if best == nil || cost < bestCost {
                bestCost = cost
                best = index
            }
        }
        return best
    }

    /// When a task would begin, in ns from now.
    func begin(_ load: Load, cpus: UInt32, missingBytes: UInt64) -> UInt64 {
        // The wait begins when all CPUs are taken; below that the load still breaks the tie, lightly.
        let isBusy = load.assignedCPUs + UInt64(cpus) > UInt64(load.cpus)
        let wait = isBusy ? load.expectedNanoseconds / UInt64(max(1, load.cpus)) + 1 : 0
        let queue = wait + load.assignedCPUs * 1000 / UInt64(max(1, load.cpus))
        // Sizes are what workers claim, and the largest stands for one that nobody looked at.
        let (sum, isOverflow) = (missingBytes / Self.bytesPerNanosecond).addingReportingOverflow(queue)
        return isOverflow ? .max : sum
    }

    func hasRoom(_ load: Load, cpus: UInt32) -> Bool {
        load.assignedCPUs + UInt64(cpus) <= UInt64(load.cpus) && (cpus > 0 || load.assignedCount < load.cpus + Self.weightlessCountMax)
            || load.assignedCount < 2 * load.cpus || load.expectedNanoseconds < UInt64(load.cpus) * Self.queueNanoseconds
    }

    /// Whether no worker can take even a task of one CPU, or of none: then looking at the queue is in vain.
    package var isFull: Bool {
        for index in present {
            if let load = loads[index], hasRoom(load, cpus: 1) || hasRoom(load, cpus: 0) { return false }
        }
        return true
    }

    /// Who runs tasks of a subworker that is not the session's own.
    package mutating func runner(_ subworker: String) -> Demand.Runner { offers.runner(subworker) }

    func canTake(_ load: Load, _ demand: Demand) -> Bool { load.cpus >= demand.cpus && offers.offers(load.kind, demand.runner) }

    package func canTake(_ worker: Int, _ demand: Demand) -> Bool { loads[worker].map { canTake($0, demand) } ?? false }

    /// How many of the workers that there are could take the task, full or not.
    package func fit(_ demand: Demand) -> Fit {
        var (takes, refuses) = (false, false)
        for index in present { if canTake(index, demand) { takes = true } else { refuses = true } }
        return takes ? (refuses ? .some : .all) : .nobody
    }

    /// Whether there is a worker at all.
    package var isEmpty: Bool { present.isEmpty }

    package mutating func assign(_ worker: Int, cpus: UInt32, expectedNanoseconds: UInt64, at now: Instant = Instant(nanoseconds: 0)) {
        if let load = loads[worker], load.assignedCPUs < UInt64(load.cpus) { loads[worker]!.movedAt = now }
        loads[worker]?.assignedCPUs += UInt64(cpus)
        loads[worker]?.assignedCount += 1
        loads[worker]?.expectedNanoseconds += Self.work(cpus: cpus, expectedNanoseconds)
    }

    /// The opposite of `assign` with the same figures.
    package mutating func release(_ worker: Int, cpus: UInt32, expectedNanoseconds: UInt64, at now: Instant = Instant(nanoseconds: 0)) {
        loads[worker]?.movedAt = now
        loads[worker]?.assignedCPUs -= UInt64(cpus)
        loads[worker]?.assignedCount -= 1
        loads[worker]?.expectedNanoseconds -= Self.work(cpus: cpus, expectedNanoseconds)
    }

    /// What a task adds to a queue. Durations are what workers claim: bounded, so that no sum of them overflows.
    package static func work(cpus: UInt32, _ expectedNanoseconds: UInt64) -> UInt64 {
        let (product, isOverflow) = expectedNanoseconds.multipliedReportingOverflow(by: UInt64(max(1, cpus)))
        return isOverflow ? workMax : min(product, workMax)
    }
    /// More than an hour of a CPU; a worker has at most two million such tasks.
    private static let workMax: UInt64 = 1 << 42
}
