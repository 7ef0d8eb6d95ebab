import Link
import Scheduling
import TaskModel

/// Workers that a restarted server knows from before: what they ran and held goes on counting.
///
///     away ──hello of the same process──▶ handing over ──handedOver──▶ (like any other worker)
///       │                                      └──not in time──▶ (lost)
///       └──another process of its place, or no hello in time──▶ (lost)
///
/// Until it has handed over, nothing is placed on it, and nobody is told that an object of which only it has a copy is gone.
extension ServerCore {
    func isAway(_ worker: Int) -> Bool { !away.isEmpty && away[worker] }

    /// Why a worker that says hello and does not hand over is to be given up, if it is: it may show life for ever.
    mutating func judgeHandover(of worker: Int, latenessNanoseconds: UInt64) -> String? {
        guard isAway(worker), let deadline = workers[worker]?.handover?.deadline else { return nil }
        guard now.nanoseconds > deadline.nanoseconds + latenessNanoseconds else {
            // What it said while the server stood still is looked at only from here on.
            workers[worker]!.handover!.deadline = Instant(nanoseconds: deadline.nanoseconds + latenessNanoseconds)
            return nil
        }
        return "it came back after the server was started again, and did not say within \(LinkTiming.handoverMillisecondsMax / 1000) s what it has"
    }

    /// The session is known there. One that is over ends there now.
    mutating func knows(_ id: SessionID, on worker: Int) {
        guard workers[worker]!.handover != nil else { return }
        workers[worker]!.handover!.knownSessions.insert(id)
        if slotOfSession[id] == nil { send(.closeSession(id), to: worker) }
    }

    mutating func runs(_ attempt: AttemptID, on worker: Int) {
        guard workers[worker]!.handover != nil, let slot = slotOfSession[attempt.task.session], sessions[slot]!.isOpen else { return }
        if current(attempt, on: worker) == nil, !takeUp(attempt, slot, on: worker) { return sendAfterCommit(.cancel(attempt), to: worker) }
        workers[worker]!.handover!.begunAttempts.append(attempt)
    }

    mutating func holds(_ replica: Replica, on worker: Int) {
        let object = replica.object.index
        guard workers[worker]!.handover != nil, let slot = slotOfSession[replica.object.session], sessions[slot]!.isOpen else { return }
        guard object < sessions[slot]!.objects.count, sessions[slot]!.objects.generation[Int(object)] == replica.generation,
            sessions[slot]!.objects.state[Int(object)] == .finished
        else { return drop(replica, on: worker) }
        if !sessions[slot]!.objects.isHeld(object, by: UInt32(worker)) {
            sessions[slot]!.objects.addHolder(UInt32(worker), of: object)
            workers[worker]!.objectCount += 1
        }
        workers[worker]!.handover!.heldObjects.insert(replica.object)
    }

    /// The record of an assignment may be lost with the end of a journal; then the worker alone knows of it. Not of one that must not run
    /// twice: its record was on disk before the worker heard of it.
    ///
    /// - Returns: whether the task is on this attempt now.
    private mutating func takeUp(_ attempt: AttemptID, _ slot: Int, on worker: Int) -> Bool {
        let task = attempt.task.index
        guard task < sessions[slot]!.tasks.count, attempt.epoch < epoch, workers[worker]!.handover != nil else { return false }
        let row = sessions[slot]!.tasks.row[Int(task)]
        let state = sessions[slot]!.tasks.state[Int(task)]
        guard state == .waiting || state == .ready, row < sessions[slot]!.activeRowCount, sessions[slot]!.tasks.rowMissing[Int(row)] == 0,
            sessions[slot]!.template(of: task).rerun != .never
        else { return false }
        sessions[slot]!.tasks.state[Int(task)] = .assigned
        sessions[slot]!.tasks.worker[Int(task)] = UInt32(worker)
        sessions[slot]!.tasks.attemptNumber[Int(task)] = attempt.number
        sessions[slot]!.tasks.earlierEpochs[task] = attempt.epoch
        sessions[slot]!.tasks.awaited.insert(task)
        return true
    }

    /// - Returns: the session's slot when the outcome counts.
    mutating func takeUpFinished(_ attempt: AttemptID, on worker: Int) -> Int? {
        guard workers[worker]!.handover != nil, let slot = slotOfSession[attempt.task.session], sessions[slot]!.isOpen else { return nil }
        if attempt.task.index < sessions[slot]!.tasks.count, sessions[slot]!.tasks.awaited.contains(attempt.task.index),
            sessions[slot]!.template(of: attempt.task.index).rerun != .never
        {
            requeue(slot, attempt.task.index)  // What is done here is not waited for elsewhere.
        }
        guard takeUp(attempt, slot, on: worker) else { return nil }
        touched.insert(slot)
        return slot
    }

    /// What the worker did not hand over it has not got: those tasks have not begun.
    mutating func endHandover(of worker: Int, into effects: inout ContiguousArray<ServerEffect>) {
        guard let handover = workers[worker]!.handover else { return }
        workers[worker]!.handover = nil
        scheduler.rejoin(worker, cpus: workers[worker]!.description.cpus, subworkers: workers[worker]!.description.subworkers)
        isHere(worker)
        let begun = Set(handover.begunAttempts)
        var runningCount = 0
        for slot in sessions.indices where sessions[slot] != nil {
            if worker < sessions[slot]!.told.count, sessions[slot]!.told[worker] != nil {
                sessions[slot]!.told[worker] = handover.knownSessions.contains(sessions[slot]!.id) ? [] : nil
            }
            guard sessions[slot]!.isOpen else { continue }
            // One that fails may take others with it.
            for task in awaitedTasks(slot) where sessions[slot]!.tasks.worker[Int(task)] == UInt32(worker) && sessions[slot]!.tasks.awaited.contains(task) {
                guard begun.contains(attempt(slot, task)) else {
                    requeue(slot, task)
                    continue
                }
                goOn(slot, task, on: worker)
                guard let object = lostInput(slot, task, handover) else {
                    runningCount += 1
                    continue
                }
                takeBack(slot, task, missing: object, on: worker, into: &effects)
                guard sessions[slot]!.isOpen else { break }
            }
            guard sessions[slot]!.isOpen else { continue }
            let id = workers[worker]!.id
            var gone: ContiguousArray<UInt32> = []
            for object in sessions[slot]!.objects.held(by: UInt32(worker)) {
                guard !handover.heldObjects.contains(ObjectID(session: sessions[slot]!.id, index: object)) else { continue }
                sessions[slot]!.objects.removeHolder(UInt32(worker), of: object)
                workers[worker]!.objectCount -= 1
                if sessions[slot]!.objects.isGone(object) { gone.append(object) }
            }
            remake(slot, gone, lostWith: "worker \(id) does not have", into: &effects)
        }
        lookAtMisfits()
        effects.append(.note(.workerReturned(workers[worker]!.id, runningTasks: runningCount, objects: handover.heldObjects.count)))
        // Another may have finished it meanwhile.
        for attempt in handover.begunAttempts where current(attempt, on: worker) == nil { sendAfterCommit(.cancel(attempt), to: worker) }
    }

    /// An input that the worker had when the task began there, and has no more: somebody wrote to it.
    private func lostInput(_ slot: Int, _ task: UInt32, _ handover: WorkerEntry.Handover) -> UInt32? {
        let id = sessions[slot]!.id
        let inputs = sessions[slot]!.tasks.inputs[sessions[slot]!.tasks.inputRange(ofRow: sessions[slot]!.tasks.row[Int(task)])]
        return inputs.first { !handover.heldObjects.contains(ObjectID(session: id, index: $0)) }
    }

    /// By rising number: a set has no order.
    func awaitedTasks(_ slot: Int) -> ContiguousArray<UInt32> {
        if sessions[slot]!.tasks.awaited.isEmpty { return [] }
        return ContiguousArray((0..<sessions[slot]!.tasks.count).lazy.filter { sessions[slot]!.tasks.awaited.contains($0) })
    }

    private mutating func goOn(_ slot: Int, _ task: UInt32, on worker: Int) {
        sessions[slot]!.tasks.awaited.remove(task)
        sessions[slot]!.tasks.state[Int(task)] = .running
        sessions[slot]!.runningCount += 1
        workers[worker]!.runningCount += 1
        occupy(slot, task, worker)
        if sessions[slot]!.tasks.cancelRequested.contains(task) { sendAfterCommit(.cancel(attempt(slot, task)), to: worker) }
    }

    /// The worker has handed over, or is lost: what waited for it is looked at again.
    mutating func isHere(_ worker: Int) {
        guard isAway(worker) else { return }
        away[worker] = false
        if !away.contains(true) { away = [] }
        for slot in sessions.indices where sessions[slot] != nil {
            touched.insert(slot)
            while let task = sessions[slot]!.outOfReach.first {
                sessions[slot]!.outOfReach.removeFirst()
                sessions[slot]!.ready.append(task..<task + 1)
                placeable.insert(slot)
            }
        }
    }

    /// Whether the task needs what only workers have that are away.
    func isOutOfReach(_ slot: Int, _ task: UInt32) -> Bool {
        for position in sessions[slot]!.tasks.inputRange(ofRow: sessions[slot]!.tasks.row[Int(task)])
        where sessions[slot]!.objects.isOutOfReach(sessions[slot]!.tasks.inputs[position], away) { return true }
        return false
    }
}
