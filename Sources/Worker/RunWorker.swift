import CLinux
import Glibc
import Link
import TaskModel

/// Runs a worker until it is told to end: this process becomes the small parent that survives the worker's own process, ends
/// everything that it leaves behind, and starts it again.
///
/// - Parameter command: what starts the worker's own process: this program's hidden command, which calls `runWorkerProcess`.
/// - Returns: the exit code: 0 after SIGTERM or SIGINT.
/// - Throws: `SystemError` when not even the parent can be set up.
package func runWorker(_ options: WorkerOptions, command: [String] = ["/proc/self/exe", "worker-process"]) throws -> Int32 {
    holdStandardDescriptors()
    var parent = try WorkerParent(options, command: command)
    return try parent.run()
}

/// The sub-reaper. One thread, no library that could take it down, nothing that it could run out of.
struct WorkerParent {
    /// A worker that lived for less has failed at once.
    private static let shortLifeNanoseconds: UInt64 = 5_000_000_000
    private static let failuresMax = 5
    /// Told to end, it has so long before it is killed.
    private static let farewellNanoseconds: UInt64 = 5_000_000_000

    private var options: WorkerOptions
    private let command: [String]
    private let signals: Int32
    private var isStopping = false
    private var isReadyTold = false
    /// Whether the server has heard of the process that runs now.
    private var isTold = false
    /// Both ends of the janitor's pipe.
    private let lifeline: (read: Int32, write: Int32)
    /// 0 while there is none.
    private var janitor: pid_t = 0
    /// In one life of the worker's process.
    private var janitorCount = 0
    private static let janitorCountMax = 5
    /// What the worker's process runs, by its own hand; open for as long as this process lives.
    private let record: Int32
    /// So many attempts are told of: the options must stay a line.
    private static let toldAttemptsMax = 10_000

    init(_ options: WorkerOptions, command: [String]) throws(SystemError) {
        self.options = options
        self.command = command
        self.options.storeName = Store.name(ofProcess: getpid())
        self.options.place = UInt64.random(in: 1...UInt64.max)
        try check(rain_set_child_subreaper(), "prctl(PR_SET_CHILD_SUBREAPER)")
        let numbers = [SIGTERM, SIGINT, SIGHUP, SIGCHLD]
        signals = try check(rain_signal_pipe(numbers, numbers.count), "sigaction")
        signal(SIGPIPE, SIG_IGN)
        record = try RunRecord.make().take()
        var ends: [Int32] = [-1, -1]
        try check(rain_pipe(&ends, false), "pipe")
        lifeline = (ends[0], ends[1])
        if let file = options.readyFile { _ = unlink(file) }
    }

    mutating func run() throws(SystemError) -> Int32 {
        defer { endJanitor() }
        return try runUntilEnded()
    }

    private mutating func runUntilEnded() throws(SystemError) -> Int32 {
        var failures = 0
        while true {
            let started = monotonicNanoseconds()
            let ended = try runOnce()
            cleanUp()
            if isStopping { return 0 }
            if ended.signal == 0, ended.exit_code == WorkerExit.asked { return 0 }
            if ended.signal == 0, ended.exit_code == WorkerExit.unusable { return WorkerExit.unusable }
            failures = monotonicNanoseconds() - started < Self.shortLifeNanoseconds ? failures + 1 : 1
            let how = ended.signal != 0 ? "was ended by signal \(ended.signal) (\(signalName(ended.signal)))" : "exited with code \(ended.exit_code)"
            let running = RunRecord.take(record)
            let tasks = Self.describe(running)
            guard failures < Self.failuresMax else {
                writeNote("the worker's process \(how)\(tasks), \(failures) times in a row: giving up; what it wrote above says why")
                return WorkerExit.failed
            }
            writeNote("the worker's process \(how)\(tasks); everything that it ran is ended, and it is started again")
            // Those of a process that the server never heard of are told with it by the next one.
            let untold = isTold ? [] : options.predecessor?.running ?? []
            options.predecessor = Predecessor(
                end: ended.signal != 0 ? "signal \(ended.signal) (\(signalName(ended.signal)))" : "exit code \(ended.exit_code)",
                running: Array((untold + running).prefix(Self.toldAttemptsMax)))
            // 0, 100, 200, 400 ms: the first time at once.
            if failures > 1, waitForStop(milliseconds: 50 << Int32(failures - 1)) { return 0 }
        }
    }

    /// For people: the log of the server has the same numbers.
    private static func describe(_ running: [AttemptID]) -> String {
        if running.isEmpty { return "" }
        let named = running.prefix(5).map { "\($0.task)" }.joined(separator: ", ")
        return " while it ran task\(running.count == 1 ? "" : "s") \(named)\(running.count > 5 ? " and \(running.count - 5) more" : "")"
    }

    /// One life of the worker's process.
    private mutating func runOnce() throws(SystemError) -> rain_ended {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw SystemError("socketpair", code: errno)
        }
        let ours = Descriptor(ends[0])
        isTold = false
        janitorCount = 0
        let pid: pid_t
        do {
            let theirs = Descriptor(ends[1])
            pid = try spawn(theirs.raw)
        }
        try? ours.writeAll(Array((options.text + "\n").utf8))
        var line: [UInt8] = []
        var killAt: UInt64?
        var isSocketOpen = true
        while true {
            var items = [pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
            if isSocketOpen { items.append(pollfd(fd: ours.raw, events: Int16(POLLIN), revents: 0)) }
            _ = poll(&items, nfds_t(items.count), killAt == nil ? -1 : 200)
            if isSocketOpen, items[1].revents != 0 { isSocketOpen = takeNews(ours, &line) }
            if takeSignals(), killAt == nil {
                isStopping = true
                kill(pid, SIGTERM)
                killAt = monotonicNanoseconds() &+ Self.farewellNanoseconds
            }
            if let killAt, monotonicNanoseconds() >= killAt { kill(pid, SIGKILL) }
            var ended = rain_ended()
            while rain_reap(-1, &ended) == 1 {
                if ended.pid == janitor {
                    // Somebody ended it, and its number is anybody's from now on.
                    janitor = 0
                    startJanitor()
                }
                guard ended.pid == pid else { continue }
                // Its last word may lie there.
                if isSocketOpen { _ = takeNews(ours, &line) }
                return ended
            }
        }
    }

    private func spawn(_ socket: Int32) throws(SystemError) -> pid_t {
        try spawn(
            CommandLine.arguments.first ?? "rain", "3", standard: (0, 1, 2),
            inherited: [socket, 3, lifeline.write, Janitor.lifeline, record, RunRecord.descriptor])
    }

    /// Once the worker works: then there is something to clean up, and the start is not made longer.
    private mutating func startJanitor() {
        guard janitor == 0, janitorCount < Self.janitorCountMax, let null = try? Descriptor.open("/dev/null", O_RDWR) else { return }
        janitorCount += 1
        // What no janitor has read, since none could be started, still lies there: the pipe would be full some day, and hold us up.
        var waitingBytes: Int32 = 0
        if ioctl(lifeline.read, UInt(FIONREAD), &waitingBytes) != 0 || waitingBytes == 0 {
            let text = Janitor.plan(storeName: options.storeName, directories: ["/dev/shm", options.workDirectory])
            let written = text.withUnsafeBytes { write(lifeline.write, $0.baseAddress, $0.count) }
            guard written == text.count else { return }
        }
        // It gets none of our standard descriptors: nobody shall wait for it to close a pipe.
        guard let pid = try? spawn("rain-janitor", "j3", standard: (null.raw, null.raw, null.raw), inherited: [lifeline.read, 3]) else { return }
        janitor = pid
    }

    /// There is nothing left for it.
    private mutating func endJanitor() {
        lookForJanitor()
        guard janitor > 0 else { return }
        kill(janitor, SIGKILL)
        while waitpid(janitor, nil, 0) < 0 && errno == EINTR {}
        janitor = 0
    }

    /// It may have ended, and have been reaped together with others.
    private mutating func lookForJanitor() {
        var ended = rain_ended()
        if janitor > 0, rain_reap(janitor, &ended) != 0 { janitor = 0 }
    }

    private func spawn(
        _ name: String, _ argument: String, standard: (input: Int32, output: Int32, error: Int32), inherited: [Int32]
    ) throws(SystemError) -> pid_t {
        let arguments = [name] + command.dropFirst() + [argument]
        let pointers = arguments.map { strdup($0) } + [nil]
        defer { for pointer in pointers { free(pointer) } }
        let blocked = [SIGTERM, SIGINT, SIGHUP, SIGCHLD]
        let result = command[0].withCString { path in
            pointers.withUnsafeBufferPointer { pointers in
                inherited.withUnsafeBufferPointer { inherited in
                    blocked.withUnsafeBufferPointer { blocked in
                        var plan = rain_spawn()
                        plan.path = path
                        plan.arguments = pointers.baseAddress
                        plan.environment = UnsafePointer(rain_environment())
                        plan.working_directory = -1
                        plan.input = standard.input
                        plan.output = standard.output
                        plan.error = standard.error
                        plan.inherited = inherited.baseAddress
                        plan.inherited_count = inherited.count / 2
                        // From the first instruction on: threads that a library starts must not get them.
                        plan.blocked_signals = blocked.baseAddress
                        plan.blocked_signal_count = blocked.count
                        return rain_spawn_process(&plan)
                    }
                }
            }
        }
        return try check(result, "start", command[0])
    }

    /// - Returns: `false` at the end of the stream.
    private mutating func takeNews(_ socket: borrowing Descriptor, _ line: inout [UInt8]) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket.raw, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        line += buffer[..<count]
        while let end = line.firstIndex(of: UInt8(ascii: "\n")) {
            tellReady(Array(line[..<end]))
            line.removeSubrange(...end)
        }
        return count > 0
    }

    /// Hands the news on, with the process that a signal should go to.
    private mutating func tellReady(_ news: [UInt8]) {
        guard let value = try? JSONParser.parse(news), value["ready"]?.bool == true else { return }
        isTold = true
        startJanitor()
        let text =
            JSONValue.object([
                ("ready", .bool(true)), ("worker", value["worker"] ?? .null), ("pid", .number(Double(getpid()))), ("process", value["process"] ?? .null),
                ("data_port", value["data_port"] ?? .null),
            ]).text + "\n"
        if let path = options.readyFile {
            do throws(SystemError) {
                let file = try Descriptor.open(path + ".new", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
                try file.writeAll(Array(text.utf8))
                guard rename(path + ".new", path) == 0 else { throw SystemError("rename", path, code: errno) }
            } catch {
                writeNote("the ready file could not be written: \(error)")
            }
        }
        guard !isReadyTold, let number = options.readyDescriptor else { return }
        isReadyTold = true
        let descriptor = Descriptor(number)
        try? descriptor.writeAll(Array(text.utf8))
    }

    /// - Returns: whether one says to end.
    private func takeSignals() -> Bool {
        var numbers = [UInt8](repeating: 0, count: 64)
        var shouldStop = false
        while case let count = read(signals, &numbers, numbers.count), count > 0 {
            if numbers[..<count].contains(where: { Int32($0) != SIGCHLD }) { shouldStop = true }
        }
        return shouldStop
    }

    private mutating func waitForStop(milliseconds: Int32) -> Bool {
        let end = monotonicNanoseconds() &+ UInt64(milliseconds) &* 1_000_000
        while case let now = monotonicNanoseconds(), now < end {
            var item = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
            _ = poll(&item, 1, Int32((end - now) / 1_000_000 + 1))
            if takeSignals() { return true }
        }
        return false
    }

    /// The worker's process is gone: what it left is ended, and its files are removed.
    private mutating func cleanUp() {
        lookForJanitor()
        if !endAllChildren(except: janitor, within: 5_000_000_000) { writeNote("some processes of the worker do not go after SIGKILL") }
        lookForJanitor()
        for directory in ["/dev/shm", options.workDirectory] { _ = rain_remove_tree(AT_FDCWD, "\(directory)/\(options.storeName)") }
        if let file = options.readyFile, isStopping { _ = unlink(file) }
    }
}
