/// One object of a bulk answer, `application/x-rain-rows`. All numbers are little-endian:
///
///     object: u32   status: u8   flags: u8   type length: u16   length: u64   content type   bytes   checksum
///
/// `length` counts the bytes alone; for `large` it is the object's size, and no bytes follow. Bit 0 of the flags says that the object is a
/// directory, bit 1 that a checksum of 16 bytes ends the row: XXH3-128 of the row before it, big-endian.
package struct ObjectRow: Equatable, Sendable {
    package enum Status: UInt8, Sendable {
        case ok = 0
        /// Too large for a bulk answer: it is fetched by itself.
        case large
        /// It is not here (any more).
        case dropped
        case failed, cancelled
        /// It can't be had now; the bytes are the reason.
        case unavailable

        package var name: String {
            switch self {
            case .ok: "ok"
            case .large: "large"
            case .dropped: "dropped"
            case .failed: "failed"
            case .cancelled: "cancelled"
            case .unavailable: "unavailable"
            }
        }
    }
    package static let contentType = "application/x-rain-rows"
    static let directoryFlag: UInt8 = 1
    static let checksumFlag: UInt8 = 2
    package static let headBytes = 16
    static let checksumBytes = 16

    package var object: UInt32
    package var status: Status
    package var isDirectory: Bool
    package var contentType: String
    /// Of the object, for `large`; else `bytes.count`.
    package var sizeBytes: UInt64
    package var bytes: [UInt8]

    package init(object: UInt32, status: Status, isDirectory: Bool = false, contentType: String = "", sizeBytes: UInt64 = 0, bytes: [UInt8] = []) {
        self.object = object
        self.status = status
        self.isDirectory = isDirectory
        self.contentType = contentType
        self.sizeBytes = sizeBytes
        self.bytes = bytes
    }

    /// The row up to its bytes.
    private func head(hasChecksum: Bool) -> [UInt8] {
        let type = Array(contentType.utf8.prefix(65_535))
        var head: [UInt8] = []
        head.reserveCapacity(Self.headBytes + type.count)
        func append(_ value: some FixedWidthInteger) { withUnsafeBytes(of: value.littleEndian) { head.append(contentsOf: $0) } }
        append(object)
        append(status.rawValue)
        append((isDirectory ? Self.directoryFlag : 0) | (hasChecksum ? Self.checksumFlag : 0))
        append(UInt16(type.count))
        append(status == .large ? sizeBytes : UInt64(bytes.count))
        return head + type
    }

    package func append(to output: inout [UInt8], hasChecksum: Bool) {
        let start = output.count
        output.append(contentsOf: head(hasChecksum: hasChecksum))
        if status != .large { output.append(contentsOf: bytes) }
        guard hasChecksum else { return }
        let digest = output.withUnsafeBytes { Checksum.of(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        output.append(contentsOf: digest.bytes)
    }
}

/// Takes rows out of bytes that come piece by piece.
package struct ObjectRowReader: Sendable {
    package enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
        case unknownStatus(UInt8)
        /// More than the receiver asked for.
        case tooLarge(object: UInt32, sizeBytes: UInt64)
        case noChecksum(object: UInt32)
        case wrongChecksum(object: UInt32, found: Checksum.Digest, said: Checksum.Digest)

        package var description: String {
            switch self {
            case .unknownStatus(let status): "sent a row with the unknown status \(status)"
            case .tooLarge(let object, let size): "sent a row of \(size) bytes for object \(object)"
            case .noChecksum(let object): "sent a row for object \(object) without a checksum"
            case .wrongChecksum(let object, let found, let said):
                "sent a row for object \(object) whose checksum is \(found) and should be \(said)"
            }
        }
    }
    private let bytesMax: UInt64
    private var buffer: [UInt8] = []
    private var start = 0

    /// - Parameter bytesMax: no row is larger.
    package init(bytesMax: UInt64) { self.bytesMax = bytesMax }

    package mutating func append(_ bytes: some Sequence<UInt8>) {
        if start > 1 << 16, start > buffer.count / 2 {
            buffer.removeFirst(start)
            start = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// Whether everything that came was taken.
    package var isEmpty: Bool { start == buffer.count }

    /// - Returns: `nil` when it has not come in full.
    package mutating func next() throws(Failure) -> ObjectRow? {
        let available = buffer.count - start
        guard available >= ObjectRow.headBytes else { return nil }
        func number(at offset: Int, count: Int) -> UInt64 {
            (0..<count).reduce(0) { $0 | UInt64(buffer[start + offset + $1]) << UInt64(8 * $1) }
        }
        let object = UInt32(truncatingIfNeeded: number(at: 0, count: 4))
        guard let status = ObjectRow.Status(rawValue: buffer[start + 4]) else { throw .unknownStatus(buffer[start + 4]) }
        let flags = buffer[start + 5]
        let typeCount = Int(number(at: 6, count: 2))
        let size = number(at: 8, count: 8)
        guard flags & ObjectRow.checksumFlag != 0 else { throw .noChecksum(object: object) }
        guard size <= bytesMax || status == .large else { throw .tooLarge(object: object, sizeBytes: size) }
        let byteCount = status == .large ? 0 : Int(size)
        let bytesStart = start + ObjectRow.headBytes + typeCount
        let bytesEnd = bytesStart + byteCount
        guard buffer.count >= bytesEnd + ObjectRow.checksumBytes else { return nil }
        let found = buffer.withUnsafeBytes { Checksum.of(UnsafeRawBufferPointer(rebasing: $0[start..<bytesEnd])) }
        let said = Checksum.Digest(bytes: buffer[bytesEnd..<bytesEnd + ObjectRow.checksumBytes])
        if let said, said != found { throw .wrongChecksum(object: object, found: found, said: said) }
        let row = ObjectRow(
            object: object, status: status, isDirectory: flags & ObjectRow.directoryFlag != 0,
            contentType: String(decoding: buffer[(start + ObjectRow.headBytes)..<bytesStart], as: UTF8.self), sizeBytes: size,
            bytes: Array(buffer[bytesStart..<bytesEnd]))
        start = bytesEnd + ObjectRow.checksumBytes
        return row
    }
}
