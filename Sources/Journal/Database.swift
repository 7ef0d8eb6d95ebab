import CSQLite
import Glibc

/// One connection to an SQLite file, for one thread at a time.
final class Database {
    let path: String
    private let handle: OpaquePointer

    init(path: String, isReadOnly: Bool = false) throws(JournalError) {
        self.path = path
        var handle: OpaquePointer?
        let flags = isReadOnly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
        let code = sqlite3_open_v2(path, &handle, flags | SQLITE_OPEN_NOMUTEX, nil)
        guard code == SQLITE_OK, let handle else {
            let reason = handle.map { String(cString: sqlite3_errmsg($0)) } ?? "out of memory"
            sqlite3_close_v2(handle)
            throw .cannotOpen(path: path, reason: reason)
        }
        self.handle = handle
        // A reader (a person with sqlite3, a dashboard) may hold the file for a moment.
        sqlite3_busy_timeout(handle, 5000)
    }

    func execute(_ sql: String) throws(JournalError) {
        guard sqlite3_exec(handle, sql, nil, nil, nil) == SQLITE_OK else { throw error() }
    }

    func prepare(_ sql: String) throws(JournalError) -> Statement {
        var statement: OpaquePointer?
        guard sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil) == SQLITE_OK, let statement else {
            throw error()
        }
        return Statement(database: self, statement)
    }

    /// The first column of the first row.
    func integer(_ sql: String) throws(JournalError) -> Int64 {
        let statement = try prepare(sql)
        return try statement.step() ? statement.integer(0) : 0
    }

    /// How many rows the last statement changed.
    var changeCount: Int32 { sqlite3_changes(handle) }

    /// What the last call that failed says.
    func error() -> JournalError {
        let reason = String(cString: sqlite3_errmsg(handle))
        switch sqlite3_errcode(handle) {
        case SQLITE_FULL: return .diskFull(path: path)
        case SQLITE_NOTADB: return .notAJournal(path: path)
        case SQLITE_CORRUPT: return .corrupt(path: path, reason: reason)
        case SQLITE_BUSY, SQLITE_LOCKED: return .inUse(path: path, pid: nil)
        case SQLITE_CANTOPEN, SQLITE_READONLY: return .cannotOpen(path: path, reason: reason)
        default:
            let system = sqlite3_system_errno(handle)
            return system == ENOSPC ? .diskFull(path: path) : .io(path: path, reason: reason)
        }
    }

    deinit { sqlite3_close_v2(handle) }
}

/// A prepared statement; used again and again.
final class Statement {
    private let database: Database
    private let statement: OpaquePointer

    init(database: Database, _ statement: OpaquePointer) {
        self.database = database
        self.statement = statement
    }

    func bind(_ index: Int32, _ value: Int64) { sqlite3_bind_int64(statement, index, value) }
    func bind(_ index: Int32, _ value: UInt32) { sqlite3_bind_int64(statement, index, Int64(value)) }
    /// SQLite's integers are signed: the bits are kept.
    func bind(_ index: Int32, _ value: UInt64) { sqlite3_bind_int64(statement, index, Int64(bitPattern: value)) }
    func bindNull(_ index: Int32) { sqlite3_bind_null(statement, index) }
    func bind(_ index: Int32, _ value: String) {
        // SQLITE_TRANSIENT: SQLite copies, since the bytes live for this call only.
        sqlite3_bind_text(statement, index, value, Int32(clamping: value.utf8.count), unsafeBitCast(-1, to: sqlite3_destructor_type.self))
    }
    func bind(_ index: Int32, _ value: ArraySlice<UInt8>) {
        value.withUnsafeBytes { bytes in
            guard let base = bytes.baseAddress, !bytes.isEmpty else {
                sqlite3_bind_zeroblob(statement, index, 0)
                return
            }
            sqlite3_bind_blob64(statement, index, base, UInt64(bytes.count), unsafeBitCast(-1, to: sqlite3_destructor_type.self))
        }
    }

    /// - Returns: whether there is a row.
    func step() throws(JournalError) -> Bool {
        switch sqlite3_step(statement) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default: throw database.error()
        }
    }

    /// Runs a statement that gives no rows, and makes it ready for the next time.
    func run() throws(JournalError) {
        defer { reset() }
        _ = try step()
    }

    func reset() {
        sqlite3_reset(statement)
        sqlite3_clear_bindings(statement)
    }

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(statement, column) }
    func isNull(_ column: Int32) -> Bool { sqlite3_column_type(statement, column) == SQLITE_NULL }
    func bytes(_ column: Int32) -> [UInt8] {
        guard let base = sqlite3_column_blob(statement, column) else { return [] }
        return Array(UnsafeRawBufferPointer(start: base, count: Int(sqlite3_column_bytes(statement, column))))
    }
    func text(_ column: Int32) -> String { String(decoding: bytes(column), as: UTF8.self) }

    deinit { sqlite3_finalize(statement) }
}
