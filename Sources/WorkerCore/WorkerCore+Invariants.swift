import Link
import TaskModel

extension WorkerCore {
    /// Walks the whole state; for tests, after every event.
    package func checkInvariants() throws(BrokenInvariant) {
        try objects.check()
        try checkAttempts()
        try checkObjects()
        try checkLanes()
        try checkSubworkers()
        try checkSessions()
        try checkReservations()
        if !reports.hasNew, reports.rows.contains(where: { $0.isNew }) { throw BrokenInvariant("progress is new and nobody tells it") }
        if !frames.isEmpty { throw BrokenInvariant("frames were not sent") }
        if !outboxes.isEmpty { throw BrokenInvariant("calls were not sent") }
        try checkDetached()
        if !closedSessions.isEmpty { throw BrokenInvariant("sessions were not closed") }
        if !objects.removals.isEmpty || !objects.forgotten.isEmpty { throw BrokenInvariant("removals were not sent") }
    }

    /// What its files, programs of sessions among them, take in memory at most, as far as it knows.
    package var memoryFileBytes: UInt64 {
        var bytes = objects.memoryBytes &+ programBytes
        for index in finishes.indices {
            guard let finish = finishes.handle(at: index) else { continue }
            for output in finishes[finish].outputs where output.representation == .stored && !output.isOnDisk { bytes &+= output.sizeBytes }
        }
        return bytes
    }

    /// Whether nothing is left of any session: every table is empty but those of warm subworkers.
    package var isEmpty: Bool {
        sessions.isEmpty && sessionByID.isEmpty && templates.isEmpty && attempts.isEmpty && attemptByID.isEmpty && finishes.isEmpty
            && aliases.isEmpty && objects.isEmpty && lanes.isEmpty && programBytes == 0 && readyLanes.isEmpty && heldMessages == nil && cpus.occupied == 0
            && cpus.weightlessCount == 0 && reservedBytes == 0 && waitingReservations.isEmpty && roomWaits.isEmpty && pools.count == poolByCommand.count
            && subworkers.count == subworkerByID.count
    }

    private func checkAttempts() throws(BrokenInvariant) {
        guard attemptByID.count == attempts.count else { throw BrokenInvariant("attempts and their names") }
        var occupied: UInt32 = 0
        var weightless = 0
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index) else { continue }
            let row = attempts[attempt]
            guard attemptByID[row.id] == attempt, templates.contains(row.template) else { throw BrokenInvariant("\(row.id) is not found") }
            let missing = row.inputs.reduce(0) { $0 + (objects[$1].isLocal ? 0 : 1) }
            switch row.state {
            case .waiting(let count):
                guard count > 0, Int(count) == missing else { throw BrokenInvariant("\(row.id) waits for \(count) of \(missing) inputs") }
            case .ready, .finishing:
                guard missing == 0 else { throw BrokenInvariant("\(row.id) is ready without its inputs") }
            case .awaitingRoom:
                guard missing == 0, roomWaits.contains(where: { $0.attempt == attempt }) else { throw BrokenInvariant("\(row.id) waits for no room") }
            case .running:
                guard missing == 0 else { throw BrokenInvariant("\(row.id) runs without its inputs") }
                let weight = templates[row.template].cpus
                if weight == 0 { weightless += 1 } else { occupied += weight }
            case .calling(let subworker, let slot):
                guard missing == 0, subworkers.contains(subworker), subworkers[subworker].attempt(in: slot) == attempt else {
                    throw BrokenInvariant("\(row.id) is called on a subworker that does not know it")
                }
            }
        }
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index), let lane = subworkers[handle].lane else { continue }
            let weight = lanes[lane].cpus
            if weight == 0 { weightless += subworkers[handle].unitCount } else { occupied += weight * UInt32(subworkers[handle].unitCount) }
        }
        guard occupied == cpus.occupied, weightless == cpus.weightlessCount, occupied <= cpus.capacity else {
            throw BrokenInvariant("\(occupied) CPUs are in use, \(cpus.occupied) are booked, of \(cpus.capacity)")
        }
    }

    private func checkObjects() throws(BrokenInvariant) {
        var uses: [ObjectHandle: UInt32] = [:]
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index) else { continue }
            for object in attempts[attempt].inputs { uses[object, default: 0] += 1 }
        }
        for index in objects.rows.indices {
            guard let object = objects.rows.handle(at: index) else { continue }
            let row = objects[object]
            guard uses[object, default: 0] == row.useCount else { throw BrokenInvariant("\(row.replica) is used \(uses[object, default: 0]) times") }
            guard !row.isDropped || row.useCount > 0 || row.representation == .fetching else { throw BrokenInvariant("\(row.replica) was dropped") }
            if case .expected(let producer) = row.representation {
                guard attempts.contains(producer), row.useCount > 0 else { throw BrokenInvariant("\(row.replica) is expected from nobody") }
            }
            guard !row.isLocal || row.waiters.isEmpty else { throw BrokenInvariant("\(row.replica) is here and awaited") }
        }
    }

    /// What was written to is used by nobody who has yet to begin.
    private func checkDetached() throws(BrokenInvariant) {
        if objects.detachedCount == 0 { return }
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), !attempts[attempt].isActive, let replica = detachedInput(of: attempt) else { continue }
            throw BrokenInvariant("\(attempts[attempt].id) is to begin with \(replica), to which somebody has written")
        }
    }

    private func checkLanes() throws(BrokenInvariant) {
        var readyByPool: [PoolHandle: Int] = [:]
        for index in lanes.indices {
            guard let lane = lanes.handle(at: index) else { continue }
            var ready = 0
            for position in 0..<lanes[lane].queue.count {
                let attempt = lanes[lane].queue[position]
                if attempts.contains(attempt), case .ready = attempts[attempt].state { ready += 1 }
            }
            guard ready == lanes[lane].readyCount else { throw BrokenInvariant("\(ready) attempts are ready in a lane of \(lanes[lane].readyCount)") }
            guard ready == 0 || readyLanes.contains(lane) else { throw BrokenInvariant("a lane with ready attempts is not listed") }
            if case .subworkers(let pool) = lanes[lane].runner { readyByPool[pool, default: 0] += ready }
        }
        var startingTotal = 0
        for lane in readyLanes where !lanes.contains(lane) { throw BrokenInvariant("a lane that is gone is listed") }
        for index in pools.indices {
            guard let pool = pools.handle(at: index) else { continue }
            guard readyByPool[pool, default: 0] == pools[pool].readyCount else { throw BrokenInvariant("the ready attempts of a pool") }
            if let session = pools[pool].session {
                guard sessions.contains(session), sessions[session].pools.contains(pool) else { throw BrokenInvariant("a pool outlives its session") }
            }
            var starting = 0
            for member in pools[pool].members {
                guard subworkers.contains(member) else { throw BrokenInvariant("a pool has a member that is gone") }
                if !subworkers[member].wasRegistered { starting += 1 }
            }
            guard starting == pools[pool].startingCount else { throw BrokenInvariant("the starting members of a pool") }
            startingTotal += starting
        }
        guard startingTotal == startingCount else { throw BrokenInvariant("the starting subworkers") }
    }

    private func checkSubworkers() throws(BrokenInvariant) {
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index) else { continue }
            try subworkers[handle].check()
            guard subworkers[handle].unitCount == subworkers[handle].runningCount else {
                throw BrokenInvariant(
                    "subworker \(subworkers[handle].id.rawValue) runs \(subworkers[handle].runningCount) calls on \(subworkers[handle].unitCount) units")
            }
        }
    }

    private func checkReservations() throws(BrokenInvariant) {
        var reserved: UInt64 = 0
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index) else { continue }
            guard attempts[attempt].reservedBytes == 0 || attempts[attempt].state == .running else {
                throw BrokenInvariant("\(attempts[attempt].id) keeps memory and does not run")
            }
            reserved += attempts[attempt].reservedBytes
        }
        var waiting = 0
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index) else { continue }
            for reservation in subworkers[handle].reservations.rows {
                guard subworkers[handle].inFlight.contains(reservation.slot) else {
                    throw BrokenInvariant("file \(reservation.file) of subworker \(subworkers[handle].id.rawValue) belongs to no call")
                }
                reserved += reservation.heldBytes
                if reservation.askedBytes != nil { waiting += 1 }
            }
        }
        guard reserved == reservedBytes else { throw BrokenInvariant("\(reserved) bytes are reserved, \(reservedBytes) are counted") }
        // Bytes may wrap; files don't.
        let isMakingRoom = objects.rows.indices.contains { objects.rows.handle(at: $0).map { objects[$0].tier == .spilling } ?? false }
        guard waiting == 0 || isMakingRoom else { throw BrokenInvariant("\(waiting) files wait for room that nobody makes") }
        guard waiting > 0 || waitingReservations.isEmpty else { throw BrokenInvariant("nobody waits for room, and somebody does") }
    }

    private func checkSessions() throws(BrokenInvariant) {
        let lastTries = attempts.indices.count { attempts.handle(at: $0).map { attempts[$0].isActive && attempts[$0].isLastTry } ?? false }
        guard lastTries == lastTryCount, lastTryCount <= 1 else { throw BrokenInvariant("\(lastTries) last tries at once, \(lastTryCount) counted") }
        for index in sessions.indices {
            guard let session = sessions.handle(at: index) else { continue }
            var active = 0
            for position in attempts.indices {
                guard let attempt = attempts.handle(at: position), attempts[attempt].session == session else { continue }
                if attempts[attempt].isActive { active += 1 }
            }
            guard active == sessions[session].activeCount else { throw BrokenInvariant("session \(sessions[session].id) has \(active) active attempts") }
            guard sessions[session].closing == .no || !isQuiet(session) else { throw BrokenInvariant("session \(sessions[session].id) should be gone") }
            for pool in sessions[session].pools where !pools.contains(pool) || pools[pool].session != session {
                throw BrokenInvariant("session \(sessions[session].id) has a pool that is not its own")
            }
        }
    }
}
