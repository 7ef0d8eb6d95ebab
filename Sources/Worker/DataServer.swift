import CLinux
import Glibc
import Link
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import TaskModel
import Transport

/// Serves the store's objects over HTTP, as docs/protocol.md has it: one by one with Range, or many small ones in one answer.
struct DataServer: Sendable {
    let port: UInt16
    private let channel: any Channel

    /// - Parameter host: numeric address to listen on.
    init(host: String, port: Int = 0, holder: LocalHolder, group: any EventLoopGroup, limits: DataServerLimits = DataServerLimits()) throws {
        let count = DataConnectionCount()
        channel = try ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 256)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    try channel.pipeline.syncOperations.addHandler(DataConnection(limits, count))
                    try channel.pipeline.syncOperations.addHandler(ObjectRequestHandler(holder))
                }
            }
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .bind(host: host, port: port).wait()
        self.port = UInt16(channel.localAddress?.port ?? 0)
    }

    func close() { try? channel.close().wait() }
}

/// What this worker has to give, and to whom.
struct LocalHolder: Sendable {
    let store: Store
    let secret: DataSecret
    let checksums: ChecksumTable
    let counters: TransferCounters
    /// Gets what somebody has written to; in any thread.
    var reportDamage: @Sendable (Replica) -> Void = { _ in }

    /// A replica's file or directory. A file is as it was made; `stream` looks at a directory.
    func open(_ replica: Replica) throws(SystemError) -> OpenObject {
        let found = try store.find(replica)
        let status = try found.file.status()
        if found.keepsMarks, !status.isDirectory, store.isWrittenTo(status) { throw damaged(replica) }
        return OpenObject(sizeBytes: status.sizeBytes, isDirectory: status.isDirectory, keepsMarks: found.keepsMarks, file: found.file)
    }

    /// - Parameter root: the open directory of a replica.
    func stream(_ replica: Replica, root: consuming Descriptor, keepsMarks: Bool) throws(SystemError) -> TarStream {
        if keepsMarks, store.damage(toTree: root.raw) != nil { throw damaged(replica) }
        return try store.stream(replica, root: root)
    }

    /// To whoever asks it is not here any more.
    private func damaged(_ replica: Replica) -> SystemError {
        reportDamage(replica)
        return SystemError("give away what a task has written to", code: ENOENT)
    }
}

struct OpenObject: ~Copyable {
    /// Of a file.
    let sizeBytes: UInt64
    let isDirectory: Bool
    let keepsMarks: Bool
    let file: Descriptor
}

final class ObjectRequestHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    /// Up to so many bytes are summed on the loop: it takes less time than a change of threads.
    private static let quickBytesMax: UInt64 = 64 << 10
    static let sizeHeader = "rain-size"

    let holder: LocalHolder
    private var head: HTTPRequestHead?
    private var body: [UInt8] = []
    /// More came than a list may have.
    private var isBodyTooLarge = false

    init(_ holder: LocalHolder) { self.holder = holder }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            body = []
            isBodyTooLarge = false
        case .body(let buffer):
            if body.count + buffer.readableBytes > ObjectList.bytesMax { isBodyTooLarge = true } else { body += buffer.readableBytesView }
        case .end:
            if let head { respond(to: head, context) }
            head = nil
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    private func respond(to head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        guard let secret = holder.secret.current else { return refuse(head, .serviceUnavailable, "this worker has not met its server yet", context) }
        let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let ticket = ObjectRequest.Ticket(query: parts.count == 2 ? parts[1] : "")
        if parts[0] == "/status" {
            guard head.method == .GET else { return refuse(head, .methodNotAllowed, "only GET", context) }
            guard allows(head, DataTicket.verify(path: "/status", expires: ticket.expires, mac: ticket.mac, secret: secret, now: unixSeconds()), context)
            else { return }
            return answer(head, .ok, "application/json", holder.counters.text + "\n", context)
        }
        if parts[0] == ObjectList.path {
            guard head.method == .POST else { return refuse(head, .methodNotAllowed, "only POST", context) }
            guard !isBodyTooLarge else { return refuse(head, .payloadTooLarge, "at most \(ObjectList.countMax) objects in one list", context) }
            let verdict = ObjectList.verify(body, expires: ticket.expires, mac: ticket.mac, secret: secret, now: unixSeconds())
            guard allows(head, verdict, context) else { return }
            guard let entries = ObjectList.entries(body) else {
                return refuse(head, .badRequest, "the list is not well formed: one to \(ObjectList.countMax) lines SESSION/INDEX/EPOCH-NUMBER", context)
            }
            return serve(head, entries, context)
        }
        guard let request = ObjectRequest(target: head.uri) else { return refuse(head, .notFound, "no such place: objects are at /objects/…", context) }
        guard head.method == .GET || head.method == .HEAD else { return refuse(head, .methodNotAllowed, "only GET and HEAD", context) }
        let verdict = DataTicket.verify(path: request.path, expires: ticket.expires, mac: ticket.mac, secret: secret, now: unixSeconds())
        guard allows(head, verdict, context) else { return }
        do throws(SystemError) {
            try serve(head, request, context)
        } catch {
            refuse(head, error.code == ENOENT ? .notFound : .internalServerError, "object \(request.replica.object) can't be read: \(error.reason)", context)
        }
    }

    private func allows(_ head: HTTPRequestHead, _ verdict: DataTicket.Verdict, _ context: ChannelHandlerContext) -> Bool {
        switch verdict {
        case .valid: return true
        case .expired: refuse(head, .forbidden, "the ticket has expired", context)
        case .forged: refuse(head, .forbidden, "the ticket is not valid", context)
        }
        return false
    }

    // MARK: One object

    private func serve(_ head: HTTPRequestHead, _ request: ObjectRequest, _ context: ChannelHandlerContext) throws(SystemError) {
        let object = try holder.open(request.replica)
        let (size, isDirectory, keepsMarks) = (object.sizeBytes, object.isDirectory, object.keepsMarks)
        let file = object.file
        if isDirectory { return serveTree(head, request.replica, file, keepsMarks: keepsMarks, context) }
        var answer = ObjectAnswer(
            replica: request.replica, sizeBytes: size, range: 0..<size, status: .ok,
            headers: HTTPHeaders([
                ("accept-ranges", "bytes"), ("content-type", "application/octet-stream"), ("etag", "\"\(request.replica.generation)\""),
            ]))
        switch ByteRange(header: head.headers.first(name: "range"), sizeBytes: size) {
        case .unsatisfiable:
            answer.headers.add(name: "content-range", value: "bytes */\(size)")
            return send(head, .rangeNotSatisfiable, answer.headers, body: nil, length: 0, context)
        case .all: break
        case .part(let range):
            (answer.range, answer.status) = (range, .partialContent)
            answer.headers.add(name: "content-range", value: "bytes \(range.lowerBound)-\(range.upperBound - 1)/\(size)")
        }
        guard head.headers.contains(name: Checksum.header) else { return serve(head, answer, file, context) }
        if let known = holder.checksums.known(request.replica) {
            answer.headers.add(name: Checksum.header, value: known.description)
            return serve(head, answer, file, context)
        }
        let copy = Descriptor(try check(fcntl(file.raw, F_DUPFD_CLOEXEC, 0), "fcntl"))
        if size <= Self.quickBytesMax {
            let digest = try Self.quickDigest(of: copy)
            holder.checksums.set(digest, of: request.replica)
            answer.headers.add(name: Checksum.header, value: digest.description)
            return serve(head, answer, file, context)
        }
        let digest = holder.checksums.digest(of: request.replica, in: SharedFile(copy), on: context.eventLoop)
        let takesTrailers = head.version == .http1_1 && head.headers["te"].contains { $0.lowercased().contains("trailers") }
        if head.method == .GET, answer.status == .ok, takesTrailers {
            serveWithTrailer(head, answer, file, digest, context)
        } else {
            serveWhenKnown(head, answer, file, digest, context)
        }
    }

    private static func quickDigest(of file: borrowing Descriptor) throws(SystemError) -> Checksum.Digest {
        do throws(Checksum.ReadFailure) { return try Checksum.ofFile(file.raw) } catch { throw SystemError("read", code: error.code) }
    }

    private func serve(_ head: HTTPRequestHead, _ answer: ObjectAnswer, _ file: consuming Descriptor, _ context: ChannelHandlerContext) {
        let length = answer.range.upperBound - answer.range.lowerBound
        guard head.method == .GET, length > 0, let region = answer.region(file) else {
            return send(head, answer.status, answer.headers, body: nil, length: length, context)
        }
        send(head, answer.status, answer.headers, body: region, length: length, context)
    }

    /// The bytes go at once; what another thread sums meanwhile follows them.
    private func serveWithTrailer(
        _ head: HTTPRequestHead, _ answer: ObjectAnswer, _ file: consuming Descriptor, _ digest: EventLoopFuture<Checksum.Digest>,
        _ context: ChannelHandlerContext
    ) {
        guard let region = answer.region(file) else { return refuse(head, .internalServerError, "the object is too large for this machine", context) }
        var headers = answer.headers
        headers.add(name: "transfer-encoding", value: "chunked")
        headers.add(name: "trailer", value: Checksum.header)
        headers.add(name: Self.sizeHeader, value: "\(answer.sizeBytes)")
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .ok, headers: headers))), promise: nil)
        write(region, context)
        context.flush()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        digest.whenComplete { result in
            let (handler, context) = bound.value
            switch result {
            case .success(let digest): handler.finish(head, HTTPHeaders([(Checksum.header, digest.description)]), context)
            // The bytes could not be read a second time: an answer without its end is one that nobody takes for whole.
            case .failure: context.close(promise: nil)
            }
        }
    }

    private func serveWhenKnown(
        _ head: HTTPRequestHead, _ answer: ObjectAnswer, _ file: consuming Descriptor, _ digest: EventLoopFuture<Checksum.Digest>,
        _ context: ChannelHandlerContext
    ) {
        let number = file.take()
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        digest.whenComplete { result in
            let (handler, context) = bound.value
            let file = Descriptor(number)
            switch result {
            case .success(let digest):
                var answer = answer
                answer.headers.add(name: Checksum.header, value: digest.description)
                handler.serve(head, answer, file, context)
            case .failure(let error): handler.refuse(head, .internalServerError, "the object can't be read: \(error)", context)
            }
        }
    }

    // MARK: Many objects

    /// Rows are read on another thread, some of them at a time, and written as they come.
    private func serve(_ head: HTTPRequestHead, _ entries: [ObjectList.Entry], _ context: ChannelHandlerContext) {
        let headers = HTTPHeaders([("content-type", ObjectRow.contentType), ("transfer-encoding", "chunked")])
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: .ok, headers: headers))), promise: nil)
        holder.counters.servedRequests.add(1, ordering: .relaxed)
        writeRows(head, RowSource(holder: holder, entries: entries), context)
    }

    private func writeRows(_ head: HTTPRequestHead, _ source: RowSource, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        NIOThreadPool.singleton.runIfActive(eventLoop: context.eventLoop) { source.next() }.whenComplete { result in
            let (handler, context) = bound.value
            guard case .success(let (piece, rest)) = result else { return context.close(promise: nil) }
            let written = context.eventLoop.makePromise(of: Void.self)
            context.writeAndFlush(handler.wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: piece)))), promise: written)
            guard let rest else { return handler.finish(head, nil, context) }
            // The next piece is read when this one is on its way: a slow reader holds up its own answer, not our memory.
            written.futureResult.whenSuccess {
                let (handler, context) = bound.value
                handler.writeRows(head, rest, context)
            }
        }
    }

    // MARK: Answers

    func refuse(_ head: HTTPRequestHead, _ status: HTTPResponseStatus, _ text: String, _ context: ChannelHandlerContext) {
        answer(head, status, "text/plain; charset=utf-8", text + "\n", context)
    }

    private func answer(_ head: HTTPRequestHead, _ status: HTTPResponseStatus, _ type: String, _ text: String, _ context: ChannelHandlerContext) {
        let headers = HTTPHeaders([("content-type", type), ("content-length", "\(text.utf8.count)")])
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: status, headers: headers))), promise: nil)
        if head.method != .HEAD { context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil) }
        finish(head, nil, context)
    }

    private func send(
        _ head: HTTPRequestHead, _ status: HTTPResponseStatus, _ headers: HTTPHeaders, body: FileRegion?, length: UInt64,
        _ context: ChannelHandlerContext
    ) {
        var headers = headers
        headers.add(name: "content-length", value: "\(length)")
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: status, headers: headers))), promise: nil)
        if let body { write(body, context) }
        finish(head, nil, context)
    }

    private func write(_ region: FileRegion, _ context: ChannelHandlerContext) {
        let promise = context.eventLoop.makePromise(of: Void.self)
        let (handle, count, counters) = (region.fileHandle, UInt64(region.readableBytes), holder.counters)
        counters.servedRequests.add(1, ordering: .relaxed)
        promise.futureResult.whenComplete { result in
            try? handle.close()
            if case .success = result { counters.servedBytes.add(count, ordering: .relaxed) }
        }
        context.write(wrapOutboundOut(.body(.fileRegion(region))), promise: promise)
    }

    func finish(_ head: HTTPRequestHead, _ trailers: HTTPHeaders?, _ context: ChannelHandlerContext) {
        let promise = context.eventLoop.makePromise(of: Void.self)
        if !head.isKeepAlive {
            let channel = context.channel
            promise.futureResult.whenComplete { _ in channel.close(promise: nil) }
        }
        context.writeAndFlush(wrapOutboundOut(.end(trailers)), promise: promise)
    }
}

/// One object's answer before its bytes.
private struct ObjectAnswer: Sendable {
    var replica: Replica
    var sizeBytes: UInt64
    var range: Range<UInt64>
    var status: HTTPResponseStatus
    var headers: HTTPHeaders

    func region(_ file: consuming Descriptor) -> FileRegion? {
        guard let lower = Int(exactly: range.lowerBound), let upper = Int(exactly: range.upperBound) else { return nil }
        return FileRegion(
            fileHandle: NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: file.take()), readerIndex: lower, endIndex: upper)
    }
}

/// The rows of a list that are not written yet.
private struct RowSource: Sendable {
    private static let pieceBytes = 256 << 10
    let holder: LocalHolder
    let entries: [ObjectList.Entry]
    private var position = 0
    /// Of objects, in this answer.
    private var byteCount: UInt64 = 0

    init(holder: LocalHolder, entries: [ObjectList.Entry]) {
        self.holder = holder
        self.entries = entries
    }

    /// - Returns: the next piece, and what comes after it; `nil` at the end.
    func next() -> (piece: [UInt8], rest: RowSource?) {
        var rest = self
        var piece: [UInt8] = []
        while rest.position < entries.count, piece.count < Self.pieceBytes {
            rest.row(Replica(entries[rest.position])).append(to: &piece, hasChecksum: true)
            rest.position += 1
        }
        return (piece, rest.position < entries.count ? rest : nil)
    }

    private mutating func row(_ replica: Replica) -> ObjectRow {
        var row = ObjectRow(object: replica.object.index, status: .ok)
        do throws(SystemError) {
            let object = try holder.open(replica)
            row.isDirectory = object.isDirectory
            var size = object.sizeBytes
            let keepsMarks = object.keepsMarks
            let file = object.file
            let stream =
                row.isDirectory ? try holder.stream(replica, root: Descriptor(fcntl(file.raw, F_DUPFD_CLOEXEC, 0)), keepsMarks: keepsMarks) : nil
            if let stream { size = stream.sizeBytes }
            row.sizeBytes = size
            guard byteCount + size <= ObjectList.answerBytesMax else {
                row.status = .large
                return row
            }
            if let stream { row.bytes = try stream.readAll() } else { row.bytes = try file.read(count: Int(size)) }
            row.sizeBytes = UInt64(row.bytes.count)
            byteCount += row.sizeBytes
            holder.counters.servedBytes.add(row.sizeBytes, ordering: .relaxed)
        } catch {
            row.status = error.code == ENOENT ? .dropped : .unavailable
            if row.status == .unavailable { row.bytes = Array(error.reason.utf8) }
            row.sizeBytes = UInt64(row.bytes.count)
        }
        return row
    }
}
