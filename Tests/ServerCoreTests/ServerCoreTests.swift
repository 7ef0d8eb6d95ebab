import Link
import Testing

@testable import ServerCore
@testable import TaskModel

@Test func `a task runs when its submit is committed, and its end is told when that is committed`() throws {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    let lease = harness.request { .openLease($0, session, resumeToken: "token") }
    #expect(harness.replies[lease] == .lease(lease: 1))
    harness.commitsAtOnce = false

    var build = SubmitBuilder()
    build.row(build.template(kept: true))
    let submitted = harness.request { .submit($0, session, build.submit) }
    #expect(harness.replies[submitted] == nil, "not on disk yet")
    #expect(harness.takeInbox(worker).isEmpty)
    harness.send(.committed(through: harness.appended))
    #expect(harness.replies[submitted] == .submitted(SubmitReceipt(firstTemplate: 0, firstTask: 0, firstObject: 0, taskCount: 1, objectCount: 1)))
    let assignments = harness.takeAssignments(worker)
    #expect(assignments.count == 1)

    let waiting = harness.request { .wait($0, session, .all) }
    #expect(harness.replies[waiting] == nil)
    harness.say(worker, [CoreHarness.finished(assignments[0], [[1, 2]])])
    #expect(harness.replies[waiting] == nil)
    #expect(harness.leaseLines.isEmpty)
    harness.send(.committed(through: harness.appended))
    #expect(harness.replies[waiting] == .waited)
    #expect(harness.leaseLines == [.finished([0..<1])])
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [0..<1])) }
    #expect(harness.replies[located] == .located([.inline([1, 2], contentType: "", isDirectory: false)]))
}

@Test func `a worker's batch is acknowledged only after the commit of its outcomes`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template(kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    let assignments = harness.takeAssignments(worker)
    harness.commitsAtOnce = false
    func acknowledged(_ harness: CoreHarness) -> [UInt64] {
        harness.effects.compactMap { if case .send(_, .batch(let batch)) = $0 { batch.acknowledged } else { nil } }
    }
    harness.say(worker, [CoreHarness.finished(assignments[0])])
    #expect(acknowledged(harness).isEmpty)
    harness.send(.committed(through: harness.appended))
    #expect(acknowledged(harness) == [1])
}

@Test func `a repeated submit is answered again and not applied twice, another one with its ids is refused`() {
    var harness = CoreHarness()
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template())
    build.submit.firstTemplate = 0
    build.submit.firstTask = 0
    build.submit.firstObject = 0
    build.submit.hashLow = 5
    _ = harness.request { .submit($0, session, build.submit) }
    let again = harness.request { .submit($0, session, build.submit) }
    #expect(harness.replies[again] == .submitted(SubmitReceipt(firstTemplate: 0, firstTask: 0, firstObject: 0, taskCount: 1, objectCount: 1, isRepeated: true)))
    build.submit.hashLow = 6
    let other = harness.request { .submit($0, session, build.submit) }
    guard case .refused(let error)? = harness.replies[other] else { Issue.record("taken"); return }
    #expect(error.code == .conflict)
    let status = harness.request { .sessionStatus($0, session) }
    guard case .sessionStatus(let sessionStatus)? = harness.replies[status] else { Issue.record("no status"); return }
    #expect(sessionStatus.taskCount == 1)
}

@Test func `a consumer runs after its producer, gets the value inline or as held, and an unneeded object is dropped`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let template = build.template()
    let constant = build.upload([9])
    let first = build.row(template, [constant])
    build.row(template, [first, constant])
    _ = harness.request { .submit($0, session, build.submit) }
    let one = harness.takeAssignments(worker)
    #expect(one.count == 1, "the second lacks its input")
    #expect(one[0].inputs[0].source == .inline([9]))
    harness.say(worker, [CoreHarness.finished(one[0], [[7]])])
    let two = harness.takeAssignments(worker)
    #expect(two.count == 1)
    #expect(two[0].inputs.map(\.source) == [.held, .held], "the worker has both")
    harness.say(worker, [CoreHarness.finished(two[0], [[8]])])
    let dropped: [UInt32] = harness.takeInbox(worker).flatMap { message -> [UInt32] in
        if case .drop(let replicas) = message { replicas.map(\.object.index) } else { [] }
    }
    #expect(dropped.sorted() == [1, 2], "both outputs, since nobody needs or keeps them; not the constant")
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [2..<3])) }
    #expect(harness.replies[located] == .located([.dropped(2)]))
}

@Test func `another worker fetches from the one that holds, and from the depot what was uploaded`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let template = build.template()
    let big = build.row(template)
    _ = harness.request { .submit($0, session, build.submit) }
    let made = harness.takeAssignments(a)
    harness.say(a, [.finished(made[0].attempt, FinishedAttempt(outputs: [FinishedOutput(sizeBytes: 1 << 30)], durationNanoseconds: 1))])
    _ = big
    let b = harness.join(2, cpus: 4)
    var second = SubmitBuilder(firstObject: 1, firstTemplate: 1)
    let wide = second.template { $0.resources.cpus = 4 }
    second.row(wide, [0])
    let answer = harness.request { .submit($0, session, second.submit) }
    guard case .refused(let error)? = harness.replies[answer] else { Issue.record("object 0 was dropped"); return }
    #expect(error.code == .objectDropped)
    _ = b
}

@Test func `an input on another worker comes with the endpoints of its holders`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let b = harness.join(2, cpus: 4)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let small = build.template()
    let wide = build.template { $0.resources.cpus = 4 }
    build.row(wide, [build.row(small)])
    _ = harness.request { .submit($0, session, build.submit) }
    let onA = harness.takeAssignments(a)
    let onB = harness.takeAssignments(b)
    let (first, holder, port) = onA.isEmpty ? (onB[0], b, UInt16(2)) : (onA[0], a, UInt16(1))
    harness.say(holder, [.finished(first.attempt, FinishedAttempt(outputs: [FinishedOutput(sizeBytes: 10)], durationNanoseconds: 1))])
    let consumer = harness.takeAssignments(b)
    #expect(consumer.count == 1)
    if port == 1 {
        #expect(consumer[0].inputs[0].source == .fetch([Endpoint(host: "127.0.0.1", port: 1)]))
    } else {
        #expect(consumer[0].inputs[0].source == .held)
    }
}

@Test func `the first failure fails the session, stops its workers and is what everybody hears`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 2)
    let session = harness.openSession()
    _ = harness.request { .openLease($0, session, resumeToken: "token") }
    var build = SubmitBuilder()
    let template = build.template(kept: true) {
        $0.name = "boom"; $0.origin = "flow.py:3"
    }
    build.row(template)
    build.row(template)
    _ = harness.request { .submit($0, session, build.submit) }
    let assignments = harness.takeAssignments(worker)
    let waiting = harness.request { .wait($0, session, .all) }
    harness.say(worker, [.failed(assignments[1].attempt, TaskError(.user, "it broke")), .failed(assignments[0].attempt, TaskError(.user, "later"))])
    guard case .refused(let error)? = harness.replies[waiting] else { Issue.record("not told"); return }
    #expect(error.code == .sessionFailed)
    #expect(error.failure?.task == 1 && error.failure?.origin == "flow.py:3" && error.failure?.error.message == "it broke")
    #expect(harness.takeInbox(worker).contains(.closeSession(session)))
    guard case .sessionFailed(1, _)? = harness.leaseLines.last else { Issue.record("no line"); return }
    let again = harness.request { .locate($0, session, ObjectSelection(ranges: [0..<1])) }
    guard case .refused(let second)? = harness.replies[again] else { Issue.record("not refused"); return }
    #expect(second.failure == error.failure, "always the same error")
    let closing = harness.request { .closeSession($0, session) }
    #expect(harness.replies[closing] == nil, "the worker still has something of it")
    harness.say(worker, [.sessionClosed(session)])
    #expect(harness.replies[closing] == .done)
}

@Test func `with fail_descendants only what depends on the failed task fails`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 4)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, resumeToken: "token"))
    _ = harness.request { .openLease($0, session, resumeToken: "token") }
    var build = SubmitBuilder()
    let template = build.template(kept: true)
    let a = build.row(template)
    let b = build.row(template, [a])
    build.row(template, [b])
    build.row(template)
    _ = harness.request { .submit($0, session, build.submit) }
    let assignments = harness.takeAssignments(worker)
    #expect(assignments.map(\.attempt.task.index) == [0, 3])
    let waiting = harness.request { .wait($0, session, .all) }
    harness.say(worker, [.failed(assignments[0].attempt, TaskError(.user, "no"))])
    #expect(harness.replies[waiting] == nil)
    harness.say(worker, [CoreHarness.finished(assignments[1])])
    #expect(harness.replies[waiting] == .waited)
    let infos = harness.request { .taskInfo($0, session, .all) }
    guard case .taskInfos(let tasks)? = harness.replies[infos] else { Issue.record("no infos"); return }
    #expect(tasks.map(\.state) == [.failed, .failed, .failed, .finished])
    #expect(tasks[2].failure?.error.cause == .dependency)
    #expect(tasks[2].failure?.error.message.contains("no") == true, "the root cause is named")
}

@Test func `tasks are told of by their state, consequences apart, and no more than were asked for`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 2)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, resumeToken: "t"))
    var build = SubmitBuilder()
    let template = build.template(kept: true)
    let first = build.row(template)
    build.row(template, [first])
    for _ in 0..<4 { build.row(template) }
    _ = harness.request { .submit($0, session, build.submit) }
    let assignments = harness.takeAssignments(worker)
    harness.say(worker, [.started(assignments[1].attempt)])
    harness.say(worker, [.failed(assignments[0].attempt, TaskError(.user, "no"))])
    func told(_ filter: TaskFilter, _ selection: TaskSelection = .all) -> [UInt32]? {
        let request = harness.request { .taskInfo($0, session, selection, filter) }
        guard case .taskInfos(let infos)? = harness.replies[request] else { return nil }
        return infos.map(\.task)
    }
    var own = TaskFilter(states: [.failed])
    own.hasConsequences = false
    var two = TaskFilter(states: [.assigned, .running, .ready])
    two.limit = 2
    #expect(told(TaskFilter()) == [0, 1, 2, 3, 4, 5])
    #expect(told(TaskFilter(states: [.failed])) == [0, 1])
    #expect(told(own) == [0])
    #expect(told(TaskFilter(states: [.running])) == [2])
    #expect(told(TaskFilter(states: [])) == [])
    #expect(told(two) == [2, 3])
    #expect(told(two, .ranges([4..<6, 2..<4])) == [4, 5], "in the order of the question")
    #expect(told(two, .ranges([0..<7])) == nil, "a filter makes no task of one that isn't there")
}

@Test func `a task with retries runs again after its own error, and only so often`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, resumeToken: "t"))
    var build = SubmitBuilder()
    build.row(build.template { $0.retryCountMax = 1 })
    _ = harness.request { .submit($0, session, build.submit) }
    let first = harness.takeAssignments(worker)
    harness.say(worker, [.failed(first[0].attempt, TaskError(.user, "once"))])
    let second = harness.takeAssignments(worker)
    #expect(second.map(\.attempt.number) == [2])
    harness.say(worker, [.failed(second[0].attempt, TaskError(.user, "twice"))])
    #expect(harness.takeAssignments(worker).isEmpty)
    let infos = harness.request { .taskInfo($0, session, .all) }
    guard case .taskInfos(let tasks)? = harness.replies[infos] else { Issue.record("no infos"); return }
    #expect(tasks[0].failure?.error.message == "twice")
}

@Test func `cancel is answered when everything has its outcome, descendants included`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let template = build.template(kept: true)
    build.row(template, [build.row(template)])
    _ = harness.request { .submit($0, session, build.submit) }
    let assignments = harness.takeAssignments(worker)
    let cancelling = harness.request { .cancel($0, session, .ranges([0..<1])) }
    #expect(harness.replies[cancelling] == nil)
    #expect(harness.takeInbox(worker) == [.cancel(assignments[0].attempt)])
    harness.say(worker, [.cancelled(assignments[0].attempt)])
    #expect(harness.replies[cancelling] == .done)
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [0..<2])) }
    #expect(harness.replies[located] == .located([.cancelled(0), .cancelled(1)]))
}

@Test func `a lost worker's tasks run elsewhere, and its late news change nothing`() {
    var harness = CoreHarness()
    let a = harness.join(1)
    let session = harness.openSession(SessionOptions(isDetached: true))
    var build = SubmitBuilder()
    build.row(build.template(kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    let first = harness.takeAssignments(a)
    harness.now = harness.now.advanced(byMilliseconds: 250)
    harness.send(.tick)
    for _ in 0..<60 {
        harness.now = harness.now.advanced(byMilliseconds: 250)
        harness.send(.tick)
    }
    let b = harness.join(2)
    let second = harness.takeAssignments(b)
    #expect(second.map(\.attempt.number) == [2])
    // The lost one speaks on its old connection: nobody listens until it greets anew.
    harness.say(a, [CoreHarness.finished(first[0], [[1]])])
    #expect(harness.effects.isEmpty)
    harness.say(b, [CoreHarness.finished(second[0], [[2]])])
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [0..<1])) }
    #expect(harness.replies[located] == .located([.inline([2], contentType: "", isDirectory: false)]))
}

@Test func `a worker that comes back on a new connection goes on where it was`() {
    var harness = CoreHarness()
    let a = harness.join(1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template(kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    let first = harness.takeAssignments(a)
    harness.send(.peerGone(a, reason: "reset"))
    let again = PeerID(99)
    let description = WorkerDescription(hostName: "n1", processID: 1, cpus: 2, dataEndpoint: Endpoint(host: "", port: 1), store: "", subworkers: ["x"])
    harness.send(.frame(again, .hello(Hello(incarnation: 1, knownEpoch: ServerEpoch(1), knownWorker: WorkerID(1), lastReceived: 1, description: description))))
    harness.send(
        .frame(again, .batch(Batch(epoch: ServerEpoch(1), incarnation: 1, sequence: 1, acknowledged: 1, payload: [CoreHarness.finished(first[0], [[5]])]))))
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [0..<1])) }
    #expect(harness.replies[located] == .located([.inline([5], contentType: "", isDirectory: false)]))
}

@Test func `a session whose lease is not held in time closes, and a resumed lease begins with everything`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession(SessionOptions(graceMilliseconds: 1000, resumeToken: "r"))
    _ = harness.request { .openLease($0, session, resumeToken: "r") }
    var build = SubmitBuilder()
    build.row(build.template(kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    harness.send(.leaseLost(session, lease: 1, isClean: false))
    harness.say(worker, [CoreHarness.finished(harness.takeAssignments(worker)[0])])
    #expect(harness.leaseLines.isEmpty)
    let bad = harness.request { .openLease($0, session, resumeToken: "wrong") }
    guard case .refused(let error)? = harness.replies[bad] else { Issue.record("a wrong token resumed it"); return }
    #expect(error.code == .badToken)
    _ = harness.request { .openLease($0, session, resumeToken: "r") }
    #expect(harness.leaseLines == [.finished([0..<1])])

    harness.send(.leaseLost(session, lease: 1, isClean: false))
    harness.send(.tick)
    harness.now = harness.now.advanced(byMilliseconds: 3000)
    harness.send(.tick)
    let still = harness.request { .sessionStatus($0, session) }
    guard case .sessionStatus? = harness.replies[still] else { Issue.record("late news of the first lease closed it"); return }
    harness.send(.leaseLost(session, lease: 2, isClean: true))
    #expect(harness.takeInbox(worker).contains(.closeSession(session)))
}

@Test func `what is wrong with a submit is said, and nothing of it remains`() {
    var harness = CoreHarness()
    let session = harness.openSession()
    func refusal(_ submit: Submit) -> RequestError? {
        let request = harness.request { .submit($0, session, submit) }
        if case .refused(let error)? = harness.replies[request] { return error }
        return nil
    }
    var unknownTemplate = SubmitBuilder()
    _ = unknownTemplate.template()
    unknownTemplate.row(0)
    unknownTemplate.submit.rows.template[0] = 4
    #expect(refusal(unknownTemplate.submit)?.code == .unknownTemplate)

    var later = SubmitBuilder()
    let template = later.template()
    later.row(template, [1])
    later.row(template)
    #expect(refusal(later.submit)?.code == .unknownObject, "an input of a later line would allow cycles")

    var own = SubmitBuilder()
    own.row(own.template(), [0])
    #expect(refusal(own.submit)?.code == .unknownObject, "a task can't be its own input")

    var bad = SubmitBuilder()
    _ = bad.template("nothing")
    #expect(refusal(bad.submit)?.code == .badSubmit)

    var constant = SubmitBuilder()
    _ = constant.template { $0.constants = [3] }
    #expect(refusal(constant.submit)?.code == .unknownObject)

    var huge = SubmitBuilder()
    huge.row(huge.template(), count: 1)
    huge.submit.rows.count[0] = .max
    #expect(refusal(huge.submit)?.code == .tooLarge)

    var long = SubmitBuilder()
    long.row(long.template())
    long.submit.rows.arguments = [UInt8](repeating: 32, count: 2 << 20)
    long.submit.rows.argumentsEnd[0] = 2 << 20
    #expect(refusal(long.submit)?.code == .tooLarge)

    var wordy = SubmitBuilder()
    _ = wordy.template { $0.config = [UInt8](repeating: 32, count: 2 << 20) }
    #expect(refusal(wordy.submit)?.code == .tooLarge)

    var keep = SubmitBuilder()
    keep.row(keep.template(), options: Submit.RowOptions(keep: [1]))
    #expect(refusal(keep.submit)?.code == .badSubmit)

    let status = harness.request { .sessionStatus($0, session) }
    guard case .sessionStatus(let left)? = harness.replies[status] else { Issue.record("no status"); return }
    #expect(left.taskCount == 0 && left.objectCount == 0)
}

@Test func `requests for what does not exist are refused`() {
    var harness = CoreHarness()
    let session = harness.openSession()
    func code(_ make: (RequestID) -> ServerEvent) -> RequestError.Code? {
        if case .refused(let error)? = harness.replies[harness.request(make)] { return error.code }
        return nil
    }
    #expect(code { .wait($0, SessionID(77), .all) } == .unknownSession)
    #expect(code { .wait($0, session, .ranges([0..<1])) } == .unknownTask)
    #expect(code { .locate($0, session, ObjectSelection(ranges: [0..<UInt32.max])) } == .unknownObject)
    #expect(code { .setKept($0, session, ObjectSelection(ranges: [5..<6]), isKept: false) } == .unknownObject)
    #expect(code { .cancel($0, session, .ranges([3..<4])) } == .unknownTask)
    var build = SubmitBuilder()
    build.row(build.template(), count: 1000)
    _ = harness.request { .submit($0, session, build.submit) }
    let often = [Range<UInt32>](repeating: 0..<1000, count: 1001)
    #expect(code { .locate($0, session, ObjectSelection(ranges: often)) } == .unknownObject, "a million ids at most")
    #expect(code { .taskInfo($0, session, .ranges(often)) } == .unknownTask)
}

@Test func `a broken journal answers every held request with the reason`() {
    var harness = CoreHarness()
    harness.commitsAtOnce = false
    let request = harness.request { .openSession($0, SessionOptions()) }
    #expect(harness.replies[request] == nil)
    harness.send(.journalFailed(reason: "disk full"))
    guard case .refused(let error)? = harness.replies[request] else { Issue.record("held for ever"); return }
    #expect(error.code == .journal && error.message.contains("disk full"))
    let next = harness.request { .openSession($0, SessionOptions()) }
    guard case .refused? = harness.replies[next] else { Issue.record("answered"); return }
}

@Test func `a broken journal ends the waits and the lease of every session, and lets nobody wait anew`() {
    var harness = CoreHarness()
    let session = harness.openSession()
    _ = harness.request { .openLease($0, session, resumeToken: "token") }
    var build = SubmitBuilder()
    build.row(build.template(kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    let requests = [
        harness.request { .wait($0, session, .all) }, harness.request { .locate($0, session, ObjectSelection(ranges: [0..<1])) },
    ]
    harness.send(.journalFailed(reason: "disk full"))
    guard case .closed(let reason)? = harness.leaseLines.last else { Issue.record("the lease was told nothing"); return }
    #expect(reason.contains("disk full"))
    #expect(harness.effects.contains(.endLease(session, lease: 1)))
    for request in requests + [harness.request { .wait($0, session, .all) }] {
        guard case .refused(let error)? = harness.replies[request] else { Issue.record("held for ever"); return }
        #expect(error.code == .journal && error.message.contains("disk full"))
    }
}

@Test func `a task array runs each of its tasks with its index`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 8)
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template(outputs: 2, kept: true), count: 3)
    _ = harness.request { .submit($0, session, build.submit) }
    let assignments = harness.takeAssignments(worker)
    #expect(assignments.map(\.arrayIndex) == [0, 1, 2])
    #expect(assignments.map(\.firstOutput) == [0, 2, 4])
}

@Test func `a message from a worker about what it was never given is late news`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    let ghost = AttemptID(task: TaskID(session: session, index: 9), epoch: ServerEpoch(1), number: 1)
    harness.say(
        worker,
        [
            .finished(ghost, FinishedAttempt()), .started(ghost), .failed(ghost, TaskError(.user, "?")), .cancelled(ghost),
            .replicated(Replica(object: ObjectID(session: session, index: 4), generation: .uploaded)), .sessionClosed(SessionID(5)),
        ])
    #expect(harness.records.count == 2, "worker joined, session opened, nothing else")
}

@Test func `values that are too many for one message go ahead of their task`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let template = build.template()
    let values = (0..<100).map { build.upload([UInt8](repeating: UInt8($0), count: 4096)) }
    build.row(template, values)
    build.row(template, values)
    _ = harness.request { .submit($0, session, build.submit) }
    var provided: [InputAssignment] = []
    var assigned: [Assignment] = []
    for message in harness.takeInbox(worker) {
        switch message {
        case .provide(let values):
            #expect(message.estimatedBytes < ControlLimits.batchBytesMax)
            #expect(assigned.isEmpty, "values come first")
            provided += values
        case .assign(let assignment): assigned.append(assignment)
        case .session, .template, .revoke, .cancel, .drop, .closeSession: break
        }
    }
    #expect(provided.map(\.replica.object.index) == values, "each once")
    #expect(assigned.count == 2)
    for assignment in assigned { #expect(assignment.inputs.allSatisfy { $0.source == .held }) }
}

@Test(arguments: [OnError.failSession, .failDescendants]) func `a task that fits into no message fails, and says why`(onError: OnError) {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 4)
    let session = harness.openSession(SessionOptions(onError: onError, isDetached: true, resumeToken: "t"))
    _ = harness.request { .openLease($0, session, resumeToken: "t") }
    var build = SubmitBuilder()
    for number in 0..<20 as Range<UInt32> {
        build.submit.uploads.append(
            .init(
                offset: number, attributes: [UInt8](repeating: 0x20, count: 1 << 20),
                value: .blob(BlobHash(bytes: [UInt8](repeating: UInt8(number), count: 32))!, sizeBytes: 1 << 20)))
    }
    build = SubmitBuilder(adding: build.submit)
    let template = build.template(kept: true)
    build.row(template, Array(0..<20))
    build.row(template, Array(0..<9))
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    let given = harness.takeAssignments(worker)
    #expect(given.map(\.attempt.task.index) == [1])
    for assignment in given { #expect(assignment.inputs.allSatisfy { $0.source != .held }, "the worker was not told to fetch them before") }
    let failures = harness.leaseLines.compactMap { line -> TaskFailure? in
        switch line {
        case .failed(_, let failure), .sessionFailed(_, let failure): failure
        default: nil
        }
    }
    #expect(failures.map(\.task) == [0] && failures[0].error.cause == .setup && failures[0].error.message.contains("20 inputs"))
    harness.say(worker, given.map { CoreHarness.finished($0) })
}

@Test func `an object with more holders than a message has room for names one of each`() {
    var harness = CoreHarness()
    let session = harness.openSession()
    let inputCount = 20_000
    let makers = (1...6 as ClosedRange<UInt64>).map { harness.join($0, cpus: 1, subworkers: ["x"]) }
    var build = SubmitBuilder()
    let made = build.row(build.template(outputs: inputCount))
    build.row(build.template("z/y"), Array(made..<made + UInt32(inputCount)))
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    let attempt = harness.takeAssignments(makers[0])[0].attempt
    harness.say(
        makers[0],
        [
            .finished(
                attempt,
                FinishedAttempt(
                    outputs: Array(repeating: FinishedOutput(sizeBytes: 10_000, contentType: String(repeating: "t", count: 400)), count: inputCount),
                    durationNanoseconds: 1))
        ])
    for maker in makers.dropFirst() {
        harness.say(
            maker,
            (made..<made + UInt32(inputCount)).map {
                .replicated(Replica(object: ObjectID(session: session, index: $0), generation: attempt.generation))
            })
    }
    let user = harness.join(50, subworkers: ["z"])
    let messages = harness.takeInbox(user)
    #expect(messages.allSatisfy { $0.estimatedBytes <= ControlLimits.assignmentBytesMax })
    #expect(messages.contains { if case .assign(let given) = $0 { given.inputs.count == inputCount } else { false } })
}

@Test func `a long error is not repeated by each task that is not run for it`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, isDetached: true, resumeToken: "t"))
    _ = harness.request { .openLease($0, session, resumeToken: "t") }
    var build = SubmitBuilder()
    let template = build.template()
    let first = build.row(template)
    let second = build.row(template, [first], count: 50)
    build.row(template, [second])
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    let message = String(repeating: "é", count: 500_000)
    harness.say(worker, harness.takeAssignments(worker).map { .failed($0.attempt, TaskError(.user, message)) })
    let failures = harness.leaseLines.compactMap { if case .failed(_, let failure) = $0 { failure } else { nil } }
    #expect(failures.count == 52 && failures[0].error.message == message)
    #expect(failures.dropFirst().allSatisfy { $0.error.message.hasPrefix("not run, since task x/y (0) failed: é") && $0.error.message.utf8.count < 2100 })
    var more = SubmitBuilder(firstObject: 52, firstTemplate: 1)
    more.row(more.template(), [first])
    let last = more.submit
    _ = harness.request { .submit($0, session, last) }
    guard case .failed(52, let late)? = harness.leaseLines.last else { return #expect(Bool(false), "a later one fails at once") }
    #expect(late.error.message.utf8.count < 2100)
}

@Test func `constants are found among uploads and outputs of the same submit`() {
    var harness = CoreHarness()
    let session = harness.openSession(SessionOptions(isDetached: true))
    var build = SubmitBuilder()
    let plain = build.template()
    var (uploads, outputs): ([UInt32], [UInt32]) = ([], [])
    for _ in 0..<5 {
        uploads += [build.upload([1]), build.upload([2])]
        outputs.append(build.row(plain))
    }
    func answer(_ constant: UInt32) -> ServerReply? {
        var (build, harness) = (build, harness)
        build.row(build.template { $0.constants = [constant] })
        let submit = build.submit
        let request = harness.request { .submit($0, session, submit) }
        return harness.replies[request]
    }
    for constant in uploads { #expect({ if case .submitted? = answer(constant) { true } else { false } }(), "object \(constant)") }
    for constant in outputs + [outputs.last! + 1, outputs.last! + 2, .max] {
        #expect({ if case .refused(let error)? = answer(constant) { error.code == .unknownObject } else { false } }(), "object \(constant)")
    }
}

@Test func `what one event drops goes in messages of a bounded size`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template(outputs: 20_000, kept: true))
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    harness.say(
        worker, harness.takeAssignments(worker).map { CoreHarness.finished($0, Array(repeating: [], count: 20_000)) })
    _ = harness.request { .setKept($0, session, ObjectSelection(ranges: [0..<20_000]), isKept: false) }
    let drops = harness.takeInbox(worker).compactMap { if case .drop(let replicas) = $0 { replicas } else { nil } }
    #expect(drops.map(\.count) == [8192, 8192, 3616])
    #expect(drops.joined().map(\.object.index) == Array(0..<20_000))
}

@Test func `a worker that could not fetch an object is no holder of it`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, isDetached: true))
    var build = SubmitBuilder()
    build.submit.uploads.append(.init(offset: 0, value: .blob(BlobHash(bytes: [UInt8](repeating: 1, count: 32))!, sizeBytes: 1 << 20)))
    build = SubmitBuilder(adding: build.submit)
    let template = build.template()
    build.row(template, [0])
    _ = harness.request { .submit($0, session, build.submit) }
    let first = harness.takeAssignments(worker)
    #expect(first[0].inputs[0].source == .fetch([Endpoint(host: "", port: 7210)]))
    harness.say(worker, [.missing(first[0].inputs[0].replica), .failed(first[0].attempt, TaskError(.setup, "no holder"))])
    var second = SubmitBuilder(firstObject: 2, firstTemplate: 1)
    second.row(second.template(), [0])
    _ = harness.request { .submit($0, session, second.submit) }
    #expect(harness.takeAssignments(worker).first?.inputs[0].source == .fetch([Endpoint(host: "", port: 7210)]))
}

@Test func `the depot hears in order which uploads sessions have, whoever hears the answers`() {
    var harness = CoreHarness()
    let hash = BlobHash(bytes: [UInt8](repeating: 1, count: 32))!
    func submit() -> Submit {
        var build = SubmitBuilder()
        build.submit.uploads.append(.init(offset: 0, value: .blob(hash, sizeBytes: 1 << 20)))
        (build.submit.firstTemplate, build.submit.firstTask, build.submit.firstObject, build.submit.hashLow) = (0, 0, 0, 5)
        return build.submit
    }
    let options = SessionOptions(isDetached: true)
    let sessions = [harness.openSession(options), harness.openSession(options)]
    // A client that goes before it has the answer has its submit all the same, and asks again.
    harness.commitsAtOnce = false
    let lost = harness.request { .submit($0, sessions[0], submit()) }
    harness.send(.withdraw(lost))
    #expect(harness.blobs.isEmpty, "nothing is true before it is on disk")
    harness.commitsAtOnce = true
    _ = harness.request { .submit($0, sessions[0], submit()) }
    harness.send(.committed(through: harness.appended))
    #expect(harness.blobs.map(\.isClaimed) == [true])
    _ = harness.request { .submit($0, sessions[1], submit()) }
    _ = harness.request { .closeSession($0, sessions[0]) }
    #expect(harness.blobs.map(\.isClaimed) == [true, true], "the other session has it")
    _ = harness.request { .closeSession($0, sessions[1]) }
    #expect(harness.blobs.map(\.isClaimed) == [true, true, false])
}

@Test func `a session without grace leaves its client the time to take the first lease, and ends with that`() {
    var harness = CoreHarness()
    let session = harness.openSession(SessionOptions(graceMilliseconds: 0, resumeToken: "token"))
    harness.now = harness.now.advanced(byMilliseconds: 1000)
    harness.send(.tick)
    let lease = harness.request { .openLease($0, session, resumeToken: "token") }
    #expect(harness.replies[lease] == .lease(lease: 1))
    harness.send(.leaseLost(session, lease: 1, isClean: false))
    let status = harness.request { .sessionStatus($0, session) }
    guard case .refused(let error)? = harness.replies[status] else { Issue.record("the session lives"); return }
    #expect(error.code == .unknownSession)
}

@Test func `a task that is too large for every worker holds up nobody, says what it waits for, and runs on a larger one`() {
    var harness = CoreHarness()
    let small = harness.join(1, cpus: 2)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let wide = build.template { $0.resources.cpus = 8 }
    let narrow = build.template()
    build.row(wide, count: 2)
    build.row(narrow)
    _ = harness.request { .submit($0, session, build.submit) }
    #expect(harness.takeAssignments(small).map(\.attempt.task.index) == [2])
    let cancelled = harness.request { .cancel($0, session, .ranges([0..<1])) }
    #expect(harness.replies[cancelled] == .done)
    func hints() -> [String] {
        guard case .sessionStatus(let status)? = harness.replies[harness.request { .sessionStatus($0, session) }] else { return ["?"] }
        return status.hints
    }
    #expect(
        hints() == ["tasks of type x/y wait for 8 CPUs, but the largest worker that could run them has 2: lower the request or add a worker"],
        "the client can learn why it waits")
    let large = harness.join(2, cpus: 8)
    #expect(hints().isEmpty)
    #expect(harness.takeAssignments(large).map(\.attempt.task.index) == [1])
}

@Test func `a task array whose inputs are more than can be counted is refused`() {
    var harness = CoreHarness()
    let session = harness.openSession()
    var build = SubmitBuilder()
    let input = build.upload([1])
    build.row(build.template(outputs: 0), Array(repeating: input, count: 430), count: 10_000_000)
    let answer = harness.request { .submit($0, session, build.submit) }
    guard case .refused(let error)? = harness.replies[answer] else { Issue.record("taken"); return }
    #expect(error.code == .tooLarge)
}

@Test func `an object may follow a row without outputs`() {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    var build = SubmitBuilder()
    let mute = build.template(outputs: 0)
    build.row(mute)
    let given = build.upload([1])
    let made = build.row(build.template(), [given])
    build.row(mute, [made])
    let after = build.upload([2])
    build.row(mute, [after])
    let answer = harness.request { .submit($0, session, build.submit) }
    #expect(harness.replies[answer] == .submitted(SubmitReceipt(firstTemplate: 0, firstTask: 0, firstObject: 0, taskCount: 4, objectCount: 3)))
    let assignments = harness.takeAssignments(worker)
    #expect(assignments.map(\.attempt.task.index) == [0, 1, 3])
    #expect(assignments.map { $0.inputs.map(\.source) } == [[], [.inline([1])], [.inline([2])]])
}

@Test func `tasks without a cpu are given away up to a bound, and hold up no others`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 2)
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template { $0.resources.cpus = 0 }, count: 1000)
    let work = build.template()
    for _ in 0..<2 { build.row(work) }
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    let given = harness.takeAssignments(worker)
    #expect(given.count { $0.attempt.task.index < 1000 } == 130)
    #expect(given.count { $0.attempt.task.index >= 1000 } == 2)
    harness.say(worker, given.prefix(10).map { CoreHarness.finished($0) })
    #expect(harness.takeAssignments(worker).map(\.attempt.task.index) == Array(130..<138))
}

@Test func `a session whose client has not been answered is not closed for want of a lease`() {
    var harness = CoreHarness()
    harness.commitsAtOnce = false
    let request = harness.request { .openSession($0, SessionOptions(graceMilliseconds: 0, resumeToken: "t")) }
    harness.pass(milliseconds: 20_000)
    #expect(harness.replies[request] == nil, "the disk is slow")
    harness.commitsAtOnce = true
    harness.send(.committed(through: harness.appended))
    #expect(harness.replies[request] == .sessionOpened(SessionID(1), resumeToken: "t"))
    // Then it has its time, and as much more as the server stands still.
    harness.pass(milliseconds: 4000)
    harness.now = harness.now.advanced(byMilliseconds: 9000)
    harness.send(.tick)
    harness.pass(milliseconds: 500)
    let lease = harness.request { .openLease($0, SessionID(1), resumeToken: "t") }
    #expect(harness.replies[lease] == .lease(lease: 1))
    let other = harness.openSession(SessionOptions(resumeToken: "t"))
    harness.pass(milliseconds: 5500)
    let late = harness.request { .openLease($0, other, resumeToken: "t") }
    if case .refused(let error)? = harness.replies[late] { #expect(error.code == .unknownSession) } else { Issue.record("it is still open") }
}
