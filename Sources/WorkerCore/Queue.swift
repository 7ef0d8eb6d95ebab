/// First in, first out, in one ring that grows by doubling; what was taken back may go in front again.
struct Queue<Element: Sendable>: Sendable {
    private var ring: ContiguousArray<Element?> = []
    private var head = 0
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    var first: Element? { count == 0 ? nil : ring[head] }

    /// By position from the front.
    subscript(position: Int) -> Element { ring[(head + position) & (ring.count - 1)]! }

    mutating func pushBack(_ element: Element) {
        growIfFull()
        ring[(head + count) & (ring.count - 1)] = element
        count += 1
    }

    mutating func pushFront(_ element: Element) {
        growIfFull()
        head = (head + ring.count - 1) & (ring.count - 1)
        ring[head] = element
        count += 1
    }

    @discardableResult
    mutating func popFront() -> Element? {
        guard count > 0 else { return nil }
        let element = ring[head]
        ring[head] = nil
        head = (head + 1) & (ring.count - 1)
        count -= 1
        return element
    }

    mutating func removeAll() {
        ring = []
        head = 0
        count = 0
    }

    /// The size stays a power of two, so that positions wrap by a mask.
    private mutating func growIfFull() {
        guard count == ring.count else { return }
        var larger = ContiguousArray<Element?>(repeating: nil, count: max(16, ring.count * 2))
        for position in 0..<count { larger[position] = ring[(head + position) & (ring.count - 1)] }
        ring = larger
        head = 0
    }
}
