import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

/// The listening side of the client plane.
final class HTTPServer: Sendable {
    /// One loop reads, scans and writes for all clients: the reactor, the journal and the workers want the other cores, and what a
    /// request needs of the disk is done on the depot's threads. A second loop is worth it when scanning fills the first.
    static let loopCount = 1

    let group: MultiThreadedEventLoopGroup
    let loop: any EventLoop
    private let executor: LoopExecutor
    private let logger: Logger
    private let listener = Mutex<(any Channel)?>(nil)

    init(logger: Logger) {
        group = MultiThreadedEventLoopGroup(numberOfThreads: Self.loopCount)
        loop = group.next()
        executor = LoopExecutor(loop)
        self.logger = logger
    }

    /// Listens, and answers until the task that this gives is cancelled.
    ///
    /// - Returns: the real port.
    func start(host: String, port: UInt16, plane: ClientPlane) throws(ServerError) -> (port: UInt16, task: Task<Void, Never>) {
        let bound = loop.makePromise(of: (any Channel).self)
        let child = HTTP1Channel(
            responder: { request, writer, channel in try await plane.respond(to: request, writer: writer, channel: channel) },
            configuration: .init(additionalChannelHandlers: [ConnectionWatchHandler()]))
        // Hummingbird says at info that it listens; so does the server, in its own words.
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let server = Server(
            childChannelSetup: child, configuration: .init(address: .hostname(host, port: Int(port))),
            onServerRunning: { channel in bound.succeed(channel) }, eventLoopGroup: group, logger: quiet)
        let task = Task(executorPreference: executor) {
            do {
                try await server.run()
                bound.fail(ChannelError.ioOnClosedChannel)
            } catch {
                bound.fail(error)
            }
        }
        do {
            let channel = try bound.futureResult.wait()
            listener.withLock { $0 = channel }
            return (UInt16(clamping: channel.localAddress?.port ?? 0), task)
        } catch let error as IOError where error.errnoCode == EADDRINUSE {
            throw .portInUse(host: host, port: port, plane: "clients", option: "--port")
        } catch {
            throw .cannotListen(host: host, port: port, reason: "\(error)")
        }
    }

    /// Takes no more connections. To cancel the task while it waits for one is an error to Hummingbird, which it logs.
    func stopListening() { try? listener.withLock { $0 }?.close().wait() }

    func stop() {
        // Connections that are idle, or whose client doesn't read, are closed with the loop.
        try? group.syncShutdownGracefully()
    }
}
