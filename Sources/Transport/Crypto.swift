import CSodium

/// libsodium, made ready once for the process.
enum Sodium {
    private static let isReady = sodium_init() >= 0
    /// libsodium works without it but for random numbers, which may block or be weak before the system has gathered enough.
    static func prepare() throws(TransportError) {
        guard isReady else { throw .noRandomness }
    }
}

/// Bytes that nobody can guess.
package func randomBytes(_ count: Int) throws(TransportError) -> [UInt8] {
    try Sodium.prepare()
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        if let base = buffer.baseAddress { randombytes_buf(base, count) }
        initialized = count
    }
}

/// Whether both are the same, in a time that tells nothing of where they differ. Their lengths are no secret.
package func isEqualInConstantTime(_ a: some Collection<UInt8>, _ b: some Collection<UInt8>) -> Bool {
    let a = Array(a)
    let b = Array(b)
    return a.count == b.count && sodium_memcmp(a, b, a.count) == 0
}

/// HMAC-SHA-256 (RFC 2104) with a secret of any length; 32 bytes.
package func hmac(_ secret: [UInt8], _ bytes: some Collection<UInt8>) -> [UInt8] {
    let message = Array(bytes)
    var state = crypto_auth_hmacsha256_state()
    crypto_auth_hmacsha256_init(&state, secret, secret.count)
    crypto_auth_hmacsha256_update(&state, message, UInt64(message.count))
    return [UInt8](unsafeUninitializedCapacity: 32) { buffer, initialized in
        if let base = buffer.baseAddress { crypto_auth_hmacsha256_final(&state, base) }
        initialized = 32
    }
}

/// SHA-256 (FIPS 180-4) of bytes that come piece by piece.
package struct SHA256: ~Copyable, Sendable {
    private var state = crypto_hash_sha256_state()

    package init() { crypto_hash_sha256_init(&state) }

    package mutating func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress else { return }
        crypto_hash_sha256_update(&state, base.assumingMemoryBound(to: UInt8.self), UInt64(bytes.count))
    }
    package mutating func update(_ bytes: [UInt8]) {
        crypto_hash_sha256_update(&state, bytes, UInt64(bytes.count))
    }
    /// 32 bytes.
    package consuming func finish() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: 32) { buffer, initialized in
            if let base = buffer.baseAddress { crypto_hash_sha256_final(&state, base) }
            initialized = 32
        }
    }
    package static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var hasher = SHA256()
        hasher.update(bytes)
        return hasher.finish()
    }
}

/// Lower-case hexadecimal digits.
package func hexText(_ bytes: some Collection<UInt8>) -> String {
    let digits = Array("0123456789abcdef".utf8)
    var text: [UInt8] = []
    text.reserveCapacity(bytes.count * 2)
    for byte in bytes {
        text.append(digits[Int(byte >> 4)])
        text.append(digits[Int(byte & 15)])
    }
    return String(decoding: text, as: UTF8.self)
}

/// - Returns: `nil` unless every character is a hexadecimal digit and there is an even number of them.
package func bytes(hex text: some StringProtocol) -> [UInt8]? {
    var bytes: [UInt8] = []
    var high: UInt8?
    for character in text.utf8 {
        let digit: UInt8
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = character - UInt8(ascii: "A") + 10
        default: return nil
        }
        if let first = high {
            bytes.append(first << 4 | digit)
            high = nil
        } else {
            high = digit
        }
    }
    return high == nil ? bytes : nil
}
