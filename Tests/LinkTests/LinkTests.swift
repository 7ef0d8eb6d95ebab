import Link
import TaskModel
import Testing

/// A server's and a worker's end with a wire between them that the test cuts and repeats.
private struct Pair {
    var server: ServerLink
    var worker: WorkerLink
    var now = Instant(nanoseconds: 1_000_000_000)
    var dataSecret: [UInt8] = [1]
    static let description = WorkerDescription(
        hostName: "n1", processID: 1, cpus: 2, dataEndpoint: Endpoint(host: "", port: 1), store: "test")

    init() {
        server = ServerLink(incarnation: 7, worker: WorkerID(1), epoch: ServerEpoch(3), now: now)
        worker = WorkerLink(incarnation: 7, description: Self.description)
    }

    /// Hello and welcome over a new connection; what the worker makes of the welcome, and all frames after it.
    mutating func connect() -> (delivery: WorkerLink.Delivery, toWorker: ContiguousArray<ServerToWorkerFrame>, toServer: ContiguousArray<WorkerToServerFrame>) {
        guard case .hello(let hello)? = worker.connected(now: now) else {
            Issue.record("a connection begins with a hello")
            return (.nothing, [], [])
        }
        var frames: ContiguousArray<ServerToWorkerFrame> = []
        server.greet(hello, dataSecret: dataSecret, now: now, into: &frames)
        var back: ContiguousArray<WorkerToServerFrame> = []
        let delivery = worker.receive(frames[0], now: now, into: &back)
        return (delivery, ContiguousArray(frames.dropFirst()), back)
    }
}

private let attempt = AttemptID(task: TaskID(session: SessionID(1), index: 0), epoch: ServerEpoch(3), number: 1)

@Test func `a first welcome tells the worker to start fresh, a second one to go on`() {
    var pair = Pair()
    guard case .fresh(let welcome) = pair.connect().delivery else { Issue.record("not fresh"); return }
    #expect(welcome.worker == WorkerID(1) && welcome.epoch == ServerEpoch(3))
    #expect(pair.connect().delivery == .resumed)
}

@Test func `messages arrive once and in order although frames are lost with a connection`() {
    var pair = Pair()
    _ = pair.connect()
    pair.server.enqueue(.closeSession(SessionID(1)))
    var lost: ContiguousArray<ServerToWorkerFrame> = []
    pair.server.flush(now: pair.now, into: &lost)
    #expect(lost.count == 1)
    pair.server.enqueue(.closeSession(SessionID(2)))
    pair.server.flush(now: pair.now, into: &lost)

    // Only the second arrives: a gap, so the worker asks for a new connection, on which both come.
    var back: ContiguousArray<WorkerToServerFrame> = []
    #expect(pair.worker.receive(lost[1], now: pair.now, into: &back) == .reconnect)
    let again = pair.connect()
    #expect(again.delivery == .resumed)
    #expect(again.toWorker.count == 2)
    #expect(pair.worker.receive(again.toWorker[0], now: pair.now, into: &back) == .messages([.closeSession(SessionID(1))]))
    #expect(pair.worker.receive(again.toWorker[1], now: pair.now, into: &back) == .messages([.closeSession(SessionID(2))]))
    #expect(pair.worker.receive(again.toWorker[1], now: pair.now, into: &back) == .nothing, "a repeated batch is dropped")
}

@Test func `an outcome is kept until the server has taken it, and is not handled twice`() {
    var pair = Pair()
    _ = pair.connect()
    pair.worker.enqueue(.cancelled(attempt))
    var frames: ContiguousArray<WorkerToServerFrame> = []
    pair.worker.flush(now: pair.now, into: &frames)
    guard case .batch(let batch)? = frames.first else { Issue.record("no batch"); return }
    #expect(pair.server.receive(batch, now: pair.now) == .messages([.cancelled(attempt)], sequence: 1))
    // Received but not committed: the acknowledgement must not go out.
    var acknowledgements: ContiguousArray<ServerToWorkerFrame> = []
    pair.server.flush(now: pair.now, into: &acknowledgements)
    #expect(acknowledgements.isEmpty)
    #expect(pair.worker.unacknowledgedCount == 1)

    // The connection breaks. The server says in its welcome what it has, so the batch isn't sent again.
    let again = pair.connect()
    #expect(again.toServer.isEmpty)
    #expect(pair.server.receive(batch, now: pair.now) == .nothing, "handled once")
    pair.server.take(through: 1)
    pair.server.flush(now: pair.now, into: &acknowledgements)
    #expect(acknowledgements.count == 1)
    var back: ContiguousArray<WorkerToServerFrame> = []
    _ = pair.worker.receive(acknowledgements[0], now: pair.now, into: &back)
    #expect(pair.worker.unacknowledgedCount == 0)
}

@Test func `a batch of another epoch or incarnation is dropped`() {
    var pair = Pair()
    _ = pair.connect()
    var back: ContiguousArray<WorkerToServerFrame> = []
    let alien = Batch<ServerMessage>(epoch: ServerEpoch(2), incarnation: 7, sequence: 1, acknowledged: 0, payload: [.closeSession(SessionID(1))])
    #expect(pair.worker.receive(.batch(alien), now: pair.now, into: &back) == .nothing)
    let other = Batch<WorkerMessage>(epoch: ServerEpoch(3), incarnation: 8, sequence: 1, acknowledged: 0, payload: [.cancelled(attempt)])
    #expect(pair.server.receive(other, now: pair.now) == .nothing)
}

@Test func `a batch closes before it grows too large, and credit bounds what is on its way`() {
    var flow = BatchFlow<ServerMessage>()
    let name = String(repeating: "x", count: 100_000)
    for _ in 0..<5 { flow.enqueue(.session(SessionID(1), subworkers: [SubworkerCommand(name: name, arguments: [])])) }
    var sizes: [Int] = []
    while let batch = flow.next(epoch: ServerEpoch(1), incarnation: 1) { sizes.append(batch.payload.count) }
    #expect(sizes == [2, 2, 1])

    var full = BatchFlow<ServerMessage>()
    for _ in 0..<BatchFlow<ServerMessage>.creditMax {
        full.enqueue(.closeSession(SessionID(1)))
        #expect(full.next(epoch: ServerEpoch(1), incarnation: 1) != nil)
    }
    full.enqueue(.closeSession(SessionID(1)))
    #expect(full.next(epoch: ServerEpoch(1), incarnation: 1) == nil, "no credit")
    _ = full.receive(Batch<WorkerMessage>(epoch: ServerEpoch(1), incarnation: 1, sequence: 0, acknowledged: 1))
    #expect(full.next(epoch: ServerEpoch(1), incarnation: 1)?.sequence == 65)
}

@Test func `silence makes the worker reconnect, and the server give it up`() {
    var pair = Pair()
    _ = pair.connect()
    var out: ContiguousArray<WorkerToServerFrame> = []
    let later = pair.now.advanced(byMilliseconds: LinkTiming.heartbeatMilliseconds)
    #expect(pair.worker.tick(now: later, into: &out) == .nothing)
    #expect(out.count == 1, "a heartbeat")
    let late = pair.now.advanced(byMilliseconds: LinkTiming.silenceMillisecondsMax + 1)
    #expect(pair.worker.tick(now: late, into: &out) == .reconnect)
    #expect(pair.server.judge(now: late, latenessNanoseconds: 0) != nil)
    #expect(pair.server.judge(now: late, latenessNanoseconds: 5_000_000_000) == nil, "the judge itself was late")
}

@Test func `a refused worker stays refused`() {
    var worker = WorkerLink(incarnation: 1, description: Pair.description)
    let now = Instant(nanoseconds: 0)
    _ = worker.connected(now: now)
    var out: ContiguousArray<WorkerToServerFrame> = []
    #expect(worker.receive(.refused(reason: "old"), now: now, into: &out) == .refused(reason: "old"))
    #expect(worker.connected(now: now) == nil)
}

@Test func `a worker whose connection is gone has a short time to come back`() {
    var pair = Pair()
    _ = pair.connect()
    pair.server.detach(now: pair.now, reason: "reset")
    let inTime = pair.now.advanced(byMilliseconds: LinkTiming.returnMillisecondsMax)
    #expect(pair.server.judge(now: inTime, latenessNanoseconds: 0) == nil)
    let late = inTime.advanced(byMilliseconds: 1)
    #expect(pair.server.judge(now: late, latenessNanoseconds: 0) != nil)
    #expect(pair.server.judge(now: late, latenessNanoseconds: 1_000_000) == nil, "the judge itself was late")
    pair.now = late
    #expect(pair.connect().delivery == .resumed)
    #expect(pair.server.judge(now: late.advanced(byMilliseconds: LinkTiming.returnMillisecondsMax + 1), latenessNanoseconds: 0) == nil)
}

@Test func `a new link is not taken for the one that it follows`() {
    var pair = Pair()
    _ = pair.connect()
    var frames: ContiguousArray<ServerToWorkerFrame> = []
    pair.server.enqueue(.closeSession(SessionID(1)))
    pair.server.flush(now: pair.now, into: &frames)
    var back: ContiguousArray<WorkerToServerFrame> = []
    for frame in frames { _ = pair.worker.receive(frame, now: pair.now, into: &back) }

    // The server gives the worker up. Two greetings of it are on their way; the answer to the first is lost with its connection.
    pair.server = ServerLink(incarnation: 7, worker: WorkerID(2), epoch: ServerEpoch(3), now: pair.now)
    guard case .hello(let first)? = pair.worker.connected(now: pair.now) else { return }
    frames = []
    pair.server.greet(first, dataSecret: [], now: pair.now, into: &frames)
    pair.server.enqueue(.closeSession(SessionID(2)))
    pair.server.flush(now: pair.now, into: &frames)
    let (delivery, toWorker, _) = pair.connect()
    guard case .fresh = delivery else {
        Issue.record("the worker is welcomed as another: \(delivery)")
        return
    }
    #expect(toWorker.count == 1)
    guard case .batch(let batch)? = toWorker.first else { return }
    #expect(batch.sequence == 1 && batch.payload == [.closeSession(SessionID(2))])
}

@Test func `a server with another journal is a stranger, though it counts alike`() {
    var pair = Pair()
    _ = pair.connect()
    var back: ContiguousArray<WorkerToServerFrame> = []
    pair.worker.enqueue(.sessionClosed(SessionID(1)))
    pair.worker.flush(now: pair.now, into: &back)
    pair.server = ServerLink(incarnation: 7, worker: WorkerID(1), epoch: ServerEpoch(3), now: pair.now)
    pair.dataSecret = [2]
    let (delivery, _, toServer) = pair.connect()
    guard case .fresh = delivery else {
        Issue.record("it was taken for the same: \(delivery)")
        return
    }
    #expect(toServer.isEmpty && pair.worker.unacknowledgedCount == 0)
}

@Test func `a welcome acknowledges nothing that is not committed`() {
    var pair = Pair()
    _ = pair.connect()
    var frames: ContiguousArray<WorkerToServerFrame> = []
    pair.worker.enqueue(.sessionClosed(SessionID(1)))
    pair.worker.flush(now: pair.now, into: &frames)
    guard case .batch(let batch)? = frames.first else { return }
    _ = pair.server.receive(batch, now: pair.now)
    let (delivery, _, toServer) = pair.connect()
    #expect(delivery == .resumed)
    #expect(toServer.isEmpty)  // It has it,
    #expect(pair.worker.unacknowledgedCount == 1)  // but not for good.
    pair.server.take(through: 1)
    var down: ContiguousArray<ServerToWorkerFrame> = []
    pair.server.flush(now: pair.now, into: &down)
    for frame in down { _ = pair.worker.receive(frame, now: pair.now, into: &frames) }
    #expect(pair.worker.unacknowledgedCount == 0)
}
