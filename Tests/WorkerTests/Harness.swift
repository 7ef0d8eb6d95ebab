import CLinux
import Glibc
import Link
import NIOCore
import NIOPosix
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// A shell with a store of its own and no server: effects in, events out.
final class Harness {
    static let session = SessionID(1)
    let store: Store
    let shell: WorkerShell
    let mailbox: Mailbox
    let secret = DataSecret()
    let counters = TransferCounters()
    let directory: String
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    private(set) var events: ContiguousArray<WorkerEvent> = []
    private var templateCount: UInt32 = 0
    private var jobCount: UInt64 = 0
    private var objectCount: UInt32 = 100

    /// - Parameter memoryBytes: of a store with a disk behind it.
    init(limits: FetchLimits = FetchLimits(), memoryBytes: UInt64? = nil) throws {
        directory = try temporaryDirectory()
        store = try Store(path: directory + "/store", kind: "test", memoryBytes: memoryBytes, disk: memoryBytes == nil ? nil : directory + "/disk")
        mailbox = try Mailbox()
        let fetcher = Fetcher(
            holder: LocalHolder(store: store, secret: secret, checksums: ChecksumTable(), counters: counters), serverHost: "127.0.0.1", group: group,
            limits: limits
        ) { [mailbox] token, result in
            mailbox.post(.event(.fetched(token, result)))
        }
        try makeDirectories(directory + "/log/subworkers")
        let options = WorkerOptions(
            serverHost: "localhost", cpus: 2, workDirectory: directory, logDirectory: directory + "/log", accessFile: "none")
        shell = try WorkerShell(options: options, hostName: "here", store: store, mailbox: mailbox, fetcher: fetcher, isReaper: false)
    }

    deinit {
        shell.shutDown()
        try? group.syncShutdownGracefully()
        _ = rain_remove_tree(AT_FDCWD, directory)
    }

    /// Turns the loop until an event fits; it is taken out.
    func wait<Found>(seconds: Double = 20, _ find: (WorkerEvent) -> Found?) throws -> Found {
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while true {
            for index in events.indices {
                if let found = find(events[index]) {
                    events.remove(at: index)
                    return found
                }
            }
            guard monotonicNanoseconds() < end else { throw TimeOut(events: Array(events)) }
            turn()
        }
    }
    struct TimeOut: Error { let events: [WorkerEvent] }

    private func turn() {
        var items = [pollfd(fd: shell.epoll, events: Int16(POLLIN), revents: 0), pollfd(fd: mailbox.descriptor, events: Int16(POLLIN), revents: 0)]
        _ = poll(&items, 2, 2)
        var ready = [rain_ready](repeating: rain_ready(), count: 64)
        let count = rain_epoll_take(shell.epoll, &ready, 64)
        for item in ready.prefix(Int(max(0, count))) {
            if let id = LoopToken.subworker(of: item.token) { shell.subworkerReady(id, item) }
        }
        for message in mailbox.takeAll() { shell.receive(message) }
        while let timer = shell.timers.take(now: monotonicNanoseconds()) { shell.timerFired(timer) }
        shell.reapChildren()
        shell.finishRound()
        events += shell.events
        shell.events = []
    }

    /// - Parameter directories: which of the outputs are some.
    func define(_ type: String, config: String = "", inputs: [String] = [], outputs: [String] = [], directories: Set<String> = []) -> TemplateID {
        let id = TemplateID(session: Self.session, index: templateCount)
        templateCount += 1
        var template = TaskTemplate(type: type)
        template.config = Array(config.utf8)
        template.inputLabels = inputs
        template.outputs = outputs.map { OutputSpec(label: $0, isDirectory: directories.contains($0)) }
        shell.perform(.defineTemplate(id, template))
        return id
    }

    func request(_ template: TemplateID, arguments: String = "null", inputs: [LocalInput] = [], firstOutput: UInt32? = nil) -> JobRequest {
        objectCount += 10
        return JobRequest(
            attempt: AttemptID(task: TaskID(session: Self.session, index: objectCount), epoch: ServerEpoch(1), number: 1), template: template,
            arguments: Array(arguments.utf8), inputs: inputs, firstOutput: firstOutput ?? objectCount)
    }

    func start(_ request: JobRequest) -> JobToken {
        jobCount += 1
        let token = JobToken(jobCount)
        shell.perform(.runJob(token, request))
        return token
    }
    func end(of token: JobToken) throws -> JobResult {
        try wait { if case .jobEnded(token, let result) = $0 { result } else { nil } }
    }
    func run(_ request: JobRequest) throws -> JobResult { try end(of: start(request)) }

    /// Runs a program and gives its outputs' bytes.
    func outputs(of request: JobRequest) throws -> [String] {
        guard case .finished(let outputs, _, _) = try run(request) else { throw Unexpected() }
        return try outputs.enumerated().map { position, output in
            switch output.value {
            case .inline(let bytes): String(decoding: bytes, as: UTF8.self)
            case .stored(let size, _): String(decoding: try store.open(shell.output(request, position)).read(count: Int(size)), as: UTF8.self)
            case .sameAsInput(let input): "same as \(input)"
            }
        }
    }
    func failure(of request: JobRequest) throws -> TaskError {
        guard case .failed(let error) = try run(request) else { throw Unexpected() }
        return error
    }
    struct Unexpected: Error {}

    /// An input of these bytes, in the store when it is larger than what may be inline.
    func input(_ bytes: String) throws -> LocalInput {
        objectCount += 10
        let replica = Replica(object: ObjectID(session: Self.session, index: objectCount), generation: .uploaded)
        let isStored = bytes.utf8.count > ControlLimits.inlineBytesMax
        if isStored { try store.write(Array(bytes.utf8), as: replica) }
        return LocalInput(replica: replica, sizeBytes: UInt64(bytes.utf8.count), value: isStored ? .stored : .inline(Array(bytes.utf8)))
    }
    func storedInput(_ bytes: String) throws -> LocalInput {
        var input = try input(bytes)
        try store.write(Array(bytes.utf8), as: input.replica)
        input.value = .stored
        return input
    }

    /// What tasks have left; the empty ones that were made ahead don't count.
    var taskDirectories: [String] {
        let spare = Set(shell.spareDirectories.map(\.name))
        return names(in: store.path + "/tasks").filter { !spare.contains($0) || !names(in: store.path + "/tasks/" + $0).isEmpty }
    }
    var stagedFiles: [String] { names(in: store.path + "/staging") }
}

func names(in directory: String) -> [String] {
    guard let list = opendir(directory) else { return [] }
    defer { closedir(list) }
    var names: [String] = []
    while let entry = readdir(list) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

func temporaryDirectory() throws -> String {
    var path = Array("/dev/shm/rain-test-XXXXXX".utf8CString)
    guard mkdtemp(&path) != nil else { throw SystemError("mkdtemp", code: errno) }
    return path.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}

func text(of path: String) throws -> String {
    let file = try Descriptor.open(path, O_RDONLY)
    return String(decoding: try file.read(count: Int(try file.status().sizeBytes)), as: UTF8.self)
}

func write(_ text: String, to path: String) throws {
    try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644).writeAll(Array(text.utf8))
}

func isAlive(_ pid: pid_t) -> Bool { rain_start_time(pid) > 0 }

/// Looks until it holds or the time is over.
func eventually(seconds: Double = 10, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
    while monotonicNanoseconds() < end {
        if try condition() { return true }
        usleep(2000)
    }
    return try condition()
}
