import TaskModel

/// The data objects of one session as columns: about 50 bytes each, without small values.
///
///     unfinished ──▶ finished ──▶ dropped
///         │  ▲──────────┴───────────┘ (its last copy was lost, and it is needed)
///         └──▶ lost (its task failed, was cancelled, or must not run again: it will never exist)
struct ObjectTable: Sendable {
    enum State: UInt8, Sendable { case unfinished = 0, finished, dropped, lost }

    var state: ContiguousArray<State> = []
    var isKept: ContiguousArray<Bool> = []
    /// The task that makes it; `uploaded` for a client's own.
    var producer: ContiguousArray<UInt32> = []
    /// Tasks without an outcome that have it as an input.
    var needCount: ContiguousArray<UInt32> = []
    var sizeBytes: ContiguousArray<UInt64> = []
    var generation: ContiguousArray<Generation> = []
    /// The bytes, when they are few; `hasInline` tells an empty value from none.
    var inline: ContiguousArray<[UInt8]> = []
    var hasInline: ContiguousArray<Bool> = []
    /// The first worker that has it or was told to fetch it; more in `moreHolders`.
    var holder: ContiguousArray<UInt32> = []
    var moreHolders: [UInt32: [UInt32]] = [:]
    /// Rows that wait for it or use it, if a task makes it: heads of lists in `edgeRow` and `edgeNext`.
    var firstEdge: ContiguousArray<UInt32> = []
    var edgeRow: ContiguousArray<UInt32> = []
    var edgeNext: ContiguousArray<UInt32> = []

    // Few objects have these.
    var blobs: [UInt32: (hash: BlobHash, sizeBytes: UInt64)] = [:]
    var given: [UInt32: (label: String, contentType: String, isDirectory: Bool)] = [:]
    var contentTypes: [UInt32: String] = [:]
    var attributes: [UInt32: [UInt8]] = [:]
    /// Why objects that existed are lost for good, and the task that would have to run again.
    var losses: [UInt32: (obstacle: UInt32, error: TaskError)] = [:]

    static let uploaded = UInt32.max
    static let none = UInt32.max

    var count: UInt32 { UInt32(state.count) }

    mutating func append(count added: Int, producer task: UInt32) {
        state.append(contentsOf: repeatElement(.unfinished, count: added))
        isKept.append(contentsOf: repeatElement(false, count: added))
        producer.append(contentsOf: repeatElement(task, count: added))
        needCount.append(contentsOf: repeatElement(0, count: added))
        sizeBytes.append(contentsOf: repeatElement(0, count: added))
        generation.append(contentsOf: repeatElement(.uploaded, count: added))
        inline.append(contentsOf: repeatElement([], count: added))
        hasInline.append(contentsOf: repeatElement(false, count: added))
        holder.append(contentsOf: repeatElement(Self.none, count: added))
        firstEdge.append(contentsOf: repeatElement(Self.none, count: added))
    }

    mutating func addEdge(object: UInt32, row: UInt32) {
        edgeRow.append(row)
        edgeNext.append(firstEdge[Int(object)])
        firstEdge[Int(object)] = UInt32(edgeRow.count - 1)
    }

    /// Whether it was made, should be there, and nobody has it.
    func isGone(_ object: UInt32) -> Bool {
        let index = Int(object)
        return state[index] == .finished && holder[index] == Self.none && !hasInline[index] && producer[index] != Self.uploaded
    }

    /// Whether only workers have it that are yet to come back after a restart of the server.
    func isOutOfReach(_ object: UInt32, _ away: ContiguousArray<Bool>) -> Bool {
        if away.isEmpty { return false }
        let index = Int(object)
        guard state[index] == .finished, !hasInline[index], producer[index] != Self.uploaded else { return false }
        return holders(of: object).allSatisfy { away[Int($0)] }
    }

    func isHeld(_ object: UInt32, by worker: UInt32) -> Bool {
        holder[Int(object)] == worker || (moreHolders[object]?.contains(worker) ?? false)
    }

    /// What the worker has, by rising number. Of a million others each is passed over at the cost of a comparison, unless copies are many.
    @inline(__always)
    func held(by worker: UInt32) -> ContiguousArray<UInt32> {
        var objects: ContiguousArray<UInt32> = []
        let first = holder.span
        if moreHolders.isEmpty {
            for object in first.indices where first[object] == worker { objects.append(UInt32(object)) }
        } else {
            for object in first.indices where first[object] != Self.none && isHeld(UInt32(object), by: worker) { objects.append(UInt32(object)) }
        }
        return objects
    }

    mutating func addHolder(_ worker: UInt32, of object: UInt32) {
        if holder[Int(object)] == Self.none {
            holder[Int(object)] = worker
        } else if !isHeld(object, by: worker) {
            moreHolders[object, default: []].append(worker)
        }
    }

    mutating func removeHolder(_ worker: UInt32, of object: UInt32) {
        if moreHolders.isEmpty {
            if holder[Int(object)] == worker { holder[Int(object)] = Self.none }
            return
        }
        var rest = moreHolders[object] ?? []
        if holder[Int(object)] == worker {
            holder[Int(object)] = rest.isEmpty ? Self.none : rest.removeFirst()
        } else {
            rest.removeAll { $0 == worker }
        }
        moreHolders[object] = rest.isEmpty ? nil : rest
    }

    /// By rising time of joining for the first, then in the order in which they got it.
    func holders(of object: UInt32) -> Holders {
        let first = holder[Int(object)]
        return Holders(first: first, more: first == Self.none || moreHolders.isEmpty ? [] : moreHolders[object] ?? [])
    }

    /// The workers that had the object, which from now on nobody has.
    mutating func takeHolders(of object: UInt32) -> Holders {
        let holders = holders(of: object)
        holder[Int(object)] = Self.none
        if !holders.more.isEmpty { moreHolders[object] = nil }
        return holders
    }

    /// What the client gave stays until its session ends: a task that used it may have to run again.
    mutating func releaseValue(of object: UInt32) {
        guard producer[Int(object)] != Self.uploaded else { return }
        inline[Int(object)] = []
        hasInline[Int(object)] = false
    }

    /// Workers; one is the rule, and takes no memory of its own.
    struct Holders: RandomAccessCollection {
        /// `ObjectTable.none` when there is no worker.
        let first: UInt32
        fileprivate let more: [UInt32]

        var startIndex: Int { 0 }
        var endIndex: Int { first == ObjectTable.none ? 0 : more.count + 1 }
        subscript(position: Int) -> UInt32 { position == 0 ? first : more[position - 1] }
    }
}
