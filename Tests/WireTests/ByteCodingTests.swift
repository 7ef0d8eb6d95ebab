import Testing
import Wire

struct ByteCodingTests {
    @Test func `what was written is read`() throws {
        for seed in 0..<100 as Range<UInt64> {
            var generator = ValueGenerator(seed: seed)
            let (small, wide, text, data) = (generator.uint32(), generator.uint64(), generator.text(), generator.data())
            let column = ContiguousArray(generator.list(50) { $0.uint32() })
            let wideColumn = ContiguousArray(generator.list(50) { $0.uint64() })
            let texts = generator.list { $0.text() }
            let maybe: UInt32? = generator.bool() ? small : nil
            var writer = ByteWriter()
            writer.uint8(UInt8(truncatingIfNeeded: small))
            writer.bool(small & 1 == 0)
            writer.uint16(UInt16(truncatingIfNeeded: small))
            writer.uint32(small)
            writer.uint64(wide)
            writer.int32(Int32(bitPattern: small))
            writer.int64(Int64(bitPattern: wide))
            writer.varint(wide)
            writer.varint(small)
            writer.string(text)
            writer.data(data)
            writer.uint32s(column)
            writer.uint64s(wideColumn)
            writer.list(texts) { $0.string($1) }
            writer.optional(maybe) { $0.uint32($1) }
            var reader = ByteReader(writer.bytes)
            #expect(try reader.uint8() == UInt8(truncatingIfNeeded: small))
            #expect(try reader.bool() == (small & 1 == 0))
            #expect(try reader.uint16() == UInt16(truncatingIfNeeded: small))
            #expect(try reader.uint32() == small)
            #expect(try reader.uint64() == wide)
            #expect(try reader.int32() == Int32(bitPattern: small))
            #expect(try reader.int64() == Int64(bitPattern: wide))
            #expect(try reader.varint() == wide)
            #expect(try reader.varint32() == small)
            #expect(try reader.string() == text)
            #expect(try reader.data() == data)
            #expect(try reader.uint32s() == column)
            #expect(try reader.uint64s() == wideColumn)
            #expect(try reader.list { (reader) throws(WireError) in try reader.string() } == texts)
            #expect(try reader.optional { (reader) throws(WireError) in try reader.uint32() } == maybe)
            try reader.finish()
        }
    }

    @Test func `a varint takes as many bytes as it must`() throws {
        for (value, count) in [(0, 1), (127, 1), (128, 2), (16383, 2), (16384, 3), (UInt64.max, 10)] as [(UInt64, Int)] {
            var writer = ByteWriter()
            writer.varint(value)
            #expect(writer.count == count)
            var reader = ByteReader(writer.bytes)
            #expect(try reader.varint() == value)
        }
    }

    @Test func `what is cut off or too large is an error`() {
        #expect(throws: WireError.self) {
            var reader = ByteReader([1, 2, 3]); _ = try reader.uint32()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([]); _ = try reader.uint8()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([5, 1, 2]); _ = try reader.data()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([5, 1, 2]); _ = try reader.string()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([0x80, 0x80]); _ = try reader.varint()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([2, 0, 0, 0, 0, 0, 0, 0]); _ = try reader.uint32s()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([2]); _ = try reader.bool()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([1]); _ = try reader.raw(2)
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader([1]); _ = try reader.raw(-1)
        }
        let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]
        #expect(throws: WireError.self) {
            var reader = ByteReader(huge); _ = try reader.data()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader(huge); _ = try reader.uint64s()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader(huge); _ = try reader.varint32()
        }
        #expect(throws: WireError.self) {
            var reader = ByteReader(huge.dropLast() + [2]); _ = try reader.varint()
        }
        #expect(throws: WireError.self) { try ByteReader([0]).finish() }
    }

    @Test func `a reader of a slice stays in it`() throws {
        let bytes: [UInt8] = [9, 9, 1, 0, 0, 0, 9]
        var reader = ByteReader(bytes[2..<6])
        #expect(try reader.uint32() == 1)
        #expect(reader.isAtEnd)
        #expect(throws: WireError.self) { try reader.uint8() }
    }
}
