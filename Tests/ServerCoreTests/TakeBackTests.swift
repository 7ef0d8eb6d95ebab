import Link
import Scheduling
import Testing

@testable import ServerCore
@testable import TaskModel

/// A worker of one CPU that was given five tasks of unknown duration, one of which it runs.
private struct Queue {
    var harness = CoreHarness()
    let busy: PeerID
    let session: SessionID
    var given: [Assignment] = []

    init(
        count: Int = 5, asArray: Bool = false, onError: OnError = .failDescendants, edit: (inout TaskTemplate) -> Void = { _ in }
    ) {
        busy = harness.join(1, cpus: 1)
        let id = harness.openSession(SessionOptions(onError: onError, isDetached: true, resumeToken: "t"))
        session = id
        _ = harness.request { .openLease($0, id, resumeToken: "t") }
        var build = SubmitBuilder()
        let template = build.template(edit: edit)
        if asArray { build.row(template, count: UInt32(count)) } else { for _ in 0..<count { build.row(template) } }
        let submit = build.submit
        _ = harness.request { .submit($0, id, submit) }
        given = harness.takeAssignments(busy)
        harness.say(busy, [.started(given[0].attempt)])
    }

    /// What the worker is asked to give back, by task.
    mutating func asked() -> [UInt32] {
        harness.takeInbox(busy).compactMap { if case .revoke(let attempt) = $0 { attempt.task.index } else { nil } }
    }

    mutating func answer(_ tasks: [UInt32], wasTakenBack: Bool = true) {
        let given = given
        harness.say(busy, tasks.map { .revoked(given[Int($0)].attempt, wasTakenBack: wasTakenBack) })
    }

    var outcomes: [LeaseLine] { harness.leaseLines }
}

private func numbers(_ assignments: [Assignment]) -> [[UInt32]] { assignments.map { [$0.attempt.task.index, $0.attempt.number] } }

@Test func `a worker that joins gets half of what is queued elsewhere, the youngest`() {
    var queue = Queue()
    #expect(queue.given.count == 5)
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    #expect(queue.harness.takeAssignments(idle).isEmpty, "not before they are given back")
    queue.answer([4, 3])
    let moved = queue.harness.takeAssignments(idle)
    #expect(numbers(moved) == [[3, 2], [4, 2]])
    queue.harness.say(idle, moved.map { CoreHarness.finished($0) })
    queue.harness.say(queue.busy, queue.given[0...2].map { CoreHarness.finished($0) })
    #expect(queue.outcomes == [.finished([3..<5]), .finished([0..<3])])
}

@Test func `nothing is asked for twice while the answer is on its way`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    for _ in 0..<3 { queue.harness.send(.tick) }
    let other = queue.harness.join(3, cpus: 1)
    #expect(queue.asked() == [])
    queue.answer([4, 3])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[3, 2]])
    #expect(numbers(queue.harness.takeAssignments(other)) == [[4, 2]])
}

@Test func `several idle workers share what is taken back`() {
    var queue = Queue()
    let others = [queue.harness.join(2, cpus: 1), queue.harness.join(3, cpus: 1), queue.harness.join(4, cpus: 1)]
    queue.answer(queue.asked())
    queue.answer(queue.asked())
    #expect(others.map { queue.harness.takeAssignments($0).count } == [2, 1, 1] || queue.asked().isEmpty)
    #expect(queue.harness.core.scheduler.loads.map { $0?.assignedCount } == [2, 1, 1, 1])
}

@Test func `an attempt that had begun stays, and is not asked for again`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    queue.answer([4, 3], wasTakenBack: false)
    // Others may be asked for, those two never.
    var asked: [UInt32] = queue.asked()
    queue.answer(asked)
    for _ in 0..<3 {
        queue.harness.send(.tick)
        asked += queue.asked()
    }
    #expect(asked == [2, 1])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[1, 2], [2, 2]])
    let given = queue.given
    queue.harness.say(queue.busy, [0, 3, 4].map { CoreHarness.finished(given[$0]) })
    #expect(queue.outcomes == [.finished([0..<1, 3..<5])])
}

@Test func `an outcome that comes before the answer counts`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    let given = queue.given
    queue.harness.say(queue.busy, [CoreHarness.finished(given[4]), .revoked(given[4].attempt, wasTakenBack: false)])
    queue.answer([3])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[3, 2]])
    #expect(queue.outcomes == [.finished([4..<5])])
}

@Test func `an answer that comes twice, or late, changes nothing`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    queue.answer([4, 3, 4])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[3, 2], [4, 2]])
    queue.answer([3, 4])
    queue.answer([3, 4], wasTakenBack: false)
    #expect(queue.harness.takeAssignments(idle).isEmpty && queue.harness.takeAssignments(queue.busy).isEmpty)
}

@Test(arguments: [false, true]) func `a task that is cancelled while it is asked for is cancelled once`(isTakenBack: Bool) {
    var queue = Queue()
    let session = queue.session
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    let cancelling = queue.harness.request { .cancel($0, session, .ranges([4..<5])) }
    // The worker handles the two in order: what was given back is unknown when the cancel comes.
    let attempt = queue.given[4].attempt
    queue.harness.say(queue.busy, isTakenBack ? [.revoked(attempt, wasTakenBack: true)] : [.revoked(attempt, wasTakenBack: false), .cancelled(attempt)])
    #expect(queue.harness.replies[cancelling] == .done)
    #expect(queue.outcomes == [.cancelled([4..<5])])
    queue.answer([3])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[3, 2]])
}

@Test func `a worker that is lost while it is asked gives everything back`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    queue.harness.send(.frame(queue.busy, .goodbye))
    let again = queue.harness.takeAssignments(idle)
    #expect(again.map(\.attempt.task.index).sorted() == [0, 1, 2, 3, 4])
    #expect(again.allSatisfy { $0.attempt.number == 2 })
}

@Test func `the worker that it was asked for may be lost meanwhile`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    queue.harness.send(.frame(idle, .goodbye))
    queue.answer([4, 3])
    #expect(numbers(queue.harness.takeAssignments(queue.busy)) == [[3, 2], [4, 2]])
}

@Test func `what must not run twice moves too, and fails when its worker is lost before it answers`() {
    var queue = Queue { $0.rerun = .never }
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    queue.answer([4])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[4, 2]])
    queue.harness.send(.frame(queue.busy, .goodbye))
    let failed = queue.outcomes.compactMap { if case .failed(let task, let failure) = $0 { failure.error.cause == .workerLost ? task : nil } else { nil } }
    #expect(failed == [0, 1, 2, 3])
}

@Test func `tasks of an array move one by one`() {
    var queue = Queue(asArray: true)
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    queue.answer([3])
    queue.answer([4])
    let moved = queue.harness.takeAssignments(idle)
    #expect(numbers(moved) == [[3, 2], [4, 2]])
    #expect(moved.map(\.arrayIndex) == [3, 4])
}

@Test func `what follows a task comes with it`() {
    var harness = CoreHarness()
    let busy = harness.join(1, cpus: 1)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, isDetached: true, resumeToken: "t"))
    _ = harness.request { .openLease($0, session, resumeToken: "t") }
    var build = SubmitBuilder()
    let long = build.template()
    let short = build.template("x/short")
    build.row(short)
    let known = build.submit
    _ = harness.request { .submit($0, session, known) }
    let first = harness.takeAssignments(busy)[0]
    harness.say(busy, [CoreHarness.finished(first)])
    // Four long ones, the last of which is followed by two short ones.
    var submit = Submit()
    for task in UInt32(0)..<6 {
        submit.rows.template.append(task < 4 ? long : short)
        submit.rows.count.append(1)
        submit.rows.firstOutputOffset.append(task)
        if task >= 4 { submit.rows.inputs.append(task) }
        submit.rows.inputEnd.append(UInt32(submit.rows.inputs.count))
        submit.rows.argumentsEnd.append(0)
    }
    let rest = submit
    _ = harness.request { .submit($0, session, rest) }
    let given = harness.takeAssignments(busy)
    #expect(given.map(\.attempt.task.index) == [1, 2, 3, 4, 5, 6])
    harness.say(busy, [.started(given[0].attempt)])

    let idle = harness.join(2, cpus: 1)
    let asked = harness.takeInbox(busy)
    #expect(asked == [.revoke(given[3].attempt), .revoke(given[2].attempt)] || asked == [.revoke(given[3].attempt)])
    // The worker gives back what waits for it, too.
    harness.say(busy, [3, 4, 5].map { .revoked(given[$0].attempt, wasTakenBack: true) })
    let moved = harness.takeAssignments(idle)
    #expect(numbers(moved) == [[4, 2], [5, 2], [6, 2]])
    #expect(moved[1].inputs.map(\.source) == [.expect(moved[0].attempt)])
    #expect(moved[2].inputs.map(\.source) == [.expect(moved[1].attempt)])
}

@Test func `a task does not follow one that is asked for`() {
    var queue = Queue()
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 3])
    var submit = Submit()
    submit.rows.template = [0, 0]
    submit.rows.count = [1, 1]
    submit.rows.firstOutputOffset = [0, 1]
    submit.rows.inputs = [4, 0]
    submit.rows.inputEnd = [1, 2]
    submit.rows.argumentsEnd = [0, 0]
    let (more, session) = (submit, queue.session)
    _ = queue.harness.request { .submit($0, session, more) }
    queue.answer([4, 3])
    let moved = queue.harness.takeAssignments(idle)
    #expect(moved.map(\.attempt.task.index) == [3, 4])
}

@Test func `a task moves three times at most`() {
    var queue = Queue()
    queue.harness.core.sessions[0]!.tasks.takenBackCounts = [4: 2, 3: 3]
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [4, 2])
    queue.answer([4, 2])
    #expect(numbers(queue.harness.takeAssignments(idle)) == [[2, 2], [4, 2]])
    #expect(queue.harness.core.sessions[0]!.tasks.takenBackCounts == [4: 3, 3: 3, 2: 1])
    queue.harness.say(queue.busy, [CoreHarness.finished(queue.given[3])])
    #expect(queue.harness.core.sessions[0]!.tasks.takenBackCounts == [4: 3, 2: 1])
}

@Test func `a worker that can't be reached is not asked`() {
    var queue = Queue()
    queue.harness.send(.peerGone(queue.busy, reason: "reset"))
    let idle = queue.harness.join(2, cpus: 1)
    #expect(queue.harness.core.scheduler.loads[0]?.outgoingCount == 0)
    #expect(queue.harness.takeAssignments(idle).isEmpty)
}

@Test func `what is worked off before an answer could come is left alone`() {
    var queue = Queue(count: 1)
    queue.harness.say(queue.busy, [CoreHarness.finished(queue.given[0])])
    // Known to take a microsecond each now.
    var submit = Submit()
    for task in UInt32(0)..<80 {
        submit.rows.template.append(0)
        submit.rows.count.append(1)
        submit.rows.firstOutputOffset.append(task)
        submit.rows.inputEnd.append(0)
        submit.rows.argumentsEnd.append(0)
    }
    let (more, session) = (submit, queue.session)
    _ = queue.harness.request { .submit($0, session, more) }
    #expect(queue.harness.takeAssignments(queue.busy).count == 80)
    _ = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [])
}

@Test func `a queue that was thought short is shared when it does not move`() {
    var queue = Queue(count: 1)
    queue.harness.say(queue.busy, [CoreHarness.finished(queue.given[0])])
    var submit = Submit()
    for task in UInt32(0)..<80 {
        submit.rows.template.append(0)
        submit.rows.count.append(1)
        submit.rows.firstOutputOffset.append(task)
        submit.rows.inputEnd.append(0)
        submit.rows.argumentsEnd.append(0)
    }
    let (more, session) = (submit, queue.session)
    _ = queue.harness.request { .submit($0, session, more) }
    let given = queue.harness.takeAssignments(queue.busy)
    _ = queue.harness.join(2, cpus: 1)
    #expect(queue.asked() == [])
    queue.harness.say(queue.busy, [.started(given[0].attempt)])
    queue.harness.now = queue.harness.now.advanced(byMilliseconds: 49)
    queue.harness.send(.tick)
    #expect(queue.asked() == [])
    queue.harness.now = queue.harness.now.advanced(byMilliseconds: 2)
    queue.harness.send(.tick)
    #expect(queue.asked().first == 80)
}

@Test func `one event asks for a bounded number, and the next goes on`() {
    var harness = CoreHarness()
    let busy = harness.join(1, cpus: 40)
    let session = harness.openSession()
    var build = SubmitBuilder()
    build.row(build.template(), count: 200)
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    let given = harness.takeAssignments(busy)
    #expect(given.count == 200)
    let idle = harness.join(2, cpus: 200)
    var moved = 0
    while true {
        let asked: [AttemptID] = harness.takeInbox(busy).compactMap { if case .revoke(let attempt) = $0 { attempt } else { nil } }
        if asked.isEmpty { break }
        #expect(asked.count <= 64)
        harness.say(busy, asked.map { .revoked($0, wasTakenBack: true) })
        moved += harness.takeAssignments(idle).count
    }
    #expect(moved == 160, "all that could not begin at once")
}

// MARK: Bytes

/// Two workers; the first one holds an object of so many bytes, and works on so many tasks.
private struct Held {
    var harness = CoreHarness()
    let holder: PeerID
    var idle: PeerID
    let session: SessionID
    var queued: [Assignment] = []

    init(bytes: UInt64, queuedBefore: Int = 0, queuedAfter: Int = 0) {
        holder = harness.join(1, cpus: 1)
        idle = holder
        let id = harness.openSession(SessionOptions(isDetached: true, resumeToken: "t"))
        session = id
        var build = SubmitBuilder()
        let maker = build.template("x/make")
        _ = build.template("x/use")
        build.row(maker)
        let submit = build.submit
        _ = harness.request { .submit($0, id, submit) }
        let made = harness.takeAssignments(holder)[0]
        let keep = harness.request { .setKept($0, id, ObjectSelection(ranges: [0..<1]), isKept: true) }
        #expect(harness.replies[keep] == .done)
        harness.say(holder, [.finished(made.attempt, FinishedAttempt(outputs: [FinishedOutput(sizeBytes: bytes)], durationNanoseconds: 1000))])
        submitUsers(queuedBefore)
        queued = harness.takeAssignments(holder)
        idle = harness.join(2, cpus: 1)
        submitUsers(queuedAfter)
    }

    mutating func submitUsers(_ count: Int) {
        guard count > 0 else { return }
        var submit = Submit()
        for task in UInt32(0)..<UInt32(count) {
            submit.rows.template.append(1)
            submit.rows.count.append(1)
            submit.rows.firstOutputOffset.append(task)
            submit.rows.inputs.append(0)
            submit.rows.inputEnd.append(UInt32(submit.rows.inputs.count))
            submit.rows.argumentsEnd.append(0)
        }
        let (more, id) = (submit, session)
        _ = harness.request { .submit($0, id, more) }
    }
}

@Test func `a task with a large input waits for the worker that holds it`() {
    // Moving 100 MB costs 100 ms, and the holder is expected to be free in 10 to 40.
    var held = Held(bytes: 100_000_000, queuedAfter: 4)
    #expect(held.harness.takeAssignments(held.holder).count == 4)
    #expect(held.harness.takeAssignments(held.idle).isEmpty)
}

@Test func `a task with a small input goes to the worker that is free`() {
    // Moving 1 MB costs 1 ms.
    var held = Held(bytes: 1_000_000, queuedAfter: 4)
    #expect(held.harness.takeAssignments(held.holder).count == 2)
    let moved = held.harness.takeAssignments(held.idle)
    #expect(moved.count == 2)
    #expect(moved[0].inputs.map(\.source) == [.fetch([Endpoint(host: "127.0.0.1", port: 1)])])
    #expect(moved[1].inputs.map(\.source) == [.held])
}

@Test func `queued tasks move only when their inputs move faster than the queue`() {
    var small = Held(bytes: 1_000_000, queuedBefore: 5)
    #expect(small.queued.count == 5)
    #expect(small.harness.takeInbox(small.holder).count == 2)
    var large = Held(bytes: 100_000_000, queuedBefore: 5)
    #expect(large.harness.takeInbox(large.holder).isEmpty)
}

@Test(arguments: [255, 256]) func `a task with very many inputs stays where it is`(inputCount: Int) {
    var harness = CoreHarness()
    let busy = harness.join(1, cpus: 1)
    let session = harness.openSession(SessionOptions(onError: .failDescendants, isDetached: true, resumeToken: "t"))
    var build = SubmitBuilder()
    let value = build.upload([1])
    let template = build.template()
    for _ in 0..<5 { build.row(template, Array(repeating: value, count: inputCount)) }
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    let given = harness.takeAssignments(busy)
    harness.say(busy, [.started(given[0].attempt)])
    _ = harness.join(2, cpus: 1)
    let asked = harness.takeInbox(busy).count { if case .revoke = $0 { true } else { false } }
    #expect(asked == (inputCount < 256 ? 2 : 0))
}
