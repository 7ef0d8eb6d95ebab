/// Indices gathered as ranges: neighbours in time are mostly neighbours in number.
struct RangeList: Equatable, Sendable {
    private(set) var ranges: [Range<UInt32>] = []

    var isEmpty: Bool { ranges.isEmpty }

    mutating func append(_ index: UInt32) {
        if let last = ranges.last, last.upperBound == index {
            ranges[ranges.count - 1] = last.lowerBound..<index + 1
        } else {
            ranges.append(index..<index + 1)
        }
    }

    mutating func append(_ range: Range<UInt32>) {
        if let last = ranges.last, last.upperBound == range.lowerBound {
            ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
        } else {
            ranges.append(range)
        }
    }

    mutating func take() -> [Range<UInt32>] {
        defer { ranges = [] }
        return ranges
    }
}
