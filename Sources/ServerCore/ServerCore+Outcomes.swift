import Link
import Scheduling
import TaskModel

extension ServerCore {
    mutating func handle(_ message: WorkerMessage, from worker: Int, into effects: inout ContiguousArray<ServerEffect>) {
        switch message {
        case .started(let attempt): begin(attempt, on: worker, into: &effects)
        case .finished(let attempt, let finished): finish(attempt, finished, on: worker, into: &effects)
        case .failed(let attempt, let error):
            guard let slot = current(attempt, on: worker) else { return }
            endBadly(slot, attempt, error, on: worker, into: &effects)
        case .cancelled(let attempt):
            guard let slot = current(attempt, on: worker) else { return }
            if sessions[slot]!.tasks.cancelRequested.contains(attempt.task.index) {
                cancelOnWorker(slot, attempt.task.index, into: &effects)
            } else {
                requeue(slot, attempt.task.index)  // Nobody asked here: the worker gave it up for reasons of its own.
            }
        case .revoked(let attempt, let wasTakenBack):
            guard let slot = current(attempt, on: worker) else { return }
            answerTakeBack(slot, attempt.task.index, wasTakenBack: wasTakenBack)
        case .replicated(let replica):
            guard let slot = slotOfSession[replica.object.session], sessions[slot]!.isOpen,
                replica.object.index < sessions[slot]!.objects.count,
                sessions[slot]!.objects.generation[Int(replica.object.index)] == replica.generation,
                sessions[slot]!.objects.state[Int(replica.object.index)] == .finished
            else { return drop(replica, on: worker) }
            if !sessions[slot]!.objects.isHeld(replica.object.index, by: UInt32(worker)) {
                sessions[slot]!.objects.addHolder(UInt32(worker), of: replica.object.index)
                workers[worker]!.objectCount += 1
            }
        case .missing(let replica): miss(replica, on: worker, into: &effects)
        case .knows(let id): knows(id, on: worker)
        case .runs(let attempt): runs(attempt, on: worker)
        case .holds(let replicas): for replica in replicas { holds(replica, on: worker) }
        case .handedOver: endHandover(of: worker, into: &effects)
        case .progress(let list): for news in list { take(news, from: worker) }
        case .sessionClosed(let id):
            guard let slot = slotOfSession[id] else { return }
            sessions[slot]!.openWorkers.removeAll { $0 == UInt32(worker) }
            removeIfOver(slot, into: &effects)
        }
    }

    /// The session's slot when this is the attempt that the task is on; anything else is late news.
    mutating func current(_ attempt: AttemptID, on worker: Int) -> Int? {
        guard let slot = slotOfSession[attempt.task.session], attempt.task.index < sessions[slot]!.tasks.count,
            attempt.epoch == attemptEpoch(slot, attempt.task.index)
        else { return nil }
        let index = Int(attempt.task.index)
        let state = sessions[slot]!.tasks.state[index]
        guard state == .assigned || state == .running, sessions[slot]!.tasks.attemptNumber[index] == attempt.number,
            sessions[slot]!.tasks.worker[index] == UInt32(worker)
        else { return nil }
        touched.insert(slot)
        return slot
    }

    private mutating func begin(_ attempt: AttemptID, on worker: Int, into effects: inout ContiguousArray<ServerEffect>) {
        guard let slot = current(attempt, on: worker), sessions[slot]!.tasks.state[Int(attempt.task.index)] == .assigned,
            !sessions[slot]!.tasks.ahead.contains(attempt.task.index),  // It can't: what it needs is not there.
            !sessions[slot]!.tasks.awaited.contains(attempt.task.index)
        else { return }
        sessions[slot]!.tasks.state[Int(attempt.task.index)] = .running
        sessions[slot]!.runningCount += 1
        workers[worker]!.runningCount += 1
        append(.started(attempt), isDurable: false, into: &effects)
    }

    private mutating func finish(
        _ attempt: AttemptID, _ finished: FinishedAttempt, on worker: Int, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = current(attempt, on: worker) ?? takeUpFinished(attempt, on: worker) else { return dropOutputs(of: attempt, on: worker) }
        let task = attempt.task.index
        let outputs = sessions[slot]!.outputs(of: task)
        guard finished.outputs.count == outputs.count else {
            let error = TaskError(.contract, "the worker reported \(finished.outputs.count) outputs instead of \(outputs.count)")
            return endBadly(slot, attempt, error, on: worker, into: &effects)
        }
        append(.finished(attempt, workers[worker]!.id, finished), into: &effects)
        releaseWorker(slot, task)
        noteFinished(slot, task, attempt, finished, on: worker)
    }

    /// - Parameter worker: `nil` for one that is gone.
    mutating func noteFinished(_ slot: Int, _ task: UInt32, _ attempt: AttemptID, _ finished: FinishedAttempt, on worker: Int?) {
        let outputs = sessions[slot]!.outputs(of: task)
        let index = Int(task)
        sessions[slot]!.tasks.state[index] = .finished
        sessions[slot]!.tasks.startedUnixMicroseconds[index] = finished.startedUnixMicroseconds
        sessions[slot]!.tasks.durationNanoseconds[index] = finished.durationNanoseconds
        if !finished.debug.isEmpty { sessions[slot]!.tasks.debug[task] = finished.debug }
        if !finished.attributes.isEmpty { sessions[slot]!.tasks.attributes[task] = finished.attributes }
        sessions[slot]!.durations[Int(sessions[slot]!.tasks.template(of: task))].learn(finished.durationNanoseconds)
        sessions[slot]!.finishedCount += 1
        if !sessions[slot]!.tasks.earlierEpochs.isEmpty { sessions[slot]!.tasks.earlierEpochs[task] = nil }
        if !sessions[slot]!.tasks.failureCounts.isEmpty { sessions[slot]!.tasks.failureCounts[task] = nil }
        if !sessions[slot]!.tasks.losses.isEmpty { sessions[slot]!.tasks.losses[task] = nil }
        // It came too late; should the task have to run again for its outputs, nobody has cancelled that.
        if !sessions[slot]!.tasks.cancelRequested.isEmpty { sessions[slot]!.tasks.cancelRequested.remove(task) }
        if !sessions[slot]!.tasks.missCounts.isEmpty { sessions[slot]!.tasks.missCounts[task] = nil }
        if !sessions[slot]!.tasks.takenBackCounts.isEmpty { sessions[slot]!.tasks.takenBackCounts[task] = nil }
        if sessions[slot]!.tasks.remaking.remove(task) == nil { sessions[slot]!.newlyFinished.append(task) }
        for (position, output) in finished.outputs.enumerated() {
            arrive(slot, outputs.lowerBound + UInt32(position), output, attempt.generation, on: worker)
        }
        releaseInputs(slot, task)
    }

    /// What an attempt made that is not the task's any more: nobody wants it.
    private mutating func dropOutputs(of attempt: AttemptID, on worker: Int) {
        guard let slot = slotOfSession[attempt.task.session], sessions[slot]!.isOpen, attempt.task.index < sessions[slot]!.tasks.count
        else { return }
        for object in sessions[slot]!.outputs(of: attempt.task.index)
        where sessions[slot]!.objects.generation[Int(object)] != attempt.generation {
            drop(Replica(object: ObjectID(session: attempt.task.session, index: object), generation: attempt.generation), on: worker)
        }
    }

    /// An output exists now: rows that waited only for it can run.
    private mutating func arrive(_ slot: Int, _ object: UInt32, _ output: FinishedOutput, _ generation: Generation, on worker: Int?) {
        let index = Int(object)
        guard sessions[slot]!.objects.state[index] == .unfinished else {
            // The task ran again for another of its outputs: this one is still there, or needed no more.
            if let worker { drop(Replica(object: ObjectID(session: sessions[slot]!.id, index: object), generation: generation), on: worker) }
            return
        }
        sessions[slot]!.objects.state[index] = .finished
        sessions[slot]!.objects.sizeBytes[index] = output.sizeBytes
        sessions[slot]!.objects.generation[index] = generation
        if let bytes = output.inline {
            sessions[slot]!.objects.inline[index] = bytes
            sessions[slot]!.objects.hasInline[index] = true
        }
        if !output.contentType.isEmpty { sessions[slot]!.objects.contentTypes[object] = output.contentType }
        if !output.attributes.isEmpty { sessions[slot]!.objects.attributes[object] = output.attributes }
        if let worker {
            sessions[slot]!.objects.addHolder(UInt32(worker), of: object)
            workers[worker]?.objectCount += 1
        }

        var edge = sessions[slot]!.objects.firstEdge[index]
        while edge != ObjectTable.none {
            let row = sessions[slot]!.objects.edgeRow[Int(edge)]
            sessions[slot]!.tasks.rowMissing[Int(row)] -= 1
            if sessions[slot]!.tasks.rowMissing[Int(row)] == 0, row < sessions[slot]!.activeRowCount {
                countAhead(slot, row: row)
                makeReady(slot, row: row)
            }
            edge = sessions[slot]!.objects.edgeNext[Int(edge)]
        }
        dropIfUnneeded(slot, object)
    }

    /// The task has its outcome: its inputs are needed by one task less.
    mutating func releaseInputs(_ slot: Int, _ task: UInt32) {
        let range = sessions[slot]!.tasks.inputRange(ofRow: sessions[slot]!.tasks.row[Int(task)])
        for position in range {
            let object = sessions[slot]!.tasks.inputs[position]
            sessions[slot]!.objects.needCount[Int(object)] -= 1
            dropIfUnneeded(slot, object)
        }
    }

    /// An object lives while it is kept or an input of a task without an outcome.
    mutating func dropIfUnneeded(_ slot: Int, _ object: UInt32) {
        let index = Int(object)
        guard sessions[slot]!.objects.state[index] == .finished, !sessions[slot]!.objects.isKept[index],
            sessions[slot]!.objects.needCount[index] == 0
        else { return }
        sessions[slot]!.objects.state[index] = .dropped
        let replica = Replica(
            object: ObjectID(session: sessions[slot]!.id, index: object), generation: sessions[slot]!.objects.generation[index])
        for holder in forgetHolders(slot, object) { drop(replica, on: Int(holder)) }
        sessions[slot]!.objects.releaseValue(of: object)
    }

    @discardableResult
    mutating func forgetHolders(_ slot: Int, _ object: UInt32) -> ObjectTable.Holders {
        let holders = sessions[slot]!.objects.takeHolders(of: object)
        // Those of the past are counted at its end.
        if !isRestoring { for holder in holders { workers[Int(holder)]?.objectCount -= 1 } }
        return holders
    }

    // MARK: Bad ends

    private mutating func endBadly(
        _ slot: Int, _ attempt: AttemptID, _ error: TaskError, on worker: Int, into effects: inout ContiguousArray<ServerEffect>
    ) {
        let task = attempt.task.index
        let template = Int(sessions[slot]!.tasks.template(of: task))
        if attempt.epoch < epoch, error.cause == .setup || error.cause == .dependency || error.cause == .workerLost {
            // It never began, perhaps for a reason that went with the server of its epoch. In this one it is told what is true.
            return requeue(slot, task)
        }
        // Crashes are counted by the worker, which has the evidence of each; the code's own errors are counted here.
        let mayRetry = error.cause == .user || error.cause == .contract
        let failures = sessions[slot]!.tasks.failureCounts[task] ?? 0
        if mayRetry, failures < sessions[slot]!.templates[template].retryCountMax, !sessions[slot]!.tasks.cancelRequested.contains(task) {
            sessions[slot]!.tasks.failureCounts[task] = failures + 1
            append(.retried(attempt, workers[worker]!.id), isDurable: false, into: &effects)
            return requeue(slot, task)
        }
        append(.failed(attempt, workers[worker]?.id, error), into: &effects)
        failTask(slot, task, error, into: &effects)
    }

    /// The task fails for good, and with it the session or what depends on it.
    mutating func failTask(_ slot: Int, _ task: UInt32, _ error: TaskError, into effects: inout ContiguousArray<ServerEffect>) {
        releaseWorker(slot, task)
        sessions[slot]!.tasks.state[Int(task)] = .failed
        sessions[slot]!.tasks.errors[task] = error
        sessions[slot]!.failedCount += 1
        let failure = sessions[slot]!.failure(of: task, error)
        switch sessions[slot]!.options.onError {
        case .failSession: fail(slot, with: failure, into: &effects)
        case .failDescendants:
            if sessions[slot]!.tasks.endsHeard(task) { sessions[slot]!.newLines.append(.failed(task, failure)) }
            loseOutputs(slot, of: task, with: Self.dependencyError(failure))
            releaseInputs(slot, task)
        }
    }

    /// Why a task is not run that needs one which failed; the same value for all of them, as they may be many and the text long.
    private static func dependencyError(_ root: TaskFailure) -> TaskError {
        var error = TaskError(.dependency, "not run, since task \(root.name) (\(root.task)) failed: \(root.error.message)")
        error.limitTexts(bytesMax: dependencyTextBytesMax)
        return error
    }
    /// The whole is told with the task that failed; each of the others takes its share of a lease and of answers.
    static let dependencyTextBytesMax = 2000

    /// What needs the outputs of a task that failed or was cancelled will never run: those tasks share its fate.
    ///
    /// - Parameter error: `nil` when that is to be cancelled.
    private mutating func loseOutputs(_ slot: Int, of first: UInt32, with error: TaskError?) {
        var worklist: ContiguousArray<UInt32> = [first]
        while let task = worklist.popLast() {
            // One that ran before may have others that are still there.
            for object in sessions[slot]!.outputs(of: task) where sessions[slot]!.objects.state[Int(object)] == .unfinished {
                sessions[slot]!.objects.state[Int(object)] = .lost
                worklist.append(contentsOf: abandonRows(slot, using: object, with: error))
            }
        }
    }

    /// An object is gone for good: the tasks that need it, and what needs those, have failed.
    mutating func abandonUsers(_ slot: Int, of object: UInt32, root: TaskFailure) {
        let error = Self.dependencyError(root)
        for task in abandonRows(slot, using: object, with: error) { loseOutputs(slot, of: task, with: error) }
    }

    private mutating func abandonRows(_ slot: Int, using object: UInt32, with error: TaskError?) -> ContiguousArray<UInt32> {
        var abandoned: ContiguousArray<UInt32> = []
        var edge = sessions[slot]!.objects.firstEdge[Int(object)]
        while edge != ObjectTable.none {
            let row = sessions[slot]!.objects.edgeRow[Int(edge)]
            edge = sessions[slot]!.objects.edgeNext[Int(edge)]
            abandoned.append(contentsOf: abandon(slot, row: row, with: error))
        }
        return abandoned
    }

    /// The tasks of the row that had no outcome, which have one now.
    private mutating func abandon(_ slot: Int, row: UInt32, with error: TaskError?) -> ContiguousArray<UInt32> {
        var abandoned: ContiguousArray<UInt32> = []
        for task in sessions[slot]!.tasks.tasks(ofRow: row) where !sessions[slot]!.tasks.state[Int(task)].hasOutcome {
            abandoned.append(task)
            releaseWorker(slot, task)
            if let error {
                sessions[slot]!.tasks.state[Int(task)] = .failed
                sessions[slot]!.tasks.errors[task] = error
                sessions[slot]!.failedCount += 1
                if sessions[slot]!.tasks.endsHeard(task) {
                    sessions[slot]!.newLines.append(.failed(task, sessions[slot]!.failure(of: task, error)))
                }
            } else {
                sessions[slot]!.tasks.state[Int(task)] = .cancelled
                sessions[slot]!.cancelledCount += 1
                if sessions[slot]!.tasks.endsHeard(task) { sessions[slot]!.newlyCancelled.append(task) }
            }
            releaseInputs(slot, task)
        }
        return abandoned
    }

    /// A new row needs an object that will never exist.
    mutating func loseRow(_ slot: Int, row: UInt32, because object: UInt32) {
        let producer = sessions[slot]!.objects.producer[Int(object)]
        let root: TaskFailure? =
            if let loss = sessions[slot]!.objects.losses[object] {
                sessions[slot]!.failure(of: loss.obstacle, loss.error)
            } else if let error = sessions[slot]!.tasks.errors[producer] {
                sessions[slot]!.failure(of: producer, error)
            } else { nil }
        let error = root.map { Self.dependencyError($0) }
        for task in abandon(slot, row: row, with: error) { loseOutputs(slot, of: task, with: error) }
    }

    // MARK: Cancelling

    mutating func cancel(
        _ request: RequestID, _ id: SessionID, _ selection: TaskSelection, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findOpenSession(id, for: request, into: &effects) else { return }
        guard let ranges = taskRanges(slot, selection, for: request, into: &effects) else { return }
        append(.cancelRequested(id, selection), into: &effects)
        for range in ranges { for task in range { cancelTask(slot, task, into: &effects) } }
        hold(Wait(request: request, kind: .cancellation, ranges: ranges), slot)
    }

    private mutating func cancelTask(_ slot: Int, _ task: UInt32, into effects: inout ContiguousArray<ServerEffect>) {
        switch sessions[slot]!.tasks.state[Int(task)] {
        case .finished, .failed, .cancelled: return
        case .assigned, .running:
            guard sessions[slot]!.tasks.cancelRequested.insert(task).inserted else { return }
            let worker = Int(sessions[slot]!.tasks.worker[Int(task)])
            sendAfterCommit(.cancel(attempt(slot, task)), to: worker)
        case .waiting, .ready: cancelNow(slot, task, into: &effects)
        }
    }

    /// The task is off its worker without an outcome; if it was to be cancelled there, it is cancelled here.
    mutating func noteReturn(_ slot: Int, _ task: UInt32) {
        if sessions[slot]!.tasks.cancelRequested.contains(task) { sessions[slot]!.toCancel.append(task) }
    }

    mutating func cancelReturned(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        while let task = sessions[slot]!.toCancel.popLast() {
            let state = sessions[slot]!.tasks.state[Int(task)]
            if state == .waiting || state == .ready { cancelNow(slot, task, into: &effects) }
        }
    }

    private mutating func cancelOnWorker(_ slot: Int, _ task: UInt32, into effects: inout ContiguousArray<ServerEffect>) {
        releaseWorker(slot, task)
        cancelNow(slot, task, into: &effects)
    }

    private mutating func cancelNow(_ slot: Int, _ task: UInt32, into effects: inout ContiguousArray<ServerEffect>) {
        append(.cancelled(TaskID(session: sessions[slot]!.id, index: task)), into: &effects)
        noteCancelled(slot, task)
    }

    mutating func noteCancelled(_ slot: Int, _ task: UInt32) {
        sessions[slot]!.tasks.state[Int(task)] = .cancelled
        sessions[slot]!.cancelledCount += 1
        if sessions[slot]!.tasks.endsHeard(task) { sessions[slot]!.newlyCancelled.append(task) }
        loseOutputs(slot, of: task, with: nil)
        releaseInputs(slot, task)
    }
}
