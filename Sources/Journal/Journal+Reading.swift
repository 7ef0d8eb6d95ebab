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

extension Journal {
    /// Every record of the file, from the first epoch on, in the order in which they happened.
    ///
    /// The file may be in use by a server: what it had committed is read.
    package static func readAll(_ path: String) throws(JournalError) -> [StoredRecord] {
        guard access(path, R_OK) == 0 else { throw .cannotOpen(path: path, reason: String(cString: strerror(errno))) }
        let database = try Database(path: path, isReadOnly: true)
        try JournalSchema.check(database)
        // One transaction: the tables are read as of one moment.
        try database.execute("BEGIN")
        var records: [StoredRecord] = []
        try readRows(database, "SELECT epoch, number, opened_us, opened FROM sessions", into: &records)
        try readRows(database, "SELECT epoch, number, joined_us, joined FROM workers", into: &records)
        try readEnds(database, "SELECT close_epoch, close_number, closed_us, session, reason FROM sessions WHERE close_epoch IS NOT NULL", into: &records) {
            .sessionClosed(SessionID($0), reason: $1)
        }
        try readEnds(database, "SELECT lost_epoch, lost_number, lost_us, worker, reason FROM workers WHERE lost_epoch IS NOT NULL", into: &records) {
            .workerLost(WorkerID($0), reason: $1)
        }
        try readSubmits(database, into: &records)
        try readBatches(database, into: &records)
        try database.execute("COMMIT")
        records.sort { ($0.epoch, $0.number) < ($1.epoch, $1.number) }
        return records
    }

    private static func readRows(_ database: Database, _ sql: String, into records: inout [StoredRecord]) throws(JournalError) {
        let statement = try database.prepare(sql)
        while try statement.step() {
            var reader = ByteReader(statement.bytes(3))
            let record = try decode(&reader, database, isWhole: true)
            records.append(stored(statement, record))
        }
    }

    private static func readEnds(
        _ database: Database, _ sql: String, into records: inout [StoredRecord], _ make: (UInt32, String) -> JournalRecord
    ) throws(JournalError) {
        let statement = try database.prepare(sql)
        while try statement.step() {
            records.append(stored(statement, make(UInt32(truncatingIfNeeded: statement.integer(3)), statement.text(4))))
        }
    }

    private static func readSubmits(_ database: Database, into records: inout [StoredRecord]) throws(JournalError) {
        let submits = try database.prepare("SELECT epoch, number, time_us FROM submits")
        let parts = try database.prepare("SELECT body FROM submit_parts WHERE epoch = ? AND number = ? ORDER BY part")
        while try submits.step() {
            parts.bind(1, submits.integer(0))
            parts.bind(2, submits.integer(1))
            var bytes: [UInt8] = []
            while try parts.step() { bytes.append(contentsOf: parts.bytes(0)) }
            parts.reset()
            var reader = ByteReader(bytes)
            records.append(stored(submits, try decode(&reader, database, isWhole: true)))
        }
    }

    private static func readBatches(_ database: Database, into records: inout [StoredRecord]) throws(JournalError) {
        let statement = try database.prepare("SELECT epoch, first_number, t1, body FROM batch ORDER BY seq")
        while try statement.step() {
            var reader = ByteReader(statement.bytes(3))
            var template = stored(statement, .epochBegan(ServerEpoch(0)))
            while !reader.isAtEnd {
                do throws(WireError) {
                    template.number &+= try reader.varint()
                } catch { throw .corrupt(path: database.path, reason: error.description) }
                template.record = try decode(&reader, database, isWhole: false)
                records.append(template)
            }
        }
    }

    /// Epoch, number and time are the first three columns everywhere.
    private static func stored(_ statement: Statement, _ record: JournalRecord) -> StoredRecord {
        StoredRecord(
            epoch: ServerEpoch(UInt32(truncatingIfNeeded: statement.integer(0))), number: UInt64(bitPattern: statement.integer(1)),
            unixMicroseconds: statement.integer(2), record: record)
    }

    private static func decode(_ reader: inout ByteReader, _ database: Database, isWhole: Bool) throws(JournalError) -> JournalRecord {
        do throws(WireError) {
            let record = try JournalRecord(from: &reader)
            if isWhole { try reader.finish() }
            return record
        } catch {
            throw .corrupt(path: database.path, reason: error.description)
        }
    }
}
