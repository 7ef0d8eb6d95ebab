import ServerCore
import TaskModel

/// The journal's disk: records are written in groups, one group at a time; what was not written is lost in a crash.
struct VirtualJournal {
    private(set) var records: [JournalRecord] = []
    private(set) var committed = 0
    private var writingThrough: Int?
    var isFull = false
    var slowUntil: UInt64 = 0

    /// Records of earlier epochs.
    private(set) var base = 0
    private(set) var closedSessions: Set<SessionID> = []
    private(set) var lastSession: UInt32 = 0
    private(set) var lastWorker: UInt32 = 0

    private var appendedOutcomes: Set<AttemptID> = []
    private var committedOutcomes: Set<AttemptID> = []
    private var finishedTasks: Set<TaskID> = []
    private var failedTasks: Set<TaskID> = []
    private var doneTasks: Set<TaskID> = []
    /// How many records there were when a task had to run again.
    private var ranAgainAt: [TaskID: Int] = [:]
    private var openedSessions: Set<SessionID> = []
    private var submitCounts: [SessionID: Int] = [:]

    var isIdle: Bool { writingThrough == nil && committed == records.count }

    /// The server is dead: what was not written is lost. The group that was being written may be there or not.
    ///
    /// - Returns: how many records there are.
    mutating func crash(isGroupWritten: Bool) -> Int {
        if isGroupWritten { _ = endGroup() }
        writingThrough = nil
        records.removeSubrange(committed...)
        base = committed
        appendedOutcomes = committedOutcomes
        ranAgainAt = [:]
        return committed
    }

    mutating func append(_ record: JournalRecord) {
        records.append(record)
        if let attempt = Self.outcome(record) { appendedOutcomes.insert(attempt) }
        if case .runAgain(let session, let tasks, _) = record {
            for task in tasks.joined() {
                doneTasks.remove(TaskID(session: session, index: task))
                ranAgainAt[TaskID(session: session, index: task)] = records.count
            }
        }
    }

    /// - Returns: the last record of the group that begins to be written; `nil` while one is, or when there is nothing.
    mutating func beginGroup() -> Int? {
        guard writingThrough == nil, committed < records.count else { return nil }
        writingThrough = records.count
        return records.count
    }

    mutating func endGroup() -> Int {
        let through = writingThrough ?? committed
        writingThrough = nil
        for number in committed..<through { commit(records[number], number) }
        committed = through
        return through
    }

    private mutating func commit(_ record: JournalRecord, _ number: Int) {
        if let attempt = Self.outcome(record) { committedOutcomes.insert(attempt) }
        switch record {
        case .finished(let attempt, _, _):
            finishedTasks.insert(attempt.task)
            // Its outputs may be gone by now.
            if number >= ranAgainAt[attempt.task] ?? 0 { doneTasks.insert(attempt.task) }
        case .failed(let attempt, _, _): failedTasks.insert(attempt.task)
        case .sessionOpened(let session, _):
            openedSessions.insert(session)
            lastSession = max(lastSession, session.rawValue)
        case .sessionClosed(let session, _): closedSessions.insert(session)
        case .workerJoined(let worker, _, _, _): lastWorker = max(lastWorker, worker.rawValue)
        case .submitted(let session, _, _): submitCounts[session, default: 0] += 1
        default: break  // Nobody is told of those.
        }
    }

    private static func outcome(_ record: JournalRecord) -> AttemptID? {
        switch record {
        case .finished(let attempt, _, _), .failed(let attempt, _, _): attempt
        default: nil
        }
    }

    func isOnlyAppended(_ attempt: AttemptID) -> Bool { appendedOutcomes.contains(attempt) && !committedOutcomes.contains(attempt) }
    func hasFinished(_ task: TaskID) -> Bool { finishedTasks.contains(task) }
    /// Whether it finished, and does not run again for an output that was lost.
    func isDone(_ task: TaskID) -> Bool { doneTasks.contains(task) }
    func hasFailed(_ task: TaskID) -> Bool { failedTasks.contains(task) }
    func hasOpened(_ session: SessionID) -> Bool { openedSessions.contains(session) }
    func submitCount(_ session: SessionID) -> Int { submitCounts[session] ?? 0 }
}
