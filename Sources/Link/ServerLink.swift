import TaskModel

/// The server's end of the Link to one worker, from its first hello until it is given up.
///
///     open ◀──▶ detached (the connection is gone, the worker perhaps not) ──no return in time──▶ (lost: the owner drops it)
///       └──silence──▶ (lost)
package struct ServerLink: Sendable {
    package enum Delivery: Equatable, Sendable {
        case nothing
        /// Handle them, then `take(through:)` once what they changed is committed.
        case messages(ContiguousArray<WorkerMessage>, sequence: UInt64)
        /// Something is missing: this connection must end, the worker will greet on a new one.
        case broken(reason: String)
    }

    package let incarnation: UInt64
    /// The worker is known from an earlier epoch.
    package let isRestored: Bool
    package let worker: WorkerID
    private let epoch: ServerEpoch
    private var flow = BatchFlow<ServerMessage>()
    /// When the connection went, and why; `nil` while there is one.
    private var detachedAt: Instant?
    private var detachReason = ""
    /// Whether it ever had one.
    private var wasOpen: Bool
    private var lastHeard: Instant
    private var lastSent: Instant

    package var isOpen: Bool { detachedAt == nil }

    /// Whether a batch of the worker was ever received.
    package var hasReceived: Bool { flow.received > 0 }

    /// - Parameter isRestored: for a worker of an earlier epoch, which has yet to say hello.
    package init(incarnation: UInt64, worker: WorkerID, epoch: ServerEpoch, now: Instant, isRestored: Bool = false) {
        self.incarnation = incarnation
        self.isRestored = isRestored
        wasOpen = !isRestored
        detachedAt = isRestored ? now : nil
        self.worker = worker
        self.epoch = epoch
        lastHeard = now
        lastSent = now
    }

    /// The welcome for the first hello, or for one on a new connection; then what the worker lacks.
    package mutating func greet(
        _ hello: Hello, dataSecret: [UInt8], now: Instant, into out: inout ContiguousArray<ServerToWorkerFrame>
    ) {
        detachedAt = nil
        wasOpen = true
        lastHeard = now
        lastSent = now
        out.append(
            .welcome(Welcome(epoch: epoch, worker: worker, lastReceived: flow.received, dataSecret: dataSecret, isRestored: isRestored)))
        // What it said before it heard our first welcome counts batches of a Link that is over.
        let isResumed = hello.knownEpoch == epoch && hello.knownWorker == worker
        let lastReceived = isResumed ? hello.lastReceived : 0
        for batch in flow.resume(lastReceived: lastReceived, epoch: epoch, incarnation: incarnation) { out.append(.batch(batch)) }
    }

    package mutating func receive(_ batch: Batch<WorkerMessage>, now: Instant) -> Delivery {
        guard batch.epoch == epoch, batch.incarnation == incarnation else { return .nothing }
        lastHeard = now
        switch flow.receive(batch) {
        case .inOrder: return .messages(batch.payload, sequence: batch.sequence)
        case .nothingNew: return .nothing
        case .gap: return .broken(reason: "batch \(batch.sequence) came after \(flow.received)")
        }
    }

    /// The batch's outcomes are committed: the worker may forget them.
    package mutating func take(through sequence: UInt64) { flow.take(through: sequence) }

    package mutating func detach(now: Instant, reason: String) {
        guard detachedAt == nil else { return }
        (detachedAt, detachReason) = (now, reason)
    }

    package mutating func enqueue(_ message: consuming ServerMessage) { flow.enqueue(message) }

    package mutating func flush(now: Instant, into out: inout ContiguousArray<ServerToWorkerFrame>) {
        guard isOpen else { return }
        while let batch = flow.next(epoch: epoch, incarnation: incarnation) {
            lastSent = now
            out.append(.batch(batch))
        }
    }

    package mutating func heartbeat(now: Instant, into out: inout ContiguousArray<ServerToWorkerFrame>) {
        guard isOpen, now >= lastSent.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds) else { return }
        lastSent = now
        out.append(.batch(flow.bare(epoch: epoch, incarnation: incarnation)))
    }

    /// Why the worker is to be given up, if it is. `lateness` is how late the judge itself is, which is not the worker's fault.
    package func judge(now: Instant, latenessNanoseconds: UInt64) -> String? {
        guard wasOpen else {
            guard now.since(lastHeard) > LinkTiming.restartMillisecondsMax * 1_000_000 + latenessNanoseconds else { return nil }
            return "it did not come back within \(LinkTiming.restartMillisecondsMax / 1000) s after the server was started again"
        }
        if let detachedAt, now.since(detachedAt) > LinkTiming.returnMillisecondsMax * 1_000_000 + latenessNanoseconds {
            return "its connection is gone (\(detachReason)), and it did not come back within \(LinkTiming.returnMillisecondsMax / 1000) s"
        }
        if now.since(lastHeard) > LinkTiming.silenceMillisecondsMax * 1_000_000 + latenessNanoseconds {
            return "nothing was heard of it for \(LinkTiming.silenceMillisecondsMax / 1000) s"
        }
        return nil
    }
}
