import Link
import Scheduling
import TaskModel

/// A record that contradicts those before it: the journal is damaged, or another program wrote it.
package struct RestoreError: Error, Equatable, Sendable, CustomStringConvertible {
    package var reason: String
    package var description: String { reason }
}

/// What HTTP threads need to know of a session that was restored.
package struct OpenSession: Equatable, Sendable {
    package var session: SessionID
    /// How many outputs each of its templates has.
    package var outputCounts: ContiguousArray<UInt32>
}

/// The state of earlier epochs, from their records.
///
/// Each record changes the state as the event did that wrote it, and whatever followed from that follows again: which tasks fail with one that
/// failed, which objects are dropped with their last use. So a record has to come before what follows from it, and nothing may follow
/// from anything that has no record.
extension ServerCore {
    /// Takes a record of an earlier epoch: all of them, in order, before the first event. Those of sessions that were closed may be left out.
    package mutating func restore(_ record: JournalRecord) throws(RestoreError) {
        isRestoring = true
        var unheard: ContiguousArray<ServerEffect> = []
        switch record {
        case .epochBegan, .started: break
        case .sessionOpened(let id, let options): try restoreSession(id, options)
        case .sessionClosed(let id, _): removeRestored(id)
        case .submitted(let id, let submit, let receipt):
            let slot = try restoredSlot(id, "a submit")
            let first = (template: receipt.firstTemplate, task: receipt.firstTask, object: receipt.firstObject)
            do throws(RequestError) {
                guard submit.rows.isWhole, first == (UInt32(sessions[slot]!.templates.count), sessions[slot]!.tasks.count, sessions[slot]!.objects.count),
                    try check(submit, first, in: sessions[slot]!) == SubmitSize(tasks: receipt.taskCount, objects: receipt.objectCount)
                else { throw RequestError(.conflict, "it is not the one that was answered") }
            } catch {
                throw RestoreError(reason: "a submit of session \(id) from task \(first.task) on: \(error.message)")
            }
            noteSubmitted(submit, receipt, in: slot)
            sessions[slot]!.activeRowCount = sessions[slot]!.tasks.rowCount
        case .keptChanged(let id, let selection, let isKept):
            let slot = try restoredSlot(id, "a change of what is kept")
            try checkRestored(selection.ranges, below: sessions[slot]!.objects.count, "object", id)
            noteKept(slot, selection, isKept: isKept)
        case .cancelRequested(let id, let selection):
            let slot = try restoredSlot(id, "a request to cancel")
            let ranges: [Range<UInt32>]
            switch selection {
            case .all: ranges = [0..<sessions[slot]!.tasks.count]
            case .ranges(let some): ranges = some
            }
            try checkRestored(ranges, below: sessions[slot]!.tasks.count, "task", id)
            for range in ranges {
                for task in range where !sessions[slot]!.tasks.state[Int(task)].hasOutcome { sessions[slot]!.tasks.cancelRequested.insert(task) }
            }
        case .workerJoined(let id, let incarnation, let place, let description): restoreWorker(id, incarnation, place, description)
        case .workerLost(let id, _): removeRestored(id)
        case .assigned(let attempt, let worker):
            let slot = try restoredSlot(attempt.task, "an attempt")
            restoreAttempt(attempt, slot, on: restoredWorkers[worker])
        case .finished(let attempt, let worker, let finished):
            let slot = try restoredSlot(attempt.task, "an outcome")
            guard finished.outputs.count == sessions[slot]!.outputs(of: attempt.task.index).count else {
                throw RestoreError(reason: "task \(attempt.task) finished with \(finished.outputs.count) outputs, which its template has not")
            }
            let index = restoredWorkers[worker].flatMap { hasWorker($0) ? $0 : nil }
            let known = restoredWorkers[worker]
            releaseWorker(slot, attempt.task.index)
            sessions[slot]!.tasks.worker[Int(attempt.task.index)] = known.map { UInt32($0) } ?? TaskTable.noWorker
            noteFinished(slot, attempt.task.index, attempt, finished, on: index)
        case .failed(let attempt, _, let error):
            let slot = try restoredSlot(attempt.task, "an outcome")
            failTask(slot, attempt.task.index, error, into: &unheard)
        case .retried(let attempt, _):
            let slot = try restoredSlot(attempt.task, "an attempt")
            sessions[slot]!.tasks.failureCounts[attempt.task.index, default: 0] += 1
            requeueRestored(slot, attempt.task.index)
        case .charged(let attempt, let worker, let how):
            noteCharged(try restoredSlot(attempt.task, "a loss"), attempt, worker, how)
        case .cancelled(let task):
            let slot = try restoredSlot(task, "an outcome")
            releaseWorker(slot, task.index)
            noteCancelled(slot, task.index)
        case .runAgain(let id, let tasks, let objects): try restoreAgain(id, tasks, objects)
        case .lost(let object, let obstacle, let error):
            let slot = try restoredSlot(object.session, "a loss")
            guard object.index < sessions[slot]!.objects.count, obstacle < sessions[slot]!.tasks.count,
                sessions[slot]!.objects.state[Int(object.index)] == .finished
            else { throw RestoreError(reason: "object \(object) is lost, but it did not exist") }
            lose(slot, object.index, obstacle: obstacle, error, into: &unheard)
        }
    }

    // MARK: Records

    private func restoredSlot(_ id: SessionID, _ what: String) throws(RestoreError) -> Int {
        guard let slot = slotOfSession[id] else { throw RestoreError(reason: "\(what) of session \(id), which was not open") }
        return slot
    }

    /// The slot of a task that has no outcome.
    private func restoredSlot(_ task: TaskID, _ what: String) throws(RestoreError) -> Int {
        let slot = try restoredSlot(task.session, what)
        guard task.index < sessions[slot]!.tasks.count else { throw RestoreError(reason: "\(what) of task \(task), which nobody submitted") }
        guard !sessions[slot]!.tasks.state[Int(task.index)].hasOutcome else {
            throw RestoreError(reason: "\(what) of task \(task), which had its outcome")
        }
        return slot
    }

    private func checkRestored(_ ranges: [Range<UInt32>], below count: UInt32, _ what: String, _ id: SessionID) throws(RestoreError) {
        for range in ranges where range.upperBound > count {
            throw RestoreError(reason: "\(what) \(range.upperBound - 1) of session \(id), which has \(count)")
        }
    }

    private func checkDisjoint(_ ranges: [Range<UInt32>], _ what: String, _ id: SessionID) throws(RestoreError) {
        var end: UInt32 = 0
        for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
            guard range.lowerBound >= end else { throw RestoreError(reason: "\(what) \(range.lowerBound) of session \(id) is there twice") }
            end = range.upperBound
        }
    }

    private mutating func restoreSession(_ id: SessionID, _ options: SessionOptions) throws(RestoreError) {
        guard slotOfSession[id] == nil else { throw RestoreError(reason: "session \(id) was opened twice") }
        nextSession = max(nextSession, id.rawValue &+ 1)
        slotOfSession[id] = sessions.count
        sessions.append(Session(id: id, options: options))
    }

    private mutating func removeRestored(_ id: SessionID) {
        guard let slot = slotOfSession.removeValue(forKey: id) else { return }
        for object in 0..<sessions[slot]!.objects.count {
            guard let hash = sessions[slot]!.objects.blobs[object]?.hash, let uses = blobUses[hash] else { continue }
            blobUses[hash] = uses > 1 ? uses - 1 : nil
        }
        sessions[slot] = nil
        freeSlots.append(slot)
    }

    private mutating func restoreWorker(_ id: WorkerID, _ incarnation: UInt64, _ place: UInt64, _ description: WorkerDescription) {
        let worker = scheduler.join(cpus: description.cpus, subworkers: description.subworkers)
        scheduler.leave(worker)
        nextWorker = max(nextWorker, id.rawValue &+ 1)
        workerIDs.append(id)
        restoredWorkers[id] = worker
        add(
            WorkerEntry(
                id: id, description: description, place: place,
                link: ServerLink(incarnation: incarnation, worker: id, epoch: epoch, now: Instant(nanoseconds: 0), isRestored: true)))
        workerOfIncarnation[incarnation] = worker
        if place != 0 { workerOfPlace[place] = worker }
    }

    /// What it had is looked for at the end, once for all that are lost.
    private mutating func removeRestored(_ id: WorkerID) {
        guard let worker = restoredWorkers[id], let entry = workers[worker] else { return }
        if workerOfIncarnation[entry.link.incarnation] == worker { workerOfIncarnation[entry.link.incarnation] = nil }
        if workerOfPlace[entry.place] == worker { workerOfPlace[entry.place] = nil }
        remove(worker)
    }

    private mutating func restoreAttempt(_ attempt: AttemptID, _ slot: Int, on worker: Int?) {
        let task = attempt.task.index
        requeueRestored(slot, task)
        sessions[slot]!.tasks.attemptNumber[Int(task)] = attempt.number
        guard let worker else { return }  // It is long gone, and so is the attempt.
        sessions[slot]!.tasks.earlierEpochs[task] = attempt.epoch
        sessions[slot]!.tasks.worker[Int(task)] = UInt32(worker)
        sessions[slot]!.tasks.state[Int(task)] = .assigned
        sessions[slot]!.tasks.awaited.insert(task)
        guard hasWorker(worker) else { return }
        // It was told to have them.
        for position in sessions[slot]!.tasks.inputRange(ofRow: sessions[slot]!.tasks.row[Int(task)]) {
            let input = sessions[slot]!.tasks.inputs[position]
            guard sessions[slot]!.objects.state[Int(input)] == .finished, !sessions[slot]!.objects.isHeld(input, by: UInt32(worker)) else { continue }
            sessions[slot]!.objects.addHolder(UInt32(worker), of: input)
        }
    }

    private mutating func requeueRestored(_ slot: Int, _ task: UInt32) {
        sessions[slot]!.tasks.awaited.remove(task)
        sessions[slot]!.tasks.earlierEpochs[task] = nil
        sessions[slot]!.tasks.state[Int(task)] = .waiting
    }

    private mutating func restoreAgain(_ id: SessionID, _ tasks: [Range<UInt32>], _ objects: [Range<UInt32>]) throws(RestoreError) {
        let slot = try restoredSlot(id, "a remake")
        try checkRestored(tasks, below: sessions[slot]!.tasks.count, "task", id)
        try checkRestored(objects, below: sessions[slot]!.objects.count, "object", id)
        try checkDisjoint(tasks, "task that runs again", id)
        try checkDisjoint(objects, "object that is made again", id)
        for range in tasks {
            for task in range where sessions[slot]!.tasks.state[Int(task)] != .finished {
                throw RestoreError(reason: "task \(task) of session \(id) runs again, but it had not finished")
            }
        }
        for range in objects {
            for object in range {
                let state = sessions[slot]!.objects.state[Int(object)]
                guard sessions[slot]!.objects.producer[Int(object)] != ObjectTable.uploaded, state == .finished || state == .dropped else {
                    throw RestoreError(reason: "object \(object) of session \(id) is made again, but it had not been there")
                }
            }
        }
        makeAgain(slot, tasks: ContiguousArray(tasks.joined()), objects: ContiguousArray(objects.joined()))
    }

    // MARK: The end

    /// After the last record, and before the first event: from now on workers of earlier epochs are waited for, and clients may take up their
    /// leases.
    package mutating func finishRestoring(now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        self.now = now
        lastTick = now  // A server that stands still from here on must not blame clients for it.
        guard isRestoring else { return }
        isRestoring = false
        gatheredAt = now.advanced(byMilliseconds: LinkTiming.gatherMillisecondsMax)
        restoredWorkers = [:]
        away = ContiguousArray((0..<workers.count).map { hasWorker($0) })
        if !away.contains(true) { away = [] }
        var taskCount: UInt64 = 0
        for worker in presentWorkers {
            guard let entry = workers[worker] else { continue }
            workers[worker]!.objectCount = 0
            workers[worker]!.link = ServerLink(
                incarnation: entry.link.incarnation, worker: entry.id, epoch: epoch, now: now, isRestored: true)
        }
        for slot in sessions.indices where sessions[slot] != nil {
            taskCount += UInt64(sessions[slot]!.tasks.count)
            finishRestoring(slot, into: &effects)
        }
        let sessionCount = sessions.count - freeSlots.count
        if sessionCount > 0 || !away.isEmpty {
            effects.append(.note(.restored(sessions: sessionCount, tasks: taskCount, workers: away.count { $0 })))
        }
        settle(now: now, into: &effects)
    }

    private mutating func finishRestoring(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        touched.insert(slot)
        // Whoever takes up the lease hears everything.
        _ = sessions[slot]!.newlyFinished.take()
        _ = sessions[slot]!.newlyCancelled.take()
        sessions[slot]!.newLines = []
        let options = sessions[slot]!.options
        if !options.isDetached {
            sessions[slot]!.leaseDeadline = now.advanced(byMilliseconds: max(UInt64(options.graceMilliseconds), Session.firstLeaseMilliseconds))
        }
        // Each of them may know of the session.
        for worker in away.indices where away[worker] {
            guard sessions[slot]!.isOpen else {
                sessions[slot]!.openWorkers.append(UInt32(worker))
                send(.closeSession(sessions[slot]!.id), to: worker)
                continue
            }
            while sessions[slot]!.told.count <= worker { sessions[slot]!.told.append(nil) }
            sessions[slot]!.told[worker] = []
        }
        guard sessions[slot]!.isOpen else { return }
        // First: whatever ends from here on takes its copies from these counts.
        countHolders(slot)
        takeBackRestored(slot, into: &effects)
        guard sessions[slot]!.isOpen else { return }
        if !sessions[slot]!.tasks.cancelRequested.isEmpty { for task in 0..<sessions[slot]!.tasks.count { noteReturn(slot, task) } }
        cancelReturned(slot, into: &effects)
        remakeRestored(slot, into: &effects)
        guard sessions[slot]!.isOpen else { return }
        for row in 0..<sessions[slot]!.tasks.rowCount where sessions[slot]!.tasks.rowMissing[Int(row)] == 0 { makeReady(slot, row: row) }
    }

    /// Tasks that were on workers which are lost.
    private mutating func takeBackRestored(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        // One that fails may take others with it.
        for task in awaitedTasks(slot) where sessions[slot]!.tasks.awaited.contains(task) {
            let worker = Int(sessions[slot]!.tasks.worker[Int(task)])
            guard !hasWorker(worker) else { continue }
            if sessions[slot]!.template(of: task).rerun == .never, !sessions[slot]!.tasks.cancelRequested.contains(task) {
                failLost(slot, task, on: workerIDs[worker], into: &effects)
                guard sessions[slot]!.isOpen else { return }
            } else {
                requeueRestored(slot, task)
            }
        }
    }

    /// Who holds what, of the workers that are not lost.
    private mutating func countHolders(_ slot: Int) {
        for object in 0..<sessions[slot]!.objects.count {
            for holder in sessions[slot]!.objects.holders(of: object) {
                if !hasWorker(Int(holder)) {
                    sessions[slot]!.objects.removeHolder(holder, of: object)
                } else {
                    workers[Int(holder)]!.objectCount += 1
                }
            }
        }
    }

    /// Objects whose holders are lost.
    private mutating func remakeRestored(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        var gone: ContiguousArray<UInt32> = []
        for object in 0..<sessions[slot]!.objects.count {
            if sessions[slot]!.objects.isGone(object) { gone.append(object) }
        }
        remake(slot, gone, lostWith: "a worker was lost with", into: &effects)
    }

    // MARK: What the shell needs

    /// What the depot must still have, in rising order.
    package var blobsInUse: [BlobHash] {
        var hashes: [BlobHash] = []
        var seen: Set<BlobHash> = []
        for slot in sessions.indices {
            guard let session = sessions[slot], !session.objects.blobs.isEmpty else { continue }
            for object in 0..<session.objects.count {
                if let blob = session.objects.blobs[object], seen.insert(blob.hash).inserted { hashes.append(blob.hash) }
            }
        }
        return hashes.sorted { $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// By rising number.
    package var openSessions: [OpenSession] {
        sessions.compactMap { $0 }.sorted { $0.id < $1.id }.map { session in
            OpenSession(session: session.id, outputCounts: ContiguousArray(session.templates.map { UInt32($0.outputs.count) }))
        }
    }
}
