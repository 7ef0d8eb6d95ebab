import Link
import TaskModel
import WorkerCore

/// One worker core with a server that is only a counter of batches: events go in by hand, everything that comes out is looked at.
struct Harness {
    /// What one event brought.
    struct Round: Equatable {
        var effects: [WorkerEffect] = []
        var messages: [WorkerMessage] = []
        /// Frames that are no batch of messages.
        var frames: [WorkerToServerFrame] = []
    }

    private(set) var core: WorkerCore
    private(set) var now = Instant(nanoseconds: 1_000_000_000)
    private(set) var epoch = ServerEpoch(1)
    private var sequence: UInt64 = 0
    private var received: UInt64 = 0
    private var acknowledged: UInt64 = 0
    private(set) var firstFetch: UInt64 = 0
    /// Off where a test makes so much that looking at all of it after every event takes minutes.
    var checksInvariants = true
    static let incarnation: UInt64 = 7
    static let worker = WorkerDescription(
        hostName: "n1", processID: 1, cpus: 2, dataEndpoint: Endpoint(host: "10.0.0.1", port: 9), store: "test")
    static let count = SubworkerCommand(name: "count", arguments: ["./count"])

    init(cpus: UInt32 = 2, subworkers: [SubworkerCommand] = [Harness.count]) throws {
        var description = Self.worker
        description.cpus = cpus
        core = WorkerCore(description: description, incarnation: Self.incarnation, subworkers: subworkers)
        try handle(.connected)
        try greet()
    }

    @discardableResult
    mutating func handle(_ event: WorkerEvent) throws -> Round {
        var effects: ContiguousArray<WorkerEffect> = []
        core.handle(event, now: now, into: &effects)
        if checksInvariants { try core.checkInvariants() }
        var round = Round()
        for effect in effects {
            switch effect {
            case .send(.batch(let batch)) where batch.sequence > 0:
                round.messages += batch.payload
                received = batch.sequence
            case .send(.batch): break
            case .send(let frame): round.frames.append(frame)
            case .fetch(let token, _):
                if firstFetch == 0 { firstFetch = token.rawValue }
                round.effects.append(effect)
            default: round.effects.append(effect)
            }
        }
        if received >= acknowledged + 32 { acknowledge() }
        return round
    }

    /// A server acknowledges in time for the credit never to run out.
    private mutating func acknowledge() {
        acknowledged = received
        var effects: ContiguousArray<WorkerEffect> = []
        let batch = Batch<ServerMessage>(epoch: epoch, incarnation: Self.incarnation, sequence: 0, acknowledged: received)
        core.handle(.frame(.batch(batch)), now: now, into: &effects)
    }

    @discardableResult
    mutating func send(_ messages: ServerMessage...) throws -> Round { try send(messages) }

    @discardableResult
    mutating func send(_ messages: [ServerMessage]) throws -> Round {
        sequence += 1
        return try handle(
            .frame(
                .batch(
                    Batch(
                        epoch: epoch, incarnation: Self.incarnation, sequence: sequence, acknowledged: 0, payload: ContiguousArray(messages)))))
    }

    @discardableResult
    mutating func greet() throws -> Round {
        sequence = 0
        received = 0
        acknowledged = 0
        return try handle(.frame(.welcome(welcome)))
    }

    var welcome: Welcome { Welcome(epoch: epoch, worker: WorkerID(epoch.rawValue), lastReceived: 0, dataSecret: [1]) }

    /// Another server, or one that has lost its journal.
    @discardableResult
    mutating func meetNewServer() throws -> Round {
        epoch = ServerEpoch(epoch.rawValue + 1)
        try handle(.connected)
        return try greet()
    }

    /// The same server's journal in a new process: it knows the worker by the number of before, unless it does not.
    @discardableResult
    mutating func greetRestarted(isRestored: Bool) throws -> Round {
        epoch = ServerEpoch(epoch.rawValue + 1)
        (sequence, received, acknowledged) = (0, 0, 0)
        return try handle(
            .frame(.welcome(Welcome(epoch: epoch, worker: WorkerID(1), lastReceived: 0, dataSecret: [1], isRestored: isRestored))))
    }

    mutating func setStoreMemoryBytes(_ bytes: UInt64?) { core.storeMemoryBytes = bytes }
    mutating func setRunsProgramsInMemory(_ runs: Bool) { core.runsProgramsInMemory = runs }
    mutating func setReservationCountMax(_ count: Int) { core.reservationCountMax = count }
    mutating func setResultBytesMax(_ bytes: Int) { core.resultBytesMax = bytes }
    var nextTick: Instant? { core.nextTick }
    mutating func setGatherNanoseconds(_ nanoseconds: UInt64) { core.gatherNanoseconds = nanoseconds }
    mutating func setUnixMicrosecondsAtZero(_ microseconds: UInt64) { core.unixMicrosecondsAtZero = microseconds }

    mutating func wait(microseconds: UInt64) { now = Instant(nanoseconds: now.nanoseconds + microseconds * 1000) }

    @discardableResult
    mutating func tick(afterMilliseconds milliseconds: UInt64) throws -> Round {
        wait(microseconds: milliseconds * 1000)
        return try handle(.tick)
    }

    /// A subworker that the core has just started says hello.
    @discardableResult
    mutating func register(
        _ id: UInt32, tasks: [String] = [""], page: Bool = true, caching: Bool = true, threads: UInt16 = 1
    ) throws -> Round {
        try handle(
            .subworkerRegistered(
                SubworkerID(id), SubworkerCapabilities(hasControlPage: page, threads: threads, hasCaching: caching, tasks: tasks)))
    }

    @discardableResult
    mutating func answer(
        _ id: UInt32, _ slots: [UInt8], nanoseconds: UInt64 = 1000, _ result: CallAnswer.Result = .outputs([])
    ) throws -> Round {
        now = Instant(nanoseconds: now.nanoseconds + nanoseconds)
        return try handle(
            .callsAnswered(
                SubworkerID(id), ContiguousArray(slots.map { CallAnswer(slot: $0, durationNanoseconds: nanoseconds, result: result) })))
    }

    @discardableResult
    mutating func end(
        _ id: UInt32, running: SlotSet = SlotSet(), begun: SlotSet = SlotSet(), _ evidence: TaskError = Harness.crash
    ) throws -> Round {
        try handle(.subworkerEnded(SubworkerID(id), evidence: evidence, running: running, begun: begun))
    }

    static let crash = TaskError(.crash, "killed by signal 11", detail: "log", signal: 11)
}

/// Short names for values of session 1.
enum Make {
    static let session = SessionID(1)

    static func template(_ index: UInt32, session: UInt32 = 1) -> TemplateID { TemplateID(session: SessionID(session), index: index) }

    static func attempt(_ task: UInt32, session: UInt32 = 1, epoch: UInt32 = 1, number: UInt32 = 1) -> AttemptID {
        AttemptID(task: TaskID(session: SessionID(session), index: task), epoch: ServerEpoch(epoch), number: number)
    }

    static func replica(_ object: UInt32, session: UInt32 = 1, number: UInt32 = 1) -> Replica {
        Replica(object: ObjectID(session: SessionID(session), index: object), generation: Generation(epoch: ServerEpoch(1), number: number))
    }

    static func define(
        _ index: UInt32, _ type: String, session: UInt32 = 1, outputs: Int = 0, cpus: UInt32 = 1, constants: [UInt32] = [],
        retries: UInt32 = 0, rerun: RerunPolicy = .onLoss
    ) -> ServerMessage {
        var template = TaskTemplate(type: type)
        template.outputs = (0..<outputs).map { OutputSpec(label: "out\($0)", contentType: "text") }
        template.resources = Resources(cpus: cpus)
        template.constants = constants
        template.retryCountMax = retries
        template.rerun = rerun
        return .template(TemplateID(session: SessionID(session), index: index), template)
    }

    /// The task makes object 100 + its index (times ten, for templates with several outputs).
    static func assign(
        _ task: UInt32, template: UInt32 = 0, session: UInt32 = 1, epoch: UInt32 = 1, number: UInt32 = 1, inputs: [InputAssignment] = []
    ) -> ServerMessage {
        .assign(
            Assignment(
                attempt: attempt(task, session: session, epoch: epoch, number: number),
                template: TemplateID(session: SessionID(session), index: template), inputs: inputs, firstOutput: firstOutput(task)))
    }

    static func firstOutput(_ task: UInt32) -> UInt32 { 100 + 10 * task }

    static func input(_ object: UInt32, session: UInt32 = 1, _ source: InputSource) -> InputAssignment {
        InputAssignment(replica: replica(object, session: session), sizeBytes: 5, source: source)
    }

    static func request(_ task: UInt32, template: UInt32 = 0, session: UInt32 = 1, inputs: [LocalInput] = []) -> JobRequest {
        JobRequest(
            attempt: attempt(task, session: session), template: TemplateID(session: SessionID(session), index: template), inputs: inputs,
            firstOutput: firstOutput(task))
    }

    static func call(_ slot: UInt8, _ task: UInt32, template: UInt32 = 0, session: UInt32 = 1, inputs: [LocalInput] = []) -> CallRequest {
        CallRequest(slot: slot, job: request(task, template: template, session: session, inputs: inputs))
    }

    static func slots(_ slots: UInt8...) -> SlotSet {
        var set = SlotSet()
        for slot in slots { set.insert(slot) }
        return set
    }

    /// The outcome of a job.
    static func finished(
        _ task: UInt32, session: UInt32 = 1, outputs: [FinishedOutput] = [], started: UInt64 = 1_000_000, nanoseconds: UInt64 = 1000
    ) -> WorkerMessage {
        .finished(
            attempt(task, session: session),
            FinishedAttempt(outputs: outputs, startedUnixMicroseconds: started, durationNanoseconds: nanoseconds))
    }

    /// The outcome of a call that took 1 µs, sent after one that warmed its subworker up.
    static func answered(
        _ task: UInt32, session: UInt32 = 1, started: UInt64 = 1_000_001, nanoseconds: UInt64 = 1000
    ) -> WorkerMessage {
        finished(task, session: session, started: started, nanoseconds: nanoseconds)
    }

    static func failed(_ task: UInt32, session: UInt32 = 1, _ error: TaskError) -> WorkerMessage {
        var error = error
        error.host = "n1"
        return .failed(attempt(task, session: session), error)
    }
}

extension Harness.Round {
    /// Tokens of the jobs that were started, in order.
    var jobs: [JobToken] {
        effects.compactMap {
            if case .runJob(let token, _) = $0 { token } else { nil }
        }
    }
    var fetches: [FetchToken] {
        effects.compactMap {
            if case .fetch(let token, _) = $0 { token } else { nil }
        }
    }
    var aliases: [AliasToken] {
        effects.compactMap {
            if case .alias(let token, _, _) = $0 { token } else { nil }
        }
    }
    var writes: [WriteToken] {
        effects.compactMap {
            if case .write(let token, _) = $0 { token } else { nil }
        }
    }
    var spills: [Replica] {
        effects.compactMap {
            if case .spill(let replica) = $0 { replica } else { nil }
        }
    }
    var calls: [[CallRequest]] {
        effects.compactMap {
            if case .call(_, let calls) = $0 { Array(calls) } else { nil }
        }
    }
    var failure: TaskError? {
        for message in messages { if case .failed(_, let error) = message { return error } }
        return nil
    }
}
