import CCapnp
import Link
import TaskModel

/// Frames of the control plane as bytes, by Sources/Wire/control.capnp.
///
/// Holds the buffers that it works in, so that a message costs no allocation but its own: keep one for each thread.
package struct ControlCodec: ~Copyable {
    package init() {}

    /// - Throws: `tooLarge` when the frame can't be one message.
    package mutating func encode(_ frame: ServerToWorkerFrame) throws(WireError) -> [UInt8] { fatalError() }
    package mutating func encode(_ frame: WorkerToServerFrame) throws(WireError) -> [UInt8] { fatalError() }

    /// What a worker got from its server.
    package mutating func decodeFromServer(_ bytes: [UInt8]) throws(WireError) -> ServerToWorkerFrame { fatalError() }
    /// What the server got from a worker.
    package mutating func decodeFromWorker(_ bytes: [UInt8]) throws(WireError) -> WorkerToServerFrame { fatalError() }

    /// Larger messages are refused unread. Transport refuses them too.
    package static let messageBytesMax = 16 << 20
}
