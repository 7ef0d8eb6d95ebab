import Glibc
import NIOPosix
import Synchronization

/// Makes new names in a directory durable: one fsync for all that wait when it begins.
final class DirectorySync: Sendable {
    private struct State {
        var waiting: [CheckedContinuation<Int32, Never>] = []
        var isRunning = false
    }
    private let path: String
    private let descriptor: Int32
    private let pool: NIOThreadPool
    private let fsync: @Sendable (Int32) -> Int32
    private let state = Mutex(State())

    /// - Parameter fsync: the system's, which may take as long as a minute.
    init(path: String, pool: NIOThreadPool, fsync: @escaping @Sendable (Int32) -> Int32 = Glibc.fsync) throws(ServerError) {
        self.path = path
        self.pool = pool
        self.fsync = fsync
        descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .directory(path: path, action: "open", reason: lastErrorText()) }
    }

    deinit { close(descriptor) }

    /// For the start, when there is nobody to wait with.
    func syncNow() throws(ServerError) {
        guard fsync(descriptor) == 0 else { throw .directory(path: path, action: "write", reason: lastErrorText()) }
    }

    func sync() async throws(HTTPFailure) {
        let code = await withCheckedContinuation { continuation in
            let shouldStart = state.withLock { state in
                state.waiting.append(continuation)
                defer { state.isRunning = true }
                return !state.isRunning
            }
            if shouldStart { startRound() }
        }
        guard code == 0 else { throw .disk("write \(path)", code) }
    }

    private func startRound() {
        pool.submit { [self] _ in
            // Who comes from here on waits for the next round: this fsync may not see its name.
            let round = state.withLock { state in
                let round = state.waiting
                state.waiting = []
                return round
            }
            let code = fsync(descriptor) == 0 ? 0 : errno
            for continuation in round { continuation.resume(returning: code) }
            let hasMore = state.withLock { state in
                state.isRunning = !state.waiting.isEmpty
                return state.isRunning
            }
            if hasMore { startRound() }
        }
    }
}
