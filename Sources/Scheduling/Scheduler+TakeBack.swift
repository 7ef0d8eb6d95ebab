import TaskModel

/// Which worker's queue is too long while another worker has nothing to do.
///
/// A task that is queued on one worker moves only when it then begins sooner by more than the way costs. What is on its way is counted for
/// both ends, so that no event asks for the same relief again.
extension Scheduler {
    /// Asking for a task, its answer, and giving it to another worker: two round trips over a network with a margin.
    package static let takeBackNanoseconds: UInt64 = 2_000_000

    /// A queue that has not moved for so long takes longer than was thought: as long again, for all that is known.
    private static let stallNanoseconds: UInt64 = queueNanoseconds

    /// How long a task at the end of the worker's queue waits at least, whatever was expected of the tasks before it.
    package func stallNanoseconds(_ worker: Int, now: Instant) -> UInt64 {
        let stall = loads[worker].map { now.since($0.movedAt) } ?? 0
        return stall > Self.stallNanoseconds ? stall : 0
    }

    /// The first worker from `start` on that has a CPU for which no task is there or on its way.
    ///
    /// - Parameter demand: of a task that it could take; `nil` for any.
    package func idleWorker(from start: Int, for demand: Demand? = nil) -> Int? {
        for index in present where index >= start {
            if let load = loads[index], demand.map({ canTake(load, $0) }) ?? true, load.assignedCPUs + load.incomingCPUs < UInt64(load.cpus) { return index }
        }
        return nil
    }

    /// The worker whose queue takes longest, of those that come after `last` in that order.
    ///
    /// - Returns: the lowest index on a tie; `nil` when no queue is worth a look.
    /// - Complexity: O(workers), no allocation.
    package func longestQueue(after last: (worker: Int, nanoseconds: UInt64)?, now: Instant) -> (worker: Int, nanoseconds: UInt64)? {
        var longest: (worker: Int, nanoseconds: UInt64)?
        for index in present {
            guard let load = loads[index], load.assignedCPUs > UInt64(load.cpus), load.outgoingCount == 0 else { continue }
            let wait = max(load.expectedNanoseconds / UInt64(max(1, load.cpus)), stallNanoseconds(index, now: now))
            guard wait > max(Self.takeBackNanoseconds, longest?.nanoseconds ?? 0) else { continue }
            if let last, (wait, last.worker) >= (last.nanoseconds, index) { continue }
            longest = (index, wait)
        }
        return longest
    }

    /// Whether a task that would wait so long where it is queued begins sooner on another worker.
    package func isSooner(on worker: Int, _ demand: Demand, missingBytes: UInt64, than waitNanoseconds: UInt64) -> Bool {
        let cpus = demand.cpus
        guard let load = loads[worker], canTake(load, demand) else { return false }
        var then = load
        then.assignedCPUs += load.incomingCPUs
        then.assignedCount += load.incomingCount
        then.expectedNanoseconds += load.incomingNanoseconds
        guard hasRoom(then, cpus: cpus) else { return false }
        guard waitNanoseconds > Self.takeBackNanoseconds else { return false }
        return begin(then, cpus: cpus, missingBytes: missingBytes) < waitNanoseconds - Self.takeBackNanoseconds
    }

    /// A task of `from` is asked back for `worker`.
    package mutating func expect(_ worker: Int, from: Int, cpus: UInt32, expectedNanoseconds: UInt64) {
        loads[from]?.outgoingCount += 1
        loads[worker]?.incomingCount += 1
        loads[worker]?.incomingCPUs += UInt64(cpus)
        loads[worker]?.incomingNanoseconds += Self.work(cpus: cpus, expectedNanoseconds)
    }

    /// The opposite of `expect` with the same figures: it is known what came of the task.
    package mutating func settle(_ worker: Int, from: Int, cpus: UInt32, expectedNanoseconds: UInt64) {
        loads[from]?.outgoingCount -= 1
        loads[worker]?.incomingCount -= 1
        loads[worker]?.incomingCPUs -= UInt64(cpus)
        loads[worker]?.incomingNanoseconds -= Self.work(cpus: cpus, expectedNanoseconds)
    }
}
