import NIOCore
import NIOHTTP1
import Synchronization
import TaskModel
import Transport
import WorkerCore

/// One connection to a holder: asks for what the fetcher has for it, one request after the other, until there is nothing more.
final class Puller: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart
    typealias OutboundOut = HTTPClientRequestPart

    private enum Work {
        case nothing
        case one(Pull, PartialObject)
        /// Those whose rows have not come.
        case many(ArraySlice<Pull>)
    }
    private let fetcher: Fetcher
    private let endpoint: Endpoint
    private let name: String
    private var work = Work.nothing
    private var rows = ObjectRowReader(bytesMax: 0)
    private var rowCount = 0
    private var head: HTTPResponseHead?
    private var reason = ""
    private var hasStarted = false
    private var isClosing = false
    private var isReleased = false

    init(_ fetcher: Fetcher, _ endpoint: Endpoint) {
        self.fetcher = fetcher
        self.endpoint = endpoint
        name = endpoint.description
    }

    func channelActive(context: ChannelHandlerContext) {
        next(context)
        context.fireChannelActive()
    }

    private func next(_ context: ChannelHandlerContext) {
        work = .nothing
        let pulls = fetcher.take(from: endpoint, isFirst: !hasStarted)
        hasStarted = true
        guard let first = pulls.first else { return close(context) }
        guard let secret = fetcher.holder.secret.current else {
            for pull in pulls { fetcher.failed(pull, PullFailure("can't be asked: the worker has no secret of the server")) }
            return next(context)
        }
        if first.isSmall { askForMany(pulls, secret, context) } else { askForOne(first, secret, context) }
    }

    private func askForOne(_ pull: Pull, _ secret: [UInt8], _ context: ChannelHandlerContext) {
        var pull = pull
        let partial: PartialObject
        do throws(SystemError) {
            if let known = pull.partial { partial = known } else { partial = try PartialObject(pull.input, store: fetcher.store) }
        } catch {
            fetcher.refused(pull, error)
            return next(context)
        }
        pull.partial = partial
        work = .one(pull, partial)
        let target = DataTicket.signedPath(pull.input.replica.path, expires: unixSeconds() + fetcher.limits.ticketSeconds, secret: secret)
        var headers = HTTPHeaders([("host", name), (Checksum.header, Checksum.algorithm), ("te", "trailers")])
        let offset = partial.receivedBytes
        if offset > 0, offset < pull.input.sizeBytes {
            headers.add(name: "range", value: "bytes=\(offset)-")
            fetcher.counters.resumedPulls.add(1, ordering: .relaxed)
        } else if offset > 0, let failure = partial.restart() {
            // All of it came, and then no checksum.
            work = .nothing
            fetcher.failed(pull, failure)
            return next(context)
        }
        send(HTTPRequestHead(version: .http1_1, method: .GET, uri: target, headers: headers), nil, context)
    }

    private func askForMany(_ pulls: [Pull], _ secret: [UInt8], _ context: ChannelHandlerContext) {
        work = .many(pulls[...])
        rows = ObjectRowReader(bytesMax: fetcher.limits.smallBytes)
        rowCount = 0
        let body = ObjectList.body(pulls.lazy.map { $0.input.replica.entry })
        let target = ObjectList.signedTarget(body, expires: unixSeconds() + fetcher.limits.ticketSeconds, secret: secret)
        let headers = HTTPHeaders([("host", name), ("content-type", "text/plain"), ("content-length", "\(body.count)")])
        send(HTTPRequestHead(version: .http1_1, method: .POST, uri: target, headers: headers), ByteBuffer(bytes: body), context)
    }

    private func send(_ request: HTTPRequestHead, _ body: ByteBuffer?, _ context: ChannelHandlerContext) {
        head = nil
        reason = ""
        fetcher.counters.pullRequests.add(1, ordering: .relaxed)
        context.write(wrapOutboundOut(.head(request)), promise: nil)
        if let body { context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil) }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }

    // MARK: Answers

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if isClosing { return }
        switch unwrapInboundIn(data) {
        case .head(let head):
            self.head = head
            if let failure = check(head) { give(up: failure, context) }
        case .body(let buffer): take(buffer, context)
        case .end(let trailers): end(trailers, context)
        }
    }

    private func check(_ head: HTTPResponseHead) -> PullFailure? {
        guard case .one(let pull, let partial) = work else { return nil }
        let offset = partial.receivedBytes
        switch head.status {
        case .ok: return offset > 0 ? partial.restart() : nil
        case .partialContent:
            let range = head.headers.first(name: "content-range") ?? ""
            guard range == "bytes \(offset)-\(pull.input.sizeBytes &- 1)/\(pull.input.sizeBytes)" else {
                return PullFailure("answered with the range \"\(range)\" instead of bytes from \(offset) of \(pull.input.sizeBytes)")
            }
            return nil
        default: return nil
        }
    }

    private func take(_ buffer: ByteBuffer, _ context: ChannelHandlerContext) {
        guard let head else { return }
        guard head.status == .ok || head.status == .partialContent else {
            if reason.utf8.count < 500 { reason += String(buffer: buffer) }
            return
        }
        fetcher.counters.pulledBytes.add(UInt64(buffer.readableBytes), ordering: .relaxed)
        switch work {
        case .nothing: break
        case .one(_, let partial):
            // More than the object has: then nothing of it can be built upon.
            if let failure = buffer.withUnsafeReadableBytes({ partial.append($0, from: name) }) { give(up: partial.restart() ?? failure, context) }
        case .many:
            rows.append(buffer.readableBytesView)
            takeRows(context)
        }
    }

    private func takeRows(_ context: ChannelHandlerContext) {
        while case .many(var rest) = work, let pull = rest.first {
            do throws(ObjectRowReader.Failure) {
                guard let row = try rows.next() else { return }
                guard row.object == pull.input.replica.object.index else {
                    return give(up: PullFailure("sent object \(row.object) where \(pull.input.replica.object.index) belongs"), context)
                }
                rowCount += 1
                rest.removeFirst()
                work = .many(rest)
                take(row, of: pull)
            } catch {
                return give(up: PullFailure("\(error)"), context)
            }
        }
    }

    private func take(_ row: ObjectRow, of pull: Pull) {
        switch row.status {
        case .ok: break
        case .dropped: return fetcher.failed(pull, PullFailure("doesn't have it"))
        case .large, .failed, .cancelled, .unavailable:
            let text = String(decoding: row.bytes.prefix(300), as: UTF8.self)
            return fetcher.failed(pull, PullFailure("can't give it (\(row.status.name), \(row.sizeBytes) bytes\(text.isEmpty ? "" : ": \(text)"))"))
        }
        guard row.sizeBytes == pull.input.sizeBytes else {
            return fetcher.failed(pull, PullFailure("sent \(row.sizeBytes) bytes instead of the \(pull.input.sizeBytes) that the object has"))
        }
        let digest = Checksum.of(row.bytes)
        guard row.bytes.count > ControlLimits.inlineBytesMax else { return fetcher.succeeded(pull, .inline(row.bytes), digest) }
        do throws(SystemError) {
            let isOnDisk = try fetcher.store.write(row.bytes, as: pull.input.replica)
            fetcher.succeeded(pull, .stored(sizeBytes: row.sizeBytes, isOnDisk: isOnDisk), digest)
        } catch {
            fetcher.failed(pull, PullFailure("", system: error))
        }
    }

    private func end(_ trailers: HTTPHeaders?, _ context: ChannelHandlerContext) {
        guard let head else { return }
        guard head.status == .ok || head.status == .partialContent else {
            let text = reason.filter { !$0.isNewline }
            fail(PullFailure("answered \(head.status.code) \(head.status.reasonPhrase)\(text.isEmpty ? "" : ": \(text.prefix(300))")"), isForAll: true)
            return goOn(after: head, context)
        }
        switch work {
        case .nothing: break
        case .one(let pull, let partial):
            let text = trailers?.first(name: Checksum.header) ?? head.headers.first(name: Checksum.header)
            guard let said = text.flatMap({ Checksum.Digest($0) }) else {
                return give(up: partial.restart() ?? PullFailure("sent the object without a checksum"), context)
            }
            work = .nothing
            switch partial.finish(said: said) {
            case .success(let (result, digest)): fetcher.succeeded(pull, result, digest)
            case .failure(let failure): fetcher.failed(pull, failure)
            }
        case .many(let rest):
            guard rest.isEmpty, rows.isEmpty else { return give(up: PullFailure("ended its answer before it was complete, or said too much"), context) }
        }
        goOn(after: head, context)
    }

    private func goOn(after head: HTTPResponseHead, _ context: ChannelHandlerContext) {
        self.head = nil
        if head.isKeepAlive { next(context) } else { close(context) }
        fetcher.start()
    }

    // MARK: Ends

    /// - Parameter isForAll: nothing that was asked for is to be had there; else only the next row is, and those behind it were not tried.
    private func fail(_ failure: PullFailure, isForAll: Bool) {
        switch work {
        case .nothing: break
        case .one(let pull, _): fetcher.failed(pull, failure)
        case .many(let rest):
            let tried = isForAll || failure.system != nil ? rest : rest.prefix(1)
            for pull in tried { fetcher.failed(pull, failure) }
            fetcher.putBack(rest.dropFirst(tried.count))
        }
        work = .nothing
    }

    private func give(up failure: PullFailure, _ context: ChannelHandlerContext) {
        // Rows that came show that it answers, and that it is the next one that is wrong.
        fail(failure, isForAll: rowCount == 0)
        close(context)
    }

    private func close(_ context: ChannelHandlerContext) {
        isClosing = true
        context.close(promise: nil)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is IdleStateHandler.IdleStateEvent {
            fail(PullFailure("sent nothing for \(Double(fetcher.limits.silenceMilliseconds) / 1000) s"), isForAll: true)
            close(context)
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(PullFailure("closed the connection before the end"), isForAll: rowCount == 0)
        if !isReleased {
            isReleased = true
            fetcher.release(endpoint)
        }
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let isEarlyEnd = (error as? HTTPParserError) == .invalidEOFState
        fail(PullFailure(isEarlyEnd ? "closed the connection before the end" : "broke off: \(error)"), isForAll: rowCount == 0)
        close(context)
    }
}
