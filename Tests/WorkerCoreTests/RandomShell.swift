import Link
import TaskModel
import WorkerCore

/// Something that must not happen, with the words to say so.
struct Violation: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// A shell without processes and files: it carries out effects in random order, fails at random, and checks what it is asked for.
struct RandomShell {
    struct Process {
        let id: SubworkerID
        /// Whose program it runs.
        let session: SessionID?
        var capabilities: SubworkerCapabilities?
        /// Calls that it has and has not answered, in order; the first `threads` of them run.
        var queue: [CallRequest] = []
        var cached: Set<Replica> = []
        /// What the core has not heard yet, in order.
        var news: [WorkerEvent] = []
        /// Files for which room was asked and not answered.
        var asked: Set<UInt32> = []
        /// Calls that were asked to stop.
        var cancelled = SlotSet()
        var isStopped = false
        var hasEnded = false
        var threads: Int { Int(max(capabilities?.threads ?? 1, 1)) }
    }
    enum Work {
        case job(JobToken, JobRequest)
        case fetch(FetchToken, Replica)
        case alias(AliasToken, from: Replica, to: Replica)
        case write(WriteToken, [Replica])
        case spill(Replica)
        case emptyTrash
    }

    private(set) var core: WorkerCore
    let cpus: UInt32
    var now = Instant(nanoseconds: 1_000_000_000)
    var random: SplitMix
    /// Nothing fails any more: what was asked for must come to an end.
    var isCalm = false
    private(set) var processes: [Process] = []
    private(set) var works: [Work] = []
    private(set) var files: Set<Replica> = []
    /// Files to which a task wrote.
    private var damaged: Set<Replica> = []
    private var templates: [TemplateID: TaskTemplate] = [:]
    /// Frames for the server, on the present connection.
    var toServer: [WorkerToServerFrame] = []
    var wantsReconnect = false
    /// How often something happened, so that a test which covers nothing is noticed.
    private(set) var counts: [String: Int] = [:]

    init(seed: UInt64) {
        random = SplitMix(seed: seed)
        cpus = UInt32(1 + random.below(4))
        var description = Harness.worker
        description.cpus = cpus
        core = WorkerCore(
            description: description, incarnation: Harness.incarnation,
            subworkers: ["a", "b"].map { name in
                var command = SubworkerCommand(name: name, arguments: [name])
                if name == "b" { command.threadsByMethod = ["x": 2] }
                return command
            })
        if random.chance(50) { core.storeMemoryBytes = UInt64(random.below(100_000)) }
        // What two outputs have besides their bytes.
        if seed % 3 == 0 { core.resultBytesMax = 112 + 2 * 64 }
        core.memoryGrowthBytesMax = 1000
    }

    var isBusy: Bool {
        !works.isEmpty || processes.contains { !$0.queue.isEmpty || !$0.news.isEmpty || ($0.capabilities == nil && !$0.hasEnded) || $0.isStopped }
    }

    mutating func handle(_ event: WorkerEvent) throws {
        var effects: ContiguousArray<WorkerEffect> = []
        core.handle(event, now: now, into: &effects)
        try core.checkInvariants()
        for effect in effects { try perform(effect) }
        try checkLoad()
    }

    // MARK: Effects

    private mutating func perform(_ effect: WorkerEffect) throws {
        switch effect {
        case .send(let frame): toServer.append(frame)
        case .reconnect: wantsReconnect = true
        case .welcomed, .note: break
        case .refused: throw Violation("refused")
        case .defineTemplate(let id, let template): templates[id] = template
        case .forgetSession(let id): try forget(id)
        case .startSubworker(let id, let command, let program):
            if let source = command.source {
                count("programs started")
                guard let program = program?.object, program.replica.object == source.object else { throw Violation("a program is started that did not come") }
                if program.value == .stored, !files.contains(program.replica) { throw Violation("\(program.replica) is started and is not here") }
            }
            processes.append(Process(id: id, session: command.source?.object.session))
        case .call(let id, let calls): try call(id, calls)
        case .recall(let id, let slots): try recall(id, slots)
        case .cancelCall(let id, let slot):
            guard let index = index(of: id), !processes[index].hasEnded else { break }
            if processes[index].queue.contains(where: { $0.slot == slot }) { processes[index].cancelled.insert(slot) }
            count("calls asked to stop")
        case .dropCached(let id, let replicas):
            guard let index = index(of: id) else { break }  // It has ended, and the core has not heard yet.
            // Of what was written to, whoever may have been sent it is told.
            for replica in replicas where processes[index].cached.remove(replica) == nil && damaged.isEmpty {
                throw Violation("\(replica) is dropped where it is not cached")
            }
        case .measureMemory(let id):
            guard let index = index(of: id), !processes[index].hasEnded else { break }
            count("measured")
            processes[index].news.append(.memoryMeasured(id, bytes: UInt64(random.below(3000))))
        case .stopSubworker(let id, let isKilled): stop(id, isKilled: isKilled)
        case .runJob(let token, let request):
            try check(request, on: nil)
            works.append(.job(token, request))
        case .stopJob(let token):
            let isKnown = works.contains {
                if case .job(token, _) = $0 { true } else { false }
            }
            if !isKnown { throw Violation("a job is stopped that does not run") }
        case .fetch(let token, let input):
            for case .fetch(_, input.replica) in works { throw Violation("\(input.replica) is fetched twice at a time") }
            if files.contains(input.replica) { throw Violation("\(input.replica) is fetched though it is here") }
            works.append(.fetch(token, input.replica))
        case .alias(let token, let from, let to):
            if !files.contains(from) { throw Violation("\(from) is not here to be given a second name") }
            works.append(.alias(token, from: from, to: to))
        case .write(let token, let written):
            works.append(.write(token, written.map(\.replica)))
        case .grant(let id, let file, _, _, _): try granted(id, file)
        case .spill(let replica):
            if !files.contains(replica) { throw Violation("\(replica) is spilled and is not here") }
            count("spilled files", 1)
            works.append(.spill(replica))
        case .emptyTrash: works.append(.emptyTrash)
        case .remove(let replicas):
            for replica in replicas where files.remove(replica) == nil { throw Violation("\(replica) is removed and was not here") }
        }
    }

    private func index(of id: SubworkerID) -> Int? { processes.firstIndex { $0.id == id } }

    private mutating func forget(_ id: SessionID) throws {
        for case .job(_, let request) in works where request.attempt.task.session == id { throw Violation("a job outlives \(id)") }
        for process in processes where !process.hasEnded && process.queue.contains(where: { $0.job.attempt.task.session == id }) {
            throw Violation("a call outlives \(id)")
        }
        for process in processes where process.session == id { throw Violation("subworker \(process.id.rawValue) outlives \(id), which brought it") }
        templates = templates.filter { $0.key.session != id }
    }

    private mutating func call(_ id: SubworkerID, _ calls: ContiguousArray<CallRequest>) throws {
        guard let index = index(of: id) else { throw Violation("a call for a subworker that is gone") }
        if processes[index].capabilities == nil { throw Violation("a call before the subworker has registered") }
        count("calls in a message", calls.count)
        for call in calls {
            if call.slot >= 64 || processes[index].queue.contains(where: { $0.slot == call.slot }) {
                throw Violation("slot \(call.slot) is taken")
            }
            if processes[index].hasEnded { continue }  // It goes nowhere; the core will hear that.
            try check(call.job, on: index)
            processes[index].queue.append(call)
        }
    }

    /// Inputs must be where they are said to be.
    private mutating func check(_ job: JobRequest, on process: Int?) throws {
        guard templates[job.template] != nil else { throw Violation("\(job.attempt) is run before its template") }
        for input in job.inputs {
            switch input.value {
            case .inline: break
            case .stored: if !files.contains(input.replica) { throw Violation("\(job.attempt) is run without \(input.replica)") }
            case .cached:
                count("cached inputs")
                guard let process, processes[process].cached.contains(input.replica) else { throw Violation("\(input.replica) is not cached") }
            }
        }
    }

    private mutating func recall(_ id: SubworkerID, _ slots: SlotSet) throws {
        guard let index = index(of: id), !processes[index].hasEnded else { return }
        var taken = SlotSet()
        let threads = processes[index].threads
        for (position, call) in processes[index].queue.enumerated() where position >= threads && slots.contains(call.slot) { taken.insert(call.slot) }
        // One that has not woken up yet runs nothing.
        if threads == 1, let first = processes[index].queue.first, slots.contains(first.slot), random.chance(20) { taken.insert(first.slot) }
        processes[index].queue.removeAll { taken.contains($0.slot) }
        processes[index].news.append(.recalled(id, slots: taken))
        count("recalled", taken.bits.nonzeroBitCount)
    }

    private mutating func stop(_ id: SubworkerID, isKilled: Bool) {
        guard let index = index(of: id), !processes[index].hasEnded else { return }
        processes[index].isStopped = true
        if isKilled { end(index, TaskError(.crash, "killed by signal 9", signal: 9)) }
    }

    private mutating func end(_ index: Int, _ evidence: TaskError) {
        var running = SlotSet()
        var begun = SlotSet()
        let hasPage = processes[index].capabilities?.hasControlPage ?? false
        for call in processes[index].queue.prefix(hasPage ? processes[index].threads : 64) {
            // One whose result is lost, or that ran beside the one which crashed.
            if hasPage, random.chance(20) { begun.insert(call.slot) } else { running.insert(call.slot) }
        }
        // What was said and not read yet may be lost with the connection.
        if random.chance(50) {
            let newsCount = processes[index].news.count
            processes[index].news.removeAll {
                if case .callsAnswered = $0 { true } else { false }
            }
            count("lost answers", newsCount - processes[index].news.count)
        }
        processes[index].news.append(.subworkerEnded(processes[index].id, evidence: evidence, running: running, begun: begun))
        processes[index].hasEnded = true
        processes[index].isStopped = false
        processes[index].queue = []
    }

    // MARK: What happens

    /// One thing that was asked for happens, or a process does something, or the core hears of it.
    mutating func step() throws {
        now = Instant(nanoseconds: now.nanoseconds + UInt64(random.below(200_000)))
        let choice = random.below(works.count + processes.count + 1)
        if choice < works.count {
            try finish(works.remove(at: choice))
        } else if choice < works.count + processes.count {
            try advance(choice - works.count)
        } else if let tick = core.nextTick, tick <= now || random.chance(10) {
            now = max(now, min(tick, now.advanced(byMilliseconds: 60)))
            if now >= tick { try handle(.tick) }
        }
    }

    private mutating func advance(_ index: Int) throws {
        if !processes[index].news.isEmpty, random.chance(60) { return try hear(index) }
        if processes[index].hasEnded { return }
        if processes[index].isStopped { return end(index, TaskError(.crash, "ended")) }
        if processes[index].capabilities == nil {
            if !isCalm, random.chance(8) { return end(index, TaskError(.setup, "program not found")) }
            let capabilities = SubworkerCapabilities(
                hasControlPage: !random.chance(15), threads: UInt16(random.chance(15) ? 2 : 1), hasCaching: !random.chance(30),
                tasks: random.chance(50) ? [""] : ["x", "y"])
            processes[index].capabilities = capabilities
            processes[index].news.append(.subworkerRegistered(processes[index].id, capabilities))
            return
        }
        if !isCalm, random.chance(2) {
            count("crashes")
            return end(index, Harness.crash)
        }
        if !processes[index].queue.isEmpty, random.chance(20) { return try reserve(index) }
        if !processes[index].queue.isEmpty, random.chance(4) { return try report(index) }
        answer(index)
    }

    /// A running call wants room for a file; one in a while asks for nonsense.
    private mutating func reserve(_ index: Int) throws {
        guard processes[index].news.isEmpty else { return }  // What it said before is heard before.
        let call = processes[index].queue[random.below(min(processes[index].threads, processes[index].queue.count))]
        let file = UInt32(random.below(50))
        if processes[index].asked.contains(file) { return }
        let size: UInt64 = random.chance(20) ? 0 : random.chance(10) ? .max : UInt64(random.below(60_000))
        if size > 0 { processes[index].asked.insert(file) }
        count("reservations")
        let slot = !isCalm && random.chance(5) ? UInt8(random.below(70)) : call.slot
        try handle(.reserve(processes[index].id, slot: slot, file: file, sizeBytes: size))
    }

    /// A running call says how far it is; now and then something else than a running call does.
    private mutating func report(_ index: Int) throws {
        guard processes[index].news.isEmpty else { return }  // What it said before is heard before.
        let call = processes[index].queue[random.below(min(processes[index].threads, processes[index].queue.count))]
        let slot = random.chance(5) ? UInt8(random.below(70)) : call.slot
        count("progress")
        let progress = Progress(millionths: UInt32(random.below(5)), text: random.chance(20) ? "text" : "")
        try handle(.progress(processes[index].id, [CallProgress(slot: slot, progress: progress)]))
    }

    private mutating func granted(_ id: SubworkerID, _ file: UInt32) throws {
        guard let index = index(of: id) else { return }
        guard processes[index].asked.remove(file) != nil else { throw Violation("room is granted that nobody asked for") }
    }

    private mutating func hear(_ index: Int) throws {
        let event = processes[index].news.removeFirst()
        if case .callsAnswered(_, let answers) = event {
            for answer in answers { if case .outputs(let outputs) = answer.result { accept(outputs, event: event, slot: answer.slot) } }
        }
        if case .subworkerEnded = event { processes.remove(at: index) }
        try handle(event)
    }

    /// Outputs that wait to be heard of, by subworker and slot.
    private var unheard: [String: [Replica]] = [:]

    private mutating func accept(_ outputs: [LocalOutput], event: WorkerEvent, slot: UInt8) {
        guard case .callsAnswered(let id, _) = event else { return }
        for file in unheard.removeValue(forKey: "\(id.rawValue)/\(slot)") ?? [] { files.insert(file) }
    }

    private mutating func answer(_ index: Int) {
        guard !processes[index].queue.isEmpty else { return }
        var answers: ContiguousArray<CallAnswer> = []
        let answerCount = 1 + random.below(min(processes[index].queue.count, 20))
        for _ in 0..<answerCount {
            let call = processes[index].queue.remove(at: random.below(min(processes[index].threads, processes[index].queue.count)))
            if processes[index].capabilities?.hasCaching == true {
                for input in call.job.inputs where input.isKept { processes[index].cached.insert(input.replica) }
            }
            let nanoseconds = UInt64(random.chance(10) ? 5_000_000 : random.below(20_000))
            let isCancelled = processes[index].cancelled.contains(call.slot) && random.chance(70)
            processes[index].cancelled.remove(call.slot)
            var (result, made) = isCancelled ? (.cancelled, []) : run(call.job)
            if let replica = damage(call.job) {
                processes[index].news.append(.damaged([replica]))
                (result, made) = (.failed(TaskError(.contract, "wrote")), [])
            }
            unheard["\(processes[index].id.rawValue)/\(call.slot)"] = made
            answers.append(CallAnswer(slot: call.slot, durationNanoseconds: nanoseconds, result: result))
        }
        processes[index].news.append(.callsAnswered(processes[index].id, answers))
    }

    /// One in a while writes to what it is to read.
    private mutating func damage(_ job: JobRequest) -> Replica? {
        guard !isCalm, random.chance(5), let input = job.inputs.first(where: { $0.value == .stored }), files.contains(input.replica) else { return nil }
        damaged.insert(input.replica)
        count("damaged files")
        return input.replica
    }

    private mutating func run(_ job: JobRequest) -> (CallAnswer.Result, files: [Replica]) {
        if !isCalm, random.chance(4) { return (.failed(TaskError(.user, "no")), []) }
        if !isCalm, random.chance(3) {
            count("out of room")
            return (.outOfRoom(TaskError(.resource, "full")), [])
        }
        var outputs: [LocalOutput] = []
        var made: [Replica] = []
        let declaredCount = templates[job.template]?.outputs.count ?? 0
        var outputCount = declaredCount
        if !isCalm, random.chance(2) { outputCount += 1 }
        for position in 0..<outputCount {
            switch random.below(3) {
            case 0: outputs.append(LocalOutput(value: .inline([UInt8(position)])))
            case 1 where !job.inputs.isEmpty || (!isCalm && random.chance(10)):
                outputs.append(
                    LocalOutput(
                        value: .sameAsInput(UInt16(random.below(job.inputs.count + (!isCalm && random.chance(5) ? 1 : 0) + (job.inputs.isEmpty ? 1 : 0))))))
            default:
                outputs.append(LocalOutput(value: .stored(sizeBytes: 9000, isOnDisk: random.chance(20))))
                if position == declaredCount { continue }  // It has no name of its own.
                made.append(
                    Replica(
                        object: ObjectID(session: job.attempt.task.session, index: job.firstOutput + UInt32(position)),
                        generation: job.attempt.generation))
            }
        }
        return (.outputs(outputs), made)
    }

    private mutating func finish(_ work: Work) throws {
        switch work {
        case .job(let token, let request):
            if !isCalm, random.chance(3) { return try handle(.jobEnded(token, .failed(Harness.crash))) }
            if !isCalm, random.chance(3) { return try handle(.jobEnded(token, .cancelled)) }
            if let replica = damage(request) {
                try handle(.damaged([replica]))
                return try handle(.jobEnded(token, random.chance(20) ? .outOfRoom(TaskError(.resource, "full")) : .failed(TaskError(.contract, "wrote"))))
            }
            if !isCalm, random.chance(5) { return try handle(.jobEnded(token, .outOfRoom(TaskError(.resource, "full")))) }
            let (result, made) = run(request)
            for file in made { files.insert(file) }
            switch result {
            case .outputs(let outputs): try handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1000, debug: "")))
            case .failed(let error): try handle(.jobEnded(token, .failed(error)))
            case .outOfRoom(let error): try handle(.jobEnded(token, .outOfRoom(error)))
            case .cancelled: try handle(.jobEnded(token, .cancelled))
            }
        case .fetch(let token, let replica):
            if !isCalm, random.chance(10) { return try handle(.fetched(token, .failed(TaskError(.setup, "gone")))) }
            if random.chance(30) { return try handle(.fetched(token, .inline([1]))) }
            files.insert(replica)
            try handle(.fetched(token, .stored(sizeBytes: 6000, isOnDisk: random.chance(20))))
        case .alias(let token, let from, let to):
            if !isCalm, random.chance(10) { return try handle(.aliased(token, TaskError(.resource, "disk full"))) }
            if damaged.contains(from) && !files.contains(from) { return try handle(.aliased(token, TaskError(.setup, "not there"))) }
            if !files.contains(from) { throw Violation("\(from) went before it had its second name") }
            files.insert(to)
            try handle(.aliased(token, nil))
        case .write(let token, let replicas):
            if !isCalm, random.chance(10) { return try handle(.written(token, .failed(TaskError(.resource, "disk full")))) }
            for replica in replicas { files.insert(replica) }
            count("small outputs that became files", replicas.count)
            try handle(.written(token, .stored(isOnDisk: replicas.map { _ in random.chance(20) })))
        case .emptyTrash: try handle(.trashEmptied)
        case .spill(let replica):
            if !isCalm, random.chance(5), files.contains(replica) {
                damaged.insert(replica)
                count("files found written to")
                try handle(.foundDamaged([replica]))
                return try handle(.spilled(replica, isDone: false))
            }
            try handle(.spilled(replica, isDone: isCalm || !random.chance(20)))
        }
    }

    // MARK: Checks

    /// What runs never needs more CPUs than there are.
    private mutating func checkLoad() throws {
        var load = 0
        var weightless = 0
        func add(_ job: JobRequest) {
            let weight = templates[job.template].map { Int($0.resources.cpus) } ?? 0
            load += weight
            if weight == 0 { weightless += 1 }
        }
        for case .job(_, let request) in works { add(request) }
        for process in processes { for call in process.queue.prefix(process.threads) { add(call.job) } }
        if load > Int(cpus) { throw Violation("\(load) CPUs are in use of \(cpus)") }
        if weightless > 64 { throw Violation("\(weightless) tasks without CPUs run") }
        if load == Int(cpus) { count("full") }
    }

    mutating func count(_ what: String, _ number: Int = 1) { counts[what, default: 0] += number }
}
