import Glibc
import Link
import ServerCore
import TaskModel
import Wire

/// Puts groups of records into the file, each group in one transaction.
final class JournalWriter {
    /// SQLite holds at most 10^9 bytes in one value, and one that is pruned makes a commit wait.
    static let partBytesMax = 16 << 20

    let path: String
    let epoch: ServerEpoch
    let firstSession: UInt32
    let firstWorker: UInt32
    let identity: Int64
    private let lock: FileLock
    private let database: Database
    private let openSession: Statement
    private let closeSession: Statement
    private let addSubmit: Statement
    private let addSubmitPart: Statement
    private let addWorker: Statement
    private let loseWorker: Statement
    private let addBatch: Statement
    private let pruner: JournalPruner
    private var body = BatchBody(firstNumber: 0)
    private var scratch = ByteWriter()
    private var lastCommitMicroseconds: Int64

    /// - Parameter keepBytes: closed sessions are forgotten when the file has more.
    init(path: String, keepBytes: UInt64) throws(JournalError) {
        self.path = path
        lock = try FileLock(protecting: path)
        try JournalSchema.makePrivateFile(path)
        database = try Database(path: path)
        // FULL: a commit is on disk when it returns. One checkpoint per 16 MiB of log instead of 4, for its fsync costs the group that meets it.
        try database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000")
        try JournalSchema.prepare(database)
        try database.execute("BEGIN IMMEDIATE; UPDATE meta SET value = value + 1 WHERE key = 'epoch'; COMMIT")
        guard let number = UInt32(exactly: try database.integer("SELECT value FROM meta WHERE key = 'epoch'")), number > 0 else {
            throw .corrupt(path: path, reason: "its epoch is not a number from 1 on")
        }
        epoch = ServerEpoch(number)
        firstSession = try Self.next(database, "session", of: "sessions")
        identity = try database.integer("SELECT value FROM meta WHERE key = 'identity'")
        firstWorker = try Self.next(database, "worker", of: "workers")
        openSession = try database.prepare("INSERT INTO sessions (session, name, epoch, number, opened_us, opened) VALUES (?, ?, ?, ?, ?, ?)")
        closeSession = try database.prepare(
            "UPDATE sessions SET close_epoch = ?, close_number = ?, closed_us = ?, reason = ? WHERE session = ? AND close_epoch IS NULL")
        addSubmit = try database.prepare("INSERT INTO submits VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        addSubmitPart = try database.prepare("INSERT INTO submit_parts VALUES (?, ?, ?, ?)")
        addWorker = try database.prepare("INSERT INTO workers (worker, host, pid, cpus, epoch, number, joined_us, joined) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        loseWorker = try database.prepare(
            "UPDATE workers SET lost_epoch = ?, lost_number = ?, lost_us = ?, reason = ? WHERE worker = ? AND lost_epoch IS NULL")
        addBatch = try database.prepare(
            "INSERT INTO batch (epoch, first_number, t0, t1, session_min, session_max, types, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        pruner = try JournalPruner(database: database, limitBytes: keepBytes)
        lastCommitMicroseconds = unixMicroseconds()
    }

    private static func next(_ database: Database, _ column: String, of table: String) throws(JournalError) -> UInt32 {
        let sql = "SELECT max((SELECT coalesce(max(\(column)), 0) FROM \(table)), (SELECT value FROM meta WHERE key = 'last_\(column)'))"
        guard let last = UInt32(exactly: try database.integer(sql)), last < UInt32.max else {
            throw .corrupt(path: database.path, reason: "a session or worker number beyond 32 bits")
        }
        return last + 1
    }

    /// One transaction; when it throws, nothing of the group is in the file.
    func write(_ entries: ContiguousArray<JournalEntry>) throws(JournalError) {
        try database.execute("BEGIN IMMEDIATE")
        do throws(JournalError) {
            try writeGroup(entries)
            try database.execute("COMMIT")
        } catch {
            // SQLite rolls back by itself after some errors; then this says that there is no transaction, which is as good.
            try? database.execute("ROLLBACK")
            throw error
        }
    }

    /// Forgets a little of what is too much, if anything is.
    ///
    /// - Returns: whether there is more to forget.
    func prune() throws(JournalError) -> Bool { try pruner.step() }

    private func writeGroup(_ entries: ContiguousArray<JournalEntry>) throws(JournalError) {
        let now = unixMicroseconds()
        body.restart(firstNumber: entries.first?.number ?? 0)
        for entry in entries where try !writeRow(entry, now) { body.append(entry.record, number: entry.number) }
        if !body.isEmpty {
            addBatch.bind(1, epoch.rawValue)
            addBatch.bind(2, entries.first?.number ?? 0)
            addBatch.bind(3, lastCommitMicroseconds)
            addBatch.bind(4, now)
            if let sessions = body.sessions {
                addBatch.bind(5, sessions.lowerBound)
                addBatch.bind(6, sessions.upperBound)
            }
            addBatch.bind(7, body.types)
            addBatch.bind(8, body.sealed()[...])
            try addBatch.run()
        }
        lastCommitMicroseconds = now
    }

    /// - Returns: `false` for a record that belongs into the body: task events, and the end of what has no row.
    private func writeRow(_ entry: JournalEntry, _ now: Int64) throws(JournalError) -> Bool {
        switch entry.record {
        case .sessionOpened(let session, let options):
            openSession.bind(1, session.rawValue)
            openSession.bind(2, options.name)
            bindPlace(openSession, 3, entry, now)
            openSession.bind(6, encoded(entry.record)[...])
            try openSession.run()
            return true
        case .sessionClosed(let session, let reason):
            return try end(closeSession, session.rawValue, reason, entry, now)
        case .submitted(let session, _, let receipt):
            try writeSubmit(session, receipt, entry, now)
            return true
        case .workerJoined(let worker, _, _, let description):
            addWorker.bind(1, worker.rawValue)
            addWorker.bind(2, description.hostName)
            addWorker.bind(3, description.processID)
            addWorker.bind(4, description.cpus)
            bindPlace(addWorker, 5, entry, now)
            addWorker.bind(8, encoded(entry.record)[...])
            try addWorker.run()
            return true
        case .workerLost(let worker, let reason):
            return try end(loseWorker, worker.rawValue, reason, entry, now)
        case .epochBegan, .keptChanged, .cancelRequested, .finished, .failed, .cancelled, .assigned, .started, .runAgain, .lost,
            .retried, .charged:
            return false
        }
    }

    private func bindPlace(_ statement: Statement, _ index: Int32, _ entry: JournalEntry, _ now: Int64) {
        statement.bind(index, epoch.rawValue)
        statement.bind(index + 1, entry.number)
        statement.bind(index + 2, now)
    }

    private func end(_ statement: Statement, _ id: UInt32, _ reason: String, _ entry: JournalEntry, _ now: Int64) throws(JournalError) -> Bool {
        bindPlace(statement, 1, entry, now)
        statement.bind(4, reason)
        statement.bind(5, id)
        try statement.run()
        return database.changeCount > 0
    }

    private func writeSubmit(_ session: SessionID, _ receipt: SubmitReceipt, _ entry: JournalEntry, _ now: Int64) throws(JournalError) {
        addSubmit.bind(1, epoch.rawValue)
        addSubmit.bind(2, entry.number)
        addSubmit.bind(3, session.rawValue)
        addSubmit.bind(4, now)
        addSubmit.bind(5, receipt.firstTask)
        addSubmit.bind(6, receipt.taskCount)
        addSubmit.bind(7, receipt.firstObject)
        addSubmit.bind(8, receipt.objectCount)
        try addSubmit.run()
        let bytes = encoded(entry.record)
        var part: UInt32 = 0
        for start in stride(from: 0, to: bytes.count, by: Self.partBytesMax) {
            addSubmitPart.bind(1, epoch.rawValue)
            addSubmitPart.bind(2, entry.number)
            addSubmitPart.bind(3, part)
            addSubmitPart.bind(4, bytes[start..<min(start + Self.partBytesMax, bytes.count)])
            try addSubmitPart.run()
            part += 1
        }
        // The memory of a large submit is not kept for the next.
        if bytes.count > 1 << 20 { scratch = ByteWriter() }
    }

    private func encoded(_ record: JournalRecord) -> [UInt8] {
        scratch.removeAll()
        record.encode(to: &scratch)
        scratch.seal()
        return scratch.bytes
    }
}

func unixMicroseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1000
}
