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
    case spoiled(Endpoint, Replica, found: Checksum.Digest, said: Checksum.Digest)
    /// Nobody is left to send it to.
    case clientGone

    var description: String {
        switch self {
        case .unreachable(let endpoint, let reason): "no connection to the worker's data port at \(endpoint): \(reason)"
        case .notHere(let endpoint): "the worker at \(endpoint) doesn't have it any more"
        case .refused(let endpoint, let status): "the worker at \(endpoint) answered \(status)"
        case .broken(let endpoint, let reason): "the worker at \(endpoint) broke off: \(reason)"
        case .silent(let endpoint, let seconds): "the worker at \(endpoint) sent nothing for \(seconds) s"
        case .spoiled(let endpoint, let replica, let found, let said):
            "the worker at \(endpoint) sent bytes of object \(replica.object) whose checksum is \(found) and should be \(said)"
        case .clientGone: "the client is gone"
        }
    }
}

/// Connections to the data ports of workers, from which the server passes results on to clients.
struct HolderClient: Sendable {
    let loop: any EventLoop
    let dataSecret: [UInt8]
    let traffic: ObjectTraffic
    /// From the moment a request is signed to the moment the worker reads it.
    private static let ticketSeconds: UInt64 = 60

    func connect(to endpoint: Endpoint, patience: TimeAmount = .seconds(2)) async throws(HolderError) -> HolderConnection {
        let reader = HolderReader(endpoint: endpoint)
        do {
            let channel = try await ClientBootstrap(group: loop)
                .connectTimeout(patience)
                // Bytes are read when the client takes them: a slow client holds up the worker, not our memory.
                .channelOption(.autoRead, value: false)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        try channel.pipeline.syncOperations.addHandler(reader)
                    }
                }
                .connect(host: endpoint.host, port: Int(endpoint.port)).get()
            return HolderConnection(endpoint: endpoint, channel: channel, reader: reader, traffic: traffic)
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

    /// The target of a request for the replicas of a list.
    func target(ofList body: [UInt8]) -> String {
        ObjectList.signedTarget(body, expires: unixSeconds() + Self.ticketSeconds, secret: dataSecret)
    }

    /// The target of a request for what a worker has moved.
    var statusTarget: String { DataTicket.signedPath("/status", expires: unixSeconds() + Self.ticketSeconds, secret: dataSecret) }
}

/// What a holder says before the bytes.
struct HolderAnswer: Equatable, Sendable {
    /// How many bytes come.
    var sizeBytes: UInt64
    /// Of the whole object; when it was asked for.
    var checksum: Checksum.Digest?
}

/// One connection to a worker's data port; one request after the other, each answer read to its end before the next.
final class HolderConnection: Sendable {
    let endpoint: Endpoint
    private let channel: any Channel
    private let reader: HolderReader
    private let traffic: ObjectTraffic

    init(endpoint: Endpoint, channel: any Channel, reader: HolderReader, traffic: ObjectTraffic) {
        self.traffic = traffic
        self.endpoint = endpoint
        self.channel = channel
        self.reader = reader
    }

    /// Asks for a replica or a part of it; `next` then gives its bytes.
    ///
    /// - Parameters:
    ///   - range: not the whole; first and last byte.
    ///   - wantsChecksum: one that the holder has to work out first holds up the first byte.
    func get(_ target: String, range: ClosedRange<UInt64>?, wantsChecksum: Bool = false) async throws(HolderError) -> HolderAnswer {
        var head = HTTPRequestHead(version: .http1_1, method: .GET, uri: target)
        if let range { head.headers.add(name: "range", value: "bytes=\(range.lowerBound)-\(range.upperBound)") }
        if wantsChecksum { head.headers.add(name: Checksum.header, value: Checksum.algorithm) }
        let answer = try await ask(head, nil)
        switch answer.status.code {
        case 200 where range == nil, 206 where range != nil: break
        case 404, 410: throw .notHere(endpoint)
        case let status: throw .refused(endpoint, status: status)
        }
        guard let count = answer.headers.first(name: "content-length").flatMap({ UInt64($0) }) else {
            throw .broken(endpoint, reason: "an answer without a length")
        }
        return HolderAnswer(sizeBytes: count, checksum: answer.headers.first(name: Checksum.header).flatMap { Checksum.Digest($0) })
    }

    /// Asks for all bytes of a replica and checks them.
    func getAll(_ target: String, _ replica: Replica, sizeBytes: UInt64) async throws(HolderError) -> [UInt8] {
        let answer = try await get(target, range: nil, wantsChecksum: true)
        guard answer.sizeBytes == sizeBytes else { throw .broken(endpoint, reason: "it offers \(answer.sizeBytes) bytes instead of \(sizeBytes)") }
        guard let said = answer.checksum else { throw .broken(endpoint, reason: "an answer without a checksum") }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(clamping: sizeBytes))
        while let buffer = try await next() { bytes.append(contentsOf: buffer.readableBytesView) }
        guard UInt64(bytes.count) == sizeBytes else { throw .broken(endpoint, reason: "\(bytes.count) bytes instead of \(sizeBytes)") }
        let found = Checksum.of(bytes)
        guard found == said else { throw .spoiled(endpoint, replica, found: found, said: said) }
        return bytes
    }

    /// Asks for many small replicas in one request.
    ///
    /// - Parameters:
    ///   - body: their list.
    ///   - bytesMax: of one of them.
    ///   - take: each row, in the order of the list.
    func getMany(_ target: String, _ body: [UInt8], bytesMax: UInt64, _ take: (ObjectRow) -> Void) async throws(HolderError) {
        var head = HTTPRequestHead(version: .http1_1, method: .POST, uri: target)
        head.headers.add(name: "content-length", value: "\(body.count)")
        let answer = try await ask(head, body)
        guard answer.status == .ok else { throw .refused(endpoint, status: answer.status.code) }
        var rows = ObjectRowReader(bytesMax: bytesMax)
        while let buffer = try await next() {
            rows.append(buffer.readableBytesView)
            do throws(ObjectRowReader.Failure) {
                while let row = try rows.next() { take(row) }
            } catch { throw .broken(endpoint, reason: "it \(error)") }
        }
        guard rows.isEmpty else { throw .broken(endpoint, reason: "its last row was cut off") }
    }

    /// A small answer as it is.
    func getText(_ target: String, bytesMax: Int) async throws(HolderError) -> [UInt8] {
        let answer = try await ask(HTTPRequestHead(version: .http1_1, method: .GET, uri: target), nil)
        guard answer.status == .ok else { throw .refused(endpoint, status: answer.status.code) }
        var bytes: [UInt8] = []
        while let buffer = try await nextPart() {
            bytes.append(contentsOf: buffer.readableBytesView)
            guard bytes.count <= bytesMax else { throw .broken(endpoint, reason: "more than \(bytesMax) bytes") }
        }
        return bytes
    }

    private func ask(_ head: HTTPRequestHead, _ body: [UInt8]?) async throws(HolderError) -> HTTPResponseHead {
        var head = head
        head.headers.add(name: "host", value: endpoint.description)
        channel.write(HTTPClientRequestPart.head(head), promise: nil)
        if let body { channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil) }
        channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
        guard case .head(let answer) = try await reader.next(channel) else { throw .broken(endpoint, reason: "a body without a head") }
        return answer
    }

    /// - Returns: `nil` at the end of the answer.
    func next() async throws(HolderError) -> ByteBuffer? {
        let buffer = try await nextPart()
        if let buffer { traffic.fromWorkersBytes.add(UInt64(buffer.readableBytes), ordering: .relaxed) }
        return buffer
    }

    private func nextPart() async throws(HolderError) -> ByteBuffer? {
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
    static let silenceSecondsMax: Int64 = 10

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
