import CLinux
import Glibc
import Link
import TaskModel
import Transport
import Wire
import WorkerCore

/// What a descriptor in the loop's epoll is.
enum LoopToken {
    static let signals: UInt64 = 1
    static let mailbox: UInt64 = 2
    static let parent: UInt64 = 3
    /// Above 32 bits: the subworker.
    static func subworker(_ id: SubworkerID) -> UInt64 { UInt64(id.rawValue) << 32 | 4 }
    static func subworker(of token: UInt64) -> SubworkerID? { token & 0xFFFF_FFFF == 4 ? SubworkerID(UInt32(truncatingIfNeeded: token >> 32)) : nil }
}

/// Why the loop ended.
enum LoopEnd: Equatable, Sendable {
    /// SIGTERM or SIGINT.
    case asked
    case parentGone
    /// Starting again would not help.
    case refused(String)
}

/// The worker's one thread: takes in what has come, runs the core, carries out what it says.
struct WorkerLoop: ~Copyable {
    private let shell: WorkerShell
    private let secret: DataSecret
    private let mailbox: Mailbox
    /// Where the worker's parent is; says "ready" there.
    private let parent: Int32
    private let signals: Int32
    private let dataPort: UInt16
    private var socket: ControlWorkerSocket
    private var codec = ControlCodec()
    private var isReady = false
    private var isReopening = false
    private var isHandshakeFailureTold = false
    private var end: LoopEnd?
    private let server: String

    init(
        shell: WorkerShell, secret: DataSecret, mailbox: Mailbox, parent: Int32, signals: Int32, dataPort: UInt16, server: String,
        socket: consuming ControlWorkerSocket
    ) throws(SystemError) {
        self.shell = shell
        self.secret = secret
        self.mailbox = mailbox
        self.parent = parent
        self.signals = signals
        self.dataPort = dataPort
        self.socket = socket
        self.server = server
        try check(rain_epoll_watch(shell.epoll, signals, LoopToken.signals, false), "epoll_ctl")
        try check(rain_epoll_watch(shell.epoll, mailbox.descriptor, LoopToken.mailbox, false), "epoll_ctl")
        try check(rain_epoll_watch(shell.epoll, parent, LoopToken.parent, false), "epoll_ctl")
    }

    /// Runs until the worker is asked to end, its parent is gone, or the server refuses it.
    mutating func run(_ start: consuming WorkerCore) throws(TransportError) -> LoopEnd {
        var core = start
        var effects: ContiguousArray<WorkerEffect> = []
        while end == nil {
            let ready = try socket.wait(for: [shell.epoll], timeout: timeout(core.nextTick))
            if ready.isReady(0) { takeDescriptors() }
            if ready.socket { try takeControl() }
            let now = monotonicNanoseconds()
            while let timer = shell.timers.take(now: now) {
                if timer != .reopen { shell.timerFired(timer) } else if isReopening { reopen() }
            }
            // Time-outs are judged when everything that had come is taken in.
            if let tick = core.nextTick, tick.nanoseconds <= now { shell.events.append(.tick) }
            try runCore(&core, &effects)
            shell.finishRound()
        }
        return end ?? .asked
    }

    /// So that the server need not wait for a worker that will not come back.
    mutating func sayGoodbye() {
        // Without a connection nobody hears it, and the server finds out for itself.
        if let bytes = try? codec.encode(WorkerToServerFrame.goodbye) { _ = try? socket.sendLast(bytes) }
    }

    private func timeout(_ tick: Instant?) -> Duration? {
        var due = shell.timers.next ?? .max
        if let tick { due = min(due, tick.nanoseconds) }
        guard due != .max else { return nil }
        let now = monotonicNanoseconds()
        return due <= now ? .zero : .nanoseconds(Int64(clamping: due - now))
    }

    /// Events to the core until carrying out its effects makes no new ones.
    private mutating func runCore(_ core: inout WorkerCore, _ effects: inout ContiguousArray<WorkerEffect>) throws(TransportError) {
        while !shell.events.isEmpty, end == nil {
            var events: ContiguousArray<WorkerEvent> = []
            swap(&events, &shell.events)
            let now = Instant(nanoseconds: monotonicNanoseconds())
            for event in events { core.handle(event, now: now, into: &effects) }
            for effect in effects { try perform(effect) }
            effects.removeAll(keepingCapacity: true)
        }
    }

    private mutating func perform(_ effect: WorkerEffect) throws(TransportError) {
        switch effect {
        case .send(let frame):
            do throws(WireError) {
                let bytes = try codec.encode(frame)
                // Without a connection it is dropped here: the Link sends again what counts.
                _ = try? socket.send(bytes)
            } catch {
                writeNote("a message to the server can't be written: \(error)")
            }
        case .reconnect: reopen()
        case .welcomed(let welcome):
            secret.set(welcome.dataSecret)
            isHandshakeFailureTold = false
            if !isReady {
                isReady = true
                let cpus = shell.options.cpus
                writeNote("\(welcome.worker) with \(cpus) CPU\(cpus == 1 ? "" : "s") has joined the server \(server); its store: \(shell.store.kind)")
                tellReady(welcome.worker)
            } else {
                writeNote("\(welcome.worker) is connected to the server \(server) again")
            }
        case .refused(let reason): end = .refused("the server \(server) refused this worker: \(reason)")
        case .defineTemplate, .forgetSession, .startSubworker, .call, .recall, .dropCached, .cancelCall, .stopSubworker, .measureMemory, .grant, .runJob,
            .stopJob, .fetch, .alias, .write, .spill, .remove, .emptyTrash, .note:
            shell.perform(effect)
        }
    }

    private mutating func takeControl() throws(TransportError) {
        while let event = try socket.receive() {
            switch event {
            case .connected: shell.events.append(.connected)
            case .message(let bytes):
                do throws(WireError) {
                    shell.events.append(.frame(try codec.decodeFromServer(bytes)))
                } catch {
                    writeNote("the server sent what is no message, connecting anew: \(error)")
                    reopen()
                }
            case .disconnected: writeNote("the connection to the server \(server) is lost; trying again")
            case .refused:
                end = .refused(
                    "the server \(server) does not know this worker's key: copy access.toml from the server's machine to \(shell.options.accessFile)")
            case .handshakeFailed:
                if !isHandshakeFailureTold {
                    writeNote(
                        "\(server) answers, but not as the server of \(shell.options.accessFile): is it another server, or is the file an old copy? Trying again"
                    )
                }
                isHandshakeFailureTold = true
            case .unreachable: writeNote("nobody listens at \(server) yet; trying again")
            }
        }
    }

    private mutating func reopen() {
        do throws(TransportError) {
            try socket.reopen()
            isReopening = false
        } catch {
            writeNote("\(error); trying again")
            // Only one timer of this kind may be on its way.
            if isReopening && shell.timers.contains(.reopen) { return }
            isReopening = true
            shell.timers.set(.reopen, at: monotonicNanoseconds() &+ 1_000_000_000)
        }
    }

    private mutating func takeDescriptors() {
        withUnsafeTemporaryAllocation(of: rain_ready.self, capacity: 128) { ready in
            let count = rain_epoll_take(shell.epoll, ready.baseAddress, 128)
            for item in ready.prefix(Int(max(0, count))) {
                if let id = LoopToken.subworker(of: item.token) {
                    shell.subworkerReady(id, item)
                    continue
                }
                switch item.token {
                case LoopToken.signals: takeSignals()
                case LoopToken.mailbox: for message in mailbox.takeAll() { shell.receive(message) }
                case LoopToken.parent: takeParent()
                case _: break
                }
            }
        }
    }

    private mutating func takeSignals() {
        var hasChildren = false
        while case let signal = rain_next_signal(signals), signal != 0 {
            if signal == SIGCHLD { hasChildren = true } else { end = .asked }
        }
        if hasChildren { shell.reapChildren() }
    }

    private mutating func takeParent() {
        var byte: UInt8 = 0
        let count = recv(parent, &byte, 1, Int32(MSG_DONTWAIT))
        if count == 0 || count < 0 && errno != EAGAIN && errno != EINTR { end = .parentGone }
    }

    private func tellReady(_ worker: WorkerID) {
        let line = "{\"ready\": true, \"worker\": \"\(worker)\", \"process\": \(getpid()), \"data_port\": \(dataPort)}\n"
        _ = line.utf8.withContiguousStorageIfAvailable { send(parent, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) }
    }
}
