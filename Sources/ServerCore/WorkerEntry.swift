import Link
import TaskModel

/// A worker from its first hello until it is lost.
struct WorkerEntry: Sendable {
    let id: WorkerID
    var description: WorkerDescription
    let place: UInt64
    var link: ServerLink
    /// The connection that it is on; `nil` while that is gone.
    var peer: PeerID?
    var runningCount: UInt32 = 0
    var objectCount: UInt32 = 0
    /// Tasks that it has and that wait for others that it has.
    var aheadCount = 0
    /// Tasks that may go ahead as soon as there are fewer.
    var followers: ContiguousArray<(session: SessionID, task: UInt32)> = []
    /// Tasks that it was given and that could be asked back, in the order of giving; those that began or ended are passed over.
    var given: ContiguousArray<Given> = []
    var givenCountMax = givenCountMin
    /// Replicas to be forgotten there, gathered over one event.
    var drops: [Replica] = []
    /// Nothing is sent before this record is on disk: it tells of an assignment that must not leave twice.
    var barrier: UInt64 = 0
    /// What a worker of an earlier epoch has handed over so far; `nil` before it said hello, and when it has handed over everything.
    var handover: Handover?
}

extension WorkerEntry {
    struct Given: Sendable {
        var session: SessionID
        var task: UInt32
        var attempt: UInt32
    }
    static let givenCountMin = 256

    struct Handover: Sendable {
        /// When the worker is given up, unless it has handed over everything.
        var deadline: Instant
        var knownSessions: Set<SessionID> = []
        var begunAttempts: ContiguousArray<AttemptID> = []
        var heldObjects: Set<ObjectID> = []
    }

    /// Whether a batch of it was taken: then it must remember this server.
    var hasBeenHeard: Bool { link.hasReceived }
}
