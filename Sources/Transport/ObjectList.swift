/// What one request of the data plane asks for: many small objects of one holder.
///
///     POST /objects?expires={Unix seconds}&mac={64 hex digits}
///     SESSION/INDEX/EPOCH-NUMBER
///     …
///
/// One line for each object, each ended by a line feed. The answer is `application/x-rain-rows`, one row for each line, in order.
package enum ObjectList {
    package static let path = "/objects"
    package static let countMax = 4096
    /// The longest line: four numbers of ten digits.
    package static let bytesMax = countMax * 44
    /// What an answer holds at most; what has no room in it is answered as `large`.
    package static let answerBytesMax: UInt64 = 4 << 20

    package struct Entry: Equatable, Hashable, Sendable {
        package var session: UInt32
        package var index: UInt32
        package var epoch: UInt32
        package var number: UInt32
        package init(session: UInt32, index: UInt32, epoch: UInt32, number: UInt32) {
            self.session = session
            self.index = index
            self.epoch = epoch
            self.number = number
        }

        /// `SESSION/INDEX/EPOCH-NUMBER`, in decimal digits.
        package init?(_ text: Substring) {
            let parts = text.split(separator: "/", omittingEmptySubsequences: false)
            guard parts.count == 3, let session = Self.number(parts[0]), let index = Self.number(parts[1]) else { return nil }
            let generation = parts[2].split(separator: "-", omittingEmptySubsequences: false)
            guard generation.count == 2, let epoch = Self.number(generation[0]), let number = Self.number(generation[1]) else { return nil }
            self.init(session: session, index: index, epoch: epoch, number: number)
        }
        private static func number(_ text: Substring) -> UInt32? {
            text.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } ? UInt32(text) : nil
        }
        package var text: String { "\(session)/\(index)/\(epoch)-\(number)" }
    }

    package static func body(_ entries: some Sequence<Entry>) -> [UInt8] {
        var body: [UInt8] = []
        for entry in entries { body += "\(entry.text)\n".utf8 }
        return body
    }

    /// - Returns: `nil` when a line is no object, the last has no end, or there are none or too many.
    package static func entries(_ body: [UInt8]) -> [Entry]? {
        guard body.last == UInt8(ascii: "\n"), let text = String(validating: body.dropLast(), as: UTF8.self) else { return nil }
        var entries: [Entry] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            guard entries.count < countMax, let entry = Entry(line) else { return nil }
            entries.append(entry)
        }
        return entries
    }

    // MARK: Tickets

    /// The target of the request, with its ticket for exactly this body.
    package static func signedTarget(_ body: [UInt8], expires: UInt64, secret: [UInt8]) -> String {
        "\(path)?expires=\(expires)&mac=\(hexText(mac(body, expires: expires, secret: secret)))"
    }

    /// - Parameter now: Unix seconds.
    package static func verify(_ body: [UInt8], expires: UInt64, mac given: String, secret: [UInt8], now: UInt64) -> DataTicket.Verdict {
        guard let given = bytes(hex: given), isEqualInConstantTime(given, mac(body, expires: expires, secret: secret)) else { return .forged }
        return now <= expires ? .valid : .expired
    }

    private static func mac(_ body: [UInt8], expires: UInt64, secret: [UInt8]) -> [UInt8] {
        // The text that signs one path has no line feed, so no list is taken for a path.
        hmac(secret, Array("rain-data-1 POST \(path) \(expires)\n".utf8) + body)
    }
}
