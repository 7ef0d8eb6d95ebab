import CCapnp
import Link
import TaskModel

/// A frame as libcapnp's side left it in its columns, and how Swift values are made of it.
struct DecodedFrame {
    let plain: UnsafePointer<cc_frame>
    private var bytes: BytesReader { BytesReader(base: plain.pointee.bytes) }

    init(plain: UnsafePointer<cc_frame>) { self.plain = plain }

    func frame<Payload>(
        wrongDirection: Int, _ make: (DecodedFrame, cc_message) throws(WireError) -> Payload
    ) throws(WireError) -> Frame<Payload> {
        switch Int(plain.pointee.kind) {
        case CC_HELLO: return .hello(hello(plain.pointee.hello))
        case CC_WELCOME:
            let welcome = plain.pointee.welcome
            return .welcome(
                Welcome(
                    epoch: ServerEpoch(welcome.epoch), worker: WorkerID(welcome.worker), lastReceived: welcome.last_received,
                    dataSecret: bytes.data(welcome.data_secret), isRestored: welcome.is_restored != 0))
        case CC_REFUSED: return .refused(reason: bytes.text(plain.pointee.refusal))
        case CC_GOODBYE: return .goodbye
        default:
            let source = plain.pointee.batch
            guard Int(source.direction) != wrongDirection else { throw .unexpected(kind: "batch for the other side") }
            var batch = Batch<Payload>(
                epoch: ServerEpoch(source.epoch), incarnation: source.incarnation, sequence: source.sequence,
                acknowledged: source.acknowledged)
            batch.payload.reserveCapacity(plain.pointee.message_count)
            for position in 0..<plain.pointee.message_count {
                batch.payload.append(try make(self, plain.pointee.messages[position]))
            }
            return .batch(batch)
        }
    }

    func serverMessage(_ message: cc_message) throws(WireError) -> ServerMessage {
        switch Int(message.kind) {
        case CC_SESSION:
            .session(
                SessionID(message.number),
                subworkers: message.range.map(plain.pointee.commands) { command in
                    SubworkerCommand(
                        name: bytes.text(command.pointee.name), arguments: texts(command.pointee.arguments),
                        environment: texts(command.pointee.environment))
                })
        case CC_TEMPLATE: try template(plain.pointee.templates[Int(message.number)])
        case CC_ASSIGN: .assign(assignment(plain.pointee.assignments + Int(message.number)))
        case CC_REVOKE: .revoke(message.id.attempt)
        case CC_CANCEL: .cancel(message.id.attempt)
        case CC_DROP: .drop(message.range.map(plain.pointee.ids) { $0.pointee.replica })
        case CC_CLOSE_SESSION: .closeSession(SessionID(message.number))
        case CC_PROVIDE: .provide(message.range.map(plain.pointee.inputs) { input($0) })
        default: throw .unexpected(kind: "message \(message.kind)")
        }
    }

    func workerMessage(_ message: cc_message) throws(WireError) -> WorkerMessage {
        switch Int(message.kind) {
        case CC_STARTED: .started(message.id.attempt)
        case CC_FINISHED: finished(plain.pointee.finished + Int(message.number))
        case CC_FAILED: try failed(plain.pointee.failed[Int(message.number)])
        case CC_CANCELLED: .cancelled(message.id.attempt)
        case CC_REVOKED: .revoked(message.id.attempt, wasTakenBack: message.flag != 0)
        case CC_REPLICATED: .replicated(message.id.replica)
        case CC_SESSION_CLOSED: .sessionClosed(SessionID(message.number))
        case CC_MISSING: .missing(message.id.replica)
        case CC_KNOWS: .knows(SessionID(message.number))
        case CC_RUNS: .runs(message.id.attempt)
        case CC_HOLDS: .holds(message.range.map(plain.pointee.ids) { $0.pointee.replica })
        case CC_HANDED_OVER: .handedOver
        case CC_PROGRESS:
            .progress(
                message.range.map(plain.pointee.progress) { each in
                    AttemptProgress(
                        attempt: each.pointee.attempt.attempt,
                        progress: Progress(millionths: each.pointee.millionths, text: bytes.text(each.pointee.text)))
                })
        default: throw .unexpected(kind: "message \(message.kind)")
        }
    }

    private func texts(_ range: cc_range) -> [String] { range.map(plain.pointee.texts) { bytes.text($0.pointee) } }

    private func endpoint(_ source: cc_endpoint) -> Endpoint { Endpoint(host: bytes.text(source.host), port: source.port) }

    private func hello(_ source: cc_hello) -> Hello {
        Hello(
            protocolVersion: UInt16(truncatingIfNeeded: source.protocol_version), incarnation: source.incarnation, place: source.place,
            knownEpoch: source.knows_epoch != 0 ? ServerEpoch(source.known_epoch) : nil,
            knownWorker: source.known_worker != 0 ? WorkerID(source.known_worker) : nil, lastReceived: source.last_received,
            description: WorkerDescription(
                hostName: bytes.text(source.host_name), processID: source.process_id, cpus: source.cpus,
                dataEndpoint: endpoint(source.data_endpoint), store: bytes.text(source.store), subworkers: texts(source.subworkers)),
            predecessor: source.has_predecessor == 0
                ? nil
                : Predecessor(
                    end: bytes.text(source.predecessor_end), running: source.predecessor_running.map(plain.pointee.ids) { $0.pointee.attempt }))
    }

    private func template(_ source: cc_template) throws(WireError) -> ServerMessage {
        guard let rerun = UInt8(exactly: source.rerun).flatMap(RerunPolicy.init(rawValue:)) else {
            throw .malformed("unknown rerun policy \(source.rerun)")
        }
        var template = TaskTemplate(type: bytes.text(source.type))
        template.name = bytes.text(source.name)
        template.config = bytes.data(source.config)
        template.inputLabels = texts(source.input_labels)
        template.constants = source.constants.map(plain.pointee.numbers) { $0.pointee }
        template.outputs = source.outputs.map(plain.pointee.template_outputs) { output in
            OutputSpec(
                label: bytes.text(output.pointee.label), contentType: bytes.text(output.pointee.content_type),
                isDirectory: output.pointee.is_directory != 0, isKept: output.pointee.is_kept != 0)
        }
        template.resources = Resources(cpus: source.cpus)
        template.rerun = rerun
        template.retryCountMax = source.retry_count_max
        template.threads = source.threads
        template.origin = bytes.text(source.origin)
        template.attributes = bytes.data(source.attributes)
        if source.has_program != 0 {
            template.program = SubworkerProgram(
                object: source.program_object, path: bytes.text(source.program_path), arguments: texts(source.program_arguments),
                environment: texts(source.program_environment))
        }
        return .template(TemplateID(session: SessionID(source.session), index: source.index), template)
    }

    private func assignment(_ source: UnsafePointer<cc_assignment>) -> Assignment {
        let attempt = source.pointee.attempt.attempt
        return Assignment(
            attempt: attempt, template: TemplateID(session: attempt.task.session, index: source.pointee.template_index),
            arguments: bytes.data(source.pointee.arguments), inputs: source.pointee.inputs.map(plain.pointee.inputs) { input($0) },
            firstOutput: source.pointee.first_output, arrayIndex: source.pointee.array_index, name: bytes.text(source.pointee.name),
            lossCount: UInt16(truncatingIfNeeded: source.pointee.loss_count))
    }

    private func input(_ input: UnsafePointer<cc_input>) -> InputAssignment {
        let source: InputSource =
            switch Int(input.pointee.source) {
            case CC_SOURCE_HELD: .held
            case CC_SOURCE_INLINE: .inline(bytes.data(input.pointee.value))
            case CC_SOURCE_EXPECT: .expect(input.pointee.expected.attempt)
            default: .fetch(input.pointee.endpoints.map(plain.pointee.endpoints) { endpoint($0.pointee) })
            }
        return InputAssignment(
            replica: input.pointee.replica.replica, sizeBytes: input.pointee.size_bytes, contentType: bytes.text(input.pointee.content_type),
            isDirectory: input.pointee.is_directory != 0, attributes: bytes.data(input.pointee.attributes), source: source)
    }

    private func finished(_ source: UnsafePointer<cc_finished>) -> WorkerMessage {
        .finished(
            source.pointee.attempt.attempt,
            FinishedAttempt(
                outputs: source.pointee.outputs.map(plain.pointee.finished_outputs) { output in
                    FinishedOutput(
                        sizeBytes: output.pointee.size_bytes, contentType: bytes.text(output.pointee.content_type),
                        isDirectory: output.pointee.is_directory != 0,
                        inline: output.pointee.is_inline != 0 ? bytes.data(output.pointee.value) : nil,
                        attributes: bytes.data(output.pointee.attributes))
                }, startedUnixMicroseconds: source.pointee.started_unix_microseconds,
                durationNanoseconds: source.pointee.duration_nanoseconds, debug: bytes.text(source.pointee.debug),
                attributes: bytes.data(source.pointee.attributes)))
    }

    private func failed(_ source: cc_failed) throws(WireError) -> WorkerMessage {
        guard let cause = UInt8(exactly: source.cause).flatMap(TaskError.Cause.init(rawValue:)) else {
            throw .malformed("unknown cause \(source.cause) of an error")
        }
        var error = TaskError(
            cause, bytes.text(source.message), detail: bytes.text(source.detail), debug: bytes.text(source.debug),
            exitCode: source.has_exit_code != 0 ? source.exit_code : nil, signal: source.has_signal != 0 ? source.signal : nil)
        error.host = bytes.text(source.host)
        return .failed(source.attempt.attempt, error)
    }
}
