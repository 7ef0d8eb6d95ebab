/// Reads what `ByteWriter` wrote. Nothing in the bytes can make it trap or allocate more than they could hold.
package struct ByteReader: Sendable {
    private let bytes: ArraySlice<UInt8>
    /// Index of the next byte.
    private var position: Int

    package init(_ bytes: [UInt8]) { self.init(bytes[...]) }
    package init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        position = bytes.startIndex
    }

    package var leftBytes: Int { bytes.endIndex - position }
    package var isAtEnd: Bool { position == bytes.endIndex }

    package mutating func uint8() throws(WireError) -> UInt8 {
        guard position < bytes.endIndex else { throw .truncated(reading: "a byte", neededBytes: 1, leftBytes: 0) }
        defer { position += 1 }
        return bytes[position]
    }
    package mutating func bool() throws(WireError) -> Bool {
        switch try uint8() {
        case 0: return false
        case 1: return true
        case let other: throw .malformed("a truth value is \(other)")
        }
    }
    package mutating func uint16() throws(WireError) -> UInt16 { try fixed() }
    package mutating func uint32() throws(WireError) -> UInt32 { try fixed() }
    package mutating func uint64() throws(WireError) -> UInt64 { try fixed() }
    package mutating func int32() throws(WireError) -> Int32 { try fixed() }
    package mutating func int64() throws(WireError) -> Int64 { try fixed() }

    package mutating func varint() throws(WireError) -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = try uint8()
            guard shift < 63 || byte <= 1 else { throw .malformed("a varint is over 64 bits") }
            value |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
    }
    package mutating func varint32() throws(WireError) -> UInt32 {
        let value = try varint()
        guard let narrow = UInt32(exactly: value) else { throw .malformed("\(value) is over 32 bits") }
        return narrow
    }
    /// A count of elements of at least `elementBytes` each; one that the rest of the bytes can't hold is an error.
    package mutating func count(elementBytes: Int = 1) throws(WireError) -> Int {
        let value = try varint()
        guard value <= UInt64(leftBytes / max(elementBytes, 1)) else {
            throw .truncated(
                reading: "\(value) elements", neededBytes: Int(clamping: value.multipliedReportingOverflow(by: UInt64(max(elementBytes, 1))).partialValue),
                leftBytes: leftBytes)
        }
        return Int(value)
    }

    package mutating func data() throws(WireError) -> [UInt8] {
        let count = try count()
        return try raw(count)
    }
    package mutating func string() throws(WireError) -> String {
        let count = try count()
        if count == 0 { return "" }
        defer { position += count }
        return String(decoding: bytes[position..<position + count], as: UTF8.self)
    }
    package mutating func raw(_ count: Int) throws(WireError) -> [UInt8] {
        guard count >= 0, count <= leftBytes else { throw .truncated(reading: "bytes", neededBytes: count, leftBytes: leftBytes) }
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    package mutating func uint32s() throws(WireError) -> ContiguousArray<UInt32> { try column() }
    package mutating func uint64s() throws(WireError) -> ContiguousArray<UInt64> { try column() }

    /// - Parameter elementBytes: the least that one element takes, so that a false count is met before memory is taken.
    package mutating func list<Element>(
        elementBytes: Int = 1, _ read: (inout ByteReader) throws(WireError) -> Element
    ) throws(WireError) -> [Element] {
        let count = try count(elementBytes: elementBytes)
        var elements: [Element] = []
        elements.reserveCapacity(count)
        for _ in 0..<count { elements.append(try read(&self)) }
        return elements
    }
    package mutating func optional<Value>(_ read: (inout ByteReader) throws(WireError) -> Value) throws(WireError) -> Value? {
        try bool() ? try read(&self) : nil
    }
    /// Call it at the end of a record: what is left over was written by a version that this one does not know.
    package func finish() throws(WireError) {
        guard isAtEnd else { throw .malformed("\(leftBytes) bytes are left over") }
    }

    @inline(__always) private mutating func fixed<Value: FixedWidthInteger>() throws(WireError) -> Value {
        let width = MemoryLayout<Value>.size
        guard leftBytes >= width else { throw .truncated(reading: "an integer", neededBytes: width, leftBytes: leftBytes) }
        let offset = position - bytes.startIndex
        position += width
        return Value(littleEndian: bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Value.self) })
    }
    private mutating func column<Value: FixedWidthInteger & BitwiseCopyable>() throws(WireError) -> ContiguousArray<Value> {
        let width = MemoryLayout<Value>.size
        let count = try count(elementBytes: width)
        var offset = position - bytes.startIndex
        position += count * width
        return bytes.withUnsafeBytes { source in
            ContiguousArray(unsafeUninitializedCapacity: count) { buffer, initialized in
                for index in 0..<count {
                    buffer.initializeElement(at: index, to: Value(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: Value.self)))
                    offset += width
                }
                initialized = count
            }
        }
    }
}
