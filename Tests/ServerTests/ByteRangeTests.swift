import Testing

@testable import Server

@Suite struct ByteRangeTests {
    @Test(arguments: [
        ("bytes=0-0", ByteRange.part(0...0)), ("bytes=2-4", .part(2...4)), ("BYTES=2-4", .part(2...4)), ("bytes=5-", .part(5...9)), ("bytes=-3", .part(7...9)),
        ("bytes=-30", .part(0...9)),
        ("bytes=2-99999999999999999999", .part(2...9)), ("bytes=9-9", .part(9...9)), ("bytes=10-", .unsatisfiable), ("bytes=10-12", .unsatisfiable),
        ("bytes=99999999999999999999-", .unsatisfiable), ("bytes=-0", .unsatisfiable), ("bytes=4-2", .whole), ("bytes=0-1,3-4", .whole), ("bytes=", .whole),
        ("bytes=-", .whole),
        ("items=0-1", .whole), ("bytes=a-b", .whole), ("0-1", .whole), ("bytes= 1 - 2 ", .part(1...2)), ("bytes=--1", .whole),
    ]) func `one range of bytes is understood, and nothing else`(header: String, range: ByteRange) {
        #expect(ByteRange(header, sizeBytes: 10) == range)
    }

    @Test func `nothing has no range`() {
        #expect(ByteRange(nil, sizeBytes: 0) == .whole)
        #expect(ByteRange("bytes=0-", sizeBytes: 0) == .unsatisfiable)
        #expect(ByteRange("bytes=-1", sizeBytes: 0) == .unsatisfiable)
    }
}
