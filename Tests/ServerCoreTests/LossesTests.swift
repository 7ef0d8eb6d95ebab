import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// A worker whose processes die, each followed by another of the same parent.
private struct Dying {
    var harness = CoreHarness()
    var peer: PeerID
    private var processes: UInt64 = 1
    let session: SessionID

    init(onError: OnError = .failDescendants, cpus: UInt32 = 1) {
        peer = harness.join(1, cpus: cpus, place: 7)
        session = harness.openSession(SessionOptions(onError: onError, isDetached: true, resumeToken: "token"))
        _ = harness.request { [session] in .openLease($0, session, resumeToken: "token") }
    }

    mutating func submit(_ make: (inout SubmitBuilder) -> Void) {
        var build = SubmitBuilder()
        make(&build)
        _ = harness.request { [session] in .submit($0, session, build.submit) }
    }

    mutating func dies(running: [AttemptID]?) {
        processes += 1
        let predecessor = running.map { Predecessor(end: "signal 9 (SIGKILL)", running: $0) }
        peer = harness.join(processes, cpus: 1, place: 7, predecessor: predecessor)
    }

    var failure: TaskError? {
        for case .failed(_, let failure) in harness.leaseLines { return failure.error }
        return nil
    }
}

@Test func `a task that ran on three workers when they were lost fails, and says which`() {
    var dying = Dying()
    dying.submit { $0.row($0.template(), count: 2) }
    for loss in UInt16(0)..<3 {
        let assigned = dying.harness.takeAssignments(dying.peer)
        #expect(Set(assigned.map(\.attempt.task.index)) == [0, 1])
        let first = assigned.first { $0.attempt.task.index == 0 }!
        let second = assigned.first { $0.attempt.task.index == 1 }!
        #expect(first.lossCount == loss && second.lossCount == 0, "what only waited there is not charged")
        dying.dies(running: [first.attempt])
    }
    let error = dying.failure
    #expect(error?.cause == .workerLost)
    #expect(
        error?.message
            == "3 workers were lost while they ran the task: worker w1 (signal 9 (SIGKILL)), worker w2 (signal 9 (SIGKILL)), worker w3 (signal 9 (SIGKILL)). "
            + "It is not run again, since it may be what ends them: see whether it kills its parent process or takes all memory, and what the workers' logs say"
    )
    let rest = dying.harness.takeAssignments(dying.peer)
    #expect(rest.map(\.attempt.task.index) == [1])
    dying.harness.say(dying.peer, rest.map { CoreHarness.finished($0) })
    #expect(dying.harness.leaseLines.last == .finished([1..<2]))
}

@Test func `a session that fails as a whole fails with it`() {
    var dying = Dying(onError: .failSession)
    dying.submit { $0.row($0.template()) }
    for _ in 0..<3 { dying.dies(running: dying.harness.takeAssignments(dying.peer).map(\.attempt)) }
    guard case .sessionFailed(0, let failure)? = dying.harness.leaseLines.last else {
        Issue.record("\(dying.harness.leaseLines)")
        return
    }
    #expect(failure.error.cause == .workerLost)
}

@Test func `a worker that is lost without a word is charged to what it had said to run`() {
    var dying = Dying()
    dying.submit { $0.row($0.template(), count: 2) }
    let assigned = dying.harness.takeAssignments(dying.peer)
    dying.harness.say(dying.peer, [.started(assigned[0].attempt)])
    let other = dying.harness.join(50, cpus: 1)
    dying.harness.pass(milliseconds: 10_000, other)
    let again = dying.harness.takeAssignments(other)
    #expect(again.first { $0.attempt.task == assigned[0].attempt.task }?.lossCount == 1)
    #expect(again.first { $0.attempt.task == assigned[1].attempt.task }?.lossCount == 0)
}

@Test func `a worker that ends on purpose is charged to nobody`() {
    var dying = Dying()
    dying.submit { $0.row($0.template()) }
    for process in UInt64(2)..<8 {
        let assigned = dying.harness.takeAssignments(dying.peer)
        #expect(assigned.map(\.lossCount) == [0])
        dying.harness.say(dying.peer, [.started(assigned[0].attempt)])
        dying.harness.send(.frame(dying.peer, .goodbye))
        dying.peer = dying.harness.join(process, cpus: 1, place: 7)
    }
    #expect(dying.failure == nil)
}

@Test func `a loss that is told late, and twice, is charged once`() {
    var dying = Dying()
    dying.submit { $0.row($0.template()) }
    let attempt = dying.harness.takeAssignments(dying.peer)[0].attempt
    dying.harness.send(.peerGone(dying.peer, reason: "reset"))
    dying.harness.pass(milliseconds: 3000)
    dying.dies(running: [attempt])
    let again = dying.harness.takeAssignments(dying.peer)
    #expect(again.map(\.lossCount) == [1])
    dying.dies(running: [attempt])
    let third = dying.harness.takeAssignments(dying.peer)
    #expect(third.map(\.lossCount) == [1], "the attempt that ran now is another")
    dying.harness.say(dying.peer, [CoreHarness.finished(third[0])])
    #expect(dying.harness.leaseLines == [.finished([0..<1])])
}

@Test func `losses outlive the server`() throws {
    var dying = Dying()
    dying.submit { $0.row($0.template()) }
    for _ in 0..<2 { dying.dies(running: dying.harness.takeAssignments(dying.peer).map(\.attempt)) }
    try dying.harness.restart()
    let fresh = dying.harness.join(60, cpus: 1)
    dying.harness.pass(milliseconds: 12_000, fresh)
    let assigned = dying.harness.takeAssignments(fresh)
    #expect(assigned.map(\.lossCount) == [2])
}
