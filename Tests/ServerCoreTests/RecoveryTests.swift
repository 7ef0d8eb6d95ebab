import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// What a task made that is too large for the server to have.
private func large(_ assignment: Assignment, outputs: Int = 1) -> WorkerMessage {
    .finished(assignment.attempt, FinishedAttempt(outputs: (0..<outputs).map { _ in FinishedOutput(sizeBytes: 1_000_000) }, durationNanoseconds: 1000))
}

/// Runs whatever the worker is given, until there is no more; which tasks ran, with the numbers of their attempts.
private func work(_ harness: inout CoreHarness, _ peer: PeerID, outputs: Int = 1) -> [[UInt32]] {
    var ran: [[UInt32]] = []
    while true {
        let assignments = harness.takeAssignments(peer)
        if assignments.isEmpty { return ran }
        ran += assignments.map { [$0.attempt.task.index, $0.attempt.number] }
        harness.say(peer, assignments.map { large($0, outputs: outputs) })
    }
}

private func open(_ harness: inout CoreHarness, onError: OnError = .failSession) -> SessionID {
    let session = harness.openSession(SessionOptions(onError: onError, isDetached: true, resumeToken: "t"))
    _ = harness.request { .openLease($0, session, resumeToken: "t") }
    return session
}

/// Every message that the worker was ever sent.
private func all(_ harness: CoreHarness, _ peer: PeerID) -> [ServerMessage] { harness.sent[peer] ?? [] }

/// Tasks told of as finished, in order.
private func told(_ harness: CoreHarness) -> [UInt32] {
    harness.leaseLines.flatMap { line in if case .finished(let ranges) = line { ranges.flatMap { Array($0) } } else { [UInt32]() } }
}

@Test func `a chain whose only copies are lost is made again from its beginning, and told of once`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = open(&harness)
    var build = SubmitBuilder()
    let template = build.template()
    let input = build.upload([1])
    let first = build.row(template, [input])
    let last = build.row(template, [build.row(template, [first])], options: .init(keep: [0]))
    _ = harness.request { .submit($0, session, build.submit) }
    #expect(work(&harness, a) == [[0, 1], [1, 1], [2, 1]])
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [last..<last + 1])) }
    guard case .located? = harness.replies[located] else { Issue.record("not made"); return }

    harness.send(.frame(a, .goodbye))
    let again = harness.request { .locate($0, session, ObjectSelection(ranges: [last..<last + 1])) }
    let outcomes = harness.request { .wait($0, session, .all) }
    #expect(harness.replies[again] == nil, "it waits until the object is there again")
    #expect(harness.replies[outcomes] == .waited, "what was heard stays heard")
    let b = harness.join(2, cpus: 1)
    #expect(work(&harness, b) == [[0, 2], [1, 2], [2, 2]])
    guard case .located(let locations)? = harness.replies[again], case .remote(let replica, let holders, _, _, _) = locations[0] else {
        Issue.record("not made again")
        return
    }
    #expect(replica.generation.number == 2 && holders.map(\.port) == [2])
    #expect(told(harness) == [0, 1, 2])
}

@Test func `only what is gone is made again`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = open(&harness)
    var build = SubmitBuilder()
    let template = build.template()
    let kept = build.row(template, options: .init(keep: [0]))
    build.row(template, [kept], options: .init(keep: [0]))
    _ = harness.request { .submit($0, session, build.submit) }
    let first = harness.takeAssignments(a)
    harness.say(a, [large(first[0])])
    let second = harness.takeAssignments(a)
    let b = harness.join(2, cpus: 1)
    harness.say(b, [.replicated(Replica(object: ObjectID(session: session, index: kept), generation: first[0].attempt.generation))])
    harness.say(a, [large(second[0])])
    harness.send(.frame(a, .goodbye))
    #expect(work(&harness, b) == [[1, 2]])
}

@Test func `an output that is still there keeps its generation when its task runs again for another`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = open(&harness)
    var build = SubmitBuilder()
    let first = build.row(build.template(outputs: 2, kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    let made = harness.takeAssignments(a)[0]
    harness.say(a, [large(made, outputs: 2)])
    let b = harness.join(2, cpus: 1)
    let alive = Replica(object: ObjectID(session: session, index: first), generation: made.attempt.generation)
    harness.say(b, [.replicated(alive)])
    harness.send(.frame(a, .goodbye))
    #expect(work(&harness, b, outputs: 2) == [[0, 2]])
    let copy = Replica(object: alive.object, generation: Generation(epoch: ServerEpoch(1), number: 2))
    #expect(all(harness, b).contains(.drop([copy])))
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [first..<first + 2])) }
    guard case .located(let locations)? = harness.replies[located] else { Issue.record("not there"); return }
    let generations = locations.map { if case .remote(let replica, _, _, _, _) = $0 { replica.generation.number } else { UInt32(0) } }
    #expect(generations == [1, 2])
}

@Test func `a finished task that must not run again fails what needs its lost output`() {
    for onError in [OnError.failSession, .failDescendants] {
        var harness = CoreHarness()
        let a = harness.join(1, cpus: 1)
        let session = open(&harness, onError: onError)
        var build = SubmitBuilder()
        let never = build.template { $0.rerun = .never }
        let plain = build.template()
        build.row(plain, [build.row(plain, [build.row(never)])])
        _ = harness.request { .submit($0, session, build.submit) }
        for _ in 0..<2 { harness.say(a, harness.takeAssignments(a).map { large($0) }) }
        harness.send(.frame(a, .goodbye))
        let b = harness.join(2, cpus: 1)
        #expect(work(&harness, b).isEmpty)
        let failures = harness.leaseLines.compactMap { line -> TaskFailure? in
            switch line {
            case .sessionFailed(_, let failure): onError == .failSession ? failure : nil
            case .failed(let task, let failure): task == 2 && onError == .failDescendants ? failure : nil
            default: nil
            }
        }
        #expect(failures.count == 1)
        #expect(failures.first?.error.message.contains("worker w1 was lost with the only copy of output \"out0\" (object 1)") == true, "\(failures)")
        #expect(failures.first?.error.message.contains("rerun: never") == true)
        #expect(failures.first?.error.cause == (onError == .failSession ? .workerLost : .dependency))
        #expect(failures.first?.task == (onError == .failSession ? 0 : 2))
        #expect(harness.records.contains { if case .lost = $0 { true } else { false } })
    }
}

@Test func `a kept output that can't be made again is an error for who asks, not for the session`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = open(&harness)
    var build = SubmitBuilder()
    let kept = build.row(build.template(kept: true) { $0.rerun = .never })
    _ = harness.request { .submit($0, session, build.submit) }
    _ = work(&harness, a)
    harness.send(.frame(a, .goodbye))
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [kept..<kept + 1])) }
    guard case .located(let locations)? = harness.replies[located], case .failed(_, let failure) = locations[0] else {
        Issue.record("\(String(describing: harness.replies[located]))")
        return
    }
    #expect(failure.error.cause == .workerLost)
}

/// A producer on worker 1 and its consumer on worker 2, which can't fetch the input.
private struct Miss {
    var harness = CoreHarness()
    var holder: PeerID
    var reader: PeerID
    let session: SessionID
    let replica: Replica

    init() {
        holder = harness.join(1, cpus: 1)
        let id = open(&harness, onError: .failDescendants)
        session = id
        var build = SubmitBuilder()
        let template = build.template()
        let wide = build.template(kept: true) { $0.resources = Resources(cpus: 2) }
        build.row(wide, [build.row(template)])
        let submit = build.submit
        _ = harness.request { .submit($0, id, submit) }
        let made = harness.takeAssignments(holder)[0]
        harness.say(holder, [large(made)])
        replica = Replica(object: ObjectID(session: id, index: 0), generation: made.attempt.generation)
        reader = harness.join(2, cpus: 2)
    }

    /// The next attempt of the consumer, as far as it comes within the time.
    mutating func next(within milliseconds: UInt64 = 20_000) -> Assignment? {
        for _ in 0...milliseconds / 250 {
            if let assignment = harness.takeAssignments(reader).first { return assignment }
            harness.now = harness.now.advanced(byMilliseconds: 250)
            harness.say(holder, [])
            harness.say(reader, [])
            harness.send(.tick)
        }
        return nil
    }

    mutating func fail(_ assignment: Assignment) {
        harness.say(reader, [.missing(replica), .failed(assignment.attempt, TaskError(.setup, "no holder gave it"))])
    }
}

@Test func `a task whose input could not be fetched is tried again, and fails in the end with a clear error`() {
    var miss = Miss()
    var numbers: [UInt32] = []
    let begin = miss.harness.now
    while let assignment = miss.next() {
        numbers.append(assignment.attempt.number)
        miss.fail(assignment)
    }
    #expect(numbers == Array(1...8))
    #expect(miss.harness.now.since(begin) > LinkTiming.silenceMillisecondsMax * 1_000_000, "longer than a holder may be silent")
    let failures = miss.harness.leaseLines.compactMap { if case .failed(1, let failure) = $0 { failure } else { nil } }
    #expect(failures.count == 1)
    #expect(failures.first?.error.cause == .workerLost)
    #expect(failures.first?.error.message.contains("object 0") == true)
}

@Test func `a server that is started again tries a task at once that waited for its input, and counts anew`() throws {
    var miss = Miss()
    for _ in 0..<5 {
        guard let assignment = miss.next() else { Issue.record("not assigned"); return }
        miss.fail(assignment)
    }
    try miss.harness.restart()
    let id = miss.session
    miss.holder = miss.harness.comeBack(1, as: WorkerID(1), peer: 11)
    miss.reader = miss.harness.comeBack(2, as: WorkerID(2), peer: 12)
    miss.harness.say(miss.holder, [.knows(id), .holds([miss.replica]), .handedOver])
    miss.harness.say(miss.reader, [.knows(id), .handedOver])
    var numbers: [UInt32] = []
    var assignment = miss.harness.takeAssignments(miss.reader).first
    while let next = assignment {
        numbers.append(next.attempt.number)
        miss.fail(next)
        assignment = miss.next()
    }
    #expect(numbers == Array(6...13))
}

@Test func `a task that is cancelled while it waits for its input is not tried again`() {
    var miss = Miss()
    guard let first = miss.next() else { Issue.record("not assigned"); return }
    miss.fail(first)
    let id = miss.session
    let request = miss.harness.request { .cancel($0, id, .ranges([1..<2])) }
    #expect(miss.harness.replies[request] == .done)
    #expect(miss.next() == nil)
}

@Test func `when the holder dies meanwhile, the input is made again`() {
    var miss = Miss()
    guard let first = miss.next() else { Issue.record("not assigned"); return }
    miss.fail(first)
    miss.harness.send(.frame(miss.holder, .goodbye))
    guard let producer = miss.next() else { Issue.record("not made again"); return }
    #expect(producer.attempt.task.index == 0 && producer.attempt.number == 2)
    miss.harness.say(miss.reader, [large(producer)])
    guard let consumer = miss.next() else { Issue.record("not run again"); return }
    #expect(consumer.attempt.task.index == 1)
    miss.harness.say(miss.reader, [CoreHarness.finished(consumer)])
    #expect(told(miss.harness) == [0, 1])
}

@Test func `when a worker loses an input under its tasks they begin again, but not those that must not`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 3)
    let session = open(&harness, onError: .failDescendants)
    var build = SubmitBuilder()
    let made = build.row(build.template())
    for rerun in [RerunPolicy.onLoss, .onLoss, .never] { build.row(build.template(kept: true) { $0.rerun = rerun }, [made]) }
    _ = harness.request { .submit($0, session, build.submit) }
    let first = harness.takeAssignments(worker)[0]
    harness.say(worker, [large(first)])
    let users = harness.takeAssignments(worker).sorted { $0.attempt.task.index < $1.attempt.task.index }
    harness.say(worker, users.map { .started($0.attempt) })
    let replica = Replica(object: ObjectID(session: session, index: made), generation: first.attempt.generation)
    // The first has written to it.
    harness.say(worker, [.failed(users[0].attempt, TaskError(.contract, "wrote")), .missing(replica)])
    let inbox = harness.takeInbox(worker)
    #expect(inbox.contains(.cancel(users[1].attempt)) && inbox.contains(.cancel(users[2].attempt)))
    let failures = harness.leaseLines.compactMap { if case .failed(let task, let failure) = $0 { (task, failure.error) } else { nil } }
    #expect(failures.map(\.0) == [users[0].attempt.task.index, users[2].attempt.task.index])
    #expect(failures.last?.1.message.contains("must not run again") == true)
    let again = inbox.compactMap { if case .assign(let assignment) = $0 { assignment } else { nil } }
    #expect(again.map(\.attempt.task.index) == [0], "it was the only copy")
    harness.say(worker, [large(again[0]), CoreHarness.finished(users[2]), .cancelled(users[1].attempt)])
    for _ in 0..<4 {
        harness.now = harness.now.advanced(byMilliseconds: 250)
        harness.send(.tick)
    }
    #expect(harness.takeAssignments(worker).map(\.attempt.task.index) == [users[1].attempt.task.index])
}

@Test func `what fails with a task that has lost its input is not tried again for having it too`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 1)
    let session = open(&harness, onError: .failDescendants)
    var build = SubmitBuilder()
    let templates = [build.template(kept: true), build.template { $0.rerun = .never }, build.template()]
    for template in templates { build.row(template) }
    let first = build.submit
    _ = harness.request { .submit($0, session, first) }
    var made: Replica?
    for next in harness.takeAssignments(worker) {
        if next.attempt.task.index == 0 { made = Replica(object: ObjectID(session: session, index: 0), generation: next.attempt.generation) }
        let output = FinishedOutput(sizeBytes: 1_000_000)
        harness.say(worker, [.finished(next.attempt, FinishedAttempt(outputs: [output], durationNanoseconds: 1000))])
    }
    var second = Submit()
    for (template, inputs) in [(UInt32(1), [UInt32(0)]), (2, [0, 3])] {
        second.rows.template.append(template)
        second.rows.count.append(1)
        second.rows.firstOutputOffset.append(template - 1)
        second.rows.inputs += inputs
        second.rows.inputEnd.append(UInt32(second.rows.inputs.count))
        second.rows.argumentsEnd.append(0)
    }
    let rest = second
    _ = harness.request { .submit($0, session, rest) }
    let given = harness.takeAssignments(worker)
    #expect(given.map(\.attempt.task.index) == [3, 4], "the second goes ahead")
    guard let made, let running = given.first else { Issue.record("nothing runs"); return }
    harness.say(worker, [.started(running.attempt), .missing(made)])
    let causes = harness.leaseLines.compactMap { if case .failed(_, let failure) = $0 { failure.error.cause } else { nil } }
    #expect(causes == [.preempted, .dependency])
    #expect(harness.takeAssignments(worker).map(\.attempt.task.index) == [0], "it is kept")
}

@Test func `an object whose maker was cancelled as it was to run again is lost, and the error says so`() {
    var harness = CoreHarness()
    let maker = harness.join(1)
    let user = harness.join(2, subworkers: ["z"])
    let session = open(&harness, onError: .failDescendants)
    var build = SubmitBuilder()
    let made = build.row(build.template(kept: true))
    build.row(build.template("z/y", kept: true), [made])
    let submit = build.submit
    _ = harness.request { .submit($0, session, submit) }
    var replicas: [Replica] = []
    for peer in [maker, user] {
        for given in harness.takeAssignments(peer) {
            replicas.append(Replica(object: ObjectID(session: session, index: given.attempt.task.index), generation: given.attempt.generation))
            let output = FinishedOutput(sizeBytes: 1_000_000)
            harness.say(peer, [.finished(given.attempt, FinishedAttempt(outputs: [output], durationNanoseconds: 1000))])
        }
    }
    harness.say(user, [.missing(replicas[0])])
    harness.send(.frame(maker, .goodbye))
    _ = harness.request { .cancel($0, session, .ranges([0..<1])) }
    harness.send(.frame(user, .goodbye))
    let texts = harness.records.compactMap { if case .lost(_, obstacle: 0, let error) = $0 { error.message } else { nil } }
    #expect(texts.count == 1 && texts[0].hasSuffix("task x/y (0), which it needs, was cancelled"), "\(texts)")
}

@Test func `what a superseded attempt made is dropped`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = open(&harness)
    var build = SubmitBuilder()
    build.row(build.template(kept: true), [build.upload([1])])
    _ = harness.request { .submit($0, session, build.submit) }
    let old = harness.takeAssignments(a)[0]
    // The worker says that it lacks an input, and finishes all the same: the server has given the attempt up.
    harness.say(a, [.missing(old.inputs[0].replica), large(old)])
    let dropped = Replica(object: ObjectID(session: session, index: old.firstOutput), generation: old.attempt.generation)
    #expect(harness.takeInbox(a) == [.cancel(old.attempt), .drop([dropped])])
}

@Test func `a task that finished, ran again and failed is told as finished to the next lease too`() {
    var harness = CoreHarness()
    let a = harness.join(1, cpus: 1)
    let session = open(&harness, onError: .failDescendants)
    var build = SubmitBuilder()
    let kept = build.row(build.template(kept: true))
    _ = harness.request { .submit($0, session, build.submit) }
    _ = work(&harness, a)
    harness.send(.frame(a, .goodbye))
    let b = harness.join(2, cpus: 1)
    let again = harness.takeAssignments(b)
    harness.say(b, again.map { .failed($0.attempt, TaskError(.user, "not this time")) })
    #expect(harness.leaseLines == [.finished([0..<1])])
    _ = harness.request { .openLease($0, session, resumeToken: "t") }
    #expect(harness.leaseLines == [.finished([0..<1]), .finished([0..<1])])
    let located = harness.request { .locate($0, session, ObjectSelection(ranges: [kept..<kept + 1])) }
    guard case .located(let locations)? = harness.replies[located], case .failed(_, let failure) = locations[0] else {
        Issue.record("\(String(describing: harness.replies[located]))")
        return
    }
    #expect(failure.error.message == "not this time", "who asks for the object hears why it is gone")
}
