import CLinux
import Glibc
import ServerCore
import Synchronization
import TaskModel

/// What the reactor says to a request.
enum Answer: Sendable {
    case reply(ServerReply)
    /// The request was taken back, for its client is gone or its time is over.
    case withdrawn
    /// The server stops.
    case stopping
}

/// What other threads tell the reactor.
enum ReactorCommand: Sendable {
    /// Answered once through the continuation.
    case request(RequestID, ServerEvent, CheckedContinuation<Answer, Never>)
    /// As `request`, for `openLease`: the lease's lines then go to the mailbox.
    case lease(RequestID, ServerEvent, LeaseMailbox, CheckedContinuation<Answer, Never>)
    case withdraw(RequestID)
    case event(ServerEvent)
    case stop
}

/// The way into the reactor's thread: an array under a lock, and a pipe that wakes it.
///
/// The pipe is written only when no wake is pending, so a burst of commands costs one system call.
final class ReactorInbox: Sendable {
    private struct State {
        var commands: ContiguousArray<ReactorCommand> = []
        var isWakePending = false
        var isClosed = false
    }
    private let state = Mutex(State())
    private let lastRequest = Atomic<UInt64>(0)
    /// Readable when there are commands.
    let wakeDescriptor: Int32
    private let wakeEnd: Int32

    init() throws(ServerError) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .lastSystem("pipe") }
        (wakeDescriptor, wakeEnd) = (ends[0], ends[1])
        for end in ends {
            _ = rain_set_close_on_exec(end, true)
            _ = rain_set_nonblocking(end)
        }
    }

    deinit {
        close(wakeDescriptor)
        close(wakeEnd)
    }

    func nextRequest() -> RequestID { RequestID(lastRequest.wrappingAdd(1, ordering: .relaxed).newValue) }

    func post(_ command: ReactorCommand) {
        let (shouldWake, isClosed) = state.withLock { state in
            if state.isClosed { return (false, true) }
            state.commands.append(command)
            if state.isWakePending { return (false, false) }
            state.isWakePending = true
            return (true, false)
        }
        if isClosed { return Self.refuse(command) }
        if shouldWake {
            var byte: UInt8 = 1
            // A few bytes at most are ever in the pipe, so this can't fail but by a signal.
            while write(wakeEnd, &byte, 1) < 0 && errno == EINTR {}
        }
    }

    /// Everything that was posted since the last time. For the reactor alone.
    func take() -> ContiguousArray<ReactorCommand> {
        state.withLock { state in
            // A poster writes after it has let go of the lock, so a byte may come late: it then wakes the reactor once for nothing.
            var bytes: (UInt64, UInt64) = (0, 0)
            while read(wakeDescriptor, &bytes, 16) < 0 && errno == EINTR {}
            state.isWakePending = false
            var commands: ContiguousArray<ReactorCommand> = []
            swap(&commands, &state.commands)
            return commands
        }
    }

    /// The reactor has ended: what is there and what still comes is answered here.
    func closeForGood() {
        let rest = state.withLock { state in
            state.isClosed = true
            var commands: ContiguousArray<ReactorCommand> = []
            swap(&commands, &state.commands)
            return commands
        }
        for command in rest { Self.refuse(command) }
    }

    private static func refuse(_ command: ReactorCommand) {
        switch command {
        case .request(_, _, let continuation), .lease(_, _, _, let continuation): continuation.resume(returning: .stopping)
        case .withdraw, .event, .stop: break
        }
    }
}
