import Glibc
import ServerCore
import TaskModel
import Testing

@testable import Journal

private func entries(_ records: [JournalRecord], from first: UInt64 = 1, isDurable: Bool = true) -> ContiguousArray<JournalEntry> {
    ContiguousArray(records.enumerated().map { JournalEntry(number: first + UInt64($0.offset), record: $0.element, isDurable: isDurable) })
}

private func copyFile(_ from: String, _ to: String) throws {
    let source = open(from, O_RDONLY)
    try #require(source >= 0)
    defer { close(source) }
    let target = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    try #require(target >= 0)
    defer { close(target) }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while case let count = read(source, &buffer, buffer.count), count > 0 { try #require(write(target, buffer, count) == count) }
}

/// One after the other, for one of them limits the size of every file that this process writes.
@Suite(.serialized) struct JournalTests {
    let directory = TemporaryDirectory()
    var path: String { directory.path + "/journal.sqlite" }

    @Test func `every kind of record is read back as it was written`() throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        let records = sampleRecords()
        journal.append(entries(records))
        #expect(log.waitForCommit(UInt64(records.count)))
        journal.close()
        let stored = try Journal.readAll(path)
        #expect(stored.map(\.record) == records)
        #expect(stored.map(\.number) == Array(1...UInt64(records.count)))
        #expect(stored.allSatisfy { $0.epoch == journal.epoch && $0.unixMicroseconds > 1_600_000_000_000_000 })
    }

    @Test func `every start has an epoch of its own and numbers that nobody had`() throws {
        let first = try Journal(path: path) { _ in }
        #expect(first.epoch == ServerEpoch(1) && first.firstSession == 1 && first.firstWorker == 1)
        first.append(entries(sampleRecords()))
        first.close()
        let second = try Journal(path: path) { _ in }
        #expect(second.epoch == ServerEpoch(2) && second.firstSession == 8 && second.firstWorker == 5)
        second.append(entries([.epochBegan(second.epoch)]))
        second.close()
        let stored = try Journal.readAll(path)
        #expect(stored.count == sampleRecords().count + 1)
        #expect(stored.last?.record == .epochBegan(ServerEpoch(2)) && stored.last?.number == 1)
    }

    @Test func `a later start reads what earlier ones left open, and nothing of what is closed`() throws {
        let options = SessionOptions(name: "n")
        let first = try Journal(path: path) { _ in }
        let open = sampleRecords().filter { $0.session == nil || $0.session == SessionID(7) }.filter { if case .sessionClosed = $0 { false } else { true } }
        first.append(entries([.sessionOpened(SessionID(1), options), .sessionClosed(SessionID(1), reason: "")]))
        first.append(entries(open, from: 3))
        first.append(entries([.cancelled(TaskID(session: SessionID(1), index: 3)), .cancelled(TaskID(session: SessionID(7), index: 3))], from: 100))
        first.close()
        let second = try Journal(path: path) { _ in }
        second.append(entries([.sessionOpened(SessionID(8), options), .cancelled(TaskID(session: SessionID(7), index: 4))]))
        second.close()
        let third = try Journal(path: path) { _ in }
        let reader = try third.earlierRecords()
        var records: [StoredRecord] = []
        while let record = try reader.next() { records.append(record) }
        let expected =
            open + [
                .cancelled(TaskID(session: SessionID(7), index: 3)), .sessionOpened(SessionID(8), options), .cancelled(TaskID(session: SessionID(7), index: 4)),
            ]
        #expect(records.map(\.record) == expected)
        #expect(records.map(\.epoch) == Array(repeating: ServerEpoch(1), count: open.count + 1) + [ServerEpoch(2), ServerEpoch(2)])
        // What this start writes is none of it.
        third.append(entries([.sessionOpened(SessionID(9), options)]))
        third.close()
        let again = try JournalReader(path: path, scope: .restart(third.epoch))
        var count = 0
        while try again.next() != nil { count += 1 }
        #expect(count == expected.count)
    }

    @Test func `closed sessions are forgotten when the file grows over its limit, the longest closed first`() throws {
        let limit: UInt64 = 1 << 20
        let writer = try JournalWriter(path: path, keepBytes: limit)
        try writer.write(entries([.sessionOpened(SessionID(1), SessionOptions(name: "stays"))]))
        var number: UInt64 = 1
        var expected: [JournalRecord] = [.sessionOpened(SessionID(1), SessionOptions(name: "stays"))]
        let big = TaskError(.user, String(repeating: "x", count: 20_000))
        for session in UInt32(2)..<400 {
            let own = JournalRecord.cancelled(TaskID(session: SessionID(1), index: session))
            let task = AttemptID(task: TaskID(session: SessionID(session), index: 1), epoch: writer.epoch, number: 1)
            try writer.write(
                entries(
                    [
                        .sessionOpened(SessionID(session), SessionOptions()), .submitted(SessionID(session), sampleSubmit(), sampleReceipt), own,
                        .failed(task, nil, big), .sessionClosed(SessionID(session), reason: ""),
                    ], from: number + 1))
            number += 5
            expected.append(own)
            while try writer.prune() {}
        }
        var status = stat()
        #expect(stat(path, &status) == 0 && status.st_size < 3 << 20, "\(status.st_size) bytes")
        let all = try Journal.readAll(path).map(\.record)
        #expect(all.filter { $0.session == SessionID(1) } == expected)
        let left = all.compactMap { if case .sessionOpened(let session, _) = $0 { session.rawValue } else { nil } }
        #expect(left.count > 5 && left.count < 100 && left.dropFirst() == Array(UInt32(400 - left.count + 1)..<400)[...])
        #expect(all.count { if case .submitted = $0 { true } else { false } } == left.count - 1)
        #expect(all.count { if case .failed = $0 { true } else { false } } == left.count - 1)
    }

    @Test func `numbers stay given when what had them is forgotten`() throws {
        do {
            let writer = try JournalWriter(path: path, keepBytes: 0)
            try writer.write(entries(sampleRecords()))
            while try writer.prune() {}
        }
        #expect(try Journal.readAll(path).allSatisfy { $0.record.session != SessionID(7) })
        let next = try Journal(path: path) { _ in }
        #expect(next.firstSession == 8 && next.firstWorker == 5)
        next.close()
    }

    @Test func `a flipped byte is found by its checksum`() throws {
        let journal = try Journal(path: path) { _ in }
        journal.append(entries(sampleRecords()))
        journal.close()
        let database = try Database(path: path)
        for (table, column) in [("batch", "body"), ("submit_parts", "body"), ("sessions", "opened"), ("workers", "joined")] {
            let select = try database.prepare("SELECT rowid, \(column) FROM \(table)")
            try #require(try select.step())
            let (place, was) = (select.integer(0), select.bytes(1))
            select.reset()
            var changed = was
            changed[was.count / 2] ^= 4
            let update = try database.prepare("UPDATE \(table) SET \(column) = ? WHERE rowid = ?")
            func store(_ bytes: [UInt8]) throws {
                update.bind(1, bytes[...])
                update.bind(2, place)
                try update.run()
            }
            try store(changed)
            do {
                _ = try Journal.readAll(path)
                Issue.record("the change in \(table) was not found")
            } catch {
                guard case .corrupt(_, let reason) = error, reason.contains("checksum") else {
                    Issue.record("\(error)")
                    return
                }
            }
            try store(was)
        }
        #expect(try Journal.readAll(path).map(\.record) == sampleRecords())
    }

    @Test func `a truncated file is an error that says what to do`() throws {
        let journal = try Journal(path: path) { _ in }
        for index in 0..<200 {
            journal.append(
                entries(
                    [
                        .failed(
                            AttemptID(task: TaskID(session: SessionID(1), index: 1), epoch: journal.epoch, number: 1), nil,
                            TaskError(.user, String(repeating: "x", count: 5000)))
                    ], from: UInt64(index + 1)))
        }
        journal.close()
        var status = stat()
        #expect(stat(path, &status) == 0)
        #expect(truncate(path, status.st_size / 8192 * 4096) == 0)
        #expect {
            let journal = try Journal(path: path) { _ in }
            defer { journal.close() }
            let reader = try JournalReader(path: path, scope: .everything)
            while try reader.next() != nil {}
        } throws: { error in
            "\(error)".contains("is damaged") && "\(error)".contains("restore it from a copy, or move it away")
        }
    }

    @Test func `many groups keep their order`() throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        var number: UInt64 = 0
        var written: [JournalRecord] = []
        for group in 0..<200 {
            let records = (0..<(group % 7 + 1)).map { JournalRecord.cancelled(TaskID(session: SessionID(UInt32(group)), index: UInt32($0))) }
            journal.append(entries(records, from: number + 1, isDurable: group % 3 == 0))
            number += UInt64(records.count)
            written += records
        }
        journal.close()
        #expect(log.waitForCommit(number))
        #expect(try Journal.readAll(path).map(\.record) == written)
    }

    @Test func `telemetry alone is written after a moment`() throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        journal.append(entries([.cancelled(TaskID(session: SessionID(1), index: 0))], isDurable: false))
        #expect(log.waitForCommit(1))
        journal.close()
    }

    @Test func `what was committed survives the death of the process`() throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        let records = sampleRecords()
        journal.append(entries(records))
        #expect(log.waitForCommit(UInt64(records.count)))
        // As kill -9 leaves them: the file and its write-ahead log as they are, no checkpoint, no clean end.
        let copy = TemporaryDirectory()
        for suffix in ["", "-wal"] { try copyFile(path + suffix, copy.path + "/journal.sqlite" + suffix) }
        #expect(try Journal.readAll(copy.path + "/journal.sqlite").map(\.record) == records)
        let successor = try Journal(path: copy.path + "/journal.sqlite") { _ in }
        #expect(successor.epoch == ServerEpoch(2))
        successor.close()
        journal.close()
    }

    @Test(arguments: [0.25, 0.5, 0.75, 0.99]) func `a torn write-ahead log gives a prefix of the groups`(part: Double) throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        var written: [JournalRecord] = []
        for index in 0..<50 {
            written.append(.cancelled(TaskID(session: SessionID(1), index: UInt32(index))))
            journal.append(entries([written[index]], from: UInt64(index + 1)))
            #expect(log.waitForCommit(UInt64(index + 1)))
        }
        let copy = TemporaryDirectory()
        let copied = copy.path + "/journal.sqlite"
        for suffix in ["", "-wal"] { try copyFile(path + suffix, copied + suffix) }
        var status = stat()
        #expect(stat(copied + "-wal", &status) == 0)
        // The first pages of the log hold the tables and the epoch.
        let kept = off_t(Double(status.st_size) * part)
        #expect(truncate(copied + "-wal", kept) == 0)
        let stored = try Journal.readAll(copied).map(\.record)
        #expect(!stored.isEmpty && stored.count < written.count)
        #expect(stored == Array(written.prefix(stored.count)))
        journal.close()
    }

    @Test func `a second server is told who has the journal`() throws {
        let journal = try Journal(path: path) { _ in }
        #expect(throws: JournalError.inUse(path: path, pid: getpid())) { try Journal(path: path) { _ in } }
        journal.close()
    }

    @Test func `a file of something else is refused`() throws {
        try #require(writeFile(path, "this is no database, but it is long enough to have a header of one hundred bytes, which it needs here"))
        #expect(throws: JournalError.notAJournal(path: path)) { try Journal(path: path) { _ in } }
        #expect(throws: JournalError.notAJournal(path: path)) { try Journal.readAll(path) }
    }

    @Test func `another database is refused and left alone`() throws {
        let database = try Database(path: path)
        try database.execute("CREATE TABLE mine (x)")
        #expect(throws: JournalError.notAJournal(path: path)) { try Journal(path: path) { _ in } }
        #expect(try database.integer("SELECT count(*) FROM sqlite_schema") == 1)
    }

    @Test func `a newer format is refused with both numbers`() throws {
        try Journal(path: path) { _ in }.close()
        do {
            let database = try Database(path: path)
            try database.execute("PRAGMA user_version = 99")
        }
        #expect(throws: JournalError.newerFormat(path: path, found: 99, known: 4)) { try Journal(path: path) { _ in } }
    }

    @Test func `an older format is refused`() throws {
        try Journal(path: path) { _ in }.close()
        do {
            let database = try Database(path: path)
            try database.execute("PRAGMA user_version = 1")
        }
        #expect(throws: JournalError.olderFormat(path: path, found: 1, known: 4)) { try Journal(path: path) { _ in } }
    }

    @Test func `a damaged body is an error, never a trap`() throws {
        let journal = try Journal(path: path) { _ in }
        journal.append(entries(sampleRecords()))
        journal.close()
        let database = try Database(path: path)
        for length in 1...40 {
            try database.execute("UPDATE batch SET body = substr(body, 1, \(length))")
            // A cut between two records leaves fewer of them; anything else says that the file is damaged.
            do { _ = try Journal.readAll(path) } catch {
                guard case .corrupt = error else {
                    Issue.record("\(error)")
                    return
                }
            }
        }
    }

    @Test func `a full disk is reported once, and nothing is written after it`() throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        journal.append(entries([.cancelled(TaskID(session: SessionID(1), index: 0))]))
        #expect(log.waitForCommit(1))
        var old = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &old)
        // A limit on file sizes fails a write as a full disk does, for this process alone; nothing else here writes files of that size.
        signal(SIGXFSZ, SIG_IGN)
        var status = stat()
        #expect(stat(path + "-wal", &status) == 0)
        var small = rlimit(rlim_cur: rlim_t(status.st_size), rlim_max: old.rlim_max)
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &small)
        journal.append(entries([.cancelled(TaskID(session: SessionID(1), index: 1))], from: 2))
        let hasFailed = log.wait { if case .failed = $0 { true } else { false } }
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &old)
        #expect(hasFailed)
        journal.append(entries([.cancelled(TaskID(session: SessionID(1), index: 2))], from: 3))
        journal.close()
        #expect(try Journal.readAll(path).map(\.number) == [1])
    }

    @Test func `many outcomes are read one after the other`() throws {
        let log = EventLog()
        let journal = try Journal(path: path) { log.add($0) }
        let session = SessionID(1)
        journal.append(entries([.sessionOpened(session, SessionOptions())]))
        let finished = FinishedAttempt(outputs: [FinishedOutput(sizeBytes: 4, inline: [1, 2, 3, 4])], startedUnixMicroseconds: 1, durationNanoseconds: 1)
        var number: UInt64 = 1
        for _ in 0..<20 {
            journal.append(
                ContiguousArray(
                    (0..<5000).map {
                        let task = TaskID(session: session, index: UInt32(number) + UInt32($0))
                        return JournalEntry(
                            number: number + UInt64($0) + 1, record: .finished(AttemptID(task: task, epoch: journal.epoch, number: 1), WorkerID(1), finished),
                            isDurable: true)
                    }))
            number += 5000
        }
        journal.close()
        let next = try Journal(path: path) { _ in }
        defer { next.close() }
        let reader = try next.earlierRecords()
        var count = 0
        while try reader.next() != nil { count += 1 }
        #expect(count == 100_001)
    }

    @Test func `a missing directory is an error that names it`() {
        #expect(throws: JournalError.self) { try Journal(path: directory.path + "/none/journal.sqlite") { _ in } }
    }

    private func writeFile(_ path: String, _ text: String) -> Bool {
        let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
        defer { close(descriptor) }
        return write(descriptor, text, text.utf8.count) == text.utf8.count
    }
}
