import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import TaskModel
import Transport

/// Directories on the data plane: their streams are made piece by piece as they are sent.
extension ObjectRequestHandler {
    private static let treePieceBytes = 256 << 10

    /// What is known of a stream before its bytes are sent.
    private struct TreeAnswer: Sendable {
        let stream: TarStream
        let range: Range<UInt64>
        let status: HTTPResponseStatus
        var headers: HTTPHeaders
        /// Sums the bytes on their way out.
        var summing: TreeSum?
    }

    /// Walks through the tree on another thread, and reads all of it there when its checksum must come first.
    func serveTree(_ head: HTTPRequestHead, _ replica: Replica, _ root: consuming Descriptor, keepsMarks: Bool, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let (holder, number) = (holder, root.take())
        let asked = Asked(head)
        NIOThreadPool.singleton.runIfActive(eventLoop: context.eventLoop) { () -> TreeAnswer? in
            let stream = try holder.stream(replica, root: Descriptor(number), keepsMarks: keepsMarks)
            return try Self.answer(replica, stream, asked, holder.checksums)
        }.whenComplete { result in
            let (handler, context) = bound.value
            switch result {
            case .success(let answer?): handler.begin(head, replica, answer, context)
            case .success(nil): handler.refuse(head, .rangeNotSatisfiable, "the range lies outside of the directory's stream", context)
            case .failure(let error):
                let isGone = (error as? SystemError)?.code == ENOENT
                handler.refuse(head, isGone ? .notFound : .internalServerError, "object \(replica.object) can't be read: \(error)", context)
            }
        }
    }

    private struct Asked: Sendable {
        let range: String?
        let isWholeBody: Bool
        let wantsChecksum: Bool
        let takesTrailers: Bool
        init(_ head: HTTPRequestHead) {
            range = head.headers.first(name: "range")
            isWholeBody = head.method == .GET
            wantsChecksum = head.headers.contains(name: Checksum.header)
            takesTrailers = head.version == .http1_1 && head.headers["te"].contains { $0.lowercased().contains("trailers") }
        }
    }

    /// - Returns: `nil` for a range outside.
    private static func answer(_ replica: Replica, _ stream: TarStream, _ asked: Asked, _ checksums: ChecksumTable) throws -> TreeAnswer? {
        let size = stream.sizeBytes
        var headers = HTTPHeaders([("accept-ranges", "bytes"), ("content-type", "application/x-tar"), ("etag", "\"\(replica.generation)\"")])
        var (range, status) = (0..<size, HTTPResponseStatus.ok)
        switch ByteRange(header: asked.range, sizeBytes: size) {
        case .unsatisfiable: return nil
        case .all: break
        case .part(let part):
            (range, status) = (part, .partialContent)
            headers.add(name: "content-range", value: "bytes \(part.lowerBound)-\(part.upperBound - 1)/\(size)")
        }
        guard asked.wantsChecksum else { return TreeAnswer(stream: stream, range: range, status: status, headers: headers) }
        if checksums.known(replica) == nil {
            if asked.isWholeBody, asked.takesTrailers, status == .ok {
                return TreeAnswer(stream: stream, range: range, status: status, headers: headers, summing: TreeSum())
            }
            let sum = TreeSum()
            let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: treePieceBytes, alignment: 64)
            defer { piece.deallocate() }
            var offset: UInt64 = 0
            while offset < size {
                let count = try stream.read(at: offset, into: piece)
                sum.update(UnsafeRawBufferPointer(rebasing: piece[..<count]))
                offset += UInt64(count)
            }
            checksums.set(sum.digest, of: replica)
        }
        if let known = checksums.known(replica) { headers.add(name: Checksum.header, value: known.description) }
        return TreeAnswer(stream: stream, range: range, status: status, headers: headers)
    }

    private func begin(_ head: HTTPRequestHead, _ replica: Replica, _ answer: TreeAnswer, _ context: ChannelHandlerContext) {
        var headers = answer.headers
        if answer.summing == nil {
            headers.add(name: "content-length", value: "\(answer.range.upperBound - answer.range.lowerBound)")
        } else {
            headers.add(name: "transfer-encoding", value: "chunked")
            headers.add(name: "trailer", value: Checksum.header)
            headers.add(name: Self.sizeHeader, value: "\(answer.stream.sizeBytes)")
        }
        context.write(wrapOutboundOut(.head(HTTPResponseHead(version: head.version, status: answer.status, headers: headers))), promise: nil)
        guard head.method == .GET else { return finish(head, nil, context) }
        holder.counters.servedRequests.add(1, ordering: .relaxed)
        write(head, replica, answer, from: answer.range.lowerBound, context)
    }

    private func write(_ head: HTTPRequestHead, _ replica: Replica, _ answer: TreeAnswer, from offset: UInt64, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        NIOThreadPool.singleton.runIfActive(eventLoop: context.eventLoop) { () -> ByteBuffer in
            var buffer = ByteBuffer()
            let wanted = Int(min(UInt64(Self.treePieceBytes), answer.range.upperBound - offset))
            var failure: SystemError?
            buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: wanted) { room in
                do throws(SystemError) {
                    return try answer.stream.read(at: offset, into: UnsafeMutableRawBufferPointer(rebasing: room[..<wanted]))
                } catch {
                    failure = error
                    return 0
                }
            }
            if let failure { throw failure }
            if let sum = answer.summing { buffer.withUnsafeReadableBytes { sum.update($0) } }
            return buffer
        }.whenComplete { result in
            let (handler, context) = bound.value
            // An answer without its end is one that nobody takes for whole.
            guard case .success(let piece) = result else { return context.close(promise: nil) }
            let count = UInt64(piece.readableBytes)
            let written = context.eventLoop.makePromise(of: Void.self)
            context.writeAndFlush(handler.wrapOutboundOut(.body(.byteBuffer(piece))), promise: written)
            handler.holder.counters.servedBytes.add(count, ordering: .relaxed)
            if offset + count == answer.range.upperBound {
                guard let sum = answer.summing else { return handler.finish(head, nil, context) }
                handler.holder.checksums.set(sum.digest, of: replica)
                return handler.finish(head, HTTPHeaders([(Checksum.header, sum.digest.description)]), context)
            }
            // The next piece is read when this one is on its way: a slow reader holds up its own answer, not our memory.
            written.futureResult.whenSuccess {
                let (handler, context) = bound.value
                handler.write(head, replica, answer, from: offset + count, context)
            }
        }
    }
}

/// The checksum of a stream that passes.
private final class TreeSum: @unchecked Sendable {
    // Updated by one piece after the other, whatever the thread.
    private let checksum = Checksum()
    func update(_ bytes: UnsafeRawBufferPointer) { checksum.update(bytes) }
    var digest: Checksum.Digest { checksum.digest }
}
