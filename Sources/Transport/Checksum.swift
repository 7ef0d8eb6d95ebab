import CXXHash
import Glibc

/// XXH3-128 of bytes as they pass, for transfers out of a process's memory: finds what networks and memories spoil, not what somebody forges.
struct Checksum: ~Copyable, @unchecked Sendable {
    // The state belongs to this value alone, which has one owner.
    private let state: OpaquePointer

    init() {
        guard let state = XXH3_createState() else { fatalError("out of memory") }
        self.state = state
        XXH3_128bits_reset(state)
    }
    deinit { XXH3_freeState(state) }

    func update(_ bytes: UnsafeRawBufferPointer) { _ = XXH3_128bits_update(state, bytes.baseAddress, bytes.count) }

    /// 32 hexadecimal digits.
    var text: String {
        let digest = XXH3_128bits_digest(state)
        return [digest.high64, digest.low64].map { number in
            let digits = String(number, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }

    /// Of a whole file; reads it, so not for an event loop.
    static func text(ofFile descriptor: Int32) throws(SystemError) -> String {
        let checksum = Checksum()
        let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 64)
        defer { piece.deallocate() }
        var offset: off_t = 0
        while true {
            let count = pread(descriptor, piece.baseAddress, piece.count, offset)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw SystemError("read", code: errno) }
            if count == 0 { return checksum.text }
            checksum.update(UnsafeRawBufferPointer(rebasing: piece[..<count]))
            offset += count
        }
    }
}
