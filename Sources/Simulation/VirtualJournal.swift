import ServerCore
import TaskModel

/// The journal's disk: records are written in groups, one group at a time; what was not written is lost in a crash.
struct VirtualJournal {
    private(set) var records: [JournalRecord] = []
    private(set) var committed = 0
    private var writingThrough: Int?
    var isFull = false
    var slowUntil: UInt64 = 0

    private var appendedOutcomes: Set<AttemptID> = []
    private var committedOutcomes: Set<AttemptID> = []
    private var finishedTasks: Set<TaskID> = []
    private var failedTasks: Set<TaskID> = []
    private var openedSessions: Set<SessionID> = []
    private var submitCounts: [SessionID: Int] = [:]

    var isIdle: Bool { writingThrough == nil && committed == records.count }

    mutating func append(_ record: JournalRecord) {
        records.append(record)
        if let attempt = Self.outcome(record) { appendedOutcomes.insert(attempt) }
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
        for record in records[committed..<through] { commit(record) }
        committed = through
        return through
    }

    private mutating func commit(_ record: JournalRecord) {
        if let attempt = Self.outcome(record) { committedOutcomes.insert(attempt) }
        switch record {
        case .finished(let attempt, _, _): finishedTasks.insert(attempt.task)
        case .failed(let attempt, _, _): failedTasks.insert(attempt.task)
        case .sessionOpened(let session, _): openedSessions.insert(session)
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
    func hasFailed(_ task: TaskID) -> Bool { failedTasks.contains(task) }
    func hasOpened(_ session: SessionID) -> Bool { openedSessions.contains(session) }
    func submitCount(_ session: SessionID) -> Int { submitCounts[session] ?? 0 }
}
