import HTTPTypes
import HummingbirdCore
import NIOCore
import ServerCore
import TaskModel
import Transport

/// An object that exists, and where its bytes are.
struct FoundObject: Sendable {
    enum Place: Sendable {
        case inline([UInt8])
        case blob(BlobHash)
        case remote(Replica, [Endpoint])
    }
    var place: Place
    var sizeBytes: UInt64
    var contentType: String
    var isDirectory: Bool

    /// - Returns: `nil` for an object that doesn't exist (any more).
    init?(_ location: ObjectLocation) {
        switch location {
        case .inline(let bytes, let contentType, let isDirectory):
            (place, sizeBytes) = (.inline(bytes), UInt64(bytes.count))
            (self.contentType, self.isDirectory) = (contentType, isDirectory)
        case .blob(let hash, let sizeBytes, let contentType, let isDirectory):
            (place, self.sizeBytes) = (.blob(hash), sizeBytes)
            (self.contentType, self.isDirectory) = (contentType, isDirectory)
        case .remote(let replica, let endpoints, let sizeBytes, let contentType, let isDirectory):
            (place, self.sizeBytes) = (.remote(replica, endpoints), sizeBytes)
            (self.contentType, self.isDirectory) = (contentType, isDirectory)
        case .dropped, .failed, .cancelled: return nil
        }
    }

    /// Names these bytes: the generation, or a hash of them.
    var tag: String {
        switch place {
        case .inline(let bytes): "\"\(contentTag(bytes))\""
        case .blob(let hash): "\"\(hash)\""
        case .remote(let replica, _): "\"\(replica.generation)\""
        }
    }
}

extension ClientPlane {
    static let fieldRainContentType = HTTPField.Name("Rain-Content-Type")!

    func content(_ call: Call, _ session: SessionID, _ object: UInt32) async throws(HTTPFailure) -> Response {
        var found = try await find(call, session, object)
        let isHead = call.method == .head
        var delay = Int64(100)
        while true {
            let range = requestedRange(call, found)
            if case .unsatisfiable = range { throw Self.unsatisfiable(found.sizeBytes) }
            do throws(HolderError) {
                return try await serve(found, range, isHead: isHead)
            } catch {
                // The worker may be gone without anybody knowing yet: then the object is made again, elsewhere.
                if delay > 3200 || call.watch.isGone { throw Self.unavailable(session, object, error) }
                try? await Task.sleep(for: .milliseconds(delay))
                delay *= 2
                found = try await find(call, session, object)
            }
        }
    }

    /// Waits for the object.
    private func find(_ call: Call, _ session: SessionID, _ object: UInt32) async throws(HTTPFailure) -> FoundObject {
        let (end, overflow) = object.addingReportingOverflow(1)
        if overflow { throw HTTPFailure(RequestError(.unknownObject, "there is no object \(object)")) }
        let selection = ObjectSelection(ranges: [object..<end])
        guard case .located(let locations) = try await reply(call, canWithdraw: true, { .locate($0, session, selection) }),
            let location = locations.first
        else { throw Self.mismatch(.done) }
        if let found = FoundObject(location) { return found }
        switch location {
        case .failed(_, let failure):
            throw HTTPFailure(
                .conflict, RequestError.Code.taskFailed.rawValue, "object \(object) was never made: task \(failure.name) failed: \(failure.error.message)",
                failure: failure)
        case .cancelled: throw HTTPFailure(.conflict, RequestError.Code.cancelled.rawValue, "object \(object) was never made: its task was cancelled")
        default:
            throw HTTPFailure(.conflict, RequestError.Code.objectDropped.rawValue, "object \(object) is gone: keep it before it is made, to fetch it later")
        }
    }

    private func requestedRange(_ call: Call, _ found: FoundObject) -> ByteRange {
        if let tag = call.request.headers[HTTPField.Name("If-Range")!], tag != found.tag { return .whole }
        return ByteRange(call.request.headers[.range], sizeBytes: found.sizeBytes)
    }

    private static func unsatisfiable(_ sizeBytes: UInt64) -> HTTPFailure {
        var failure = HTTPFailure(.rangeNotSatisfiable, "bad_range", "the range is outside of the object's \(sizeBytes) bytes")
        failure.headers[.contentRange] = "bytes */\(sizeBytes)"
        return failure
    }

    static func unavailable(_ session: SessionID, _ object: UInt32, _ error: HolderError) -> HTTPFailure {
        HTTPFailure(
            .serviceUnavailable, "object_unavailable", "object \(object) of session \(session) can't be fetched now: \(error); try again")
    }

    private func serve(_ found: FoundObject, _ range: ByteRange, isHead: Bool) async throws(HolderError) -> Response {
        let asked: ClosedRange<UInt64>? = if case .part(let part) = range { part } else { nil }
        let bytes = asked.map { $0.lowerBound..<$0.upperBound + 1 } ?? 0..<found.sizeBytes
        let byteCount = bytes.upperBound - bytes.lowerBound
        var headers: HTTPFields = [
            .eTag: found.tag, .acceptRanges: "bytes", .contentLength: String(byteCount), .contentType: Self.mimeType(found.contentType),
        ]
        if !found.contentType.isEmpty { headers[Self.fieldRainContentType] = found.contentType }
        if let asked { headers[.contentRange] = "bytes \(asked.lowerBound)-\(asked.upperBound)/\(found.sizeBytes)" }
        let status: HTTPResponse.Status = asked == nil ? .ok : .partialContent
        if isHead { return Response(status: status, headers: headers) }
        // An empty object needs nobody's bytes, and an empty range can't be asked for.
        let source = bytes.isEmpty ? .memory([]) : try await open(found, asked)
        let depot = depot
        let body = ResponseBody(contentLength: Int(clamping: byteCount)) { writer in
            try await source.write(bytes, to: &writer, depot)
            try await writer.finish(nil)
            if case .worker(let connection, _) = source { connection.close() }
        }
        return Response(status: status, headers: headers, body: body)
    }

    private func open(_ found: FoundObject, _ range: ClosedRange<UInt64>?) async throws(HolderError) -> ObjectBytes {
        switch found.place {
        case .inline(let bytes): return .memory(bytes)
        case .blob(let hash):
            do throws(HTTPFailure) {
                return .file(try await depot.run { () throws(HTTPFailure) in try DepotFile(path: depot.path(of: hash)) })
            } catch {
                throw .unreachable(Endpoint(host: "", port: 0), reason: error.message)
            }
        case .remote(let replica, let endpoints):
            var last = HolderError.unreachable(Endpoint(host: "", port: 0), reason: "no worker is known to have it")
            for endpoint in endpoints {
                do throws(HolderError) {
                    let connection = try await holders.connect(to: endpoint)
                    let count = try await connection.get(holders.target(replica), range: range)
                    let expected = range.map { $0.upperBound - $0.lowerBound + 1 } ?? found.sizeBytes
                    guard count == expected else { throw .broken(endpoint, reason: "it offers \(count) bytes instead of \(expected)") }
                    return .worker(connection, replica)
                } catch {
                    last = error
                }
            }
            throw last
        }
    }

    /// What other programs call a content type; the name that was given is in `Rain-Content-Type`.
    static func mimeType(_ contentType: String) -> String {
        switch contentType {
        case "text", "text-utf-8", "text-utf8": "text/plain; charset=utf-8"
        case "json": "application/json"
        case "cbor": "application/cbor"
        case "dir": "application/x-tar"
        default: contentType.hasPrefix("mime/") ? String(contentType.dropFirst(5)) : "application/octet-stream"
        }
    }

    // MARK: Uploads, for workers

    /// The depot is a holder like a worker: `/objects/{session}/{index}/0-0?expires=E&mac=M`, without a bearer token.
    func routeHolder(_ call: Call) throws(HTTPFailure) -> Handler {
        guard call.path.count == 4, let session = UInt32(decimal: call.path[1]), let index = UInt32(decimal: call.path[2]), call.path[3] == "0-0" else {
            throw HTTPFailure(.notFound, "unknown_path", "the server holds uploads alone: /objects/{session}/{index}/0-0")
        }
        guard call.method == .get || call.method == .head else {
            var failure = HTTPFailure(.methodNotAllowed, "method_not_allowed", "\(call.method.rawValue) means nothing here: use GET, HEAD")
            failure.headers[.allow] = "GET, HEAD"
            throw failure
        }
        guard let expires = try call.parameter("expires").flatMap({ UInt64($0) }), let mac = try call.parameter("mac") else {
            throw HTTPFailure(.unauthorized, "unauthorized", "a request for an upload carries expires and mac: tickets are made by this server's workers")
        }
        let path = DataTicket.path(session: session, index: index, epoch: 0, number: 0)
        switch DataTicket.verify(path: path, expires: expires, mac: mac, secret: dataSecret, now: unixSeconds()) {
        case .valid: break
        case .expired: throw HTTPFailure(.unauthorized, "ticket_expired", "the ticket has expired: make a new one")
        case .forged: throw HTTPFailure(.unauthorized, "unauthorized", "the ticket is not of this server and this start of it")
        }
        return { () throws(HTTPFailure) in try await content(call, SessionID(session), index) }
    }
}
