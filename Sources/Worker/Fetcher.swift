import Glibc
import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization
import TaskModel
import Transport
import WorkerCore

/// How much at a time, and for how long.
struct FetchLimits: Sendable {
    /// Connections in all, and to one holder: one stream fills a link, more keep a slow one from holding up the rest.
    var pullers = 8
    var pullersOfPeer = 4
    /// Objects up to this size travel in company.
    var smallBytes: UInt64 = 64 << 10
    /// Of one request.
    var batchObjects = 1024
    var batchBytes: UInt64 = 1 << 20
    /// A holder that accepts and brings nothing for so long is given up.
    var silenceMilliseconds: Int64 = 10_000
    var connectMilliseconds: Int64 = 5_000
    /// Of a ticket.
    var ticketSeconds: UInt64 = 60
    /// So often around all holders for an object of which a part has come; a round that brought `progressBytes` isn't counted.
    var rounds = 2
    var progressBytes: UInt64 = 1 << 20
    var roundPauseMilliseconds: Int64 = 500
}

/// Brings objects from other holders into the store, a few at a time, and tells the loop.
///
/// What is wanted waits in a queue for each holder. Pullers, one connection each, take from them: a large object by itself, small ones many
/// at a time. What one holder doesn't give goes into the queue of the next; what has come of it stays.
final class Fetcher: Sendable {
    /// The holders' queues.
    private struct Peer {
        var small = CircularBuffer<Pull>()
        var smallBytes: UInt64 = 0
        var large = CircularBuffer<Pull>()
        var pullerCount = 0
        /// Pullers that have not taken anything yet.
        var connectingCount = 0
        var hasSmallTurn = true
        /// A connection could not be made: those that stand must do, until there is nothing left to ask for.
        var isRefusing = false

        var isEmpty: Bool { small.isEmpty && large.isEmpty }
        /// How many requests would bring what waits.
        func requestCount(_ limits: FetchLimits) -> Int {
            let byCount = (small.count + limits.batchObjects - 1) / limits.batchObjects
            return large.count + max(byCount, Int((smallBytes + limits.batchBytes - 1) / limits.batchBytes))
        }

        mutating func append(_ pull: Pull) {
            if pull.isSmall {
                small.append(pull)
                smallBytes += pull.input.sizeBytes
            } else {
                large.append(pull)
            }
        }

        mutating func takeAll() -> [Pull] {
            defer { (small, smallBytes, large) = ([], 0, []) }
            return Array(small) + Array(large)
        }

        mutating func take(_ limits: FetchLimits) -> [Pull] {
            defer { hasSmallTurn.toggle() }
            if !large.isEmpty, small.isEmpty || !hasSmallTurn { return [large.removeFirst()] }
            var taken: [Pull] = []
            var bytes: UInt64 = 0
            while let next = small.first, taken.count < limits.batchObjects, taken.isEmpty || bytes + next.input.sizeBytes <= limits.batchBytes {
                bytes += next.input.sizeBytes
                taken.append(small.removeFirst())
            }
            smallBytes -= bytes
            return taken
        }
    }
    private struct State {
        var peers: [Endpoint: Peer] = [:]
        /// Holders with something waiting, the next one first.
        var turns = CircularBuffer<Endpoint>()
        var pullerCount = 0
        var isClosed = false
    }
    private let state = Mutex(State())
    let holder: LocalHolder
    var store: Store { holder.store }
    var counters: TransferCounters { holder.counters }
    /// Stands in for endpoints without a host.
    private let serverHost: String
    private let group: any EventLoopGroup
    let limits: FetchLimits
    private let report: @Sendable (FetchToken, FetchResult) -> Void

    init(
        holder: LocalHolder, serverHost: String, group: any EventLoopGroup, limits: FetchLimits = FetchLimits(),
        report: @escaping @Sendable (FetchToken, FetchResult) -> Void
    ) {
        self.holder = holder
        self.limits = limits
        self.serverHost = serverHost
        self.group = group
        self.report = report
    }

    /// Reports exactly once, from another thread. Begins with `start`, so that what is wanted together travels together.
    func fetch(_ token: FetchToken, _ input: InputAssignment) {
        guard case .fetch(let endpoints) = input.source, !endpoints.isEmpty else {
            return report(token, .failed(TaskError(.setup, "object \(input.replica.object) has no holder to fetch it from")))
        }
        let named = endpoints.map { Endpoint(host: $0.host.isEmpty ? serverHost : $0.host, port: $0.port) }
        enqueue(Pull(token: token, input: input, endpoints: named, isSmall: input.sizeBytes <= limits.smallBytes && !input.isDirectory))
    }

    /// What waits is forgotten.
    func close() { state.withLock { $0 = State(isClosed: true) } }

    /// Opens as many connections as help and are allowed.
    func start() {
        while let endpoint = state.withLock({ takeTurn(&$0) }) { connect(endpoint) }
    }

    private func enqueue(_ pull: Pull) {
        state.withLock { state in
            let wasEmpty = state.peers[pull.endpoint]?.isEmpty ?? true
            state.peers[pull.endpoint, default: Peer()].append(pull)
            if wasEmpty, !state.turns.contains(pull.endpoint) { state.turns.append(pull.endpoint) }
        }
    }

    /// - Returns: a holder that one more connection is to be made to.
    private func takeTurn(_ state: inout State) -> Endpoint? {
        guard !state.isClosed, state.pullerCount < limits.pullers else { return nil }
        for _ in 0..<state.turns.count {
            let endpoint = state.turns.removeFirst()
            guard let peer = state.peers[endpoint], !peer.isEmpty else { continue }
            state.turns.append(endpoint)
            guard peer.pullerCount < (peer.isRefusing ? 1 : limits.pullersOfPeer), peer.requestCount(limits) > peer.connectingCount else { continue }
            state.peers[endpoint]?.pullerCount += 1
            state.peers[endpoint]?.connectingCount += 1
            state.pullerCount += 1
            return endpoint
        }
        return nil
    }

    private func connect(_ endpoint: Endpoint) {
        ClientBootstrap(group: group)
            .connectTimeout(.milliseconds(limits.connectMilliseconds))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelInitializer { [self] channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHTTPClientHandlers()
                    try channel.pipeline.syncOperations.addHandler(IdleStateHandler(readTimeout: .milliseconds(limits.silenceMilliseconds)))
                    try channel.pipeline.syncOperations.addHandler(Puller(self, endpoint))
                }
            }
            .connect(host: endpoint.host, port: Int(endpoint.port))
            .whenFailure { [self] error in
                let waiting = state.withLock { state -> [Pull] in
                    state.peers[endpoint]?.connectingCount -= 1
                    state.peers[endpoint]?.isRefusing = true
                    // Another connection stands: it does for all of them.
                    guard let peer = state.peers[endpoint], peer.pullerCount - 1 == peer.connectingCount else { return [] }
                    return state.peers[endpoint]?.takeAll() ?? []
                }
                for pull in waiting { failed(pull, PullFailure("can't be reached (\(error))")) }
                release(endpoint)
            }
    }

    // MARK: Of pullers

    /// - Parameter isFirst: since the puller has connected.
    /// - Returns: one large object or some small ones; empty when the puller shall end.
    func take(from endpoint: Endpoint, isFirst: Bool) -> [Pull] {
        state.withLock { state in
            if isFirst { state.peers[endpoint]?.connectingCount -= 1 }
            guard !state.isClosed, state.peers[endpoint]?.isEmpty == false else { return [] }
            // Where somebody has no puller at all, one that has had its turn makes room.
            if !isFirst, state.pullerCount >= limits.pullers {
                let others = state.turns.contains { state.peers[$0].map { !$0.isEmpty && $0.pullerCount == 0 } ?? false }
                if others { return [] }
            }
            return state.peers[endpoint]?.take(limits) ?? []
        }
    }

    /// The puller has ended; called once for each.
    func release(_ endpoint: Endpoint) {
        state.withLock { state in
            guard state.pullerCount > 0 else { return }  // Closed meanwhile.
            state.pullerCount -= 1
            state.peers[endpoint]?.pullerCount -= 1
            if let peer = state.peers[endpoint], peer.pullerCount == 0, peer.isEmpty { state.peers[endpoint] = nil }
        }
        start()
    }

    /// What a puller took and has not tried goes back to where it came from.
    func putBack(_ pulls: some Sequence<Pull>) { for pull in pulls { enqueue(pull) } }

    func succeeded(_ pull: Pull, _ result: FetchResult, _ digest: Checksum.Digest) {
        counters.pulledObjects.add(1, ordering: .relaxed)
        counters.add(pull.endpoint)
        // Inline ones are not of the store, and nobody asks here for them.
        if pull.input.sizeBytes > UInt64(ControlLimits.inlineBytesMax) { holder.checksums.set(digest, of: pull.input.replica) }
        report(pull.token, result)
    }

    /// Goes on with the next holder, or once more with all of them, or gives up.
    func failed(_ pull: Pull, _ failure: PullFailure) {
        counters.failedPulls.add(1, ordering: .relaxed)
        let object = pull.input.replica.object
        if let system = failure.system { return giveUp(pull, store.taskError(system, doing: "object \(object) could not be stored")) }
        var pull = pull
        pull.note(failure)
        if failure.isWorthRepeating ? pull.repeat() : pull.advance() { return enqueue(pull) }
        guard pull.startNextRound(limits) else {
            return giveUp(pull, TaskError(.setup, "object \(object) could not be fetched: \(pull.failures.joined(separator: "; "))"))
        }
        let again = pull
        group.next().scheduleTask(in: .milliseconds(limits.roundPauseMilliseconds)) { [self] in
            enqueue(again)
            start()
        }
    }

    private func giveUp(_ pull: Pull, _ error: TaskError) {
        pull.partial?.discard()
        report(pull.token, .failed(error))
    }

    func refused(_ pull: Pull, _ error: SystemError) {
        report(pull.token, .failed(store.taskError(error, doing: "object \(pull.input.replica.object) could not be fetched")))
    }
}

/// One object that is wanted, and how far it has come.
struct Pull: Sendable {
    let token: FetchToken
    let input: InputAssignment
    /// The holders to ask, in this order.
    let endpoints: [Endpoint]
    /// Travels in company.
    let isSmall: Bool
    private var position = 0
    private var round = 1
    private var repeatCount = 0
    private var bytesAtRoundStart: UInt64 = 0
    /// One line for each holder that was asked: the last that was heard of it.
    private var failureOfEndpoint: [Endpoint: String] = [:]
    /// What has come of a large one.
    var partial: PartialObject?

    init(token: FetchToken, input: InputAssignment, endpoints: [Endpoint], isSmall: Bool) {
        self.token = token
        self.input = input
        self.endpoints = endpoints
        self.isSmall = isSmall
    }

    var endpoint: Endpoint { endpoints[position] }
    var failures: [String] { endpoints.compactMap { endpoint in failureOfEndpoint[endpoint].map { "\(endpoint) \($0)" } } }

    mutating func note(_ failure: PullFailure) { failureOfEndpoint[endpoint] = failure.text }

    /// - Returns: `false` when there is no other holder.
    mutating func advance() -> Bool {
        guard position + 1 < endpoints.count else { return false }
        position += 1
        return true
    }

    /// The same holder from the first byte, where what is wrong may be another's.
    ///
    /// - Returns: `false` when there is no holder left.
    mutating func `repeat`() -> Bool {
        repeatCount += 1
        return repeatCount <= endpoints.count || advance()
    }

    /// Worth it only for what has come in part: for the rest, the server knows better than this worker where to look next.
    mutating func startNextRound(_ limits: FetchLimits) -> Bool {
        let received = partial?.receivedBytes ?? 0
        guard received > 0 else { return false }
        if received < bytesAtRoundStart + limits.progressBytes {
            guard round < limits.rounds else { return false }
            round += 1
        }
        bytesAtRoundStart = received
        position = 0
        return true
    }
}

struct PullFailure: Error, Sendable {
    /// Follows the name of the holder.
    var text: String
    /// Set when the fault lies here: another holder would not help.
    var system: SystemError?
    /// Some of what was wrong came from other holders.
    var isWorthRepeating: Bool
    init(_ text: String, system: SystemError? = nil, isWorthRepeating: Bool = false) {
        self.text = text
        self.system = system
        self.isWorthRepeating = isWorthRepeating
    }
}
