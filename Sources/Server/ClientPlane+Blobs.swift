import HTTPTypes
import HummingbirdCore
import NIOCore
import Synchronization
import TaskModel

extension ClientPlane {
    /// So much of an upload is handed to the disk's thread at once.
    private static let writeBytes = 1 << 20

    func headBlob(_ hash: BlobHash) throws(HTTPFailure) -> Response {
        guard let size = depot.size(of: hash) else { throw HTTPFailure(.notFound, "unknown_blob", "the blob \(hash) is not here") }
        return Response(status: .ok, headers: [.contentLength: String(size), .contentType: "application/octet-stream"])
    }

    func putBlob(_ call: Call, _ hash: BlobHash) async throws(HTTPFailure) -> Response {
        if let size = depot.size(of: hash) { return blobAnswer(.ok, hash, size) }
        let upload = try await depot.beginUpload()
        var buffers: [ByteBuffer] = []
        var waitingBytes = 0
        var size: UInt64 = 0
        do {
            for try await buffer in call.request.body {
                buffers.append(buffer)
                waitingBytes += buffer.readableBytes
                size += UInt64(buffer.readableBytes)
                if waitingBytes >= Self.writeBytes {
                    let full = buffers
                    (buffers, waitingBytes) = ([], 0)
                    try await depot.run { () throws(HTTPFailure) in try upload.write(full) }
                }
            }
            let rest = buffers
            try await depot.run { () throws(HTTPFailure) in try upload.write(rest) }
        } catch let error as HTTPFailure {
            throw error
        } catch {
            throw .clientGone
        }
        try await depot.finish(upload, as: hash)
        traffic.uploadedBytes.add(size, ordering: .relaxed)
        return blobAnswer(.created, hash, size)
    }

    private func blobAnswer(_ status: HTTPResponse.Status, _ hash: BlobHash, _ size: UInt64) -> Response {
        Self.json(status: status) { writer in
            writer.object { writer in
                writer.key("blob")
                writer.string(hash.description)
                writer.key("size")
                writer.integer(size)
            }
        }
    }
}
