import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// A session, a worker and a submit; what happens next is the test's.
private struct Restart {
    var harness = CoreHarness()
    var worker: PeerID
    let session: SessionID
    var request: RequestID?

    init(onError: OnError = .failDescendants, _ build: (inout SubmitBuilder) -> Void) {
        worker = harness.join(1, cpus: 4, place: 7)
        session = harness.openSession(SessionOptions(onError: onError, isDetached: true, resumeToken: "t"))
        submit(build)
    }

    mutating func submit(_ build: (inout SubmitBuilder) -> Void) {
        var builder = SubmitBuilder()
        build(&builder)
        (builder.submit.firstTemplate, builder.submit.firstTask, builder.submit.firstObject) = (0, 0, 0)
        let (submit, id) = (builder.submit, session)
        request = harness.request { .submit($0, id, submit) }
    }

    mutating func comeBack(peer: UInt64 = 11, hasHeard: Bool = false) { worker = harness.comeBack(1, as: WorkerID(1), peer: peer, hasHeard: hasHeard) }

    mutating func status() -> SessionStatus? {
        let id = session
        let request = harness.request { .sessionStatus($0, id) }
        if case .sessionStatus(let status)? = harness.replies[request] { return status }
        return nil
    }

    mutating func lease() -> [LeaseLine] {
        let id = session
        harness.leaseLines = []
        _ = harness.request { .openLease($0, id, resumeToken: "t") }
        return harness.leaseLines
    }

    func object(_ index: UInt32, _ attempt: AttemptID) -> Replica {
        Replica(object: ObjectID(session: session, index: index), generation: attempt.generation)
    }
    static func large(_ assignment: Assignment, outputs: Int = 1) -> WorkerMessage {
        .finished(assignment.attempt, FinishedAttempt(outputs: (0..<outputs).map { _ in FinishedOutput(sizeBytes: 1_000_000) }, durationNanoseconds: 1000))
    }
}

private func expectFinished(_ count: UInt32, _ run: inout Restart, sourceLocation: SourceLocation = #_sourceLocation) {
    let status = run.status()
    #expect(status?.finishedCount == count, sourceLocation: sourceLocation)
}

@Test func `a restarted server has the sessions, outcomes, values and submits of the one before`() throws {
    var run = Restart { build in
        let template = build.template(kept: true)
        for _ in 0..<3 { build.row(template) }
    }
    let given = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, [CoreHarness.finished(given[0], [[5]]), .failed(given[1].attempt, TaskError(.user, "no"))])
    let before = run.lease()
    try run.harness.restart()

    let after = run.lease()
    #expect(after == before && before.count == 2)
    let status = run.status()
    #expect(status?.finishedCount == 1 && status?.failedCount == 1 && status?.taskCount == 3 && status?.isFailed == false)
    let id = run.session
    let request = run.harness.request { .locate($0, id, ObjectSelection(ranges: [0..<1])) }
    #expect(run.harness.replies[request] == .located([.inline([5], contentType: "", isDirectory: false)]))
    #expect(run.harness.core.openSessions == [OpenSession(session: id, outputCounts: [1])])
    // The client had no answer, and asks again.
    run.submit { build in
        let template = build.template(kept: true)
        for _ in 0..<3 { build.row(template) }
    }
    #expect(
        run.harness.replies[run.request!]
            == .submitted(SubmitReceipt(firstTemplate: 0, firstTask: 0, firstObject: 0, taskCount: 3, objectCount: 3, isRepeated: true)))
}

@Test func `a worker that comes back goes on with what runs, and is given anew what had not begun`() throws {
    var run = Restart { build in
        let template = build.template(kept: true)
        for _ in 0..<3 { build.row(template) }
    }
    let given = run.harness.takeAssignments(run.worker)
    try run.harness.restart()
    run.comeBack()
    #expect(run.harness.welcomes[run.worker]?.isRestored == true && run.harness.welcomes[run.worker]?.worker == WorkerID(1))
    run.harness.say(
        run.worker,
        [Restart.large(given[0]), .knows(run.session), .runs(given[1].attempt), .holds([run.object(0, given[0].attempt)]), .handedOver])
    let again = run.harness.takeAssignments(run.worker)
    #expect(again.map(\.attempt.task.index) == [2] && again[0].attempt.epoch == ServerEpoch(2))
    expectFinished(1, &run)
    run.harness.say(run.worker, [Restart.large(given[1]), Restart.large(again[0])])
    expectFinished(3, &run)
    #expect(run.harness.takeAssignments(run.worker).isEmpty, "nothing runs twice")
}

@Test func `a worker that alone knows of its attempt is believed`() throws {
    var run = Restart { build in build.row(build.template(kept: true)) }
    let given = run.harness.takeAssignments(run.worker)
    // The records of the assignment and of what came after it are lost.
    try run.harness.restart(keeping: try #require(run.harness.records.firstIndex { if case .assigned = $0 { true } else { false } }))
    run.comeBack()
    run.harness.say(run.worker, [.knows(run.session), .runs(given[0].attempt), .handedOver])
    #expect(run.harness.takeAssignments(run.worker).isEmpty)
    run.harness.say(run.worker, [Restart.large(given[0])])
    expectFinished(1, &run)
}

@Test func `a worker that does not come back loses what it had, and a task that must not run twice fails`() throws {
    var run = Restart { build in
        let template = build.template(kept: true)
        build.row(template)
        build.row(template)
        build.row(build.template(kept: true) { $0.rerun = .never })
    }
    let given = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, [Restart.large(given[0])])
    try run.harness.restart()
    // Nobody is told that the object is gone before its holder is.
    let id = run.session
    let request = run.harness.request { .locate($0, id, ObjectSelection(ranges: [0..<1])) }
    let other = run.harness.join(2)
    run.harness.now = run.harness.now.advanced(byMilliseconds: 3000)
    run.harness.send(.tick)
    #expect(run.harness.replies[request] == nil)
    #expect(run.harness.takeAssignments(other).isEmpty)

    run.harness.now = run.harness.now.advanced(byMilliseconds: LinkTiming.silenceMillisecondsMax)
    run.harness.say(other, [])
    run.harness.send(.tick)
    run.harness.send(.tick)
    #expect(Set(run.harness.takeAssignments(other).map(\.attempt.task.index)) == [0, 1])
    let status = run.status()
    #expect(status?.failedCount == 1 && status?.finishedCount == 0)
    // The client knew that the first had finished.
    let lines = run.lease()
    #expect(lines.contains(.finished([0..<1])))
}

@Test(arguments: [RerunPolicy.onLoss, .never])
func `a task that runs on a worker which has lost its input begins again, or fails when it must not`(rerun: RerunPolicy) throws {
    var run = Restart { build in
        let input = build.row(build.template())
        build.row(build.template { $0.rerun = rerun }, [input])
    }
    run.harness.say(run.worker, [Restart.large(run.harness.takeAssignments(run.worker)[0])])
    let given = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, given.map { .started($0.attempt) })
    try run.harness.restart()
    run.comeBack()
    run.harness.say(run.worker, [.knows(run.session), .runs(given[0].attempt), .handedOver])
    let inbox = run.harness.takeInbox(run.worker)
    #expect(inbox.contains(.cancel(given[0].attempt)))
    let again = inbox.compactMap { if case .assign(let assignment) = $0 { assignment.attempt.task.index } else { nil } }
    #expect(again == (rerun == .never ? [] : [0]))
    #expect(run.status()?.failedCount == (rerun == .never ? 1 : 0))
}

@Test func `a process that started anew at its worker's place is not taken for it`() throws {
    var run = Restart { build in build.row(build.template(kept: true)) }
    _ = run.harness.takeAssignments(run.worker)
    try run.harness.restart()
    let next = run.harness.join(5, cpus: 1, place: 7)
    #expect(run.harness.welcomes[next]?.isRestored == false)
    #expect(run.harness.records.contains { if case .workerLost(WorkerID(1), _) = $0 { true } else { false } })
    #expect(run.harness.takeAssignments(next).map(\.attempt.task.index) == [0])
}

@Test func `a task waits for the worker that alone has its input`() throws {
    var run = Restart { build in
        let template = build.template()
        build.row(template)
        build.row(template, [0])
    }
    let given = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, [Restart.large(given[0])])
    let second = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, [.revoked(second.first?.attempt ?? given[0].attempt, wasTakenBack: true)])
    _ = run.harness.takeAssignments(run.worker)
    try run.harness.restart(
        keeping: try #require(run.harness.records.lastIndex { if case .finished = $0 { true } else { false } }) + 1)
    let other = run.harness.join(2)
    run.harness.now = run.harness.now.advanced(byMilliseconds: LinkTiming.gatherMillisecondsMax + 1)
    run.harness.send(.tick)
    #expect(run.harness.takeAssignments(other).isEmpty)
    run.comeBack()
    run.harness.say(run.worker, [.knows(run.session), .holds([run.object(0, given[0].attempt)]), .handedOver])
    let placed = run.harness.takeAssignments(run.worker) + run.harness.takeAssignments(other)
    #expect(placed.map(\.attempt.task.index) == [1])
}

@Test(arguments: [false, true]) func `a worker that greets and never hands over is given up, and what it held is made again`(connectsAgain: Bool) throws {
    var run = Restart { build in
        let template = build.template()
        build.row(template)
        build.row(template, [0])
    }
    let given = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, [Restart.large(given[0])])
    try run.harness.restart(
        keeping: try #require(run.harness.records.lastIndex { if case .finished = $0 { true } else { false } }) + 1)
    let other = run.harness.join(2)
    run.comeBack()
    run.harness.say(run.worker, [.knows(run.session), .holds([run.object(0, given[0].attempt)])])
    let late = LinkTiming.handoverMillisecondsMax / 2
    run.harness.pass(milliseconds: late, run.worker, other)
    // Not even a new connection brings more time.
    if connectsAgain { run.comeBack(peer: 12, hasHeard: true) }
    run.harness.pass(milliseconds: late - 250, run.worker, other)
    #expect(run.harness.takeAssignments(other).isEmpty && !run.harness.hasLost(WorkerID(1)))
    run.harness.pass(milliseconds: 500, run.worker, other)
    #expect(run.harness.hasLost(WorkerID(1)))
    #expect(run.harness.takeAssignments(other).map(\.attempt.task.index) == [0, 1])
    // It finds out that nobody listens, and is told to begin anew.
    run.comeBack(peer: 13, hasHeard: true)
    #expect(run.harness.welcomes[run.worker].map { $0.worker != WorkerID(1) && !$0.isRestored } == true)
}

@Test func `a server that stands still gives a handover as much more time`() throws {
    var run = Restart { build in build.row(build.template(kept: true)) }
    let given = run.harness.takeAssignments(run.worker)
    try run.harness.restart()
    run.comeBack()
    run.harness.pass(milliseconds: 1000, run.worker)
    run.harness.now = run.harness.now.advanced(byMilliseconds: LinkTiming.handoverMillisecondsMax)
    run.harness.send(.tick)
    run.harness.pass(milliseconds: 1000, run.worker)
    #expect(!run.harness.hasLost(WorkerID(1)))
    run.harness.say(run.worker, [.knows(run.session), .runs(given[0].attempt), .handedOver])
    run.harness.pass(milliseconds: LinkTiming.handoverMillisecondsMax, run.worker)
    #expect(!run.harness.hasLost(WorkerID(1)), "it has handed over")
}

@Test func `a worker is told to forget what nobody needs, and sessions that are over`() throws {
    var run = Restart { build in build.row(build.template()) }
    let given = run.harness.takeAssignments(run.worker)
    run.harness.say(run.worker, [Restart.large(given[0])])
    try run.harness.restart()
    run.comeBack()
    let stranger = SessionID(50)
    run.harness.say(run.worker, [.knows(run.session), .knows(stranger), .holds([run.object(0, given[0].attempt)]), .handedOver])
    let told = run.harness.takeInbox(run.worker)
    #expect(told.contains(.drop([run.object(0, given[0].attempt)])) && told.contains(.closeSession(stranger)))
    #expect(!told.contains(.closeSession(run.session)))
}

@Test func `a task that must not run twice leaves when its record is on disk`() {
    var run = Restart { build in build.row(build.template { $0.rerun = .never }) }
    _ = run.harness.takeInbox(run.worker)
    run.harness.commitsAtOnce = false
    let id = run.session
    var builder = SubmitBuilder(firstObject: 1)
    builder.submit.rows.template = [0]
    builder.submit.rows.count = [1]
    builder.submit.rows.firstOutputOffset = [0]
    builder.submit.rows.inputEnd = [0]
    builder.submit.rows.argumentsEnd = [0]
    let submit = builder.submit
    _ = run.harness.request { .submit($0, id, submit) }
    run.harness.send(.committed(through: run.harness.appended))
    #expect(run.harness.takeAssignments(run.worker).isEmpty, "its assignment is only in memory")
    run.harness.send(.committed(through: run.harness.appended))
    #expect(run.harness.takeAssignments(run.worker).map(\.attempt.task.index) == [1])
}

@Test func `a worker throws nothing away for a reason that is not on disk`() {
    var run = Restart { build in build.row(build.template()) }
    let given = run.harness.takeAssignments(run.worker)
    run.harness.commitsAtOnce = false
    run.harness.say(run.worker, [Restart.large(given[0])])
    let id = run.session
    _ = run.harness.request { .closeSession($0, id) }
    #expect(run.harness.takeInbox(run.worker).isEmpty)
    run.harness.send(.committed(through: run.harness.appended))
    #expect(run.harness.takeInbox(run.worker).contains(.closeSession(id)))
}

@Test func `a lease has its grace from the restart on`() throws {
    var harness = CoreHarness()
    let id = harness.openSession(SessionOptions(graceMilliseconds: 8000, resumeToken: "t"))
    harness.now = harness.now.advanced(byMilliseconds: 60_000)
    try harness.restart()
    func isOpen() -> Bool { harness.core.openSessions.contains { $0.session == id } }
    harness.now = harness.now.advanced(byMilliseconds: 250)
    harness.send(.tick)
    for _ in 0..<30 {
        harness.now = harness.now.advanced(byMilliseconds: 250)
        harness.send(.tick)
    }
    #expect(isOpen())
    harness.now = harness.now.advanced(byMilliseconds: 250)
    harness.send(.tick)
    #expect(!isOpen())
}

@Test func `records that contradict each other are an error, never a trap`() {
    func core() -> ServerCore {
        ServerCore(epoch: ServerEpoch(2), dataSecret: [], depotEndpoint: Endpoint(host: "", port: 1))
    }
    let session = SessionID(1)
    let attempt = AttemptID(task: TaskID(session: session, index: 4), epoch: ServerEpoch(1), number: 1)
    var unknown = core()
    #expect(throws: RestoreError.self) { try unknown.restore(.finished(attempt, WorkerID(1), FinishedAttempt())) }
    var empty = core()
    #expect(throws: Never.self) { try empty.restore(.sessionOpened(session, SessionOptions())) }
    for record: JournalRecord in [
        .finished(attempt, WorkerID(1), FinishedAttempt()), .failed(attempt, nil, TaskError(.user, "")), .cancelled(attempt.task),
        .assigned(attempt, WorkerID(1)), .retried(attempt, WorkerID(1)), .sessionOpened(session, SessionOptions()),
        .keptChanged(session, ObjectSelection(ranges: [0..<1]), isKept: true), .cancelRequested(session, .ranges([0..<9])),
        .runAgain(session, tasks: [0..<1], objects: []), .runAgain(session, tasks: [], objects: [3..<4]),
        .lost(ObjectID(session: session, index: 0), obstacle: 0, TaskError(.user, "")),
        .submitted(session, Submit(), SubmitReceipt(firstTemplate: 0, firstTask: 0, firstObject: 0, taskCount: 3, objectCount: 0)),
    ] { #expect(throws: RestoreError.self, "\(record)") { try empty.restore(record) } }
}

@Test(arguments: [OnError.failSession, .failDescendants]) func `a server can be started again on any beginning of its journal`(onError: OnError) throws {
    var run = Restart(onError: onError) { build in
        let made = build.row(build.template())
        let elsewhere = build.template("z/y")
        build.row(elsewhere, [made])
        build.row(elsewhere, [made])
        build.row(build.template("z/y") { $0.rerun = .never }, [made])
    }
    let other = run.harness.join(2, cpus: 4, subworkers: ["z"])
    run.harness.say(run.worker, run.harness.takeAssignments(run.worker).map { Restart.large($0) })
    let given = run.harness.takeAssignments(other)
    run.harness.say(other, given.map { .started($0.attempt) })
    let id = run.session
    _ = run.harness.request { .cancel($0, id, .ranges([1..<3])) }
    run.harness.send(.frame(other, .goodbye))
    #expect(given.count == 3 && run.harness.records.contains { if case .workerLost = $0 { true } else { false } })
    for count in 1...run.harness.records.count {
        var beginning = run
        try beginning.harness.restart(keeping: count)
        beginning.comeBack()
        beginning.harness.say(beginning.worker, [.knows(id), .handedOver])
        beginning.harness.send(.tick)
    }
}

@Test func `a number of attempts beyond all measure, from a worker or a journal, is no trap`() throws {
    var run = Restart { build in build.row(build.template(kept: true)) }
    let given = run.harness.takeAssignments(run.worker)
    let assigned = try #require(run.harness.records.firstIndex { if case .assigned = $0 { true } else { false } })
    let last = AttemptID(task: given[0].attempt.task, epoch: given[0].attempt.epoch, number: .max)
    var written = run
    written.harness.records[assigned] = .assigned(last, WorkerID(1))
    try written.harness.restart()
    written.comeBack()
    written.harness.say(written.worker, [.knows(run.session), .handedOver])
    #expect(written.harness.takeAssignments(written.worker).count == 1)

    try run.harness.restart(keeping: assigned)
    run.comeBack()
    run.harness.say(run.worker, [.knows(run.session), .runs(last), .handedOver])
    run.harness.say(run.worker, [.cancelled(last)])
    let again = run.harness.takeAssignments(run.worker)
    #expect(again.count == 1)
    run.harness.say(run.worker, again.map { CoreHarness.finished($0) })
    expectFinished(1, &run)
}

@Test func `a submit whose columns do not fit together is an error, never a trap`() throws {
    let run = Restart { build in
        let template = build.template()
        build.row(template, [build.row(template)], options: Submit.RowOptions(name: "second"))
    }
    let damages: [(inout Submit.Rows) -> Void] = [
        { $0.count.removeLast() }, { $0.firstOutputOffset = [] }, { $0.inputEnd.removeLast() }, { $0.inputEnd = [1, 0] }, { $0.inputEnd = [0, 9] },
        { $0.inputs = [] }, { $0.argumentsEnd.removeLast() }, { $0.argumentsEnd = [1, 0] }, { $0.argumentsEnd = [0, 9] },
        { $0.options[0].row = 2 }, { $0.options.append((row: 0, options: Submit.RowOptions(name: "again"))) },
    ]
    for (number, damage) in damages.enumerated() {
        var damaged = run
        for position in damaged.harness.records.indices {
            guard case .submitted(let id, var submit, let receipt) = damaged.harness.records[position] else { continue }
            damage(&submit.rows)
            damaged.harness.records[position] = .submitted(id, submit, receipt)
        }
        #expect(throws: RestoreError.self, "damage \(number)") { try damaged.harness.restart() }
    }
}

@Test func `what runs again twice at once is an error, never a trap`() throws {
    var run = Restart { build in build.row(build.template(kept: true)) }
    run.harness.say(run.worker, run.harness.takeAssignments(run.worker).map { Restart.large($0) })
    for record: JournalRecord in [
        .runAgain(run.session, tasks: [0..<1, 0..<1], objects: [0..<1]), .runAgain(run.session, tasks: [0..<1], objects: [0..<1, 0..<1]),
    ] {
        var damaged = run
        damaged.harness.records.append(record)
        #expect(throws: RestoreError.self) { try damaged.harness.restart() }
    }
}
