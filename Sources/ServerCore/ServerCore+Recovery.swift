import Link
import TaskModel

/// What is done about objects that are gone with a worker: the tasks that made them run again, and of what those need only what is
/// gone too.
///
/// What a client gave is never gone: small values are in the journal, large ones in the depot. Outcomes that a client heard stay heard:
/// a task that runs again is not told of a second time, and whoever asks for its outputs waits until they are there again.
extension ServerCore {
    /// The worker's copies are gone.
    mutating func loseReplicas(_ slot: Int, on worker: Int, _ id: WorkerID, into effects: inout ContiguousArray<ServerEffect>) {
        var gone: ContiguousArray<UInt32> = []
        for object in sessions[slot]!.objects.held(by: UInt32(worker)) {
            sessions[slot]!.objects.removeHolder(UInt32(worker), of: object)
            if sessions[slot]!.objects.isGone(object) { gone.append(object) }
        }
        remake(slot, gone, lostWith: "worker \(id) was lost with", into: &effects)
    }

    /// A worker could not have an input, as no holder gave it, or has it no more, as a task there has written to it. The tasks that it has with this input run again, here or elsewhere.
    mutating func miss(_ replica: Replica, on worker: Int, into effects: inout ContiguousArray<ServerEffect>) {
        let object = replica.object.index
        guard let slot = slotOfSession[replica.object.session], sessions[slot]!.isOpen, object < sessions[slot]!.objects.count,
            sessions[slot]!.objects.generation[Int(object)] == replica.generation,
            sessions[slot]!.objects.isHeld(object, by: UInt32(worker))
        else { return }
        touched.insert(slot)
        sessions[slot]!.objects.removeHolder(UInt32(worker), of: object)
        workers[worker]!.objectCount -= 1
        // One that fails may take others with it.
        for task in users(slot, of: object, on: worker) where isOn(worker, slot, task) {
            takeBack(slot, task, missing: object, on: worker, into: &effects)
            guard sessions[slot]!.isOpen else { return }
        }
        if sessions[slot]!.objects.isGone(object) {
            remake(slot, [object], lostWith: "worker \(workers[worker]!.id) does not have", into: &effects)
        }
    }

    /// The worker has the task, and not its input: the task begins again.
    mutating func takeBack(_ slot: Int, _ task: UInt32, missing object: UInt32, on worker: Int, into effects: inout ContiguousArray<ServerEffect>) {
        // Its failure is on its way, or the attempt never begins, or shall not end: each is late news from now on.
        sendAfterCommit(.cancel(attempt(slot, task)), to: worker)
        guard sessions[slot]!.tasks.state[Int(task)] == .running, sessions[slot]!.template(of: task).rerun == .never else {
            return postpone(slot, task, missing: object, on: worker, into: &effects)
        }
        // It had the input when it began: what is missing now was written to.
        let error = TaskError(
            .preempted,
            "input \"\(sessions[slot]!.label(of: object))\" (object \(object)) was written to by another task on worker "
                + "\(workers[worker]!.id) while this one ran, which must not run again (rerun: never)")
        append(.failed(attempt(slot, task), workers[worker]!.id, error), into: &effects)
        failTask(slot, task, error, into: &effects)
    }

    /// Tasks that the worker has with this object as an input.
    private func users(_ slot: Int, of object: UInt32, on worker: Int) -> ContiguousArray<UInt32> {
        let tasks = sessions[slot]!.tasks
        func isThere(_ task: UInt32) -> Bool {
            tasks.worker[Int(task)] == UInt32(worker) && (tasks.state[Int(task)] == .assigned || tasks.state[Int(task)] == .running)
        }
        guard sessions[slot]!.objects.producer[Int(object)] != ObjectTable.uploaded else {
            // What the client gave has no list of its users: the depot hardly ever lacks it.
            let templates = sessions[slot]!.templates
            return ContiguousArray(
                (0..<tasks.count).filter { task in
                    isThere(task)
                        && (tasks.inputs[tasks.inputRange(ofRow: tasks.row[Int(task)])].contains(object)
                            || templates[Int(tasks.template(of: task))].constants.contains(object)
                            || templates[Int(tasks.template(of: task))].program?.object == object)
                })
        }
        var users: ContiguousArray<UInt32> = []
        var edge = sessions[slot]!.objects.firstEdge[Int(object)]
        while edge != ObjectTable.none {
            let row = sessions[slot]!.objects.edgeRow[Int(edge)]
            edge = sessions[slot]!.objects.edgeNext[Int(edge)]
            // The youngest row comes first; one that has the object as two inputs comes twice in a row.
            for task in tasks.tasks(ofRow: row).reversed() where isThere(task) && users.last != task { users.append(task) }
        }
        return ContiguousArray(users.reversed())
    }

    // MARK: Later

    /// A holder that does not answer is mostly one that has died and of which the server hears within seconds: each try waits twice as long
    /// as the one before, and together they wait longer than the longest silence.
    static let missCountMax: UInt32 = 7
    private static let firstMissMilliseconds: UInt64 = 125

    private mutating func postpone(
        _ slot: Int, _ task: UInt32, missing object: UInt32, on worker: Int, into effects: inout ContiguousArray<ServerEffect>
    ) {
        let misses = (sessions[slot]!.tasks.missCounts[task] ?? 0) + 1
        guard misses <= Self.missCountMax else {
            let error = TaskError(
                .workerLost,
                "input \"\(sessions[slot]!.label(of: object))\" (object \(object)) could not be had in \(Self.missCountMax) tries, last by worker "
                    + "\(workers[worker]!.id): the workers that hold it do not give it; can the workers reach each other's data ports?")
            append(.failed(attempt(slot, task), workers[worker]!.id, error), into: &effects)
            return failTask(slot, task, error, into: &effects)
        }
        sessions[slot]!.tasks.missCounts[task] = misses
        releaseWorker(slot, task)
        takeBackFollowers(slot, of: task)
        noteReturn(slot, task)
        sessions[slot]!.tasks.state[Int(task)] = .waiting
        sessions[slot]!.postponed.append(task, until: now.advanced(byMilliseconds: Self.firstMissMilliseconds << UInt64(misses)))
    }

    /// Postponed tasks whose time has come.
    mutating func resumePostponed(_ slot: Int) {
        guard !sessions[slot]!.postponed.isEmpty else { return }
        touched.insert(slot)
        for task in sessions[slot]!.postponed.takeDue(now) { makeReadyAgain(slot, task) }
    }

    /// One task of a row, unless it waits for an input.
    private mutating func makeReadyAgain(_ slot: Int, _ task: UInt32) {
        guard !isRestoring, sessions[slot]!.tasks.state[Int(task)] == .waiting, sessions[slot]!.tasks.rowMissing[Int(sessions[slot]!.tasks.row[Int(task)])] == 0
        else { return }
        sessions[slot]!.tasks.state[Int(task)] = .ready
        queueAgain(slot, task)
    }

    // MARK: Again

    /// What has to be done to have an object again.
    private struct Plan {
        var tasks: ContiguousArray<UInt32> = []
        var objects: ContiguousArray<UInt32> = []
        /// Dropped objects of the client's that are needed again.
        var uploads: ContiguousArray<UInt32> = []
        /// The task that must not run again.
        var obstacle: UInt32?
    }

    /// Finished objects without a copy: each is made again, or lost for good.
    mutating func remake(
        _ slot: Int, _ gone: ContiguousArray<UInt32>, lostWith cause: String, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard !gone.isEmpty else { return }
        var again = (tasks: RangeList(), objects: RangeList())
        var isLosing = false
        for object in gone where sessions[slot]!.objects.isGone(object) {
            let plan = plan(slot, for: object)
            if let obstacle = plan.obstacle {
                isLosing = true
                // The records are to be true in their order.
                noteRunAgain(slot, &again, into: &effects)
                giveUp(slot, object, because: obstacle, lostWith: cause, into: &effects)
                guard sessions[slot]!.isOpen else { return }
            } else {
                carryOut(plan, slot)
                for task in plan.tasks { again.tasks.append(task) }
                for object in plan.objects { again.objects.append(object) }
            }
        }
        noteRunAgain(slot, &again, into: &effects)
        // Requests that had seen the objects look again.
        if isLosing || sessions[slot]!.tasks.remaking.isEmpty == false {
            for position in sessions[slot]!.waits.indices { sessions[slot]!.waits[position].restart() }
        }
    }

    private mutating func noteRunAgain(
        _ slot: Int, _ again: inout (tasks: RangeList, objects: RangeList), into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard !again.objects.isEmpty else { return }
        append(.runAgain(sessions[slot]!.id, tasks: again.tasks.take(), objects: again.objects.take()), isDurable: false, into: &effects)
    }

    /// The least set of tasks: backwards over the graph, only as far as inputs are gone too.
    private func plan(_ slot: Int, for object: UInt32) -> Plan {
        let session = sessions[slot]!
        var plan = Plan()
        var seenTasks: Set<UInt32> = []
        var seenObjects: Set<UInt32> = [object]
        plan.objects = [object]
        var next = 0
        while next < plan.objects.count {
            let task = session.objects.producer[Int(plan.objects[next])]
            next += 1
            guard seenTasks.insert(task).inserted, !session.tasks.remaking.contains(task) else { continue }
            guard session.tasks.state[Int(task)] == .finished, session.template(of: task).rerun != .never else {
                plan.obstacle = task
                return plan
            }
            plan.tasks.append(task)
            for position in session.tasks.inputRange(ofRow: session.tasks.row[Int(task)]) {
                let input = session.tasks.inputs[position]
                switch session.objects.state[Int(input)] {
                case .unfinished: break  // Is being made again.
                case .finished: if session.objects.isGone(input), seenObjects.insert(input).inserted { plan.objects.append(input) }
                case .dropped:
                    guard seenObjects.insert(input).inserted else { break }
                    if session.objects.producer[Int(input)] == ObjectTable.uploaded {
                        plan.uploads.append(input)
                    } else {
                        plan.objects.append(input)
                    }
                case .lost:
                    plan.obstacle = session.objects.producer[Int(input)]
                    return plan
                }
            }
        }
        return plan
    }

    private mutating func carryOut(_ plan: Plan, _ slot: Int) {
        for upload in plan.uploads { sessions[slot]!.objects.state[Int(upload)] = .finished }
        makeAgain(slot, tasks: plan.tasks, objects: plan.objects)
    }

    mutating func makeAgain(_ slot: Int, tasks: ContiguousArray<UInt32>, objects: ContiguousArray<UInt32>) {
        for object in objects {
            _ = sessions[slot]!.objects.takeHolders(of: object)
            sessions[slot]!.objects.state[Int(object)] = .unfinished
            sessions[slot]!.objects.releaseValue(of: object)
            awaitAgain(slot, object)
        }
        for task in tasks {
            sessions[slot]!.tasks.state[Int(task)] = .waiting
            sessions[slot]!.finishedCount -= 1
            sessions[slot]!.tasks.remaking.insert(task)
            for position in sessions[slot]!.tasks.inputRange(ofRow: sessions[slot]!.tasks.row[Int(task)]) {
                sessions[slot]!.objects.needCount[Int(sessions[slot]!.tasks.inputs[position])] += 1
            }
        }
        // Those that were planned last need the least.
        for task in tasks { makeReadyAgain(slot, task) }
    }

    /// Rows that use the object lack it from now on.
    private mutating func awaitAgain(_ slot: Int, _ object: UInt32) {
        var edge = sessions[slot]!.objects.firstEdge[Int(object)]
        while edge != ObjectTable.none {
            let row = sessions[slot]!.objects.edgeRow[Int(edge)]
            edge = sessions[slot]!.objects.edgeNext[Int(edge)]
            sessions[slot]!.tasks.rowMissing[Int(row)] += 1
            for task in sessions[slot]!.tasks.tasks(ofRow: row) where sessions[slot]!.tasks.state[Int(task)] == .ready {
                sessions[slot]!.tasks.state[Int(task)] = .waiting
            }
        }
    }

    /// The object can't be had again: whatever needs it fails, with the task in its way as the one that failed.
    private mutating func giveUp(
        _ slot: Int, _ object: UInt32, because obstacle: UInt32, lostWith cause: String, into effects: inout ContiguousArray<ServerEffect>
    ) {
        let name = sessions[slot]!.name(of: obstacle)
        let why =
            sessions[slot]!.template(of: obstacle).rerun == .never
            ? "task \(name) (\(obstacle)) must not run again (rerun: never)"
            : "task \(name) (\(obstacle)), which it needs, \(sessions[slot]!.tasks.state[Int(obstacle)] == .cancelled ? "was cancelled" : "has failed")"
        let error = TaskError(
            .workerLost, "\(cause) the only copy of output \"\(sessions[slot]!.label(of: object))\" (object \(object)), and \(why)")
        append(.lost(ObjectID(session: sessions[slot]!.id, index: object), obstacle: obstacle, error), into: &effects)
        lose(slot, object, obstacle: obstacle, error, into: &effects)
    }

    mutating func lose(
        _ slot: Int, _ object: UInt32, obstacle: UInt32, _ error: TaskError, into effects: inout ContiguousArray<ServerEffect>
    ) {
        let isNeeded = sessions[slot]!.objects.needCount[Int(object)] > 0
        let failure = sessions[slot]!.failure(of: obstacle, error)
        sessions[slot]!.objects.state[Int(object)] = .lost
        _ = sessions[slot]!.objects.takeHolders(of: object)
        sessions[slot]!.objects.releaseValue(of: object)
        sessions[slot]!.objects.losses[object] = (obstacle, error)
        awaitAgain(slot, object)
        // Kept, but used by no task: who asks for it hears why it is gone.
        guard isNeeded else { return }
        switch sessions[slot]!.options.onError {
        case .failSession: fail(slot, with: failure, into: &effects)
        case .failDescendants: abandonUsers(slot, of: object, root: failure)
        }
    }
}
