/// Bytes that are not what they should be, or a value that can't become bytes. Never a bug of ours alone: a peer or a damaged
/// file causes it, so drop the connection (or refuse the file) and keep the rest.
package enum WireError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The bytes end before the value does.
    case truncated(reading: String, neededBytes: Int, leftBytes: Int)
    /// libcapnp refused the message, or a field has a value that this version does not know.
    case malformed(String)
    /// A well-formed message of a kind that does not belong on this plane in this direction.
    case unexpected(kind: String)
    case tooLarge(sizeBytes: UInt64, limitBytes: UInt64)

    package var description: String {
        switch self {
        case .truncated(let what, let needed, let left): "truncated at \(what): needs \(needed) bytes, \(left) are left"
        case .malformed(let reason): "malformed message: \(reason)"
        case .unexpected(let kind): "a message of kind \(kind) does not belong here"
        case .tooLarge(let size, let limit): "a message of \(size) bytes is over the limit of \(limit) bytes"
        }
    }
}
