import TaskModel

/// Tasks of one session that are tried again at a time of their own.
struct Postponed: Sendable {
    private var entries: ContiguousArray<(task: UInt32, due: Instant)> = []
    private var inside: Set<UInt32> = []

    var isEmpty: Bool { entries.isEmpty }

    func contains(_ task: UInt32) -> Bool { !inside.isEmpty && inside.contains(task) }

    mutating func append(_ task: UInt32, until due: Instant) {
        if !inside.insert(task).inserted { entries.removeAll { $0.task == task } }
        entries.append((task, due))
    }

    /// Those whose time has come, by rising task.
    mutating func takeDue(_ now: Instant) -> ContiguousArray<UInt32> {
        var due: ContiguousArray<UInt32> = []
        for entry in entries where entry.due <= now {
            due.append(entry.task)
            inside.remove(entry.task)
        }
        if !due.isEmpty { entries.removeAll { $0.due <= now } }
        due.sort()
        return due
    }
}
