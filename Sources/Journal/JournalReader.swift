import Glibc
import ServerCore
import TaskModel
import Wire

/// A record as the file has it.
package struct StoredRecord: Equatable, Sendable {
    package var epoch: ServerEpoch
    /// Within the epoch.
    package var number: UInt64
    /// When its group was committed.
    package var unixMicroseconds: Int64
    package var record: JournalRecord
}

/// The records of a journal one after the other, in the order in which they happened; as the file was when the reading began.
///
/// Holds one record of each table at a time, whatever the size of the file. For one thread.
package final class JournalReader {
    package enum Scope: Equatable, Sendable {
        /// All that the file has; of closed sessions what is left.
        case everything
        /// What a server of this epoch goes on with: open sessions and workers, from the starts before it.
        case restart(ServerEpoch)
    }

    private let sources: [Source]

    /// - Parameter path: the file may be in use by a server.
    package init(path: String, scope: Scope) throws(JournalError) {
        guard access(path, R_OK) == 0 else { throw .cannotOpen(path: path, reason: String(cString: strerror(errno))) }
        let database = try Database(path: path, isReadOnly: true)
        try JournalSchema.check(database)
        // One transaction: the tables are read as of one moment.
        try database.execute("BEGIN")
        switch scope {
        case .everything:
            sources =
                try Self.rows(database, sessions: "true", workers: "true")
                + Self.ends(database, sessions: "close_epoch IS NOT NULL", workers: "lost_epoch IS NOT NULL")
                + [SubmitSource(database, where: "true"), BatchSource(database, where: "true", of: nil)]
        case .restart(let epoch):
            let isEarlier = "epoch < \(epoch.rawValue)"
            let open = try SessionFilter(database, where: "close_epoch IS NULL AND \(isEarlier)")
            sources =
                try Self.rows(database, sessions: "close_epoch IS NULL AND \(isEarlier)", workers: isEarlier)
                + Self.ends(database, sessions: "false", workers: "lost_\(isEarlier)")
                + [
                    SubmitSource(database, where: "\(isEarlier) AND session IN (SELECT session FROM sessions WHERE close_epoch IS NULL)"),
                    BatchSource(database, where: "\(isEarlier) AND \(open.mayConcernBatch)", of: open),
                ]
        }
        for source in sources { try source.advance() }
    }

    private static func rows(_ database: Database, sessions: String, workers: String) throws(JournalError) -> [Source] {
        [
            try RowSource(database, "SELECT epoch, number, opened_us, opened FROM sessions WHERE \(sessions) ORDER BY session"),
            try RowSource(database, "SELECT epoch, number, joined_us, joined FROM workers WHERE \(workers) ORDER BY worker"),
        ]
    }

    private static func ends(_ database: Database, sessions: String, workers: String) throws(JournalError) -> [Source] {
        [
            try EndSource(
                database,
                "SELECT close_epoch, close_number, closed_us, session, reason FROM sessions WHERE \(sessions) ORDER BY close_epoch, close_number"
            ) { .sessionClosed(SessionID($0), reason: $1) },
            try EndSource(
                database, "SELECT lost_epoch, lost_number, lost_us, worker, reason FROM workers WHERE \(workers) ORDER BY lost_epoch, lost_number"
            ) { .workerLost(WorkerID($0), reason: $1) },
        ]
    }

    /// - Returns: `nil` at the end.
    package func next() throws(JournalError) -> StoredRecord? {
        var first: Source?
        for source in sources {
            guard let head = source.head else { continue }
            if let other = first?.head, (other.epoch, other.number) <= (head.epoch, head.number) { continue }
            first = source
        }
        guard let first, let record = first.head.take() else { return nil }
        try first.advance()
        return record
    }
}

/// The sessions of which records are wanted.
private struct SessionFilter {
    private let sessions: Set<UInt32>
    private let range: ClosedRange<UInt32>?

    init(_ database: Database, where condition: String) throws(JournalError) {
        let statement = try database.prepare("SELECT session FROM sessions WHERE \(condition)")
        var sessions: Set<UInt32> = []
        while try statement.step() { sessions.insert(UInt32(truncatingIfNeeded: statement.integer(0))) }
        self.sessions = sessions
        range = sessions.min().flatMap { least in sessions.max().map { least...$0 } }
    }

    /// Whether a batch may have records of them: an SQL condition.
    var mayConcernBatch: String {
        let concerns = range.map { " OR session_max >= \($0.lowerBound) AND session_min <= \($0.upperBound)" } ?? ""
        return "(session_min IS NULL\(concerns))"
    }

    func contains(_ record: JournalRecord) -> Bool { record.session.map { sessions.contains($0.rawValue) } ?? true }
}

/// Records of one table, in order.
private class Source {
    final let database: Database
    final let statement: Statement
    /// The next one; `nil` at the end.
    final var head: StoredRecord?

    init(_ database: Database, _ sql: String) throws(JournalError) {
        self.database = database
        statement = try database.prepare(sql)
    }

    func advance() throws(JournalError) { preconditionFailure("every source says how it goes on") }

    /// Epoch, number and time are the first three columns everywhere.
    final func stored(_ record: JournalRecord) -> StoredRecord {
        StoredRecord(
            epoch: ServerEpoch(UInt32(truncatingIfNeeded: statement.integer(0))), number: UInt64(bitPattern: statement.integer(1)),
            unixMicroseconds: statement.integer(2), record: record)
    }

    final func open(_ bytes: [UInt8], _ what: String) throws(JournalError) -> ByteReader {
        guard let content = unsealed(bytes) else { throw .corrupt(path: database.path, reason: "the checksum of \(what) is wrong") }
        return ByteReader(content)
    }

    final func decode(_ reader: inout ByteReader, isWhole: Bool) throws(JournalError) -> JournalRecord {
        do throws(WireError) {
            let record = try JournalRecord(from: &reader)
            if isWhole { try reader.finish() }
            return record
        } catch {
            throw .corrupt(path: database.path, reason: error.description)
        }
    }
}

/// Rows that hold one encoded record each.
private final class RowSource: Source {
    override func advance() throws(JournalError) {
        guard try statement.step() else { return }
        var reader = try open(statement.bytes(3), "a session or worker")
        head = stored(try decode(&reader, isWhole: true))
    }
}

/// Ends of sessions and workers.
private final class EndSource: Source {
    private let make: (UInt32, String) -> JournalRecord

    init(_ database: Database, _ sql: String, _ make: @escaping (UInt32, String) -> JournalRecord) throws(JournalError) {
        self.make = make
        try super.init(database, sql)
    }

    override func advance() throws(JournalError) {
        guard try statement.step() else { return }
        head = stored(make(UInt32(truncatingIfNeeded: statement.integer(3)), statement.text(4)))
    }
}

private final class SubmitSource: Source {
    private let parts: Statement

    init(_ database: Database, where condition: String) throws(JournalError) {
        parts = try database.prepare("SELECT body FROM submit_parts WHERE epoch = ? AND number = ? ORDER BY part")
        try super.init(database, "SELECT epoch, number, time_us FROM submits WHERE \(condition) ORDER BY epoch, number")
    }

    override func advance() throws(JournalError) {
        guard try statement.step() else { return }
        parts.bind(1, statement.integer(0))
        parts.bind(2, statement.integer(1))
        var bytes: [UInt8] = []
        while try parts.step() {
            // Nearly always the only one.
            if bytes.isEmpty { bytes = parts.bytes(0) } else { bytes.append(contentsOf: parts.bytes(0)) }
        }
        parts.reset()
        var reader = try open(bytes, "a submit")
        head = stored(try decode(&reader, isWhole: true))
    }
}

/// Records in the bodies of groups.
private final class BatchSource: Source {
    private let sessions: SessionFilter?
    private var reader = ByteReader([])
    private var number: UInt64 = 0

    /// - Parameter sessions: whose records are wanted; `nil` for all.
    init(_ database: Database, where condition: String, of sessions: SessionFilter?) throws(JournalError) {
        self.sessions = sessions
        try super.init(database, "SELECT epoch, first_number, t1, body FROM batch WHERE \(condition) ORDER BY seq")
    }

    override func advance() throws(JournalError) {
        while true {
            while !reader.isAtEnd {
                do throws(WireError) { number &+= try reader.varint() } catch {
                    throw .corrupt(path: database.path, reason: error.description)
                }
                let record = try decode(&reader, isWhole: false)
                guard sessions?.contains(record) ?? true else { continue }
                head = stored(record)
                head?.number = number
                return
            }
            guard try statement.step() else { return }
            reader = try open(statement.bytes(3), "a group of records")
            number = UInt64(bitPattern: statement.integer(1))
        }
    }
}
