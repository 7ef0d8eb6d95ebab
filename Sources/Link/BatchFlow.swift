import TaskModel

/// Numbering, retention and acknowledgement of batches in both directions between one server and one worker.
///
/// Sending: messages wait in `pending`, are closed into numbered batches while there is credit, and are retained until the
/// peer acknowledges them; after a reconnection what the peer lacks is sent again. Receiving: batches are taken in order,
/// once; a repeated one is dropped, a gap is reported. What was received is acknowledged only when `take` says so.
package struct BatchFlow<Outgoing: ByteEstimating & Equatable & Sendable>: Sendable {
    private struct Retained: Sendable {
        let sequence: UInt64
        let payload: ContiguousArray<Outgoing>
    }
    private var pending: ContiguousArray<Outgoing> = []
    private var pendingStart = 0
    private var retained: ContiguousArray<Retained> = []
    private var retainedStart = 0
    private var nextSequence: UInt64 = 1
    /// Batches that may be on their way at once: bounds what a slow peer makes us hold in encoded form.
    package static var creditMax: Int { 64 }

    /// The last batch received in order.
    package private(set) var received: UInt64 = 0
    /// The last batch taken for good; what we acknowledge.
    package private(set) var taken: UInt64 = 0
    private var acknowledgedToPeer: UInt64 = 0

    package init() {}

    package var pendingCount: Int { pending.count - pendingStart }
    package var retainedCount: Int { retained.count - retainedStart }
    package var owesAcknowledgement: Bool { taken > acknowledgedToPeer }

    package mutating func enqueue(_ message: consuming Outgoing) { pending.append(message) }

    /// The next batch to send: a numbered one while there are messages and credit, else a bare acknowledgement when one is owed.
    package mutating func next(epoch: ServerEpoch, incarnation: UInt64) -> Batch<Outgoing>? {
        if pendingCount > 0, retainedCount < Self.creditMax {
            let payload = cutPayload()
            let sequence = nextSequence
            nextSequence += 1
            retained.append(Retained(sequence: sequence, payload: payload))
            acknowledgedToPeer = taken
            return Batch(epoch: epoch, incarnation: incarnation, sequence: sequence, acknowledged: taken, payload: payload)
        }
        return owesAcknowledgement ? bare(epoch: epoch, incarnation: incarnation) : nil
    }

    /// A batch that carries nothing but the acknowledgement: a sign of life.
    package mutating func bare(epoch: ServerEpoch, incarnation: UInt64) -> Batch<Outgoing> {
        acknowledgedToPeer = taken
        return Batch(epoch: epoch, incarnation: incarnation, sequence: 0, acknowledged: taken)
    }

    private mutating func cutPayload() -> ContiguousArray<Outgoing> {
        var bytes = 0
        var end = pendingStart
        while end < pending.count {
            bytes += pending[end].estimatedBytes
            if end > pendingStart, bytes > ControlLimits.batchBytesMax { break }
            end += 1
        }
        let payload: ContiguousArray<Outgoing>
        if pendingStart == 0, end == pending.count {
            payload = pending
            pending = []
        } else {
            payload = ContiguousArray(pending[pendingStart..<end])
            pendingStart = end
            if pendingStart == pending.count || pendingStart > 4096 {
                pending.removeFirst(pendingStart)
                pendingStart = 0
            }
        }
        return payload
    }

    package enum Receipt: Equatable, Sendable {
        /// New and in order: handle its payload, then `take` it when it is safe.
        case inOrder
        /// Nothing in it, or had before.
        case nothingNew
        /// At least one batch before this one is missing.
        case gap
    }

    package mutating func receive<Incoming>(_ batch: Batch<Incoming>) -> Receipt {
        acknowledge(batch.acknowledged)
        if batch.sequence == 0 { return .nothingNew }
        if batch.sequence <= received {
            // The peer sent it again: it may have missed our acknowledgement.
            if batch.sequence <= taken { acknowledgedToPeer = min(acknowledgedToPeer, batch.sequence - 1) }
            return .nothingNew
        }
        guard batch.sequence == received + 1 else { return .gap }
        received = batch.sequence
        return .inOrder
    }

    package mutating func take(through sequence: UInt64) {
        precondition(sequence <= received, "a batch is taken before it was received")
        taken = max(taken, sequence)
    }

    /// What the peer has not acknowledged, in order; nothing of it is left.
    package mutating func takeUnacknowledged() -> ContiguousArray<Outgoing> {
        var messages: ContiguousArray<Outgoing> = []
        for batch in retained[retainedStart...] { messages.append(contentsOf: batch.payload) }
        messages.append(contentsOf: pending[pendingStart...])
        self = BatchFlow()
        return messages
    }

    private mutating func acknowledge(_ sequence: UInt64) {
        while retainedStart < retained.count, retained[retainedStart].sequence <= sequence { retainedStart += 1 }
        if retainedStart > 32 || retainedStart == retained.count {
            retained.removeFirst(retainedStart)
            retainedStart = 0
        }
    }

    /// Everything that a peer which has `lastReceived` lacks of what was sent, in order, to be sent again. What it has received and
    /// not acknowledged stays retained: it is not safe there yet.
    package mutating func resume(lastReceived: UInt64, epoch: ServerEpoch, incarnation: UInt64) -> ContiguousArray<Batch<Outgoing>> {
        acknowledgedToPeer = taken
        return ContiguousArray(
            retained[retainedStart...].drop { $0.sequence <= lastReceived }.map {
                Batch(epoch: epoch, incarnation: incarnation, sequence: $0.sequence, acknowledged: taken, payload: $0.payload)
            })
    }
}
