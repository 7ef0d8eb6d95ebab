import Testing

@testable import Server

private func value(_ text: String) throws(JSONError) -> String {
    let bytes = Array(text.utf8)
    var cursor = JSONCursor()
    let range = try cursor.skipValue(bytes.span)
    try cursor.expectEnd(bytes.span)
    return String(decoding: bytes[range], as: UTF8.self)
}

private func string(_ bytes: [UInt8]) throws(JSONError) -> String {
    var cursor = JSONCursor()
    let string = try cursor.string(bytes.span)
    try cursor.expectEnd(bytes.span)
    return string
}

@Suite struct JSONCursorTests {
    @Test(arguments: [
        "null", "true", "false", "0", "-0", "1", "-12.5e+30", "1E5", "0.5", "\"\"", "\"a\\u00e9\\n\\\\\\/\"", "[]", "[1,[2,[]],{}]",
        "{\"a\":{\"b\":[null]},\"c\":1}", "\"ü€😀\"", "\"\\ud800\"",
    ]) func `valid JSON is taken whole`(text: String) throws {
        #expect(try value(" \t" + text + "\r\n") == text)
    }

    @Test(arguments: [
        "", "nul", "tru", "nullx", "01", "-", "1.", ".5", "1e", "+1", "\"", "\"a", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"a\nb\"", "[", "[1", "[1,]", "[,]",
        "[1 2]", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:2}", "[1]]", "NaN", "Infinity", "'a'", "/**/1",
    ]) func `anything else is an error`(text: String) {
        #expect(throws: JSONError.self) { try value(text) }
    }

    @Test func `strings are unescaped`() throws {
        #expect(try string(Array("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20ac\\ud83d\\ude00z\"".utf8)) == "a\"\\/\u{8}\u{c}\n\r\tA\u{e9}€😀z")
    }

    @Test(arguments: ["\"\\ud800\"", "\"\\ud800x\"", "\"\\udc00\"", "\"\\ud800\\ud800\"", "\"\\ud800\\u0041\""])
    func `half a surrogate pair is no character`(text: String) {
        #expect(throws: JSONError.self) { try string(Array(text.utf8)) }
    }

    @Test(
        arguments: [
            [0xFF], [0xC0, 0x80], [0xC1, 0xBF], [0xE0, 0x80, 0x80], [0xED, 0xA0, 0x80], [0xF0, 0x80, 0x80, 0x80], [0xF4, 0x90, 0x80, 0x80],
            [0xF5, 0x80, 0x80, 0x80],
            [0x80], [0xC3], [0xE2, 0x82], [0xF0, 0x9F, 0x98], [0xE2, 0x28, 0xA1],
        ] as [[UInt8]]) func `bytes that are not UTF-8 are refused`(bytes: [UInt8])
    {
        #expect(throws: JSONError.self) { try string([0x22] + bytes + [0x22]) }
    }

    @Test func `depth is bounded`() throws {
        let deep = { (depth: Int) in String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        #expect(try value(deep(JSONCursor.depthMax)).count == 2 * JSONCursor.depthMax)
        #expect(throws: JSONError.self) { try value(deep(JSONCursor.depthMax + 1)) }
        #expect(throws: JSONError.self) { try value(String(repeating: "{\"a\":", count: 100_000)) }
    }

    @Test func `integers have bounds`() throws {
        func integer(_ text: String, _ max: UInt64) throws(JSONError) -> UInt64 {
            let bytes = Array(text.utf8)
            var cursor = JSONCursor()
            return try cursor.integer(bytes.span, max: max)
        }
        #expect(try integer("18446744073709551615", .max) == .max)
        #expect(try integer(" 7]", 7) == 7)
        #expect(try integer("7.00,", 7) == 7)
        for text in ["18446744073709551616", "99999999999999999999999", "8", "-1", "1.", "1.5", "1.05", "1.0e1", "1.0.0", "1e1", "00", "01", "x", ""] {
            #expect(throws: JSONError.self) { try integer(text, text.count > 10 ? .max : 7) }
        }
    }

    @Test func `base64 goes both ways and is strict`() throws {
        for count in 0..<70 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37) }
            var writer = JSONWriter()
            writer.base64(bytes)
            #expect(decodeBase64(String(decoding: writer.bytes.dropFirst().dropLast(), as: UTF8.self)) == bytes)
        }
        for text in ["a", "ab", "abc", "=aaa", "a===", "ab=c", "aa==aa==", "a b=", "ab\n=", "aB==", "aaB=", "-_aa", "äaa"] {
            #expect(decodeBase64(text) == nil)
        }
    }

    @Test func `what the writer escapes is read back`() throws {
        let text = (0..<0x250).compactMap { UnicodeScalar($0).map { String($0) } }.joined() + "😀"
        var writer = JSONWriter()
        writer.string(text)
        #expect(try string(writer.bytes) == text)
    }

    @Test func `numbers are written exactly`() {
        func written(_ write: (inout JSONWriter) -> Void) -> String {
            var writer = JSONWriter()
            write(&writer)
            return String(decoding: writer.bytes, as: UTF8.self)
        }
        #expect(written { $0.integer(Int32.min) } == "-2147483648")
        #expect(written { $0.integer(UInt64.max) } == "18446744073709551615")
        #expect(written { $0.integer(0) } == "0")
        #expect(written { $0.decimal(1_700_000_000_000_001, decimals: 6) } == "1700000000.000001")
        #expect(written { $0.decimal(5, decimals: 9) } == "0.000000005")
        #expect(written { $0.ranges([0..<5, 9..<10]) } == "[[0,5],[9,1]]")
    }
}
