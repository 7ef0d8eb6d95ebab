/// Leave to read one replica from a holder for a short time: an HMAC-SHA-256 over its path and the moment when the leave ends.
///
/// A request of the data plane is `/objects/{session}/{index}/{epoch}-{number}?expires={Unix seconds}&mac={64 hex digits}`.
/// The secret comes to the workers with the server's welcome and is that of its journal, so a ticket is worth nothing elsewhere and outlives a
/// restart.
package enum DataTicket {
    /// The path of a replica, which a ticket is made for.
    package static func path(session: UInt32, index: UInt32, epoch: UInt32, number: UInt32) -> String {
        "/objects/\(session)/\(index)/\(epoch)-\(number)"
    }

    /// - Returns: 64 hexadecimal digits.
    package static func sign(path: String, expires: UInt64, secret: [UInt8]) -> String {
        hexText(mac(path: path, expires: expires, secret: secret))
    }

    /// The path with its ticket, to be put behind `http://HOST:PORT`.
    package static func signedPath(_ path: String, expires: UInt64, secret: [UInt8]) -> String {
        "\(path)?expires=\(expires)&mac=\(sign(path: path, expires: expires, secret: secret))"
    }

    package enum Verdict: Equatable, Sendable { case valid, expired, forged }

    /// - Parameter now: Unix seconds.
    /// - Returns: `expired` only for what was once valid: a forged one is never told more.
    package static func verify(path: String, expires: UInt64, mac given: String, secret: [UInt8], now: UInt64) -> Verdict {
        guard let given = bytes(hex: given), isEqualInConstantTime(given, mac(path: path, expires: expires, secret: secret)) else {
            return .forged
        }
        return now <= expires ? .valid : .expired
    }

    private static func mac(path: String, expires: UInt64, secret: [UInt8]) -> [UInt8] {
        // A path has no space, so no two pairs give the same text.
        hmac(secret, "rain-data-1 \(path) \(expires)".utf8)
    }
}
