import Link
import TaskModel

/// What the server says.
extension WorkerCore {
    mutating func handle(_ message: ServerMessage, into effects: inout ContiguousArray<WorkerEffect>) {
        switch message {
        case .session(let id, let commands): openSession(id, commands)
        case .template(let id, let template): define(id, template, into: &effects)
        case .assign(let assignment): assign(assignment, into: &effects)
        case .revoke(let id): revoke(id, into: &effects)
        case .cancel(let id): cancel(id, into: &effects)
        case .drop(let replicas):
            // One that is unknown never came or is gone already.
            for replica in replicas { if let object = objects.find(replica) { objects.drop(object) } }
        case .closeSession(let id): closeSession(id, into: &effects)
        case .provide(let values): for value in values { take(value) }
        }
    }

    private mutating func openSession(_ id: SessionID, _ commands: [SubworkerCommand]) {
        if let known = sessionByID[id] {
            sessions[known].commands = commands
            return
        }
        sessionByID[id] = sessions.insert(HeldSession(id: id, commands: commands))
    }

    private mutating func define(_ id: TemplateID, _ template: TaskTemplate, into effects: inout ContiguousArray<WorkerEffect>) {
        // A closed session's template is late, a known one is repeated.
        guard let session = sessionByID[id.session], sessions[session].closing == .no, sessions[session].templateByIndex[id.index] == nil
        else { return }
        let problem: TaskError?
        var lane: LaneHandle?
        switch runner(of: template, session: session) {
        case .failure(let error): problem = error
        case .success(let runner):
            problem = nil
            lane = enterLane(runner, cpus: template.resources.cpus)
        }
        let handle = templates.insert(
            HeldTemplate(id: id, template: template, session: session, lane: lane, problem: problem))
        sessions[session].templateByIndex[id.index] = handle
        sessions[session].templates.append(handle)
        effects.append(.defineTemplate(id, template))
    }

    /// Who runs the tasks of a template: the worker itself, the session's subworkers, then the worker's own.
    private mutating func runner(of template: TaskTemplate, session: SessionHandle) -> Result<Lane.Runner, TaskError> {
        let asked = template.resources.cpus
        guard asked <= cpus.capacity else {
            return .failure(SetupErrors.tooManyCPUs(asked: asked, capacity: cpus.capacity, host: description.hostName))
        }
        let name = template.runner
        let hasMethod = name.utf8.count < template.type.utf8.count
        if hasMethod, name == "builtin" { return .success(.jobs) }
        if hasMethod, let program = template.program {
            let id = ObjectID(session: sessions[session].id, index: program.object)
            let command = SubworkerCommand(
                name: String(name), arguments: [String(name)] + program.arguments, environment: program.environment,
                source: ProgramSource(object: id, path: program.path))
            return .success(.subworkers(pool(of: command, session: session)))
        }
        let commands = sessions[session].commands
        if hasMethod, let command = commands.first(where: { $0.name == name }) ?? ownCommands.first(where: { $0.name == name }) {
            let threads = threads(of: template, command)
            return .success(.subworkers(pool(of: threads > 1 ? command.running(threads) : command, threads: threads)))
        }
        var known = ContiguousArray(commands.map(\.name))
        for command in ownCommands where !known.contains(command.name) { known.append(command.name) }
        return .failure(SetupErrors.unknownRunner(template.type, name: name, known: known))
    }

    /// Calls that share a process. More than there are CPUs never run at once.
    private func threads(of template: TaskTemplate, _ command: SubworkerCommand) -> Int {
        guard let known = command.threadsByMethod else { return 1 }
        // A task with a configuration brings what it runs along.
        let ownThreads = template.config.isEmpty ? known[String(template.method)] ?? 0 : 0
        return Int(min(max(template.threads, ownThreads), cpus.capacity, UInt32(SubworkerMachine.depthMax)))
    }

    private mutating func assign(_ assignment: Assignment, into effects: inout ContiguousArray<WorkerEffect>) {
        let id = assignment.attempt
        guard attemptByID[id] == nil else { return }  // Repeated news.
        guard let template = template(assignment.template) else {
            refuseUnknown(assignment)
            return
        }
        let session = templates[template].session
        guard sessions[session].closing == .no, !sessions[session].takenBack.contains(id) else { return }
        if let program = templates[template].template.program {
            let object = ObjectID(session: sessions[session].id, index: program.object)
            guard assignment.inputs.last?.replica.object == object else {
                refuse(assignment, SetupErrors.noProgram(object))
                return
            }
        }
        let attempt = attempts.insert(Attempt(assignment, session: session, template: template))
        let missing = attach(assignment.inputs, to: attempt, into: &effects)
        attemptByID[id] = attempt  // Only now: an attempt that expects itself would wait for ever.
        if let problem = templates[template].problem ?? missing {
            settle(attempt, .failed(problem))
        } else if attempts[attempt].state == .waiting(missing: 0) {
            makeReady(attempt)
        }
    }

    private mutating func template(_ id: TemplateID) -> TemplateHandle? {
        if let latestTemplate, latestTemplate.id == id { return latestTemplate.handle }
        guard let session = sessionByID[id.session], let handle = sessions[session].templateByIndex[id.index] else { return nil }
        latestTemplate = (id, handle)
        return handle
    }

    /// The server always tells of a template first, so this is an error of one of us; the task must not hang for it.
    private mutating func refuseUnknown(_ assignment: Assignment) {
        if let session = sessionByID[assignment.attempt.task.session], sessions[session].closing != .no { return }
        refuse(assignment, SetupErrors.unknownTemplate(assignment.template))
    }

    private mutating func refuse(_ assignment: Assignment, _ reason: TaskError) {
        var error = reason
        error.host = description.hostName
        tell(.failed(assignment.attempt, error))
    }

    private mutating func revoke(_ id: AttemptID, into effects: inout ContiguousArray<WorkerEffect>) {
        guard let attempt = attemptByID[id] else {
            // Reported already, taken back before, or of a session that left nothing here.
            let wasTakenBack = sessionByID[id.task.session].map { sessions[$0].takenBack.contains(id) } ?? true
            tell(.revoked(id, wasTakenBack: wasTakenBack))
            return
        }
        guard sessions[attempts[attempt].session].closing == .no else { return }
        switch attempts[attempt].state {
        case .waiting, .ready, .awaitingRoom:
            if attempts[attempt].hasBegun { tell(.revoked(id, wasTakenBack: false)) } else { settle(attempt, .takenBack) }
        case .running, .finishing:
            tell(.revoked(id, wasTakenBack: false))
        case .calling(let subworker, let slot):
            if subworkers[subworker].canRecall, subworkers[subworker].state == .open {
                attempts[attempt].isRevoking = true
                recall(SlotSet(slot), from: subworker, into: &effects)
            } else {
                tell(.revoked(id, wasTakenBack: false))
            }
        }
    }

    private mutating func cancel(_ id: AttemptID, into effects: inout ContiguousArray<WorkerEffect>) {
        guard let attempt = attemptByID[id], attempts[attempt].stop == .no else { return }  // Its outcome is on its way.
        stop(attempt, .cancelled, into: &effects)
    }

    /// Ends an attempt before its time; its outcome may come at once, or when its process has ended.
    mutating func stop(_ attempt: AttemptHandle, _ reason: Attempt.Stop, into effects: inout ContiguousArray<WorkerEffect>) {
        switch attempts[attempt].state {
        case .waiting, .ready, .awaitingRoom:
            settle(attempt, reason == .cancelled ? .cancelled : .vanished)
        case .running:
            let wasStopped = attempts[attempt].stop != .no
            attempts[attempt].stop = reason
            if !wasStopped { effects.append(.stopJob(JobToken(attempt.packed))) }
        case .calling(let subworker, let slot):
            attempts[attempt].stop = reason
            if subworkers[subworker].canRecall {
                recall(SlotSet(slot), from: subworker, into: &effects)
            } else if reason == .cancelled {
                cancel(slot, of: subworker, into: &effects)
            } else {
                stopSubworker(subworker, isKilled: true, into: &effects)
            }
        case .finishing:
            attempts[attempt].stop = reason  // The store answers soon, whatever is wanted.
        }
    }
}

extension SubworkerCommand {
    fileprivate func running(_ threads: Int) -> SubworkerCommand {
        var command = self
        command.arguments += ["--threads", "\(threads)"]
        return command
    }
}

extension SlotSet {
    init(_ slot: UInt8) {
        self.init()
        insert(slot)
    }
}
