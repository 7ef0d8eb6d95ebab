import CLinux
import Glibc
import Link
import NIOCore
import NIOPosix
import TaskModel
import Transport
import WorkerCore

/// The worker's own process, started by its parent with one descriptor: a socket that brings the options, takes the news that the
/// worker is ready, and ends with the parent.
///
/// - Parameter arguments: what followed the hidden command: the number of that descriptor.
package func runWorkerProcess(_ arguments: [String]) -> Int32 {
    if arguments.count == 1, let descriptor = Janitor.descriptor(arguments[0]) { return Janitor.run(descriptor) }
    guard arguments.count == 1, let parent = Int32(arguments[0]), parent >= 3, fcntl(parent, F_GETFD) >= 0 else {
        writeNote("this command is for the worker's own use; start a worker by `rain worker SERVER`")
        return WorkerExit.unusable
    }
    _ = rain_set_close_on_exec(parent, true)
    // The janitor waits until nobody holds this one any more.
    _ = rain_set_close_on_exec(Janitor.lifeline, true)
    _ = rain_set_close_on_exec(RunRecord.descriptor, true)
    rain_set_name("rain-worker")
    guard let options = readOptions(from: parent) else {
        writeNote("the parent process ended before it said what to do")
        return WorkerExit.unusable
    }
    setenv(Janitor.variable, options.storeName, 1)
    // Orphans of programs come to this process while it lives, so that it can end them with their task or session.
    _ = rain_set_child_subreaper()
    signal(SIGPIPE, SIG_IGN)
    signal(SIGIO, SIG_IGN)
    // A file may not grow beyond `ulimit -f`: an error like a full disk, no reason to end.
    signal(SIGXFSZ, SIG_IGN)
    do {
        return try WorkerProcess.run(options, parent: parent)
    } catch {
        writeNote("\(error)")
        return error is TransportError || error is SystemError ? WorkerExit.unusable : WorkerExit.failed
    }
}

/// How a worker's process tells its parent whether to start it again.
enum WorkerExit {
    static let asked: Int32 = 0
    /// Something broke; a new process may do better.
    static let failed: Int32 = 70
    /// It would break again: wrong key, wrong version, no place to work in. (EX_CONFIG of sysexits.h)
    static let unusable: Int32 = 78
}

private func readOptions(from descriptor: Int32) -> WorkerOptions? {
    var text: [UInt8] = []
    var byte: UInt8 = 0
    while text.count < 1 << 20 {
        let count = read(descriptor, &byte, 1)
        if count < 0 && errno == EINTR { continue }
        guard count == 1 else { return nil }
        if byte == UInt8(ascii: "\n") { return WorkerOptions(text: text) }
        text.append(byte)
    }
    return nil
}

private enum WorkerProcess {
    static func run(_ options: WorkerOptions, parent: Int32) throws -> Int32 {
        let signalNumbers = [SIGTERM, SIGINT, SIGHUP, SIGCHLD]
        let signals = try check(rain_signal_descriptor(signalNumbers, signalNumbers.count), "signalfd")
        raiseDescriptorLimit()
        let access = try AccessFile.load(path: options.accessFile)
        for warning in access.warnings { writeNote(warning) }
        try makeDirectories(options.logDirectory + "/subworkers")
        try makeDirectories(options.workDirectory)
        Store.removeAbandoned(in: ["/dev/shm", options.workDirectory])
        // Before there are threads: they would keep the mounts of the machine.
        let store = try Store.make(
            name: options.storeName, workDirectory: options.workDirectory, memoryBytes: options.storeMemoryBytes, mayMount: true)
        defer { store.removeAll() }

        let hostName = hostName()
        let mailbox = try Mailbox()
        let secret = DataSecret()
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        let address = options.dataAddress
        let holder = LocalHolder(store: store, secret: secret, checksums: ChecksumTable(), counters: TransferCounters()) { [mailbox] replica in
            mailbox.post(.event(.foundDamaged([replica])))
        }
        let data: DataServer
        do {
            data = try DataServer(host: address, holder: holder, group: group)
        } catch {
            throw TransportError.cannotBind(address: address, reason: "\(error)")
        }
        let fetcher = Fetcher(holder: holder, serverHost: options.serverHost, group: group) { [mailbox] token, result in
            mailbox.post(.event(.fetched(token, result)))
        }
        let socket = try ControlWorkerSocket(host: options.serverHost, port: options.controlPort, access: access)
        let record = try RunRecord(descriptor: RunRecord.descriptor)
        let shell = try WorkerShell(options: options, hostName: hostName, store: store, mailbox: mailbox, fetcher: fetcher, record: record)
        let isOpenToAll = address == "0.0.0.0" || address == "::"
        let description = WorkerDescription(
            hostName: options.name.isEmpty ? hostName : options.name, processID: UInt32(getpid()), cpus: options.cpus,
            dataEndpoint: Endpoint(host: isOpenToAll ? "" : address, port: data.port), store: store.kind, subworkers: options.offers)
        var core = WorkerCore(
            description: description, incarnation: UInt64.random(in: 1...UInt64.max), place: options.place, predecessor: options.predecessor,
            subworkers: options.subworkers)
        core.unixMicrosecondsAtZero = unixMicroseconds() &- monotonicNanoseconds() / 1000
        if store.disk != nil { core.storeMemoryBytes = store.memoryBytes }
        core.runsProgramsInMemory = store.runsProgramsInMemory
        core.gatherNanoseconds = 20_000_000
        core.memoryGrowthBytesMax = defaultMemoryGrowth()
        var loop = try WorkerLoop(
            shell: shell, secret: secret, mailbox: mailbox, parent: parent, signals: signals, dataPort: data.port,
            server: "\(options.serverHost):\(options.controlPort)", socket: socket)
        let end: LoopEnd
        do {
            end = try loop.run(core)
        } catch {
            shell.shutDown()
            throw error
        }
        // Processes first: what they hold open goes with them. The data plane's threads end with the process.
        shell.shutDown()
        fetcher.close()
        switch end {
        case .asked, .parentGone:
            // Only now is it true that nothing runs here. A parent that was told to end may be gone before its word is read.
            loop.sayGoodbye()
            return WorkerExit.asked
        case .refused(let reason):
            writeNote(reason)
            return WorkerExit.unusable
        }
    }

    /// Objects are passed as descriptors: the soft limit of 1024 is soon met.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}

/// Makes a directory and those above it.
func makeDirectories(_ path: String) throws(SystemError) {
    var made = path.hasPrefix("/") ? "/" : ""
    for part in path.pathParts where !part.isEmpty {
        made += part
        let result = rain_mkdirat(AT_FDCWD, made, 0o755)
        if result < 0, result != -EEXIST { throw SystemError("make directory", made, code: 0 &- result) }
        made += "/"
    }
}

func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
    return name.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}

func unixMicroseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(max(0, time.tv_sec)) &* 1_000_000 &+ UInt64(max(0, time.tv_nsec)) / 1000
}
