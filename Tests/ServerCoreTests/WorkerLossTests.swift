import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// One task on worker 1 of two; what its loss in one of several ways does.
private struct Loss {
    var harness = CoreHarness()
    let first: PeerID
    let second: PeerID
    let attempt: AttemptID

    init() {
        first = harness.join(1, cpus: 1, place: 77)
        let session = harness.openSession(SessionOptions(isDetached: true))
        var build = SubmitBuilder()
        build.row(build.template(kept: true))
        _ = harness.request { .submit($0, session, build.submit) }
        attempt = harness.takeAssignments(first)[0].attempt
        second = harness.join(2, cpus: 1, place: 78)
    }

    mutating func pass(milliseconds: UInt64) {
        for _ in 0..<milliseconds / 250 {
            harness.now = harness.now.advanced(byMilliseconds: 250)
            harness.say(second, [])
            harness.send(.tick)
        }
    }

    mutating func isRunAgain(on peer: PeerID) -> Bool { harness.takeAssignments(peer).map(\.attempt.number) == [attempt.number + 1] }
}

private func expectRunAgain(_ loss: inout Loss, sourceLocation: SourceLocation = #_sourceLocation) {
    let isRunAgain = loss.isRunAgain(on: loss.second)
    #expect(isRunAgain, sourceLocation: sourceLocation)
}

@Test func `a worker that says goodbye is given up at once`() {
    var loss = Loss()
    loss.harness.send(.frame(loss.first, .goodbye))
    expectRunAgain(&loss)
}

@Test func `a worker whose connection is gone is given up when it does not come back`() {
    var loss = Loss()
    loss.harness.send(.peerGone(loss.first, reason: "reset"))
    loss.pass(milliseconds: LinkTiming.returnMillisecondsMax)
    let isEarly = loss.isRunAgain(on: loss.second)
    #expect(!isEarly, "it has so long")
    loss.pass(milliseconds: 250)
    expectRunAgain(&loss)
    let reasons = loss.harness.records.compactMap { if case .workerLost(_, let reason) = $0 { reason } else { nil } }
    #expect(reasons == ["its connection is gone (reset), and it did not come back within 2 s"])
}

@Test func `a worker of which a batch is missing is dropped, and the log says why`() {
    var loss = Loss()
    let worker = loss.harness.core.workers[0]!
    loss.harness.send(
        .frame(
            loss.first,
            .batch(
                Batch(epoch: loss.harness.core.epoch, incarnation: worker.link.incarnation, sequence: 99, acknowledged: 0, payload: [.handedOver]))))
    #expect(loss.harness.effects.contains(.closePeer(loss.first)))
    let notes = loss.harness.effects.compactMap { if case .note(let note) = $0 { note.description } else { nil } }
    #expect(notes.count == 1 && notes[0].hasPrefix("the connection of worker w1 is dropped: batch 99 came after "))
}

@Test func `a server that does not come to the end of its work shows life and judges nobody`() {
    var loss = Loss()
    loss.harness.send(.tick)
    var beats = 0
    for _ in 0..<60 {
        loss.harness.now = loss.harness.now.advanced(byMilliseconds: 1000)
        loss.harness.send(.overdue)
        beats += loss.harness.effects.count { if case .send(loss.second, .batch) = $0 { true } else { false } }
    }
    #expect(beats == 60)
    // What it is late itself is not the workers' fault.
    loss.harness.send(.tick)
    #expect(loss.harness.core.presentWorkers.count == 2)
    loss.pass(milliseconds: 10_000)
    expectRunAgain(&loss)
}

@Test func `a worker that is silent is given up within ten seconds`() {
    var loss = Loss()
    loss.pass(milliseconds: 9000)
    let isEarly = loss.isRunAgain(on: loss.second)
    #expect(!isEarly)
    loss.pass(milliseconds: 1000)
    expectRunAgain(&loss)
}

@Test func `a new process of the same parent replaces the one before at once`() {
    var loss = Loss()
    _ = loss.harness.join(3, cpus: 1, place: 77)
    expectRunAgain(&loss)
    #expect(loss.harness.processes == [2, 3])
    // Late news of the one before change nothing.
    loss.harness.say(loss.first, [])
    #expect(loss.harness.processes == [2, 3])
}

@Test func `a batch before the hello of its connection is dropped, and the hello counts`() {
    var harness = CoreHarness()
    let peer = PeerID(1)
    harness.send(.frame(peer, .batch(Batch(epoch: ServerEpoch(1), incarnation: 1, sequence: 7, acknowledged: 0, payload: [.sessionClosed(SessionID(1))]))))
    #expect(harness.effects.isEmpty)
    _ = harness.join(1)
    #expect(harness.welcomes[peer] != nil)
}

@Test func `a server that stood still before it judged for the first time blames nobody for it`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    harness.send(.overdue)
    harness.now = harness.now.advanced(byMilliseconds: 15_000)
    harness.send(.tick)
    #expect(!harness.records.contains { if case .workerLost = $0 { true } else { false } })
    harness.pass(milliseconds: LinkTiming.silenceMillisecondsMax / 2, worker)
    #expect(!harness.records.contains { if case .workerLost = $0 { true } else { false } })
}

@Test func `nothing looks at workers that have come and gone`() {
    var harness = CoreHarness()
    let stays = harness.join(1, place: 1)
    for process in UInt64(2)...500 { _ = harness.join(process, place: 2 + process % 2) }
    #expect(harness.processes == [1, 499, 500])
    harness.send(.tick)
    #expect(harness.effects.isEmpty)
    harness.now = harness.now.advanced(byMilliseconds: 1000)
    harness.send(.tick)
    let heard = harness.effects.compactMap { if case .send(let peer, .batch) = $0 { peer } else { nil } }
    #expect(heard == [stays, PeerID(499), PeerID(500)], "the others are not looked at")
}

@Test func `who holds what is right after any changes`() {
    var random = Congruential(state: 7)
    var table = ObjectTable()
    table.append(count: 40, producer: 0)
    var holders = [[UInt32]](repeating: [], count: 40)
    for _ in 0..<4000 {
        let object = UInt32(random.below(40))
        let worker = UInt32(random.below(6))
        switch random.below(20) {
        case 0..<11:
            table.addHolder(worker, of: object)
            if !holders[Int(object)].contains(worker) { holders[Int(object)].append(worker) }
        case 11..<19:
            table.removeHolder(worker, of: object)
            holders[Int(object)].removeAll { $0 == worker }
        default:
            #expect(Array(table.takeHolders(of: object)) == holders[Int(object)])
            holders[Int(object)] = []
        }
        #expect(Array(table.holders(of: object)) == holders[Int(object)])
        #expect(Array(table.held(by: worker)) == (0..<40).filter { holders[Int($0)].contains(worker) })
    }
}

/// A linear congruential generator (Knuth's MMIX).
private struct Congruential {
    var state: UInt64
    mutating func below(_ bound: Int) -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33) % bound
    }
}
