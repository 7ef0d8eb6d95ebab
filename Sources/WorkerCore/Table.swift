/// What a `Table` holds.
protocol TableRow: Sendable {
    /// Lets go of what takes memory: the row is not used any more, and its place stays until another takes it.
    mutating func vacate()
}

/// Rows at dense indices, with a free list.
///
/// A handle names one row for that row's life; the serial number tells a later row at the same index apart, so handles may outlive
/// their row in queues and lists. Rows are visited by rising index, which makes every run repeatable.
struct Table<Row: TableRow>: Sendable {
    struct Handle: Hashable, Sendable {
        let index: UInt32
        let serial: UInt32

        /// The handle as one number, for the tokens of effects.
        var packed: UInt64 { UInt64(serial) << 32 | UInt64(index) }
        init(index: UInt32, serial: UInt32) {
            self.index = index
            self.serial = serial
        }
        init(packed: UInt64) {
            index = UInt32(truncatingIfNeeded: packed)
            serial = UInt32(truncatingIfNeeded: packed >> 32)
        }
    }

    private var rows: ContiguousArray<Row> = []
    /// Odd while there is a row at the index; counted up when it comes and when it goes.
    private var serials: ContiguousArray<UInt32> = []
    private var free: ContiguousArray<UInt32> = []

    var count: Int { rows.count - free.count }
    var isEmpty: Bool { count == 0 }
    /// All indices that have ever had a row.
    var indices: Range<Int> { rows.indices }

    func contains(_ handle: Handle) -> Bool {
        let index = Int(handle.index)
        return index < serials.count && serials[index] == handle.serial
    }

    /// - Returns: `nil` when there is no row at the index now.
    func handle(at index: Int) -> Handle? {
        serials[index] & 1 == 0 ? nil : Handle(index: UInt32(index), serial: serials[index])
    }

    /// The row must exist. Reading goes through a span because an array's own subscript copies the row, with a reference count for each of
    /// its members.
    subscript(handle: Handle) -> Row {
        _read {
            assert(contains(handle), "a handle outlived its row")
            yield rows.span[Int(handle.index)]
        }
        _modify {
            assert(contains(handle), "a handle outlived its row")
            yield &rows[Int(handle.index)]
        }
    }

    mutating func insert(_ row: consuming Row) -> Handle {
        guard let index = free.popLast() else {
            rows.append(row)
            serials.append(1)
            return Handle(index: UInt32(rows.count - 1), serial: 1)
        }
        rows[Int(index)] = row
        serials[Int(index)] &+= 1
        return Handle(index: index, serial: serials[Int(index)])
    }

    mutating func remove(_ handle: Handle) {
        precondition(contains(handle), "a row is removed twice")
        rows[Int(handle.index)].vacate()
        serials[Int(handle.index)] &+= 1
        free.append(handle.index)
    }
}

typealias AttemptHandle = Table<Attempt>.Handle
typealias ObjectHandle = Table<HeldObject>.Handle
typealias SubworkerHandle = Table<SubworkerMachine>.Handle
typealias PoolHandle = Table<SubworkerPool>.Handle
typealias LaneHandle = Table<Lane>.Handle
typealias SessionHandle = Table<HeldSession>.Handle
typealias TemplateHandle = Table<HeldTemplate>.Handle
