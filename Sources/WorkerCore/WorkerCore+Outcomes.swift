import Link
import TaskModel

/// How attempts end.
extension WorkerCore {
    enum Ending: Sendable {
        case finished(FinishedAttempt)
        case failed(TaskError)
        case cancelled
        /// Given back to the server before it began.
        case takenBack
        /// Its session is closed: nobody wants to hear of it.
        case vanished
    }

    /// Ends an attempt that no process works on any more, and whatever waited for its outputs.
    mutating func settle(_ attempt: AttemptHandle, _ ending: Ending) {
        if case .finished(let message) = ending {
            report(attempt, .finished(attempts[attempt].id, message))
            forget(attempt)
            return
        }
        // A chain that expects from one attempt to the next may be long: a list of what is left, not recursion.
        var endings: ContiguousArray<(AttemptHandle, Ending)> = [(attempt, ending)]
        while let (attempt, ending) = endings.popLast() {
            guard attempts.contains(attempt) else { continue }
            passOn(ending, of: attempt, to: &endings)
            end(attempt, ending)
        }
    }

    private mutating func end(_ attempt: AttemptHandle, _ ending: Ending) {
        let id = attempts[attempt].id
        switch ending {
        case .finished(let message):
            report(attempt, .finished(id, message))
        case .failed(var error):
            if let damage = damageError(of: attempt) { error = damage }
            error.host = description.hostName
            error.limitTexts(bytesMax: ControlLimits.errorTextBytesMax)
            report(attempt, .failed(id, error))
        case .cancelled:
            report(attempt, .cancelled(id))
        case .takenBack:
            sessions[attempts[attempt].session].takenBack.insert(id)
            attempts[attempt].isRevoking = false
            report(attempt, .revoked(id, wasTakenBack: true))
        case .vanished:
            break
        }
        forget(attempt)
    }

    private mutating func report(_ attempt: AttemptHandle, _ message: consuming WorkerMessage) {
        guard sessions[attempts[attempt].session].closing == .no else { return }
        tell(message)
        if attempts[attempt].isRevoking { tell(.revoked(attempts[attempt].id, wasTakenBack: false)) }
    }

    /// What waited for its outputs ends with it. When it was taken back so is what waited: the server places them together again.
    private mutating func passOn(_ ending: Ending, of attempt: AttemptHandle, to endings: inout ContiguousArray<(AttemptHandle, Ending)>) {
        let id = attempts[attempt].id
        for position in 0..<templates[attempts[attempt].template].outputCount {
            let replica = attempts[attempt].output(position)
            guard let object = objects.find(replica), objects[object].representation == .expected(from: attempt) else { continue }
            let consequence: Ending =
                switch ending {
                case .finished: preconditionFailure("\(id) finished without its outputs")
                case .failed(let error): .failed(SetupErrors.producerFailed(replica, id, error))
                case .cancelled: .failed(SetupErrors.producerCancelled(replica, id))
                case .takenBack: .takenBack
                case .vanished: .vanished
                }
            for waiter in objects[object].waiters.reversed() where attempts.contains(waiter) { endings.append((waiter, consequence)) }
        }
    }

    /// Removes the row and what it holds.
    private mutating func forget(_ attempt: AttemptHandle) {
        switch attempts[attempt].state {
        case .waiting, .awaitingRoom: break
        case .ready: leaveLane(attempt)
        case .running, .calling, .finishing: becameInactive(attempt)
        }
        releaseInputs(of: attempt)
        attemptByID[attempts[attempt].id] = nil
        attempts.remove(attempt)
    }

    private mutating func releaseInputs(of attempt: AttemptHandle) {
        if attempts[attempt].inputs.isEmpty { return }
        var inputs: ContiguousArray<ObjectHandle> = []
        swap(&inputs, &attempts[attempt].inputs)
        for object in inputs { objects.release(object) }
    }

    mutating func becameActive(_ attempt: AttemptHandle) {
        sessions[attempts[attempt].session].activeCount += 1
        if attempts[attempt].isLastTry { lastTryCount += 1 }
    }

    mutating func becameInactive(_ attempt: AttemptHandle) {
        if attempts[attempt].isLastTry { lastTryCount -= 1 }
        let session = attempts[attempt].session
        sessions[session].activeCount -= 1
        if sessions[session].activeCount == 0, sessions[session].closing != .no { closedSessions.append(session) }
    }
}
