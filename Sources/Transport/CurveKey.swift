import CSodium
import CZeroMQ

/// One half of a CURVE key pair (curve25519): 32 bytes, written in files as 40 characters of Z85 (ZeroMQ RFC 32).
package struct CurveKey: Hashable, Sendable {
    package let bytes: [UInt8]

    /// - Returns: `nil` unless there are 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        self.bytes = bytes
    }

    /// - Returns: `nil` unless `text` is Z85 of 32 bytes.
    package init?(z85 text: String) {
        guard text.utf8.count == 40 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 32)
        guard zmq_z85_decode(&bytes, text) != nil else { return nil }
        self.bytes = bytes
    }

    package var z85: String {
        // 40 characters and the NUL that libzmq writes behind them.
        var text = [CChar](repeating: 0, count: 41)
        zmq_z85_encode(&text, bytes, bytes.count)
        return String(decoding: text.prefix(40).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// A new secret.
    package static func random() throws(TransportError) -> CurveKey { CurveKey(unchecked: try randomBytes(32)) }

    /// The public half of a secret.
    package var publicKey: CurveKey {
        CurveKey(
            unchecked: [UInt8](unsafeUninitializedCapacity: 32) { buffer, initialized in
                if let base = buffer.baseAddress { crypto_scalarmult_base(base, bytes) }
                initialized = 32
            })
    }

    /// A secret that follows from this one and a purpose, and tells nothing of it.
    package func derived(for purpose: String) -> CurveKey { CurveKey(unchecked: hmac(bytes, purpose.utf8)) }

    private init(unchecked bytes: [UInt8]) { self.bytes = bytes }
}
