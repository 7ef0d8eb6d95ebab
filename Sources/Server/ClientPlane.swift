import HTTPTypes
import HummingbirdCore
import Logging
import NIOCore
import ServerCore
import TaskModel
import Transport

/// Answers the requests of clients, and those of workers for uploads.
struct ClientPlane: Sendable {
    /// Bodies of JSON calls: selections, options.
    static let jsonBytesMax = 16 << 20

    let inbox: ReactorInbox
    let depot: Depot
    let sessions: SessionDirectory
    let holders: HolderClient
    let traffic: ObjectTraffic
    let token: [UInt8]
    let dataSecret: [UInt8]
    let about: ServerDescription
    let logger: Logger

    /// One request with what its handler needs.
    struct Call: Sendable {
        let request: Request
        let path: [Substring]
        let query: Substring
        let watch: ConnectionWatch
        let channel: any Channel
        var loop: any EventLoop { channel.eventLoop }
        var method: HTTPRequest.Method { request.method }
    }

    func respond(to request: Request, writer: consuming ResponseWriter, channel: any Channel) async throws {
        let watch = try await Self.watch(of: channel)
        let target = request.head.path ?? "/"
        let query = target.firstIndex(of: "?").map { target[target.index(after: $0)...] } ?? ""
        let path = target.prefix { $0 != "?" }.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        let call = Call(request: request, path: Array(path), query: query, watch: watch, channel: channel)
        var response: Response
        do throws(HTTPFailure) {
            let handler = try route(call)
            try Self.checkEncoding(request)
            // Only a request that will be answered from its body may send it.
            if request.headers[.expect]?.lowercased() == "100-continue" { try? await writer.writeInformationalHead(.init(status: .continue)) }
            response = try await handler()
        } catch {
            response = Response(status: error.status, headers: error.headers, body: .init(byteBuffer: ByteBuffer(bytes: error.json())))
            response.headers[.contentType] = "application/json"
            if error.status.code >= 500 { logger.warning("\(call.method) \(target.prefix { $0 != "?" }): \(error.message)") }
        }
        response.headers[.date] = HTTPDate.now
        if request.method == .head {
            try await writer.writeResponse(response.head)
        } else {
            try await writer.write(response: response.head, body: response.body)
        }
    }

    private static func watch(of channel: any Channel) async throws -> ConnectionWatch {
        if channel.eventLoop.inEventLoop { return try channel.pipeline.syncOperations.handler(type: ConnectionWatchHandler.self).watch }
        return try await channel.eventLoop.submit { try channel.pipeline.syncOperations.handler(type: ConnectionWatchHandler.self).watch }.get()
    }

    // MARK: Routes

    typealias Handler = () async throws(HTTPFailure) -> Response

    private func route(_ call: Call) throws(HTTPFailure) -> Handler {
        switch call.path.first {
        case "objects": return try routeHolder(call)
        case "api":
            if call.path.dropFirst() == ["openapi.json"] {
                try allow([.get], call)
                return { () throws(HTTPFailure) in Self.json(OpenAPI.document) }
            }
            guard call.path.count >= 2, call.path[1] == "v1" else { throw Self.noPath(call) }
            try authorize(call)
            return try routeAPI(call, Array(call.path.dropFirst(2)))
        default: throw Self.noPath(call)
        }
    }

    private func routeAPI(_ call: Call, _ path: [Substring]) throws(HTTPFailure) -> Handler {
        switch path.first {
        case "status" where path.count == 1:
            try allow([.get], call)
            return { () throws(HTTPFailure) in try await status(call) }
        case "blobs" where path.count == 2:
            try allow([.put, .head], call)
            guard let hash = BlobHash(hex: path[1]) else { throw .badRequest("a blob is named by the 64 hexadecimal digits of its SHA-256") }
            if call.method == .head { return { () throws(HTTPFailure) in try headBlob(hash) } }
            return { () throws(HTTPFailure) in try await putBlob(call, hash) }
        case "sessions" where path.count == 1:
            try allow([.get, .post], call)
            if call.method == .get { return { () throws(HTTPFailure) in try await listSessions(call) } }
            return { () throws(HTTPFailure) in try await openSession(call) }
        case "sessions" where path.count >= 2:
            guard let number = UInt32(decimal: path[1]) else { throw .badRequest("a session is a number, not \"\(path[1].prefix(32))\"") }
            return try routeSession(call, SessionID(number), Array(path.dropFirst(2)))
        default: throw Self.noPath(call)
        }
    }

    private func routeSession(_ call: Call, _ session: SessionID, _ path: [Substring]) throws(HTTPFailure) -> Handler {
        if path.isEmpty {
            try allow([.get, .delete], call)
            if call.method == .get { return { () throws(HTTPFailure) in try await sessionStatus(call, session) } }
            return { () throws(HTTPFailure) in try await closeSession(call, session) }
        }
        if path.count == 3, path[0] == "objects", path[2] == "content" {
            try allow([.get, .head], call)
            guard let object = UInt32(decimal: path[1]) else { throw .badRequest("an object is a number, not \"\(path[1].prefix(32))\"") }
            return { () throws(HTTPFailure) in try await content(call, session, object) }
        }
        guard path.count == 1 else { throw Self.noPath(call) }
        switch path[0] {
        case "lease":
            try allow([.get], call)
            return { () throws(HTTPFailure) in try await lease(call, session) }
        case "submit":
            try allow([.post], call)
            return { () throws(HTTPFailure) in try await submit(call, session) }
        case "wait":
            try allow([.post], call)
            return { () throws(HTTPFailure) in try await wait(call, session) }
        case "results":
            try allow([.post], call)
            return { () throws(HTTPFailure) in try await results(call, session) }
        case "info":
            try allow([.post], call)
            return { () throws(HTTPFailure) in try await info(call, session) }
        case "keep", "unkeep":
            try allow([.post], call)
            let isKept = path[0] == "keep"
            return { () throws(HTTPFailure) in try await setKept(call, session, isKept) }
        case "cancel":
            try allow([.post], call)
            return { () throws(HTTPFailure) in try await cancel(call, session) }
        default: throw Self.noPath(call)
        }
    }

    private func allow(_ methods: [HTTPRequest.Method], _ call: Call) throws(HTTPFailure) {
        if methods.contains(call.method) { return }
        let list = methods.map(\.rawValue).joined(separator: ", ")
        var failure = HTTPFailure(.methodNotAllowed, "method_not_allowed", "\(call.method.rawValue) means nothing here: use \(list)")
        failure.headers[.allow] = list
        throw failure
    }

    private static func noPath(_ call: Call) -> HTTPFailure {
        HTTPFailure(.notFound, "unknown_path", "there is no /\(call.path.joined(separator: "/").prefix(200)): see /api/openapi.json")
    }

    private func authorize(_ call: Call) throws(HTTPFailure) {
        let what: String
        if let header = call.request.headers[.authorization] {
            let parts = header.split(separator: " ", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == "bearer", isEqualInConstantTime(parts[1].utf8, token) { return }
            what = "the token is not that of this server"
        } else {
            what = "the request has no token"
        }
        var failure = HTTPFailure(
            .unauthorized, "unauthorized",
            "\(what): send \"Authorization: Bearer TOKEN\" with the token of this server's access.toml (rain status --json shows where it is)")
        failure.headers[.wwwAuthenticate] = "Bearer realm=\"rain\""
        throw failure
    }

    // MARK: Requests to the reactor

    /// Asks the reactor, and waits for its answer.
    ///
    /// - Parameters:
    ///   - timeoutMilliseconds: after which the request is taken back; only for one that the core can forget.
    ///   - canWithdraw: the request is taken back when its client is gone.
    /// - Returns: `nil` when the time was over.
    func ask(
        _ call: Call, canWithdraw: Bool = false, timeoutMilliseconds: UInt64? = nil, _ event: (RequestID) -> ServerEvent
    ) async throws(HTTPFailure) -> ServerReply? {
        let request = inbox.nextRequest()
        let event = event(request)
        let inbox = inbox
        var token: Int?
        var timer: Scheduled<Void>?
        let answer = await withCheckedContinuation { continuation in
            inbox.post(.request(request, event, continuation))
            if canWithdraw { token = call.watch.onEnd { inbox.post(.withdraw(request)) } }
            if let timeoutMilliseconds {
                timer = call.loop.scheduleTask(in: .milliseconds(Int64(clamping: min(timeoutMilliseconds, 1 << 40)))) { inbox.post(.withdraw(request)) }
            }
        }
        if let token { call.watch.forget(token) }
        timer?.cancel()
        switch answer {
        case .reply(.refused(let error)): throw HTTPFailure(error)
        case .reply(let reply): return reply
        case .withdrawn:
            if call.watch.isGone { throw .clientGone }
            return nil
        case .stopping: throw .stopping
        }
    }

    /// As `ask`, for what has no time-out.
    func reply(_ call: Call, canWithdraw: Bool = false, _ event: (RequestID) -> ServerEvent) async throws(HTTPFailure) -> ServerReply {
        guard let reply = try await ask(call, canWithdraw: canWithdraw, event) else { throw .clientGone }
        return reply
    }

    /// An answer that doesn't belong to its question is our bug, but a client can't be blamed with a trap.
    static func mismatch(_ reply: ServerReply) -> HTTPFailure {
        HTTPFailure(.internalServerError, "internal_error", "the core gave an unexpected answer; please report this")
    }

    // MARK: Bodies

    /// Bodies are taken as they are: what is packed would be misread, and unpacked it has no limit.
    private static func checkEncoding(_ request: Request) throws(HTTPFailure) {
        guard let encoding = request.headers[.contentEncoding], !encoding.isEmpty, encoding.lowercased() != "identity" else { return }
        throw .badRequest("the body has the content encoding \"\(encoding.prefix(32))\": send it as it is")
    }

    /// The body of a call with JSON; empty when there is none.
    func body(_ call: Call) async throws(HTTPFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        do {
            for try await buffer in call.request.body {
                guard bytes.count + buffer.readableBytes <= Self.jsonBytesMax else {
                    throw HTTPFailure(.contentTooLarge, "too_large", "the body is larger than \(Self.jsonBytesMax >> 20) MiB: ask in parts")
                }
                bytes.append(contentsOf: buffer.readableBytesView)
            }
        } catch let error as HTTPFailure {
            throw error
        } catch {
            throw .clientGone
        }
        return bytes
    }

    static func json(_ bytes: [UInt8], status: HTTPResponse.Status = .ok) -> Response {
        Response(status: status, headers: [.contentType: "application/json"], body: .init(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    static func json(status: HTTPResponse.Status = .ok, _ build: (inout JSONWriter) -> Void) -> Response {
        var writer = JSONWriter()
        build(&writer)
        writer.raw("\n")
        return json(writer.bytes, status: status)
    }
}

/// What the status says of the server itself.
struct ServerDescription: Sendable {
    var version: String
    var host: String
    var pid: Int32
    /// Where workers join.
    var controlPort: UInt16
    var started: Instant
}

extension UInt32 {
    /// Decimal digits only, as ids are written in paths.
    init?(decimal text: some StringProtocol) {
        guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }) else { return nil }
        self.init(String(text))
    }
}

/// The value of a query parameter, percent-decoded.
extension ClientPlane.Call {
    func parameter(_ name: String) throws(HTTPFailure) -> String? {
        for pair in query.split(separator: "&") where pair == name || pair.hasPrefix(name + "=") {
            let value = pair.dropFirst(name.utf8.count + 1)
            guard let decoded = percentDecoded(value) else { throw .badRequest("the query parameter \(name) is not well encoded") }
            return decoded
        }
        return nil
    }
}

func percentDecoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
        guard byte == UInt8(ascii: "%") else {
            bytes.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
            continue
        }
        guard rest.count >= 2, let high = rest.popFirst().flatMap(hexDigit), let low = rest.popFirst().flatMap(hexDigit) else { return nil }
        bytes.append(high << 4 | low)
    }
    return String(validating: bytes, as: UTF8.self)
}

private func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
}
