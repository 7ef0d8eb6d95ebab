import CXXHash
import Glibc

/// XXH3-128 of bytes as they pass, for transfers out of a process's memory: finds what networks and memories spoil, not what somebody forges.
package struct Checksum: ~Copyable, @unchecked Sendable {
    /// In a request: say the checksum of the whole object; in an answer or its trailer: 32 hexadecimal digits.
    package static let header = "rain-checksum"
    /// What the header of a request says.
    package static let algorithm = "xxh3-128"

    // The state belongs to this value alone, which has one owner.
    private let state: OpaquePointer

    package init() {
        guard let state = XXH3_createState() else { fatalError("out of memory") }
        self.state = state
        XXH3_128bits_reset(state)
    }
    deinit { XXH3_freeState(state) }

    package func update(_ bytes: UnsafeRawBufferPointer) { _ = XXH3_128bits_update(state, bytes.baseAddress, bytes.count) }

    /// Of what has come so far.
    package var digest: Digest {
        let hash = XXH3_128bits_digest(state)
        return Digest(high: hash.high64, low: hash.low64)
    }

    /// Of bytes that are all there.
    package static func of(_ bytes: UnsafeRawBufferPointer) -> Digest {
        let hash = XXH3_128bits(bytes.baseAddress, bytes.count)
        return Digest(high: hash.high64, low: hash.low64)
    }
    package static func of(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { of($0) } }

    /// Of a whole file, from its start; reads it, so not for an event loop.
    ///
    /// - Throws: the `errno` of the read that failed.
    package static func ofFile(_ descriptor: Int32) throws(ReadFailure) -> Digest {
        let checksum = Checksum()
        // It stays in the second-level cache.
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 64)
        defer { piece.deallocate() }
        var offset: off_t = 0
        while true {
            let count = pread(descriptor, piece.baseAddress, piece.count, offset)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw ReadFailure(code: errno) }
            if count == 0 { return checksum.digest }
            checksum.update(UnsafeRawBufferPointer(rebasing: piece[..<count]))
            offset += count
        }
    }

    package struct ReadFailure: Error, CustomStringConvertible {
        package var code: Int32
        package var description: String { String(cString: strerror(code)) }
    }

    package struct Digest: Hashable, Sendable, CustomStringConvertible {
        package var high: UInt64
        package var low: UInt64
        package init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }

        /// - Returns: `nil` unless it is 32 hexadecimal digits.
        package init?(_ text: some StringProtocol) {
            guard text.utf8.count == 32, let parsed = Transport.bytes(hex: text) else { return nil }
            self.init(bytes: parsed[...])
        }

        /// The canonical form of the XXH specification: 16 bytes, big-endian, the high half first.
        package init?(bytes: ArraySlice<UInt8>) {
            guard bytes.count == 16 else { return nil }
            high = bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
            low = bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
        }

        package var bytes: [UInt8] {
            [high, low].flatMap { half in (0..<8).map { UInt8(truncatingIfNeeded: half >> UInt64(56 - 8 * $0)) } }
        }
        /// 32 hexadecimal digits, the same bytes.
        package var description: String { hexText(bytes) }
    }
}
