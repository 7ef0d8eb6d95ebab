import CXXHash
import Glibc
import HTTPTypes
import HummingbirdCore
import NIOCore
import ServerCore
import TaskModel
import Transport

/// Where the bytes of an object come from, ready to be streamed.
enum ObjectBytes: Sendable {
    case memory([UInt8])
    case file(DepotFile)
    case worker(RemoteBytes)
}

/// A blob that is being read; a sweep may take its name meanwhile, not its bytes.
final class DepotFile: Sendable {
    private let descriptor: Int32
    private let path: String

    init(path: String) throws(HTTPFailure) {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .disk("open the blob \(path)", errno) }
    }

    deinit { close(descriptor) }

    func checksum() throws(HTTPFailure) -> Checksum.Digest {
        do throws(Checksum.ReadFailure) { return try Checksum.ofFile(descriptor) } catch { throw .disk("read the blob \(path)", error.code) }
    }

    func read(at offset: UInt64, count: Int) throws(HTTPFailure) -> ByteBuffer {
        var buffer = ByteBufferAllocator().buffer(capacity: count)
        var code: Int32 = 0
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { bytes in
            var done = 0
            while done < count {
                // `count` is positive, so there is a base address.
                let got = pread(descriptor, bytes.baseAddress! + done, count - done, off_t(offset) + off_t(done))
                if got < 0 && errno == EINTR { continue }
                if got < 0 { code = errno }
                if got <= 0 { break }
                done += got
            }
            return done
        }
        guard code == 0 else { throw .disk("read the blob \(path)", code) }
        guard buffer.readableBytes == count else {
            throw HTTPFailure(.internalServerError, "disk_error", "the blob \(path) is shorter than it was: the disk lost part of it")
        }
        return buffer
    }
}

extension ObjectBytes {
    private static let chunkBytes = 256 << 10

    /// Writes the bytes from `range` to a client. An error after the first byte can only break the connection.
    func write(_ range: Range<UInt64>, to writer: inout any ResponseBodyWriter, _ depot: Depot) async throws {
        switch self {
        case .memory(let bytes): try await writer.write(ByteBuffer(bytes: bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        case .file(let file):
            var offset = range.lowerBound
            while offset < range.upperBound {
                let count = Int(min(range.upperBound - offset, UInt64(Self.chunkBytes)))
                let start = offset
                try await writer.write(depot.run { () throws(HTTPFailure) in try file.read(at: start, count: count) })
                offset += UInt64(count)
            }
        case .worker(let remote):
            var passed = writer
            try await remote.pass(range) { try await passed.write($0) }
            writer = passed
        }
    }
}

/// A name for bytes that have no generation of their own to be named by.
func contentTag(_ bytes: [UInt8]) -> String {
    let hash = BodyHash()
    hash.update(bytes.span)
    let digest = hash.digest()
    return "x\(String(digest.high, radix: 16))-\(String(digest.low, radix: 16))"
}
