import Link
import Scheduling
import TaskModel

extension ServerCore {
    /// Gives ready tasks to workers until their queues are full.
    mutating func place(now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        guard !placeable.isEmpty, !scheduler.isFull else { return }
        for _ in 0..<placeable.count {
            let slot = placeable.removeFirst()
            guard hasSession(slot) else { continue }
            placeHeldBack(slot, into: &effects)
            queue: while let task = sessions[slot]!.ready.first {
                guard sessions[slot]!.tasks.state[Int(task)] == .ready else {
                    sessions[slot]!.ready.removeFirst()  // Cancelled while it waited.
                    continue
                }
                if !away.isEmpty, isOutOfReach(slot, task) {
                    sessions[slot]!.ready.removeFirst()
                    sessions[slot]!.outOfReach.append(task..<task + 1)
                    continue
                }
                let demand = sessions[slot]!.demand(of: task)
                if !sessions[slot]!.heldBack.isEmpty, sessions[slot]!.isHeldBack(demand) {
                    holdBack(slot, task, demand)
                    continue
                }
                guard let worker = chooseWorker(slot, task, demand) else {
                    switch scheduler.fit(demand) {
                    case .nobody: if !isOfferedNow(slot, task, demand) { setAside(slot, task) }
                    case .some: holdBack(slot, task, demand)
                    // Those that only wait are many, and have no claim on the CPUs that others behind them could use.
                    case .all where demand.cpus == 0: holdBack(slot, task, demand)
                    case .all: break queue
                    }
                    continue
                }
                sessions[slot]!.ready.removeFirst()
                assign(slot, task, to: worker, into: &effects)
            }
            if sessions[slot]!.hasPlaceable { placeable.insert(slot) }
            if scheduler.isFull { return }
        }
    }

    /// Tasks that some workers can't take, and for which the others had no room.
    private mutating func placeHeldBack(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        var position = 0
        while position < sessions[slot]!.heldBack.count {
            let demand = sessions[slot]!.heldBack[position].demand
            while let task = sessions[slot]!.heldBack[position].queue.first {
                guard sessions[slot]!.tasks.state[Int(task)] == .ready else {
                    sessions[slot]!.heldBack[position].queue.removeFirst()
                    continue
                }
                if !away.isEmpty, isOutOfReach(slot, task) {
                    sessions[slot]!.heldBack[position].queue.removeFirst()
                    sessions[slot]!.outOfReach.append(task..<task + 1)
                    continue
                }
                guard let worker = chooseWorker(slot, task, demand) else { break }
                sessions[slot]!.heldBack[position].queue.removeFirst()
                assign(slot, task, to: worker, into: &effects)
            }
            if sessions[slot]!.heldBack[position].queue.isEmpty {
                sessions[slot]!.heldBack.remove(at: position)
            } else if scheduler.fit(demand) == .nobody {
                // The workers that could take them are gone.
                let rest = sessions[slot]!.heldBack.remove(at: position).queue
                sessions[slot]!.ready.prepend(rest)
            } else {
                position += 1
            }
        }
    }

    /// The workers that could take the first task of the queue are full: those behind it that others can take go on.
    private mutating func holdBack(_ slot: Int, _ task: UInt32, _ demand: Demand) {
        sessions[slot]!.ready.removeFirst()
        sessions[slot]!.holdBack(task, demand)
    }

    /// A task that no worker can take makes way for those behind it, until another worker joins.
    private mutating func setAside(_ slot: Int, _ task: UInt32) {
        sessions[slot]!.ready.removeFirst()
        sessions[slot]!.misfits.append(task..<task + 1)
        let template = sessions[slot]!.tasks.template(of: task)
        if !sessions[slot]!.needs[Int(template)].isMisfit {
            sessions[slot]!.needs[Int(template)].isMisfit = true
            sessions[slot]!.misfitTemplates.append(template)
        }
    }

    /// Nobody had offered what the template needs when it came; now somebody has.
    private mutating func isOfferedNow(_ slot: Int, _ task: UInt32, _ demand: Demand) -> Bool {
        guard demand.runner == .nobody else { return false }
        return resolve(slot, sessions[slot]!.tasks.template(of: task))
    }

    /// A worker has joined: it may offer what nobody did, and take what no other could.
    mutating func lookAtMisfits() {
        for slot in sessions.indices where hasSession(slot) {
            guard !sessions[slot]!.misfits.isEmpty else { continue }
            for template in sessions[slot]!.misfitTemplates { resolve(slot, template) }
            let mayFit = sessions[slot]!.misfitTemplates.contains { scheduler.fit(sessions[slot]!.demand(ofTemplate: Int($0))) != .nobody }
            if mayFit { takeBackMisfits(slot) }
        }
    }

    private mutating func takeBackMisfits(_ slot: Int) {
        for template in sessions[slot]!.misfitTemplates { sessions[slot]!.needs[Int(template)].isMisfit = false }
        sessions[slot]!.misfitTemplates = []
        while let task = sessions[slot]!.misfits.first {
            sessions[slot]!.misfits.removeFirst()
            sessions[slot]!.ready.append(task..<task + 1)
        }
        placeable.insert(slot)
    }

    /// Looks again for who can run the template's tasks, if nobody could.
    ///
    /// - Returns: whether that is known now.
    @discardableResult
    private mutating func resolve(_ slot: Int, _ template: UInt32) -> Bool {
        guard sessions[slot]!.needs[Int(template)].runner == .nobody else { return false }
        let runner = runner(of: sessions[slot]!.templates[Int(template)], sessions[slot]!.options)
        sessions[slot]!.needs[Int(template)].runner = runner
        return runner != .nobody
    }

    /// The same order as on the worker: what it does itself, the session's subworkers, then its own.
    mutating func runner(of template: TaskTemplate, _ options: SessionOptions) -> Demand.Runner {
        let name = template.runner
        if name == "builtin" || template.program != nil || options.subworkers.contains(where: { $0.name == name }) { return .everyWorker }
        return scheduler.runner(String(template.offer))
    }

    private mutating func chooseWorker(_ slot: Int, _ task: UInt32, _ demand: Demand) -> Int? {
        let row = sessions[slot]!.tasks.row[Int(task)]
        let inputs = sessions[slot]!.tasks.inputRange(ofRow: row)
        guard !inputs.isEmpty else { return scheduler.place(demand, totalBytes: 0, localBytes: []) }
        while localBytes.count < workers.count { localBytes.append(0) }
        var total: UInt64 = 0
        for position in inputs {
            let object = sessions[slot]!.tasks.inputs[position]
            let size = sessions[slot]!.objects.sizeBytes[Int(object)]
            total &+= size
            let first = sessions[slot]!.objects.holder[Int(object)]
            guard first != ObjectTable.none else { continue }
            localBytes[Int(first)] &+= size
            if let more = sessions[slot]!.objects.moreHolders[object] { for holder in more { localBytes[Int(holder)] &+= size } }
        }
        let worker = scheduler.place(demand, totalBytes: total, localBytes: localBytes)
        // As it was, at the cost of the inputs and not of all workers that there ever were.
        for position in inputs {
            let object = sessions[slot]!.tasks.inputs[position]
            for holder in sessions[slot]!.objects.holders(of: object) { localBytes[Int(holder)] = 0 }
        }
        return worker
    }

    mutating func assign(_ slot: Int, _ task: UInt32, to worker: Int, into effects: inout ContiguousArray<ServerEffect>) {
        let id = sessions[slot]!.id
        let row = sessions[slot]!.tasks.row[Int(task)]
        let template = sessions[slot]!.tasks.rowTemplate[Int(row)]
        tell(slot, worker, template: template)

        // The last number may be what a worker or a damaged journal says it was.
        let number = sessions[slot]!.tasks.attemptNumber[Int(task)] &+ 1
        sessions[slot]!.tasks.attemptNumber[Int(task)] = number
        sessions[slot]!.tasks.worker[Int(task)] = UInt32(worker)
        sessions[slot]!.tasks.state[Int(task)] = .assigned
        if !sessions[slot]!.tasks.earlierEpochs.isEmpty { sessions[slot]!.tasks.earlierEpochs[task] = nil }
        if !sessions[slot]!.tasks.ahead.contains(task) { occupy(slot, task, worker) }

        let attempt = AttemptID(task: TaskID(session: id, index: task), epoch: epoch, number: number)
        var assignment = Assignment(
            attempt: attempt, template: TemplateID(session: id, index: template),
            arguments: sessions[slot]!.tasks.arguments(ofRow: row), firstOutput: 0,
            arrayIndex: sessions[slot]!.tasks.arrayIndex(of: task), name: sessions[slot]!.tasks.rowNames[row] ?? "")
        let outputCount = sessions[slot]!.templates[Int(template)].outputs.count
        if !sessions[slot]!.tasks.losses.isEmpty, let losses = sessions[slot]!.tasks.losses[task] { assignment.lossCount = losses.count }
        assignment.firstOutput = sessions[slot]!.tasks.firstOutput(of: task, outputCount: outputCount)
        let inputs = sessions[slot]!.tasks.inputRange(ofRow: row)
        let constants = sessions[slot]!.templates[Int(template)].constants
        assignment.inputs.reserveCapacity(constants.count + inputs.count)
        for object in constants { assignment.inputs.append(input(slot, object, for: worker)) }
        for position in inputs { assignment.inputs.append(input(slot, sessions[slot]!.tasks.inputs[position], for: worker)) }
        if let program = sessions[slot]!.templates[Int(template)].program { assignment.inputs.append(input(slot, program.object, for: worker)) }
        let mayRunOnce = sessions[slot]!.templates[Int(template)].rerun == .never
        append(.assigned(attempt, workers[worker]!.id), isDurable: mayRunOnce, into: &effects)
        guard fit(&assignment, to: worker) else { return giveUpSending(assignment, slot, to: worker) }
        send(.assign(assignment), to: worker)
        if mayRunOnce { workers[worker]!.barrier = gate.lastNumber }
        noteFollowers(slot, of: task, on: worker)
    }

    /// From now on the scheduler counts the task.
    mutating func occupy(_ slot: Int, _ task: UInt32, _ worker: Int) {
        let template = Int(sessions[slot]!.tasks.template(of: task))
        let microseconds = UInt32(clamping: sessions[slot]!.durations[template].expectedNanoseconds / 1000)
        sessions[slot]!.tasks.expectedMicroseconds[Int(task)] = microseconds
        scheduler.assign(worker, cpus: sessions[slot]!.templates[template].resources.cpus, expectedNanoseconds: UInt64(microseconds) * 1000, at: now)
        noteGiven(slot, task, to: worker)
    }

    /// The session and the template, once each, before the first task that needs them.
    private mutating func tell(_ slot: Int, _ worker: Int, template: UInt32) {
        while sessions[slot]!.told.count <= worker { sessions[slot]!.told.append(nil) }
        let id = sessions[slot]!.id
        if sessions[slot]!.told[worker] == nil {
            sessions[slot]!.told[worker] = []
            send(.session(id, subworkers: sessions[slot]!.options.subworkers), to: worker)
        }
        while sessions[slot]!.told[worker]!.count <= Int(template) { sessions[slot]!.told[worker]!.append(false) }
        if !sessions[slot]!.told[worker]![Int(template)] {
            sessions[slot]!.told[worker]![Int(template)] = true
            send(.template(TemplateID(session: id, index: template), sessions[slot]!.templates[Int(template)]), to: worker)
        }
    }

    /// How the worker gets an input; from now on it counts as a holder.
    private mutating func input(_ slot: Int, _ object: UInt32, for worker: Int) -> InputAssignment {
        let index = Int(object)
        let id = ObjectID(session: sessions[slot]!.id, index: object)
        if sessions[slot]!.objects.state[index] == .unfinished {
            let producer = attempt(slot, sessions[slot]!.objects.producer[index])
            return InputAssignment(replica: Replica(object: id, generation: producer.generation), source: .expect(producer))
        }
        let replica = Replica(object: id, generation: sessions[slot]!.objects.generation[index])
        var input = InputAssignment(replica: replica, sizeBytes: sessions[slot]!.objects.sizeBytes[index], source: .held)
        if sessions[slot]!.objects.isHeld(object, by: UInt32(worker)) { return input }
        input.contentType = sessions[slot]!.contentType(of: object)
        input.isDirectory = sessions[slot]!.isDirectory(object)
        if let attributes = sessions[slot]!.objects.attributes[object] { input.attributes = attributes }
        if sessions[slot]!.objects.hasInline[index] {
            input.source = .inline(sessions[slot]!.objects.inline[index])
        } else if sessions[slot]!.objects.blobs[object] != nil {
            input.source = .fetch([depotEndpoint])
        } else {
            input.source = .fetch(endpoints(slot, object))
        }
        sessions[slot]!.objects.addHolder(UInt32(worker), of: object)
        workers[worker]!.objectCount += 1
        return input
    }

    /// An assignment is one message, and a message has an end.
    ///
    /// - Returns: whether the assignment can be sent as it is now.
    private mutating func fit(_ assignment: inout Assignment, to worker: Int) -> Bool {
        guard assignment.estimatedBytes > ControlLimits.assignmentInlineBytesMax else { return true }
        provideValues(of: &assignment, to: worker)
        guard assignment.estimatedBytes > ControlLimits.assignmentBytesMax else { return true }
        // One holder each: a task whose input can't be had is tried again.
        for position in assignment.inputs.indices {
            guard case .fetch(let endpoints) = assignment.inputs[position].source, endpoints.count > 1 else { continue }
            assignment.inputs[position].source = .fetch([endpoints[0]])
        }
        return assignment.estimatedBytes <= ControlLimits.assignmentBytesMax
    }

    /// Small values go ahead of an assignment that is large, in messages of their own.
    private mutating func provideValues(of assignment: inout Assignment, to worker: Int) {
        var values: [InputAssignment] = []
        var bytes = 0
        for position in assignment.inputs.indices {
            guard case .inline = assignment.inputs[position].source else { continue }
            let value = assignment.inputs[position]
            assignment.inputs[position] = InputAssignment(replica: value.replica, sizeBytes: value.sizeBytes, source: .held)
            values.append(value)
            bytes += value.estimatedBytes
            if bytes > ControlLimits.assignmentInlineBytesMax {
                send(.provide(values), to: worker)
                values = []
                bytes = 0
            }
        }
        if !values.isEmpty { send(.provide(values), to: worker) }
    }

    /// The task fails at the end of the event: here its session might end under those who go through its queues.
    private mutating func giveUpSending(_ assignment: Assignment, _ slot: Int, to worker: Int) {
        for input in assignment.inputs {
            guard case .fetch = input.source else { continue }
            // It was not told to.
            sessions[slot]!.objects.removeHolder(UInt32(worker), of: input.replica.object.index)
            workers[worker]!.objectCount -= 1
        }
        unsendable.append((assignment.attempt, worker, assignment.estimatedBytes))
    }

    mutating func failUnsendable(into effects: inout ContiguousArray<ServerEffect>) {
        while let (attempt, worker, bytes) = unsendable.popLast() {
            guard let slot = current(attempt, on: worker) else { continue }
            let task = attempt.task.index
            let inputCount = sessions[slot]!.tasks.inputRange(ofRow: sessions[slot]!.tasks.row[Int(task)]).count
            let error = TaskError(
                .setup,
                "what a worker has to know of the task takes \(bytes) bytes, over the limit of \(ControlLimits.assignmentBytesMax): it has \(inputCount) "
                    + "inputs; shorten their attributes and content types, or put them into a directory")
            append(.failed(attempt, workers[worker]?.id, error), into: &effects)
            failTask(slot, task, error, into: &effects)
        }
    }

    func endpoints(_ slot: Int, _ object: UInt32) -> [Endpoint] {
        var endpoints: [Endpoint] = []
        for holder in sessions[slot]!.objects.holders(of: object) {
            if let endpoint = workers[Int(holder)]?.description.dataEndpoint { endpoints.append(endpoint) }
        }
        return endpoints
    }

    /// Gives back what the scheduler counts for a task that is on a worker.
    mutating func releaseWorker(_ slot: Int, _ task: UInt32) {
        let index = Int(task)
        let state = sessions[slot]!.tasks.state[index]
        guard state == .assigned || state == .running else { return }
        forgetTakeBack(slot, task)
        if !sessions[slot]!.tasks.progress.isEmpty { forgetProgress(slot, task) }
        let worker = Int(sessions[slot]!.tasks.worker[index])
        if sessions[slot]!.tasks.ahead.remove(task) != nil {
            workers[worker]?.aheadCount -= 1
            return
        }
        if !sessions[slot]!.tasks.awaited.isEmpty, sessions[slot]!.tasks.awaited.remove(task) != nil { return }
        let cpus = sessions[slot]!.templates[Int(sessions[slot]!.tasks.template(of: task))].resources.cpus
        scheduler.release(worker, cpus: cpus, expectedNanoseconds: UInt64(sessions[slot]!.tasks.expectedMicroseconds[index]) * 1000, at: now)
        if state == .running {
            sessions[slot]!.runningCount -= 1
            workers[worker]?.runningCount -= 1
        }
    }

    /// Takes the task back into the queue, for another attempt.
    mutating func requeue(_ slot: Int, _ task: UInt32) {
        let canRun = sessions[slot]!.tasks.rowMissing[Int(sessions[slot]!.tasks.row[Int(task)])] == 0
        releaseWorker(slot, task)
        takeBackFollowers(slot, of: task)
        noteReturn(slot, task)
        sessions[slot]!.tasks.state[Int(task)] = canRun ? .ready : .waiting
        if canRun { queueAgain(slot, task) }
    }

    /// A ready task that ran or was queued before goes first: others may have waited for it longest.
    mutating func queueAgain(_ slot: Int, _ task: UInt32) {
        sessions[slot]!.ready.prepend(task)
        placeable.insert(slot)
    }
}
