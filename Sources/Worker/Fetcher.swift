import CLinux
import Glibc
import Link
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import TaskModel
import Transport
import WorkerCore

/// Brings objects from other holders into the store, a few at a time, and tells the loop.
final class Fetcher: Sendable {
    static let concurrentMax = 4
    /// A transfer that brings nothing for so long is given up.
    static let silenceSecondsMax: Int64 = 30
    private static let ticketSeconds: UInt64 = 60

    private struct Job: Sendable {
        let token: FetchToken
        let input: InputAssignment
        let endpoints: [Endpoint]
    }
    private struct State: Sendable {
        var waiting: [Job] = []
        var runningCount = 0
        var isClosed = false
    }
    private let state = Mutex(State())
    private let store: Store
    private let secret: DataSecret
    /// Stands in for endpoints without a host.
    private let serverHost: String
    private let group: any EventLoopGroup
    private let report: @Sendable (FetchToken, FetchResult) -> Void

    init(
        store: Store, secret: DataSecret, serverHost: String, group: any EventLoopGroup, report: @escaping @Sendable (FetchToken, FetchResult) -> Void
    ) {
        self.store = store
        self.secret = secret
        self.serverHost = serverHost
        self.group = group
        self.report = report
    }

    /// Reports exactly once, from another thread.
    func fetch(_ token: FetchToken, _ input: InputAssignment) {
        guard case .fetch(let endpoints) = input.source, !endpoints.isEmpty else {
            return report(token, .failed(TaskError(.setup, "object \(input.replica.object) has no holder to fetch it from")))
        }
        state.withLock { $0.waiting.append(Job(token: token, input: input, endpoints: endpoints)) }
        startNext()
    }

    /// What waits is forgotten.
    func close() { state.withLock { $0 = State(isClosed: true) } }

    private func startNext() {
        let job: Job? = state.withLock { state in
            guard state.runningCount < Self.concurrentMax, !state.waiting.isEmpty, !state.isClosed else { return nil }
            state.runningCount += 1
            return state.waiting.removeFirst()
        }
        if let job { tryEndpoint(0, of: job, failures: []) }
    }

    private func end(_ job: Job, _ result: FetchResult) {
        state.withLock { $0.runningCount -= 1 }
        report(job.token, result)
        startNext()
    }

    private func tryEndpoint(_ position: Int, of job: Job, failures: [String]) {
        let object = job.input.replica.object
        guard position < job.endpoints.count else {
            return end(job, .failed(TaskError(.setup, "object \(object) could not be fetched: \(failures.joined(separator: "; "))")))
        }
        var endpoint = job.endpoints[position]
        if endpoint.host.isEmpty { endpoint.host = serverHost }
        let name = endpoint.description
        guard let secret = secret.current else {
            return end(job, .failed(TaskError(.setup, "object \(object) could not be fetched: the worker has no secret of the server")))
        }
        let transfer: Transfer
        do throws(SystemError) {
            transfer = try Transfer(replica: job.input.replica, sizeBytes: job.input.sizeBytes, store: store)
        } catch {
            return end(job, .failed(store.taskError(error, doing: "object \(object) could not be fetched")))
        }
        let replica = job.input.replica
        let path = DataTicket.signedPath(
            DataTicket.path(
                session: replica.object.session.rawValue, index: replica.object.index, epoch: replica.generation.epoch.rawValue,
                number: replica.generation.number), expires: unixSeconds() + Self.ticketSeconds, secret: secret)
        ClientBootstrap(group: group)
            .connectTimeout(.seconds(5))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(IdleStateHandler(readTimeout: .seconds(Self.silenceSecondsMax)))
                    try channel.pipeline.syncOperations.addHandler(TransferHandler(transfer, path: path, host: name))
                }
            }
            .connect(host: endpoint.host, port: Int(endpoint.port))
            .whenFailure { error in transfer.end(.failure(TransferError(text: "can't be reached (\(error))"))) }
        transfer.whenEnded { [self] result in
            switch result {
            case .success(.inline(let bytes)): end(job, .inline(bytes))
            case .success(let value): if case .stored(let size, let isOnDisk) = value { end(job, .stored(sizeBytes: size, isOnDisk: isOnDisk)) }
            case .failure(let failure):
                if let system = failure.system { return end(job, .failed(store.taskError(system, doing: "object \(object) could not be stored"))) }
                tryEndpoint(position + 1, of: job, failures: failures + ["\(name) \(failure.text)"])
            }
        }
    }
}

struct TransferError: Error, Sendable {
    var text: String
    /// Set when the fault lies here: another holder would not help.
    var system: SystemError?
}

/// One object on its way into the store. Ends once.
private final class Transfer: Sendable {
    private struct State: ~Copyable {
        var file: NewFile?
        var receivedBytes: UInt64 = 0
        var checksum = Checksum()
        var result: Result<LocalOutput.Value, TransferError>?
        var whenEnded: (@Sendable (Result<LocalOutput.Value, TransferError>) -> Void)?
    }
    private let state: Mutex<State>
    private let replica: Replica
    private let sizeBytes: UInt64
    private let store: Store

    init(replica: Replica, sizeBytes: UInt64, store: Store) throws(SystemError) {
        self.replica = replica
        self.sizeBytes = sizeBytes
        self.store = store
        let file = try store.makeFile(sizeBytes: sizeBytes)
        state = Mutex(State(file: file))
    }

    func whenEnded(_ report: @escaping @Sendable (Result<LocalOutput.Value, TransferError>) -> Void) {
        let result = state.withLock { state in
            if state.result == nil { state.whenEnded = report }
            return state.result
        }
        if let result { report(result) }
    }

    func end(_ result: Result<LocalOutput.Value, TransferError>) {
        let report = state.withLock { state -> (@Sendable (Result<LocalOutput.Value, TransferError>) -> Void)? in
            guard state.result == nil else { return nil }
            state.result = result
            state.file = nil
            return state.whenEnded.take()
        }
        report?(result)
    }

    /// - Returns: `false` when it has ended.
    func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let failure = state.withLock { state -> TransferError? in
            guard state.result == nil else { return TransferError(text: "") }
            let (count, overflow) = state.receivedBytes.addingReportingOverflow(UInt64(bytes.count))
            guard !overflow, count <= sizeBytes else { return TransferError(text: "sends more than the \(sizeBytes) bytes that the object has") }
            state.receivedBytes = count
            state.checksum.update(bytes)
            do throws(SystemError) { try state.file?.descriptor.writeAll(bytes) } catch { return TransferError(text: "", system: error) }
            return nil
        }
        if let failure { end(.failure(failure)) }
        return failure == nil
    }

    /// All has come: checks it and moves it in.
    ///
    /// - Parameter checksum: as the holder says; `nil` when it says none.
    func complete(checksum: String?) {
        let result = state.withLock { state -> Result<LocalOutput.Value, TransferError>? in
            guard state.result == nil else { return nil }
            guard state.receivedBytes == sizeBytes else {
                return .failure(TransferError(text: "sent \(state.receivedBytes) bytes of the \(sizeBytes) that the object has"))
            }
            if let checksum, checksum != state.checksum.text {
                return .failure(TransferError(text: "sent \(sizeBytes) bytes whose checksum is \(state.checksum.text) and should be \(checksum)"))
            }
            guard var file = state.file.take() else { return nil }
            do throws(SystemError) {
                if sizeBytes <= UInt64(ControlLimits.inlineBytesMax) { return .success(.inline(try file.descriptor.read(count: Int(sizeBytes)))) }
                try store.moveIn(&file, as: replica)
                return .success(.stored(sizeBytes: sizeBytes, isOnDisk: file.isOnDisk))
            } catch {
                return .failure(TransferError(text: "", system: error))
            }
        }
        if let result { end(result) }
    }
}

private final class TransferHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart
    private let transfer: Transfer
    private let path: String
    private let host: String
    private var status: HTTPResponseStatus?
    private var checksum: String?
    private var reason = ""

    init(_ transfer: Transfer, path: String, host: String) {
        self.transfer = transfer
        self.path = path
        self.host = host
    }

    func channelActive(context: ChannelHandlerContext) {
        let headers = HTTPHeaders([("host", host), ("connection", "close"), (checksumHeader, "xxh3-128")])
        context.write(wrapOutboundOut(.head(HTTPRequestHead(version: .http1_1, method: .GET, uri: path, headers: headers))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            status = head.status
            checksum = head.headers.first(name: checksumHeader)
        case .body(let buffer):
            guard status == .ok else {
                if reason.utf8.count < 500 { reason += String(buffer: buffer) }
                return
            }
            if !buffer.withUnsafeReadableBytes({ transfer.append($0) }) { context.close(promise: nil) }
        case .end:
            if let status, status != .ok {
                let text = reason.filter { !$0.isNewline }
                transfer.end(.failure(TransferError(text: "answered \(status.code) \(status.reasonPhrase)\(text.isEmpty ? "" : ": \(text.prefix(300))")")))
            } else {
                transfer.complete(checksum: checksum)
            }
            context.close(promise: nil)
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            transfer.end(.failure(TransferError(text: "sent nothing for \(Fetcher.silenceSecondsMax) s")))
            context.close(promise: nil)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        transfer.end(.failure(TransferError(text: "closed the connection before the end")))
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        transfer.end(.failure(TransferError(text: "broke off: \(error)")))
        context.close(promise: nil)
    }
}
