import TaskModel
import WorkerCore

/// What the loop does later, soonest first.
struct Timers: Sendable {
    enum Kind: Equatable, Sendable {
        case sleepOver(JobToken)
        /// Processes of a program's group that were killed should be gone.
        case groupDue(JobToken)
        /// It was refused, or closed its socket.
        case endSubworker(SubworkerID)
        case reopen
        /// Orphans that were killed have left others.
        case sweepAgain
        case trimLogs
    }
    private struct Entry {
        var due: UInt64
        /// So that those of one moment come in the order in which they were set.
        var order: UInt64
        var kind: Kind
        func isBefore(_ other: Entry) -> Bool { (due, order) < (other.due, other.order) }
    }
    /// A binary heap.
    private var entries: ContiguousArray<Entry> = []
    private var count: UInt64 = 0

    /// Nanoseconds on the monotonic clock.
    var next: UInt64? { entries.first?.due }

    func contains(_ kind: Kind) -> Bool { entries.contains { $0.kind == kind } }

    mutating func set(_ kind: Kind, at due: UInt64) {
        count &+= 1
        entries.append(Entry(due: due, order: count, kind: kind))
        var child = entries.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard entries[child].isBefore(entries[parent]) else { break }
            entries.swapAt(child, parent)
            child = parent
        }
    }

    /// The next one that is due; a timer that lost its meaning is told apart by whoever set it.
    mutating func take(now: UInt64) -> Kind? {
        guard let first = entries.first, first.due <= now else { return nil }
        let last = entries.removeLast()
        guard !entries.isEmpty else { return first.kind }
        entries[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < entries.count && entries[child].isBefore(entries[least]) { least = child }
            guard least != parent else { return first.kind }
            entries.swapAt(parent, least)
            parent = least
        }
    }
}
