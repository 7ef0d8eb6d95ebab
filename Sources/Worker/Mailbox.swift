import CLinux
import Glibc
import Synchronization
import TaskModel
import WorkerCore

/// What other threads tell the loop.
enum LoopMessage: Sendable {
    case event(WorkerEvent)
    case prepared(JobToken, Result<PreparedProgram, JobFailure>)
    /// A call whose outputs had directories among them.
    case answered(SubworkerID, CallAnswer)
    /// A session's program was copied to where it can be started.
    case programPlaced(SessionProgram, Result<String, TaskError>)
    /// So many `emptyTrash` are answered by it.
    case trashEmptied(askedCount: Int)
}

/// Messages to the loop's thread, with an eventfd that wakes it.
final class Mailbox: Sendable {
    /// Readable when there is something.
    let descriptor: Int32
    private let messages = Mutex<ContiguousArray<LoopMessage>>([])

    init() throws(SystemError) {
        descriptor = try check(rain_eventfd(), "eventfd")
    }
    deinit { _ = close(descriptor) }

    func post(_ message: LoopMessage) {
        let wasEmpty = messages.withLock { messages in
            messages.append(message)
            return messages.count == 1
        }
        // One wake-up for all that come before the loop looks.
        if wasEmpty { rain_eventfd_wake(descriptor) }
    }

    func takeAll() -> ContiguousArray<LoopMessage> {
        rain_eventfd_clear(descriptor)
        return messages.withLock { messages in
            defer { messages = [] }
            return messages
        }
    }
}
