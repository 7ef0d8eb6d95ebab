import TaskModel

/// What the worker holds: each replica once, whatever its representation.
struct ObjectTable: Sendable {
    private(set) var rows = Table<HeldObject>()
    private var byReplica: [Replica: ObjectHandle] = [:]
    /// Files that lie in memory, or still do, and those of them that are on their way to disk. A sparse file may claim up to 2^63 bytes
    /// and use none: the sums wrap, and are right again when such files have gone.
    private(set) var memoryBytes: UInt64 = 0
    private(set) var spillingBytes: UInt64 = 0
    private var useClock: UInt64 = 0
    private var lastFileNumber: UInt64 = 0
    /// Rows whose name may be another's by now.
    private(set) var detachedCount = 0
    /// Files that can go; the shell is told once a round.
    private(set) var removals: [Replica] = []
    /// What subworkers may forget; told once a round.
    private(set) var forgotten: ContiguousArray<(subworker: SubworkerHandle, replica: Replica)> = []

    var count: Int { rows.count }
    var isEmpty: Bool { rows.isEmpty && byReplica.isEmpty }

    subscript(handle: ObjectHandle) -> HeldObject {
        _read { yield rows[handle] }
        _modify { yield &rows[handle] }
    }

    func find(_ replica: Replica) -> ObjectHandle? { byReplica[replica] }

    mutating func insert(_ replica: Replica, _ new: NewObject) -> ObjectHandle {
        let handle = rows.insert(HeldObject(replica, new))
        byReplica[replica] = handle
        stored(handle)
        return handle
    }

    /// The object is here: as a new row, or in place of the promise of it.
    ///
    /// - Returns: attempts that waited for it.
    mutating func publish(_ replica: Replica, _ new: NewObject) -> ContiguousArray<AttemptHandle> {
        guard let handle = byReplica[replica] else {
            _ = insert(replica, new)
            return []
        }
        guard !rows[handle].isLocal else { return [] }
        rows[handle].representation = new.representation
        rows[handle].sizeBytes = new.sizeBytes
        rows[handle].contentType = new.contentType
        if !new.attributes.isEmpty { rows[handle].attributes = new.attributes }
        rows[handle].isDirectory = new.isDirectory
        rows[handle].tier = new.isOnDisk ? .disk : .memory
        rows[handle].fileNumber = new.fileNumber
        stored(handle)
        var waiters: ContiguousArray<AttemptHandle> = []
        swap(&waiters, &rows[handle].waiters)
        return waiters
    }

    mutating func release(_ handle: ObjectHandle) {
        rows[handle].useCount -= 1
        touch(handle)
        if rows[handle].useCount > 0 { return }
        switch rows[handle].representation {
        case .expected: remove(handle)  // Nobody asks for it now; if it comes to be, it gets a row of its own.
        case .fetching: break  // Goes when its fetch is answered.
        case .inline, .stored: if rows[handle].isDropped { remove(handle) }
        }
    }

    /// The server does not want it any more.
    mutating func drop(_ handle: ObjectHandle) {
        rows[handle].isDropped = true
        if rows[handle].useCount == 0, rows[handle].representation != .fetching { remove(handle) }
    }

    mutating func remove(_ handle: ObjectHandle) {
        let replica = rows[handle].replica
        if rows[handle].isDetached {
            detachedCount -= 1
            rows.remove(handle)
            return
        }
        freeFile(of: handle)
        byReplica[replica] = nil
        rows.remove(handle)
    }

    /// The number of its file, of which another object is about to be a name.
    mutating func shareFile(of handle: ObjectHandle) -> UInt64 {
        if rows[handle].fileNumber == 0 {
            lastFileNumber += 1
            rows[handle].fileNumber = lastFileNumber
        }
        return rows[handle].fileNumber
    }

    /// All objects of whose file this one is a name, or was.
    func namesOfFile(of handle: ObjectHandle) -> ContiguousArray<ObjectHandle> {
        let number = rows[handle].fileNumber
        if number == 0 { return [handle] }
        return ContiguousArray(rows.indices.compactMap { rows.handle(at: $0) }.filter { rows[$0].fileNumber == number && !rows[$0].isDetached })
    }

    /// Its file is not the object any more, and goes: from now on the worker does not hold it. The row lives as long as somebody uses it.
    ///
    /// - Parameter subworkers: who may remember what is no copy of the object.
    mutating func detach(_ handle: ObjectHandle, rememberedBy subworkers: ContiguousArray<SubworkerHandle>) {
        rows[handle].cachedBy = subworkers
        freeFile(of: handle)
        byReplica[rows[handle].replica] = nil
        rows[handle].cachedBy = []
        rows[handle].tier = .disk
        rows[handle].isDropped = true
        rows[handle].isDetached = true
        detachedCount += 1
        if rows[handle].useCount == 0 { remove(handle) }
    }

    private mutating func freeFile(of handle: ObjectHandle) {
        let replica = rows[handle].replica
        if rows[handle].representation == .stored {
            removals.append(replica)
            if rows[handle].tier != .disk { memoryBytes &-= rows[handle].sizeBytes }
            if rows[handle].tier == .spilling { spillingBytes &-= rows[handle].sizeBytes }
        }
        for subworker in rows[handle].cachedBy { forgotten.append((subworker, replica)) }
    }

    private mutating func touch(_ handle: ObjectHandle) {
        useClock += 1
        rows[handle].lastUse = useClock
    }

    private mutating func stored(_ handle: ObjectHandle) {
        touch(handle)
        guard rows[handle].representation == .stored, rows[handle].tier == .memory else { return }
        memoryBytes &+= rows[handle].sizeBytes
    }

    mutating func spill(_ handle: ObjectHandle) {
        precondition(rows[handle].representation == .stored && rows[handle].tier == .memory, "only what lies in memory can be spilled")
        rows[handle].tier = .spilling
        spillingBytes &+= rows[handle].sizeBytes
    }

    /// - Parameter isDone: `false` when it stays in memory.
    mutating func spilled(_ handle: ObjectHandle, isDone: Bool) {
        guard rows[handle].representation == .stored, rows[handle].tier == .spilling else { return }
        rows[handle].tier = isDone ? .disk : .memory
        spillingBytes &-= rows[handle].sizeBytes
        if isDone { memoryBytes &-= rows[handle].sizeBytes }
    }

    /// A file that no row stands for, such as an output of a task that nobody wants any more.
    mutating func removeFile(_ replica: Replica) { removals.append(replica) }

    mutating func takeRemovals() -> [Replica] {
        var taken: [Replica] = []
        swap(&taken, &removals)
        return taken
    }

    mutating func takeForgotten() -> ContiguousArray<(subworker: SubworkerHandle, replica: Replica)> {
        var taken: ContiguousArray<(subworker: SubworkerHandle, replica: Replica)> = []
        swap(&taken, &forgotten)
        return taken
    }

    func check() throws(BrokenInvariant) {
        guard byReplica.count + detachedCount == rows.count else { throw BrokenInvariant("\(rows.count) objects, \(byReplica.count) names of them") }
        var inMemory: UInt64 = 0
        var onTheWay: UInt64 = 0
        for index in rows.indices {
            guard let handle = rows.handle(at: index), !rows[handle].isDetached else { continue }
            guard byReplica[rows[handle].replica] == handle else { throw BrokenInvariant("\(rows[handle].replica) is not found by its name") }
            guard rows[handle].representation == .stored else { continue }
            if rows[handle].tier != .disk { inMemory &+= rows[handle].sizeBytes }
            if rows[handle].tier == .spilling { onTheWay &+= rows[handle].sizeBytes }
        }
        guard inMemory == memoryBytes, onTheWay == spillingBytes else {
            throw BrokenInvariant("\(inMemory) bytes in memory, \(onTheWay) on the way to disk; counted \(memoryBytes) and \(spillingBytes)")
        }
    }
}
