import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

/// What comes from subworkers. Nothing in it is trusted.
extension WorkerShell {
    /// Larger outputs must be files.
    private static let inlineOutputBytesMax: UInt32 = 64 * 1024
    private static let creditBytesMax: UInt64 = 16 << 20

    func subworkerReady(_ id: SubworkerID, _ ready: rain_ready) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }
        if ready.readable || ready.ended { readAll(subworker) }
        if ready.writable, subworker.isSocketOpen { flush(subworker) }
    }

    func readAll(_ subworker: SubworkerProcess) {
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
            let advice = if case .tooLarge = failure { ": give outputs as files in its staging directory" } else { "" }
            condemn(subworker, TaskError(.contract, "subworker '\(subworker.command.name)' sent what is no message: \(failure)\(advice)"))
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
        case .reserve(let reserve):
            guard let slot = Int(exactly: reserve.slot), slot < ControlPage.slotCount, subworker.calls[slot] != nil else {
                return condemn(
                    subworker, TaskError(.contract, "subworker '\(name)' asked for room for a call that it does not have (slot \(reserve.slot))"))
            }
            events.append(.reserve(subworker.id, slot: UInt8(slot), file: reserve.file, sizeBytes: reserve.sizeBytes))
        case .progress(let list):
            // Of a call that was answered a moment ago it is late, and no reason to end a process.
            let news = list.compactMap { each in
                UInt8(exactly: each.slot).flatMap { Int($0) < ControlPage.slotCount ? CallProgress(slot: $0, progress: each.progress) : nil }
            }
            if !news.isEmpty { events.append(.progress(subworker.id, ContiguousArray(news))) }
        }
    }

    private func register(_ subworker: SubworkerProcess, _ registration: SubworkerRegistration) {
        let name = subworker.command.name
        guard registration.protocolVersion == subworkerProtocolVersion else {
            let library = registration.library.isEmpty ? "the subworker" : String(registration.library.prefix(100))
            return refuse(
                subworker,
                "this worker speaks version \(subworkerProtocolVersion) of the subworker protocol, \(library) speaks version \(registration.protocolVersion): build subworker '\(name)' with the library of this version of Rain"
            )
        }
        guard registration.name.isEmpty || registration.name == name else {
            return refuse(
                subworker,
                "the subworker calls itself '\(registration.name.prefix(100))' but was started as '\(name)': give both the same name")
        }
        subworker.isRegistered = true
        subworker.takesDescriptors = registration.takesDescriptors
        subworker.usesPage = registration.hasControlPage
        send(
            .welcome(
                SubworkerWelcome(
                    workerName: options.name.isEmpty ? hostName : options.name, stagingDirectory: "\(store.path)/staging/\(subworker.stagingName)",
                    inlineBytesMax: Self.inlineOutputBytesMax, creditBytes: creditBytes, logLevel: options.logLevel?.rawValue ?? 0)), to: subworker)
        events.append(
            .subworkerRegistered(
                subworker.id,
                SubworkerCapabilities(
                    hasControlPage: registration.hasControlPage, threads: registration.threads, hasCaching: registration.hasCaching,
                    tasks: registration.tasks.map(\.name))))
    }

    /// Small outputs never ask: together they stay within what is never promised.
    private var creditBytes: UInt64 {
        guard store.disk != nil, let memory = store.memoryBytes else { return .max }
        return min(max(memory / 16 / UInt64(options.cpus), UInt64(Self.inlineOutputBytesMax)), Self.creditBytesMax)
    }

    /// The answer to `reserve`. What was decided by counting is checked against what the file systems say.
    func grant(_ id: SubworkerID, _ file: UInt32, _ sizeBytes: UInt64, _ heldBytes: UInt64, _ grant: Grant) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }  // Its end is on the way.
        switch grant {
        case .refused(let reason): send(.notGranted(file: file, reason: reason), to: subworker)
        case .memory where store.hasRoom(for: sizeBytes - min(heldBytes, sizeBytes), onDisk: false):
            send(.granted(file: file, directory: "\(store.path)/staging/\(subworker.stagingName)"), to: subworker)
        case .memory, .disk:
            guard let disk = store.disk, store.hasRoom(for: sizeBytes, onDisk: true) else {
                return send(.notGranted(file: file, reason: store.fullness(forBytes: sizeBytes)), to: subworker)
            }
            do throws(SystemError) {
                try subworker.makeStaging(on: disk)
                send(.granted(file: file, directory: "\(disk.path)/staging/\(subworker.stagingName)"), to: subworker)
            } catch {
                send(.notGranted(file: file, reason: "\(disk.path) can't be used: \(error)"), to: subworker)
            }
        }
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
            record?.end(block: subworker.block, slot: slot)
            subworker.page.free(slot)
            var directories: [StagedDirectory] = []
            var value = answer(result, call, subworker, &directories)
            if !call.exposed.isEmpty, var error = damage(by: call.template.template.type, call.exposed, call.template.template, advice: Self.callAdvice) {
                if case .outputs(let accepted) = value { giveUp(accepted, &directories, of: call) }
                error.debug = result.debug
                value = .failed(error)
            }
            let answer = CallAnswer(
                slot: UInt8(slot), durationNanoseconds: result.durationNanoseconds, debug: result.debug, attributes: result.attributes, result: value)
            if directories.isEmpty { answers.append(answer) } else { acceptLater(answer, directories, of: subworker) }
        }
        if !answers.isEmpty { events.append(.callsAnswered(subworker.id, answers)) }
    }

    /// The error of a task's code. One that found no room has mostly filled the store: nobody asks for what a function leaves in its working
    /// directory or puts into one that it makes.
    private func failure(_ message: String, _ detail: String, debug: String) -> CallAnswer.Result {
        let isFull = [ENOSPC, EDQUOT].contains { message.contains(errorText($0)) || detail.contains(errorText($0)) }
        guard isFull, !message.contains("--store-memory") else { return .failed(TaskError(.user, message, detail: detail, debug: debug)) }
        return .outOfRoom(
            TaskError(
                .resource, "\(message). Its working directory and what it makes lie in the worker's store: \(store.fullness())", detail: detail,
                debug: debug))
    }

    /// Outputs of a call that fails all the same.
    private func giveUp(_ accepted: [LocalOutput], _ directories: inout [StagedDirectory], of call: SubworkerProcess.Call) {
        for position in accepted.indices where accepted[position].value.isStored {
            let object = ObjectID(session: call.attempt.task.session, index: call.firstOutput &+ UInt32(truncatingIfNeeded: position))
            if store.remove(Replica(object: object, generation: call.attempt.generation)) { hasNewTrash = true }
        }
        for directory in directories where store.discard(directory.name, from: store.staging(onDisk: directory.isOnDisk)) { hasNewTrash = true }
        directories = []
    }

    /// - Parameter directories: gets those among the outputs that have to be accepted yet.
    private func answer(
        _ result: SubworkerResult, _ call: SubworkerProcess.Call, _ subworker: SubworkerProcess, _ directories: inout [StagedDirectory]
    ) -> CallAnswer.Result {
        switch result.value {
        case .cancelled: return .cancelled
        case .failed(let message, let detail):
            return failure(message.isEmpty ? "the task failed without a message" : message, detail, debug: result.debug)
        case .outputs(let outputs):
            let specs = call.template.template.outputs
            guard outputs.count == specs.count else {
                return .failed(
                    TaskError(.contract, "\(call.template.template.type) gave \(outputs.count) outputs, but its task has \(specs.count)", debug: result.debug))
            }
            var accepted: [LocalOutput] = []
            accepted.reserveCapacity(outputs.count)
            var readBytes = 0
            for (position, output) in outputs.enumerated() {
                let replica = Replica(
                    object: ObjectID(session: call.attempt.task.session, index: call.firstOutput &+ UInt32(truncatingIfNeeded: position)),
                    generation: call.attempt.generation)
                do throws(TaskError) {
                    let value = try accept(output, as: replica, call, subworker, position, readBytes: readBytes, &directories)
                    if case .inline(let bytes) = value { readBytes += bytes.count }
                    accepted.append(
                        LocalOutput(contentType: output.contentType, attributes: output.attributes, isDirectory: specs[position].isDirectory, value: value))
                } catch {
                    giveUp(accepted, &directories, of: call)
                    var error = error
                    error.debug = result.debug
                    return .failed(error)
                }
            }
            return .outputs(accepted)
        }
    }

    private func accept(
        _ output: SubworkerOutput, as replica: Replica, _ call: SubworkerProcess.Call, _ subworker: SubworkerProcess, _ position: Int,
        readBytes: Int, _ directories: inout [StagedDirectory]
    ) throws(TaskError) -> LocalOutput.Value {
        let type = call.template.template.type
        let label = call.template.template.outputs[position].label
        let name = "output \(position)\(label.isEmpty ? "" : " ('\(label)')")"
        let isDirectory = call.template.template.outputs[position].isDirectory
        switch output.value {
        case .inline, .path:
            if isDirectory, !output.isDirectory { throw TaskError(.contract, "\(type) gave a file as \(name), which is declared as a directory") }
            if !isDirectory, output.isDirectory { throw TaskError(.contract, "\(type) gave a directory as \(name), which is declared as a file") }
        case .sameAsInput: break
        }
        switch output.value {
        case .sameAsInput(let input):
            guard Int(input) < call.inputCount else {
                throw TaskError(.contract, "\(type) gave its input \(input) as \(name), but has \(call.inputCount) inputs")
            }
            return .sameAsInput(input)
        case .inline where isDirectory: throw TaskError(.contract, "\(type) gave bytes as \(name), which is a directory: give the path of one")
        case .inline(let bytes):
            if bytes.count <= ControlLimits.inlineBytesMax { return .inline(bytes) }
            do throws(SystemError) {
                let isOnDisk = try store.write(bytes, as: replica)
                return .stored(sizeBytes: UInt64(bytes.count), isOnDisk: isOnDisk)
            } catch {
                throw store.taskError(error, doing: "\(type): \(name) of \(bytes.count) bytes could not be stored")
            }
        case .path(let path):
            let isOnDisk = subworker.diskStaging >= 0 && path.hasPrefix("\(store.path(onDisk: true))/staging/\(subworker.stagingName)/")
            let prefix = "\(store.path(onDisk: isOnDisk))/staging/\(subworker.stagingName)/"
            let file = path.dropFirst(prefix.count)
            guard path.hasPrefix(prefix), !file.isEmpty, !file.utf8.contains(UInt8(ascii: "/")), file != ".", file != "..", !file.utf8.contains(0) else {
                throw TaskError(.contract, "\(type) gave '\(path)' as \(name), which does not lie in its staging directory")
            }
            let staging = isOnDisk ? subworker.diskStaging : subworker.staging.raw
            if isDirectory {
                let title = "\(type) gave '\(path)' as \(name)"
                directories.append(try stage(String(file), in: staging, onDisk: isOnDisk, position: position, as: replica, title: title))
                return .stored(sizeBytes: 0)
            }
            do throws(AcceptanceError) {
                return try store.accept(
                    String(file), in: staging, as: replica, onDisk: isOnDisk, inlineBytesMax: Store.inlineBytesMax(after: readBytes), mayCopyLong: false)
            } catch {
                switch error {
                case .missing: throw TaskError(.contract, "\(type) gave '\(path)' as \(name), but there is no such file")
                case .directory: throw TaskError(.contract, "\(type) gave '\(path)' as \(name), which is a directory")
                case .notAFile, .needsCopy, .notADirectory, .tree:
                    throw TaskError(.contract, "\(type) gave '\(path)' as \(name), which is not a file of its own")
                case .stillWritten:
                    throw TaskError(.contract, "\(type) gave '\(path)' as \(name), but still has it open for writing or mapped: close it first")
                case .system(let error): throw store.taskError(error, doing: "\(type): \(name) could not be taken")
                }
            }
        }
    }
}

extension LocalOutput.Value {
    fileprivate var isStored: Bool { if case .stored = self { true } else { false } }
}
