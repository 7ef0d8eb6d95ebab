import Link
import TaskModel
import WorkerCore

/// A worker's shell: its processes, store and transfers.
extension Simulation {
    func start(_ worker: VirtualWorker) throws(Violation) {
        guard !worker.isAlive else { return }
        worker.start()
        try connect(worker)
    }

    func kill(_ worker: VirtualWorker, restartAt: UInt64) {
        if worker.connection != nil { leaveConnection(worker) }
        worker.die()
        queue.add(.startWorker(worker.index), at: restartAt)
    }

    func tell(_ event: WorkerEvent, _ worker: VirtualWorker) throws(Violation) {
        var effects: ContiguousArray<WorkerEffect> = []
        worker.core.handle(event, now: Instant(nanoseconds: now), into: &effects)
        do { try worker.core.checkInvariants() } catch { throw Violation(.workerInvariant, "worker \(worker.index): \(error)") }
        trace.add(effects.count)
        for effect in effects {
            try perform(effect, worker)
            if !worker.isAlive { return }
        }
        try checkDamagedFiles(after: event, worker)
        guard worker.store.usedInMemory <= worker.core.memoryFileBytes else {
            throw Violation(
                .workerInvariant, "worker \(worker.index): files take \(worker.store.usedInMemory) bytes of memory, it knows of \(worker.core.memoryFileBytes)")
        }
        if let tick = worker.core.nextTick?.nanoseconds, worker.tickAt.map({ tick < $0 || $0 <= now }) ?? true {
            worker.tickAt = max(tick, now + 1000)
            queue.add(.workerTick(worker: worker.index, life: worker.life), at: max(tick, now + 1000))
        }
    }

    private func perform(_ effect: WorkerEffect, _ worker: VirtualWorker) throws(Violation) {
        let (index, life) = (worker.index, worker.life)
        switch effect {
        case .send(let frame): try sendUp(frame, from: worker)
        case .reconnect:
            leaveConnection(worker)
            queue.add(.connect(worker: index, life: life), at: now + random.milliseconds(1...100))
        case .welcomed, .note: break
        case .refused(let reason):
            // The process ends and its parent starts it again.
            write("worker \(index) is refused: \(reason)")
            count("workers refused")
            kill(worker, restartAt: now + 1_000_000_000)
        case .defineTemplate(let id, _): worker.definitions.append(id.session)
        case .forgetSession(let id): try forget(id, worker)
        case .startSubworker(let id, let command, let program):
            try checkProgram(program, of: command, worker)
            worker.processes.append(VirtualWorker.Process(id: id, session: command.source?.object.session))
            queue.add(.register(worker: index, life: life, id), at: now + random.milliseconds(2...30))
        case .call(let id, let calls): try call(id, calls, worker)
        case .recall(let id, let slots):
            guard let process = worker.processIndex(id) else { break }
            worker.processes[process].recalledAt = max(worker.processes[process].recalledAt, now + random.microseconds(5...500))
            queue.add(.recalled(worker: index, life: life, id, slots), at: worker.processes[process].recalledAt)
        case .cancelCall(let id, let slot):
            guard let process = worker.processIndex(id), let call = worker.processes[process].queue.firstIndex(where: { $0.request.slot == slot }),
                random.chance(70)
            else { break }
            worker.processes[process].queue[call].isCancelled = true
            queue.add(
                .callDone(worker: index, life: life, id, serial: worker.processes[process].queue[call].serial), at: now + random.microseconds(5...50_000))
        case .measureMemory(let id):
            guard let process = worker.processIndex(id) else { break }
            worker.processes[process].memoryBytes += random.chance(50) ? random.next() % 1500 : 0
            queue.add(
                .again(worker: index, life: life, .memoryMeasured(id, bytes: worker.processes[process].memoryBytes)), at: now + random.microseconds(5...500))
        case .dropCached(let id, let replicas):
            guard let process = worker.processIndex(id) else { break }
            if let last = worker.processes[process].queue.lastIndex(where: { $0.begunAt == nil }) {
                worker.processes[process].queue[last].forgetting += replicas
            } else {
                try forget(replicas, process, worker)
            }
        case .stopSubworker(let id, let isKilled):
            queue.add(
                .subworkerEnd(worker: index, life: life, id, isCrash: false),
                at: now + (isKilled ? random.microseconds(50...2000) : random.milliseconds(1...50)))
        case .runJob(let token, let request):
            let inputFiles = worker.inputFiles(request)
            worker.jobs.append(VirtualWorker.Job(token: token, request: request, inputFiles: inputFiles, begunAt: now))
            try begin(request, inputFiles, worker)
            queue.add(.jobDone(worker: index, life: life, token), at: now + duration)
        case .stopJob(let token):
            guard let job = worker.jobs.firstIndex(where: { $0.token == token }) else {
                throw Violation(.brokenContract, "worker \(index): a job is stopped that does not run")
            }
            worker.jobs[job].isStopped = true
            queue.add(.jobDone(worker: index, life: life, token), at: now + random.microseconds(50...2000))
        case .fetch(let token, let input):
            if worker.store[input.replica] != nil || worker.fetches.contains(where: { $0.input.replica == input.replica }) {
                throw Violation(.brokenContract, "worker \(index): \(input.replica) is fetched though it is here or on its way")
            }
            let graph = try graph(of: input.replica.object.session)
            guard input.isDirectory == graph.isDirectory[Int(input.replica.object.index)] else {
                throw Violation(.wrongValue, "\(input.replica) is fetched as a \(input.isDirectory ? "directory" : "file")")
            }
            worker.fetches.append((token, input))
            queue.add(.fetchDone(worker: index, life: life, token), at: now + transferTime)
        case .grant(let id, let file, _, _, let grant): try granted(id, file, grant, worker)
        case .spill(let replica): try spill(replica, worker)
        case .emptyTrash:
            queue.add(.again(worker: worker.index, life: worker.life, .trashEmptied), at: now + random.microseconds(10...100_000))
        case .alias(let token, let from, let to):
            worker.aliases.append((token, from, to, worker.store.file(of: from)))
            queue.add(.aliasDone(worker: index, life: life, token), at: now + random.microseconds(5...300))
        case .write(let token, let files):
            if worker.writes.contains(where: { $0.token == token }) {
                throw Violation(.brokenContract, "worker \(worker.index): files of one task are written twice")
            }
            worker.writes.append((token, files))
            queue.add(.writeDone(worker: index, life: life, token), at: now + random.microseconds(20...3000))
        case .remove(let replicas):
            for replica in replicas {
                if let attempt = worker.isInUse(replica) {
                    throw Violation(.brokenContract, "worker \(index): \(replica) is removed under \(attempt)")
                }
                guard worker.store.remove(replica) else {
                    throw Violation(.brokenContract, "worker \(index): \(replica) is removed and was not here")
                }
            }
        }
    }

    /// What a process is started from must be what its session gave for it.
    private func checkProgram(_ carried: CarriedProgram?, of command: SubworkerCommand, _ worker: VirtualWorker) throws(Violation) {
        guard let source = command.source else { return }
        count("programs started")
        guard let carried, case let program = carried.object, program.replica.object == source.object else {
            throw Violation(.brokenContract, "worker \(worker.index): subworker \(command.name) is started without its program")
        }
        let content: Content?
        switch program.value {
        case .inline(let bytes): content = Content(bytes)
        case .stored: content = worker.store[program.replica]
        case .cached: content = nil
        }
        guard let content else { throw Violation(.wrongValue, "worker \(worker.index): \(program.replica) is not here to be started") }
        try check(content, is: program.replica, graph(of: source.object.session), at: "the start of subworker \(command.name)")
        if !worker.runsProgramsInMemory, !carried.isOnDisk {
            throw Violation(.brokenContract, "worker \(worker.index): subworker \(command.name) is to be started where nothing can be executed")
        }
        guard !worker.programs.contains(where: { $0.session == source.object.session && $0.name == command.name }) else { return }
        // The copy goes with the session.
        let isInMemory = !carried.isOnDisk && worker.store.addProgram(program.sizeBytes)
        count(isInMemory ? "programs in memory" : "programs on disk")
        worker.programs.append((source.object.session, command.name, isInMemory ? program.sizeBytes : 0))
    }

    private var duration: UInt64 {
        if random.chance(3) { return random.microseconds(5...(plan.taskMicrosecondsMax * 10)) }
        return random.microseconds(5...plan.taskMicrosecondsMax)
    }

    private func forget(_ id: SessionID, _ worker: VirtualWorker) throws(Violation) {
        for job in worker.jobs where job.request.attempt.task.session == id {
            throw Violation(.brokenContract, "worker \(worker.index): \(job.request.attempt) outlives its session")
        }
        for process in worker.processes where !process.isEnding {
            for call in process.queue where call.request.job.attempt.task.session == id {
                throw Violation(.brokenContract, "worker \(worker.index): \(call.request.job.attempt) outlives its session")
            }
        }
        for process in worker.processes where process.session == id {
            throw Violation(.brokenContract, "worker \(worker.index): subworker \(process.id.rawValue) outlives the session that brought it")
        }
        for program in worker.programs where program.session == id { worker.store.removeProgram(program.bytes) }
        worker.programs.removeAll { $0.session == id }
        worker.definitions.removeAll { $0 == id }
    }

    /// After damage it may be told to forget what it never got.
    private func forget(_ replicas: [Replica], _ process: Int, _ worker: VirtualWorker) throws(Violation) {
        for replica in replicas where worker.processes[process].cached.removeValue(forKey: replica) == nil && damageCount == 0 {
            throw Violation(.brokenContract, "worker \(worker.index): \(replica) is dropped by a subworker that has not got it")
        }
    }

    /// The process comes to the call: it remembers what it is to remember, unless it does already.
    private func read(_ position: Int, _ process: Int, _ worker: VirtualWorker) throws(Violation) {
        let call = worker.processes[process].queue[position]
        if worker.processes[process].capabilities?.hasCaching == true {
            for (input, file) in zip(call.request.job.inputs, call.inputFiles) where input.isKept && worker.processes[process].cached[input.replica] == nil {
                worker.processes[process].cached[input.replica] = worker.store.isDamaged(file) ? .garbage : ledger[input.replica]
            }
        }
        worker.processes[process].queue[position].remembered = worker.processes[process].cached
        worker.processes[process].queue[position].forgetting = []
        try forget(call.forgetting, process, worker)
    }

    private func call(_ id: SubworkerID, _ calls: ContiguousArray<CallRequest>, _ worker: VirtualWorker) throws(Violation) {
        guard let process = worker.processIndex(id) else { return }  // It has ended, and the core is about to hear.
        if worker.processes[process].isWornOut {
            throw Violation(.brokenContract, "worker \(worker.index): subworker \(id.rawValue) is called though it has taken too much memory")
        }
        for request in calls {
            if worker.processes[process].queue.contains(where: { $0.request.slot == request.slot }) {
                throw Violation(.brokenContract, "worker \(worker.index): slot \(request.slot) is taken")
            }
            serialCount += 1
            worker.processes[process].queue.append(
                VirtualWorker.Call(request: request, serial: serialCount, inputFiles: worker.inputFiles(request.job)))
        }
        try beginCalls(process, worker)
    }

    /// A process that is free begins what is first in its queue.
    private func beginCalls(_ process: Int, _ worker: VirtualWorker) throws(Violation) {
        let running = min(worker.processes[process].threads, worker.processes[process].queue.count)
        for position in 0..<running where worker.processes[process].queue[position].begunAt == nil {
            worker.processes[process].queue[position].begunAt = now
            try read(position, process, worker)
            let call = worker.processes[process].queue[position]
            try begin(call.request.job, call.inputFiles, worker)
            let graph = try graph(of: call.request.job.attempt.task.session)
            if graph.outputs[Int(call.request.job.attempt.task.index)].contains(where: { graph.isFile($0) }) {
                // Before it can be done, so that it waits for its answer.
                queue.add(.reserve(worker: worker.index, life: worker.life, worker.processes[process].id, serial: call.serial), at: now + 1000)
            }
            queue.add(.callDone(worker: worker.index, life: worker.life, worker.processes[process].id, serial: call.serial), at: now + duration)
            if random.chance(10) {
                let at = now + random.microseconds(5...plan.taskMicrosecondsMax)
                queue.add(.progress(worker: worker.index, life: worker.life, worker.processes[process].id, serial: call.serial), at: at)
            }
        }
    }

    func handleAtWorker(_ event: Event, _ worker: VirtualWorker) throws(Violation) {
        switch event {
        case .connect: if worker.connection == nil { try connect(worker) }
        case .workerTick:
            worker.tickAt = nil
            if let tick = worker.core.nextTick?.nanoseconds, tick > now {
                worker.tickAt = tick
                queue.add(.workerTick(worker: worker.index, life: worker.life), at: tick)
            } else {
                try tell(.tick, worker)
            }
        case .register(_, _, let id): try register(id, worker)
        case .callDone(_, _, let id, let serial): try finishCall(id, serial, worker)
        case .recalled(_, _, let id, let slots):
            guard let process = worker.processIndex(id) else { return }
            var taken = SlotSet()
            for position in worker.processes[process].queue.indices {
                let call = worker.processes[process].queue[position]
                guard call.begunAt == nil, slots.contains(call.request.slot) else { continue }
                taken.insert(call.request.slot)
                // It may have looked at a call before it finds that it was taken back.
                if random.chance(50) { try read(position, process, worker) } else { try forget(call.forgetting, process, worker) }
            }
            worker.processes[process].queue.removeAll { taken.contains($0.request.slot) }
            try tell(.recalled(id, slots: taken), worker)
        case .subworkerEnd(_, _, let id, let isCrash): try endSubworker(id, isCrash: isCrash, worker)
        case .jobDone(_, _, let token): try finishJob(token, worker)
        case .fetchDone(_, _, let token): try finishFetch(token, worker)
        case .aliasDone(_, _, let token):
            guard let index = worker.aliases.firstIndex(where: { $0.token == token }) else { return }
            let alias = worker.aliases.remove(at: index)
            guard worker.store[alias.from] != nil else {
                if alias.file.map(worker.store.isSuspect) == true { return try tell(.aliased(token, TaskError(.setup, "no such file")), worker) }
                throw Violation(.brokenContract, "worker \(worker.index): \(alias.from) went before it had its second name")
            }
            let error = isRoomLimited && random.chance(3) ? Self.noRoom : nil
            if error == nil { worker.store.alias(alias.from, alias.to) }
            try tell(.aliased(token, error), worker)
            mayRepeat(.aliased(token, error), worker)
        case .writeDone(_, _, let token): try finishWrite(token, worker)
        case .reserve(_, _, let id, let serial): try reserve(id, serial, worker)
        case .progress(_, _, let id, let serial): try report(id, serial, worker)
        case .spillDone(_, _, let replica): try finishSpill(replica, worker)
        case .damage(_, _, let attempt): try damage(by: attempt, worker)
        case .again(_, _, let event):
            if case .memoryMeasured(let id, let bytes) = event { noteMemory(id, bytes, worker) }
            try tell(event, worker)
        default: preconditionFailure("no event of a worker")
        }
    }

    private func noteMemory(_ id: SubworkerID, _ bytes: UInt64, _ worker: VirtualWorker) {
        guard let process = worker.processIndex(id) else { return }
        let first = worker.processes[process].firstMemoryBytes ?? bytes
        worker.processes[process].firstMemoryBytes = first
        guard bytes > first + VirtualWorker.memoryGrowthBytesMax, !worker.processes[process].isWornOut else { return }
        count("subworkers worn out")
        worker.processes[process].isWornOut = true
    }

    private func register(_ id: SubworkerID, _ worker: VirtualWorker) throws(Violation) {
        guard let process = worker.processIndex(id) else { return }
        let capabilities = SubworkerCapabilities(
            hasControlPage: !random.chance(15), threads: UInt16(random.chance(15) ? 2 : 1), hasCaching: !random.chance(30),
            tasks: random.chance(50) ? [""] : ["f", "g", "d/f", "e/f"])
        worker.processes[process].capabilities = capabilities
        try tell(.subworkerRegistered(id, capabilities), worker)
    }

    /// A call says how far it is, and now and then once more.
    private func report(_ id: SubworkerID, _ serial: UInt64, _ worker: VirtualWorker) throws(Violation) {
        guard let process = worker.processIndex(id), let call = worker.processes[process].queue.first(where: { $0.serial == serial }) else { return }
        count("progress")
        let progress = Progress(millionths: UInt32(random.below(1_000_001)), text: "call \(serial)")
        if random.chance(60) {
            queue.add(.progress(worker: worker.index, life: worker.life, id, serial: serial), at: now + random.microseconds(5...plan.taskMicrosecondsMax))
        }
        try tell(.progress(id, [CallProgress(slot: call.request.slot, progress: progress)]), worker)
    }

    private func finishCall(_ id: SubworkerID, _ serial: UInt64, _ worker: VirtualWorker) throws(Violation) {
        guard let process = worker.processIndex(id), let position = worker.processes[process].queue.firstIndex(where: { $0.serial == serial })
        else { return }
        guard worker.processes[process].queue[position].hasItsRoom else {
            worker.processes[process].queue[position].isHeldUp = true
            return
        }
        if random.chance(plan.crashPercent) { return try endSubworker(id, isCrash: true, worker) }
        if try endsWorker(worker.processes[process].queue[position].request.job, worker) { return }
        let call = worker.processes[process].queue.remove(at: position)
        let job = call.request.job
        var (result, made): (CallAnswer.Result, [(Replica, Content)])
        if let error = try lookForDamage([job], worker) {
            (result, made) = (.failed(error), [])
        } else if call.isCancelled {
            (result, made) = (.cancelled, [])
        } else if findsNoRoom(job.attempt, worker) {
            (result, made) = (.outOfRoom(Self.noRoom), [])
        } else {
            (result, made) = try run(job, call.inputFiles, worker, remembered: call.remembered)
        }
        try beginCalls(process, worker)
        if case .outputs(let outputs) = result {
            let tiers = call.files.map { $0.grant == .disk ? VirtualStore.Tier.disk : .memory }
            let stored = store(outputs, made, tiers, mayOverflow: true, worker)
            result = stored.map { .outputs($0) } ?? .failed(Self.noRoom)
        }
        let answer = CallAnswer(slot: call.request.slot, durationNanoseconds: now - (call.begunAt ?? now), result: result)
        try tell(.callsAnswered(id, [answer]), worker)
    }

    func endSubworker(_ id: SubworkerID, isCrash: Bool, _ worker: VirtualWorker) throws(Violation) {
        guard let index = worker.processIndex(id) else { return }
        let process = worker.processes.remove(at: index)
        if isCrash { count("subworker crashes") }
        var running = SlotSet()
        var begun = SlotSet()
        let hasPage = process.capabilities?.hasControlPage ?? false
        // Results that are lost with their process, and calls that ran beside the one which made it crash.
        let isInnocent = process.queue.map { $0.begunAt != nil && isCrash && hasPage && random.chance(30) }
        for (call, isInnocent) in zip(process.queue, isInnocent) where !hasPage || call.begunAt != nil {
            if isInnocent {
                begun.insert(call.request.slot)
                count("innocent calls in crashes")
            } else {
                running.insert(call.request.slot)
                if isCrash { crashedTasks.insert(call.request.job.attempt.task) }
            }
        }
        if running.isEmpty { hasFutileCrash = true }
        _ = try lookForDamage(process.queue.map(\.request.job), worker)
        for call in process.queue where call.begunAt != nil && isMisled(call.request.job, call.inputFiles, worker) {
            mislead(call.request.job.attempt)
        }
        let evidence = TaskError(.crash, "killed by signal 11", signal: 11)
        try tell(.subworkerEnded(id, evidence: evidence, running: running, begun: begun), worker)
    }

    /// The task kills its worker: that is all that it does.
    private func endsWorker(_ job: JobRequest, _ worker: VirtualWorker) throws(Violation) -> Bool {
        let task = job.attempt.task
        guard try graph(of: task.session).killing[Int(task.index)] else { return false }
        count("workers ended by tasks")
        killCounts[task, default: 0] += 1
        // Charged once for each, or less when the server died meanwhile, or had given the worker up, or had taken the task back for an input
        // that was written to: then the attempt was another's.
        let excused = 3 * ((counts["server crashes"] ?? 0) + (counts["faults"] ?? 0)) + (counts["damaged inputs found"] ?? 0)
        if killCounts[task]! > Int(3 + excused) { throw Violation(.ranAgain, "task \(task) has ended \(killCounts[task]!) workers") }
        kill(worker, restartAt: now + random.milliseconds(20...600))
        return true
    }

    private func finishJob(_ token: JobToken, _ worker: VirtualWorker) throws(Violation) {
        guard let index = worker.jobs.firstIndex(where: { $0.token == token }) else { return }
        if !worker.jobs[index].isStopped, try endsWorker(worker.jobs[index].request, worker) { return }
        let job = worker.jobs.remove(at: index)
        let damage = try lookForDamage([job.request], worker)
        if job.isStopped, random.chance(80) { return try tell(.jobEnded(token, .cancelled), worker) }
        if let damage { return try tell(.jobEnded(token, .failed(damage)), worker) }
        let (result, made) = try run(job.request, job.inputFiles, worker, remembered: [:])
        let ending: JobResult
        switch result {
        case .outputs(let outputs):
            // A program was told where to work before it began.
            let tiers = made.map { _ in job.request.isOnDisk ? VirtualStore.Tier.disk : .memory }
            let stored = store(outputs, made, tiers, mayOverflow: false, worker)
            ending = stored.map { .finished($0, durationNanoseconds: now - job.begunAt, debug: "") } ?? .outOfRoom(Self.noRoom)
        case .failed(let error): ending = .failed(error)
        case .outOfRoom(let error): ending = .outOfRoom(error)
        case .cancelled: ending = .cancelled
        }
        try tell(.jobEnded(token, ending), worker)
        // One that begins once more has the same token.
        if case .outOfRoom = ending {} else { mayRepeat(.jobEnded(token, .cancelled), worker) }
    }

    private func finishFetch(_ token: FetchToken, _ worker: VirtualWorker) throws(Violation) {
        guard let index = worker.fetches.firstIndex(where: { $0.token == token }) else { return }
        let input = worker.fetches.remove(at: index).input
        let content = find(input, for: worker)
        guard let content else {
            count("failed fetches")
            return try tell(.fetched(token, .failed(TaskError(.setup, "no holder has it"))), worker)
        }
        count(input.isDirectory ? "directories fetched" : "fetches")
        mayRepeat(.fetched(token, .inline(content.bytes)), worker)
        // What comes from the depot may be small; what a worker holds is a file.
        if input.source == .fetch([Self.depot]), !input.isDirectory, random.chance(30) { return try tell(.fetched(token, .inline(content.bytes)), worker) }
        try tell(.fetched(token, keepFetched(input.replica, content, worker)), worker)
    }

    /// What a holder answers: it must be there, reachable, awake, and have the very generation.
    private func find(_ input: InputAssignment, for worker: VirtualWorker) -> Content? {
        guard case .fetch(let endpoints) = input.source else { return nil }
        for endpoint in endpoints {
            if endpoint == Self.depot { return ledger[input.replica] }
            guard worker.dataPartitionedUntil <= now,
                let holder = workers.first(where: { $0.endpoint == endpoint && $0.isAlive && $0.frozenUntil <= now && $0.dataPartitionedUntil <= now })
            else { continue }
            // What it gives is not what it has the sum of.
            if let file = holder.store.file(of: input.replica), !holder.store.isDamaged(file) { return holder.store[input.replica] }
        }
        return nil
    }
}
