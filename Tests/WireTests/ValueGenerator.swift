import Link
import TaskModel
import Wire

/// Random values of every message, from a seed that a failure prints.
struct ValueGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    mutating func bits() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
    mutating func below(_ bound: Int) -> Int { Int(bits() % UInt64(bound)) }
    mutating func bool() -> Bool { bits() & 1 == 1 }
    /// Small ones and the largest ones more often than chance would have it.
    mutating func uint64() -> UInt64 {
        switch below(4) {
        case 0: 0
        case 1: UInt64(below(10))
        case 2: .max
        default: bits()
        }
    }
    mutating func uint32() -> UInt32 { UInt32(truncatingIfNeeded: uint64()) }
    mutating func uint16() -> UInt16 { UInt16(truncatingIfNeeded: uint64()) }
    mutating func data() -> [UInt8] {
        let count = [0, 1, 7, 8, 100, 5000][below(6)]
        return (0..<below(count + 1)).map { _ in UInt8(truncatingIfNeeded: bits()) }
    }
    mutating func text() -> String {
        let pieces = ["", "a", "label", "wörter/zählen", "\0", "\n", "日本語", "👩‍🚀", "\"quoted\" \\", String(repeating: "long ", count: 40)]
        return (0..<below(4)).reduce(into: "") { text, _ in text += pieces[below(pieces.count)] }
    }
    mutating func list<Element>(_ countMax: Int = 4, _ make: (inout ValueGenerator) -> Element) -> [Element] {
        (0..<below(countMax + 1)).map { _ in make(&self) }
    }

    mutating func epoch() -> ServerEpoch { ServerEpoch(uint32()) }
    mutating func session() -> SessionID { SessionID(uint32()) }
    mutating func attempt() -> AttemptID {
        AttemptID(task: TaskID(session: session(), index: uint32()), epoch: epoch(), number: uint32())
    }
    mutating func replica() -> Replica {
        Replica(object: ObjectID(session: session(), index: uint32()), generation: Generation(epoch: epoch(), number: uint32()))
    }
    mutating func endpoint() -> Endpoint { Endpoint(host: text(), port: uint16()) }
    mutating func outputSpec() -> OutputSpec { OutputSpec(label: text(), contentType: text(), isDirectory: bool(), isKept: bool()) }

    mutating func template() -> TaskTemplate {
        var template = TaskTemplate(type: text())
        template.name = text()
        template.config = data()
        template.inputLabels = list { $0.text() }
        template.constants = list { $0.uint32() }
        if bool() {
            template.program = SubworkerProgram(object: uint32(), path: text(), arguments: list { $0.text() }, environment: list { $0.text() })
        }
        template.outputs = list { $0.outputSpec() }
        template.resources = Resources(cpus: uint32())
        template.rerun = [.onLoss, .always, .never][below(3)]
        template.retryCountMax = uint32()
        template.threads = uint32()
        template.origin = text()
        template.attributes = data()
        return template
    }
    mutating func assignment() -> Assignment {
        let attempt = attempt()
        return Assignment(
            attempt: attempt, template: TemplateID(session: attempt.task.session, index: uint32()), arguments: data(),
            inputs: list { $0.input() }, firstOutput: uint32(), arrayIndex: uint32(), name: text(), lossCount: uint16())
    }
    mutating func input() -> InputAssignment {
        InputAssignment(replica: replica(), sizeBytes: uint64(), contentType: text(), isDirectory: bool(), attributes: data(), source: source())
    }
    mutating func source() -> InputSource {
        switch below(4) {
        case 0: .held
        case 1: .inline(data())
        case 2: .expect(attempt())
        default: .fetch(list { $0.endpoint() })
        }
    }
    mutating func error() -> TaskError {
        let cause = TaskError.Cause(rawValue: UInt8(below(10)))!
        var error = TaskError(
            cause, text(), detail: text(), debug: text(), exitCode: bool() ? Int32(truncatingIfNeeded: uint64()) : nil,
            signal: bool() ? Int32(truncatingIfNeeded: uint64()) : nil)
        error.host = text()
        return error
    }

    mutating func serverMessage(_ kind: Int) -> ServerMessage {
        switch kind {
        case 0:
            .session(
                session(),
                subworkers: list { generator in
                    SubworkerCommand(
                        name: generator.text(), arguments: generator.list { $0.text() }, environment: generator.list { $0.text() })
                })
        case 1: .template(TemplateID(session: session(), index: uint32()), template())
        case 2: .assign(assignment())
        case 3: .revoke(attempt())
        case 4: .cancel(attempt())
        case 5: .drop(list { $0.replica() })
        case 6: .closeSession(session())
        default: .provide(list { $0.input() })
        }
    }
    mutating func workerMessage(_ kind: Int) -> WorkerMessage {
        switch kind {
        case 0: .started(attempt())
        case 1:
            .finished(
                attempt(),
                FinishedAttempt(
                    outputs: list { generator in
                        FinishedOutput(
                            sizeBytes: generator.uint64(), contentType: generator.text(), isDirectory: generator.bool(),
                            inline: generator.bool() ? generator.data() : nil, attributes: generator.data())
                    }, startedUnixMicroseconds: uint64(), durationNanoseconds: uint64(), debug: text(), attributes: data()))
        case 2: .failed(attempt(), error())
        case 3: .cancelled(attempt())
        case 4: .revoked(attempt(), wasTakenBack: bool())
        case 5: .replicated(replica())
        case 6: .sessionClosed(session())
        case 7: .missing(replica())
        case 8: .knows(session())
        case 9: .runs(attempt())
        case 10: .holds(list { $0.replica() })
        case 11: .progress(list { AttemptProgress(attempt: $0.attempt(), progress: Progress(millionths: $0.uint32(), text: $0.text())) })
        default: .handedOver
        }
    }
    static let messageKindCount = 13

    /// A frame of each kind in turn; a batch with every kind of message.
    mutating func frame<Payload>(_ kind: Int, _ message: (inout ValueGenerator, Int) -> Payload) -> Frame<Payload> {
        switch kind {
        case 0:
            .hello(
                Hello(
                    protocolVersion: uint16(), incarnation: uint64(), place: uint64(), knownEpoch: bool() ? epoch() : nil,
                    knownWorker: bool() ? WorkerID(uint32() | 1) : nil, lastReceived: uint64(),
                    description: WorkerDescription(
                        hostName: text(), processID: uint32(), cpus: uint32(), dataEndpoint: endpoint(), store: text(), subworkers: list { $0.text() }),
                    predecessor: bool() ? Predecessor(end: text(), running: list { $0.attempt() }) : nil))
        case 1: .welcome(Welcome(epoch: epoch(), worker: WorkerID(uint32()), lastReceived: uint64(), dataSecret: data(), isRestored: bool()))
        case 2: .refused(reason: text())
        case 3: .batch(Batch(epoch: epoch(), incarnation: uint64(), sequence: uint64(), acknowledged: uint64()))
        case 4: .goodbye
        default:
            .batch(
                Batch(
                    epoch: epoch(), incarnation: uint64(), sequence: uint64(), acknowledged: uint64(),
                    payload: ContiguousArray((0..<Self.messageKindCount * 2).map { message(&self, $0 % Self.messageKindCount) })))
        }
    }
    static let frameKindCount = 6
    mutating func serverFrame(_ kind: Int) -> ServerToWorkerFrame { frame(kind) { $0.serverMessage($1) } }
    mutating func workerFrame(_ kind: Int) -> WorkerToServerFrame { frame(kind) { $0.workerMessage($1) } }
}
