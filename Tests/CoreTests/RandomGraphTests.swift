import Link
import ServerCore
import TaskModel
import Testing
import WorkerCore

/// One server and two workers joined by arrays; everything that can happen next happens in a random order.
private struct Cluster {
    var random: SeededGenerator
    var server = ServerCore(epoch: ServerEpoch(1), dataSecret: [1], depotEndpoint: Endpoint(host: "", port: 1))
    var workers: [FakeShell]
    var toWorker: [[ServerToWorkerFrame]] = [[], []]
    var now = Instant(nanoseconds: 1_000_000_000)
    var appended: UInt64 = 0
    var committed: UInt64 = 0
    var replies: [UInt64: ServerReply] = [:]
    var outcomes: [UInt32: [String]] = [:]
    var records: [JournalRecord] = []
    /// The connection that each worker is on.
    private var peers: [UInt64] = [0, 1]
    private var lives = 0
    private var effects: ContiguousArray<ServerEffect> = []

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        let cpus = [UInt32(2 + random.below(3)), UInt32(2 + random.below(3))]
        workers = [FakeShell(index: 0, cpus: cpus[0]), FakeShell(index: 1, cpus: cpus[1])]
    }

    mutating func send(_ event: ServerEvent) {
        effects.removeAll()
        server.handle(event, now: now, into: &effects)
        server.checkInvariants()
        for effect in effects {
            switch effect {
            case .append(let number, let record, _):
                appended = number
                records.append(record)
            case .reply(let request, let reply):
                #expect(replies[request.rawValue] == nil, "request \(request) is answered twice")
                replies[request.rawValue] = reply
            case .leaseLines(_, _, let lines): for line in lines { note(line) }
            case .send(let peer, let frame): if let worker = peers.firstIndex(of: peer.rawValue) { toWorker[worker].append(frame) }
            case .endLease, .closePeer, .releaseBlob, .note: break
            }
        }
    }

    private mutating func note(_ line: LeaseLine) {
        switch line {
        case .finished(let ranges): for range in ranges { for task in range { outcomes[task, default: []].append("finished") } }
        case .cancelled(let ranges): for range in ranges { for task in range { outcomes[task, default: []].append("cancelled") } }
        case .failed(let task, _): outcomes[task, default: []].append("failed")
        case .sessionFailed, .closed: break
        }
    }

    /// One thing that can happen does.
    mutating func step(_ graph: RandomGraph, crashPercent: Int) throws {
        now = Instant(nanoseconds: now.nanoseconds + UInt64(random.below(200_000)))
        var choices: [Int] = []
        for worker in 0...1 {
            if !toWorker[worker].isEmpty { choices += [worker, worker] }
            if !workers[worker].outbox.isEmpty { choices += [2 + worker, 2 + worker] }
            if workers[worker].pendingCount > 0 { choices += [4 + worker] }
        }
        if committed < appended { choices.append(6) }
        guard !choices.isEmpty else { return try passTime() }
        switch choices[random.below(choices.count)] {
        case let worker where worker < 2: try workers[worker].handle(.frame(toWorker[worker].removeFirst()), now: now)
        case let choice where choice < 4:
            let frame = workers[choice - 2].outbox.removeFirst()
            send(.frame(PeerID(peers[choice - 2]), frame))
        case let choice where choice < 6: try advance(choice - 4, graph, crashPercent: crashPercent)
        default:
            committed += UInt64(1 + random.below(Int(appended - committed)))
            send(.committed(through: committed))
        }
    }

    /// A worker's process dies with all that it holds, and another takes its place; what was on its way is gone too.
    mutating func kill(_ worker: Int) throws {
        let peer = PeerID(peers[worker])
        lives += 1
        peers[worker] = UInt64(1 + 2 * lives + worker)
        toWorker[worker] = []
        workers[worker] = FakeShell(index: worker, cpus: UInt32(2 + random.below(3)), life: lives, hasPlace: random.chance(50))
        send(.peerGone(peer, reason: "reset"))
        try workers[worker].handle(.connected, now: now)
    }

    private mutating func advance(_ worker: Int, _ graph: RandomGraph, crashPercent: Int) throws {
        let stores = workers.map(\.store)
        try workers[worker].advance(graph, random: &random, now: now, crashPercent: crashPercent) { replica, endpoints in
            for endpoint in endpoints {
                guard let peer = endpoint.host.last?.wholeNumberValue, peer < stores.count else { continue }
                if let value = stores[peer][replica] { return value }
            }
            return nil
        }
    }

    private mutating func passTime() throws {
        now = now.advanced(byMilliseconds: 100)
        send(.tick)
        for worker in 0...1 { try workers[worker].handle(.tick, now: now) }
    }

    mutating func run(_ graph: RandomGraph, crashPercent: Int, deaths: Int = 0, until isOver: (Cluster) -> Bool) throws -> Bool {
        var deaths = deaths
        for _ in 0..<100_000 {
            if isOver(self) { return true }
            if deaths > 0, random.below(60) == 0 {
                deaths -= 1
                try kill(random.below(2))
            }
            try step(graph, crashPercent: crashPercent)
        }
        return false
    }
}

@discardableResult
private func check(seed: UInt64, failurePercent: Int, crashPercent: Int, deaths: Int = 0) throws -> [JournalRecord] {
    var cluster = Cluster(seed: seed)
    let graph = RandomGraph(random: &cluster.random, taskCount: 1 + cluster.random.below(40), failurePercent: failurePercent)
    for worker in 0...1 { try cluster.workers[worker].handle(.connected, now: cluster.now) }
    cluster.send(.openSession(RequestID(1), SessionOptions(onError: .failDescendants, resumeToken: "t")))
    let session = SessionID(1)
    cluster.send(.openLease(RequestID(2), session, resumeToken: "t"))
    cluster.send(.submit(RequestID(3), session, graph.submit))
    cluster.send(.wait(RequestID(4), session, .all))
    let isDone = try cluster.run(graph, crashPercent: crashPercent, deaths: deaths) { $0.replies[4] != nil }
    try #require(isDone, "seed \(seed): the tasks never end")
    #expect(cluster.replies[4] == .waited, "seed \(seed)")

    // Lease lines may follow the answer of the wait within the same commit, never come after a later one.
    let outcomes = cluster.outcomes
    for (task, finishes) in graph.expectedToFinish().enumerated() where crashPercent == 0 {
        #expect(outcomes[UInt32(task)] == [finishes ? "finished" : "failed"], "seed \(seed), task \(task): \(outcomes[UInt32(task)] ?? [])")
    }
    for task in graph.inputs.indices { #expect(outcomes[UInt32(task)]?.count == 1, "seed \(seed), task \(task)") }
    if crashPercent == 0 {
        let runs = cluster.workers.flatMap(\.runs)
        #expect(Set(runs).count == runs.count, "seed \(seed): an attempt ran twice")
    }

    try checkJournal(cluster.records, graph, outcomes, seed: seed)

    cluster.send(.closeSession(RequestID(5), session))
    let isClosed = try cluster.run(graph, crashPercent: 0) { $0.replies[5] != nil }
    #expect(isClosed && cluster.replies[5] == .done, "seed \(seed): the session never closes")
    for worker in cluster.workers { #expect(worker.store.isEmpty, "seed \(seed): files are left: \(worker.store)") }
    return cluster.records
}

/// What was written to the journal suffices to know every outcome and every small value again.
private func checkJournal(_ records: [JournalRecord], _ graph: RandomGraph, _ outcomes: [UInt32: [String]], seed: UInt64) throws {
    var states = [String?](repeating: nil, count: graph.inputs.count)
    var isLost = Set<UInt32>()
    var submitCount = 0
    for record in records {
        switch record {
        case .submitted(_, let submit, let receipt):
            submitCount += 1
            #expect(submit == graph.submit && receipt.taskCount == UInt32(graph.inputs.count), "seed \(seed)")
        case .finished(let attempt, _, let finished):
            states[Int(attempt.task.index)] = "finished"
            for (object, output) in zip(graph.outputs[Int(attempt.task.index)], finished.outputs) where !graph.isLarge.contains(object) {
                #expect(output.inline == RandomGraph.bytes(graph.values[Int(object)]), "seed \(seed), object \(object)")
            }
        case .failed(let attempt, _, _): states[Int(attempt.task.index)] = "failed"
        case .epochBegan, .sessionOpened, .sessionClosed, .keptChanged, .cancelRequested, .workerJoined, .workerLost, .cancelled, .assigned,
            .started, .runAgain, .lost, .retried:
            break
        }
    }
    // Failures of descendants are not written: they follow from the graph.
    for task in graph.inputs.indices {
        if graph.inputs[task].contains(where: isLost.contains) { states[task] = "failed" }
        if states[task] == "failed" { isLost.formUnion(graph.outputs[task]) }
    }
    #expect(submitCount == 1)
    for task in graph.inputs.indices { #expect(states[task] == outcomes[UInt32(task)]?.first, "seed \(seed), task \(task)") }
}

@Suite struct RandomGraphTests {
    static let batches: [ClosedRange<UInt64>] = stride(from: UInt64(0), to: 1000, by: 100).map { ($0 + 1)...($0 + 100) }

    @Test(arguments: batches) func `every task of a random graph has exactly one outcome and sees its inputs' values`(seeds: ClosedRange<UInt64>) throws {
        for seed in seeds { try check(seed: seed, failurePercent: seed % 2 == 0 ? 10 : 0, crashPercent: 0) }
    }

    @Test func `subworkers that crash cost their task and nothing else`() throws {
        for seed in UInt64(5000)...5100 { try check(seed: seed, failurePercent: 5, crashPercent: 10) }
    }

    @Test(arguments: batches) func `workers that die cost nothing but time`(seeds: ClosedRange<UInt64>) throws {
        var againCount = 0
        for seed in seeds where seed % 2 == 0 {
            let records = try check(seed: 10_000 + seed, failurePercent: seed % 3 == 0 ? 10 : 0, crashPercent: 0, deaths: 1 + Int(seed / 2 % 4))
            for case .runAgain in records { againCount += 1 }
        }
        #expect(againCount > seeds.count / 20, "hardly anything was lost")
    }

    @Test func `the same seed gives the same run`() throws {
        func trace(_ seed: UInt64) throws -> [String] {
            var cluster = Cluster(seed: seed)
            let graph = RandomGraph(random: &cluster.random, taskCount: 30, failurePercent: 5)
            for worker in 0...1 { try cluster.workers[worker].handle(.connected, now: cluster.now) }
            cluster.send(.openSession(RequestID(1), SessionOptions(onError: .failDescendants, resumeToken: "t")))
            cluster.send(.submit(RequestID(3), SessionID(1), graph.submit))
            cluster.send(.wait(RequestID(4), SessionID(1), .all))
            _ = try cluster.run(graph, crashPercent: 5) { $0.replies[4] != nil }
            return cluster.workers.flatMap { $0.runs.map(\.description) } + ["\(cluster.now)"]
        }
        #expect(try trace(42) == trace(42))
    }
}
