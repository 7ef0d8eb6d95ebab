import Link
import TaskModel
import WorkerCore

/// A worker under a server that says anything and above subworkers that answer anything, with a shell that keeps its promises.
struct WorkerCoreFuzzer {
    private static let stepsMax = 300
    private struct Process {
        var isRegistered = false
        var calls = SlotSet()
        var recalls: [SlotSet] = []
    }

    private var decisions: Decisions
    private var core: WorkerCore
    private var now = Instant(nanoseconds: 1_000_000_000)
    private var effects: ContiguousArray<WorkerEffect> = []
    private var sequence: UInt64 = 0
    private var attempts: [AttemptID] = []
    private var jobs: [JobToken] = []
    private var fetches: [FetchToken] = []
    private var aliases: [AliasToken] = []
    private var writes: [(token: WriteToken, count: Int)] = []
    private var spills: [Replica] = []
    private var trashCount = 0
    /// Files that tasks were given.
    private var inputs: [Replica] = []
    private var measurements: [SubworkerID] = []
    private var processOrder: [SubworkerID] = []
    private var processes: [SubworkerID: Process] = [:]
    private var isRefused = false

    static func run(_ bytes: UnsafeRawBufferPointer) {
        var fuzzer = WorkerCoreFuzzer(decisions: Decisions(bytes))
        for _ in 0..<stepsMax where !fuzzer.decisions.isEmpty && !fuzzer.isRefused { fuzzer.step() }
    }

    private init(decisions: Decisions) {
        self.decisions = decisions
        core = WorkerCore(
            description: WorkerDescription(
                hostName: "n1", processID: 1, cpus: UInt32(self.decisions.below(4)), dataEndpoint: Endpoint(host: "127.0.0.1", port: 1), store: "test"),
            incarnation: 7, subworkers: [Self.command()])
        if self.decisions.bool() { core.storeMemoryBytes = 100_000 }
        if self.decisions.bool() { core.resultBytesMax = 300 }
        core.memoryGrowthBytesMax = 100
        send(.connected)
    }

    private static func command() -> SubworkerCommand {
        var command = SubworkerCommand(name: "x", arguments: ["x"])
        command.threadsByMethod = ["y": 3]
        return command
    }

    private mutating func step() {
        switch decisions.below(22) {
        case 0: welcome()
        case 1, 2, 3, 4, 5, 6: batch()
        case 7: register()
        case 8, 9: answer()
        case 10: endProcess()
        case 11: endJob()
        case 12: endFetch()
        case 13:
            guard let token = take(\.aliases) else { return }
            send(.aliased(token, decisions.bool() ? decisions.error() : nil))
        case 14: answerRecall()
        case 15:
            guard let id = decisions.pick(processOrder) else { return }
            send(.reserve(id, slot: UInt8(decisions.below(66)), file: decisions.uint32(below: 3), sizeBytes: decisions.bool() ? 50_000 : decisions.uint64()))
        case 16:
            if trashCount > 0 {
                trashCount -= 1
                return send(.trashEmptied)
            }
            guard let replica = take(\.spills) else { return }
            send(.spilled(replica, isDone: decisions.bool()))
        case 17:
            guard let (token, count) = take(\.writes) else { return }
            send(.written(token, decisions.bool() ? .failed(decisions.error()) : .stored(isOnDisk: (0..<count).map { _ in decisions.bool() })))
        case 18:
            guard let id = decisions.pick(processOrder) else { return }
            send(
                .progress(
                    id,
                    ContiguousArray(
                        decisions.list { decisions in
                            let progress = Progress(millionths: decisions.uint32(), text: decisions.text())
                            return CallProgress(slot: UInt8(decisions.below(66)), progress: progress)
                        })))
        case 19:
            guard let id = take(\.measurements) else { return }
            send(.memoryMeasured(id, bytes: decisions.uint64()))
        case 20:
            // What was written to is told before the end of who did it.
            let replicas = decisions.list { $0.byte() < 200 ? $0.pick(inputs) ?? $0.replica() : $0.replica() }
            if decisions.below(4) == 0 { return send(.foundDamaged(replicas)) }
            send(.damaged(replicas))
            switch decisions.below(3) {
            case 0: endJob()
            case 1: answer()
            default: endProcess()
            }
        default:
            now = now.advanced(byMilliseconds: [1, 250, 6000, 400_000][decisions.below(4)])
            send(.tick)
        }
    }

    private mutating func take<Token>(_ tokens: WritableKeyPath<Self, [Token]>) -> Token? {
        guard !self[keyPath: tokens].isEmpty else { return nil }
        return self[keyPath: tokens].remove(at: decisions.below(self[keyPath: tokens].count))
    }

    // MARK: The server

    private mutating func welcome() {
        if decisions.byte() > 250 { return send(.frame(.refused(reason: "no"))) }
        sequence = 0
        send(
            .frame(
                .welcome(
                    Welcome(epoch: decisions.epoch(), worker: WorkerID(1), lastReceived: decisions.bool() ? 0 : decisions.uint64(), dataSecret: [1]))))
    }

    private mutating func batch() {
        let isNext = decisions.byte() < 230
        if isNext { sequence += 1 }
        let payload = ContiguousArray(decisions.list(5) { $0.serverMessage(attempts) })
        for case .assign(let assignment) in payload { attempts.append(assignment.attempt) }
        if attempts.count > 100 { attempts.removeFirst(attempts.count - 100) }
        send(
            .frame(
                .batch(
                    Batch(
                        epoch: decisions.epoch(), incarnation: decisions.byte() < 250 ? 7 : 8, sequence: isNext ? sequence : decisions.uint64(),
                        acknowledged: decisions.uint64(), payload: payload))))
    }

    // MARK: The shell

    private mutating func register() {
        guard let id = decisions.pick(processOrder), processes[id]?.isRegistered == false else { return }
        processes[id]?.isRegistered = true
        send(
            .subworkerRegistered(
                id,
                SubworkerCapabilities(
                    hasControlPage: decisions.bool(), threads: UInt16(decisions.below(4)) + 1, hasCaching: decisions.bool(),
                    tasks: decisions.bool() ? [""] : ["y"])))
    }

    private mutating func answer() {
        guard let id = decisions.pick(processOrder), let process = processes[id], !process.calls.isEmpty else { return }
        var answers: ContiguousArray<CallAnswer> = []
        for slot in 0..<64 as Range<UInt8> where process.calls.contains(slot) && decisions.bool() {
            processes[id]?.calls.remove(slot)
            let result: CallAnswer.Result =
                switch decisions.below(5) {
                case 0: .failed(decisions.error())
                case 1: .cancelled
                case 2: .outOfRoom(decisions.error())
                default: .outputs(decisions.outputs())
                }
            answers.append(CallAnswer(slot: slot, durationNanoseconds: decisions.uint64(), attributes: decisions.data(), result: result))
        }
        if !answers.isEmpty { send(.callsAnswered(id, answers)) }
    }

    private mutating func answerRecall() {
        guard let id = decisions.pick(processOrder), let slots = processes[id]?.recalls.first, let calls = processes[id]?.calls else { return }
        processes[id]?.recalls.removeFirst()
        var taken = SlotSet()
        for slot in 0..<64 as Range<UInt8> where slots.contains(slot) && calls.contains(slot) && decisions.bool() {
            taken.insert(slot)
            processes[id]?.calls.remove(slot)
        }
        send(.recalled(id, slots: taken))
    }

    private mutating func endProcess() {
        guard let id = decisions.pick(processOrder), let process = processes.removeValue(forKey: id) else { return }
        processOrder.removeAll { $0 == id }
        let (running, begun) = (decisions.bool() ? process.calls : SlotSet(), SlotSet(bits: decisions.uint64()))
        send(.subworkerEnded(id, evidence: decisions.error(), running: running, begun: begun))
    }

    private mutating func endJob() {
        guard let token = take(\.jobs) else { return }
        switch decisions.below(5) {
        case 0: send(.jobEnded(token, .failed(decisions.error())))
        case 4: send(.jobEnded(token, .outOfRoom(decisions.error())))
        case 1: send(.jobEnded(token, .cancelled))
        default: send(.jobEnded(token, .finished(decisions.outputs(), durationNanoseconds: decisions.uint64(), debug: decisions.text())))
        }
    }

    private mutating func endFetch() {
        guard let token = take(\.fetches) else { return }
        switch decisions.below(3) {
        case 0: send(.fetched(token, .failed(decisions.error())))
        case 1: send(.fetched(token, .inline(decisions.data())))
        default: send(.fetched(token, .stored(sizeBytes: decisions.uint64(), isOnDisk: decisions.bool())))
        }
    }

    private mutating func note(_ job: JobRequest) {
        for input in job.inputs where input.value == .stored { inputs.append(input.replica) }
        if inputs.count > 50 { inputs.removeFirst(inputs.count - 50) }
    }

    private mutating func send(_ event: WorkerEvent) {
        effects.removeAll(keepingCapacity: true)
        core.handle(event, now: now, into: &effects)
        do throws(BrokenInvariant) { try core.checkInvariants() } catch { fatalError("\(error)") }
        var reconnects = false
        for effect in effects {
            switch effect {
            case .reconnect: reconnects = true
            case .refused: isRefused = true
            case .startSubworker(let id, _, _):
                processes[id] = Process()
                processOrder.append(id)
            case .call(let id, let requests):
                for request in requests {
                    processes[id]?.calls.insert(request.slot)
                    note(request.job)
                }
            case .measureMemory(let id): measurements.append(id)
            case .recall(let id, let slots): processes[id]?.recalls.append(slots)
            case .runJob(let token, let job):
                jobs.append(token)
                note(job)
            case .fetch(let token, _): fetches.append(token)
            case .alias(let token, _, _): aliases.append(token)
            case .write(let token, let files): writes.append((token, files.count))
            case .spill(let replica): spills.append(replica)
            case .emptyTrash: trashCount += 1
            default: break  // The shell answers no other.
            }
        }
        if reconnects, !isRefused {
            sequence = 0
            send(.connected)
        }
    }
}

extension Decisions {
    mutating func outputs() -> [LocalOutput] {
        list { decisions in
            let value: LocalOutput.Value =
                switch decisions.below(3) {
                case 0: .inline(decisions.data())
                case 1: .stored(sizeBytes: decisions.uint64(), isOnDisk: decisions.bool())
                default: .sameAsInput(UInt16(decisions.uint32(below: 4) & 0xFFFF))
                }
            return LocalOutput(contentType: decisions.text(), isDirectory: decisions.bool(), value: value)
        }
    }

    mutating func input(_ known: [AttemptID]) -> InputAssignment {
        let source: InputSource =
            switch below(4) {
            case 0: .held
            case 1: .inline(data())
            case 2: .expect(attempt(known))
            default: .fetch([Endpoint(host: "h", port: 1)])
            }
        return InputAssignment(replica: replica(), sizeBytes: uint64(), contentType: text(), isDirectory: bool(), attributes: data(), source: source)
    }

    mutating func serverMessage(_ known: [AttemptID]) -> ServerMessage {
        switch below(12) {
        case 0: return .session(session(), subworkers: bool() ? [SubworkerCommand(name: "z", arguments: ["z"])] : [])
        case 1, 2:
            var template = TaskTemplate(type: ["x/y", "z/y", "builtin/concat", "builtin/sleep", "nobody/y", "builtin/none", "x", ""][below(8)])
            template.outputs = list { OutputSpec(label: $0.text(), isDirectory: $0.bool()) }
            template.resources = Resources(cpus: uint32(below: 3))
            template.retryCountMax = uint32(below: 3)
            template.threads = uint32()
            template.constants = list { $0.uint32() }
            if bool() { template.program = SubworkerProgram(object: uint32(below: 4), path: text()) }
            return .template(TemplateID(session: session(), index: uint32(below: 3)), template)
        case 3, 4, 5, 6:
            let attempt = attempt(known)
            return .assign(
                Assignment(
                    attempt: attempt, template: TemplateID(session: bool() ? attempt.task.session : session(), index: uint32(below: 3)),
                    arguments: data(), inputs: list { $0.input(known) }, firstOutput: uint32(below: 16), arrayIndex: uint32(), name: text()))
        case 7: return .revoke(attempt(known))
        case 8: return .cancel(attempt(known))
        case 9: return .drop(list { $0.replica() })
        case 10: return .closeSession(session())
        default: return .provide(list { $0.input(known) })
        }
    }
}
