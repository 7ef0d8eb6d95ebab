import TaskModel

/// Tasks of one session that are tried again at a time of their own. They are few, so a list by rising task does.
struct Postponed: Sendable {
    private var entries: ContiguousArray<(task: UInt32, due: Instant)> = []

    var isEmpty: Bool { entries.isEmpty }

    func contains(_ task: UInt32) -> Bool { entries.contains { $0.task == task } }

    mutating func append(_ task: UInt32, until due: Instant) {
        entries.removeAll { $0.task == task }
        entries.insert((task, due), at: entries.firstIndex { $0.task > task } ?? entries.count)
    }

    /// Those whose time has come, by rising task.
    mutating func takeDue(_ now: Instant) -> ContiguousArray<UInt32> {
        var due: ContiguousArray<UInt32> = []
        for entry in entries where entry.due <= now { due.append(entry.task) }
        entries.removeAll { $0.due <= now }
        return due
    }
}
