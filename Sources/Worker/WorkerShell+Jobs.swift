import CLinux
import Glibc
import TaskModel
import WorkerCore

/// A task that runs in the worker itself, or a program.
enum Job {
    case sleeping(JobRequest)
    /// On a thread of the pool.
    case blocking(StopFlag)
    /// A program whose inputs are being copied.
    case preparing(JobRequest, StopFlag)
    case program(RunningProgram)
    /// A program's outputs are being copied.
    case collecting(RunningProgram)

    func stop() {
        switch self {
        case .blocking(let flag), .preparing(_, let flag): flag.set()
        case .sleeping, .program, .collecting: break
        }
    }
}

extension WorkerShell {
    func runJob(_ token: JobToken, _ request: JobRequest) {
        guard let entry = entry(request.template) else {
            return fail(token, TaskError(.setup, "the worker was not told of template \(request.template)"))
        }
        let template = entry.template
        let outputCount = template.outputs.count
        do throws(TaskError) {
            switch template.type {
            case "builtin/run": try runProgram(token, request, entry)
            case "builtin/concat":
                try expect(request, template, inputs: nil, outputs: 1)
                try expectFiles(request, template)
                concat(token, request)
            case "builtin/sleep":
                try expect(request, template, inputs: outputCount, outputs: min(outputCount, 1))
                try sleep(token, request)
            case "builtin/load":
                try expect(request, template, inputs: 0, outputs: 1)
                if template.outputs[0].isDirectory { try loadDirectory(token, request) } else { try load(token, request) }
            case "builtin/make_directory":
                try expect(request, template, inputs: nil, outputs: 1)
                try expectDirectory(request, template)
                try makeDirectory(token, request)
            case "builtin/slice_directory":
                try expect(request, template, inputs: 1, outputs: 1)
                try expectDirectory(request, template, input: 0)
                try sliceDirectory(token, request, template)
            case "builtin/store":
                try expect(request, template, inputs: 1, outputs: 0)
                try store(token, request)
            case _:
                throw TaskError(
                    .setup,
                    "there is no built-in task '\(template.type)': there are builtin/concat, builtin/load, builtin/make_directory, builtin/run, "
                        + "builtin/sleep, builtin/slice_directory, builtin/store")
            }
        } catch {
            fail(token, error)
        }
    }

    func stopJob(_ token: JobToken) {
        switch jobs[token] {
        case .sleeping: endJob(token, .cancelled)
        case .blocking(let flag), .preparing(_, let flag): flag.set()
        case .program(let program): stopProgram(program)
        case .collecting(let program): program.stop.set()
        case nil: break  // It has just ended.
        }
    }

    func endJob(_ token: JobToken, _ result: JobResult) {
        jobs[token] = nil
        record?.end(job: token)
        events.append(.jobEnded(token, result))
    }
    func fail(_ token: JobToken, _ error: TaskError) { endJob(token, .failed(error)) }

    func output(_ request: JobRequest, _ position: Int) -> Replica {
        Replica(
            object: ObjectID(session: request.attempt.task.session, index: request.firstOutput &+ UInt32(truncatingIfNeeded: position)),
            generation: request.attempt.generation)
    }

    private func expect(_ request: JobRequest, _ template: TaskTemplate, inputs: Int?, outputs: Int) throws(TaskError) {
        if let inputs, request.inputs.count != inputs {
            throw TaskError(.setup, "\(template.type) takes \(inputs) inputs, not \(request.inputs.count)")
        }
        if template.outputs.count != outputs {
            throw TaskError(.setup, "\(template.type) has \(outputs) outputs, not \(template.outputs.count)")
        }
    }

    private func expectFiles(_ request: JobRequest, _ template: TaskTemplate) throws(TaskError) {
        if let position = request.inputs.firstIndex(where: \.isDirectory) {
            throw TaskError(.setup, "\(template.type) takes files, but \(inputName(position, template)) is a directory")
        }
        if template.outputs[0].isDirectory { throw TaskError(.setup, "\(template.type) makes a file, but its output is declared as a directory") }
    }

    /// - Parameter input: must be one too; `nil` when only the output must.
    private func expectDirectory(_ request: JobRequest, _ template: TaskTemplate, input: Int? = nil) throws(TaskError) {
        if let input {
            guard request.inputs[input].isDirectory else {
                throw TaskError(.setup, "\(template.type) takes a directory, but \(inputName(input, template)) is a file")
            }
        } else if !template.outputs[0].isDirectory {
            throw TaskError(.setup, "\(template.type) makes a directory, but its output is declared as a file: say `directory`")
        }
    }

    /// What messages call an input.
    func inputName(_ position: Int, _ template: TaskTemplate) -> String {
        let row = position - template.constants.count
        let label = template.inputLabels.indices.contains(row) ? template.inputLabels[row] : ""
        return "input \(position)\(label.isEmpty ? "" : " ('\(label)')")"
    }

    func arguments(_ request: JobRequest, of type: String) throws(TaskError) -> JSONValue {
        do throws(JSONError) { return try JSONParser.parse(request.arguments) } catch {
            throw TaskError(.setup, "the arguments of \(type) are not JSON: \(error)")
        }
    }

    func path(_ request: JobRequest, of type: String) throws(TaskError) -> String {
        guard let path = try arguments(request, of: type)["path"]?.string else {
            throw TaskError(.setup, "\(type) needs the arguments {\"path\": \"/absolute/path\"}")
        }
        guard path.hasPrefix("/"), !path.utf8.contains(0) else {
            throw TaskError(.setup, "\(type): the path '\(path)' must be absolute: it is one on the worker's machine")
        }
        return path
    }

    // MARK: sleep

    private func sleep(_ token: JobToken, _ request: JobRequest) throws(TaskError) {
        guard let seconds = try arguments(request, of: "builtin/sleep")["seconds"]?.number, seconds >= 0, seconds < 1e9 else {
            throw TaskError(.setup, "builtin/sleep needs the arguments {\"seconds\": 0.5}, with a number from 0")
        }
        jobs[token] = .sleeping(request)
        timers.set(.sleepOver(token), at: monotonicNanoseconds() &+ UInt64(seconds * 1e9))
    }

    func sleepOver(_ token: JobToken) {
        guard case .sleeping(let request) = jobs[token] else { return }  // It was stopped.
        let outputs = request.inputs.indices.map { LocalOutput(value: .sameAsInput(UInt16(truncatingIfNeeded: $0))) }
        endJob(token, .finished(outputs, durationNanoseconds: 0, debug: ""))
    }

    // MARK: Jobs that copy

    /// Runs `work` on a thread of the pool.
    ///
    /// - Parameter inputs: what it reads. Where somebody has written to one of them its end does not count.
    func runBlocking(_ token: JobToken, reading inputs: [LocalInput] = [], _ work: @escaping @Sendable (StopFlag) throws(TaskError) -> [LocalOutput]) {
        let flag = StopFlag()
        jobs[token] = .blocking(flag)
        pool.run { [store, mailbox] in
            let started = monotonicNanoseconds()
            let result: JobResult
            do throws(TaskError) {
                guard !flag.isSet else { return mailbox.post(.event(.jobEnded(token, .cancelled))) }
                let outputs = try work(flag)
                result = .finished(outputs, durationNanoseconds: monotonicNanoseconds() - started, debug: "")
            } catch {
                result = flag.isSet ? .cancelled : .failed(error)
            }
            let damaged = store.damaged(among: inputs)
            if !damaged.isEmpty { mailbox.post(.event(.foundDamaged(damaged))) }
            mailbox.post(.event(.jobEnded(token, result)))
        }
    }

    private func concat(_ token: JobToken, _ request: JobRequest) {
        let replica = output(request, 0)
        var bytes: [UInt8] = []
        let isInline = request.inputs.allSatisfy { if case .inline = $0.value { true } else { false } }
        if isInline, request.inputs.reduce(0, { $0 &+ $1.sizeBytes }) <= UInt64(ControlLimits.inlineBytesMax) {
            for input in request.inputs { if case .inline(let part) = input.value { bytes += part } }
            if bytes.count <= ControlLimits.inlineBytesMax {
                return endJob(token, .finished([LocalOutput(value: .inline(bytes))], durationNanoseconds: 0, debug: ""))
            }
        }
        runBlocking(token, reading: request.inputs) { [store] flag throws(TaskError) in
            do throws(SystemError) {
                var file = try store.makeFile(sizeBytes: request.inputs.reduce(0) { $0 &+ $1.sizeBytes }, onDisk: request.isOnDisk)
                var size: UInt64 = 0
                for input in request.inputs {
                    switch input.value {
                    case .inline(let part):
                        try file.descriptor.writeAll(part)
                        size += UInt64(part.count)
                    case .stored, .cached:
                        let source = try store.open(input.replica)
                        let copied = rain_copy(source.raw, file.descriptor.raw, flag.word)
                        guard copied >= 0 else { throw SystemError("copy", "object \(input.replica.object)", code: Int32(truncatingIfNeeded: 0 &- copied)) }
                        size += UInt64(copied)
                    }
                }
                if size <= UInt64(ControlLimits.inlineBytesMax) {
                    return [LocalOutput(value: .inline(try file.descriptor.read(count: Int(size))))]
                }
                try store.moveIn(&file, as: replica)
                return [LocalOutput(value: .stored(sizeBytes: size, isOnDisk: file.isOnDisk))]
            } catch {
                throw store.taskError(error, doing: "builtin/concat failed")
            }
        }
    }

    private func load(_ token: JobToken, _ request: JobRequest) throws(TaskError) {
        let path = try path(request, of: "builtin/load")
        let replica = output(request, 0)
        runBlocking(token) { [store, hostName] flag throws(TaskError) in
            do throws(SystemError) {
                let file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK)
                let status = try file.status()
                if status.isDirectory { throw SystemError("", code: EISDIR) }
                guard status.isRegular else { throw SystemError("", code: ENODEV) }
                return [LocalOutput(value: try store.copyIn(file, sizeBytes: status.sizeBytes, as: replica, onDisk: request.isOnDisk, stop: flag))]
            } catch {
                switch error.code {
                case ENOENT, ENOTDIR: throw TaskError(.user, "builtin/load: there is no file \(path) on host \(hostName)")
                case EISDIR: throw TaskError(.user, "builtin/load: \(path) is a directory: declare the output as a directory")
                case ENODEV: throw TaskError(.user, "builtin/load: \(path) is not a regular file")
                case EACCES: throw TaskError(.user, "builtin/load: the worker may not read \(path) on host \(hostName)")
                case _: throw store.taskError(error, doing: "builtin/load of \(path) failed")
                }
            }
        }
    }

    private func store(_ token: JobToken, _ request: JobRequest) throws(TaskError) {
        let path = try path(request, of: "builtin/store")
        let input = request.inputs[0]
        let temporary = "\(path).rain-\(request.attempt.task.session)-\(request.attempt.task.index)-\(getpid())"
        if input.isDirectory { return storeDirectory(token, request, to: path, temporary: temporary) }
        runBlocking(token, reading: request.inputs) { [store, hostName] flag throws(TaskError) in
            // Before anything is made; and its error is not to be taken for one of the path.
            var source: Int32 = -1
            switch input.value {
            case .inline: break
            case .stored, .cached:
                do throws(SystemError) { source = try store.open(input.replica).take() } catch {
                    let about = "its input, object \(input.replica.object), can't be read on host \(hostName)"
                    throw store.taskError(error, doing: "builtin/store of \(path): \(about)")
                }
            }
            defer { if source >= 0 { _ = close(source) } }
            do throws(SystemError) {
                var status = stat()
                if stat(path, &status) == 0, status.isDirectory { throw SystemError("", code: EISDIR) }
                do throws(SystemError) {
                    let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o644)
                    switch input.value {
                    case .inline(let bytes): try file.writeAll(bytes)
                    case .stored, .cached:
                        let copied = rain_copy(source, file.raw, flag.word)
                        guard copied >= 0 else { throw SystemError("write", path, code: Int32(truncatingIfNeeded: 0 &- copied)) }
                    }
                    guard fsync(file.raw) == 0 || errno == EINVAL else { throw SystemError("fsync", path, code: errno) }
                    guard rename(temporary, path) == 0 else { throw SystemError("rename to", path, code: errno) }
                } catch {
                    _ = unlink(temporary)
                    throw error
                }
                try syncDirectory(of: path)
                return []
            } catch {
                switch error.code {
                case ENOENT, ENOTDIR: throw TaskError(.user, "builtin/store: there is no directory for \(path) on host \(hostName): make it first")
                case EISDIR: throw TaskError(.user, "builtin/store: \(path) is a directory")
                case EACCES, EROFS, EPERM: throw TaskError(.user, "builtin/store: the worker may not write \(path) on host \(hostName)")
                case ENOSPC, EDQUOT: throw TaskError(.resource, "builtin/store: the disk of \(path) on host \(hostName) is full")
                case _: throw TaskError(.user, "builtin/store of \(path) failed: \(error)")
                }
            }
        }
    }
}

/// Makes a new name durable: a file whose name is lost with the power is none.
func syncDirectory(of path: String) throws(SystemError) {
    // By bytes: a "/" with a combining mark behind it is another character.
    let end = path.utf8.lastIndex(of: UInt8(ascii: "/")) ?? path.startIndex
    let directory = end == path.startIndex ? "/" : String(decoding: path.utf8[..<end], as: UTF8.self)
    let descriptor = rain_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0)
    // One that may be written to and not read: nobody can sync it.
    if descriptor == -EACCES { return }
    let opened = Descriptor(try check(descriptor, "open", directory))
    // Some file systems have nothing to sync there.
    guard fsync(opened.raw) == 0 || errno == EINVAL else { throw SystemError("fsync", directory, code: errno) }
}
