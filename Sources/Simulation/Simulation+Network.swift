import Link
import ServerCore
import TaskModel
import WorkerCore

/// One connection of the control plane. What is in flight passes in order, or is lost with the connection; connections overtake each other.
struct Connection: Sendable {
    let worker: Int
    let life: Int
    let peer: PeerID
    var isOpenAtWorker = true
    var isOpenAtServer = true
    /// Later than this nothing upward arrives; `.max` while it is whole.
    var upEnd: UInt64 = .max
    var downEnd: UInt64 = .max
    var up: [WorkerToServerFrame] = []
    var upStart = 0
    var down: [ServerToWorkerFrame] = []
    var downStart = 0
    var lastUp: UInt64 = 0
    var lastDown: UInt64 = 0
}

extension Simulation {
    var delay: UInt64 { random.microseconds(plan.networkMicroseconds) }

    func sendUp(_ frame: WorkerToServerFrame, from worker: VirtualWorker) throws(Violation) {
        let frame = worker.neverHandsOver ? withoutHandover(frame) : frame
        try observeUp(frame, worker)
        guard let index = worker.connection, connections[index].isOpenAtWorker else { return }
        let at = max(connections[index].lastUp, now + delay, worker.partitionedUpUntil)
        connections[index].lastUp = at
        connections[index].up.append(frame)
        queue.add(.up(connection: index), at: at)
    }

    /// The worker says what it runs and holds, and never that this was all.
    private func withoutHandover(_ frame: WorkerToServerFrame) -> WorkerToServerFrame {
        guard case .batch(var batch) = frame, batch.payload.contains(.handedOver) else { return frame }
        count("handovers withheld")
        batch.payload.removeAll { $0 == .handedOver }
        return .batch(batch)
    }

    func sendDown(_ frame: ServerToWorkerFrame, to peer: PeerID) throws(Violation) {
        let index = Int(peer.rawValue) - 1
        let worker = workers[connections[index].worker]
        if worker.life == connections[index].life { try observeDown(frame, worker) }
        guard connections[index].isOpenAtServer else { return }
        let at = max(connections[index].lastDown, now + delay, worker.partitionedDownUntil)
        connections[index].lastDown = at
        connections[index].down.append(frame)
        queue.add(.down(connection: index), at: at)
    }

    func deliverUp(_ index: Int) throws(Violation) {
        let until = max(workers[connections[index].worker].partitionedUpUntil, serverFrozenUntil)
        if until > now, connections[index].upEnd >= until { return queue.add(.up(connection: index), at: until) }
        let frame = connections[index].up[connections[index].upStart]
        connections[index].upStart += 1
        guard now <= connections[index].upEnd, connections[index].isOpenAtServer, until <= now else { return count("lost frames") }
        trace.add(now)
        write("server hears worker \(connections[index].worker) on \(index): \(Self.text(frame))")
        try send(.frame(connections[index].peer, frame))
    }

    func deliverDown(_ index: Int) throws(Violation) {
        let worker = workers[connections[index].worker]
        let until = max(worker.partitionedDownUntil, worker.frozenUntil)
        if until > now, connections[index].isOpenAtWorker, worker.life == connections[index].life {
            return queue.add(.down(connection: index), at: until)
        }
        let frame = connections[index].down[connections[index].downStart]
        connections[index].downStart += 1
        guard now <= connections[index].downEnd, connections[index].isOpenAtWorker, worker.isAlive, worker.life == connections[index].life else {
            return count("lost frames")
        }
        trace.add(now)
        write("worker \(worker.index) hears: \(Self.text(frame))")
        if case .welcome(let welcome) = frame { worker.heardEpoch = welcome.epoch }
        try tell(.frame(frame), worker)
    }

    func connect(_ worker: VirtualWorker) throws(Violation) {
        guard !isServerDown else {
            return queue.add(.connect(worker: worker.index, life: worker.life), at: now + random.milliseconds(5...1000))
        }
        leaveConnection(worker)
        let index = connections.count
        connections.append(Connection(worker: worker.index, life: worker.life, peer: PeerID(UInt64(index + 1))))
        worker.connection = index
        write("worker \(worker.index) connects on \(index)")
        try tell(.connected, worker)
    }

    /// The worker's end is closed: what comes down is lost, what was on its way up may still arrive, after a newer connection's first words.
    func leaveConnection(_ worker: VirtualWorker) {
        guard let index = worker.connection else { return }
        worker.connection = nil
        connections[index].isOpenAtWorker = false
        if random.chance(50) { connections[index].upEnd = now }
        if random.chance(60) { queue.add(.peerGone(connection: index), at: now + random.milliseconds(0...400)) }
    }

    /// The connection is reset: both directions lose what is in flight.
    func breakConnection(_ worker: VirtualWorker) {
        guard let index = worker.connection else { return }
        worker.connection = nil
        connections[index].isOpenAtWorker = false
        connections[index].upEnd = now
        if random.chance(60) { queue.add(.peerGone(connection: index), at: now + random.milliseconds(0...400)) }
        queue.add(.connect(worker: worker.index, life: worker.life), at: now + random.milliseconds(1...300))
    }

    // MARK: What is seen on the wire

    private func observeUp(_ frame: WorkerToServerFrame, _ worker: VirtualWorker) throws(Violation) {
        guard case .batch(let batch) = frame else { return }
        worker.traffic.acknowledgedDown = max(worker.traffic.acknowledgedDown, batch.acknowledged)
        for case .revoked(let attempt, let wasTakenBack) in batch.payload { try observeTakeBack(of: attempt, wasTakenBack: wasTakenBack) }
        guard batch.sequence == UInt64(worker.traffic.outcomes.count) else { return }
        worker.traffic.outcomes.append(
            batch.payload.compactMap { message in
                switch message {
                case .finished(let attempt, _), .failed(let attempt, _): attempt
                default: nil
                }
            })
    }

    /// Words may be said again after a reconnection: the set takes them once.
    private func observeTakeBack(of attempt: AttemptID, wasTakenBack: Bool) throws(Violation) {
        guard wasTakenBack else { return count("tasks not taken back") }
        if ranOn[attempt] != nil { throw Violation(.ranTwice, "\(attempt) is given back after it had begun") }
        if takenBack.insert(attempt).inserted { count("tasks taken back") }
    }

    private func observeDown(_ frame: ServerToWorkerFrame, _ worker: VirtualWorker) throws(Violation) {
        // A worker that greets says nothing else, so both directions begin anew here.
        if case .welcome(let welcome) = frame, worker.traffic.epoch != welcome.epoch || worker.traffic.worker != welcome.worker {
            worker.traffic = VirtualWorker.Traffic()
            worker.traffic.epoch = welcome.epoch
            worker.traffic.worker = welcome.worker
        }
        guard case .batch(let batch) = frame else { return }
        worker.traffic.sentDown = max(worker.traffic.sentDown, batch.sequence)
        while worker.traffic.acknowledged < Int(batch.acknowledged), worker.traffic.acknowledged + 1 < worker.traffic.outcomes.count {
            worker.traffic.acknowledged += 1
            for attempt in worker.traffic.outcomes[worker.traffic.acknowledged] where journal.isOnlyAppended(attempt) {
                throw Violation(.acknowledgedBeforeCommit, "the outcome of \(attempt) in batch \(worker.traffic.acknowledged)")
            }
        }
    }

    static func text(_ frame: WorkerToServerFrame) -> String {
        guard case .batch(let batch) = frame else { return "\(frame)" }
        return "batch \(batch.sequence), has \(batch.acknowledged): \(Array(batch.payload))"
    }
    static func text(_ frame: ServerToWorkerFrame) -> String {
        guard case .batch(let batch) = frame else { return "\(frame)" }
        return "batch \(batch.sequence), has \(batch.acknowledged): \(Array(batch.payload))"
    }
}
