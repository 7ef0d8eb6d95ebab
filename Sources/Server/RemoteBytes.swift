import HummingbirdCore
import Logging
import NIOCore
import ServerCore
import TaskModel
import Transport

/// The bytes of an object that workers have, on their way to a client.
///
/// When a worker breaks off, another holder of the same generation goes on where it was. The whole is checked before its last piece is
/// sent: a client never gets a full answer with wrong bytes.
///
/// `@unchecked Sendable`: used by one request, one step after the other.
final class RemoteBytes: @unchecked Sendable {
    private let plane: ClientPlane
    private let call: ClientPlane.Call
    private let replica: Replica
    private let sizeBytes: UInt64
    private var endpoints: [Endpoint]
    private var connection: HolderConnection?
    /// Of the whole object, from its holder; `nil` for a part.
    private(set) var checksum: Checksum.Digest?

    init(_ plane: ClientPlane, _ call: ClientPlane.Call, _ replica: Replica, _ endpoints: [Endpoint], sizeBytes: UInt64) {
        self.plane = plane
        self.call = call
        self.replica = replica
        self.endpoints = endpoints
        self.sizeBytes = sizeBytes
    }

    deinit { connection?.close() }

    /// Asks one holder after the other for these bytes.
    func open(_ range: Range<UInt64>) async throws(HolderError) {
        connection?.close()
        connection = nil
        var last = HolderError.unreachable(Endpoint(host: "", port: 0), reason: "no worker is known to have it")
        for endpoint in endpoints {
            do throws(HolderError) {
                let connection = try await plane.holders.connect(to: endpoint)
                let isWhole = range == 0..<sizeBytes
                let answer = try await connection.get(
                    plane.holders.target(replica), range: isWhole ? nil : range.lowerBound...range.upperBound - 1, wantsChecksum: isWhole)
                let count = range.upperBound - range.lowerBound
                guard answer.sizeBytes == count else { throw .broken(endpoint, reason: "it offers \(answer.sizeBytes) bytes instead of \(count)") }
                if isWhole {
                    guard let said = answer.checksum else { throw .broken(endpoint, reason: "an answer without a checksum") }
                    checksum = said
                }
                self.connection = connection
                return
            } catch {
                last = error
            }
        }
        throw last
    }

    /// Writes the bytes that `open` asked for to a client. An error after the first byte can only break the connection.
    func write(_ range: Range<UInt64>, to writer: inout any ResponseBodyWriter) async throws {
        let sum = Checksum()
        var offset = range.lowerBound
        var held: ByteBuffer?
        while offset < range.upperBound {
            do throws(HolderError) {
                guard let connection else { throw .unreachable(Endpoint(host: "", port: 0), reason: "no worker is known to have it") }
                guard let buffer = try await connection.next(), UInt64(buffer.readableBytes) <= range.upperBound - offset else {
                    throw .broken(connection.endpoint, reason: "another length than it announced")
                }
                offset += UInt64(buffer.readableBytes)
                if checksum != nil { buffer.withUnsafeReadableBytes { sum.update($0) } }
                if let ready = held.take() {
                    held = buffer
                    try await pass(ready, to: &writer)
                } else {
                    held = buffer
                }
            } catch {
                if case .clientGone = error { throw error }
                try await goOn(offset..<range.upperBound, after: error)
            }
        }
        if let checksum, sum.digest != checksum {
            let error = HolderError.spoiled(connection?.endpoint ?? Endpoint(host: "", port: 0), replica, found: sum.digest, said: checksum)
            plane.logger.error("\(error): its client gets no whole answer")
            throw error
        }
        if let held { try await writer.write(held) }
        connection?.close()
    }

    private func pass(_ buffer: ByteBuffer, to writer: inout any ResponseBodyWriter) async throws(HolderError) {
        do { try await writer.write(buffer) } catch { throw .clientGone }
    }

    /// Looks for the same generation elsewhere, as long as it takes to notice that a worker is gone.
    private func goOn(_ rest: Range<UInt64>, after failure: HolderError) async throws {
        var failure = failure
        var delay = Int64(100)
        while true {
            do throws(HolderError) { return try await open(rest) } catch { failure = error }
            guard delay <= 3200, !call.watch.isGone else { throw failure }
            try await Task.sleep(for: .milliseconds(delay))
            delay *= 2
            let found = try await plane.find(call, replica.object.session, replica.object.index)
            guard case .remote(replica, let endpoints) = found.place else { throw failure }  // Made again: these would be other bytes.
            self.endpoints = endpoints
        }
    }
}
