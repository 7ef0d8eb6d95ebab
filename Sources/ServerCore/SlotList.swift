/// Indices that something is to be done about, each once, in the order in which they came.
struct SlotList: Sendable {
    private var slots: ContiguousArray<Int> = []
    private var start = 0
    private var isListed: ContiguousArray<Bool> = []

    var count: Int { slots.count - start }
    var isEmpty: Bool { start == slots.count }
    var first: Int? { isEmpty ? nil : slots[start] }

    func contains(_ slot: Int) -> Bool { slot < isListed.count && isListed[slot] }

    mutating func insert(_ slot: Int) {
        while isListed.count <= slot { isListed.append(false) }
        guard !isListed[slot] else { return }
        isListed[slot] = true
        slots.append(slot)
    }

    @discardableResult
    mutating func removeFirst() -> Int {
        let slot = slots[start]
        isListed[slot] = false
        start += 1
        if start == slots.count {
            slots.removeAll(keepingCapacity: true)
            start = 0
        } else if start > 1024, start * 2 > slots.count {
            slots.removeFirst(start)
            start = 0
        }
        return slot
    }
}
