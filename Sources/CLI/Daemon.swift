import CLinux
import FoundationEssentials
import Glibc

/// What a server or worker says through its pipe when it is ready: one line of JSON, then the pipe ends.
struct ReadyLine: Decodable, Equatable {
    var host: String?
    var port: UInt16?
    var controlPort: UInt16?

    private enum CodingKeys: String, CodingKey {
        case host, port
        case controlPort = "control_port"
    }
}

/// Starts processes of this program that outlive it, and waits until they are ready.
struct DaemonStarter: ~Copyable {
    /// A start takes a tenth of a second; this long only when something is stuck that does not fail by itself.
    private static let readyMillisecondsMax: Int64 = 30_000

    /// The number that a daemon finds its end of the pipe under.
    private static let readyDescriptor: Int32 = 3

    let runDirectory: RunDirectory
    private let interrupts: Descriptor
    private(set) var started: [RunRecord] = []

    init(runDirectory: RunDirectory) throws(CLIError) {
        self.runDirectory = runDirectory
        let raw = rain_signal_descriptor([SIGINT, SIGTERM, SIGHUP], 3)
        guard raw >= 0 else { throw .system(call: "signalfd", about: "signals", code: -raw) }
        interrupts = Descriptor(raw)
    }

    /// Starts processes at the same time and returns what each said, in order, when all are ready.
    mutating func start(_ specs: [DaemonSpec]) throws(CLIError) -> [ReadyLine] {
        var waits: [Wait] = []
        defer { for wait in waits where wait.raw >= 0 { close(wait.raw) } }
        for spec in specs { waits.append(try spawn(spec)) }

        let deadline = monotonicMilliseconds() + Self.readyMillisecondsMax
        while waits.contains(where: { $0.raw >= 0 }) {
            var polled = waits.map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
            polled.append(pollfd(fd: interrupts.raw, events: Int16(POLLIN), revents: 0))
            let remaining = deadline - monotonicMilliseconds()
            let count = remaining > 0 ? poll(&polled, nfds_t(polled.count), Int32(remaining)) : 0
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw .system(call: "poll", about: "readiness", code: errno) }
            if polled[waits.count].revents != 0 { throw .interrupted }
            if count == 0, let late = waits.first(where: { $0.raw >= 0 }) {
                throw failure(late, cause: "it was not ready within \(Self.readyMillisecondsMax / 1000) s")
            }
            for index in waits.indices where polled[index].revents != 0 { try advance(&waits[index]) }
        }
        return waits.map(\.ready)
    }

    /// Stops all that this starter has started.
    mutating func undo() {
        for record in stopProcesses(started) { printError("could not stop \(record.title)") }
        for record in started {
            _ = waitpid(record.pid, nil, WNOHANG)
            runDirectory.remove(record)
        }
        started = []
    }

    private struct Wait {
        var record: RunRecord
        /// Where in its log the text of this start begins.
        var logStart: Int
        /// Our end of its pipe; -1 when it has ended.
        var raw: Int32
        var text: [UInt8] = []
        var ready = ReadyLine()
    }

    private mutating func spawn(_ spec: DaemonSpec) throws(CLIError) -> Wait {
        // Append, because the log of an earlier run may be what someone is looking for.
        let logRaw = open(spec.logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        guard logRaw >= 0 else { throw .system(call: "open", about: spec.logPath, code: errno) }
        let log = Descriptor(logRaw)
        let nullRaw = open("/dev/null", O_RDONLY | O_CLOEXEC)
        guard nullRaw >= 0 else { throw .system(call: "open", about: "/dev/null", code: errno) }
        let null = Descriptor(nullRaw)
        let logStart = lseek(log.raw, 0, SEEK_END)
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw .system(call: "pipe", about: spec.name, code: errno) }
        let writer = Descriptor(ends[1])
        let reader = ends[0]
        for end in ends { _ = rain_set_close_on_exec(end, true) }

        var arguments = (["rain"] + spec.arguments + ["--ready-fd", String(Self.readyDescriptor)]).map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        let inherited = [writer.raw, Self.readyDescriptor]
        let pid = inherited.withUnsafeBufferPointer { inherited in
            arguments.withUnsafeBufferPointer { arguments in
                var request = rain_spawn()
                return "/proc/self/exe".withCString { path in
                    request.path = path
                    request.arguments = arguments.baseAddress
                    request.environment = rain_environment().map { UnsafePointer($0) }
                    request.working_directory = -1
                    request.input = null.raw
                    request.output = log.raw
                    request.error = log.raw
                    request.inherited = inherited.baseAddress
                    request.inherited_count = 1
                    request.new_session = true
                    return rain_spawn_process(&request)
                }
            }
        }
        guard pid > 0 else {
            close(reader)
            throw .system(call: "posix_spawn", about: spec.name, code: -pid)
        }
        let record = RunRecord(
            role: spec.role, name: spec.name, pid: pid, startTicks: rain_start_time(pid), bootID: ProcessHandle.bootID(), logPath: spec.logPath,
            arguments: spec.arguments)
        started.append(record)
        // At once, so that `rain stop` finds it even if this command is killed while it waits.
        do {
            try runDirectory.write(record)
        } catch {
            close(reader)
            throw error
        }
        return Wait(record: record, logStart: logStart, raw: reader)
    }

    /// Takes what a process has said; at the end of its pipe it is either ready or has failed.
    private mutating func advance(_ wait: inout Wait) throws(CLIError) {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = read(wait.raw, &buffer, buffer.count)
        if count > 0 {
            wait.text += buffer[..<count]
            return
        }
        if count < 0, errno == EINTR { return }
        close(wait.raw)
        wait.raw = -1
        guard !wait.text.isEmpty else { throw failure(wait, cause: endCause(of: wait.record)) }
        do {
            wait.ready = try JSONDecoder().decode(ReadyLine.self, from: Data(wait.text))
        } catch {
            throw failure(wait, cause: "it said \"\(String(decoding: wait.text, as: UTF8.self).trimmed)\" instead of that it is ready")
        }
        wait.record.host = wait.ready.host
        wait.record.port = wait.ready.port
        wait.record.controlPort = wait.ready.controlPort
        if let index = started.firstIndex(where: { $0.pid == wait.record.pid }) { started[index] = wait.record }
        try runDirectory.write(wait.record)
    }

    private func failure(_ wait: Wait, cause: String) -> CLIError {
        .notStarted(name: wait.record.name, cause: cause, logPath: wait.record.logPath, tail: tail(wait.record.logPath, from: wait.logStart))
    }

    /// How a process ended that has closed its pipe without a word.
    private func endCause(of record: RunRecord) -> String {
        // It may close the pipe a moment before it ends.
        if let process = ProcessHandle(record), !process.hasEnded(waitMilliseconds: 2000) { return "it runs, but did not say that it is ready" }
        var status: Int32 = 0
        guard waitpid(record.pid, &status, WNOHANG) == record.pid else { return "it ended" }
        let signal = status & 0x7f
        return signal == 0 ? "it ended with status \((status >> 8) & 0xff)" : "it was killed by signal \(signal) (\(String(cString: strsignal(signal))))"
    }
}

struct DaemonSpec {
    var role: RunRecord.Role
    var name: String
    var arguments: [String]
    var logPath: String
}
