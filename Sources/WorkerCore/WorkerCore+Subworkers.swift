import Link
import TaskModel

/// The life of subworkers and what they answer.
extension WorkerCore {
    /// A lane has a free CPU and nobody to run its head: as many processes as its ready attempts need, and at most one for each CPU that is
    /// free. A starting process occupies none; others may use them meanwhile.
    mutating func startSubworkers(for lane: LaneHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        guard case .subworkers(let pool) = lanes[lane].runner else { return }
        let room = min(cpus.roomCount(lanes[lane].cpus), Int(cpus.capacity)) - startingCount
        let count = min(pools[pool].readyCount - pools[pool].startingCount, room)
        if count > 0 { for _ in 0..<count { startSubworker(pool, into: &effects) } }
    }

    private mutating func startSubworker(_ pool: PoolHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        let id = SubworkerID(nextSubworker)
        nextSubworker += 1
        let handle = subworkers.insert(SubworkerMachine(id: id, pool: pool, now: now))
        subworkerByID[id] = handle
        pools[pool].members.append(handle)
        pools[pool].startingCount += 1
        startingCount += 1
        effects.append(.startSubworker(id, pools[pool].command))
    }

    mutating func subworkerRegistered(_ id: SubworkerID, _ capabilities: SubworkerCapabilities) {
        guard let handle = subworkerByID[id], subworkers[handle].registered(capabilities, now: now) else { return }
        let pool = subworkers[handle].pool
        pools[pool].startingCount -= 1
        startingCount -= 1
        pools[pool].registered(tasks: capabilities.tasks)
    }

    mutating func callsAnswered(
        _ id: SubworkerID, _ answers: ContiguousArray<CallAnswer>, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        guard let handle = subworkerByID[id] else { return }  // What a process said before it died, heard after.
        for answer in answers {
            guard let call = subworkers[handle].answered(answer.slot, now: now) else {
                effects.append(.note("subworker \(id.rawValue) answered in slot \(answer.slot), in which it has no call"))
                continue
            }
            pools[subworkers[handle].pool].failuresInRow = 0
            let attempt = call.attempt
            if call.bringsConstants, answer.wasRead { rememberConstants(of: attempt, by: handle) }
            let template = attempts[attempt].template
            templates[template].learned.learn(answer.durationNanoseconds)
            releaseUnits(of: handle, cpusEach: templates[template].cpus)
            conclude(attempt, answer, into: &effects)
        }
    }

    private mutating func conclude(_ attempt: AttemptHandle, _ answer: CallAnswer, into effects: inout ContiguousArray<WorkerEffect>) {
        switch answer.result {
        case .outputs(let outputs):
            let started = Instant(nanoseconds: now.nanoseconds - min(answer.durationNanoseconds, now.nanoseconds))
            complete(
                attempt, outputs, started: started, durationNanoseconds: answer.durationNanoseconds, debug: answer.debug, attributes: answer.attributes,
                into: &effects)
        case .failed(var error):
            if error.debug.isEmpty { error.debug = answer.debug }
            settle(attempt, .failed(error))
        case .cancelled:
            settle(attempt, .cancelled)
        }
    }

    /// Only what a subworker has answered for is surely remembered there: a call that was taken back may never have been read.
    private mutating func rememberConstants(of attempt: AttemptHandle, by subworker: SubworkerHandle) {
        let constantCount = min(templates[attempts[attempt].template].constantCount, attempts[attempt].inputs.count)
        for position in 0..<constantCount {
            let object = attempts[attempt].inputs[position]
            if objects[object].cachedBy.contains(subworker) { continue }
            objects[object].cachedBy.removeAll { !subworkers.contains($0) }
            objects[object].cachedBy.append(subworker)
        }
    }

    /// Fewer calls run there now than CPUs are occupied for.
    private mutating func releaseUnits(of subworker: SubworkerHandle, cpusEach: UInt32) {
        while subworkers[subworker].unitCount > subworkers[subworker].runningCount {
            subworkers[subworker].unitCount -= 1
            cpus.release(cpusEach)
        }
    }

    // MARK: Taking back

    mutating func recall(_ slots: SlotSet, from subworker: SubworkerHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        guard subworkers[subworker].state == .open else { return }  // It is being killed, which answers for all of them.
        let asked = subworkers[subworker].recall(slots)
        if !asked.isEmpty { effects.append(.recall(subworkers[subworker].id, slots: asked)) }
    }

    /// What waits behind a call that takes long is done elsewhere when there is a CPU for it.
    mutating func recallBehindSlowCalls(into effects: inout ContiguousArray<WorkerEffect>) {
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index), canRecallBehind(handle),
                now.since(subworkers[handle].headSince) >= SubworkerMachine.slowNanoseconds
            else { continue }
            subworkers[handle].isQueueRecalled = true
            recall(subworkers[handle].queuedSlots(), from: handle, into: &effects)
        }
    }

    func canRecallBehind(_ subworker: SubworkerHandle) -> Bool {
        guard subworkers[subworker].state == .open, subworkers[subworker].hasQueue, let lane = subworkers[subworker].lane else { return false }
        return cpus.fits(lanes[lane].cpus)
    }

    mutating func recalled(_ id: SubworkerID, _ slots: SlotSet, into effects: inout ContiguousArray<WorkerEffect>) {
        guard let handle = subworkerByID[id] else { return }  // It died meanwhile.
        let asked = subworkers[handle].recallAnswered()
        // The youngest first, each in front of its lane, so that they stand there in order.
        for slot in subworkers[handle].slotsInOrder().reversed() where asked.contains(slot) {
            guard let attempt = subworkers[handle].attempt(in: slot) else { continue }
            if slots.contains(slot) {
                guard let call = subworkers[handle].remove(slot) else { continue }
                let cpusEach = templates[attempts[attempt].template].cpus
                takeBack(attempt, sequence: call.sequence)
                releaseUnits(of: handle, cpusEach: cpusEach)
            } else {
                begun(attempt, on: handle, into: &effects)
            }
        }
    }

    /// The call had not begun, so the attempt can go wherever it is wanted.
    private mutating func takeBack(_ attempt: AttemptHandle, sequence: UInt64) {
        switch attempts[attempt].stop {
        case .sessionClosed: settle(attempt, .vanished)
        case .cancelled: settle(attempt, .cancelled)
        case .no:
            if attempts[attempt].isRevoking {
                settle(attempt, .takenBack)
            } else {
                requeue(attempt, sequence: sequence, inFront: true)
            }
        }
    }

    /// The call could not be taken back.
    private mutating func begun(_ attempt: AttemptHandle, on subworker: SubworkerHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        if attempts[attempt].isRevoking {
            attempts[attempt].isRevoking = false
            link.enqueue(.revoked(attempts[attempt].id, wasTakenBack: false))
        }
        if attempts[attempt].stop != .no { stopSubworker(subworker, isKilled: true, into: &effects) }
    }

    // MARK: The end

    mutating func stopSubworker(
        _ subworker: SubworkerHandle, isKilled: Bool, isOverdue: Bool = false, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        guard subworkers[subworker].stop(isKilled: isKilled, isOverdue: isOverdue, now: now) else { return }
        effects.append(.stopSubworker(subworkers[subworker].id, isKilled: isKilled))
    }

    mutating func subworkerEnded(
        _ id: SubworkerID, evidence: TaskError, running: SlotSet, into effects: inout ContiguousArray<WorkerEffect>
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
        subworkerByID[id] = nil
        subworkers.remove(handle)
        if let lane = machine.lane { for _ in 0..<machine.unitCount { cpus.release(lanes[lane].cpus) } }

        var isCharged = false
        // The youngest first, each in front of its lane, so that they stand there in order.
        for slot in machine.slotsInOrder().reversed() {
            guard let attempt = machine.attempt(in: slot), let sequence = machine.sequence(of: slot) else { continue }
            let wasRunning = running.contains(slot)
            isCharged = isCharged || (wasRunning && !wasStopped)
            lost(attempt, sequence: sequence, wasRunning: wasRunning, wasStopped: wasStopped, evidence)
        }
        // One that did no work and lost no call on the way says that the command is at fault.
        let isFutile = machine.answeredCount == 0 && !isCharged && (!wasStopped || machine.isOverdue)
        if isFutile { poolFailed(pool, evidence, isOverdue: machine.isOverdue) }
        removeIfUnused(pool)
    }

    /// The process under a call is gone.
    private mutating func lost(_ attempt: AttemptHandle, sequence: UInt64, wasRunning: Bool, wasStopped: Bool, _ evidence: TaskError) {
        switch attempts[attempt].stop {
        case .sessionClosed:
            settle(attempt, .vanished)
        case .cancelled:
            settle(attempt, .cancelled)
        case .no where !wasRunning:
            takeBack(attempt, sequence: sequence)
        case .no where wasStopped:
            // Not its fault. It begins once more, unless it may not.
            let mayRepeat = templates[attempts[attempt].template].template.rerun != .never
            if mayRepeat {
                answerRevokeOfBegun(attempt)
                requeue(attempt, sequence: sequence, inFront: true)
            } else {
                settle(attempt, .failed(ContractErrors.stoppedForAnother(attempts[attempt].id)))
            }
        case .no:
            charge(attempt, evidence)
        }
    }

    private mutating func answerRevokeOfBegun(_ attempt: AttemptHandle) {
        guard attempts[attempt].isRevoking else { return }
        attempts[attempt].isRevoking = false
        link.enqueue(.revoked(attempts[attempt].id, wasTakenBack: false))
    }

    /// The attempt was running when its process died: it fails, or runs again while its template allows that.
    mutating func charge(_ attempt: AttemptHandle, _ evidence: TaskError) {
        attempts[attempt].crashCount += 1
        let crashCount = attempts[attempt].crashCount
        let template = attempts[attempt].template
        templates[template].learned.forget()
        let policy = templates[template].template
        if crashCount <= policy.retryCountMax, policy.rerun != .never, crashCount < Self.poisonCrashCount {
            answerRevokeOfBegun(attempt)
            requeue(attempt, sequence: takeSequence(), inFront: false)
        } else {
            settle(attempt, .failed(crashCount > 1 ? ContractErrors.poison(crashCount: crashCount, evidence) : evidence))
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

extension CallAnswer {
    /// Whether the subworker surely read the call: its own code spoke. A shell that could not send it says so with other causes.
    fileprivate var wasRead: Bool {
        switch result {
        case .outputs: true
        case .failed(let error): error.cause == .user || error.cause == .contract
        case .cancelled: false
        }
    }
}
