import TaskModel

/// Builds compact JSON text. The caller keeps the grammar; this writes values and their escapes.
struct JSONWriter {
    private(set) var bytes: [UInt8] = []

    mutating func raw(_ text: StaticString) {
        bytes.append(contentsOf: UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
    mutating func raw(_ text: [UInt8]) { bytes.append(contentsOf: text) }

    /// JSON text of a user; `otherwise` when there is none.
    mutating func raw(_ text: [UInt8], otherwise: StaticString) {
        if text.isEmpty { raw(otherwise) } else { raw(text) }
    }

    mutating func integer(_ value: some BinaryInteger) {
        var rest = UInt64(value.magnitude)
        if value < 0 { bytes.append(UInt8(ascii: "-")) }
        let start = bytes.count
        repeat {
            bytes.append(UInt8(ascii: "0") + UInt8(rest % 10))
            rest /= 10
        } while rest > 0
        bytes[start...].reverse()
    }

    /// `value` divided by ten to the power of `decimals`, written exactly.
    mutating func decimal(_ value: UInt64, decimals: Int) {
        var divisor: UInt64 = 1
        for _ in 0..<decimals { divisor *= 10 }
        integer(value / divisor)
        bytes.append(UInt8(ascii: "."))
        var rest = value % divisor
        for _ in 0..<decimals {
            divisor /= 10
            bytes.append(UInt8(ascii: "0") + UInt8(rest / divisor))
            rest %= divisor
        }
    }

    mutating func bool(_ value: Bool) { raw(value ? "true" : "false") }

    mutating func string(_ text: some StringProtocol) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                bytes.append(UInt8(ascii: "\\"))
                bytes.append(byte)
            case 0x0A: raw("\\n")
            case 0x09: raw("\\t")
            case 0..<0x20:
                raw("\\u00")
                bytes.append(contentsOf: [0x30 + (byte >> 4), Self.hex(byte & 15)])
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }

    private static func hex(_ digit: UInt8) -> UInt8 { digit < 10 ? 0x30 + digit : 0x61 + digit - 10 }

    /// A key of an object, with the comma before it unless it is the first.
    mutating func key(_ name: StaticString) {
        if bytes.last != UInt8(ascii: "{") { bytes.append(UInt8(ascii: ",")) }
        bytes.append(UInt8(ascii: "\""))
        raw(name)
        raw("\":")
    }

    /// An array, its elements separated by commas.
    mutating func array<Elements: Sequence>(_ elements: Elements, _ body: (inout JSONWriter, Elements.Element) -> Void) {
        bytes.append(UInt8(ascii: "["))
        var isFirst = true
        for element in elements {
            if !isFirst { bytes.append(UInt8(ascii: ",")) }
            isFirst = false
            body(&self, element)
        }
        bytes.append(UInt8(ascii: "]"))
    }

    /// Ranges as the client plane writes them: `[first, count]`.
    mutating func ranges(_ ranges: [Range<UInt32>]) {
        array(ranges) { writer, range in
            writer.bytes.append(UInt8(ascii: "["))
            writer.integer(range.lowerBound)
            writer.bytes.append(UInt8(ascii: ","))
            writer.integer(range.upperBound - range.lowerBound)
            writer.bytes.append(UInt8(ascii: "]"))
        }
    }

    mutating func base64(_ data: [UInt8]) {
        let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        let digits = alphabet.utf8Start
        bytes.reserveCapacity(bytes.count + data.count / 3 * 4 + 6)
        bytes.append(UInt8(ascii: "\""))
        var index = 0
        while index < data.count {
            let left = data.count - index
            let group = UInt32(data[index]) << 16 | (left > 1 ? UInt32(data[index + 1]) << 8 : 0) | (left > 2 ? UInt32(data[index + 2]) : 0)
            bytes.append(digits[Int(group >> 18)])
            bytes.append(digits[Int(group >> 12 & 63)])
            bytes.append(left > 1 ? digits[Int(group >> 6 & 63)] : UInt8(ascii: "="))
            bytes.append(left > 2 ? digits[Int(group & 63)] : UInt8(ascii: "="))
            index += 3
        }
        bytes.append(UInt8(ascii: "\""))
    }
}

/// Base64 of RFC 4648, section 4: padded, without blanks.
/// - Returns: `nil` when the text is not that.
func decodeBase64(_ text: String) -> [UInt8]? {
    let input = Array(text.utf8)
    guard input.count % 4 == 0 else { return nil }
    var output: [UInt8] = []
    output.reserveCapacity(input.count / 4 * 3)
    for start in stride(from: 0, to: input.count, by: 4) {
        let isLast = start + 4 == input.count
        let padding = isLast ? (input[start + 3] != UInt8(ascii: "=") ? 0 : input[start + 2] != UInt8(ascii: "=") ? 1 : 2) : 0
        var group: UInt32 = 0
        for position in 0..<4 {
            var digit: UInt8 = 0
            if position < 4 - padding {
                guard let value = base64Digit(input[start + position]) else { return nil }
                digit = value
            }
            group = group << 6 | UInt32(digit)
        }
        output.append(UInt8(group >> 16))
        if padding < 2 { output.append(UInt8(group >> 8 & 255)) }
        if padding < 1 { output.append(UInt8(group & 255)) }
        // What the padding cuts off must be zero, or two texts would mean the same bytes.
        if padding == 2 && group & 0xFFFF != 0 || padding == 1 && group & 0xFF != 0 { return nil }
    }
    return output
}

private func base64Digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte - UInt8(ascii: "A")
    case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - UInt8(ascii: "a") + 26
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0") + 52
    case UInt8(ascii: "+"): 62
    case UInt8(ascii: "/"): 63
    default: nil
    }
}
