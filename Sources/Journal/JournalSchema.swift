import Glibc

/// The tables of a journal file.
enum JournalSchema {
    /// "Rain" in ASCII, in the file's header.
    static let applicationID: Int64 = 0x5261_696E
    static let version: Int64 = 4

    /// `last_session` and `last_worker` are the highest numbers of rows that are pruned; those of others are in their rows.
    ///
    /// Sessions, submits and workers are rows for people and queries; everything else is in `batch`, one compact body per group
    /// commit, because an indexed row costs 7–12 µs and an event in a body 0.2. `(epoch, number)` orders all records of the file.
    private static let tables = """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO meta VALUES ('epoch', 0), ('identity', random()), ('last_session', 0), ('last_worker', 0);
        CREATE TABLE sessions (
            session INTEGER PRIMARY KEY, name TEXT NOT NULL,
            epoch INTEGER NOT NULL, number INTEGER NOT NULL, opened_us INTEGER NOT NULL, opened BLOB NOT NULL,
            close_epoch INTEGER, close_number INTEGER, closed_us INTEGER, reason TEXT);
        CREATE INDEX closed_sessions ON sessions (close_epoch, close_number) WHERE close_epoch IS NOT NULL;
        CREATE TABLE submits (
            epoch INTEGER NOT NULL, number INTEGER NOT NULL, session INTEGER NOT NULL, time_us INTEGER NOT NULL,
            first_task INTEGER NOT NULL, task_count INTEGER NOT NULL, first_object INTEGER NOT NULL, object_count INTEGER NOT NULL,
            PRIMARY KEY (epoch, number)) WITHOUT ROWID;
        CREATE INDEX submits_by_session ON submits (session);
        CREATE TABLE submit_parts (
            epoch INTEGER NOT NULL, number INTEGER NOT NULL, part INTEGER NOT NULL, body BLOB NOT NULL,
            UNIQUE (epoch, number, part));
        CREATE TABLE workers (
            worker INTEGER PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, cpus INTEGER NOT NULL,
            epoch INTEGER NOT NULL, number INTEGER NOT NULL, joined_us INTEGER NOT NULL, joined BLOB NOT NULL,
            lost_epoch INTEGER, lost_number INTEGER, lost_us INTEGER, reason TEXT);
        CREATE TABLE batch (
            seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, first_number INTEGER NOT NULL, t0 INTEGER NOT NULL, t1 INTEGER NOT NULL,
            session_min INTEGER, session_max INTEGER, types INTEGER NOT NULL, body BLOB NOT NULL);
        PRAGMA application_id = \(applicationID);
        PRAGMA user_version = \(version);
        """

    /// Makes the tables in an empty file; refuses a file that is not a journal, or of another format.
    static func prepare(_ database: Database) throws(JournalError) {
        try database.execute("BEGIN IMMEDIATE")
        if try database.integer("PRAGMA application_id") == 0, try database.integer("SELECT count(*) FROM sqlite_schema") == 0 {
            try database.execute(tables)
        }
        try database.execute("COMMIT")
        try check(database)
    }

    static func check(_ database: Database) throws(JournalError) {
        guard try database.integer("PRAGMA application_id") == applicationID else { throw .notAJournal(path: database.path) }
        let found = try database.integer("PRAGMA user_version")
        guard found <= version else { throw .newerFormat(path: database.path, found: found, known: version) }
        guard found == version else { throw .olderFormat(path: database.path, found: found, known: version) }
    }

    /// Resume tokens are in the file: it is its user's alone, whatever the umask says.
    static func makePrivateFile(_ path: String) throws(JournalError) {
        let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .cannotOpen(path: path, reason: String(cString: strerror(errno))) }
        close(descriptor)
    }
}
