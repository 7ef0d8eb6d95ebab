import TaskModel

/// The worker's end of the Link.
///
///     closed ──connected──▶ greeting ──welcome──▶ open
///        ▲                     │                   │
///        └──── silence, gap, a frame that does not fit ◀┘        refused: for good
package struct WorkerLink: Sendable {
    package enum State: Equatable, Sendable { case closed, greeting, open, refused }
    package enum Delivery: Equatable, Sendable {
        case nothing
        case messages(ContiguousArray<ServerMessage>)
        /// A server that knows nothing of us: forget everything from before; then its messages come.
        case fresh(Welcome)
        /// A server that was started again and knows us from before: keep everything, and hand it over. With what its predecessor had not
        /// acknowledged.
        case restored(Welcome, ContiguousArray<WorkerMessage>)
        /// The server took us up where we were.
        case resumed
        case refused(reason: String)
        /// Drop the connection and make a new one.
        case reconnect
    }

    package private(set) var state: State = .closed
    private let incarnation: UInt64
    private let place: UInt64
    private let description: WorkerDescription
    private let predecessor: Predecessor?
    private var flow = BatchFlow<WorkerMessage>()
    package private(set) var epoch: ServerEpoch?
    package private(set) var worker: WorkerID?
    private var dataSecret: [UInt8] = []
    private var lastHeard = Instant(nanoseconds: 0)
    private var lastSent = Instant(nanoseconds: 0)

    package init(incarnation: UInt64, place: UInt64 = 0, description: WorkerDescription, predecessor: Predecessor? = nil) {
        self.incarnation = incarnation
        self.place = place
        self.description = description
        self.predecessor = predecessor
    }

    /// The connection is new; the frame must be the first on it.
    package mutating func connected(now: Instant) -> WorkerToServerFrame? {
        guard state != .refused else { return nil }
        state = .greeting
        lastHeard = now
        lastSent = now
        return .hello(
            Hello(
                incarnation: incarnation, place: place, knownEpoch: epoch, knownWorker: worker, lastReceived: flow.received,
                description: description, predecessor: predecessor))
    }

    package mutating func receive(
        _ frame: ServerToWorkerFrame, now: Instant, into out: inout ContiguousArray<WorkerToServerFrame>
    ) -> Delivery {
        switch (state, frame) {
        case (.greeting, .welcome(let welcome)):
            lastHeard = now
            state = .open
            // Another journal may count its epochs and workers alike, but its server has another secret.
            if welcome.epoch == epoch, welcome.worker == worker, welcome.dataSecret == dataSecret {
                for batch in flow.resume(lastReceived: welcome.lastReceived, epoch: welcome.epoch, incarnation: incarnation) {
                    out.append(.batch(batch))
                }
                return .resumed
            }
            let isKnown = welcome.isRestored && epoch != nil && welcome.worker == worker
            epoch = welcome.epoch
            worker = welcome.worker
            dataSecret = welcome.dataSecret
            let messages = flow.takeUnacknowledged()
            return isKnown ? .restored(welcome, messages) : .fresh(welcome)
        case (.greeting, .refused(let reason)), (.open, .refused(let reason)):
            state = .refused
            return .refused(reason: reason)
        case (.open, .batch(let batch)):
            guard batch.epoch == epoch, batch.incarnation == incarnation else { return .nothing }
            lastHeard = now
            switch flow.receive(batch) {
            case .inOrder:
                // What a worker has in memory is safe enough: if it dies, its attempts are lost with it.
                flow.take(through: batch.sequence)
                return .messages(batch.payload)
            case .nothingNew: return .nothing
            case .gap:
                state = .closed
                return .reconnect
            }
        case (.closed, _), (.refused, _), (.greeting, .batch):
            return .nothing  // Late news of an earlier connection.
        case (.open, .welcome):
            return .nothing  // The answer to a hello that we have said twice.
        case (_, .hello), (_, .goodbye):
            state = .closed  // A server never says so: whoever it is, start anew.
            return .reconnect
        }
    }

    package mutating func enqueue(_ message: consuming WorkerMessage) { flow.enqueue(message) }

    /// Batches that can go now.
    package mutating func flush(now: Instant, into out: inout ContiguousArray<WorkerToServerFrame>) {
        guard state == .open, let epoch else { return }
        while let batch = flow.next(epoch: epoch, incarnation: incarnation) {
            lastSent = now
            out.append(.batch(batch))
        }
    }

    package mutating func tick(now: Instant, into out: inout ContiguousArray<WorkerToServerFrame>) -> Delivery {
        switch state {
        case .closed, .refused: return .nothing
        case .greeting:
            guard now >= lastHeard.advanced(byMilliseconds: LinkTiming.greetingMillisecondsMax) else { return .nothing }
            state = .closed
            return .reconnect
        case .open:
            if now >= lastHeard.advanced(byMilliseconds: LinkTiming.silenceMillisecondsMax) {
                state = .closed
                return .reconnect
            }
            if let epoch, now >= lastSent.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds) {
                lastSent = now
                out.append(.batch(flow.bare(epoch: epoch, incarnation: incarnation)))
            }
            return .nothing
        }
    }

    /// When `tick` has something to judge; `nil` while there is nothing to wait for.
    package var nextTick: Instant? {
        switch state {
        case .closed, .refused: nil
        case .greeting: lastHeard.advanced(byMilliseconds: LinkTiming.greetingMillisecondsMax)
        case .open:
            min(
                lastHeard.advanced(byMilliseconds: LinkTiming.silenceMillisecondsMax),
                lastSent.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds))
        }
    }

    /// Outcomes that the server has not acknowledged; 0 when everything is safe there.
    package var unacknowledgedCount: Int { flow.pendingCount + flow.retainedCount }
}
