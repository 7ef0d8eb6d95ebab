import CCapnp
import Link
import TaskModel

/// The columns of a frame that is being built; the counterpart of `DecodedFrame`.
struct ControlColumns: ~Copyable {
    var bytes: BytesColumn
    private var texts = Column<cc_bytes>()
    private var numbers = Column<UInt32>()
    private var ids = Column<cc_id>()
    private var messages = Column<cc_message>()
    private var commands = Column<cc_command>()
    private var templates = Column<cc_template>()
    private var templateOutputs = Column<cc_template_output>()
    private var assignments = Column<cc_assignment>()
    private var inputs = Column<cc_input>()
    private var endpoints = Column<cc_endpoint>()
    private var finished = Column<cc_finished>()
    private var finishedOutputs = Column<cc_finished_output>()
    private var failed = Column<cc_failed>()
    private var progress = Column<cc_progress>()

    init(limit: Int) { bytes = BytesColumn(limit: limit) }

    mutating func removeAll() {
        bytes.removeAll()
        texts.removeAll()
        numbers.removeAll()
        ids.removeAll()
        messages.removeAll()
        commands.removeAll()
        templates.removeAll()
        templateOutputs.removeAll()
        assignments.removeAll()
        inputs.removeAll()
        endpoints.removeAll()
        finished.removeAll()
        finishedOutputs.removeAll()
        failed.removeAll()
        progress.removeAll()
    }

    /// Makes a frame point at the columns, until they are changed.
    func point(_ plain: inout cc_frame) {
        plain.bytes = bytes.base
        plain.texts = UnsafePointer(texts.base)
        plain.numbers = UnsafePointer(numbers.base)
        plain.ids = UnsafePointer(ids.base)
        plain.messages = UnsafePointer(messages.base)
        plain.message_count = messages.count
        plain.commands = UnsafePointer(commands.base)
        plain.templates = UnsafePointer(templates.base)
        plain.template_outputs = UnsafePointer(templateOutputs.base)
        plain.assignments = UnsafePointer(assignments.base)
        plain.inputs = UnsafePointer(inputs.base)
        plain.endpoints = UnsafePointer(endpoints.base)
        plain.finished = UnsafePointer(finished.base)
        plain.finished_outputs = UnsafePointer(finishedOutputs.base)
        plain.failed = UnsafePointer(failed.base)
        plain.progress = UnsafePointer(progress.base)
    }

    /// Everything but a batch's messages.
    ///
    /// - Returns: the batch whose messages are still to be added, if it is one.
    mutating func fill<Payload>(_ plain: inout cc_frame, with frame: Frame<Payload>) -> Batch<Payload>? {
        switch frame {
        case .hello(let hello):
            plain.kind = UInt32(CC_HELLO)
            plain.hello.incarnation = hello.incarnation
            plain.hello.place = hello.place
            plain.hello.last_received = hello.lastReceived
            plain.hello.protocol_version = UInt32(hello.protocolVersion)
            plain.hello.knows_epoch = hello.knownEpoch == nil ? 0 : 1
            plain.hello.known_epoch = hello.knownEpoch?.rawValue ?? 0
            plain.hello.known_worker = hello.knownWorker?.rawValue ?? 0
            plain.hello.process_id = hello.description.processID
            plain.hello.cpus = hello.description.cpus
            plain.hello.host_name = bytes.add(hello.description.hostName)
            plain.hello.store = bytes.add(hello.description.store)
            plain.hello.data_endpoint = plainEndpoint(hello.description.dataEndpoint)
            plain.hello.subworkers = add(hello.description.subworkers)
            if let predecessor = hello.predecessor {
                plain.hello.has_predecessor = 1
                plain.hello.predecessor_end = bytes.add(predecessor.end)
                let first = ids.count
                for attempt in predecessor.running { ids.append(cc_id(attempt)) }
                plain.hello.predecessor_running = cc_range(from: first, to: ids.count)
            }
            return nil
        case .welcome(let welcome):
            plain.kind = UInt32(CC_WELCOME)
            plain.welcome = cc_welcome(
                last_received: welcome.lastReceived, epoch: welcome.epoch.rawValue, worker: welcome.worker.rawValue,
                data_secret: bytes.add(welcome.dataSecret), is_restored: welcome.isRestored ? 1 : 0)
            return nil
        case .refused(let reason):
            plain.kind = UInt32(CC_REFUSED)
            plain.refusal = bytes.add(reason)
            return nil
        case .batch(let batch):
            plain.kind = UInt32(CC_BATCH)
            plain.batch.incarnation = batch.incarnation
            plain.batch.sequence = batch.sequence
            plain.batch.acknowledged = batch.acknowledged
            plain.batch.epoch = batch.epoch.rawValue
            return batch
        case .goodbye:
            plain.kind = UInt32(CC_GOODBYE)
            return nil
        }
    }

    mutating func add(_ message: ServerMessage) {
        switch message {
        case .session(let session, let subworkers):
            let first = commands.count
            for command in subworkers {
                commands.append(
                    cc_command(name: bytes.add(command.name), arguments: add(command.arguments), environment: add(command.environment)))
            }
            append(CC_SESSION, number: session.rawValue, range: cc_range(from: first, to: commands.count))
        case .template(let id, let template):
            append(CC_TEMPLATE, number: UInt32(templates.count))
            add(template, id)
        case .assign(let assignment):
            append(CC_ASSIGN, number: UInt32(assignments.count))
            add(assignment)
        case .revoke(let attempt): append(CC_REVOKE, id: cc_id(attempt))
        case .cancel(let attempt): append(CC_CANCEL, id: cc_id(attempt))
        case .drop(let replicas): append(CC_DROP, range: add(replicas))
        case .closeSession(let session): append(CC_CLOSE_SESSION, number: session.rawValue)
        case .provide(let values):
            let first = inputs.count
            for value in values { add(value) }
            append(CC_PROVIDE, range: cc_range(from: first, to: inputs.count))
        }
    }

    mutating func add(_ message: WorkerMessage) {
        switch message {
        case .started(let attempt): append(CC_STARTED, id: cc_id(attempt))
        case .finished(let attempt, let value):
            append(CC_FINISHED, number: UInt32(finished.count))
            add(attempt, value)
        case .failed(let attempt, let error):
            append(CC_FAILED, number: UInt32(failed.count))
            failed.append(
                cc_failed(
                    attempt: cc_id(attempt), cause: UInt32(error.cause.rawValue), exit_code: error.exitCode ?? 0, signal: error.signal ?? 0,
                    has_exit_code: error.exitCode == nil ? 0 : 1, has_signal: error.signal == nil ? 0 : 1, message: bytes.add(error.message),
                    detail: bytes.add(error.detail), debug: bytes.add(error.debug), host: bytes.add(error.host)))
        case .cancelled(let attempt): append(CC_CANCELLED, id: cc_id(attempt))
        case .revoked(let attempt, let wasTakenBack): append(CC_REVOKED, id: cc_id(attempt), flag: wasTakenBack ? 1 : 0)
        case .replicated(let replica): append(CC_REPLICATED, id: cc_id(replica))
        case .sessionClosed(let session): append(CC_SESSION_CLOSED, number: session.rawValue)
        case .missing(let replica): append(CC_MISSING, id: cc_id(replica))
        case .knows(let session): append(CC_KNOWS, number: session.rawValue)
        case .runs(let attempt): append(CC_RUNS, id: cc_id(attempt))
        case .holds(let replicas): append(CC_HOLDS, range: add(replicas))
        case .handedOver: append(CC_HANDED_OVER)
        case .progress(let list):
            let first = progress.count
            for each in list {
                progress.append(cc_progress(attempt: cc_id(each.attempt), millionths: each.progress.millionths, text: bytes.add(each.progress.text)))
            }
            append(CC_PROGRESS, range: cc_range(from: first, to: progress.count))
        }
    }

    private mutating func add(_ replicas: [Replica]) -> cc_range {
        let first = ids.count
        for replica in replicas { ids.append(cc_id(replica)) }
        return cc_range(from: first, to: ids.count)
    }

    private mutating func append(
        _ kind: Int, number: UInt32 = 0, id: cc_id = cc_id(), flag: UInt32 = 0, range: cc_range = cc_range()
    ) {
        messages.append(cc_message(kind: UInt32(kind), flag: flag, number: number, id: id, range: range))
    }

    private mutating func add(_ list: [String]) -> cc_range {
        let first = texts.count
        for text in list { texts.append(bytes.add(text)) }
        return cc_range(from: first, to: texts.count)
    }

    private mutating func plainEndpoint(_ endpoint: Endpoint) -> cc_endpoint {
        cc_endpoint(host: bytes.add(endpoint.host), port: endpoint.port)
    }

    private mutating func add(_ template: TaskTemplate, _ id: TemplateID) {
        var plain = cc_template()
        plain.session = id.session.rawValue
        plain.index = id.index
        plain.cpus = template.resources.cpus
        plain.retry_count_max = template.retryCountMax
        plain.threads = template.threads
        plain.rerun = UInt32(template.rerun.rawValue)
        plain.type = bytes.add(template.type)
        plain.name = bytes.add(template.name)
        plain.config = bytes.add(template.config)
        plain.origin = bytes.add(template.origin)
        plain.attributes = bytes.add(template.attributes)
        plain.input_labels = add(template.inputLabels)
        let firstConstant = numbers.count
        for constant in template.constants { numbers.append(constant) }
        plain.constants = cc_range(from: firstConstant, to: numbers.count)
        let firstOutput = templateOutputs.count
        for output in template.outputs {
            templateOutputs.append(
                cc_template_output(
                    label: bytes.add(output.label), content_type: bytes.add(output.contentType), is_directory: output.isDirectory ? 1 : 0,
                    is_kept: output.isKept ? 1 : 0))
        }
        plain.outputs = cc_range(from: firstOutput, to: templateOutputs.count)
        if let program = template.program {
            plain.has_program = 1
            plain.program_object = program.object
            plain.program_path = bytes.add(program.path)
            plain.program_arguments = add(program.arguments)
            plain.program_environment = add(program.environment)
        }
        templates.append(plain)
    }

    private mutating func add(_ assignment: Assignment) {
        // The schema has one session for both.
        assert(assignment.template.session == assignment.attempt.task.session)
        let first = inputs.count
        for input in assignment.inputs { add(input) }
        assignments.append(
            cc_assignment(
                attempt: cc_id(assignment.attempt), template_index: assignment.template.index, first_output: assignment.firstOutput,
                array_index: assignment.arrayIndex, loss_count: UInt32(assignment.lossCount), arguments: bytes.add(assignment.arguments),
                name: bytes.add(assignment.name),
                inputs: cc_range(from: first, to: inputs.count)))
    }

    private mutating func add(_ input: InputAssignment) {
        var plain = cc_input()
        plain.replica = cc_id(input.replica)
        plain.size_bytes = input.sizeBytes
        plain.content_type = bytes.add(input.contentType)
        plain.attributes = bytes.add(input.attributes)
        plain.is_directory = input.isDirectory ? 1 : 0
        switch input.source {
        case .held: plain.source = UInt32(CC_SOURCE_HELD)
        case .inline(let value):
            plain.source = UInt32(CC_SOURCE_INLINE)
            plain.value = bytes.add(value)
        case .expect(let attempt):
            plain.source = UInt32(CC_SOURCE_EXPECT)
            plain.expected = cc_id(attempt)
        case .fetch(let holders):
            plain.source = UInt32(CC_SOURCE_FETCH)
            let first = endpoints.count
            for holder in holders { endpoints.append(plainEndpoint(holder)) }
            plain.endpoints = cc_range(from: first, to: endpoints.count)
        }
        inputs.append(plain)
    }

    private mutating func add(_ attempt: AttemptID, _ value: FinishedAttempt) {
        let first = finishedOutputs.count
        for output in value.outputs {
            finishedOutputs.append(
                cc_finished_output(
                    size_bytes: output.sizeBytes, content_type: bytes.add(output.contentType), attributes: bytes.add(output.attributes),
                    value: bytes.add(output.inline ?? []), is_directory: output.isDirectory ? 1 : 0, is_inline: output.inline == nil ? 0 : 1))
        }
        finished.append(
            cc_finished(
                attempt: cc_id(attempt), started_unix_microseconds: value.startedUnixMicroseconds,
                duration_nanoseconds: value.durationNanoseconds, debug: bytes.add(value.debug), attributes: bytes.add(value.attributes),
                outputs: cc_range(from: first, to: finishedOutputs.count)))
    }
}
