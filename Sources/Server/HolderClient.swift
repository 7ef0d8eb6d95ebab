import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import TaskModel
import Transport

/// Why bytes couldn't be had from a worker.
enum HolderError: Error, Sendable, CustomStringConvertible {
    case unreachable(Endpoint, reason: String)
    /// It doesn't have the replica any more.
    case notHere(Endpoint)
    case refused(Endpoint, status: UInt)
    case broken(Endpoint, reason: String)
    case silent(Endpoint, seconds: Int64)

    var description: String {
        switch self {
        case .unreachable(let endpoint, let reason): "no connection to the worker's data port at \(endpoint): \(reason)"
        case .notHere(let endpoint): "the worker at \(endpoint) doesn't have it any more"
        case .refused(let endpoint, let status): "the worker at \(endpoint) answered \(status)"
        case .broken(let endpoint, let reason): "the worker at \(endpoint) broke off: \(reason)"
        case .silent(let endpoint, let seconds): "the worker at \(endpoint) sent nothing for \(seconds) s"
        }
    }
}

/// Connections to the data ports of workers, from which the server passes results on to clients.
struct HolderClient: Sendable {
    let loop: any EventLoop
    let dataSecret: [UInt8]
    /// From the moment a request is signed to the moment the worker reads it.
    private static let ticketSeconds: UInt64 = 60

    func connect(to endpoint: Endpoint) async throws(HolderError) -> HolderConnection {
        let reader = HolderReader(endpoint: endpoint)
        do {
            let channel = try await ClientBootstrap(group: loop)
                .connectTimeout(.seconds(2))
                // Bytes are read when the client takes them: a slow client holds up the worker, not our memory.
                .channelOption(.autoRead, value: false)
                .channelOption(.socketOption(.tcp_nodelay), value: 1)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        try channel.pipeline.syncOperations.addHandler(reader)
                    }
                }
                .connect(host: endpoint.host, port: Int(endpoint.port)).get()
            return HolderConnection(endpoint: endpoint, channel: channel, reader: reader)
        } catch {
            throw .unreachable(endpoint, reason: "\(error)")
        }
    }

    /// The target of a request for a replica, with its ticket.
    func target(_ replica: Replica) -> String {
        let path = DataTicket.path(
            session: replica.object.session.rawValue, index: replica.object.index, epoch: replica.generation.epoch.rawValue,
            number: replica.generation.number)
        return DataTicket.signedPath(path, expires: unixSeconds() + Self.ticketSeconds, secret: dataSecret)
    }
}

/// One connection to a worker's data port; one request after the other, each answer read to its end before the next.
final class HolderConnection: Sendable {
    let endpoint: Endpoint
    private let channel: any Channel
    private let reader: HolderReader

    init(endpoint: Endpoint, channel: any Channel, reader: HolderReader) {
        self.endpoint = endpoint
        self.channel = channel
        self.reader = reader
    }

    /// Asks for a replica or a part of it; `next` then gives its bytes.
    ///
    /// - Parameter range: not the whole; first and last byte.
    /// - Returns: how many bytes come.
    func get(_ target: String, range: ClosedRange<UInt64>?) async throws(HolderError) -> UInt64 {
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: target)
        head.headers.add(name: "host", value: endpoint.description)
        if let range { head.headers.add(name: "range", value: "bytes=\(range.lowerBound)-\(range.upperBound)") }
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        guard case .head(let answer) = try await reader.next(channel) else { throw .broken(endpoint, reason: "a body without a head") }
        switch answer.status.code {
        case 200 where range == nil, 206 where range != nil: break
        case 404, 410: throw .notHere(endpoint)
        case let status: throw .refused(endpoint, status: status)
        }
        guard let count = answer.headers.first(name: "content-length").flatMap({ UInt64($0) }) else {
            throw .broken(endpoint, reason: "an answer without a length")
        }
        return count
    }

    /// - Returns: `nil` at the end of the answer.
    func next() async throws(HolderError) -> ByteBuffer? {
        switch try await reader.next(channel) {
        case .body(let buffer): return buffer
        case .end: return nil
        case .head: throw .broken(endpoint, reason: "a head within a body")
        }
    }

    func close() { channel.close(promise: nil) }

    deinit { channel.close(promise: nil) }
}

/// Hands the parts of answers to the one task that waits for them.
final class HolderReader: ChannelInboundHandler, Sendable {
    typealias InboundIn = HTTPClientResponsePart
    static let silenceSecondsMax: Int64 = 30

    private struct State {
        var parts: [HTTPClientResponsePart] = []
        var taken = 0
        var error: HolderError?
        var waiter: CheckedContinuation<Result<HTTPClientResponsePart, HolderError>, Never>?
    }
    private let state = Mutex(State())
    private let endpoint: Endpoint

    init(endpoint: Endpoint) { self.endpoint = endpoint }

    func next(_ channel: any Channel) async throws(HolderError) -> HTTPClientResponsePart {
        let silence = channel.eventLoop.scheduleTask(in: .seconds(Self.silenceSecondsMax)) { [self] in
            fail(.silent(endpoint, seconds: Self.silenceSecondsMax))
        }
        defer { silence.cancel() }
        let result = await withCheckedContinuation { continuation in
            let now = state.withLock { state -> Result<HTTPClientResponsePart, HolderError>? in
                if state.taken < state.parts.count {
                    state.taken += 1
                    let part = state.parts[state.taken - 1]
                    if state.taken == state.parts.count { (state.parts, state.taken) = ([], 0) }
                    return .success(part)
                }
                if let error = state.error { return .failure(error) }
                state.waiter = continuation
                return nil
            }
            if let now { continuation.resume(returning: now) } else { channel.read() }
        }
        return try result.get()
    }

    private func fail(_ error: HolderError) {
        let waiter = state.withLock { state in
            if state.error == nil { state.error = error }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: .failure(error))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let part = unwrapInboundIn(data)
        let waiter = state.withLock { state in
            if state.waiter == nil { state.parts.append(part) }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: .success(part))
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // What was read was not yet a part.
        if state.withLock({ $0.waiter != nil }) { context.read() }
        context.fireChannelReadComplete()
    }

    func channelInactive(context: ChannelHandlerContext) { fail(.broken(endpoint, reason: "the connection ended")) }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(.broken(endpoint, reason: "\(error)"))
        context.close(promise: nil)
    }
}
