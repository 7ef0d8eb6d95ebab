import Link
import TaskModel

/// How subworkers end, and who is charged for it.
extension WorkerCore {
    mutating func stopSubworker(
        _ subworker: SubworkerHandle, isKilled: Bool, isOverdue: Bool = false, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        guard subworkers[subworker].stop(isKilled: isKilled, isOverdue: isOverdue, now: now) else { return }
        effects.append(.stopSubworker(subworkers[subworker].id, isKilled: isKilled))
    }

    mutating func subworkerEnded(
        _ id: SubworkerID, evidence: TaskError, running: SlotSet, begun: SlotSet, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        guard let handle = subworkerByID[id] else { return }
        let machine = subworkers[handle]
        let pool = machine.pool
        let wasStopped: Bool
        switch machine.state {
        case .starting, .open: wasStopped = false
        case .stopping: wasStopped = true
        }
        if !machine.wasRegistered {
            pools[pool].startingCount -= 1
            startingCount -= 1
        }
        pools[pool].members.removeAll { $0 == handle }
        for reservation in machine.reservations.rows { reservedBytes -= reservation.heldBytes }
        subworkerByID[id] = nil
        subworkers.remove(handle)
        if let lane = machine.lane { for _ in 0..<machine.unitCount { cpus.release(lanes[lane].cpus) } }

        var isCharged = false
        // The youngest first, each in front of its lane, so that they stand there in order.
        for slot in machine.slotsInOrder().reversed() {
            guard let attempt = machine.attempt(in: slot), let sequence = machine.sequence(of: slot) else { continue }
            let wasRunning = running.contains(slot)
            isCharged = isCharged || (wasRunning && !wasStopped)
            let isAtFault = wasRunning && !wasStopped
            lost(attempt, sequence: sequence, hasBegun: wasRunning || begun.contains(slot), isAtFault: isAtFault, evidence)
        }
        // One that did no work and lost no call on the way says that the command is at fault.
        let isFutile = machine.answeredCount == 0 && !isCharged && (!wasStopped || machine.isOverdue)
        if isFutile { poolFailed(pool, evidence, isOverdue: machine.isOverdue) }
        if let session = pools[pool].session, sessions[session].closing != .no { closedSessions.append(session) }
        removeIfUnused(pool)
    }

    /// The process under a call is gone.
    private mutating func lost(_ attempt: AttemptHandle, sequence: UInt64, hasBegun: Bool, isAtFault: Bool, _ evidence: TaskError) {
        switch attempts[attempt].stop {
        case .sessionClosed:
            settle(attempt, .vanished)
        case .cancelled:
            settle(attempt, .cancelled)
        case .no where !hasBegun:
            takeBack(attempt, sequence: sequence)
        case .no where !isAtFault:
            // It begins once more, unless it may not.
            let mayRepeat = templates[attempts[attempt].template].template.rerun != .never
            if mayRepeat {
                attempts[attempt].hasBegun = true
                refuseRevoke(attempt)
                requeue(attempt, sequence: sequence, inFront: true)
            } else {
                settle(attempt, .failed(ContractErrors.endedByAnother(attempts[attempt].id, evidence)))
            }
        case .no:
            charge(attempt, evidence)
        }
    }

    /// Answers the server that asked for the attempt back: it has begun.
    mutating func refuseRevoke(_ attempt: AttemptHandle) {
        guard attempts[attempt].isRevoking else { return }
        attempts[attempt].isRevoking = false
        tell(.revoked(attempts[attempt].id, wasTakenBack: false))
    }

    /// The attempt was running when its process died: it fails, or runs again while its template allows that.
    mutating func charge(_ attempt: AttemptHandle, _ evidence: TaskError) {
        attempts[attempt].crashes.append(evidence)
        let crashes = attempts[attempt].crashes
        let template = attempts[attempt].template
        templates[template].learned.forget()
        let policy = templates[template].template
        if crashes.count <= Int(policy.retryCountMax), policy.rerun != .never, crashes.count < Self.poisonCrashCount {
            attempts[attempt].hasBegun = true
            refuseRevoke(attempt)
            requeue(attempt, sequence: takeSequence(), inFront: false)
        } else {
            settle(attempt, .failed(ContractErrors.crashed(crashes, last: evidence)))
        }
    }

    private mutating func poolFailed(_ pool: PoolHandle, _ evidence: TaskError, isOverdue: Bool) {
        let hasEverRegistered = pools[pool].hasRegistered
        guard pools[pool].failed() else { return }
        let error = SetupErrors.neverRegistered(
            pools[pool].command.name, evidence, hasEverRegistered: hasEverRegistered, isOverdue: isOverdue)
        for lane in readyLanes where lanes[lane].runner == .subworkers(pool) {
            while let attempt = head(of: lane) { settle(attempt, .failed(error)) }
        }
    }
}
