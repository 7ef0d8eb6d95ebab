import Glibc
import Journal
import Link
import Logging
import ServerCore
import TaskModel
import Transport
import Wire

/// The one thread that owns the core: takes what came from workers, clients and the journal, runs the core, carries out its effects.
///
/// A value that lives in the thread's main function, so that neither a lock nor an exclusivity check stands before the core.
struct Reactor: ~Copyable {
    /// The core works no longer than this before effects go out and the sockets are looked at again.
    private static let sliceNanoseconds: UInt64 = 2_000_000
    /// Frames between two looks at the clock.
    private static let framesPerLook = 16

    private enum Waiting {
        case request(CheckedContinuation<Answer, Never>)
        case lease(SessionID, LeaseMailbox, CheckedContinuation<Answer, Never>)
    }
    private struct LeaseKey: Hashable {
        var session: SessionID
        var lease: UInt64
    }

    private var core: ServerCore
    private var socket: ControlServerSocket
    private var codec = ControlCodec()
    private let inbox: ReactorInbox
    private let journal: Journal
    private let depot: Depot
    private let sessions: SessionDirectory
    private let logger: Logger
    private let stopDescriptor: Int32?

    private var peers = PeerTable()
    private var waiting: [RequestID: Waiting] = [:]
    private var leases: [LeaseKey: LeaseMailbox] = [:]
    private var effects: ContiguousArray<ServerEffect> = []
    private var commands: ContiguousArray<ReactorCommand> = []
    private var nextCommand = 0
    private var isStopping = false

    /// - Parameters:
    ///   - core: with everything restored.
    ///   - stopDescriptor: becomes readable when the server shall stop.
    init(
        core: consuming ServerCore, socket: consuming ControlServerSocket, inbox: ReactorInbox, journal: Journal, depot: Depot,
        sessions: SessionDirectory, logger: Logger, stopDescriptor: Int32?
    ) {
        self.core = core
        self.socket = socket
        self.inbox = inbox
        self.journal = journal
        self.depot = depot
        self.sessions = sessions
        self.logger = logger
        self.stopDescriptor = stopDescriptor
        effects.reserveCapacity(4096)
        self.core.finishRestoring(now: .now, into: &effects)
    }

    /// Runs until it is told to stop; then nobody waits for it any more.
    consuming func run() throws(TransportError) {
        let descriptors = [inbox.wakeDescriptor] + (stopDescriptor.map { [$0] } ?? [])
        var nextTick = core.nextTick(after: .now)
        // Workers that hear nothing give the server up, however busy it is.
        var nextOverdue = nextTick.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds)
        var hasMore = false
        defer { end() }
        try carryOut()
        while !isStopping {
            let left = nextTick.since(.now)
            let ready = try socket.wait(for: descriptors, timeout: hasMore ? .zero : .nanoseconds(Int64(clamping: left)))
            if descriptors.count > 1, ready.isReady(1) { return }
            let start = Instant.now
            hasMore = ready.socket ? try receiveFrames(since: start) : false
            if ready.isReady(0) { takeCommands() }
            hasMore = runCommands(since: start) || hasMore
            let now = Instant.now
            // Judged only after a drain: what has arrived in time counts, however late it is looked at.
            if !hasMore, now >= nextTick {
                core.handle(.tick, now: now, into: &effects)
                nextTick = core.nextTick(after: now)
                nextOverdue = nextTick.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds)
            } else if hasMore, now >= nextOverdue {
                core.handle(.overdue, now: now, into: &effects)
                nextOverdue = now.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds)
            }
            try carryOut()
        }
    }

    private mutating func end() {
        for (_, waiter) in waiting {
            switch waiter {
            case .request(let continuation), .lease(_, _, let continuation): continuation.resume(returning: .stopping)
            }
        }
        waiting = [:]
        for (_, mailbox) in leases { mailbox.end() }
        leases = [:]
        inbox.closeForGood()
    }

    // MARK: In

    /// - Returns: whether there may be more.
    private mutating func receiveFrames(since start: Instant) throws(TransportError) -> Bool {
        while true {
            for _ in 0..<Self.framesPerLook {
                guard let event = try socket.receive() else { return false }
                handle(event)
            }
            if Instant.now.since(start) > Self.sliceNanoseconds { return true }
        }
    }

    private mutating func handle(_ event: ControlServerEvent) {
        switch event {
        case .message(let route, let bytes, let address):
            guard let peer = peers.peer(route) else { return }
            do throws(WireError) {
                let frame = Self.completed(try codec.decodeFromWorker(bytes), address: address)
                core.handle(.frame(peer, frame), now: .now, into: &effects)
            } catch {
                logger.warning("a worker at \(address) sent what is no message of ours, its connection is dropped: \(error)")
                peers.close(peer)
                core.handle(.peerGone(peer, reason: error.description), now: .now, into: &effects)
            }
        case .gone(let route, let reason):
            guard let peer = peers.remove(route) else { return }
            core.handle(.peerGone(peer, reason: reason), now: .now, into: &effects)
        case .refused(let address):
            logger.warning(
                "a worker at \(address) was turned away, for its key is not in the access file: give it this server's access.toml")
        }
    }

    /// A worker that doesn't know its own address is reached where its connection comes from.
    private static func completed(_ frame: WorkerToServerFrame, address: String) -> WorkerToServerFrame {
        guard case .hello(var hello) = frame, hello.description.dataEndpoint.host.isEmpty else { return frame }
        hello.description.dataEndpoint.host = address
        return .hello(hello)
    }

    private mutating func takeCommands() {
        let new = inbox.take()
        if nextCommand == commands.count {
            commands = new
            nextCommand = 0
        } else {
            commands.append(contentsOf: new)
        }
    }

    /// - Returns: whether there are more.
    private mutating func runCommands(since start: Instant) -> Bool {
        while nextCommand < commands.count {
            let command = commands[nextCommand]
            nextCommand += 1
            run(command)
            if Instant.now.since(start) > Self.sliceNanoseconds { break }
        }
        if nextCommand < commands.count { return true }
        commands.removeAll()
        nextCommand = 0
        return false
    }

    private mutating func run(_ command: ReactorCommand) {
        switch command {
        case .request(let request, let event, let continuation):
            waiting[request] = .request(continuation)
            core.handle(event, now: .now, into: &effects)
        case .lease(let request, let event, let mailbox, let continuation):
            guard case .openLease(_, let session, _) = event else { preconditionFailure("a lease is opened by openLease") }
            waiting[request] = .lease(session, mailbox, continuation)
            core.handle(event, now: .now, into: &effects)
        case .withdraw(let request):
            // Late news when it has been answered meanwhile, be it that the answer is still among what goes out next.
            let isAnswered = effects.contains { if case .reply(request, _) = $0 { true } else { false } }
            guard !isAnswered, case .request(let continuation)? = waiting.removeValue(forKey: request) else { return }
            core.handle(.withdraw(request), now: .now, into: &effects)
            continuation.resume(returning: .withdrawn)
        case .event(let event):
            if case .leaseLost(let session, let lease, _) = event { leases[LeaseKey(session: session, lease: lease)] = nil }
            if case .journalFailed(let reason) = event { logger.critical("the journal can't be written any more: \(reason)") }
            core.handle(event, now: .now, into: &effects)
        case .stop: isStopping = true
        }
    }

    // MARK: Out

    private mutating func carryOut() throws(TransportError) {
        // A message that can't be delivered is news for the core, which may have effects again.
        while !effects.isEmpty {
            var round: ContiguousArray<ServerEffect> = []
            swap(&round, &effects)
            journal(round)
            for effect in round { try carryOut(effect) }
            if effects.isEmpty {
                round.removeAll(keepingCapacity: round.count <= 1 << 16)
                swap(&round, &effects)
            }
        }
    }

    /// All records of a slice go to the journal together, and before the rest: its disk works while we send.
    private func journal(_ effects: ContiguousArray<ServerEffect>) {
        var entries: ContiguousArray<JournalEntry> = []
        for case .append(let number, let record, let isDurable) in effects {
            entries.append(JournalEntry(number: number, record: record, isDurable: isDurable))
        }
        if !entries.isEmpty { journal.append(entries) }
    }

    private mutating func carryOut(_ effect: ServerEffect) throws(TransportError) {
        switch effect {
        case .append: break  // Done for all of them at once.
        case .reply(let request, let reply): answer(request, reply)
        case .leaseLines(let session, let lease, let lines): leases[LeaseKey(session: session, lease: lease)]?.put(lines)
        case .endLease(let session, let lease): leases.removeValue(forKey: LeaseKey(session: session, lease: lease))?.end()
        case .send(let peer, let frame): try send(frame, to: peer)
        case .closePeer(let peer): peers.close(peer)
        case .claimBlob(let hash): depot.claim(hash)
        case .releaseBlob(let hash): depot.release(hash)
        case .note(let note): log(note)
        }
    }

    private mutating func answer(_ request: RequestID, _ reply: ServerReply) {
        switch waiting.removeValue(forKey: request) {
        case .request(let continuation): continuation.resume(returning: .reply(reply))
        case .lease(let session, let mailbox, let continuation):
            // Before the request is told, so that no line can come between.
            if case .lease(let lease) = reply { leases[LeaseKey(session: session, lease: lease)] = mailbox }
            continuation.resume(returning: .reply(reply))
        case nil: break  // Withdrawn; the answer was on its way.
        }
    }

    private mutating func send(_ frame: ServerToWorkerFrame, to peer: PeerID) throws(TransportError) {
        guard let route = peers.route(peer) else { return }
        let bytes: [UInt8]
        do throws(WireError) {
            bytes = try codec.encode(frame)
        } catch {
            logger.error("a message for a worker can't be sent, its connection is dropped; please report this: \(error)")
            return drop(peer, "a message for it can't be sent: \(error)")
        }
        if try !socket.send(bytes, to: route) { drop(peer, "its connection is gone") }
    }

    private mutating func drop(_ peer: PeerID, _ reason: String) {
        peers.close(peer)
        core.handle(.peerGone(peer, reason: reason), now: .now, into: &effects)
    }

    private func log(_ note: Note) {
        switch note {
        case .sessionOpened(let session, _):
            sessions.open(session)
            logger.info("\(note)")
        case .sessionClosed(let session, _):
            sessions.close(session)
            logger.info("\(note)")
        case .workerJoined, .workerReturned, .restored: logger.info("\(note)")
        case .workerLost, .peerRefused, .peerDropped, .sessionFailed, .hint: logger.warning("\(note)")
        }
    }
}
