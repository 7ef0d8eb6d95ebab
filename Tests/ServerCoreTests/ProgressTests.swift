import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// Two tasks run on a worker of two CPUs; a client holds the lease.
private struct Run {
    var harness = CoreHarness()
    let worker: PeerID
    let session: SessionID
    var given: [Assignment] = []

    init(onError: OnError = .failDescendants, edit: (inout TaskTemplate) -> Void = { _ in }) {
        worker = harness.join(1, cpus: 2)
        let id = harness.openSession(SessionOptions(onError: onError, isDetached: true, resumeToken: "t"))
        session = id
        _ = harness.request { .openLease($0, id, resumeToken: "t") }
        var build = SubmitBuilder()
        let template = build.template(edit: edit)
        for _ in 0..<2 { build.row(template) }
        let submit = build.submit
        _ = harness.request { .submit($0, id, submit) }
        given = harness.takeAssignments(worker)
        harness.say(worker, given.map { .started($0.attempt) })
    }

    mutating func report(_ task: Int, _ millionths: UInt32, _ text: String = "") {
        harness.say(worker, [.progress([AttemptProgress(attempt: given[task].attempt, progress: Progress(millionths: millionths, text: text))])])
    }

    mutating func info(_ task: UInt32) -> TaskInfo? {
        let session = session
        let request = harness.request { .taskInfo($0, session, .ranges([task..<task + 1])) }
        guard case .taskInfos(let infos)? = harness.replies[request] else { return nil }
        return infos.first
    }

    /// Since the last look.
    mutating func lines() -> [LeaseLine] {
        defer { harness.leaseLines = [] }
        return harness.leaseLines
    }
}

private func line(_ task: UInt32, _ millionths: UInt32?, _ text: String = "") -> LeaseLine {
    .progress([TaskProgress(task: task, progress: millionths.map { Progress(millionths: $0, text: text) })])
}

@Test func `progress is in the task's info and on the lease, and not in the journal`() {
    var run = Run()
    let recordCount = run.harness.records.count
    run.report(0, 250_000, "reading")
    run.report(0, 500_000, "writing")
    #expect(run.lines() == [line(0, 250_000, "reading"), line(0, 500_000, "writing")])
    #expect(run.info(0)?.progress == Progress(millionths: 500_000, text: "writing"))
    #expect(run.info(1)?.progress == nil)
    #expect(run.harness.records.count == recordCount)
}

@Test func `what one message brings is told once, by task`() {
    var run = Run()
    let (first, second) = (run.given[0].attempt, run.given[1].attempt)
    run.harness.say(
        run.worker,
        [
            .progress([
                AttemptProgress(attempt: second, progress: Progress(millionths: 1)), AttemptProgress(attempt: first, progress: Progress(millionths: 2)),
            ]), .progress([AttemptProgress(attempt: second, progress: Progress(millionths: 3))]),
        ])
    #expect(
        run.lines() == [
            .progress([TaskProgress(task: 0, progress: Progress(millionths: 2)), TaskProgress(task: 1, progress: Progress(millionths: 3))])
        ])
}

@Test func `it ends with the task`() {
    var run = Run()
    run.report(0, 250_000)
    run.report(1, 1)
    _ = run.lines()
    run.harness.say(
        run.worker, [.progress([AttemptProgress(attempt: run.given[0].attempt, progress: Progress(millionths: 9))]), CoreHarness.finished(run.given[0])])
    #expect(run.lines() == [.finished([0..<1])])
    #expect(run.info(0)?.progress == nil)
    run.report(0, 300_000)
    #expect(run.lines().isEmpty, "late")
    run.harness.say(run.worker, [.failed(run.given[1].attempt, TaskError(.user, "no", debug: "a line\n"))])
    guard case .failed(1, _)? = run.lines().first else {
        Issue.record("no failure")
        return
    }
    #expect(run.info(1)?.progress == nil)
    #expect(run.info(1)?.debug == "a line\n", "the debug lines of a failed task are in its info too")
}

@Test func `a task that begins once more is told of as unknown`() {
    var run = Run()
    run.report(0, 250_000)
    _ = run.lines()
    run.harness.send(.frame(run.worker, .goodbye))
    #expect(run.lines() == [line(0, nil)])
    #expect(run.info(0)?.progress == nil)
}

@Test func `a retry is told of as unknown`() {
    var run = Run { $0.retryCountMax = 1 }
    run.report(1, 250_000)
    _ = run.lines()
    run.harness.say(run.worker, [.failed(run.given[1].attempt, TaskError(.user, "once"))])
    #expect(run.lines() == [line(1, nil)])
}

@Test func `a new lease begins with how far running tasks are`() {
    var run = Run()
    run.report(1, 7, "a")
    run.harness.say(run.worker, [CoreHarness.finished(run.given[0])])
    _ = run.lines()
    let session = run.session
    _ = run.harness.request { .openLease($0, session, resumeToken: "t") }
    #expect(run.lines() == [.finished([0..<1]), line(1, 7, "a")])
}

@Test func `who never began, another attempt and another worker's task make no progress`() {
    var run = Run()
    let other = run.harness.join(2)
    _ = run.lines()
    let attempt = run.given[0].attempt
    run.harness.say(other, [.progress([AttemptProgress(attempt: attempt, progress: Progress(millionths: 1))])])
    for attempt in [
        AttemptID(task: attempt.task, epoch: attempt.epoch, number: 2), AttemptID(task: attempt.task, epoch: ServerEpoch(9), number: 1),
        AttemptID(task: TaskID(session: attempt.task.session, index: 77), epoch: attempt.epoch, number: 1),
        AttemptID(task: TaskID(session: SessionID(77), index: 0), epoch: attempt.epoch, number: 1),
    ] {
        run.harness.say(run.worker, [.progress([AttemptProgress(attempt: attempt, progress: Progress(millionths: 1))])])
    }
    #expect(run.lines().isEmpty)
    #expect(run.info(0)?.progress == nil)
}

@Test func `a session that fails tells of no progress any more`() {
    var run = Run(onError: .failSession)
    run.report(0, 5)
    _ = run.lines()
    run.harness.say(
        run.worker,
        [.progress([AttemptProgress(attempt: run.given[0].attempt, progress: Progress(millionths: 6))]), .failed(run.given[1].attempt, TaskError(.user, "no"))])
    let lines = run.lines()
    #expect(lines.count == 1, "\(lines)")
    guard case .sessionFailed(1, _)? = lines.first else {
        Issue.record("\(lines)")
        return
    }
}
