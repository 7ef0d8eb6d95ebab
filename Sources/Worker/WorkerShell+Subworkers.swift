import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

extension WorkerShell {
    private static let logTailBytes = 16 * 1024

    // MARK: Start

    /// - Parameter path: of the program, when the command names none.
    func startSubworker(_ id: SubworkerID, _ command: SubworkerCommand, path: String?) {
        do throws(TaskError) {
            try start(id, command, path)
        } catch {
            events.append(.subworkerEnded(id, evidence: error, running: SlotSet()))
        }
    }

    private func start(_ id: SubworkerID, _ command: SubworkerCommand, _ path: String?) throws(TaskError) {
        guard var program = path ?? command.arguments.first, !program.isEmpty else {
            throw TaskError(.setup, "subworker '\(command.name)' has no command")
        }
        // It starts in a directory of its own, so what is relative to ours must be said in full.
        if program.utf8.contains(UInt8(ascii: "/")), !program.hasPrefix("/"), let here = currentDirectory() { program = here + "/" + program }
        do throws(SystemError) {
            try launch(id, command, program)
        } catch {
            throw startError(error, command, program)
        }
    }

    private func launch(_ id: SubworkerID, _ command: SubworkerCommand, _ program: String) throws(SystemError) {
        let logPath = logPath(id, command)
        let name = "s\(id.rawValue)"
        do throws(SystemError) {
            let log = try Descriptor.open(logPath, O_RDWR | O_CREAT | O_TRUNC | O_APPEND, mode: 0o600)
            try check(rain_mkdirat(store.staging, name, 0o700), "make directory", name)
            try check(rain_mkdirat(store.tasks, name, 0o700), "make directory", name)
            let staging = try Descriptor.open(name, in: store.staging, O_RDONLY | O_DIRECTORY)
            let work = try Descriptor.open(name, in: store.tasks, O_RDONLY | O_DIRECTORY)
            let page = try ControlPage()
            var ends: (Int32, Int32) = (-1, -1)
            let made = withUnsafeMutablePointer(to: &ends) {
                $0.withMemoryRebound(to: Int32.self, capacity: 2) { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, $0) }
            }
            guard made == 0 else { throw SystemError("socketpair", code: errno) }
            let ours = Descriptor(ends.0)
            let theirs = Descriptor(ends.1)
            let environment = environment(command.environment)
            let pid = try retryWhileWritten { () throws(SystemError) in
                try environment.spawn(
                    program, command.arguments,
                    additions: ["RAIN_SUBWORKER_SOCKET=3", "RAIN_SUBWORKER_NAME=\(command.name)", "RAIN_CONTROL_PAGE=4"],
                    directory: work.raw, standard: (nullDevice, log.raw, log.raw), inherited: [theirs.raw, 3, page.descriptor.raw, 4])
            }
            owners[pid] = .subworker(id)
            let subworker = SubworkerProcess(
                id: id, command: command, pid: pid, socket: ours.take(), page: page, log: log, logPath: logPath, stagingName: name, staging: staging)
            subworker.block = record?.takeBlock()
            subworkers[id] = subworker
            watchLogs()
            let result = rain_epoll_watch(epoll, subworker.socket, LoopToken.subworker(id), false)
            if result < 0 {
                condemn(subworker, store.taskError(SystemError("epoll_ctl", code: 0 &- result), doing: "subworker '\(command.name)' can't be heard"))
            }
        } catch {
            // Of a process that never was.
            _ = unlink(logPath)
            for directory in [store.staging, store.tasks] { _ = rain_remove_tree(directory, name) }
            throw error
        }
    }

    private func startError(_ error: SystemError, _ command: SubworkerCommand, _ program: String) -> TaskError {
        // What was copied here keeps its place a secret: people know it by its name.
        let shown = command.source.map { $0.path.isEmpty ? command.name : $0.path } ?? program
        switch error.code {
        case ENOENT where error.call == "start" && access(program, F_OK) == 0:
            let complaint = ProgramFile(path: program)?.complaint(host: hostName) ?? "it can't be read"
            return TaskError(.setup, "subworker '\(command.name)' can't be started: '\(shown)' is no program for host \(hostName): \(complaint)")
        case ENOENT where command.source != nil && error.call == "start", ENOTDIR where command.source != nil && error.call == "start":
            return TaskError(.setup, "subworker '\(command.name)' can't be started: there is no '\(shown)' in the directory that the client gave")
        case ENOENT where error.call != "open", ENOTDIR where error.call == "start":
            return TaskError(
                .setup,
                "subworker '\(command.name)' can't be started: program '\(program)' was not found on host \(hostName): install it there, or correct its command"
            )
        case EACCES where error.call == "start":
            return TaskError(.setup, "subworker '\(command.name)' can't be started: '\(shown)' is not executable on host \(hostName)")
        case _: return store.taskError(error, doing: "subworker '\(command.name)' could not be started")
        }
    }

    private func logPath(_ id: SubworkerID, _ command: SubworkerCommand) -> String {
        let name = String(command.name.map { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" ? $0 : "_" }.prefix(100))
        return "\(options.logDirectory)/subworkers/\(name)-\(id.rawValue).log"
    }

    func stopSubworker(_ id: SubworkerID, isKilled: Bool) {
        if !sessionPrograms.isEmpty, stopBeforeStart(id) { return }
        guard let subworker = subworkers[id] else { return }
        if isKilled {
            kill(-subworker.pid, SIGKILL)
        } else if subworker.isSocketOpen {
            send(.shutdown, to: subworker)
        }
    }

    /// Its own memory alone: files that it has mapped, objects among them, are the kernel's to take back.
    func measureMemory(_ id: SubworkerID) {
        guard let subworker = subworkers[id], let file = try? Descriptor.open("/proc/\(subworker.pid)/statm", O_RDONLY),
            let text = try? file.read(count: 128)
        else { return }
        let pages = text.split(separator: UInt8(ascii: " ")).prefix(3).compactMap { UInt64(String(decoding: $0, as: UTF8.self)) }
        guard pages.count == 3, pages[1] >= pages[2] else { return }
        events.append(.memoryMeasured(id, bytes: (pages[1] - pages[2]) &* UInt64(max(1, sysconf(Int32(_SC_PAGESIZE))))))
    }

    /// It broke the protocol, or can't be spoken to.
    func condemn(_ subworker: SubworkerProcess, _ verdict: TaskError) {
        if subworker.verdict == nil { subworker.verdict = verdict }
        // What it said last may be read when its number is another's.
        if owners[subworker.pid] != nil { kill(-subworker.pid, SIGKILL) }
    }

    // MARK: End

    func socketEnded(_ subworker: SubworkerProcess) {
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
        if subworker.isSocketOpen { readAll(subworker) }
        socketEnded(subworker)
        let (running, begun) = subworker.unansweredCalls()
        for case let call? in subworker.calls { _ = damage(by: "", call.exposed, call.template.template, advice: Self.callAdvice) }
        subworkers[id] = nil
        record?.freeBlock(subworker.block)
        if store.discard(subworker.stagingName, from: store.staging) { hasNewTrash = true }
        if store.discard(subworker.stagingName, from: store.tasks) { hasNewTrash = true }
        if subworker.diskStaging >= 0, store.discard(subworker.stagingName, from: store.staging(onDisk: true)) { hasNewTrash = true }
        let evidence = evidence(subworker, ended)
        keepLog(of: subworker, isMentioned: ended.signal != 0 || ended.exit_code != 0 || subworker.verdict != nil)
        if subworker.acceptingCount > 0 {
            endedSubworkers[id] = EndedSubworker(acceptingCount: subworker.acceptingCount, evidence: evidence, running: running, begun: begun)
        } else {
            events.append(.subworkerEnded(id, evidence: evidence, running: running, begun: begun))
        }
    }

    private func foreignMachine(of command: SubworkerCommand) -> String? {
        var path = command.arguments.first
        if let source = command.source, case .here(let place)? = sessionPrograms[SessionProgram(source: source, name: command.name)] { path = place }
        return path.flatMap { ProgramFile(path: $0)?.foreignMachine(host: hostName) }
    }

    private func evidence(_ subworker: SubworkerProcess, _ ended: rain_ended) -> TaskError {
        let tail = subworker.log.tail(bytesMax: Self.logTailBytes)
        if var verdict = subworker.verdict {
            if verdict.detail.isEmpty { verdict.detail = tail }
            return verdict
        }
        let name = subworker.command.name
        let exitCode = ended.signal == 0 ? ended.exit_code : nil
        let signal = ended.signal == 0 ? nil : ended.signal
        guard subworker.isRegistered else {
            // A shell was asked to read it, as the kernel did not know what it is.
            let foreign = exitCode == nil ? nil : foreignMachine(of: subworker.command).map { ": it \($0)" }
            return TaskError(
                .setup,
                "subworker '\(name)' \(endText(ended, guesses: false)) before it registered\(foreign ?? ""): see its log, "
                    + "\(subworker.logPath) on host \(hostName); `rain subworker check COMMAND` tells whether a program is a subworker",
                detail: tail, exitCode: exitCode, signal: signal)
        }
        return TaskError(
            .crash, "subworker '\(name)' \(endText(ended)); its log is \(subworker.logPath) on host \(hostName)", detail: tail, exitCode: exitCode,
            signal: signal)
    }
}

/// A program that has just been written counts as written to while any process that another thread started meanwhile has yet to run its own
/// program: microseconds, of whose end nobody tells.
private func retryWhileWritten<Value>(_ body: () throws(SystemError) -> Value) throws(SystemError) -> Value {
    for _ in 0..<100 {
        do throws(SystemError) { return try body() } catch {
            guard error.code == ETXTBSY else { throw error }
            usleep(200)
        }
    }
    return try body()
}

func currentDirectory() -> String? {
    guard let path = getcwd(nil, 0) else { return nil }
    defer { free(path) }
    return String(cString: path)
}
