import CLinux
import TaskModel
import Wire
import WorkerCore

/// What is tried, and with which calls.
package struct ConformanceOptions {
    /// The program and its arguments.
    package var command: [String]
    package var name: String
    /// A call that succeeds; without one only what needs none is tried.
    package var call: SampleCall?
    /// A call that gives an error.
    package var failing: SampleCall?
    /// A call that runs until it is cancelled.
    package var endless: SampleCall?
    /// A call with directories among its inputs or outputs; `call` may be one, too.
    package var directory: SampleCall?
    /// Ends the check when it is set.
    package var interrupt: ConformanceInterrupt?
    package var timeoutNanoseconds: UInt64 = 10_000_000_000
    /// Why what needs the call is not tried.
    var withoutCall = "needs --call"
    static let inlineBytesMax = 64 * 1024
    var directoryCall: SampleCall? {
        directory ?? call.flatMap { $0.hasDirectory ? $0 : nil }
    }

    package init(command: [String], name: String) {
        self.command = command
        self.name = name
    }
}

/// One requirement of docs/protocol.md, as far as it can be seen from outside.
package struct ConformanceResult: Equatable, Sendable {
    package enum Verdict: Equatable, Sendable {
        case passed
        case failed(String)
        case skipped(String)
    }
    package let title: String
    package let verdict: Verdict
}

/// Tries a subworker, in a process of its own for each requirement.
///
/// - Parameter report: gets each result as it comes.
/// - Returns: all of them.
@discardableResult package func checkConformance(
    _ options: ConformanceOptions, report: (ConformanceResult) -> Void = { _ in }
) -> [ConformanceResult] {
    // Processes that a subject starts and leaves behind are given to this one, and end with the check.
    _ = rain_set_child_subreaper()
    defer { endAllChildren(within: 1_000_000_000) }
    var results: [ConformanceResult] = []
    var options = options
    for trial in Trial.all {
        let verdict: ConformanceResult.Verdict
        do throws(ConformanceFailure) {
            verdict = (try trial.run(options)).map { .skipped($0) } ?? .passed
        } catch { verdict = .failed(error.description) }
        if let interrupt = options.interrupt, interrupt.isSet { break }
        let result = ConformanceResult(title: trial.title, verdict: verdict)
        report(result)
        results.append(result)
        // Whoever doesn't get this far gets nowhere.
        if trial.isFirst, verdict != .passed { break }
        // What the others would say of it says nothing about them.
        if trial.isOfCall, case .failed = verdict { (options.call, options.withoutCall) = (nil, "the call failed, see above") }
    }
    return results
}

struct Trial: Sendable {
    let title: String
    var isFirst = false
    /// It says whether the sample call does as it should.
    var isOfCall = false
    /// - Returns: why there was nothing to try, if so.
    let run: @Sendable (ConformanceOptions) throws(ConformanceFailure) -> String?
}

/// A subworker that was welcomed, and the calls that it has.
final class WelcomedSubject {
    let subject: Subject
    let registration: SubworkerRegistration
    private var templates: [SampleCallKey: UInt32] = [:]
    private var nextTemplate: UInt32 = 1
    private var nextTask: UInt32 = 0
    var usesPage: Bool { registration.hasControlPage }

    private struct SampleCallKey: Hashable {
        let method: String
        let config: [UInt8]
        /// They belong to the template: what was made of them once may be kept.
        let constants: [SampleValue]
        /// Of each whether it is a directory.
        let outputs: [Bool]
    }

    private let inlineBytesMax: Int

    init(
        _ options: ConformanceOptions, creditBytes: UInt64 = 16 << 20, takesProgress: Bool = true, inlineBytesMax: Int = ConformanceOptions.inlineBytesMax
    ) throws(ConformanceFailure) {
        self.inlineBytesMax = inlineBytesMax
        subject = try Subject(options)
        guard case .register(let registration) = try subject.next("register") else { throw ConformanceFailure("its first message is not `register`") }
        self.registration = registration
        try subject.send(
            .welcome(
                SubworkerWelcome(
                    workerName: "rain subworker check", stagingDirectory: subject.stagingDirectory,
                    inlineBytesMax: UInt32(inlineBytesMax), creditBytes: creditBytes, takesProgress: takesProgress)))
    }

    // MARK: Calls

    static let session = SessionID(1)

    func replica(_ index: Int, generation: UInt32 = 1) -> Replica {
        Replica(object: ObjectID(session: Self.session, index: UInt32(index)), generation: Generation(epoch: ServerEpoch(1), number: generation))
    }

    /// Tells the template of a call unless it knows it.
    func template(_ sample: SampleCall) throws(ConformanceFailure) -> UInt32 {
        let key = SampleCallKey(method: sample.method, config: sample.config, constants: sample.constants, outputs: sample.outputs.map(\.isDirectory))
        if let known = templates[key] { return known }
        let id = nextTemplate
        nextTemplate += 1
        templates[key] = id
        try subject.send(.templates([Self.template(sample, id)]))
        return id
    }

    static func template(_ sample: SampleCall, _ id: UInt32) -> SubworkerTemplate {
        SubworkerTemplate(
            id: id, method: sample.method, name: sample.method, config: sample.config, inputLabels: sample.inputLabels, outputs: sample.outputs,
            constantCount: UInt16(clamping: sample.constants.count))
    }

    /// A call in a slot of the page, queued there.
    func makeCall(_ sample: SampleCall, slot: UInt8, inputs: [SubworkerInput]? = nil) throws(ConformanceFailure) -> SubworkerCall {
        let template = try template(sample)
        nextTask += 1
        let given: [SubworkerInput]
        if let inputs { given = inputs } else { given = try self.inputs(sample) }
        return SubworkerCall(
            slot: slot, template: template,
            attempt: AttemptID(task: TaskID(session: Self.session, index: nextTask), epoch: ServerEpoch(1), number: 1), arguments: sample.arguments,
            inputs: given, arrayIndex: 0, ticket: subject.page.queue(Int(slot)))
    }

    /// Where the inputs of a call are: bytes inline unless told otherwise, directories always at a path.
    func inputs(
        _ sample: SampleCall, bytes place: ((SampleValue) throws(ConformanceFailure) -> SubworkerInput.Location)? = nil
    ) throws(ConformanceFailure) -> [SubworkerInput] {
        var inputs: [SubworkerInput] = []
        for (position, value) in sample.values.enumerated() {
            let location: SubworkerInput.Location
            switch value {
            case .bytes(let bytes):
                if let place { location = try place(value) } else { location = .inline(bytes) }
            case .directory: location = .path(try subject.makeInput(value))
            }
            inputs.append(
                SubworkerInput(replica: replica(position), sizeBytes: value.sizeBytes, isDirectory: value.isDirectory, location: location))
        }
        return inputs
    }

    func send(_ calls: [SubworkerCall], descriptors: [Int32] = [], pieceBytes: Int = .max) throws(ConformanceFailure) {
        try subject.send(.calls(calls), descriptors: descriptors, pieceBytes: pieceBytes)
    }

    /// The results of the calls in these slots, each once, and of no other.
    func results(of slots: [UInt8]) throws(ConformanceFailure) -> [UInt8: SubworkerResult] {
        var missing = Set(slots)
        var found: [UInt8: SubworkerResult] = [:]
        while !missing.isEmpty {
            guard case .results(let results) = try subject.next("result") else { throw ConformanceFailure("it sent something else where a result is due") }
            for result in results {
                guard let slot = UInt8(exactly: result.slot), missing.remove(slot) != nil else {
                    throw ConformanceFailure("it answered in slot \(result.slot), in which it has no call")
                }
                if usesPage, subject.page.state(Int(slot)) != .done {
                    throw ConformanceFailure("the state of slot \(slot) is \(subject.page.state(Int(slot))) and not done when its result comes")
                }
                subject.page.free(Int(slot))
                found[slot] = result
            }
        }
        return found
    }

    /// Runs one call to its result.
    func run(
        _ sample: SampleCall, slot: UInt8 = 0, inputs: [SubworkerInput]? = nil, descriptors: [Int32] = [], pieceBytes: Int = .max
    ) throws(ConformanceFailure) -> SubworkerResult {
        try send([try makeCall(sample, slot: slot, inputs: inputs)], descriptors: descriptors, pieceBytes: pieceBytes)
        return try results(of: [slot])[slot]!
    }

    /// The outputs of a call that must succeed.
    func outputs(_ result: SubworkerResult, of sample: SampleCall) throws(ConformanceFailure) -> [SampleValue] {
        switch result.value {
        case .cancelled: throw ConformanceFailure("\(sample.method) was answered with `cancelled`, which nobody asked for")
        case .failed(let message, _): throw ConformanceFailure("\(sample.method) gave an error: \(message)")
        case .outputs(let outputs):
            guard outputs.count == sample.outputs.count else {
                throw ConformanceFailure("\(sample.method) gave \(outputs.count) outputs; its template has \(sample.outputs.count)")
            }
            var values: [SampleValue] = []
            for (position, output) in outputs.enumerated() {
                values.append(
                    try subject.value(of: output, position, spec: sample.outputs[position], values: sample.values, inlineBytesMax: inlineBytesMax))
            }
            if let expected = sample.expected, !sample.varies {
                for position in values.indices where values[position] != expected[position] {
                    throw ConformanceFailure("output \(position) of \(sample.method) is \(values[position].preview) and not \(expected[position].preview)")
                }
            }
            return values
        }
    }

    /// Runs one call, which must give what it gave before.
    func expect(
        _ sample: SampleCall, _ expected: [SampleValue], _ how: String, slot: UInt8 = 0, inputs: [SubworkerInput]? = nil, descriptors: [Int32] = [],
        pieceBytes: Int = .max
    ) throws(ConformanceFailure) {
        let result = try run(sample, slot: slot, inputs: inputs, descriptors: descriptors, pieceBytes: pieceBytes)
        try Self.compare(try outputs(result, of: sample), expected, sample, how)
    }

    static func compare(_ values: [SampleValue], _ expected: [SampleValue], _ sample: SampleCall, _ how: String) throws(ConformanceFailure) {
        guard !sample.varies else { return }
        for position in values.indices where values[position] != expected[position] {
            throw ConformanceFailure(
                "\(how), output \(position) of \(sample.method) is \(values[position].preview) and not \(expected[position].preview) as before")
        }
    }

    /// It still answers.
    func ping(_ number: UInt64 = 77) throws(ConformanceFailure) {
        try subject.send(.ping(number))
        let answer = try subject.next("pong")
        guard answer == .pong(number) else { throw ConformanceFailure("it answered a ping with something else than its pong") }
    }

    /// It shall end when it is told to.
    func shutDown() throws(ConformanceFailure) {
        try subject.send(.shutdown)
        let ended = try subject.waitForEnd()
        guard ended.signal == 0, ended.exit_code == 0 else {
            throw ConformanceFailure("it ended with \(Self.how(ended)) on `shutdown`, and not with exit code 0")
        }
    }

    static func how(_ ended: rain_ended) -> String {
        ended.signal != 0 ? "signal \(ended.signal) (\(signalName(ended.signal)))" : "exit code \(ended.exit_code)"
    }
}
