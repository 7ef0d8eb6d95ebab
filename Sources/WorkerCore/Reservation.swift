/// Memory for an output file of a running call, counted before it is used.
struct Reservation: Equatable, Sendable {
    /// The subworker's number for it.
    let file: UInt32
    let slot: UInt8
    /// Memory that is kept for it: 0 before the first answer, and for a file on disk.
    var heldBytes: UInt64 = 0
    /// The size that it waits for; `nil` when it has its answer.
    var askedBytes: UInt64?
}

/// A call that found no room, and those that may have taken it.
struct RoomWait: Sendable {
    let attempt: AttemptHandle
    /// Of the call.
    let sequence: UInt64
    /// Ran at that time, in memory.
    var others: ContiguousArray<AttemptHandle>
    /// All of them have ended; what they left is being removed, or is gone.
    var removal = Removal.waiting
    enum Removal: Sendable { case waiting, begun, done }
}

struct WaitingReservation: Equatable, Sendable {
    let subworker: SubworkerHandle
    let file: UInt32
}
