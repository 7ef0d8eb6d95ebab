import Link
import TaskModel

/// Lanes and pools: where ready attempts wait, and for whom.
extension WorkerCore {
    mutating func pool(of command: SubworkerCommand, session: SessionHandle? = nil, threads: Int = 1) -> PoolHandle {
        if let known = poolByCommand[command] { return known }
        let handle = pools.insert(SubworkerPool(command: command, session: session, threads: threads))
        poolByCommand[command] = handle
        if let session { sessions[session].pools.append(handle) }
        return handle
    }

    /// One more template leads to the lane. Few lanes exist, so they are searched.
    mutating func enterLane(_ runner: Lane.Runner, cpus: UInt32) -> LaneHandle {
        for index in lanes.indices {
            guard let lane = lanes.handle(at: index), lanes[lane].runner == runner, lanes[lane].cpus == cpus else { continue }
            lanes[lane].templateCount += 1
            return lane
        }
        let lane = lanes.insert(Lane(runner: runner, cpus: cpus))
        lanes[lane].templateCount = 1
        if case .subworkers(let pool) = runner { pools[pool].laneCount += 1 }
        return lane
    }

    /// One template fewer leads to the lane.
    mutating func exitLane(_ lane: LaneHandle) {
        lanes[lane].templateCount -= 1
        guard lanes[lane].templateCount == 0 else { return }
        if lanes[lane].isListed { readyLanes.removeAll { $0 == lane } }
        let runner = lanes[lane].runner
        lanes.remove(lane)
        if case .subworkers(let pool) = runner {
            pools[pool].laneCount -= 1
            removeIfUnused(pool)
        }
    }

    mutating func removeIfUnused(_ pool: PoolHandle) {
        guard pools[pool].laneCount == 0, pools[pool].members.isEmpty else { return }
        if let session = pools[pool].session { sessions[session].pools.removeAll { $0 == pool } }
        poolByCommand[pools[pool].command] = nil
        programBytes &-= pools[pool].programBytes
        pools.remove(pool)
    }

    /// All inputs are here: last in the lane.
    mutating func makeReady(_ attempt: AttemptHandle) { queue(attempt, sequence: takeSequence(), inFront: false) }

    /// Taken back before it began, or given another try: the lane has it again.
    mutating func requeue(_ attempt: AttemptHandle, sequence: UInt64, inFront: Bool) {
        guard interrupt(attempt) else { return }
        queue(attempt, sequence: sequence, inFront: inFront)
    }

    /// No process works on it any more; another may.
    ///
    /// - Returns: whether that can be here.
    mutating func interrupt(_ attempt: AttemptHandle) -> Bool {
        if let replica = detachedInput(of: attempt) {
            settle(attempt, .failed(SetupErrors.damaged(replica)))
            return false
        }
        becameInactive(attempt)
        if !reports.rows.isEmpty { forgetProgress(of: attempt) }
        return true
    }

    mutating func queue(_ attempt: AttemptHandle, sequence: UInt64, inFront: Bool) {
        guard let lane = templates[attempts[attempt].template].lane else { preconditionFailure("an attempt without a lane is ready") }
        attempts[attempt].handle(.queued(sequence: sequence))
        if inFront { lanes[lane].queue.pushFront(attempt) } else { lanes[lane].queue.pushBack(attempt) }
        if inFront || lanes[lane].readyCount == 0 { lanes[lane].isHeadKnown = false }
        lanes[lane].readyCount += 1
        if case .subworkers(let pool) = lanes[lane].runner { pools[pool].readyCount += 1 }
        if !lanes[lane].isListed {
            lanes[lane].isListed = true
            readyLanes.append(lane)
        }
    }

    /// A ready attempt starts, or ends without.
    mutating func leaveLane(_ attempt: AttemptHandle) {
        guard let lane = templates[attempts[attempt].template].lane else { preconditionFailure("an attempt without a lane is ready") }
        lanes[lane].readyCount -= 1
        lanes[lane].isHeadKnown = false
        if lanes[lane].queue.first == attempt { lanes[lane].queue.popFront() }
        if lanes[lane].readyCount == 0 { lanes[lane].queue.removeAll() }
        if case .subworkers(let pool) = lanes[lane].runner { pools[pool].readyCount -= 1 }
    }

    /// The oldest attempt of the lane that is still ready.
    mutating func head(of lane: LaneHandle) -> AttemptHandle? {
        while let first = lanes[lane].queue.first {
            if attempts.contains(first), case .ready(let sequence) = attempts[first].state {
                if !lanes[lane].isHeadKnown {
                    if lanes[lane].headSequence != sequence { lanes[lane].passCount = 0 }
                    lanes[lane].headSequence = sequence
                    lanes[lane].isHeadKnown = true
                }
                return first
            }
            lanes[lane].queue.popFront()
        }
        return nil
    }
}
