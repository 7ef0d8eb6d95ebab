/// Tasks of one session that can run, first in, first out, as ranges of indices.
struct ReadyQueue: Sendable {
    private var ranges: ContiguousArray<Range<UInt32>> = []
    private var start = 0

    var isEmpty: Bool { start == ranges.count }

    mutating func append(_ range: Range<UInt32>) {
        if start < ranges.count, ranges[ranges.count - 1].upperBound == range.lowerBound {
            ranges[ranges.count - 1] = ranges[ranges.count - 1].lowerBound..<range.upperBound
        } else if !range.isEmpty {
            ranges.append(range)
        }
    }

    /// A task that ran before goes first: others may have waited for it longest.
    mutating func prepend(_ task: UInt32) {
        if start > 0 {
            start -= 1
            ranges[start] = task..<task + 1
        } else {
            ranges.insert(task..<task + 1, at: 0)
        }
    }

    var first: UInt32? { isEmpty ? nil : ranges[start].lowerBound }

    mutating func removeFirst() {
        let range = ranges[start]
        if range.count == 1 {
            start += 1
            if start == ranges.count {
                ranges.removeAll(keepingCapacity: true)
                start = 0
            } else if start > 1024, start * 2 > ranges.count {
                ranges.removeFirst(start)
                start = 0
            }
        } else {
            ranges[start] = range.lowerBound + 1..<range.upperBound
        }
    }

    mutating func removeAll() {
        ranges = []
        start = 0
    }
}
