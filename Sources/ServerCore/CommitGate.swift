import TaskModel

/// Numbers journal records and holds back what a client or worker may hear only after they are on disk.
///
/// What is emitted `afterCommit` waits for every durable record that was appended before it, and keeps its order.
struct CommitGate: Sendable {
    private(set) var lastNumber: UInt64 = 0
    private var lastDurable: UInt64 = 0
    private(set) var committed: UInt64 = 0
    private var held: ContiguousArray<(number: UInt64, action: Held)> = []
    private var heldStart = 0

    enum Held: Sendable {
        case effect(ServerEffect)
        /// The Link may acknowledge this batch of the worker.
        case take(worker: Int, sequence: UInt64)
        /// Rows of a submit may run.
        case activate(SessionID, throughRow: UInt32)
        /// By this the worker throws something away.
        case send(ServerMessage, worker: Int)
    }

    mutating func append(_ record: JournalRecord, isDurable: Bool, into effects: inout ContiguousArray<ServerEffect>) {
        lastNumber += 1
        if isDurable { lastDurable = lastNumber }
        effects.append(.append(number: lastNumber, record, isDurable: isDurable))
    }

    /// - Returns: the action itself when nothing has to be waited for.
    mutating func afterCommit(_ action: Held) -> Held? {
        if lastDurable <= committed, heldStart == held.count { return action }
        held.append((lastDurable, action))
        return nil
    }

    /// Records up to `number` are on disk; call `next` until it is `nil`.
    mutating func commit(through number: UInt64) { committed = max(committed, min(number, lastNumber)) }

    mutating func next() -> Held? {
        guard heldStart < held.count, held[heldStart].number <= committed else {
            if heldStart > 0 {
                held.removeFirst(heldStart)
                heldStart = 0
            }
            return nil
        }
        heldStart += 1
        return held[heldStart - 1].action
    }

    /// The journal is broken: what waits for it will never be true.
    mutating func takeAll() -> ContiguousArray<Held> {
        let all = ContiguousArray(held[heldStart...].map(\.action))
        held = []
        heldStart = 0
        return all
    }
}
