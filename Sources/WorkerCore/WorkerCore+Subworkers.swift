import Link
import TaskModel

/// The life of subworkers and what they answer.
extension WorkerCore {
    /// A lane has a free CPU and nobody to run its head: as many processes as its ready attempts fill, and at most one for each CPU that is
    /// free. A starting process occupies none; others may use them meanwhile.
    mutating func startSubworkers(for lane: LaneHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        guard case .subworkers(let pool) = lanes[lane].runner, let head = head(of: lane) else { return }
        let room = min(cpus.roomCount(lanes[lane].cpus), Int(cpus.capacity)) - startingCount
        let threads = pools[pool].threads
        let count = min((pools[pool].readyCount + threads - 1) / threads - pools[pool].startingCount, room)
        if count > 0 { for _ in 0..<count { startSubworker(pool, for: head, into: &effects) } }
    }

    private mutating func startSubworker(_ pool: PoolHandle, for attempt: AttemptHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        let id = SubworkerID(nextSubworker)
        nextSubworker += 1
        let handle = subworkers.insert(SubworkerMachine(id: id, pool: pool, now: now))
        subworkerByID[id] = handle
        pools[pool].members.append(handle)
        pools[pool].startingCount += 1
        startingCount += 1
        let program = program(of: attempt).map { placeProgram($0, of: pool) }
        effects.append(.startSubworker(id, pools[pool].command, program: program))
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
            reservedBytes -= call.reservedBytes
            let attempt = call.attempt
            if call.bringsConstants, answer.wasRead { rememberConstants(of: attempt, by: handle) }
            let template = attempts[attempt].template
            // A subworker may claim anything, but no call took longer than it was away.
            let duration = min(answer.durationNanoseconds, now.since(attempts[attempt].startedAt))
            templates[template].learned.learn(duration)
            releaseUnits(of: handle, cpusEach: templates[template].cpus)
            conclude(attempt, answer, sequence: call.sequence, durationNanoseconds: duration, into: &effects)
        }
        guard memoryGrowthMax(of: handle) != nil, subworkers[handle].isTimeToMeasure(now) else { return }
        effects.append(.measureMemory(id))
    }

    private func memoryGrowthMax(of subworker: SubworkerHandle) -> UInt64? {
        pools[subworkers[subworker].pool].command.memoryGrowthBytesMax ?? memoryGrowthBytesMax
    }

    mutating func memoryMeasured(_ id: SubworkerID, _ bytes: UInt64, into effects: inout ContiguousArray<WorkerEffect>) {
        guard let handle = subworkerByID[id], let growthMax = memoryGrowthMax(of: handle),
            let growth = subworkers[handle].measured(bytes: bytes, growthMax: growthMax)
        else { return }
        effects.append(
            .note(
                "subworker '\(pools[subworkers[handle].pool].command.name)' has \(growth >> 20) MiB more in memory than after its first call, more than "
                    + "\(growthMax >> 20) MiB (memory_growth): another process takes its place"))
    }

    private mutating func conclude(
        _ attempt: AttemptHandle, _ answer: CallAnswer, sequence: UInt64, durationNanoseconds: UInt64, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        switch answer.result {
        case .outputs(let outputs):
            let started = Instant(nanoseconds: now.nanoseconds - durationNanoseconds)
            complete(
                attempt, outputs, started: started, durationNanoseconds: durationNanoseconds, debug: answer.debug, attributes: answer.attributes,
                into: &effects)
        case .failed where attempts[attempt].stop == .cancelled:
            // It was asked to stop, and this is how it did.
            settle(attempt, .cancelled)
        case .failed(var error):
            if error.debug.isEmpty { error.debug = answer.debug }
            settle(attempt, .failed(error))
        case .outOfRoom(let error):
            switch attempts[attempt].stop {
            case .no: callOutOfRoom(attempt, sequence: sequence, error, into: &effects)
            case .cancelled: settle(attempt, .cancelled)
            case .sessionClosed: settle(attempt, .vanished)
            }
        case .cancelled:
            settle(attempt, .cancelled)
        }
    }

    /// Only what a subworker has answered for is surely remembered there: a call that was taken back may never have been read.
    private mutating func rememberConstants(of attempt: AttemptHandle, by subworker: SubworkerHandle) {
        let constantCount = min(templates[attempts[attempt].template].constantCount, attempts[attempt].inputs.count)
        for position in 0..<constantCount {
            let object = attempts[attempt].inputs[position]
            if objects[object].isDetached || objects[object].cachedBy.contains(subworker) { continue }
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
                reservedBytes -= call.reservedBytes
                let cpusEach = templates[attempts[attempt].template].cpus
                takeBack(attempt, sequence: call.sequence)
                releaseUnits(of: handle, cpusEach: cpusEach)
            } else {
                begun(attempt, slot: slot, on: handle, into: &effects)
            }
        }
    }

    /// The call had not begun, so the attempt can go wherever it is wanted.
    mutating func takeBack(_ attempt: AttemptHandle, sequence: UInt64) {
        switch attempts[attempt].stop {
        case .sessionClosed: settle(attempt, .vanished)
        case .cancelled: settle(attempt, .cancelled)
        case .no:
            if attempts[attempt].isRevoking, !attempts[attempt].hasBegun {
                settle(attempt, .takenBack)
            } else {
                refuseRevoke(attempt)
                requeue(attempt, sequence: sequence, inFront: true)
            }
        }
    }

    /// The call could not be taken back.
    private mutating func begun(
        _ attempt: AttemptHandle, slot: UInt8, on subworker: SubworkerHandle, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        refuseRevoke(attempt)
        switch attempts[attempt].stop {
        case .no: break
        case .cancelled: cancel(slot, of: subworker, into: &effects)
        case .sessionClosed: stopSubworker(subworker, isKilled: true, into: &effects)
        }
    }

    /// A running call is asked to stop; it has a moment to do so.
    mutating func cancel(_ slot: UInt8, of subworker: SubworkerHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        guard subworkers[subworker].state == .open else { return }  // Its end answers for the call.
        subworkers[subworker].cancel(slot, now: now)
        effects.append(.cancelCall(subworkers[subworker].id, slot: slot))
    }
}

extension CallAnswer {
    /// Whether the subworker surely read the call: its own code spoke. A shell that could not send it says so with other causes.
    fileprivate var wasRead: Bool {
        switch result {
        case .outputs, .outOfRoom: true
        case .failed(let error): error.cause == .user || error.cause == .contract
        case .cancelled: false
        }
    }
}
