import CCapnp
import TaskModel

/// Messages of the subworker plane as bytes, by include/subworker.capnp, in the standard stream framing.
///
/// Holds the buffers that it works in: one serves every subworker of a thread.
package struct SubworkerCodec: ~Copyable {
    package init() {}

    /// Takes every whole message from the front of what was read so far, and appends it to `messages`.
    ///
    /// - Parameter bytes: what the socket gave and was not consumed before; at any alignment.
    /// - Returns: how many bytes were consumed; keep the rest and come again with more behind it.
    /// - Throws: when a message is malformed or over `messageBytesMax`; the connection is of no use any more.
    package mutating func decode(
        _ bytes: UnsafeRawBufferPointer, into messages: inout [FromSubworker]
    ) throws(WireError) -> Int { fatalError() }

    /// Appends one framed message to `output`.
    ///
    /// - Parameter descriptorCount: how many descriptors travel with its first byte.
    /// - Throws: `tooLarge`; `output` is then as it was.
    package mutating func encode(
        _ message: ToSubworker, descriptorCount: UInt16 = 0, into output: inout [UInt8]
    ) throws(WireError) { fatalError() }

    /// A subworker that sends a larger message is not worth having.
    package static let messageBytesMax = 64 << 20
}
