import CCapnp
import Link
import TaskModel

/// Frames of the control plane as bytes, by Sources/Wire/control.capnp.
///
/// Holds the buffers that it works in, so that a message costs no allocation but its own: keep one for each thread.
package struct ControlCodec: ~Copyable {
    private let work = CapnpWork()
    private var columns = ControlColumns(limit: messageBytesMax)

    package init() {}

    /// Larger messages are refused unread, by Transport too.
    package static let messageBytesMax = 16 << 20

    /// - Throws: `tooLarge` when the frame can't be one message.
    package mutating func encode(_ frame: ServerToWorkerFrame) throws(WireError) -> [UInt8] {
        columns.removeAll()
        var plain = cc_frame()
        if let batch = columns.fill(&plain, with: frame) {
            plain.batch.direction = UInt32(batch.payload.isEmpty ? CC_BATCH_EMPTY : CC_BATCH_TO_WORKER)
            for message in batch.payload { columns.add(message) }
        }
        return try bytes(of: &plain)
    }

    /// - Throws: `tooLarge` when the frame can't be one message.
    package mutating func encode(_ frame: WorkerToServerFrame) throws(WireError) -> [UInt8] {
        columns.removeAll()
        var plain = cc_frame()
        if let batch = columns.fill(&plain, with: frame) {
            plain.batch.direction = UInt32(batch.payload.isEmpty ? CC_BATCH_EMPTY : CC_BATCH_TO_SERVER)
            for message in batch.payload { columns.add(message) }
        }
        return try bytes(of: &plain)
    }

    /// What a worker got from its server.
    package mutating func decodeFromServer(_ bytes: [UInt8]) throws(WireError) -> ServerToWorkerFrame {
        try decode(bytes, wrongDirection: CC_BATCH_TO_SERVER) { (frame, message) throws(WireError) in try frame.serverMessage(message) }
    }
    /// What the server got from a worker.
    package mutating func decodeFromWorker(_ bytes: [UInt8]) throws(WireError) -> WorkerToServerFrame {
        try decode(bytes, wrongDirection: CC_BATCH_TO_WORKER) { (frame, message) throws(WireError) in try frame.workerMessage(message) }
    }

    private mutating func bytes(of plain: inout cc_frame) throws(WireError) -> [UInt8] {
        guard columns.bytes.refusedBytes == 0 else {
            throw .tooLarge(sizeBytes: UInt64(columns.bytes.wantedBytes), limitBytes: UInt64(Self.messageBytesMax))
        }
        columns.point(&plain)
        var size = 0
        try work.check(ccapnp_encode_frame(work.raw, &plain, &size))
        guard size <= Self.messageBytesMax else {
            throw .tooLarge(sizeBytes: UInt64(size), limitBytes: UInt64(Self.messageBytesMax))
        }
        var output: [UInt8] = []
        work.take(size, into: &output)
        return output
    }

    private mutating func decode<Payload>(
        _ bytes: [UInt8], wrongDirection: Int, _ make: (DecodedFrame, cc_message) throws(WireError) -> Payload
    ) throws(WireError) -> Frame<Payload> {
        guard bytes.count <= Self.messageBytesMax else {
            throw .tooLarge(sizeBytes: UInt64(bytes.count), limitBytes: UInt64(Self.messageBytesMax))
        }
        let result: Result<Frame<Payload>, WireError> = bytes.withUnsafeBufferPointer { buffer in
            do throws(WireError) {
                // The position of an empty array is nowhere, which C must not be given.
                guard let base = buffer.baseAddress else { throw .malformed("it is empty") }
                var plain: UnsafePointer<cc_frame>?
                try work.check(ccapnp_decode_frame(work.raw, base, buffer.count, &plain))
                guard let plain else { throw .malformed("it is empty") }
                return .success(try DecodedFrame(plain: plain).frame(wrongDirection: wrongDirection, make))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
