import Link
import ServerCore
import TaskModel

/// The server is killed and started again on what its disk has.
extension Simulation {
    static func makeServer(_ epoch: UInt32, _ journal: VirtualJournal) -> ServerCore {
        ServerCore(
            epoch: ServerEpoch(epoch), firstSession: journal.lastSession + 1, firstWorker: journal.lastWorker + 1,
            dataSecret: [UInt8](repeating: UInt8(truncatingIfNeeded: epoch), count: 32), depotEndpoint: Self.depot)
    }

    func crashServer(restartAt: UInt64) {
        guard !isServerDown, !journal.isFull else { return }
        count("server crashes")
        serverDownUntil = restartAt
        isServerDown = true
        serverFrozenUntil = 0
        let kept = journal.crash(isGroupWritten: random.chance(50))
        write("the server dies; its journal has \(kept) records")
        for worker in workers {
            guard let index = worker.connection else { continue }
            connections[index].upEnd = now
            // Mostly the worker's machine hears of it at once, after what was on its way; else the silence tells.
            let at = max(connections[index].lastDown, now + delay, worker.partitionedDownUntil)
            if random.chance(85) { queue.add(.connectionReset(connection: index), at: at) }
        }
        for index in connections.indices { connections[index].isOpenAtServer = false }
        for index in clients.indices where !clients[index].isVanished && !clients[index].isDone { interrupt(index, until: restartAt) }
        queue.add(.startServer, at: restartAt)
    }

    /// The client's connections are gone with the server; it asks again what was not answered, and takes up its lease.
    private func interrupt(_ index: Int, until restart: UInt64) {
        let hadLease = clients[index].lease != nil || clients[index].isLeasePending
        clients[index].lease = nil
        clients[index].isLeasePending = false
        if let request = clients[index].request {
            requests[Int(request.rawValue) - 1].isAnswered = true
            clients[index].request = nil
            queue.add(.clientStep(index), at: restart + random.milliseconds(0...2000))
        }
        if hadLease { queue.add(.clientLease(index), at: restart + random.milliseconds(0...3000)) }
    }

    func startServer() throws(Violation) {
        isServerDown = false
        server = Self.makeServer(server.epoch.rawValue + 1, journal)
        // Records of closed sessions may have been forgotten.
        let closed = random.chance(50) ? journal.closedSessions : []
        do throws(RestoreError) {
            for record in journal.records where record.session.map({ !closed.contains($0) }) ?? true { try server.restore(record) }
        } catch {
            throw Violation(.notRestored, "\(error)")
        }
        write("the server is back as \(server.epoch)")
        count("server restarts")
        var effects: ContiguousArray<ServerEffect> = []
        claimedBlobs = Set(server.blobsInUse)
        server.finishRestoring(now: Instant(nanoseconds: now), into: &effects)
        server.checkInvariants()
        for effect in effects { try perform(effect) }
        try checkRestored()
        beginWriting()
    }

    /// What a client was answered is there.
    private func checkRestored() throws(Violation) {
        let open = server.openSessions
        for client in clients {
            guard let session = client.session, !journal.closedSessions.contains(session) else { continue }
            guard let restored = open.first(where: { $0.session == session }) else {
                throw Violation(.notRestored, "session \(session) of client \(client.index) is gone")
            }
            let templates = client.receipts.enumerated().reduce(0) { $1.element == nil ? $0 : $0 + client.plan.graph.submits[$1.offset].templates.count }
            guard restored.outputCounts.count >= templates else {
                throw Violation(.notRestored, "a submit of client \(client.index) is gone: \(restored.outputCounts.count) of \(templates) templates")
            }
        }
    }
}

extension JournalRecord {
    /// Of which session it tells, if of one.
    var session: SessionID? {
        switch self {
        case .epochBegan, .workerJoined, .workerLost: nil
        case .sessionOpened(let session, _), .sessionClosed(let session, _), .submitted(let session, _, _), .keptChanged(let session, _, _),
            .cancelRequested(let session, _), .runAgain(let session, _, _):
            session
        case .finished(let attempt, _, _), .failed(let attempt, _, _), .assigned(let attempt, _), .started(let attempt), .retried(let attempt, _),
            .charged(let attempt, _, _):
            attempt.task.session
        case .cancelled(let task): task.session
        case .lost(let object, _, _): object.session
        }
    }
}
