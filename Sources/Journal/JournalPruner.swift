import Glibc
import ServerCore
import TaskModel
import Wire

/// Forgets closed sessions, the longest closed first, when the file has grown over its limit.
///
///     idle ──▶ submits ──▶ batches ──▶ rows ──▶ idle
///
/// Works in small steps between the groups of the writer, each a transaction of its own, so that no commit waits for long. A session's row
/// goes last: what is interrupted is done again. Pages that become free are used again; the file itself does not shrink.
final class JournalPruner {
    /// A step takes about so long.
    private static let stepNanoseconds: UInt64 = 3_000_000
    /// Of the closed sessions one in eight is forgotten at a time, so that the younger ones stay, and at most so many.
    private static let victimCountMax: UInt64 = 1000
    /// Rows of `batch` that are looked at in one step, whatever they hold.
    private static let seqStep: Int64 = 2000

    private enum Phase {
        case idle
        case submits(next: Int)
        case batches(after: Int64)
        case rows
    }

    private let database: Database
    private let limitBytes: UInt64
    private let pageBytes: UInt64
    private let pageCount: Statement
    private let freePageCount: Statement
    private let countClosed: Statement
    private let findVictims: Statement
    private let dropParts: Statement
    private let dropSubmits: Statement
    private let findBatches: Statement
    private let dropBatch: Statement
    private let addBatch: Statement
    private let dropSession: Statement
    private let dropWorkers: Statement
    private let raiseMark: Statement
    private var phase = Phase.idle
    private var victims: [UInt32] = []
    private var victimSet: Set<UInt32> = []
    /// Over the limit it prunes on until there is some room.
    private var isOverLimit = false

    /// - Parameter limitBytes: of pages in use.
    init(database: Database, limitBytes: UInt64) throws(JournalError) {
        self.database = database
        self.limitBytes = limitBytes
        pageBytes = UInt64(max(try database.integer("PRAGMA page_size"), 1))
        pageCount = try database.prepare("PRAGMA page_count")
        freePageCount = try database.prepare("PRAGMA freelist_count")
        countClosed = try database.prepare("SELECT count(*) FROM sessions WHERE close_epoch IS NOT NULL")
        findVictims = try database.prepare("SELECT session FROM sessions WHERE close_epoch IS NOT NULL ORDER BY close_epoch, close_number LIMIT ?")
        dropParts = try database.prepare(
            "DELETE FROM submit_parts WHERE (epoch, number) IN (SELECT epoch, number FROM submits WHERE session = ?)")
        dropSubmits = try database.prepare("DELETE FROM submits WHERE session = ?")
        findBatches = try database.prepare(
            "SELECT seq, epoch, first_number, t0, t1, body FROM batch WHERE seq > ? AND seq <= ? AND session_min <= ? AND session_max >= ? ORDER BY seq")
        dropBatch = try database.prepare("DELETE FROM batch WHERE seq = ?")
        addBatch = try database.prepare("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
        dropSession = try database.prepare("DELETE FROM sessions WHERE session = ?")
        dropWorkers = try database.prepare("DELETE FROM workers WHERE lost_us < (SELECT coalesce(min(opened_us), 0) FROM sessions)")
        raiseMark = try database.prepare("UPDATE meta SET value = max(value, ?) WHERE key = ?")
    }

    /// Does a little, if there is something to do.
    ///
    /// - Returns: whether there is more.
    func step() throws(JournalError) -> Bool {
        if case .idle = phase, try !begin() { return false }
        // A commit that is not waited for by the disk: it is durable with the next group, and nothing is lost when it isn't.
        try database.execute("PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE")
        do throws(JournalError) {
            try work()
            try database.execute("COMMIT; PRAGMA synchronous = FULL")
        } catch {
            // As in the writer: there may be no transaction left, which is as good.
            try? database.execute("ROLLBACK")
            try? database.execute("PRAGMA synchronous = FULL")
            throw error
        }
        return true
    }

    /// - Returns: whether there is something to prune.
    private func begin() throws(JournalError) -> Bool {
        let used = (try first(pageCount) - first(freePageCount)) * pageBytes
        isOverLimit = isOverLimit ? used > limitBytes / 4 * 3 : used > limitBytes
        guard isOverLimit else { return false }
        findVictims.bind(1, min((try first(countClosed) + 7) / 8, Self.victimCountMax))
        defer { findVictims.reset() }
        victims = []
        while try findVictims.step() { victims.append(UInt32(truncatingIfNeeded: findVictims.integer(0))) }
        victimSet = Set(victims)
        if victims.isEmpty { return false }
        phase = .submits(next: 0)
        return true
    }

    private func first(_ statement: Statement) throws(JournalError) -> UInt64 {
        defer { statement.reset() }
        return try statement.step() ? UInt64(max(statement.integer(0), 0)) : 0
    }

    private func work() throws(JournalError) {
        let end = now() + Self.stepNanoseconds
        switch phase {
        case .idle: break
        case .submits(var next):
            while next < victims.count, now() < end {
                for statement in [dropParts, dropSubmits] {
                    statement.bind(1, victims[next])
                    try statement.run()
                }
                next += 1
            }
            phase = next < victims.count ? .submits(next: next) : .batches(after: 0)
        case .batches(let after): phase = try pruneBatches(after: after, until: end).map { .batches(after: $0) } ?? .rows
        case .rows:
            for victim in victims {
                dropSession.bind(1, victim)
                try dropSession.run()
            }
            try mark("last_session", Int64(victims.max() ?? 0))
            try mark("last_worker", try database.integer("SELECT coalesce(max(worker), 0) FROM workers"))
            try dropWorkers.run()
            phase = .idle
        }
    }

    private func mark(_ key: String, _ value: Int64) throws(JournalError) {
        raiseMark.bind(1, value)
        raiseMark.bind(2, key)
        try raiseMark.run()
    }

    /// - Returns: the last row that was looked at; `nil` when that was the last of all.
    private func pruneBatches(after: Int64, until end: UInt64) throws(JournalError) -> Int64? {
        let last = try database.integer("SELECT coalesce(max(seq), 0) FROM batch")
        guard after < last, let least = victims.min(), let most = victims.max() else { return nil }
        let through = after + Self.seqStep
        findBatches.bind(1, after)
        findBatches.bind(2, through)
        findBatches.bind(3, most)
        findBatches.bind(4, least)
        defer { findBatches.reset() }
        while try findBatches.step() {
            let seq = findBatches.integer(0)
            if let kept = try rest(ofBatch: findBatches.bytes(5), firstNumber: UInt64(bitPattern: findBatches.integer(2))) {
                let place = (0..<5).map { findBatches.integer($0) }
                // Not an update, which would leave a page to each of them, however little is left.
                dropBatch.bind(1, seq)
                try dropBatch.run()
                if !kept.isEmpty { try store(kept, place) }
            }
            if now() >= end { return seq }
        }
        return through
    }

    /// - Returns: what is left of it without the victims; `nil` when that is all.
    private func rest(ofBatch body: [UInt8], firstNumber: UInt64) throws(JournalError) -> BatchBody? {
        guard let content = unsealed(body) else { throw .corrupt(path: database.path, reason: "the checksum of a group of records is wrong") }
        var reader = ByteReader(content)
        var kept = BatchBody(firstNumber: firstNumber)
        var number = firstNumber
        var dropCount = 0
        do throws(WireError) {
            while !reader.isAtEnd {
                number &+= try reader.varint()
                let record = try JournalRecord(from: &reader)
                if let session = record.session, victimSet.contains(session.rawValue) {
                    dropCount += 1
                } else {
                    kept.append(record, number: number)
                }
            }
        } catch { throw .corrupt(path: database.path, reason: error.description) }
        return dropCount == 0 ? nil : kept
    }

    /// - Parameter place: its columns before those of its content.
    private func store(_ body: BatchBody, _ place: [Int64]) throws(JournalError) {
        var body = body
        for (index, value) in place.enumerated() { addBatch.bind(Int32(index + 1), value) }
        if let sessions = body.sessions {
            addBatch.bind(6, sessions.lowerBound)
            addBatch.bind(7, sessions.upperBound)
        }
        addBatch.bind(8, body.types)
        addBatch.bind(9, body.sealed()[...])
        try addBatch.run()
    }

    private func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
