import Link
import TaskModel

/// Which ready attempt starts where.
///
/// The oldest ready attempt comes first, over all lanes. One that does not fit now is passed by younger ones, but not for ever: see `Lane`.
extension WorkerCore {
    mutating func dispatch(into effects: inout ContiguousArray<WorkerEffect>) {
        round += 1
        if isStoreFull || !waitingReservations.isEmpty { return }
        blockedLanes.removeAll(keepingCapacity: true)
        var isReserved = false
        while let lane = oldestOpenLane() {
            guard let attempt = head(of: lane) else { preconditionFailure("a lane with ready attempts has no head") }
            let weight = lanes[lane].cpus
            if isReserved, weight > 0 {
                lanes[lane].blockedRound = round
                continue
            }
            // What it would be told of is about to move: its path and the room that it takes would both be wrong.
            if objects.spillingBytes > 0, attempts[attempt].inputs.contains(where: { objects[$0].tier == .spilling }) {
                lanes[lane].blockedRound = round
                continue
            }
            // It may be what ended two workers: beside another such task nobody would know which of them ends the third.
            if attempts[attempt].isLastTry, lastTryCount > 0 {
                lanes[lane].blockedRound = round
                continue
            }
            guard place(attempt, of: lane, into: &effects) else {
                lanes[lane].blockedRound = round
                if cpus.fits(weight) {
                    startSubworkers(for: lane, into: &effects)
                } else {
                    blockedLanes.append(lane)
                    isReserved = isReserved || lanes[lane].passCount >= Lane.passCountMax
                }
                continue
            }
            if weight == 0 { continue }
            for blocked in blockedLanes {
                lanes[blocked].passCount += 1
                isReserved = isReserved || lanes[blocked].passCount >= Lane.passCountMax
            }
        }
    }

    /// Lanes are few: one for each kind of process and number of CPUs in use.
    private mutating func oldestOpenLane() -> LaneHandle? {
        var oldest: LaneHandle?
        var oldestSequence = UInt64.max
        var position = 0
        while position < readyLanes.count {
            let lane = readyLanes[position]
            if lanes[lane].readyCount == 0 {
                lanes[lane].isListed = false
                readyLanes.swapAt(position, readyLanes.count - 1)
                readyLanes.removeLast()
                continue
            }
            position += 1
            if lanes[lane].blockedRound == round { continue }
            if !lanes[lane].isHeadKnown { _ = head(of: lane) }
            if lanes[lane].headSequence < oldestSequence {
                oldest = lane
                oldestSequence = lanes[lane].headSequence
            }
        }
        return oldest
    }

    /// - Returns: whether the attempt left its lane: it runs, is queued at a subworker, or can't run at all.
    private mutating func place(_ attempt: AttemptHandle, of lane: LaneHandle, into effects: inout ContiguousArray<WorkerEffect>) -> Bool {
        switch lanes[lane].runner {
        case .jobs:
            guard cpus.fits(lanes[lane].cpus) else { return false }
            startJob(attempt, of: lane, into: &effects)
            return true
        case .subworkers(let pool):
            let template = attempts[attempt].template
            if pools[pool].hasRegistered, templates[template].checkedRegistration != pools[pool].registration { check(template, pool) }
            if let problem = templates[template].registrationProblem {
                settle(attempt, .failed(problem))
                return true
            }
            return call(attempt, of: lane, pool)
        }
    }

    private mutating func check(_ template: TemplateHandle, _ pool: PoolHandle) {
        templates[template].checkedRegistration = pools[pool].registration
        let method = templates[template].method
        templates[template].registrationProblem =
            pools[pool].runs(method)
            ? nil
            : SetupErrors.unknownMethod(
                templates[template].template.type, method: method, subworker: pools[pool].command.name, tasks: pools[pool].tasks)
    }

    private mutating func startJob(_ attempt: AttemptHandle, of lane: LaneHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        leaveLane(attempt)
        cpus.acquire(lanes[lane].cpus)
        attempts[attempt].handle(.jobStarted(now: now))
        becameActive(attempt)
        placeOutputs(of: attempt)
        effects.append(.runJob(JobToken(attempt.packed), request(attempt, subworker: nil)))
        reportStart(attempt)
    }

    mutating func reportStart(_ attempt: AttemptHandle) {
        guard !attempts[attempt].isStartReported else { return }
        attempts[attempt].isStartReported = true
        if sessions[attempts[attempt].session].closing == .no { tell(.started(attempts[attempt].id)) }
    }

    /// The least loaded of the pool's processes that can take the call. Where calls share processes, it is one that has some already, and the
    /// rest stay free.
    private mutating func call(_ attempt: AttemptHandle, of lane: LaneHandle, _ pool: PoolHandle) -> Bool {
        let weight = lanes[lane].cpus
        let isFree = cpus.fits(weight)
        let learned = templates[attempts[attempt].template].learned.estimate
        // Nothing waits behind what may end the worker, so that it is known what ran.
        let estimate = isStoreFilling || attempts[attempt].lossCount > 0 ? max(learned, LearnedDuration.queueNanoseconds + 1) : learned
        var best: SubworkerHandle?
        var bestLoad = UInt64.max
        var takesUnit = false
        for member in pools[pool].members {
            switch subworkers[member].room(lane: lane, estimate: estimate, round: round, now: now) {
            case .none: continue
            case .running(var load):
                if pools[pool].threads > 1, !subworkers[member].isBusy { load = Self.idleLoad }
                if !isFree || load >= bestLoad { continue }
                (best, bestLoad, takesUnit) = (member, load, true)
            case .queued(var load):
                if pools[pool].threads > 1 { load += Self.idleLoad }
                if load >= bestLoad { continue }
                (best, bestLoad, takesUnit) = (member, load, false)
            }
        }
        guard let best else { return false }
        if takesUnit {
            cpus.acquire(weight)
            subworkers[best].unitCount += 1
        }
        send(attempt, of: lane, to: best, estimate: estimate)
        return true
    }

    /// What comes after every load of a process with a free thread, and before that of a process without.
    private static let idleLoad: UInt64 = 1 << 62

    private mutating func send(_ attempt: AttemptHandle, of lane: LaneHandle, to subworker: SubworkerHandle, estimate: UInt64) {
        guard case .ready(let sequence) = attempts[attempt].state else { preconditionFailure("an attempt is called that is not ready") }
        leaveLane(attempt)
        let request = request(attempt, subworker: subworker)
        let bringsConstants = request.inputs.contains { $0.isKept }
        if bringsConstants {
            for (object, input) in zip(attempts[attempt].inputs, request.inputs) where input.isKept { objects[object].isConstant = true }
        }
        let slot = subworkers[subworker].call(
            attempt, lane: lane, sequence: sequence, estimate: estimate, bringsConstants: bringsConstants, round: round, now: now)
        if subworkers[subworker].outbox.isEmpty { outboxes.append(subworker) }
        subworkers[subworker].outbox.append(CallRequest(slot: slot, job: request))
        attempts[attempt].handle(.called(subworker, slot: slot, now: now))
        becameActive(attempt)
    }

    private func request(_ attempt: AttemptHandle, subworker: SubworkerHandle?) -> JobRequest {
        var request = JobRequest(
            attempt: attempts[attempt].id, template: templates[attempts[attempt].template].id, name: attempts[attempt].name,
            arguments: attempts[attempt].arguments, firstOutput: attempts[attempt].firstOutput, arrayIndex: attempts[attempt].arrayIndex,
            isOnDisk: attempts[attempt].isOnDisk)
        let inputCount = callInputCount(of: attempt)
        if inputCount == 0 { return request }
        let caching = subworker.flatMap { subworkers[$0].hasCaching ? $0 : nil }
        let keptCount = caching == nil ? 0 : templates[attempts[attempt].template].constantCount
        request.inputs.reserveCapacity(inputCount)
        for position in 0..<inputCount {
            request.inputs.append(local(attempts[attempt].inputs[position], cachedBy: position < keptCount ? caching : nil))
        }
        return request
    }

    /// Inputs that the task's code gets. The program that it is comes after them.
    func callInputCount(of attempt: AttemptHandle) -> Int {
        attempts[attempt].inputs.count - (templates[attempts[attempt].template].hasProgram ? 1 : 0)
    }

    /// What a ready attempt has brought along for its subworker to be started with.
    func program(of attempt: AttemptHandle) -> LocalInput? {
        guard templates[attempts[attempt].template].hasProgram, let object = attempts[attempt].inputs.last else { return nil }
        return local(object, cachedBy: nil)
    }

    /// - Parameter subworker: remembers the object from its first time on; `nil` when nobody does.
    private func local(_ object: ObjectHandle, cachedBy subworker: SubworkerHandle?) -> LocalInput {
        let isCached = subworker.map { objects[object].cachedBy.contains($0) } ?? false
        let value: LocalInput.Value
        switch objects[object].representation {
        case .expected, .fetching: preconditionFailure("\(objects[object].replica) is used before it is here")
        case .inline(let bytes): value = isCached ? .cached : .inline(bytes)
        case .stored: value = isCached ? .cached : .stored
        }
        return LocalInput(
            replica: objects[object].replica, sizeBytes: objects[object].sizeBytes, contentType: objects[object].contentType,
            isDirectory: objects[object].isDirectory, attributes: objects[object].attributes, value: value, isKept: subworker != nil && !isCached)
    }
}
