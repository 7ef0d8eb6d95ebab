import TaskModel

/// One replica on this worker, or on its way to it.
///
///     expected (an attempt here will make it) ──▶ inline | stored ──▶ gone
///     fetching ───────────────────────────────────────▲
struct HeldObject: TableRow {
    enum Representation: Equatable, Sendable {
        case expected(from: AttemptHandle)
        case fetching
        case inline([UInt8])
        /// A file or a directory of the store.
        case stored
    }
    /// Where a file of the store lies.
    ///
    ///     memory ◀──▶ spilling ──▶ disk
    enum Tier: Equatable, Sendable { case memory, spilling, disk }

    let replica: Replica
    var representation: Representation
    var sizeBytes: UInt64
    var contentType: String
    /// JSON text of the user's attributes.
    var attributes: [UInt8]
    var isDirectory: Bool
    /// Of what is stored.
    var tier = Tier.memory
    /// Counts up with each use: the lowest was used longest ago.
    var lastUse: UInt64 = 0
    /// Attempts that have it as an input, counted as often as they have it.
    var useCount: UInt32 = 0
    /// The server does not want it any more: it goes with its last use.
    var isDropped = false
    /// Objects with the same number, unless it is 0, are names of one file, or were when they got them.
    var fileNumber: UInt64 = 0
    /// Somebody has written to its file, which has gone: only those still have it that had it before.
    var isDetached = false
    /// Attempts that wait for it; those that are gone by then are passed over.
    var waiters: ContiguousArray<AttemptHandle> = []
    /// Whether subworkers were sent it as something to remember.
    var isConstant = false
    /// Subworkers that surely remember it; those that are gone are passed over.
    var cachedBy: ContiguousArray<SubworkerHandle> = []

    init(_ replica: Replica, _ new: NewObject) {
        self.replica = replica
        representation = new.representation
        sizeBytes = new.sizeBytes
        contentType = new.contentType
        attributes = new.attributes
        isDirectory = new.isDirectory
        tier = new.isOnDisk ? .disk : .memory
        fileNumber = new.fileNumber
    }

    mutating func vacate() {
        representation = .stored
        contentType = ""
        attributes = []
        waiters = []
        cachedBy = []
    }

    var isLocal: Bool {
        switch representation {
        case .expected, .fetching: false
        case .inline, .stored: true
        }
    }
}

/// An object that comes to be: an output, or bytes that were sent along.
struct NewObject: Sendable {
    var representation: HeldObject.Representation
    var sizeBytes: UInt64
    var contentType: String
    var isDirectory: Bool
    /// Of what is stored.
    var isOnDisk = false
    var fileNumber: UInt64 = 0
    var attributes: [UInt8] = []
}
