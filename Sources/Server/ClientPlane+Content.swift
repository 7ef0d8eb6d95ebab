import HTTPTypes
import HummingbirdCore
import NIOCore
import ServerCore
import Synchronization
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
    static let fieldRainChecksum = HTTPField.Name(Checksum.header)!

    /// - Parameter isForWorker: only what the depot holds is given.
    func content(_ call: Call, _ session: SessionID, _ object: UInt32, isForWorker: Bool = false) async throws(HTTPFailure) -> Response {
        var found = try await find(call, session, object)
        let isHead = call.method == .head
        var delay = Int64(100)
        while true {
            if isForWorker, case .remote = found.place {
                throw HTTPFailure(.notFound, "unknown_object", "object \(object) of session \(session) was not uploaded: workers hold it")
            }
            let range = requestedRange(call, found)
            if case .unsatisfiable = range { throw Self.unsatisfiable(found.sizeBytes) }
            do throws(HolderError) {
                return try await serve(call, found, range, isHead: isHead, isForWorker: isForWorker)
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
    func find(_ call: Call, _ session: SessionID, _ object: UInt32) async throws(HTTPFailure) -> FoundObject {
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

    private func serve(_ call: Call, _ found: FoundObject, _ range: ByteRange, isHead: Bool, isForWorker: Bool) async throws(HolderError) -> Response {
        let asked: ClosedRange<UInt64>? = if case .part(let part) = range { part } else { nil }
        let bytes = asked.map { $0.lowerBound..<$0.upperBound + 1 } ?? 0..<found.sizeBytes
        let byteCount = bytes.upperBound - bytes.lowerBound
        var headers: HTTPFields = [
            .eTag: found.tag, .acceptRanges: "bytes", .contentLength: String(byteCount),
            .contentType: found.isDirectory ? "application/x-tar" : Self.mimeType(found.contentType),
        ]
        if !found.contentType.isEmpty { headers[Self.fieldRainContentType] = found.contentType }
        if let asked { headers[.contentRange] = "bytes \(asked.lowerBound)-\(asked.upperBound)/\(found.sizeBytes)" }
        let status: HTTPResponse.Status = asked == nil ? .ok : .partialContent
        if isHead { return Response(status: status, headers: headers) }
        // An empty object needs nobody's bytes, and an empty range can't be asked for.
        let source = bytes.isEmpty ? .memory([]) : try await open(call, found, bytes)
        if call.request.headers[Self.fieldRainChecksum] != nil, let checksum = try await checksum(of: source, found) {
            headers[Self.fieldRainChecksum] = checksum.description
        }
        let depot = depot
        let traffic = traffic
        let body = ResponseBody(contentLength: Int(clamping: byteCount)) { writer in
            try await source.write(bytes, to: &writer, depot)
            if isForWorker {
                traffic.toWorkersBytes.add(byteCount, ordering: .relaxed)
            } else {
                traffic.toClientsBytes.add(byteCount, ordering: .relaxed)
            }
            try await writer.finish(nil)
        }
        return Response(status: status, headers: headers, body: body)
    }

    /// Of the whole object.
    private func checksum(of source: ObjectBytes, _ found: FoundObject) async throws(HolderError) -> Checksum.Digest? {
        switch (source, found.place) {
        case (.memory, .inline(let bytes)): return Checksum.of(bytes)
        case (.memory, _): return found.sizeBytes == 0 ? Checksum.of([]) : nil
        case (.worker(let remote), _): return remote.checksum
        case (.file(let file), .blob(let hash)):
            do throws(HTTPFailure) { return try await depot.checksum(of: hash, in: file) } catch {
                throw .unreachable(Endpoint(host: "", port: 0), reason: error.message)
            }
        case (.file, _): return nil
        }
    }

    private func open(_ call: Call, _ found: FoundObject, _ range: Range<UInt64>) async throws(HolderError) -> ObjectBytes {
        switch found.place {
        case .inline(let bytes): return .memory(bytes)
        case .blob(let hash):
            do throws(HTTPFailure) {
                return .file(try await depot.run { () throws(HTTPFailure) in try DepotFile(path: depot.path(of: hash)) })
            } catch {
                throw .unreachable(Endpoint(host: "", port: 0), reason: error.message)
            }
        case .remote(let replica, let endpoints):
            let locator = RemoteBytes.Locator(
                isForgotten: { call.watch.isGone },
                endpoints: {
                    guard case .remote(replica, let endpoints) = try await find(call, replica.object.session, replica.object.index).place else { return [] }
                    return endpoints
                })
            let remote = RemoteBytes(replica, sizeBytes: found.sizeBytes, at: endpoints, holders, locator, logger)
            try await remote.open(range)
            return .worker(remote)
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

    /// The depot is a holder like a worker: `/objects/{session}/{index}/0-0?expires=E&mac=M`, without a bearer token; and lists of them.
    func routeHolder(_ call: Call) throws(HTTPFailure) -> Handler {
        if call.path.count == 1, call.method == .post { return { () throws(HTTPFailure) in try await rows(call) } }
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
        try Self.check(DataTicket.verify(path: path, expires: expires, mac: mac, secret: dataSecret, now: unixSeconds()))
        return { () throws(HTTPFailure) in try await content(call, SessionID(session), index, isForWorker: true) }
    }

    /// Many uploads in one answer.
    private func rows(_ call: Call) async throws(HTTPFailure) -> Response {
        let body = try await body(call)
        guard body.count <= ObjectList.bytesMax else {
            throw HTTPFailure(.contentTooLarge, "too_large", "a list has at most \(ObjectList.countMax) objects: ask in parts")
        }
        guard let expires = try call.parameter("expires").flatMap({ UInt64($0) }), let mac = try call.parameter("mac") else {
            throw HTTPFailure(.unauthorized, "unauthorized", "a request for uploads carries expires and mac: tickets are made by this server's workers")
        }
        try Self.check(ObjectList.verify(body, expires: expires, mac: mac, secret: dataSecret, now: unixSeconds()))
        guard let entries = ObjectList.entries(body) else {
            throw .badRequest("the list is one to \(ObjectList.countMax) lines SESSION/INDEX/EPOCH-NUMBER")
        }
        let rows = DepotRows(try await uploads(call, entries), depot)
        let traffic = traffic
        let responseBody = ResponseBody { writer in
            var rows = rows
            while !rows.isEmpty {
                let before = rows
                let next = try await depot.run { () throws(HTTPFailure) in try before.next() }
                rows = next.rest
                traffic.toWorkersBytes.add(next.objectBytes, ordering: .relaxed)
                try await writer.write(ByteBuffer(bytes: next.piece))
            }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: ObjectRow.contentType], body: responseBody)
    }

    /// One question to the reactor for each run of objects of one session.
    private func uploads(_ call: Call, _ entries: [ObjectList.Entry]) async throws(HTTPFailure) -> [(object: UInt32, found: FoundObject?)] {
        var found: [(object: UInt32, found: FoundObject?)] = []
        found.reserveCapacity(entries.count)
        var start = 0
        while start < entries.count {
            let run = entries[start...].prefix { $0.session == entries[start].session && $0.epoch == 0 && $0.number == 0 && $0.index < .max }
            if run.isEmpty {
                found.append((entries[start].index, nil))
                start += 1
                continue
            }
            var ranges: [Range<UInt32>] = []
            for entry in run {
                if let last = ranges.last, last.upperBound == entry.index {
                    ranges[ranges.count - 1] = last.lowerBound..<entry.index + 1
                } else {
                    ranges.append(entry.index..<entry.index + 1)
                }
            }
            let selection = ObjectSelection(ranges: ranges)
            let session = SessionID(entries[start].session)
            // An unknown session, or an object that it doesn't have: nothing of the run is here.
            let reply = try? await reply(call, canWithdraw: true, { .locate($0, session, selection) })
            if case .located(let locations)? = reply, locations.count == run.count {
                for (entry, location) in zip(run, locations) { found.append((entry.index, FoundObject(location))) }
            } else {
                for entry in run { found.append((entry.index, nil)) }
            }
            start += run.count
        }
        return found
    }

    private static func check(_ verdict: DataTicket.Verdict) throws(HTTPFailure) {
        switch verdict {
        case .valid: break
        case .expired: throw HTTPFailure(.unauthorized, "ticket_expired", "the ticket has expired: make a new one")
        case .forged: throw HTTPFailure(.unauthorized, "unauthorized", "the ticket was not made with the secret of this server")
        }
    }
}
