/// What will happen, by virtual time; what is due at the same time happens in the order in which it was added.
struct EventQueue<Event: Sendable>: Sendable {
    private struct Entry: Sendable {
        let nanoseconds: UInt64
        let order: UInt64
        let event: Event
        func isBefore(_ other: Entry) -> Bool { (nanoseconds, order) < (other.nanoseconds, other.order) }
    }
    /// A binary heap.
    private var entries: ContiguousArray<Entry> = []
    private var nextOrder: UInt64 = 0

    var isEmpty: Bool { entries.isEmpty }

    mutating func add(_ event: Event, at nanoseconds: UInt64) {
        entries.append(Entry(nanoseconds: nanoseconds, order: nextOrder, event: event))
        nextOrder += 1
        var child = entries.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard entries[child].isBefore(entries[parent]) else { return }
            entries.swapAt(child, parent)
            child = parent
        }
    }

    mutating func removeFirst() -> (nanoseconds: UInt64, event: Event)? {
        guard let first = entries.first else { return nil }
        let last = entries.removeLast()
        guard !entries.isEmpty else { return (first.nanoseconds, first.event) }
        entries[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < entries.count else { break }
            if child + 1 < entries.count, entries[child + 1].isBefore(entries[child]) { child += 1 }
            guard entries[child].isBefore(entries[parent]) else { break }
            entries.swapAt(child, parent)
            parent = child
        }
        return (first.nanoseconds, first.event)
    }
}
