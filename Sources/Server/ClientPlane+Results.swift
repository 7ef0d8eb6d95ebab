import HTTPTypes
import HummingbirdCore
import NIOCore
import ServerCore
import TaskModel

/// One object of a bulk answer.
private struct ResultRow {
    enum Status: UInt8 {
        case ok = 0, large, dropped, failed, cancelled
        /// No holder of it answers; the bytes are the reason.
        case unavailable

        var name: String {
            switch self {
            case .ok: "ok"
            case .large: "large"
            case .dropped: "dropped"
            case .failed: "failed"
            case .cancelled: "cancelled"
            case .unavailable: "unavailable"
            }
        }
    }
    var object: UInt32
    var status: Status
    var isDirectory = false
    var contentType = ""
    var sizeBytes: UInt64 = 0
    var bytes: [UInt8] = []
    var failure: TaskFailure?
}

extension ClientPlane {
    /// Larger objects are fetched one by one, with Range.
    private static let bulkBytesMax: UInt64 = 1 << 20
    /// Rows are joined to pieces of about this size before they are written.
    private static let pieceBytes = 128 << 10

    func results(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        let wanted = try RequestBodies.results(await body(call))
        let selection = wanted.objects
        let reply = try await ask(call, canWithdraw: true, timeoutMilliseconds: wanted.timeoutMilliseconds) { .locate($0, session, selection) }
        guard let reply else {
            throw HTTPFailure(.conflict, "timeout", "not all of the objects exist after \(wanted.timeoutMilliseconds ?? 0) ms: ask again")
        }
        guard case .located(let locations) = reply else { throw Self.mismatch(reply) }
        let objects = selection.ranges.flatMap { Array($0) }
        guard objects.count == locations.count else { throw Self.mismatch(reply) }
        let isBinary = call.request.headers[.accept]?.contains("application/x-rain-rows") == true
        let body = ResponseBody { writer in
            let reader = BulkReader(plane: self, call: call, session: session)
            defer { reader.close() }
            var piece = JSONWriter()
            if !isBinary { piece.raw("{\"objects\":[") }
            for (position, object) in objects.enumerated() {
                let row = await self.row(object, locations[position], reader)
                if isBinary {
                    piece.rainRow(row)
                } else {
                    if position > 0 { piece.raw(",") }
                    piece.jsonRow(row)
                }
                if piece.bytes.count >= Self.pieceBytes {
                    try await writer.write(ByteBuffer(bytes: piece.bytes))
                    piece = JSONWriter()
                }
            }
            if !isBinary { piece.raw("]}\n") }
            if !piece.bytes.isEmpty { try await writer.write(ByteBuffer(bytes: piece.bytes)) }
            try await writer.finish(nil)
        }
        return Response(status: .ok, headers: [.contentType: isBinary ? "application/x-rain-rows" : "application/json"], body: body)
    }

    private func row(_ object: UInt32, _ location: ObjectLocation, _ reader: BulkReader) async -> ResultRow {
        var row = ResultRow(object: object, status: .ok)
        var location = location
        var delay = Int64(100)
        while true {
            switch location {
            case .dropped: row.status = .dropped
            case .cancelled: row.status = .cancelled
            case .failed(_, let failure):
                row.status = .failed
                row.failure = failure
                var writer = JSONWriter()
                writer.failure(failure)
                row.bytes = writer.bytes
            case .inline, .blob, .remote: break
            }
            guard let found = FoundObject(location) else { return row }
            (row.isDirectory, row.contentType, row.sizeBytes) = (found.isDirectory, found.contentType, found.sizeBytes)
            if found.sizeBytes > Self.bulkBytesMax {
                row.status = .large
                return row
            }
            do throws(HolderError) {
                row.bytes = try await reader.bytes(of: found)
                return row
            } catch {
                if delay <= 3200, !reader.call.watch.isGone {
                    try? await Task.sleep(for: .milliseconds(delay))
                    delay *= 2
                    if let again = await reader.locateAgain(object) {
                        location = again
                        continue
                    }
                }
                row.status = .unavailable
                row.bytes = Array(error.description.utf8)
                return row
            }
        }
    }
}

/// Reads many small objects for one answer; keeps a connection to each worker meanwhile.
///
/// Used by one task alone.
private final class BulkReader {
    let plane: ClientPlane
    let call: ClientPlane.Call
    let session: SessionID
    private var connections: [Endpoint: HolderConnection] = [:]

    init(plane: ClientPlane, call: ClientPlane.Call, session: SessionID) {
        self.plane = plane
        self.call = call
        self.session = session
    }

    func bytes(of found: FoundObject) async throws(HolderError) -> [UInt8] {
        if found.sizeBytes == 0 { return [] }
        switch found.place {
        case .inline(let bytes): return bytes
        case .blob(let hash):
            let (depot, count) = (plane.depot, Int(found.sizeBytes))
            do throws(HTTPFailure) {
                let buffer = try await depot.run { () throws(HTTPFailure) in try DepotFile(path: depot.path(of: hash)).read(at: 0, count: count) }
                return Array(buffer.readableBytesView)
            } catch {
                throw .unreachable(Endpoint(host: "", port: 0), reason: error.message)
            }
        case .remote(let replica, let endpoints):
            var last = HolderError.unreachable(Endpoint(host: "", port: 0), reason: "no worker is known to have it")
            for endpoint in endpoints {
                do throws(HolderError) { return try await fetch(replica, from: endpoint, found.sizeBytes) } catch {
                    // What is left of a broken answer would be taken for the next.
                    connections.removeValue(forKey: endpoint)?.close()
                    last = error
                }
            }
            throw last
        }
    }

    private func fetch(_ replica: Replica, from endpoint: Endpoint, _ sizeBytes: UInt64) async throws(HolderError) -> [UInt8] {
        let connection: HolderConnection
        if let open = connections[endpoint] {
            connection = open
        } else {
            connection = try await plane.holders.connect(to: endpoint)
            connections[endpoint] = connection
        }
        let count = try await connection.get(plane.holders.target(replica), range: nil)
        guard count == sizeBytes else { throw .broken(endpoint, reason: "it offers \(count) bytes instead of \(sizeBytes)") }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(count))
        while let buffer = try await connection.next() { bytes.append(contentsOf: buffer.readableBytesView) }
        guard bytes.count == Int(count) else { throw .broken(endpoint, reason: "\(bytes.count) bytes instead of \(count)") }
        return bytes
    }

    /// - Returns: `nil` when the session can't say any more.
    func locateAgain(_ object: UInt32) async -> ObjectLocation? {
        let selection = ObjectSelection(ranges: [object..<object + 1])
        let reply = try? await plane.ask(call, canWithdraw: true, timeoutMilliseconds: 10_000) { [session] in .locate($0, session, selection) }
        guard case .located(let locations)?? = reply else { return nil }
        return locations.first
    }

    func close() {
        for (_, connection) in connections { connection.close() }
        connections = [:]
    }
}

extension JSONWriter {
    /// As docs/rest-api.md has it; the writer is only a growing array here.
    fileprivate mutating func rainRow(_ row: ResultRow) {
        let type = Array(row.contentType.utf8.prefix(65_535))
        littleEndian(row.object)
        littleEndian(row.status.rawValue)
        littleEndian(UInt8(row.isDirectory ? 1 : 0))
        littleEndian(UInt16(type.count))
        littleEndian(row.status == .large ? row.sizeBytes : UInt64(row.bytes.count))
        raw(type)
        raw(row.bytes)
    }

    private mutating func littleEndian(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { raw(Array($0)) }
    }

    fileprivate mutating func jsonRow(_ row: ResultRow) {
        object { writer in
            writer.key("object")
            writer.integer(row.object)
            writer.key("status")
            writer.string(row.status.name)
            switch row.status {
            case .ok:
                writer.key("data64")
                writer.base64(row.bytes)
            case .failed:
                writer.key("failure")
                writer.raw(row.bytes, otherwise: "null")
            case .unavailable:
                writer.key("message")
                writer.string(String(decoding: row.bytes, as: UTF8.self))
            case .large, .dropped, .cancelled: break
            }
            if row.status == .ok || row.status == .large {
                writer.key("content_type")
                writer.string(row.contentType)
                writer.key("size")
                writer.integer(row.sizeBytes)
                writer.key("directory")
                writer.bool(row.isDirectory)
            }
        }
    }
}
