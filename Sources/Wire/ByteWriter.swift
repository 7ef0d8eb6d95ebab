/// Builds little-endian bytes: fixed-width integers, varints, and what is counted by a varint before it.
///
/// The counterpart of `ByteReader`; made for the journal, where a record must be small and cost nanoseconds.
package struct ByteWriter: Sendable {
    package private(set) var bytes: [UInt8] = []

    package init(reserving capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    package var count: Int { bytes.count }

    /// Forgets the content and keeps the memory.
    package mutating func removeAll() { bytes.removeAll(keepingCapacity: true) }

    package mutating func uint8(_ value: UInt8) { bytes.append(value) }
    package mutating func bool(_ value: Bool) { bytes.append(value ? 1 : 0) }
    package mutating func uint16(_ value: UInt16) { fixed(value) }
    package mutating func uint32(_ value: UInt32) { fixed(value) }
    package mutating func uint64(_ value: UInt64) { fixed(value) }
    package mutating func int32(_ value: Int32) { fixed(value) }
    package mutating func int64(_ value: Int64) { fixed(value) }

    /// LEB128: 7 bits a byte, the lowest first; 1 to 10 bytes.
    package mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(truncatingIfNeeded: rest))
    }
    package mutating func varint(_ value: UInt32) { varint(UInt64(value)) }
    package mutating func varint(_ count: Int) { varint(UInt64(count)) }

    /// Its length as a varint, then the bytes.
    package mutating func data(_ value: some Collection<UInt8>) {
        varint(value.count)
        bytes.append(contentsOf: value)
    }
    /// Its length in UTF-8 as a varint, then the UTF-8.
    package mutating func string(_ value: String) {
        varint(value.utf8.count)
        bytes.append(contentsOf: value.utf8)
    }
    /// Bytes whose length the reader knows.
    package mutating func raw(_ value: some Collection<UInt8>) { bytes.append(contentsOf: value) }

    /// The count as a varint, then each element in four bytes: columns are read back in one copy.
    package mutating func uint32s(_ values: ContiguousArray<UInt32>) {
        varint(values.count)
        bytes.reserveCapacity(bytes.count + values.count * 4)
        for value in values { fixed(value) }
    }
    /// The count as a varint, then each element in eight bytes.
    package mutating func uint64s(_ values: ContiguousArray<UInt64>) {
        varint(values.count)
        bytes.reserveCapacity(bytes.count + values.count * 8)
        for value in values { fixed(value) }
    }
    /// The count as a varint, then each element by `write`.
    package mutating func list<Element>(_ values: some Collection<Element>, _ write: (inout ByteWriter, Element) -> Void) {
        varint(values.count)
        for value in values { write(&self, value) }
    }
    /// One byte that says whether it is there, then the value by `write`.
    package mutating func optional<Value>(_ value: Value?, _ write: (inout ByteWriter, Value) -> Void) {
        bool(value != nil)
        if let value { write(&self, value) }
    }

    @inline(__always) private mutating func fixed<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}
