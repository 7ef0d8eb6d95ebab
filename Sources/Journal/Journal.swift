import CLinux
import Glibc
import ServerCore
import TaskModel

/// One record on its way to the file.
package struct JournalEntry: Equatable, Sendable {
    /// Counted from 1 over one start of the server.
    package var number: UInt64
    package var record: JournalRecord
    /// Somebody waits for it to be on disk.
    package var isDurable: Bool
    package init(number: UInt64, record: JournalRecord, isDurable: Bool) {
        self.number = number
        self.record = record
        self.isDurable = isDurable
    }
}

/// The server's journal: one SQLite file, written by a thread of its own in group commits.
///
/// The file is the log, the state for a restart, and the post-mortem. It belongs to one process at a time.
package final class Journal: Sendable {
    package enum Event: Equatable, Sendable {
        /// Every record up to this number is on disk.
        case committed(through: UInt64)
        /// Nothing more will be written; what was not reported as committed may be lost.
        case failed(reason: String)
        /// Closed sessions can't be forgotten; the file grows until the next start.
        case pruningFailed(reason: String)
    }

    /// Closed sessions stay in the file for looking into, while it is smaller than this.
    package static let keepBytes: UInt64 = 256 << 20

    package let path: String
    /// Of this start: on disk before `init` returns.
    package let epoch: ServerEpoch
    /// The first numbers that no earlier start has given.
    package let firstSession: UInt32
    package let firstWorker: UInt32
    /// Drawn when the file was made: tells it from every other journal.
    package let identity: Int64
    private let queue = EntryQueue()
    private let thread: JournalThread

    /// Opens the file, or makes it, and begins the next epoch in it.
    ///
    /// - Parameters:
    ///   - keepBytes: closed sessions are forgotten, the longest closed first, when more pages than that are in use.
    ///   - onEvent: called on the journal's thread.
    package init(path: String, keepBytes: UInt64 = Journal.keepBytes, onEvent: @escaping @Sendable (Event) -> Void) throws(JournalError) {
        self.path = path
        let writer = try JournalWriter(path: path, keepBytes: keepBytes)
        epoch = writer.epoch
        firstSession = writer.firstSession
        firstWorker = writer.firstWorker
        identity = writer.identity
        thread = try JournalThread(writer: writer, queue: queue, onEvent: onEvent)
    }

    /// Takes records in the order of their numbers; returns at once.
    package func append(_ entries: ContiguousArray<JournalEntry>) { queue.put(entries) }

    /// Writes what it has, then closes the file. Later appends are dropped. Call it once.
    package func close() {
        queue.close()
        thread.join()
    }
}

/// The thread that owns the writer.
private final class JournalThread: Sendable {
    private let thread: pthread_t

    private final class Work {
        let writer: JournalWriter
        let queue: EntryQueue
        let onEvent: @Sendable (Journal.Event) -> Void
        init(writer: JournalWriter, queue: EntryQueue, onEvent: @escaping @Sendable (Journal.Event) -> Void) {
            self.writer = writer
            self.queue = queue
            self.onEvent = onEvent
        }

        func run() {
            var hasFailed = false
            var canPrune = true
            while true {
                // One step even for a busy server, or its file would grow for ever; the rest while nobody waits.
                repeat {
                    guard canPrune, !hasFailed else { break }
                    do throws(JournalError) {
                        if try !writer.prune() { break }
                    } catch {
                        canPrune = false
                        onEvent(.pruningFailed(reason: error.description))
                    }
                } while queue.isEmpty
                let taken = queue.take()
                if let last = taken.entries.last, !hasFailed {
                    do throws(JournalError) {
                        try writer.write(taken.entries)
                        onEvent(.committed(through: last.number))
                    } catch {
                        // The group is rolled back. Writing on after a gap would make a journal that lies, so this is the end.
                        hasFailed = true
                        onEvent(.failed(reason: error.description))
                    }
                }
                if taken.isClosed { return }
            }
        }
    }

    init(writer: JournalWriter, queue: EntryQueue, onEvent: @escaping @Sendable (Journal.Event) -> Void) throws(JournalError) {
        let work = Unmanaged.passRetained(Work(writer: writer, queue: queue, onEvent: onEvent))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { context in
                rain_set_name("journal")
                // The one reference that was made above: the writer ends with its thread.
                if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, work.toOpaque())
        guard code == 0 else {
            work.release()
            throw .cannotOpen(path: writer.path, reason: "no thread: \(String(cString: strerror(code)))")
        }
        self.thread = thread
    }

    func join() { pthread_join(thread, nil) }
}
