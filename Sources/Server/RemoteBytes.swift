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
    /// Who knows where it is now.
    struct Locator: Sendable {
        /// Whether the one who asked is gone.
        var isForgotten: @Sendable () -> Bool
        /// The holders of the very generation; empty when there is another one by now.
        var endpoints: @Sendable () async throws -> [Endpoint]
    }

    private let holders: HolderClient
    private let locator: Locator
    private let logger: Logger
    private let replica: Replica
    private let sizeBytes: UInt64
    private var endpoints: [Endpoint]
    private var connection: HolderConnection?
    /// Of the whole object, from its holder; `nil` for a part.
    private(set) var checksum: Checksum.Digest?

    init(_ replica: Replica, sizeBytes: UInt64, at endpoints: [Endpoint], _ holders: HolderClient, _ locator: Locator, _ logger: Logger) {
        self.replica = replica
        self.sizeBytes = sizeBytes
        self.endpoints = endpoints
        self.holders = holders
        self.locator = locator
        self.logger = logger
    }

    deinit { connection?.close() }

    /// Asks one holder after the other for these bytes.
    func open(_ range: Range<UInt64>) async throws(HolderError) {
        connection?.close()
        connection = nil
        var last = HolderError.unreachable(Endpoint(host: "", port: 0), reason: "no worker is known to have it")
        for endpoint in endpoints {
            do throws(HolderError) {
                let connection = try await holders.connect(to: endpoint)
                let isWhole = range == 0..<sizeBytes
                let answer = try await connection.get(
                    holders.target(replica), range: isWhole ? nil : range.lowerBound...range.upperBound - 1, wantsChecksum: isWhole)
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

    /// Passes on the bytes that `open` asked for. An error after the first byte can only break the client's connection.
    func pass(_ range: Range<UInt64>, _ write: (ByteBuffer) async throws -> Void) async throws {
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
                    do { try await write(ready) } catch { throw .clientGone }
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
            logger.error("\(error): its client gets no whole answer")
            throw error
        }
        if let held { try await write(held) }
        connection?.close()
    }

    /// Looks for the same generation elsewhere, as long as it takes to notice that a worker is gone.
    private func goOn(_ rest: Range<UInt64>, after failure: HolderError) async throws {
        var failure = failure
        var delay = Int64(100)
        while true {
            do throws(HolderError) { return try await open(rest) } catch { failure = error }
            guard delay <= 3200, !locator.isForgotten() else { throw failure }
            try await Task.sleep(for: .milliseconds(delay))
            delay *= 2
            let found = try await locator.endpoints()
            if found.isEmpty { throw failure }  // Made again: these would be other bytes.
            endpoints = found
        }
    }
}
