import Link
import Scheduling
import TaskModel

extension ServerCore {
    mutating func handleFrame(
        _ frame: WorkerToServerFrame, from peer: PeerID, now: Instant, into effects: inout ContiguousArray<ServerEffect>
    ) {
        switch frame {
        case .hello(let hello): greet(hello, from: peer, now: now, into: &effects)
        case .batch(let batch):
            guard let worker = workerOfPeer[peer] else {
                // Said before its hello, by a worker whose connection came back faster than it heard of that: the hello follows, and what
                // counts is then sent again. Refused it would end for good. One that never greets hears nothing, and connects anew.
                return
            }
            addressed.insert(worker)  // Its acknowledgement may make room for more.
            switch workers[worker]!.link.receive(batch, now: now) {
            case .nothing: break
            case .broken(let reason):
                effects.append(.note(.peerDropped(workers[worker]!.id, reason: reason)))
                dropPeer(peer, reason: reason, now: now, into: &effects)
            case .messages(let messages, let sequence):
                for message in messages { handle(message, from: worker, into: &effects) }
                if case .take? = gate.afterCommit(.take(worker: worker, sequence: sequence)) {
                    workers[worker]!.link.take(through: sequence)
                }
            }
        case .goodbye:
            if let worker = workerOfPeer[peer] { loseWorker(worker, reason: "it was told to end", ran: .nothing, into: &effects) }
        case .welcome, .refused:
            refusePeer(peer, "a worker does not send such a frame", now: now, into: &effects)
        }
    }

    private mutating func greet(_ hello: Hello, from peer: PeerID, now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        if let reason = Self.refusal(of: hello) { return refusePeer(peer, reason, now: now, into: &effects) }
        let known = findKnown(hello, into: &effects)
        losePredecessor(hello, of: known, into: &effects)
        let worker: Int
        if let known {
            worker = known
            resume(worker, hello, on: peer, into: &effects)
        } else {
            worker = join(hello, on: peer, into: &effects)
        }
        workers[worker]!.peer = peer
        workerOfPeer[peer] = worker
        addressed.insert(worker)
        var frames: ContiguousArray<ServerToWorkerFrame> = []
        workers[worker]!.link.greet(hello, dataSecret: dataSecret, now: now, into: &frames)
        for frame in frames { effects.append(.send(peer, frame)) }
    }

    private static func refusal(of hello: Hello) -> String? {
        if hello.protocolVersion != linkProtocolVersion {
            return
                "the worker speaks version \(hello.protocolVersion) of the control protocol, this server \(linkProtocolVersion): install the same Rain on both"
        }
        if hello.description.subworkers.reduce(0, { $0 + $1.utf8.count + 1 }) > SubmitLimits.textBytesMax {
            return "a worker with more than \(SubmitLimits.textBytesMax) bytes of names of subworkers"
        }
        return hello.description.cpus > 1_000_000 ? "a worker of \(hello.description.cpus) cpus" : nil
    }

    /// The worker whose process says hello again; `nil` for a process that is new, or has forgotten what the server knows of it.
    private mutating func findKnown(_ hello: Hello, into effects: inout ContiguousArray<ServerEffect>) -> Int? {
        guard let worker = workerOfIncarnation[hello.incarnation] else { return nil }
        if hello.knownEpoch == epoch || (!workers[worker]!.hasBeenHeard && isKnownFromBefore(worker, hello)) { return worker }
        loseWorker(worker, reason: "its process forgot the server", ran: .nothing, into: &effects)
        return nil
    }

    /// The process before it at its place is gone, if the server doesn't know that yet; what that ran is known now.
    private mutating func losePredecessor(_ hello: Hello, of known: Int?, into effects: inout ContiguousArray<ServerEffect>) {
        if let predecessor = workerOfPlace[hello.place], predecessor != known {
            let how = hello.predecessor.map { ", by \($0.end)" } ?? ""
            loseWorker(
                predecessor, reason: "its process ended\(how), and its parent started a new one",
                ran: hello.predecessor.map { .attempts(Set($0.running)) } ?? .whatHadStarted, how: hello.predecessor?.end ?? "its process ended",
                into: &effects)
        } else if known == nil, let predecessor = hello.predecessor {
            chargeLate(predecessor, into: &effects)
        }
    }

    private mutating func resume(_ worker: Int, _ hello: Hello, on peer: PeerID, into effects: inout ContiguousArray<ServerEffect>) {
        // What it offers stays what it said first: tasks were placed by it.
        let subworkers = workers[worker]!.description.subworkers
        workers[worker]!.description = hello.description
        workers[worker]!.description.subworkers = subworkers
        if isAway(worker), workers[worker]!.handover == nil {
            workers[worker]!.handover = WorkerEntry.Handover(deadline: now.advanced(byMilliseconds: LinkTiming.handoverMillisecondsMax))
        }
        if let old = workers[worker]!.peer, old != peer {
            workerOfPeer[old] = nil
            effects.append(.closePeer(old))
        }
    }

    /// - Returns: the index of the new worker.
    private mutating func join(_ hello: Hello, on peer: PeerID, into effects: inout ContiguousArray<ServerEffect>) -> Int {
        let worker = scheduler.join(cpus: hello.description.cpus, subworkers: hello.description.subworkers)
        let id = WorkerID(nextWorker)
        nextWorker += 1
        workerIDs.append(id)
        if !away.isEmpty { away.append(false) }
        add(
            WorkerEntry(
                id: id, description: hello.description, place: hello.place,
                link: ServerLink(incarnation: hello.incarnation, worker: id, epoch: epoch, now: now), peer: peer))
        workerOfIncarnation[hello.incarnation] = worker
        if hello.place != 0 { workerOfPlace[hello.place] = worker }
        append(.workerJoined(id, incarnation: hello.incarnation, place: hello.place, hello.description), into: &effects)
        effects.append(.note(.workerJoined(id, hello.description)))
        lookAtMisfits()
        return worker
    }

    /// Whether the hello is that of a worker which the server has welcomed in this epoch, or of one that still has what an earlier epoch
    /// knew of it.
    private func isKnownFromBefore(_ worker: Int, _ hello: Hello) -> Bool {
        guard workers[worker]!.link.isRestored else { return true }
        return hello.knownWorker == workers[worker]!.id && hello.knownEpoch.map { $0 < epoch } ?? false
    }

    private mutating func refusePeer(_ peer: PeerID, _ reason: String, now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        effects.append(.send(peer, .refused(reason: reason)))
        effects.append(.note(.peerRefused(reason: reason)))
        dropPeer(peer, reason: reason, now: now, into: &effects)
    }

    private mutating func dropPeer(_ peer: PeerID, reason: String, now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        effects.append(.closePeer(peer))
        losePeer(peer, reason: reason, now: now)
    }

    /// The connection is gone; the worker has a short time to come back on another.
    mutating func losePeer(_ peer: PeerID, reason: String, now: Instant) {
        guard let worker = workerOfPeer.removeValue(forKey: peer) else { return }
        workers[worker]!.peer = nil
        workers[worker]!.link.detach(now: now, reason: reason)
    }

    mutating func tick(now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        // A judge that is late itself must not blame others for it.
        let expected = lastTick.map { nextTick(after: $0) } ?? now
        let lateness = now.since(expected)
        lastTick = now
        for worker in presentWorkers {
            let judgement = workers[worker]?.link.judge(now: now, latenessNanoseconds: lateness)
            guard let reason = judgement ?? judgeHandover(of: worker, latenessNanoseconds: lateness) else { continue }
            loseWorker(worker, reason: reason, ran: .whatHadStarted, how: reason, into: &effects)
        }
        goOn(into: &effects)
        for slot in sessions.indices where hasSession(slot) {
            guard isLeaseOverdue(slot, latenessNanoseconds: lateness) else { continue }
            close(slot, reason: "its client is gone", into: &effects)
        }
    }

    /// What time brings, whoever was heard meanwhile.
    mutating func goOn(into effects: inout ContiguousArray<ServerEffect>) {
        if lastTick == nil { lastTick = now }  // A server that stands still before it has judged for the first time is late all the same.
        for worker in presentWorkers { addressed.insert(worker) }  // Some have to be shown life.
        for slot in sessions.indices where hasSession(slot) && sessions[slot]!.isOpen {
            resumePostponed(slot)
            updateHints(slot, into: &effects)
        }
    }

    /// - Parameters:
    ///   - ran: what is charged for it.
    ///   - how: it ended, for the error of a task that is charged too often.
    mutating func loseWorker(
        _ worker: Int, reason: String, ran: RanAtLoss, how: String = "", into effects: inout ContiguousArray<ServerEffect>
    ) {
        let entry = workers[worker]!
        if let peer = entry.peer {
            workerOfPeer[peer] = nil
            effects.append(.closePeer(peer))
        }
        workerOfIncarnation[entry.link.incarnation] = nil
        if workerOfPlace[entry.place] == worker { workerOfPlace[entry.place] = nil }
        append(.workerLost(entry.id, reason: reason), into: &effects)
        var requeued = 0
        for slot in sessions.indices where hasSession(slot) {
            touched.insert(slot)
            if worker < sessions[slot]!.told.count { sessions[slot]!.told[worker] = nil }
            sessions[slot]!.openWorkers.removeAll { $0 == UInt32(worker) }
            if sessions[slot]!.isOpen {
                // First what ran there, so that nothing is assigned whose inputs are gone.
                requeued += takeBackTasks(slot, from: worker, entry.id, ran, how, into: &effects)
                if sessions[slot]!.isOpen { loseReplicas(slot, on: worker, entry.id, into: &effects) }
            }
        }
        scheduler.leave(worker)
        remove(worker)
        isHere(worker)
        effects.append(.note(.workerLost(entry.id, reason: reason, requeuedTasks: requeued)))
        for slot in sessions.indices where hasSession(slot) { removeIfOver(slot, into: &effects) }
    }

    /// Tasks that the worker had run again elsewhere, unless they must not.
    private mutating func takeBackTasks(
        _ slot: Int, from worker: Int, _ id: WorkerID, _ known: RanAtLoss, _ how: String, into effects: inout ContiguousArray<ServerEffect>
    ) -> Int {
        // All are charged first: one that ran before the server knew of its inputs is withdrawn with the task that made them.
        let tasks = sessions[slot]!.tasks.assigned(to: UInt32(worker))
        for task in tasks where isOn(worker, slot, task) {
            guard ran(slot, task, known), !sessions[slot]!.tasks.cancelRequested.contains(task),
                sessions[slot]!.template(of: task).rerun != .never,
                charge(slot, attempt(slot, task), worker: id, how: Self.ending(how), into: &effects)
            else { continue }
            failPoisonous(slot, task, on: id, into: &effects)
            guard sessions[slot]!.isOpen else { return 0 }
        }
        var requeued = 0
        for task in tasks where isOn(worker, slot, task) {
            if sessions[slot]!.tasks.cancelRequested.contains(task) {
                handle(.cancelled(attempt(slot, task)), from: worker, into: &effects)
            } else if sessions[slot]!.template(of: task).rerun == .never {
                failLost(slot, task, on: id, into: &effects)
                guard sessions[slot]!.isOpen else { return requeued }
            } else {
                requeue(slot, task)
                requeued += 1
            }
        }
        return requeued
    }

    func isOn(_ worker: Int, _ slot: Int, _ task: UInt32) -> Bool {
        guard sessions[slot]!.tasks.worker[Int(task)] == UInt32(worker) else { return false }
        let state = sessions[slot]!.tasks.state[Int(task)]
        return state == .assigned || state == .running
    }

    mutating func failLost(_ slot: Int, _ task: UInt32, on id: WorkerID, into effects: inout ContiguousArray<ServerEffect>) {
        let error = TaskError(.workerLost, "worker \(id) was lost while it had the task, which must not run twice (rerun: never)")
        append(.failed(attempt(slot, task), id, error), into: &effects)
        failTask(slot, task, error, into: &effects)
    }

    func attempt(_ slot: Int, _ task: UInt32) -> AttemptID {
        AttemptID(
            task: TaskID(session: sessions[slot]!.id, index: task), epoch: attemptEpoch(slot, task),
            number: sessions[slot]!.tasks.attemptNumber[Int(task)])
    }

    func attemptEpoch(_ slot: Int, _ task: UInt32) -> ServerEpoch {
        if !sessions[slot]!.tasks.earlierEpochs.isEmpty, let earlier = sessions[slot]!.tasks.earlierEpochs[task] { return earlier }
        return epoch
    }

    /// At the end of the event.
    mutating func send(_ message: ServerMessage, to worker: Int) {
        workers[worker]?.link.enqueue(message)
        addressed.insert(worker)
    }

    /// Once all that it follows from is on disk. What a worker has thrown away it can't give to a server that was started again and knows of
    /// no reason.
    mutating func sendAfterCommit(_ message: ServerMessage, to worker: Int) {
        if case .send? = gate.afterCommit(.send(message, worker: worker)) { send(message, to: worker) }
    }

    /// Whether the worker was given the replica again meanwhile.
    func isWanted(_ replica: Replica, on worker: Int) -> Bool {
        guard let slot = slotOfSession[replica.object.session], replica.object.index < sessions[slot]!.objects.count else { return false }
        let object = replica.object.index
        return sessions[slot]!.objects.state[Int(object)] == .finished && sessions[slot]!.objects.generation[Int(object)] == replica.generation
            && sessions[slot]!.objects.isHeld(object, by: UInt32(worker))
    }

    /// The replica is to be forgotten there: told at the end of the event, with others.
    mutating func drop(_ replica: Replica, on worker: Int) {
        guard !isRestoring else { return }  // Whoever has it hands it over, and hears then.
        workers[worker]?.drops.append(replica)
        addressed.insert(worker)
    }

    /// What workers are to be told, as frames.
    mutating func flushWorkers(now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        var frames: ContiguousArray<ServerToWorkerFrame> = []
        while !addressed.isEmpty {
            let worker = addressed.removeFirst()
            guard hasWorker(worker) else { continue }
            if !workers[worker]!.drops.isEmpty {
                var drops: [Replica] = []
                swap(&drops, &workers[worker]!.drops)
                // One event may drop more than a message holds.
                for start in stride(from: 0, to: drops.count, by: ControlLimits.dropCountMax) {
                    let part = drops.count <= ControlLimits.dropCountMax ? drops : Array(drops[start...].prefix(ControlLimits.dropCountMax))
                    if case .send? = gate.afterCommit(.send(.drop(part), worker: worker)) { workers[worker]!.link.enqueue(.drop(part)) }
                }
            }
            guard let peer = workers[worker]!.peer else { continue }
            if workers[worker]!.barrier > gate.committed {
                barred.insert(worker)
            } else {
                workers[worker]!.link.flush(now: now, into: &frames)
            }
            workers[worker]!.link.heartbeat(now: now, into: &frames)
            for frame in frames { effects.append(.send(peer, frame)) }
            frames.removeAll(keepingCapacity: true)
        }
    }
}
