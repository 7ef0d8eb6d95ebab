/// What a `Range` header (RFC 9110, section 14) asks of something of a known size.
enum ByteRange: Equatable {
    /// No range, several, or one of another unit: the whole is the answer.
    case whole
    case part(ClosedRange<UInt64>)
    case unsatisfiable

    init(_ header: String?, sizeBytes: UInt64) {
        guard let header, let equals = header.firstIndex(of: "="), header[..<equals].lowercased() == "bytes" else {
            self = .whole
            return
        }
        let spec = header[header.index(after: equals)...]
        let ends = spec.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { Self.trimmed($0) }
        guard ends.count == 2, ends.allSatisfy({ $0.utf8.allSatisfy { $0 >= 0x30 && $0 <= 0x39 } }), !(ends[0].isEmpty && ends[1].isEmpty) else {
            self = .whole
            return
        }
        // A number too large for 64 bits is past every end.
        let (first, last) = (ends[0].isEmpty ? nil : UInt64(ends[0]) ?? .max, ends[1].isEmpty ? nil : UInt64(ends[1]) ?? .max)
        switch (first, last) {
        case (let first?, let last) where first < sizeBytes && first <= last ?? .max:
            self = .part(first...min(last ?? .max, sizeBytes - 1))
        case (let first?, let last?) where first > last: self = .whole
        case (nil, let count?) where count > 0 && sizeBytes > 0: self = .part(sizeBytes - min(count, sizeBytes)...sizeBytes - 1)
        default: self = .unsatisfiable
        }
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let front = text.drop { $0 == " " }
        return front.lastIndex { $0 != " " }.map { front[...$0] } ?? ""
    }
}
