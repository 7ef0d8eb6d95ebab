/// Where and why a text is not the JSON that was expected.
struct JSONError: Error, Equatable {
    /// Byte offset in the text.
    var offset: Int
    var what: String
}

/// A place in a JSON text (RFC 8259), from which one value after the other is taken, without a tree.
///
/// The text is given to each call, so that it is never copied and every access is bounds-checked.
struct JSONCursor {
    /// Deeper values are refused, so that recursion stays within a thread's stack.
    static let depthMax = 256

    private(set) var index: Int
    private var depth = 0

    init(at index: Int = 0) { self.index = index }

    /// The first byte of what comes next, after blanks; `nil` at the end.
    @inline(__always)
    mutating func peek(_ text: Span<UInt8>) -> UInt8? {
        while index < text.count {
            let byte = text[index]
            if byte != 0x20 && byte != 0x09 && byte != 0x0A && byte != 0x0D { return byte }
            index += 1
        }
        return nil
    }

    func error(_ what: String) -> JSONError { JSONError(offset: index, what: what) }

    private func unexpected(_ text: Span<UInt8>, wanted: String) -> JSONError {
        guard index < text.count else { return error("the text ends where \(wanted) should be") }
        let byte = text[index]
        let shown = byte >= 0x21 && byte < 0x7F ? "'\(Character(UnicodeScalar(byte)))'" : "byte \(byte)"
        return error("\(shown) where \(wanted) should be")
    }

    @inline(__always)
    mutating func expect(_ byte: UInt8, _ text: Span<UInt8>) throws(JSONError) {
        guard peek(text) == byte else { throw unexpected(text, wanted: "'\(Character(UnicodeScalar(byte)))'") }
        index += 1
    }

    /// Takes `byte` if it comes next.
    @inline(__always)
    mutating func take(_ byte: UInt8, _ text: Span<UInt8>) -> Bool {
        guard peek(text) == byte else { return false }
        index += 1
        return true
    }

    /// Nothing but blanks may follow.
    mutating func expectEnd(_ text: Span<UInt8>) throws(JSONError) {
        guard peek(text) == nil else { throw unexpected(text, wanted: "the end") }
    }

    // MARK: Values

    /// A whole number from 0 to `max`, written without sign or exponent; a fraction of zeros is allowed, as JSON Schema has it.
    @inline(__always)
    mutating func integer(_ text: Span<UInt8>, max: UInt64 = UInt64(UInt32.max)) throws(JSONError) -> UInt64 {
        guard let first = peek(text), first >= 0x30, first <= 0x39 else { throw unexpected(text, wanted: "a whole number from 0 to \(max)") }
        let start = index
        var value: UInt64 = 0
        while index < text.count, case let digit = text[index] &- 0x30, digit <= 9 {
            // At most 2^64 - 1 before, checked below: the product is looked at before it is used.
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            if overflow || carry || sum > max {
                index = start
                throw error("a number larger than \(max)")
            }
            value = sum
            index += 1
        }
        if first == 0x30 && index - start > 1 {
            index = start
            throw error("a number that starts with 0")
        }
        if index < text.count, case let next = text[index], next == 0x2E || next | 0x20 == 0x65 { try skipZeroFraction(text) }
        return value
    }

    private mutating func skipZeroFraction(_ text: Span<UInt8>) throws(JSONError) {
        let start = index
        index += 1
        while index < text.count, text[index] == 0x30 { index += 1 }
        let isNumber = index < text.count && (text[index] &- 0x30 <= 9 || text[index] | 0x20 == 0x65 || text[index] == 0x2E)
        guard text[start] == 0x2E, index > start + 1, !isNumber else {
            index = start
            throw error("a number with a fraction or exponent where a whole number should be")
        }
    }

    mutating func uint32(_ text: Span<UInt8>) throws(JSONError) -> UInt32 { UInt32(try integer(text)) }

    mutating func bool(_ text: Span<UInt8>) throws(JSONError) -> Bool {
        switch peek(text) {
        case UInt8(ascii: "t"):
            try literal("true", text)
            return true
        case UInt8(ascii: "f"):
            try literal("false", text)
            return false
        default: throw unexpected(text, wanted: "true or false")
        }
    }

    private mutating func literal(_ word: StaticString, _ text: Span<UInt8>) throws(JSONError) {
        let count = word.utf8CodeUnitCount
        for offset in 0..<count {
            guard index + offset < text.count, text[index + offset] == word.utf8Start[offset] else {
                throw error("a value that is neither string, number, array, object, true, false nor null")
            }
        }
        index += count
    }

    mutating func string(_ text: Span<UInt8>) throws(JSONError) -> String {
        guard peek(text) == UInt8(ascii: "\"") else { throw unexpected(text, wanted: "a string") }
        let start = index
        let hasEscapes = try skipString(text)
        let inside = (start + 1)..<(index - 1)
        if !hasEscapes {
            return text.extracting(inside).withUnsafeBufferPointer { String(decoding: $0, as: UTF8.self) }
        }
        return try unescaped(text, inside)
    }

    /// Takes any value and checks that it is well formed.
    /// - Returns: its place in the text, without blanks around it.
    @inline(__always)
    mutating func skipValue(_ text: Span<UInt8>) throws(JSONError) -> Range<Int> {
        guard let first = peek(text) else { throw unexpected(text, wanted: "a value") }
        let start = index
        if first == UInt8(ascii: "n") { try literal("null", text) } else { try skipOther(first, text) }
        return start..<index
    }

    private mutating func skipOther(_ first: UInt8, _ text: Span<UInt8>) throws(JSONError) {
        switch first {
        case UInt8(ascii: "\""): _ = try skipString(text)
        case UInt8(ascii: "["): try elements(text) { (cursor, text) throws(JSONError) in _ = try cursor.skipValue(text) }
        case UInt8(ascii: "{"):
            try enter()
            index += 1
            if !take(UInt8(ascii: "}"), text) {
                repeat {
                    guard peek(text) == UInt8(ascii: "\"") else { throw unexpected(text, wanted: "a key") }
                    _ = try skipString(text)
                    try expect(UInt8(ascii: ":"), text)
                    _ = try skipValue(text)
                } while take(UInt8(ascii: ","), text)
                guard take(UInt8(ascii: "}"), text) else { throw unexpected(text, wanted: "',' or '}'") }
            }
            depth -= 1
        case UInt8(ascii: "t"): try literal("true", text)
        case UInt8(ascii: "f"): try literal("false", text)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try skipNumber(text)
        default: throw unexpected(text, wanted: "a value")
        }
    }

    private mutating func enter() throws(JSONError) {
        guard depth < Self.depthMax else { throw error("a value nested deeper than \(Self.depthMax)") }
        depth += 1
    }

    private mutating func skipNumber(_ text: Span<UInt8>) throws(JSONError) {
        if text[index] == UInt8(ascii: "-") { index += 1 }
        let whole = skipDigits(text)
        guard whole > 0 else { throw unexpected(text, wanted: "a digit") }
        if whole > 1 && text[index - whole] == UInt8(ascii: "0") { throw error("a number that starts with 0") }
        if index < text.count, text[index] == UInt8(ascii: ".") {
            index += 1
            guard skipDigits(text) > 0 else { throw unexpected(text, wanted: "a digit") }
        }
        if index < text.count, text[index] | 0x20 == UInt8(ascii: "e") {
            index += 1
            if index < text.count, text[index] == UInt8(ascii: "+") || text[index] == UInt8(ascii: "-") { index += 1 }
            guard skipDigits(text) > 0 else { throw unexpected(text, wanted: "a digit") }
        }
    }

    private mutating func skipDigits(_ text: Span<UInt8>) -> Int {
        let start = index
        while index < text.count, text[index] &- 0x30 <= 9 { index += 1 }
        return index - start
    }

    // MARK: Containers

    /// Takes an array; `body` takes each element.
    @inline(__always)
    mutating func elements(
        _ text: Span<UInt8>, _ body: (inout JSONCursor, Span<UInt8>) throws(JSONError) -> Void
    ) throws(JSONError) {
        guard peek(text) == UInt8(ascii: "[") else { throw unexpected(text, wanted: "an array") }
        try enter()
        index += 1
        if !take(UInt8(ascii: "]"), text) {
            repeat { try body(&self, text) } while take(UInt8(ascii: ","), text)
            guard take(UInt8(ascii: "]"), text) else { throw unexpected(text, wanted: "',' or ']'") }
        }
        depth -= 1
    }

    /// Takes an object; `body` takes the value of each key. A key that comes twice is an error.
    mutating func members(
        _ text: Span<UInt8>, _ body: (inout JSONCursor, Span<UInt8>, String) throws(JSONError) -> Void
    ) throws(JSONError) {
        guard peek(text) == UInt8(ascii: "{") else { throw unexpected(text, wanted: "an object") }
        try enter()
        index += 1
        if !take(UInt8(ascii: "}"), text) {
            var seen: [String] = []
            repeat {
                _ = peek(text)
                let start = index
                let key = try string(text)
                // Objects of ours have a dozen keys at most: `body` refuses others, which bounds this search.
                if seen.contains(key) { throw JSONError(offset: start, what: "the key \"\(key)\" comes twice") }
                seen.append(key)
                try expect(UInt8(ascii: ":"), text)
                try body(&self, text, key)
            } while take(UInt8(ascii: ","), text)
            guard take(UInt8(ascii: "}"), text) else { throw unexpected(text, wanted: "',' or '}'") }
        }
        depth -= 1
    }

    /// For `body` of `members`: a key that means nothing here.
    func unknownKey(_ key: String, known: String) -> JSONError {
        error("unknown key \"\(key.prefix(64))\"; there are \(known)")
    }

    // MARK: Strings

    /// Takes a string; checks escapes and UTF-8 but does not build it.
    /// - Returns: whether it has escapes.
    private mutating func skipString(_ text: Span<UInt8>) throws(JSONError) -> Bool {
        let start = index
        index += 1
        var hasEscapes = false
        while index < text.count {
            let byte = text[index]
            switch byte {
            case UInt8(ascii: "\""):
                index += 1
                return hasEscapes
            case UInt8(ascii: "\\"):
                hasEscapes = true
                try skipEscape(text)
            case 0..<0x20: throw error("a control character in a string: write it as an escape")
            case 0x80...: try skipMultibyte(text)
            default: index += 1
            }
        }
        throw JSONError(offset: start, what: "a string without an end")
    }

    private mutating func skipEscape(_ text: Span<UInt8>) throws(JSONError) {
        guard index + 1 < text.count else { throw error("a string without an end") }
        switch text[index + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"),
            UInt8(ascii: "r"), UInt8(ascii: "t"):
            index += 2
        case UInt8(ascii: "u"):
            _ = try hexUnit(text, at: index + 2)
            index += 6
        default: throw error("an unknown escape in a string")
        }
    }

    private func hexUnit(_ text: Span<UInt8>, at start: Int) throws(JSONError) -> UInt16 {
        guard start + 4 <= text.count else { throw error("a string without an end") }
        var unit: UInt16 = 0
        for position in start..<(start + 4) {
            let digit: UInt8
            switch text[position] {
            case let c where c &- 0x30 <= 9: digit = c - 0x30
            case let c where (c | 0x20) &- 0x61 <= 5: digit = (c | 0x20) - 0x61 + 10
            default: throw error("\\u without four hexadecimal digits")
            }
            unit = unit << 4 | UInt16(digit)
        }
        return unit
    }

    /// One scalar of two to four bytes (Unicode 15, table 3-7).
    private mutating func skipMultibyte(_ text: Span<UInt8>) throws(JSONError) {
        let lead = text[index]
        let length: Int
        var second: ClosedRange<UInt8> = 0x80...0xBF
        switch lead {
        case 0xC2...0xDF: length = 2
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xE1...0xEF: length = 3
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        case 0xF1...0xF3: length = 4
        default: throw error("bytes that are not UTF-8")
        }
        guard index + length <= text.count, second.contains(text[index + 1]) else { throw error("bytes that are not UTF-8") }
        for position in (index + 2)..<max(index + length, index + 2) where text[position] & 0xC0 != 0x80 {
            throw error("bytes that are not UTF-8")
        }
        index += length
    }

    private func unescaped(_ text: Span<UInt8>, _ range: Range<Int>) throws(JSONError) -> String {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        var position = range.lowerBound
        while position < range.upperBound {
            let byte = text[position]
            guard byte == UInt8(ascii: "\\") else {
                bytes.append(byte)
                position += 1
                continue
            }
            let escape = text[position + 1]
            position += 2
            switch escape {
            case UInt8(ascii: "b"): bytes.append(0x08)
            case UInt8(ascii: "f"): bytes.append(0x0C)
            case UInt8(ascii: "n"): bytes.append(0x0A)
            case UInt8(ascii: "r"): bytes.append(0x0D)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "u"):
                var scalar = UInt32(try hexUnit(text, at: position))
                position += 4
                if scalar >= 0xD800 && scalar < 0xE000 {
                    guard scalar < 0xDC00, position + 6 <= range.upperBound, text[position] == UInt8(ascii: "\\"),
                        text[position + 1] == UInt8(ascii: "u"), case let low = UInt32(try hexUnit(text, at: position + 2)),
                        low >= 0xDC00 && low < 0xE000
                    else { throw JSONError(offset: position - 6, what: "half of a surrogate pair in a string") }
                    scalar = 0x10000 + (scalar - 0xD800) << 10 + (low - 0xDC00)
                    position += 6
                }
                // Surrogates are gone, and two units make at most 0x10FFFF.
                guard let scalar = UnicodeScalar(scalar) else { throw JSONError(offset: position, what: "an impossible character") }
                bytes.append(contentsOf: UTF8.encode(scalar)!)
            default: bytes.append(escape)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
