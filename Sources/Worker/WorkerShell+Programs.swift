import CLinux
import Glibc
import TaskModel
import WorkerCore

/// A program that was started.
final class RunningProgram {
    let token: JobToken
    let request: JobRequest
    let plan: ProgramPlan
    let prepared: PreparedProgram
    let pid: pid_t
    let spawning: Spawning
    let startedNanoseconds: UInt64
    let stop = StopFlag()
    /// Set when its first process has ended.
    var ended: (how: rain_ended, atNanoseconds: UInt64)?
    /// Set with `ended` when it never ran its program.
    var startError: SystemError?

    init(
        token: JobToken, request: JobRequest, plan: ProgramPlan, prepared: PreparedProgram, pid: pid_t, spawning: Spawning, startedNanoseconds: UInt64
    ) {
        self.token = token
        self.request = request
        self.plan = plan
        self.prepared = prepared
        self.pid = pid
        self.spawning = spawning
        self.startedNanoseconds = startedNanoseconds
    }
}

extension WorkerShell {
    /// So much of standard error goes into an error.
    static let errorTailBytes = 16 * 1024
    /// With less free a file system counts as full.
    private static let leastRoomBytes: UInt64 = 64 * 1024
    static let spareDirectoryCountMax = 16
    /// Killed processes are gone by then, or never go.
    private static let groupNanosecondsMax: UInt64 = 2_000_000_000

    func runProgram(_ token: JobToken, _ request: JobRequest, _ entry: TemplateEntry) throws(TaskError) {
        let (plan, _) = try entry.program(environment)
        let layout = try ProgramLayout(
            plan, template: entry.template, inputCount: request.inputs.count, arguments: try extraArguments(request, plan))
        try checkKinds(request, plan, entry.template)
        try checkDirectories(request.inputs)
        let copiedBytes = request.inputs.indices.reduce(UInt64(0)) { sum, position in
            layout.inputIsWritable[position] && layout.inputPaths[position] != nil ? sum &+ request.inputs[position].sizeBytes : sum
        }
        guard copiedBytes >= Store.longCopyBytes else {
            do throws(JobFailure) {
                let spare = request.isOnDisk ? nil : spareDirectories.popLast()
                start(token, request, entry, try PreparedProgram.prepare(layout, plan: plan, job: request, spare: spare, store: store, stop: nil))
            } catch {
                endJob(token, error.result)
            }
            return
        }
        let flag = StopFlag()
        jobs[token] = .preparing(request, flag)
        pool.run { [store, mailbox] in
            do throws(JobFailure) {
                let prepared = try PreparedProgram.prepare(layout, plan: plan, job: request, store: store, stop: flag)
                mailbox.post(.prepared(token, .success(prepared)))
            } catch {
                mailbox.post(.prepared(token, .failure(error)))
            }
        }
    }

    private func checkKinds(_ request: JobRequest, _ plan: ProgramPlan, _ template: TaskTemplate) throws(TaskError) {
        if let stdin = plan.stdin, request.inputs[stdin].isDirectory {
            throw TaskError(.setup, "\(plan.title): \(inputName(stdin, template)) is its standard input and can't be a directory")
        }
        for (position, mapping) in plan.inputs.enumerated() {
            guard let expected = mapping?.isDirectory, expected != request.inputs[position].isDirectory else { continue }
            throw TaskError(
                .setup,
                "\(plan.title): \(inputName(position, template)) is "
                    + (expected ? "a file, but is declared as a directory" : "a directory, but is declared as a file"))
        }
    }

    func programPrepared(_ token: JobToken, _ result: Result<PreparedProgram, JobFailure>) {
        guard case .preparing(let request, let flag) = jobs[token] else { return }
        switch result {
        case .failure(let failure): endJob(token, failure.result)
        case .success(let prepared):
            guard !flag.isSet, let entry = entry(request.template) else {
                remove(prepared)
                return endJob(token, .cancelled)
            }
            start(token, request, entry, prepared)
        }
    }

    private func extraArguments(_ request: JobRequest, _ plan: ProgramPlan) throws(TaskError) -> [String] {
        if request.arguments.isEmpty || request.arguments == Array("null".utf8) { return [] }
        do throws(JSONError) {
            let value = try JSONParser.parse(request.arguments)
            if value.isNull { return [] }
            if let list = value.array {
                let texts = list.compactMap(\.string)
                if texts.count == list.count, !texts.contains(where: { $0.utf8.contains(0) }) { return texts }
            }
        } catch {
            throw TaskError(.setup, "\(plan.title): the arguments are not JSON: \(error)")
        }
        throw TaskError(.setup, "\(plan.title): the arguments of builtin/run are a list of strings without NUL characters, which follow the command")
    }

    private func start(_ token: JobToken, _ request: JobRequest, _ entry: TemplateEntry, _ prepared: PreparedProgram) {
        do throws(TaskError) {
            let (plan, environment) = try entry.program(environment)
            let task = request.attempt.task
            let program = prepared.layout.command[0]
            do throws(SystemError) {
                let (input, output) = prepared.standard
                let (pid, spawning) = try environment.begin(
                    program, prepared.layout.command,
                    additions: ["RAIN_SESSION=\(task.session.rawValue)", "RAIN_TASK=\(task.index)", "RAIN_TASK_INDEX=\(request.arrayIndex)"],
                    directory: prepared.directory.descriptor.raw,
                    standard: (input < 0 ? nullDevice : input, output < 0 ? nullDevice : output, prepared.directory.error.raw))
                prepared.closeStandard()
                owners[pid] = .program(token)
                watchLogs()
                startedProgramCount += 1
                jobs[token] = .program(
                    RunningProgram(
                        token: token, request: request, plan: plan, prepared: prepared, pid: pid, spawning: spawning, startedNanoseconds: monotonicNanoseconds()
                    ))
            } catch {
                throw startError(error, plan, program)
            }
        } catch {
            remove(prepared)
            fail(token, error)
        }
    }

    private func startError(_ error: SystemError, _ plan: ProgramPlan, _ program: String) -> TaskError {
        switch error.code {
        case ENOENT, ENOTDIR:
            TaskError(.setup, "program '\(program)' was not found on host \(hostName): install it there, or correct its name")
        case EACCES, EPERM: TaskError(.setup, "program '\(program)' can't be executed on host \(hostName): it lacks the permission")
        case ENOEXEC: TaskError(.setup, "program '\(program)' on host \(hostName) is not made for this machine")
        case E2BIG: TaskError(.setup, "\(plan.title): its arguments and environment are too long: put them in a file")
        case _: store.taskError(error, doing: "\(plan.title) could not be started")
        }
    }

    func stopProgram(_ program: RunningProgram) {
        program.stop.set()
        if program.ended == nil { kill(-program.pid, SIGKILL) }
    }

    /// Its first process has ended; what it left in its group was killed.
    func programEnded(_ token: JobToken, _ ended: rain_ended) {
        guard case .program(let program) = jobs[token] else { return }
        let now = monotonicNanoseconds()
        program.ended = (ended, now)
        program.startError = program.spawning.end(program.prepared.layout.command[0])
        if kill(-program.pid, 0) == 0 {
            lingering.insert(token)
            timers.set(.groupDue(token), at: now &+ Self.groupNanosecondsMax)
        } else {
            collect(program)
        }
    }

    func checkLingering() {
        for token in lingering {
            guard case .program(let program) = jobs[token] else {
                lingering.remove(token)
                continue
            }
            if kill(-program.pid, 0) != 0 {
                lingering.remove(token)
                collect(program)
            }
        }
    }

    func programGroupIsOverdue(_ token: JobToken) {
        guard lingering.remove(token) != nil, case .program(let program) = jobs[token] else { return }
        writeNote("processes of \(program.plan.title) (group \(program.pid)) do not go after SIGKILL")
        collect(program)
    }

    /// Everything of it has ended: what it made becomes objects.
    private func collect(_ program: RunningProgram) {
        guard let (ended, endedAt) = program.ended else { return }
        let damage = damage(
            by: program.plan.title, exposedInputs(of: program), entry(program.request.template)?.template, advice: Self.programAdvice)
        if program.stop.isSet {
            remove(program.prepared)
            sweepOrphans(Sweep(session: program.request.attempt.task.session, task: program.request.attempt.task.index))
            return endJob(program.token, .cancelled)
        }
        if let error = program.startError {
            let failure = startError(error, program.plan, program.prepared.layout.command[0])
            remove(program.prepared)
            return fail(program.token, failure)
        }
        guard ended.exit_code == 0 else {
            let how = endText(ended)
            let tail = program.prepared.directory.error.tail(bytesMax: Self.errorTailBytes)
            let foundNoRoom = foundNoRoom(ended, tail, onDisk: program.prepared.isOnDisk)
            let what = foundNoRoom ? "\(program.plan.title) \(how) as it found no room: \(store.fullness())" : "\(program.plan.title) \(how)"
            var error = TaskError(
                foundNoRoom ? .resource : .user, what, detail: tail, exitCode: ended.signal == 0 ? ended.exit_code : nil,
                signal: ended.signal == 0 ? nil : ended.signal)
            if let damage { error.detail = damage.message + "\n" + error.detail }
            remove(program.prepared)
            return endJob(program.token, foundNoRoom ? .outOfRoom(error) : .failed(error))
        }
        if let damage {
            remove(program.prepared)
            return fail(program.token, damage)
        }
        let duration = endedAt - program.startedNanoseconds
        guard let entry = entry(program.request.template) else {
            remove(program.prepared)
            return endJob(program.token, .cancelled)
        }
        let collection = ProgramCollection(
            title: program.plan.title, prepared: program.prepared, outputs: entry.template.outputs,
            replicas: entry.template.outputs.indices.map { output(program.request, $0) }, store: store)
        do throws(AcceptanceError) {
            let result = try collection.collect(mayCopyLong: false)
            remove(program.prepared)
            endJob(program.token, result.jobResult(durationNanoseconds: duration))
        } catch {
            // A long copy: the only error that comes out.
            jobs[program.token] = .collecting(program)
            let token = program.token
            pool.run { [mailbox] in
                let result: JobResult
                do throws(AcceptanceError) {
                    result = try collection.collect(mayCopyLong: true).jobResult(durationNanoseconds: duration)
                } catch {
                    result = .failed(TaskError(.contract, "\(collection.title): an output could not be taken"))
                }
                _ = collection.prepared.remove(from: collection.store)
                mailbox.post(.event(.jobEnded(token, result)))
            }
        }
    }

    /// Whether a program failed because its directory was on a full file system: it says so, or it writes to a map and there is no page for it, or
    /// the file system is still full.
    private func foundNoRoom(_ ended: rain_ended, _ tail: String, onDisk: Bool) -> Bool {
        let isFull = !store.hasRoom(for: Self.leastRoomBytes, onDisk: onDisk)
        return isFull || ended.signal == SIGBUS && !onDisk || tail.contains(errorText(ENOSPC)) || tail.contains(errorText(EDQUOT))
    }

    private func remove(_ prepared: PreparedProgram) { endedPrograms.append(prepared) }

    /// What can wait until the next programs run: one that ends keeps a CPU idle only until its successor is started.
    func tidyPrograms() {
        for prepared in endedPrograms where prepared.remove(from: store) { hasNewTrash = true }
        endedPrograms.removeAll(keepingCapacity: true)
        // The next ones will be as many.
        while spareDirectories.count < min(startedProgramCount, Self.spareDirectoryCountMax) {
            // Who needs it finds out, and says so.
            guard let spare = try? ProgramDirectory(in: store, onDisk: false) else { break }
            spareDirectories.append(spare)
        }
        startedProgramCount = 0
    }
}
