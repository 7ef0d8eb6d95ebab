import CXXHash
import Wire

/// Eight bytes at the end of everything that is stored as a whole: what a disk spoils is found when it is read, and never restored as if it
/// were true. SQLite checks its own structure only.
extension ByteWriter {
    mutating func seal() { uint64(checksum(bytes[...])) }
}

/// - Returns: the bytes without their seal; `nil` when they are not what was written.
func unsealed(_ bytes: [UInt8]) -> ArraySlice<UInt8>? {
    let content = bytes.dropLast(8)
    var expected = ByteWriter(reserving: 8)
    expected.uint64(checksum(content))
    return bytes.count >= 8 && expected.bytes[...] == bytes[content.endIndex...] ? content : nil
}

/// XXH3-64.
private func checksum(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.withUnsafeBytes { XXH3_64bits($0.baseAddress, $0.count) } }
