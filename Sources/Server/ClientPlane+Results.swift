import HTTPTypes
import HummingbirdCore
import NIOCore
import ServerCore
import Synchronization
import TaskModel
import Transport

/// One object of a bulk answer.
private struct ResultRow {
    var object: UInt32
    var status: ObjectRow.Status
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
        let isBinary = call.request.headers[.accept]?.contains(ObjectRow.contentType) == true
        let hasChecksum = call.request.headers[Self.fieldRainChecksum] != nil
        let traffic = traffic
        let body = ResponseBody { writer in
            let reader = BulkReader(plane: self, call: call, session: session)
            defer { reader.close() }
            let checksum = Checksum()
            var piece = JSONWriter()
            if !isBinary { piece.raw("{\"objects\":[") }
            for (position, object) in objects.enumerated() {
                await reader.readAhead(locations, from: position)
                let row = await self.row(object, locations[position], reader)
                traffic.toClientsBytes.add(UInt64(row.status == .ok ? row.bytes.count : 0), ordering: .relaxed)
                if isBinary {
                    piece.rainRow(row)
                } else {
                    if position > 0 { piece.raw(",") }
                    piece.jsonRow(row)
                }
                if piece.bytes.count >= Self.pieceBytes {
                    if hasChecksum { piece.bytes.withUnsafeBytes { checksum.update($0) } }
                    try await writer.write(ByteBuffer(bytes: piece.bytes))
                    piece = JSONWriter()
                }
            }
            if !isBinary { piece.raw("]}\n") }
            if !piece.bytes.isEmpty { try await writer.write(ByteBuffer(bytes: piece.bytes)) }
            if hasChecksum { piece.bytes.withUnsafeBytes { checksum.update($0) } }
            try await writer.finish(hasChecksum ? [Self.fieldRainChecksum: checksum.digest.description] : nil)
        }
        return Response(status: .ok, headers: [.contentType: isBinary ? ObjectRow.contentType : "application/json"], body: body)
    }

    private func row(_ object: UInt32, _ location: ObjectLocation, _ reader: BulkReader) async -> ResultRow {
        var row = ResultRow(object: object, status: .ok)
        var location = await reader.isStale(location) ? reader.locateAgain(object) ?? location : location
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
                if delay <= 3200, !reader.call.watch.isGone, !reader.isOver {
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
    /// Holders that did not give what they were asked for. What they were said to have is looked for anew before it is asked for: when a
    /// worker is lost, all its objects are elsewhere at once.
    private var failed: Set<Endpoint> = []
    /// The session can't say any more where anything is.
    private(set) var isOver = false
    /// What came in company, and the position up to which it was looked for.
    private var ahead: [Replica: [UInt8]] = [:]
    private var aheadEnd = 0
    private static let aheadCountMax = 1024
    /// Of objects of other places in between.
    private static let aheadSpanMax = 4096
    private static let aheadBytesMax: UInt64 = 1 << 20
    private static let aheadObjectBytesMax: UInt64 = 64 << 10

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
            if let bytes = ahead.removeValue(forKey: replica), UInt64(bytes.count) == found.sizeBytes { return bytes }
            var last = HolderError.unreachable(Endpoint(host: "", port: 0), reason: "no worker is known to have it")
            for endpoint in endpoints {
                do throws(HolderError) {
                    let bytes = try await fetch(replica, from: endpoint, found.sizeBytes)
                    failed.remove(endpoint)
                    return bytes
                } catch {
                    failed.insert(endpoint)
                    // What is left of a broken answer would be taken for the next.
                    connections.removeValue(forKey: endpoint)?.close()
                    last = error
                }
            }
            throw last
        }
    }

    private func fetch(_ replica: Replica, from endpoint: Endpoint, _ sizeBytes: UInt64) async throws(HolderError) -> [UInt8] {
        try await connection(to: endpoint).getAll(plane.holders.target(replica), replica, sizeBytes: sizeBytes)
    }

    private func connection(to endpoint: Endpoint) async throws(HolderError) -> HolderConnection {
        if let open = connections[endpoint] { return open }
        let connection = try await plane.holders.connect(to: endpoint)
        connections[endpoint] = connection
        return connection
    }

    // MARK: Many at once

    /// When the object at this position is one of a worker's that has not been read yet, reads it with those behind it that the same worker
    /// has, in one request. What doesn't come that way is read by itself.
    func readAhead(_ locations: [ObjectLocation], from position: Int) async {
        guard position >= aheadEnd, case .remote(_, let endpoints, let sizeBytes, _, _) = locations[position], sizeBytes <= Self.aheadObjectBytesMax,
            let endpoint = endpoints.first, !failed.contains(endpoint)
        else { return }
        ahead = [:]
        var replicas: [Replica] = []
        var byteCount: UInt64 = 0
        var end = position
        while end < locations.count, replicas.count < Self.aheadCountMax, end - position < Self.aheadSpanMax {
            defer { end += 1 }
            guard case .remote(let replica, let others, let sizeBytes, _, _) = locations[end], others.first == endpoint,
                sizeBytes <= Self.aheadObjectBytesMax, sizeBytes > 0
            else { continue }
            if byteCount + sizeBytes > Self.aheadBytesMax { break }
            byteCount += sizeBytes
            replicas.append(replica)
        }
        aheadEnd = end
        guard replicas.count > 1 else { return }
        do throws(HolderError) {
            let body = ObjectList.body(
                replicas.map { replica in
                    ObjectList.Entry(
                        session: replica.object.session.rawValue, index: replica.object.index, epoch: replica.generation.epoch.rawValue,
                        number: replica.generation.number)
                })
            var position = 0
            try await connection(to: endpoint).getMany(plane.holders.target(ofList: body), body, bytesMax: Self.aheadObjectBytesMax) { row in
                defer { position += 1 }
                if position < replicas.count, row.status == .ok, row.object == replicas[position].object.index { ahead[replicas[position]] = row.bytes }
            }
        } catch {
            // What is left of a broken answer would be taken for the next. What did not come is asked for again, where it may come from elsewhere.
            failed.insert(endpoint)
            connections.removeValue(forKey: endpoint)?.close()
        }
    }

    /// Whether all that were said to have the object have failed meanwhile.
    func isStale(_ location: ObjectLocation) -> Bool {
        guard !isOver, case .remote(_, let endpoints, _, _, _) = location, !endpoints.isEmpty else { return false }
        return endpoints.allSatisfy { failed.contains($0) }
    }

    /// - Returns: `nil` when the session can't say, or not soon.
    func locateAgain(_ object: UInt32) async -> ObjectLocation? {
        let selection = ObjectSelection(ranges: [object..<object + 1])
        do throws(HTTPFailure) {
            let reply = try await plane.ask(call, canWithdraw: true, timeoutMilliseconds: 10_000) { [session] in .locate($0, session, selection) }
            guard case .located(let locations)? = reply else { return nil }
            return locations.first
        } catch {
            isOver = true  // It was closed, or has failed.
            return nil
        }
    }

    func close() {
        for (_, connection) in connections { connection.close() }
        connections = [:]
    }
}

extension JSONWriter {
    /// As docs/rest-api.md has it; the writer is only a growing array here.
    fileprivate mutating func rainRow(_ row: ResultRow) {
        var bytes: [UInt8] = []
        ObjectRow(
            object: row.object, status: row.status, isDirectory: row.isDirectory, contentType: row.contentType, sizeBytes: row.sizeBytes, bytes: row.bytes
        ).append(to: &bytes, hasChecksum: false)
        raw(bytes)
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
