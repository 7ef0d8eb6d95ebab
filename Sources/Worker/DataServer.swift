import Glibc
import Link
import NIOCore
import NIOHTTP1
import NIOPosix
import TaskModel
import Transport

/// Serves the store's objects over HTTP: `GET /objects/{session}/{index}/{epoch}-{number}?expires&mac`, with Range.
struct DataServer: Sendable {
    let port: UInt16
    private let channel: any Channel

    /// - Parameter host: numeric address to listen on.
    init(host: String, port: Int = 0, store: Store, secret: DataSecret, group: any EventLoopGroup) throws {
        channel = try ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(ObjectRequestHandler(store: store, secret: secret))
                }
            }
            .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
            .bind(host: host, port: port).wait()
        self.port = UInt16(channel.localAddress?.port ?? 0)
    }

    func close() { try? channel.close().wait() }
}

/// In a request: send the checksum of the whole object; in the answer: XXH3-128 in 32 hexadecimal digits.
let checksumHeader = "rain-checksum"

/// What a request asks for; pure, for tests.
struct ObjectRequest: Equatable, Sendable {
    var replica: Replica
    /// What was signed.
    var path: String
    var expires: UInt64
    var mac: String

    /// - Returns: `nil` when the target is none of an object.
    init?(target: String) {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let names = parts[0].split(separator: "/", omittingEmptySubsequences: false)
        guard names.count == 5, names[0].isEmpty, names[1] == "objects", let session = UInt32(names[2]), let index = UInt32(names[3]) else { return nil }
        let generation = names[4].split(separator: "-", omittingEmptySubsequences: false)
        guard generation.count == 2, let epoch = UInt32(generation[0]), let number = UInt32(generation[1]) else { return nil }
        replica = Replica(
            object: ObjectID(session: SessionID(session), index: index), generation: Generation(epoch: ServerEpoch(epoch), number: number))
        // The canonical spelling, so that "+1" and "1" are one object with one signature.
        path = DataTicket.path(session: session, index: index, epoch: epoch, number: number)
        expires = 0
        mac = ""
        guard parts.count == 2 else { return }
        for pair in parts[1].split(separator: "&") {
            if pair.hasPrefix("expires="), let seconds = UInt64(pair.dropFirst(8)) { expires = seconds }
            if pair.hasPrefix("mac=") { mac = String(pair.dropFirst(4)) }
        }
    }
}

/// Which bytes of `sizeBytes` a Range header means.
enum ByteRange: Equatable, Sendable {
    case all
    case part(Range<UInt64>)
    /// Answered with 416.
    case unsatisfiable

    init(header: String?, sizeBytes: UInt64) {
        // Another unit, several ranges, or nonsense: RFC 9110 lets a server ignore the header.
        guard let header, header.hasPrefix("bytes=") else {
            self = .all
            return
        }
        let ends = header.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false).map { $0.filter { $0 != " " } }
        guard ends.count == 2, !header.contains(",") else {
            self = .all
            return
        }
        if ends[0].isEmpty {
            guard let count = UInt64(ends[1]) else {
                self = .all
                return
            }
            self = count == 0 || sizeBytes == 0 ? .unsatisfiable : .part(sizeBytes - min(count, sizeBytes)..<sizeBytes)
            return
        }
        guard let first = UInt64(ends[0]), ends[1].isEmpty || UInt64(ends[1]) != nil else {
            self = .all
            return
        }
        let last = UInt64(ends[1]) ?? .max
        if last < first {
            self = .all
        } else if first >= sizeBytes {
            self = .unsatisfiable
        } else {
            self = .part(first..<min(last, sizeBytes - 1) + 1)
        }
    }
}

private final class ObjectRequestHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private let store: Store
    private let secret: DataSecret
    private var head: HTTPRequestHead?

    init(store: Store, secret: DataSecret) {
        self.store = store
        self.secret = secret
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): self.head = head
        case .body: break
        case .end:
            if let head { respond(to: head, context) }
            head = nil
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    private func respond(to head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        guard head.method == .GET || head.method == .HEAD else { return refuse(head, .methodNotAllowed, "only GET and HEAD", context) }
        guard let request = ObjectRequest(target: head.uri) else { return refuse(head, .notFound, "no such place: objects are at /objects/…", context) }
        guard let secret = secret.current else { return refuse(head, .serviceUnavailable, "this worker has not met its server yet", context) }
        switch DataTicket.verify(path: request.path, expires: request.expires, mac: request.mac, secret: secret, now: unixSeconds()) {
        case .valid: break
        case .expired: return refuse(head, .forbidden, "the ticket has expired", context)
        case .forged: return refuse(head, .forbidden, "the ticket is not valid", context)
        }
        do throws(SystemError) {
            let file = try store.open(request.replica)
            try serve(head, request, file, context)
        } catch {
            refuse(head, error.code == ENOENT ? .notFound : .internalServerError, "object \(request.replica.object) can't be read: \(error.reason)", context)
        }
    }

    private func serve(
        _ head: HTTPRequestHead, _ request: ObjectRequest, _ file: consuming Descriptor, _ context: ChannelHandlerContext
    ) throws(SystemError) {
        let size = try file.status().sizeBytes
        var headers = HTTPHeaders([
            ("accept-ranges", "bytes"), ("content-type", "application/octet-stream"), ("etag", "\"\(request.replica.generation)\""),
        ])
        switch ByteRange(header: head.headers.first(name: "range"), sizeBytes: size) {
        case .unsatisfiable:
            headers.add(name: "content-range", value: "bytes */\(size)")
            send(head, .rangeNotSatisfiable, headers, body: nil, length: 0, context)
        case .all where head.method == .GET && head.headers.contains(name: checksumHeader):
            serveWithChecksum(head, headers, file.take(), size, context)
        case .all: serve(head, .ok, headers, file, 0..<size, context)
        case .part(let range):
            headers.add(name: "content-range", value: "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)")
            serve(head, .partialContent, headers, file, range, context)
        }
    }

    private func serve(
        _ head: HTTPRequestHead, _ status: HTTPResponseStatus, _ headers: HTTPHeaders, _ file: consuming Descriptor, _ range: Range<UInt64>,
        _ context: ChannelHandlerContext
    ) {
        let length = range.upperBound - range.lowerBound
        guard head.method == .GET, length > 0, let lower = Int(exactly: range.lowerBound), let upper = Int(exactly: range.upperBound) else {
            return send(head, status, headers, body: nil, length: length, context)
        }
        let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: file.take())
        send(head, status, headers, body: FileRegion(fileHandle: handle, readerIndex: lower, endIndex: upper), length: length, context)
    }

    /// The whole object, with its checksum ahead, which another thread works out: it reads the file once more.
    private func serveWithChecksum(_ head: HTTPRequestHead, _ headers: HTTPHeaders, _ number: Int32, _ size: UInt64, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        NIOThreadPool.singleton.runIfActive(eventLoop: context.eventLoop) { try Checksum.text(ofFile: number) }.whenComplete { result in
            let (handler, context) = bound.value
            switch result {
            case .success(let text):
                var headers = headers
                headers.add(name: checksumHeader, value: text)
                handler.serve(head, .ok, headers, Descriptor(number), 0..<size, context)
            case .failure(let error):
                _ = Glibc.close(number)
                handler.refuse(head, .internalServerError, "the object can't be read: \(error)", context)
            }
        }
    }

    private func refuse(_ head: HTTPRequestHead, _ status: HTTPResponseStatus, _ text: String, _ context: ChannelHandlerContext) {
        var buffer = context.channel.allocator.buffer(capacity: text.utf8.count + 1)
        buffer.writeString(text + "\n")
        let headers = HTTPHeaders([("content-type", "text/plain; charset=utf-8"), ("content-length", "\(buffer.readableBytes)")])
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: status, headers: headers))), promise: nil)
        if head.method != .HEAD { context.write(wrapOutboundOut(.body(.byteBuffer(buffer))), promise: nil) }
        finish(head, context)
    }

    private func send(
        _ head: HTTPRequestHead, _ status: HTTPResponseStatus, _ headers: HTTPHeaders, body: FileRegion?, length: UInt64,
        _ context: ChannelHandlerContext
    ) {
        var headers = headers
        headers.add(name: "content-length", value: "\(length)")
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: status, headers: headers))), promise: nil)
        if let body {
            let promise = context.eventLoop.makePromise(of: Void.self)
            let handle = body.fileHandle
            promise.futureResult.whenComplete { _ in try? handle.close() }
            context.write(wrapOutboundOut(.body(.fileRegion(body))), promise: promise)
        }
        finish(head, context)
    }

    private func finish(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        let promise = context.eventLoop.makePromise(of: Void.self)
        if !head.isKeepAlive {
            let channel = context.channel
            promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
    }
}
