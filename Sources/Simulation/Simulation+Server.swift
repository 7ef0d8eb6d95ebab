import Link
import ServerCore
import TaskModel

/// The server's shell: judge, journal, requests.
extension Simulation {
    func handleAtServer(_ event: Event) throws(Violation) {
        // A frame keeps its place on its own connection.
        if case .up(let connection) = event { return try deliverUp(connection) }
        if serverFrozenUntil > now { return queue.add(event, at: serverFrozenUntil) }
        if isServerDown {
            if case .serverTick = event { queue.add(.serverTick, at: serverDownUntil) }
            return
        }
        trace.add(now)
        switch event {
        case .serverTick:
            queue.add(.serverTick, at: now + 250_000_000)
            // Sometimes there is more to do than there is time.
            try send(random.chance(10) ? .overdue : .tick)
        case .written(let epoch):
            guard epoch == server.epoch else { return }  // The server that asked for it is dead.
            if journal.isFull {
                write("the disk is full")
                isDiskFull = true
                return try send(.journalFailed(reason: "no space left"))
            }
            let through = journal.endGroup()
            write("the journal has \(through) records")
            try send(.committed(through: UInt64(through - journal.base)))
            beginWriting()
        case .peerGone(let index):
            // What was still to come from it has come, or is lost.
            guard connections[index].isOpenAtServer else { return }
            connections[index].isOpenAtServer = false
            try send(.peerGone(connections[index].peer, reason: "the connection ended"))
        default: preconditionFailure("no event of the server")
        }
    }

    func beginWriting() {
        guard !isDiskFull, journal.beginGroup() != nil else { return }
        let slow = journal.slowUntil > now ? journal.slowUntil - now : 0
        queue.add(.written(epoch: server.epoch), at: now + slow + random.microseconds(plan.commitMicroseconds))
    }

    func makeRequest(client: Int, _ step: VirtualClient.Step) -> RequestID {
        requests.append((client, step, false))
        return RequestID(UInt64(requests.count))
    }

    func send(_ event: ServerEvent) throws(Violation) {
        var effects: ContiguousArray<ServerEffect> = []
        server.handle(event, now: Instant(nanoseconds: now), into: &effects)
        server.checkInvariants()
        trace.add(effects.count)
        for effect in effects { try perform(effect) }
        beginWriting()
    }

    func perform(_ effect: ServerEffect) throws(Violation) {
        switch effect {
        case .append(let number, let record, _):
            journal.append(record)
            guard number == UInt64(journal.records.count - journal.base) else {
                throw Violation(.brokenContract, "record \(number) is the journal's \(journal.records.count - journal.base)")
            }
            if case .retried(let attempt, _) = record { retryCounts[attempt.task, default: 0] += 1 }
            if case .workerLost = record { hasLostWorker = true }
            try checkOutcome(record)
            if case .runAgain(let session, let tasks, _) = record, !hasLostWorker, damageCount == 0, counts["failed fetches"] == nil {
                throw Violation(.ranAgain, "tasks \(tasks) of session \(session), though no worker was lost")
            }
            trace.add(number)
            write("journal \(number): \(record)")
        case .reply(let request, let reply):
            write("reply \(request.rawValue): \(reply)")
            try deliver(reply, to: request)
        case .leaseLines(let session, let lease, let lines):
            write("lease \(lease) of session \(session): \(lines)")
            guard let client = clientOfSession[session] else { throw Violation(.toldBeforeCommit, "lines of session \(session)") }
            if clients[client].lease == lease, !clients[client].isVanished { for line in lines { try hear(line, client) } }
        case .endLease(let session, let lease):
            if let client = clientOfSession[session], clients[client].lease == lease { clients[client].lease = nil }
        case .send(let peer, let frame):
            if case .batch(let batch) = frame {
                trace.add(batch.sequence)
                trace.add(batch.acknowledged)
                trace.add(batch.payload.count)
            }
            try sendDown(frame, to: peer)
        case .closePeer(let peer): connections[Int(peer.rawValue) - 1].isOpenAtServer = false
        case .claimBlob(let hash): claimedBlobs.insert(hash)
        case .releaseBlob(let hash):
            count("blobs released")
            guard claimedBlobs.remove(hash) != nil else { throw Violation(.brokenContract, "the blob \(hash) is released and was not needed") }
        case .note(let note):
            if case .workerLost = note {
                lostWorkerCount += 1
                count("workers lost")
            }
            write("server: \(note)")
        }
    }
}
