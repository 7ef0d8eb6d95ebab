import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// A worker that has run a task of the template before, so that the next ones are known to be short; then a chain of them.
private struct Chain {
    var harness = CoreHarness()
    let worker: PeerID
    let session: SessionID
    var given: [Assignment] = []

    init(length: Int, cpus: UInt32 = 1, retryCount: UInt32 = 0, durationNanoseconds: UInt64 = 1000) {
        worker = harness.join(1, cpus: cpus)
        let id = harness.openSession(SessionOptions(onError: .failDescendants, isDetached: true, resumeToken: "t"))
        session = id
        _ = harness.request { .openLease($0, id, resumeToken: "t") }
        var build = SubmitBuilder()
        let template = build.template { $0.retryCountMax = retryCount }
        build.row(template)
        let first = build.submit
        _ = harness.request { .submit($0, id, first) }
        let known = harness.takeAssignments(worker)[0]
        harness.say(
            worker,
            [.finished(known.attempt, FinishedAttempt(outputs: [FinishedOutput(sizeBytes: 1, inline: [1])], durationNanoseconds: durationNanoseconds))])

        var submit = Submit()
        var last: UInt32?
        for index in 0..<length {
            submit.rows.template.append(0)
            submit.rows.count.append(1)
            submit.rows.firstOutputOffset.append(UInt32(index))
            if let last { submit.rows.inputs.append(last) }
            submit.rows.inputEnd.append(UInt32(submit.rows.inputs.count))
            submit.rows.argumentsEnd.append(0)
            last = 1 + UInt32(index)
        }
        let rest = submit
        _ = harness.request { .submit($0, id, rest) }
        given = harness.takeAssignments(worker)
    }

    /// As a worker tells that the first failed, and with it those that waited for it.
    func failures(_ error: TaskError) -> [WorkerMessage] {
        [.failed(given[0].attempt, error)] + given[1...].map { .failed($0.attempt, TaskError(.dependency, "its input failed")) }
    }
}

@Test func `a chain of short tasks goes ahead to one worker, each expecting the one before`() {
    var chain = Chain(length: 100)
    #expect(chain.given.count == 1 + ServerCore.aheadCountMax)
    for (before, after) in zip(chain.given, chain.given.dropFirst()) {
        #expect(after.inputs.map(\.source) == [.expect(before.attempt)])
        #expect(after.inputs[0].replica.generation == before.attempt.generation)
    }
    // As those finish, more follow; none is given twice.
    var all = chain.given
    var running = chain.given
    while !running.isEmpty {
        chain.harness.say(chain.worker, [.started(running[0].attempt), CoreHarness.finished(running.removeFirst())])
        let more = chain.harness.takeAssignments(chain.worker)
        all += more
        running += more
    }
    #expect(all.map(\.attempt.task.index) == Array(1...100))
    #expect(Set(all.map(\.attempt.number)) == [1])
}

@Test func `long tasks do not go ahead`() {
    #expect(Chain(length: 5, durationNanoseconds: 20_000_000).given.count == 1)
}

@Test func `what follows a task that is tried again comes back with it`() {
    var chain = Chain(length: 3, retryCount: 1)
    #expect(chain.given.count == 3)
    let error = TaskError(.user, "no")
    chain.harness.say(chain.worker, chain.failures(error))
    let again = chain.harness.takeAssignments(chain.worker)
    #expect(again.map(\.attempt.number) == [2, 2, 2])
    #expect(again[1].inputs.map(\.source) == [.expect(again[0].attempt)])
    chain.harness.say(chain.worker, again.map { CoreHarness.finished($0) })
    #expect(chain.harness.leaseLines.contains { if case .failed = $0 { true } else { false } } == false)
}

@Test func `what follows a task that fails for good fails with it`() {
    var chain = Chain(length: 3)
    chain.harness.say(chain.worker, chain.failures(TaskError(.user, "no")))
    let causes = chain.harness.leaseLines.compactMap { if case .failed(_, let failure) = $0 { failure.error.cause } else { nil } }
    #expect(causes == [.user, .dependency, .dependency])
}

@Test func `what follows goes with a lost worker, and goes ahead on the next`() {
    var chain = Chain(length: 3)
    let next = chain.harness.join(2, cpus: 1)
    chain.harness.send(.frame(chain.worker, .goodbye))
    let again = chain.harness.takeAssignments(next)
    #expect(again.map(\.attempt.task.index) == [1, 2, 3])
    #expect(again.map(\.attempt.number) == [2, 2, 2])
}

@Test func `what follows a cancelled task is cancelled`() {
    var chain = Chain(length: 3)
    let session = chain.session
    let cancelling = chain.harness.request { .cancel($0, session, .ranges([1..<2])) }
    #expect(chain.harness.takeInbox(chain.worker) == [.cancel(chain.given[0].attempt)])
    chain.harness.say(chain.worker, [.cancelled(chain.given[0].attempt)])
    #expect(chain.harness.replies[cancelling] == .done)
    #expect(chain.harness.leaseLines.contains(.cancelled([1..<4])))
}

@Test func `a task that is cancelled while it is ahead does not come back`() {
    var chain = Chain(length: 3, retryCount: 1)
    let session = chain.session
    let cancelling = chain.harness.request { .cancel($0, session, .ranges([3..<4])) }
    chain.harness.say(chain.worker, [.failed(chain.given[0].attempt, TaskError(.user, "no"))])
    #expect(chain.harness.replies[cancelling] == .done)
    _ = chain.harness.takeInbox(chain.worker)
}
