import Link
import TaskModel
import Testing
import WorkerCore

/// What stands around a WorkerCore in a test: a store without bytes, subworkers without processes. It answers each effect with
/// the event that the contract asks for, when the test says so, and checks that a task finds its inputs.
struct FakeShell {
    private(set) var core: WorkerCore
    let index: Int
    private var effects: ContiguousArray<WorkerEffect> = []
    private(set) var store: [Replica: UInt64] = [:]
    private var templates: [TemplateID: TaskTemplate] = [:]
    private var subworkers: [SubworkerID: FakeSubworker] = [:]
    private var pending: [Pending] = []
    var outbox: [WorkerToServerFrame] = []
    private(set) var runs: [AttemptID] = []

    private struct FakeSubworker {
        var queue: [CallRequest] = []
        var cached: [Replica: UInt64] = [:]
        var isRegistered = false
    }

    private enum Pending {
        case register(SubworkerID)
        case answer(SubworkerID)
        case recalled(SubworkerID, SlotSet)
        case subworkerEnded(SubworkerID)
        case job(JobToken, JobRequest, isStopped: Bool)
        case fetch(FetchToken, InputAssignment)
        case alias(AliasToken, from: Replica, to: Replica)
        case spill(Replica)
    }

    /// - Parameters:
    ///   - life: how many of this index came before.
    ///   - hasPlace: whether its parent tells the server that it replaces them.
    init(index: Int, cpus: UInt32, life: Int = 0, hasPlace: Bool = false) {
        self.index = index
        let description = WorkerDescription(
            hostName: "n\(index)", processID: 1, cpus: cpus, dataEndpoint: Endpoint(host: "10.0.0.\(index)", port: 1), store: "fake")
        core = WorkerCore(
            description: description, incarnation: UInt64(index + 1 + 100 * life), place: hasPlace ? UInt64(index + 1) : 0,
            subworkers: [SubworkerCommand(name: "c", arguments: ["c"]), SubworkerCommand(name: "d", arguments: ["d"])])
    }

    var pendingCount: Int { pending.count }

    mutating func handle(_ event: WorkerEvent, now: Instant) throws {
        effects.removeAll()
        core.handle(event, now: now, into: &effects)
        try core.checkInvariants()
        for effect in effects { perform(effect) }
    }

    private mutating func perform(_ effect: WorkerEffect) {
        switch effect {
        case .send(let frame): outbox.append(frame)
        case .defineTemplate(let id, let template): templates[id] = template
        case .startSubworker(let id, _):
            subworkers[id] = FakeSubworker()
            pending.append(.register(id))
        case .call(let id, let calls):
            subworkers[id]?.queue += calls
            for _ in calls { pending.append(.answer(id)) }
        case .recall(let id, let slots): pending.append(.recalled(id, slots))
        case .dropCached(let id, let replicas):
            for replica in replicas { #expect(subworkers[id]?.cached.removeValue(forKey: replica) != nil, "dropped what was not cached") }
        case .stopSubworker(let id, _): pending.append(.subworkerEnded(id))
        case .runJob(let token, let request): pending.append(.job(token, request, isStopped: false))
        case .stopJob(let token):
            for index in pending.indices {
                if case .job(let other, let request, _) = pending[index], other == token { pending[index] = .job(token, request, isStopped: true) }
            }
        case .fetch(let token, let input): pending.append(.fetch(token, input))
        case .alias(let token, let from, let to): pending.append(.alias(token, from: from, to: to))
        case .cancelCall: break  // It goes on, and is killed.
        case .grant: break  // Nothing that runs here asks for room.
        case .spill(let replica): pending.append(.spill(replica))
        case .remove(let replicas): for replica in replicas { store[replica] = nil }
        case .forgetSession(let id):
            templates = templates.filter { $0.key.session != id }
            store = store.filter { $0.key.object.session != id }
        case .reconnect, .welcomed, .refused, .note: break
        }
    }

    /// One pending thing happens. `values` gives what the graph says of each object; `peers` finds a replica elsewhere.
    mutating func advance(
        _ graph: RandomGraph, random: inout SeededGenerator, now: Instant, crashPercent: Int, peers: (Replica, [Endpoint]) -> UInt64?
    ) throws {
        guard !pending.isEmpty else { return }
        switch pending.remove(at: random.below(pending.count)) {
        case .register(let id):
            guard subworkers[id] != nil else { return }
            subworkers[id]!.isRegistered = true
            try handle(.subworkerRegistered(id, SubworkerCapabilities(hasControlPage: true, hasCaching: true, tasks: [""])), now: now)
        case .answer(let id):
            guard let call = subworkers[id]?.queue.first else { return }
            if random.chance(crashPercent) { return try crash(id, running: call.slot, now: now) }
            subworkers[id]!.queue.removeFirst()
            let result = run(call.job, graph, cache: id)
            let answer = CallAnswer(slot: call.slot, durationNanoseconds: UInt64(random.below(40_000)), result: result)
            try handle(.callsAnswered(id, [answer]), now: now)
        case .recalled(let id, let slots):
            guard let queue = subworkers[id]?.queue else { return }
            var taken = SlotSet()
            for call in queue.dropFirst() where slots.contains(call.slot) { taken.insert(call.slot) }
            subworkers[id]!.queue.removeAll { taken.contains($0.slot) }
            try handle(.recalled(id, slots: taken), now: now)
        case .subworkerEnded(let id):
            guard let subworker = subworkers.removeValue(forKey: id) else { return }
            var running = SlotSet()
            if let first = subworker.queue.first { running.insert(first.slot) }
            try handle(.subworkerEnded(id, evidence: TaskError(.crash, "ended", signal: 9), running: running), now: now)
        case .job(let token, let request, let isStopped):
            if isStopped { return try handle(.jobEnded(token, .cancelled), now: now) }
            switch run(request, graph, cache: nil) {
            case .outputs(let outputs): try handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1000, debug: "")), now: now)
            case .failed(let error): try handle(.jobEnded(token, .failed(error)), now: now)
            case .cancelled: try handle(.jobEnded(token, .cancelled), now: now)
            }
        case .fetch(let token, let input):
            guard case .fetch(let endpoints) = input.source, let value = peers(input.replica, endpoints) else {
                return try handle(.fetched(token, .failed(TaskError(.setup, "no holder has it"))), now: now)
            }
            store[input.replica] = value
            try handle(.fetched(token, .stored(sizeBytes: 10_000)), now: now)
        case .alias(let token, let from, let to):
            store[to] = store[from]
            try handle(.aliased(token, nil), now: now)
        case .spill(let replica): try handle(.spilled(replica, isDone: true), now: now)
        }
    }

    private mutating func crash(_ id: SubworkerID, running slot: UInt8, now: Instant) throws {
        subworkers[id] = nil
        var running = SlotSet()
        running.insert(slot)
        try handle(.subworkerEnded(id, evidence: TaskError(.crash, "killed by signal 11", signal: 11), running: running), now: now)
    }

    private mutating func run(_ job: JobRequest, _ graph: RandomGraph, cache id: SubworkerID?) -> CallAnswer.Result {
        runs.append(job.attempt)
        let task = job.attempt.task.index
        #expect(job.inputs.map(\.replica.object.index) == graph.inputs[Int(task)], "inputs of task \(task)")
        var values: [UInt64] = []
        for input in job.inputs {
            let value: UInt64?
            switch input.value {
            case .inline(let bytes): value = bytes.enumerated().reduce(0) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
            case .stored: value = store[input.replica]
            case .cached: value = id.flatMap { subworkers[$0]?.cached[input.replica] }
            }
            #expect(value == graph.values[Int(input.replica.object.index)], "task \(task): input \(input.replica) is \(input.value)")
            values.append(value ?? 0)
            if input.isKept, let id { subworkers[id]?.cached[input.replica] = value }
        }
        if graph.failing.contains(task) { return .failed(TaskError(.user, "task \(task) says no")) }
        var outputs: [LocalOutput] = []
        for (position, object) in graph.outputs[Int(task)].enumerated() {
            let value = RandomGraph.value(task: task, position: position, inputs: values)
            if graph.isLarge.contains(object) {
                let id = ObjectID(session: job.attempt.task.session, index: object)
                store[Replica(object: id, generation: job.attempt.generation)] = value
                outputs.append(LocalOutput(value: .stored(sizeBytes: 10_000)))
            } else {
                outputs.append(LocalOutput(value: .inline(RandomGraph.bytes(value))))
            }
        }
        return .outputs(outputs)
    }
}
