import TaskModel

/// Which files of the store go from memory to disk, and when.
///
/// Room is made before it is needed: above three quarters of the limit, files go until half of it is free, those that were used longest
/// ago first. On disk they are used where they lie: the kernel's page cache is what brings them back.
extension WorkerCore {
    /// While nothing can be spilled, the next look; what makes room in between is seen without it.
    static let spillMillisecondsMin: UInt64 = 100

    private var spillAboveBytes: UInt64? { storeMemoryBytes.map { $0 / 4 * 3 } }

    /// What is in use and what is promised; what claims more than can be counted wraps, see `ObjectTable`.
    private var usedBytes: UInt64 { objects.memoryBytes &+ reservedBytes &+ programBytes }
    /// Without what is on its way to disk.
    private var stayingBytes: UInt64 { usedBytes &- objects.spillingBytes }

    /// What runs now may need the rest: no call waits behind another in its subworker, so that no more than one per CPU is under way.
    var isStoreFilling: Bool { storeMemoryBytes.map { usedBytes > $0 / 2 } ?? false }

    /// Room is being made: what starts now would fill what is left.
    var isStoreFull: Bool {
        guard let above = spillAboveBytes else { return false }
        return objects.spillingBytes > 0 && usedBytes > above
    }

    mutating func spill(into effects: inout ContiguousArray<WorkerEffect>) {
        guard let limit = storeMemoryBytes, let above = spillAboveBytes, stayingBytes > above else {
            nextSpill = nil
            return
        }
        if let nextSpill, now < nextSpill { return }
        for object in spillOrder() where stayingBytes > limit / 2 { spill(object, into: &effects) }
        nextSpill = stayingBytes > above ? now.advanced(byMilliseconds: Self.spillMillisecondsMin) : nil
    }

    /// Makes room for what is not known: three quarters of the memory, if that can be.
    mutating func makeMuchRoom(into effects: inout ContiguousArray<WorkerEffect>) {
        guard let limit = storeMemoryBytes else { return }
        for object in spillOrder() where stayingBytes > limit / 4 { spill(object, into: &effects) }
    }

    private mutating func spill(_ object: ObjectHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        objects.spill(object)
        effects.append(.spill(objects[object].replica))
    }

    /// Sends to disk what it takes for so many bytes to become free.
    ///
    /// - Returns: whether that much is on its way; if it can't be, nothing more is sent.
    mutating func makeRoom(_ bytes: UInt64, into effects: inout ContiguousArray<WorkerEffect>) -> Bool {
        if objects.spillingBytes >= bytes { return true }
        if let nextRoomSearch, now < nextRoomSearch { return false }
        var chosen: ContiguousArray<ObjectHandle> = []
        var coming = objects.spillingBytes
        for object in spillOrder() where coming < bytes {
            chosen.append(object)
            coming = max(coming, coming &+ objects[object].sizeBytes)
        }
        guard coming >= bytes else {
            nextRoomSearch = now.advanced(byMilliseconds: Self.spillMillisecondsMin)
            return false
        }
        for object in chosen { spill(object, into: &effects) }
        return true
    }

    /// Files that would free their memory, the one that was used longest ago first: not those that a process works on or remembers.
    private func spillOrder() -> [ObjectHandle] {
        var inUse: Set<ObjectHandle> = []
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), attempts[attempt].isActive else { continue }
            inUse.formUnion(attempts[attempt].inputs)
        }
        var found: [(lastUse: UInt64, object: ObjectHandle)] = []
        for index in objects.rows.indices {
            guard let object = objects.rows.handle(at: index), objects[object].representation == .stored, objects[object].tier == .memory,
                !inUse.contains(object), !objects[object].cachedBy.contains(where: subworkers.contains)
            else { continue }
            found.append((objects[object].lastUse, object))
        }
        return found.sorted { $0.lastUse < $1.lastUse }.map(\.object)
    }

    mutating func spilled(_ replica: Replica, isDone: Bool) {
        // It may have been dropped meanwhile.
        guard let object = objects.find(replica) else { return }
        objects.spilled(object, isDone: isDone)
        if isDone { return }
        nextSpill = now.advanced(byMilliseconds: 10 * Self.spillMillisecondsMin)
        nextRoomSearch = nextSpill
    }
}
