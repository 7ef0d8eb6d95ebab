/// Tasks of one session that can run, first in, first out, as ranges of indices.
struct ReadyQueue: Sendable {
    /// Tasks that go first, the next one last.
    private var front: ContiguousArray<UInt32> = []
    private var ranges: ContiguousArray<Range<UInt32>> = []
    private var start = 0

    var isEmpty: Bool { front.isEmpty && start == ranges.count }

    mutating func append(_ range: Range<UInt32>) {
        if start < ranges.count, ranges[ranges.count - 1].upperBound == range.lowerBound {
            ranges[ranges.count - 1] = ranges[ranges.count - 1].lowerBound..<range.upperBound
        } else if !range.isEmpty {
            ranges.append(range)
        }
    }

    mutating func prepend(_ task: UInt32) {
        front.append(task)
    }

    /// Puts all of another queue before its own.
    mutating func prepend(_ other: ReadyQueue) {
        var all = other
        for task in front.reversed() { all.append(task..<task + 1) }
        for range in ranges[start...] { all.append(range) }
        self = all
    }

    var first: UInt32? { front.last ?? (start == ranges.count ? nil : ranges[start].lowerBound) }

    /// Whether there is a task of which that is true: looks at tasks in their order.
    func contains(where isTrue: (UInt32) -> Bool) -> Bool {
        front.contains(where: isTrue) || ranges[start...].contains { $0.contains(where: isTrue) }
    }

    mutating func removeFirst() {
        guard front.popLast() == nil else { return }
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
        front = []
        ranges = []
        start = 0
    }
}
