import Link
import TaskModel

extension ServerCore {
    mutating func openSession(
        _ request: RequestID, _ options: SessionOptions, now: Instant, into effects: inout ContiguousArray<ServerEffect>
    ) {
        let texts = options.subworkers.reduce(options.name.utf8.count) { sum, command in
            sum + ([command.name] + command.arguments + command.environment).reduce(0) { $0 + $1.utf8.count }
        }
        guard texts <= SubmitLimits.textBytesMax else {
            return refuse(request, .tooLarge, "the session's name and subworkers have more than \(SubmitLimits.textBytesMax) bytes", into: &effects)
        }
        guard options.subworkers.count <= Self.subworkerCountMax else {
            return refuse(request, .tooLarge, "a session has at most \(Self.subworkerCountMax) subworkers", into: &effects)
        }
        let id = SessionID(nextSession)
        nextSession += 1
        var session = Session(id: id, options: options)
        if !options.isDetached {
            // The grace is for a lease that broke; however short it is, the first one needs time to come.
            session.leaseDeadline = now.advanced(byMilliseconds: max(UInt64(options.graceMilliseconds), Session.firstLeaseMilliseconds))
        }
        if let slot = freeSlots.popLast() {
            sessions[slot] = session
            slotOfSession[id] = slot
        } else {
            sessions.append(session)
            slotOfSession[id] = sessions.count - 1
        }
        append(.sessionOpened(id, options), into: &effects)
        sessions[slotOfSession[id]!]!.openingRecord = gate.lastNumber
        effects.append(.note(.sessionOpened(id, name: options.name)))
        reply(request, .sessionOpened(id, resumeToken: options.resumeToken), into: &effects)
    }

    /// Whether the session's client is gone. It has not left before it was told that there is a session, nor while the server stood still.
    mutating func isLeaseOverdue(_ slot: Int, latenessNanoseconds: UInt64) -> Bool {
        guard var deadline = sessions[slot]?.leaseDeadline else { return false }
        deadline = Instant(nanoseconds: deadline.nanoseconds + latenessNanoseconds)
        if sessions[slot]!.openingRecord > gate.committed { deadline = max(deadline, now.advanced(byMilliseconds: Session.firstLeaseMilliseconds)) }
        sessions[slot]!.leaseDeadline = deadline
        return now >= deadline
    }

    mutating func openLease(
        _ request: RequestID, _ id: SessionID, token: String, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findSession(id, for: request, into: &effects) else { return }
        guard token == sessions[slot]!.options.resumeToken else {
            return refuse(request, .badToken, "the resume token is not that of session \(id)", into: &effects)
        }
        if let old = sessions[slot]!.lease { emit(.endLease(id, lease: old), into: &effects) }
        sessions[slot]!.leaseCount += 1
        let lease = sessions[slot]!.leaseCount
        sessions[slot]!.lease = lease
        sessions[slot]!.leaseDeadline = nil
        // What is told now needs not be told as news.
        _ = sessions[slot]!.newlyFinished.take()
        _ = sessions[slot]!.newlyCancelled.take()
        sessions[slot]!.newLines = []
        sessions[slot]!.newProgress = []
        sessions[slot]!.repeatHints()
        reply(request, .lease(lease: lease), into: &effects)
        let lines = sessions[slot]!.outcomeLines()
        if !lines.isEmpty { emit(.leaseLines(id, lease: lease, lines), into: &effects) }
    }

    mutating func loseLease(
        _ id: SessionID, lease: UInt64, isClean: Bool, now: Instant, into effects: inout ContiguousArray<ServerEffect>
    ) {
        // A lease that was replaced, or of a session that is gone, is late news.
        guard let slot = slotOfSession[id], sessions[slot]!.lease == lease else { return }
        sessions[slot]!.lease = nil
        touched.insert(slot)
        guard !sessions[slot]!.options.isDetached, sessions[slot]!.closeReason == nil else { return }
        if isClean || sessions[slot]!.options.graceMilliseconds == 0 {
            close(slot, reason: "its client left", into: &effects)
        } else {
            sessions[slot]!.leaseDeadline = now.advanced(byMilliseconds: UInt64(sessions[slot]!.options.graceMilliseconds))
        }
    }

    mutating func closeSession(_ request: RequestID, _ id: SessionID, into effects: inout ContiguousArray<ServerEffect>) {
        guard let slot = findSession(id, for: request, into: &effects) else { return }
        guard journalFailure == nil else { return refuse(request, .journal, "", into: &effects) }  // With the reason that every answer has now.
        sessions[slot]!.closers.append(request)
        if sessions[slot]!.closeReason == nil { close(slot, reason: "closed by its client", into: &effects) }
    }

    mutating func close(_ slot: Int, reason: String, into effects: inout ContiguousArray<ServerEffect>) {
        let id = sessions[slot]!.id
        append(.sessionClosed(id, reason: reason), into: &effects)
        effects.append(.note(.sessionClosed(id, reason: reason)))
        sessions[slot]!.closeReason = reason
        sessions[slot]!.leaseDeadline = nil
        stopEverything(slot)
        for wait in sessions[slot]!.waits {
            sessionOfRequest[wait.request] = nil
            refuse(wait.request, .sessionClosed, "session \(id) is closed: \(reason)", into: &effects)
        }
        sessions[slot]!.waits = []
        removeIfOver(slot, into: &effects)
    }

    /// The first failure of a session whose failures are everybody's: all else of it stops.
    mutating func fail(_ slot: Int, with failure: TaskFailure, into effects: inout ContiguousArray<ServerEffect>) {
        let id = sessions[slot]!.id
        sessions[slot]!.failure = failure
        effects.append(.note(.sessionFailed(id, task: TaskID(session: id, index: failure.task), message: failure.error.message)))
        _ = sessions[slot]!.newlyFinished.take()
        _ = sessions[slot]!.newlyCancelled.take()
        sessions[slot]!.newLines = [.sessionFailed(failure.task, failure)]
        stopEverything(slot)
        for wait in sessions[slot]!.waits {
            sessionOfRequest[wait.request] = nil
            refuse(wait.request, .sessionFailed, Self.failureMessage(id, failure), failure: failure, into: &effects)
        }
        sessions[slot]!.waits = []
    }

    /// Tasks without an outcome are cancelled, objects go, and every worker that knows of the session is told to end it.
    private mutating func stopEverything(_ slot: Int) {
        for task in 0..<sessions[slot]!.tasks.count where !sessions[slot]!.tasks.state[Int(task)].hasOutcome {
            releaseWorker(slot, task)
            sessions[slot]!.tasks.state[Int(task)] = .cancelled
            sessions[slot]!.cancelledCount += 1
        }
        sessions[slot]!.ready.removeAll()
        sessions[slot]!.heldBack = []
        sessions[slot]!.misfits.removeAll()
        sessions[slot]!.misfitTemplates = []
        sessions[slot]!.hints = []
        sessions[slot]!.outOfReach.removeAll()
        for object in 0..<sessions[slot]!.objects.count {
            forgetHolders(slot, object)
            sessions[slot]!.objects.releaseValue(of: object)
            if sessions[slot]!.objects.state[Int(object)] == .finished { sessions[slot]!.objects.state[Int(object)] = .dropped }
            if sessions[slot]!.objects.state[Int(object)] == .unfinished { sessions[slot]!.objects.state[Int(object)] = .lost }
        }
        for worker in sessions[slot]!.told.indices where sessions[slot]!.told[worker] != nil && hasWorker(worker) {
            sessions[slot]!.told[worker] = nil
            sessions[slot]!.openWorkers.append(UInt32(worker))
            let id = sessions[slot]!.id
            workers[worker]!.drops.removeAll { $0.object.session == id }
            sendAfterCommit(.closeSession(id), to: worker)
        }
    }

    /// Nothing that happens in the session can be told as true any more: who waits for it hears why.
    mutating func giveUp(_ slot: Int, _ error: RequestError, into effects: inout ContiguousArray<ServerEffect>) {
        for request in sessions[slot]!.waits.map(\.request) + sessions[slot]!.closers {
            sessionOfRequest[request] = nil
            effects.append(.reply(request, .refused(error)))
        }
        sessions[slot]!.waits = []
        sessions[slot]!.closers = []
        guard let lease = sessions[slot]!.lease else { return }
        sessions[slot]!.lease = nil
        effects.append(.leaseLines(sessions[slot]!.id, lease: lease, [.closed(reason: error.message)]))
        effects.append(.endLease(sessions[slot]!.id, lease: lease))
    }

    /// A closed session goes when no worker runs anything of it.
    mutating func removeIfOver(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        guard let reason = sessions[slot]?.closeReason, sessions[slot]!.openWorkers.isEmpty else { return }
        let session = sessions[slot]!
        for request in session.closers { reply(request, .done, into: &effects) }
        if let lease = session.lease {
            emit(.leaseLines(session.id, lease: lease, session.newLines + [.closed(reason: reason)]), into: &effects)
            emit(.endLease(session.id, lease: lease), into: &effects)
        }
        for object in 0..<session.objects.count {
            guard let blob = session.objects.blobs[object] else { continue }
            releaseBlob(blob.hash, into: &effects)
        }
        slotOfSession[session.id] = nil
        sessions[slot] = nil
        freeSlots.append(slot)
    }

    private mutating func releaseBlob(_ hash: BlobHash, into effects: inout ContiguousArray<ServerEffect>) {
        let uses = blobUses[hash] ?? 0
        blobUses[hash] = uses > 1 ? uses - 1 : nil
        if uses <= 1 { emit(.releaseBlob(hash), into: &effects) }
    }

    mutating func flushLease(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        guard let news = sessions[slot]!.takeNews() else { return }
        // Without a lease nobody listens; the next one begins with everything.
        guard let lease = news.lease else { return }
        emit(.leaseLines(news.session, lease: lease, news.lines), into: &effects)
    }
}
