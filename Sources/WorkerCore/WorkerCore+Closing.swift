import Link
import TaskModel

/// The end of sessions, one by one or all at once.
extension WorkerCore {
    mutating func closeSession(_ id: SessionID, into effects: inout ContiguousArray<WorkerEffect>) {
        guard let session = sessionByID[id] else {
            tell(.sessionClosed(id))  // It never came this far, or is gone already.
            return
        }
        guard sessions[session].closing == .no else { return }
        sessions[session].closing = .asked
        stopAll(of: session, into: &effects)
    }

    /// A server that knows nothing of us: whatever we do is for nobody. Its messages wait until the processes of the old work are gone, so
    /// that the new work, which may bear the same names, can't meet them.
    mutating func forgetEverything(into effects: inout ContiguousArray<WorkerEffect>) {
        heldMessages = nil
        if sessions.isEmpty, objects.isEmpty { return }
        heldMessages = []
        for index in sessions.indices {
            guard let session = sessions.handle(at: index) else { continue }
            let wasClosing = sessions[session].closing != .no
            sessions[session].closing = .forgotten
            if !wasClosing { stopAll(of: session, into: &effects) }
        }
        // Nothing that runs there is wanted: no need to ask what has begun.
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index), subworkers[handle].isBusy else { continue }
            stopSubworker(handle, isKilled: true, into: &effects)
        }
    }

    mutating func resumeAfterForgetting(into effects: inout ContiguousArray<WorkerEffect>) {
        guard let messages = heldMessages, sessions.isEmpty, objects.isEmpty else { return }
        sendRemovals(into: &effects)
        heldMessages = nil
        for message in messages { handle(message, into: &effects) }
        closeSessions(into: &effects)
    }

    private mutating func stopAll(of session: SessionHandle, into effects: inout ContiguousArray<WorkerEffect>) {
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), attempts[attempt].session == session else { continue }
            stop(attempt, .sessionClosed, into: &effects)
        }
        let id = sessions[session].id
        for index in objects.rows.indices {
            guard let object = objects.rows.handle(at: index), objects[object].replica.object.session == id else { continue }
            objects.drop(object)
        }
        for pool in sessions[session].pools {
            for member in pools[pool].members { stopSubworker(member, isKilled: !subworkers[member].isIdle, into: &effects) }
        }
        if isQuiet(session) { closedSessions.append(session) }
    }

    /// Whether no process works for the session, or is its own.
    func isQuiet(_ session: SessionHandle) -> Bool {
        sessions[session].activeCount == 0 && sessions[session].pools.allSatisfy { pools[$0].members.isEmpty }
    }

    /// Sessions whose last process is gone.
    mutating func closeSessions(into effects: inout ContiguousArray<WorkerEffect>) {
        while let session = closedSessions.popLast() {
            guard sessions.contains(session), isQuiet(session) else { continue }
            let id = sessions[session].id
            sendRemovals(into: &effects)
            effects.append(.forgetSession(id))
            if sessions[session].closing == .asked { tell(.sessionClosed(id)) }
            for template in sessions[session].templates {
                if let lane = templates[template].lane { exitLane(lane) }
                templates.remove(template)
            }
            latestTemplate = nil
            sessionByID[id] = nil
            sessions.remove(session)
        }
    }
}
