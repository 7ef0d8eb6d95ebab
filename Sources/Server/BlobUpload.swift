import Glibc
import HTTPTypes
import NIOCore
import TaskModel
import Transport

/// A blob on its way in: a temporary file and the hash of what is in it; the file goes with this unless it was given its name.
///
/// `@unchecked Sendable`: made, written and finished by one request, one step after the other.
final class BlobUpload: @unchecked Sendable {
    let path: String
    private let descriptor: Int32
    private var hasher = SHA256()
    private let checksum = Checksum()
    private var sizeBytes: UInt64 = 0
    /// It is in the depot now.
    var isNamed = false

    init(path: String) throws(HTTPFailure) {
        self.path = path
        descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o400)
        guard descriptor >= 0 else { throw .disk("make \(path)", errno) }
    }

    deinit {
        close(descriptor)
        if !isNamed { unlink(path) }
    }

    func write(_ buffers: [ByteBuffer]) throws(HTTPFailure) {
        for buffer in buffers {
            let code = buffer.withUnsafeReadableBytes { bytes -> Int32 in
                hasher.update(bytes)
                checksum.update(bytes)
                var done = 0
                while done < bytes.count {
                    // Not empty here, so there is a base address.
                    let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
                    if count < 0 {
                        if errno == EINTR { continue }
                        return errno
                    }
                    done += count
                }
                return 0
            }
            guard code == 0 else { throw .disk("write the blob to \(path)", code) }
            sizeBytes += UInt64(buffer.readableBytes)
        }
    }

    /// - Returns: the blob's size, and the checksum for transfers of it.
    func sync(expecting hash: BlobHash) throws(HTTPFailure) -> (sizeBytes: UInt64, checksum: Checksum.Digest) {
        var finished = SHA256()
        swap(&finished, &hasher)
        let found = hexText(finished.finish())
        guard found == hash.description else {
            throw HTTPFailure(.badRequest, "wrong_hash", "the \(sizeBytes) bytes have the SHA-256 \(found), not \(hash): send them again, or to their own name")
        }
        guard fsync(descriptor) == 0 else { throw .disk("write the blob to \(path)", errno) }
        return (sizeBytes, checksum.digest)
    }
}
