import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

extension WorkerShell {
    /// Larger outputs of subworkers must be files.
    private static let inlineOutputBytesMax: UInt32 = 64 * 1024
    /// Stored inputs up to here are sent as bytes: below it a copy is cheaper than a descriptor and a map.
    private static let inlineInputBytesMax: UInt64 = 32 * 1024
    /// The kernel takes 253 with one message.
    private static let descriptorCountMax = 250
    private static let messageBytesMax = 1 << 20
    private static let logTailBytes = 16 * 1024

    // MARK: Start

    func startSubworker(_ id: SubworkerID, _ command: SubworkerCommand) {
        do throws(TaskError) {
            try start(id, command)
        } catch {
            events.append(.subworkerEnded(id, evidence: error, running: SlotSet()))
        }
    }

    private func start(_ id: SubworkerID, _ command: SubworkerCommand) throws(TaskError) {
        guard var program = command.arguments.first, !program.isEmpty else {
            throw TaskError(.setup, "subworker '\(command.name)' has no command")
        }
        // It starts in a directory of its own, so what is relative to ours must be said in full.
        if program.utf8.contains(UInt8(ascii: "/")), !program.hasPrefix("/"), let here = currentDirectory() { program = here + "/" + program }
        do throws(SystemError) {
            let logPath = logPath(id, command)
            let log = try Descriptor.open(logPath, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, mode: 0o644)
            let stagingName = "s\(id.rawValue)"
            let workName = "s\(id.rawValue)"
            try check(rain_mkdirat(store.staging, stagingName, 0o700), "make directory", stagingName)
            try check(rain_mkdirat(store.tasks, workName, 0o700), "make directory", workName)
            let staging = try Descriptor.open(stagingName, in: store.staging, O_RDONLY | O_DIRECTORY)
            let work = try Descriptor.open(workName, in: store.tasks, O_RDONLY | O_DIRECTORY)
            let page = try ControlPage()
            var ends: (Int32, Int32) = (-1, -1)
            let made = withUnsafeMutablePointer(to: &ends) {
                $0.withMemoryRebound(to: Int32.self, capacity: 2) { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, $0) }
            }
            guard made == 0 else { throw SystemError("socketpair", code: errno) }
            let ours = Descriptor(ends.0)
            let theirs = Descriptor(ends.1)
            let environment = environment(command.environment)
            let pid = try environment.spawn(
                program, [command.arguments[0]] + command.arguments.dropFirst(),
                additions: ["RAIN_SUBWORKER_SOCKET=3", "RAIN_SUBWORKER_NAME=\(command.name)", "RAIN_CONTROL_PAGE=4"],
                directory: work.raw, standard: (nullDevice, log.raw, log.raw), inherited: [theirs.raw, 3, page.descriptor.raw, 4])
            owners[pid] = .subworker(id)
            let socket = ours.take()
            subworkers[id] = SubworkerProcess(
                id: id, command: command, pid: pid, socket: socket, page: page, log: log, logPath: logPath, stagingName: stagingName, staging: staging)
            try check(rain_epoll_watch(epoll, socket, LoopToken.subworker(id), false), "epoll_ctl")
        } catch {
            switch error.code {
            case ENOENT where error.call != "open", ENOTDIR where error.call == "start":
                throw TaskError(
                    .setup,
                    "subworker '\(command.name)' can't be started: program '\(program)' was not found on host \(hostName): install it there, or correct its command")
            case EACCES where error.call == "start":
                throw TaskError(.setup, "subworker '\(command.name)' can't be started: '\(program)' is not executable on host \(hostName)")
            case _: throw store.taskError(error, doing: "subworker '\(command.name)' could not be started")
            }
        }
    }

    private func logPath(_ id: SubworkerID, _ command: SubworkerCommand) -> String {
        let name = String(command.name.map { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" ? $0 : "_" }.prefix(100))
        return "\(options.logDirectory)/subworkers/\(name)-\(id.rawValue).log"
    }

    // MARK: To it

    func call(_ id: SubworkerID, _ requests: ContiguousArray<CallRequest>) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }  // Its end is on the way, and answers for these.
        var templates: [SubworkerTemplate] = []
        var calls: [SubworkerCall] = []
        var descriptors: [Int32] = []
        var bytes = 0
        var refused: ContiguousArray<CallAnswer> = []
        for request in requests {
            let job = request.job
            guard let entry = entry(job.template), Int(request.slot) < ControlPage.slotCount, subworker.calls[Int(request.slot)] == nil else {
                refused.append(
                    CallAnswer(
                        slot: request.slot, result: .failed(TaskError(.setup, "the worker was not told of template \(job.template), or its slot is taken"))))
                continue
            }
            let size = 256 + job.arguments.count + job.inputs.reduce(0) { $0 + 96 + ($1.inlineSize(max: Self.inlineInputBytesMax)) }
            let descriptorCount = subworker.takesDescriptors ? job.inputs.count { $0.value == .stored } : 0
            if !calls.isEmpty, bytes + size > Self.messageBytesMax || descriptors.count + descriptorCount > Self.descriptorCountMax {
                send(templates, calls, descriptors, to: subworker)
                (templates, calls, descriptors, bytes) = ([], [], [], 0)
            }
            let before = descriptors.count
            do throws(TaskError) {
                var inputs: [SubworkerInput] = []
                inputs.reserveCapacity(job.inputs.count)
                for input in job.inputs { inputs.append(try place(input, for: subworker, descriptors: &descriptors)) }
                let (number, isNew) = subworker.number(of: job.template)
                if isNew { templates.append(Self.template(entry.template, number)) }
                subworker.calls[Int(request.slot)] = SubworkerProcess.Call(
                    attempt: job.attempt, template: entry, firstOutput: job.firstOutput, inputCount: job.inputs.count)
                let ticket = subworker.page.queue(Int(request.slot))
                calls.append(
                    SubworkerCall(
                        slot: request.slot, template: number, attempt: job.attempt, arguments: job.arguments, inputs: inputs,
                        arrayIndex: job.arrayIndex, ticket: ticket))
                bytes += size
            } catch {
                for descriptor in descriptors[before...] { _ = close(descriptor) }
                descriptors.removeLast(descriptors.count - before)
                refused.append(CallAnswer(slot: request.slot, result: .failed(error)))
            }
        }
        send(templates, calls, descriptors, to: subworker)
        if !refused.isEmpty { events.append(.callsAnswered(id, refused)) }
    }

    private func place(_ input: LocalInput, for subworker: SubworkerProcess, descriptors: inout [Int32]) throws(TaskError) -> SubworkerInput {
        let location: SubworkerInput.Location
        switch input.value {
        case .inline(let bytes): location = .inline(bytes)
        case .cached: location = .cached
        case .stored where input.isDirectory: location = .path(store.path(input.replica))
        case .stored:
            do throws(SystemError) {
                if input.sizeBytes <= Self.inlineInputBytesMax {
                    location = .inline(try store.open(input.replica).read(count: Int(input.sizeBytes)))
                } else if subworker.takesDescriptors, descriptors.count < Self.descriptorCountMax {
                    descriptors.append(try store.open(input.replica).take())
                    location = .descriptor(UInt16(descriptors.count - 1))
                } else {
                    location = .path(store.path(input.replica))
                }
            } catch {
                throw store.taskError(error, doing: "input object \(input.replica.object) could not be opened")
            }
        }
        return SubworkerInput(
            replica: input.replica, sizeBytes: input.sizeBytes, contentType: input.contentType, isDirectory: input.isDirectory, isKept: input.isKept,
            location: location)
    }

    private static func template(_ template: TaskTemplate, _ number: UInt32) -> SubworkerTemplate {
        SubworkerTemplate(
            id: number, method: String(template.method), name: template.title, config: template.config, inputLabels: template.inputLabels,
            outputs: template.outputs, attributes: template.attributes, constantCount: UInt16(clamping: template.constants.count))
    }

    private func send(_ templates: [SubworkerTemplate], _ calls: [SubworkerCall], _ descriptors: [Int32], to subworker: SubworkerProcess) {
        if !templates.isEmpty { send(.templates(templates), to: subworker) }
        if !calls.isEmpty { send(.calls(calls), descriptors, to: subworker) }
    }

    private func send(_ message: ToSubworker, _ descriptors: [Int32] = [], to subworker: SubworkerProcess) {
        do throws(WireError) {
            try subworker.append(message, descriptors: descriptors, with: &codec)
        } catch {
            condemn(subworker, TaskError(.setup, "a message for subworker '\(subworker.command.name)' can't be written: \(error)"))
            return
        }
        if !subworker.isUnsent {
            subworker.isUnsent = true
            unsent.append(subworker.id)
        }
    }

    /// Writes what waits, as far as the socket takes it.
    func flush(_ subworker: SubworkerProcess) {
        subworker.isUnsent = false
        guard subworker.isSocketOpen else { return }
        while !subworker.outgoing.isEmpty {
            let result = subworker.outgoing[0].send(to: subworker.socket)
            if result == -Int64(EAGAIN) || result == -Int64(ETOOMANYREFS) { break }
            guard result >= 0 else { break }  // It has ended, or is ending: that comes as an event of its own.
            if subworker.outgoing[0].isSent { subworker.outgoing.removeFirst() }
        }
        let isBlocked = !subworker.outgoing.isEmpty
        if isBlocked != subworker.isWatchedForWriting {
            subworker.isWatchedForWriting = isBlocked
            _ = rain_epoll_watch(epoll, subworker.socket, LoopToken.subworker(subworker.id), isBlocked)
        }
    }

    func recall(_ id: SubworkerID, _ slots: SlotSet) {
        var taken = SlotSet()
        if let subworker = subworkers[id], subworker.usesPage {
            for slot in 0..<ControlPage.slotCount where slots.contains(UInt8(slot)) && subworker.calls[slot] != nil {
                guard subworker.page.recall(slot) else { continue }
                subworker.calls[slot] = nil
                taken.insert(UInt8(slot))
            }
        }
        events.append(.recalled(id, slots: taken))
    }

    func dropCached(_ id: SubworkerID, _ replicas: [Replica]) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }
        send(.dropCached(replicas), to: subworker)
    }

    func stopSubworker(_ id: SubworkerID, isKilled: Bool) {
        guard let subworker = subworkers[id] else { return }
        if isKilled {
            kill(-subworker.pid, SIGKILL)
        } else if subworker.isSocketOpen {
            send(.shutdown, to: subworker)
        }
    }

    /// It broke the protocol, or can't be spoken to.
    private func condemn(_ subworker: SubworkerProcess, _ verdict: TaskError) {
        if subworker.verdict == nil { subworker.verdict = verdict }
        kill(-subworker.pid, SIGKILL)
    }

    // MARK: From it

    func subworkerReady(_ id: SubworkerID, _ ready: rain_ready) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }
        if ready.readable || ready.ended { readAll(subworker) }
        if ready.writable, subworker.isSocketOpen { flush(subworker) }
    }

    private func readAll(_ subworker: SubworkerProcess) {
        while subworker.isSocketOpen {
            var dropped: UInt32 = 0
            let result = rain_receive(subworker.socket, receiveBuffer.baseAddress, receiveBuffer.count, &dropped)
            if result == -Int64(EAGAIN) { return }
            if result <= 0 { return socketEnded(subworker) }
            guard dropped == 0 else {
                return condemn(subworker, TaskError(.contract, "subworker '\(subworker.command.name)' sent descriptors, which a worker does not take"))
            }
            takeMessages(UnsafeRawBufferPointer(rebasing: receiveBuffer[..<Int(result)]), from: subworker)
            if result < receiveBuffer.count { return }
        }
    }

    private func takeMessages(_ bytes: UnsafeRawBufferPointer, from subworker: SubworkerProcess) {
        guard subworker.verdict == nil else { return }
        var messages: [FromSubworker] = []
        var failure: WireError?
        if subworker.received.isEmpty {
            let consumed = decode(bytes, into: &messages, &failure)
            subworker.received.append(contentsOf: bytes[consumed...])
        } else {
            subworker.received.append(contentsOf: bytes)
            let consumed = subworker.received.withUnsafeBytes { decode($0, into: &messages, &failure) }
            subworker.received.removeFirst(consumed)
        }
        for message in messages where subworker.verdict == nil { receive(message, from: subworker) }
        if let failure {
            condemn(subworker, TaskError(.contract, "subworker '\(subworker.command.name)' sent what is no message: \(failure)"))
        }
    }

    private func decode(_ bytes: UnsafeRawBufferPointer, into messages: inout [FromSubworker], _ failure: inout WireError?) -> Int {
        do throws(WireError) { return try codec.decode(bytes, into: &messages) } catch {
            failure = error
            return bytes.count
        }
    }

    private func receive(_ message: FromSubworker, from subworker: SubworkerProcess) {
        let name = subworker.command.name
        switch message {
        case .register(let registration):
            guard !subworker.isRegistered else { return condemn(subworker, TaskError(.contract, "subworker '\(name)' registered twice")) }
            register(subworker, registration)
        case .results(let results):
            guard subworker.isRegistered else { return condemn(subworker, TaskError(.contract, "subworker '\(name)' sent results before it registered")) }
            takeResults(results, from: subworker)
        case .pong: break
        }
    }

    private func register(_ subworker: SubworkerProcess, _ registration: SubworkerRegistration) {
        let name = subworker.command.name
        guard registration.protocolVersion == subworkerProtocolVersion else {
            return refuse(
                subworker,
                "this worker speaks version \(subworkerProtocolVersion) of the subworker protocol, \(registration.library) speaks version \(registration.protocolVersion): build subworker '\(name)' with the library of this version of Rain"
            )
        }
        guard registration.name.isEmpty || registration.name == name else {
            return refuse(
                subworker,
                "the subworker calls itself '\(registration.name)' but was started as '\(name)': give both the same name")
        }
        subworker.isRegistered = true
        subworker.takesDescriptors = registration.takesDescriptors
        subworker.usesPage = registration.hasControlPage
        send(
            .welcome(
                SubworkerWelcome(
                    workerName: options.name.isEmpty ? hostName : options.name, stagingDirectory: "\(store.path)/staging/\(subworker.stagingName)",
                    inlineBytesMax: Self.inlineOutputBytesMax)), to: subworker)
        events.append(
            .subworkerRegistered(
                subworker.id,
                SubworkerCapabilities(
                    hasControlPage: registration.hasControlPage, threads: registration.threads, hasCaching: registration.hasCaching,
                    tasks: registration.tasks.map(\.name))))
    }

    /// Tells it why, and ends it when it has had the time to read that.
    private func refuse(_ subworker: SubworkerProcess, _ reason: String) {
        subworker.verdict = TaskError(.setup, "subworker '\(subworker.command.name)' was refused: \(reason)")
        send(.refused(reason: reason), to: subworker)
        flush(subworker)
        _ = shutdown(subworker.socket, Int32(SHUT_RDWR))
        timers.set(.endSubworker(subworker.id), at: monotonicNanoseconds() &+ 1_000_000_000)
    }
    func endSubworker(_ id: SubworkerID) { if let subworker = subworkers[id] { kill(-subworker.pid, SIGKILL) } }

    private func takeResults(_ results: [SubworkerResult], from subworker: SubworkerProcess) {
        var answers: ContiguousArray<CallAnswer> = []
        answers.reserveCapacity(results.count)
        for result in results {
            guard let slot = Int(exactly: result.slot), slot < ControlPage.slotCount, let call = subworker.calls[slot] else {
                condemn(subworker, TaskError(.contract, "subworker '\(subworker.command.name)' answered a call that it does not have (slot \(result.slot))"))
                break
            }
            subworker.calls[slot] = nil
            subworker.page.free(slot)
            answers.append(
                CallAnswer(
                    slot: UInt8(slot), durationNanoseconds: result.durationNanoseconds, debug: result.debug, attributes: result.attributes,
                    result: answer(result, call, subworker)))
        }
        if !answers.isEmpty { events.append(.callsAnswered(subworker.id, answers)) }
    }

    private func answer(_ result: SubworkerResult, _ call: SubworkerProcess.Call, _ subworker: SubworkerProcess) -> CallAnswer.Result {
        switch result.value {
        case .cancelled: return .cancelled
        case .failed(let message, let detail):
            return .failed(TaskError(.user, message.isEmpty ? "the task failed without a message" : message, detail: detail, debug: result.debug))
        case .outputs(let outputs):
            let specs = call.template.template.outputs
            guard outputs.count == specs.count else {
                return .failed(
                    TaskError(.contract, "\(call.template.template.type) gave \(outputs.count) outputs, but its task has \(specs.count)", debug: result.debug))
            }
            var accepted: [LocalOutput] = []
            accepted.reserveCapacity(outputs.count)
            for (position, output) in outputs.enumerated() {
                let replica = Replica(
                    object: ObjectID(session: call.attempt.task.session, index: call.firstOutput &+ UInt32(truncatingIfNeeded: position)),
                    generation: call.attempt.generation)
                do throws(TaskError) {
                    let value = try accept(output, as: replica, call, subworker, position)
                    accepted.append(LocalOutput(contentType: output.contentType, attributes: output.attributes, value: value))
                } catch {
                    for earlier in accepted.indices where accepted[earlier].value.isStored {
                        _ = store.remove(
                            Replica(
                                object: ObjectID(session: call.attempt.task.session, index: call.firstOutput &+ UInt32(truncatingIfNeeded: earlier)),
                                generation: call.attempt.generation))
                    }
                    var error = error
                    error.debug = result.debug
                    return .failed(error)
                }
            }
            return .outputs(accepted)
        }
    }

    private func accept(
        _ output: SubworkerOutput, as replica: Replica, _ call: SubworkerProcess.Call, _ subworker: SubworkerProcess, _ position: Int
    ) throws(TaskError) -> LocalOutput.Value {
        let type = call.template.template.type
        let label = call.template.template.outputs[position].label
        let name = "output \(position)\(label.isEmpty ? "" : " ('\(label)')")"
        if output.isDirectory || call.template.template.outputs[position].isDirectory {
            throw TaskError(.setup, "\(type): directories as objects are not supported (\(name))")
        }
        switch output.value {
        case .sameAsInput(let input):
            guard Int(input) < call.inputCount else {
                throw TaskError(.contract, "\(type) gave its input \(input) as \(name), but has \(call.inputCount) inputs")
            }
            return .sameAsInput(input)
        case .inline(let bytes):
            if bytes.count <= ControlLimits.inlineBytesMax { return .inline(bytes) }
            do throws(SystemError) {
                try store.write(bytes, as: replica)
                return .stored(sizeBytes: UInt64(bytes.count))
            } catch {
                throw store.taskError(error, doing: "\(type): \(name) of \(bytes.count) bytes could not be stored")
            }
        case .path(let path):
            let prefix = "\(store.path)/staging/\(subworker.stagingName)/"
            let file = path.dropFirst(prefix.count)
            guard path.hasPrefix(prefix), !file.isEmpty, !file.utf8.contains(UInt8(ascii: "/")), file != ".", file != "..", !file.utf8.contains(0) else {
                throw TaskError(.contract, "\(type) gave '\(path)' as \(name), which does not lie in its staging directory")
            }
            do throws(AcceptanceError) {
                return try store.accept(String(file), in: subworker.staging.raw, as: replica, mayCopyLong: false)
            } catch {
                switch error {
                case .missing: throw TaskError(.contract, "\(type) gave '\(path)' as \(name), but there is no such file")
                case .directory: throw TaskError(.contract, "\(type) gave '\(path)' as \(name), which is a directory")
                case .notAFile, .needsCopy: throw TaskError(.contract, "\(type) gave '\(path)' as \(name), which is not a file of its own")
                case .stillWritten:
                    throw TaskError(.contract, "\(type) gave '\(path)' as \(name), but still has it open for writing or mapped: close it first")
                case .system(let error): throw store.taskError(error, doing: "\(type): \(name) could not be taken")
                }
            }
        }
    }

    // MARK: End

    private func socketEnded(_ subworker: SubworkerProcess) {
        guard subworker.isSocketOpen else { return }
        subworker.isSocketOpen = false
        _ = rain_epoll_forget(epoll, subworker.socket)
        _ = close(subworker.socket)
        // Without its socket it is of no use. One that ends by itself gets a moment for that, so that its own cause is seen.
        if owners[subworker.pid] != nil { timers.set(.endSubworker(subworker.id), at: monotonicNanoseconds() &+ 100_000_000) }
    }

    /// The process is reaped: what it said last is read, then its end is told.
    func subworkerProcessEnded(_ id: SubworkerID, _ ended: rain_ended) {
        guard let subworker = subworkers[id] else { return }
        kill(-subworker.pid, SIGKILL)
        if subworker.isSocketOpen { readAll(subworker) }
        socketEnded(subworker)
        var running = SlotSet()
        for slot in 0..<ControlPage.slotCount where subworker.calls[slot] != nil {
            if !subworker.usesPage || subworker.page.state(slot) == .running { running.insert(UInt8(slot)) }
        }
        subworkers[id] = nil
        if store.discard(subworker.stagingName, from: store.staging) { hasNewTrash = true }
        if store.discard(subworker.stagingName, from: store.tasks) { hasNewTrash = true }
        events.append(.subworkerEnded(id, evidence: evidence(subworker, ended), running: running))
    }

    private func evidence(_ subworker: SubworkerProcess, _ ended: rain_ended) -> TaskError {
        let tail = subworker.log.tail(bytesMax: Self.logTailBytes)
        if var verdict = subworker.verdict {
            if verdict.detail.isEmpty { verdict.detail = tail }
            return verdict
        }
        let name = subworker.command.name
        let how =
            ended.signal != 0
            ? "was ended by signal \(ended.signal) (\(signalName(ended.signal)))" : "exited with code \(ended.exit_code)"
        let exitCode = ended.signal == 0 ? ended.exit_code : nil
        let signal = ended.signal == 0 ? nil : ended.signal
        guard subworker.isRegistered else {
            return TaskError(
                .setup, "subworker '\(name)' \(how) before it registered: see its log, \(subworker.logPath) on host \(hostName)", detail: tail,
                exitCode: exitCode, signal: signal)
        }
        return TaskError(
            .crash, "subworker '\(name)' \(how); its log is \(subworker.logPath) on host \(hostName)", detail: tail, exitCode: exitCode, signal: signal)
    }
}

extension SubworkerProcess.Segment {
    var isSent: Bool { sentBytes == bytes.count }

    /// Sends as much as the socket takes; the descriptors go with the first byte and are closed then.
    ///
    /// - Returns: bytes sent, or -errno.
    mutating func send(to socket: Int32) -> Int64 {
        let result = bytes.withUnsafeBytes { bytes in
            descriptors.withUnsafeBufferPointer { descriptors in
                rain_send(socket, bytes.baseAddress! + sentBytes, bytes.count - sentBytes, descriptors.baseAddress, descriptors.count)
            }
        }
        if result > 0 {
            sentBytes += Int(result)
            for descriptor in descriptors { _ = close(descriptor) }
            descriptors = []
        }
        return result
    }
}

extension LocalInput {
    /// Bytes that it adds to a message.
    fileprivate func inlineSize(max: UInt64) -> Int {
        switch value {
        case .inline(let bytes): bytes.count
        case .stored: sizeBytes <= max ? Int(sizeBytes) : 0
        case .cached: 0
        }
    }
}

extension LocalOutput.Value {
    fileprivate var isStored: Bool { if case .stored = self { true } else { false } }
}

func currentDirectory() -> String? {
    guard let path = getcwd(nil, 0) else { return nil }
    defer { free(path) }
    return String(cString: path)
}
