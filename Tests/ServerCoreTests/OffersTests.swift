import Link
import Testing

@testable import ServerCore
@testable import TaskModel

private func hintTexts(_ harness: CoreHarness) -> [String] {
    harness.leaseLines.compactMap { if case .hint(_, let text) = $0 { text } else { nil } }
}

extension CoreHarness {
    /// A session whose lease is held.
    fileprivate mutating func openHeldSession(_ options: SessionOptions = SessionOptions(resumeToken: "token")) -> SessionID {
        let session = openSession(options)
        _ = request { .openLease($0, session, resumeToken: "token") }
        return session
    }

    fileprivate mutating func submit(_ session: SessionID, _ make: (inout SubmitBuilder) -> Void) {
        var build = SubmitBuilder()
        make(&build)
        let request = request { .submit($0, session, build.submit) }
        guard case .submitted? = replies[request] else { fatalError("\(String(describing: replies[request]))") }
    }

    fileprivate mutating func takeTasks(_ peer: PeerID) -> [UInt32] { takeAssignments(peer).map(\.attempt.task.index) }
}

@Test func `C functions go to workers that have declared their library, and those that bring declarations to any`() {
    var harness = CoreHarness()
    let first = harness.join(1, cpus: 1, subworkers: ["ffi", "ffi/a"])
    let second = harness.join(2, cpus: 1, subworkers: ["ffi", "ffi/b"])
    let session = harness.openHeldSession()
    harness.submit(session) { build in
        build.row(build.template("ffi/a/f"), count: 3)
        build.row(build.template("ffi/b/f"), count: 3)
        build.row(build.template("ffi/c/f"))
    }
    #expect(harness.takeTasks(first) == [0, 1, 2])
    #expect(harness.takeTasks(second) == [3, 4, 5])
    harness.pass(milliseconds: 3000, first, second)
    let text = hintTexts(harness).joined()
    #expect(text.contains("ffi/c/f") && text.contains("declarations of library 'c'") && text.contains("'--ffi FILE'") && text.contains("offers ffi, ffi/a"))
    let third = harness.join(3, cpus: 1, subworkers: ["ffi", "ffi/"])
    #expect(harness.takeTasks(third) == [6], "its own program may have any")
    harness.submit(harness.openHeldSession()) { build in
        let config = #"{"directory": "/x", "declarations": "library z = \"libz.so\" { int f(); }"}"#
        build.row(build.template("ffi/z/f") { $0.config = Array(config.utf8) }, count: 9)
    }
    #expect([first, second, third].allSatisfy { !harness.takeTasks($0).isEmpty })
}

@Test func `tasks that a worker with any library could take go to those that declare it later, too`() {
    var harness = CoreHarness()
    let any = harness.join(1, cpus: 1, subworkers: ["ffi", "ffi/"])
    harness.submit(harness.openHeldSession()) { build in build.row(build.template("ffi/a/f"), count: 12) }
    #expect(!harness.takeTasks(any).isEmpty)
    let declared = harness.join(2, cpus: 1, subworkers: ["ffi", "ffi/a"])
    let other = harness.join(3, cpus: 1, subworkers: ["ffi", "ffi/b"])
    let given = harness.takeAssignments(declared)
    #expect(!given.isEmpty)
    harness.send(.frame(any, .goodbye))
    harness.say(declared, given.map { CoreHarness.finished($0) })
    #expect(!harness.takeTasks(declared).isEmpty, "alone")
    #expect(harness.takeTasks(other).isEmpty)
}

@Test(arguments: [
    (#"{"declarations": "x"}"#, "ffi"), (#" { "a" : [ 1 , {"declarations": 1} ] , "declarations" : "x" } "#, "ffi"), ("", "ffi/m"), ("null", "ffi/m"),
    (#"{"a": {"declarations": "x"}}"#, "ffi/m"), (#"{"a": "declarations"}"#, "ffi/m"), (#"["declarations"]"#, "ffi/m"), (#""declarations""#, "ffi/m"),
    (#"{"a\"": "\\", "b": ",\"declarations\":"}"#, "ffi/m"), (#"{"a": ""}"#, "ffi/m"), (#"{"a": "x"#, "ffi/m"), (#"{"a\"#, "ffi/m"),
])
func `a task's configuration says whether its library must be there`(config: String, offer: String) {
    var template = TaskTemplate(type: "ffi/m/cos")
    template.config = Array(config.utf8)
    #expect(template.offer == offer)
    for other in ["c/m/cos", "ffi/cos", "ffi", "builtin/run"] {
        template.type = other
        #expect(template.offer == template.runner)
    }
}

@Test func `tasks go only to workers that offer their subworker, and those behind them go on`() {
    var harness = CoreHarness()
    let both = harness.join(1, cpus: 1, subworkers: ["gpu", "py"])
    let one = harness.join(2, cpus: 1, subworkers: ["py"])
    let session = harness.openHeldSession()
    harness.submit(session) { build in
        build.row(build.template("gpu/train"), count: 20)
        build.row(build.template("py/call"))
        build.row(build.template("builtin/sleep"))
    }
    let assigned = harness.takeAssignments(both)
    #expect(Set(assigned.map(\.attempt.task.index)) == [0, 1, 2, 3, 4], "as many as its queue takes")
    #expect(harness.takeTasks(one) == [20, 21], "what others have to wait for does not hold up these")
    harness.say(both, assigned.map { CoreHarness.finished($0) })
    #expect(!harness.takeTasks(both).isEmpty, "and goes on as soon as there is room")
    #expect(harness.takeTasks(one).isEmpty)
}

@Test func `held-back tasks of a worker that is lost wait for another, and run there`() {
    var harness = CoreHarness()
    let first = harness.join(1, cpus: 1, subworkers: ["gpu"])
    let other = harness.join(2, cpus: 1, subworkers: [])
    let session = harness.openHeldSession()
    harness.submit(session) { $0.row($0.template("gpu/train"), count: 8) }
    #expect(harness.takeTasks(first) == [0, 1, 2, 3, 4])
    harness.send(.frame(first, .goodbye))
    #expect(harness.takeTasks(other).isEmpty)
    let next = harness.join(3, cpus: 5, subworkers: ["gpu"])
    #expect(Set(harness.takeTasks(next)) == [0, 1, 2, 3, 4, 5, 6, 7])
}

@Test func `a session's own subworker runs on any worker`() {
    var harness = CoreHarness()
    let worker = harness.join(1, subworkers: [])
    let options = SessionOptions(subworkers: [SubworkerCommand(name: "mine", arguments: ["./mine"])], resumeToken: "token")
    let session = harness.openHeldSession(options)
    harness.submit(session) { $0.row($0.template("mine/f")) }
    #expect(harness.takeTasks(worker) == [0])
}

@Test func `a subworker that nobody offers: the client is warned once, and a worker that comes runs the task`() {
    var harness = CoreHarness()
    let worker = harness.join(1, subworkers: ["py", "ffi"])
    let session = harness.openHeldSession()
    harness.submit(session) { build in
        build.row(build.template("wordcount/count"), count: 3)
        build.row(build.template("wordcount/lines"))
    }
    #expect(harness.takeTasks(worker).isEmpty)
    harness.pass(milliseconds: 1750, worker)
    #expect(hintTexts(harness).isEmpty, "a worker may just be on its way")
    harness.pass(milliseconds: 6000, worker)
    let text =
        "tasks of type wordcount/count wait, since no connected worker offers subworker 'wordcount': n1 offers ffi, py. "
        + "Start a worker with '--subworker wordcount=COMMAND' or [subworkers.wordcount] in its file, or give it to the session"
    #expect(hintTexts(harness) == [text])
    // Another one that doesn't help is no news; whoever takes up the lease hears it again, with its number.
    let useless = harness.join(2, subworkers: [])
    harness.pass(milliseconds: 3000, worker, useless)
    #expect(hintTexts(harness) == [text])
    harness.leaseLines = []
    _ = harness.request { .openLease($0, session, resumeToken: "token") }
    #expect(harness.leaseLines == [.hint(1, text)])
    let right = harness.join(3, subworkers: ["wordcount"])
    #expect(Set(harness.takeTasks(right)) == [0, 1, 2, 3])
    harness.leaseLines = []
    harness.pass(milliseconds: 250, worker, useless, right)
    // The cause comes back: that is told again.
    harness.send(.frame(right, .goodbye))
    harness.pass(milliseconds: 3000, worker, useless)
    #expect(hintTexts(harness).count == 1)
}

@Test func `no worker at all, too few CPUs: each is told once, and again when it changes`() {
    var harness = CoreHarness()
    let session = harness.openHeldSession()
    harness.submit(session) { $0.row($0.template { $0.resources.cpus = 16 }, count: 2) }
    harness.pass(milliseconds: 5000)
    #expect(hintTexts(harness) == ["tasks wait, since no worker is connected: start one with 'rain worker SERVER'"])
    harness.leaseLines = []
    let small = harness.join(1, cpus: 4)
    let wrong = harness.join(2, cpus: 32, subworkers: ["other"])
    harness.pass(milliseconds: 5000, small, wrong)
    #expect(
        hintTexts(harness) == [
            "tasks of type x/y wait for 16 CPUs, but the largest worker that could run them has 4: lower the request or add a worker"
        ])
    let cancelled = harness.request { .cancel($0, session, .all) }
    #expect(harness.replies[cancelled] == .done)
    guard case .sessionStatus(let status)? = harness.replies[harness.request { .sessionStatus($0, session) }] else { fatalError("no status") }
    #expect(status.hints.isEmpty, "cancelled tasks wait for nothing")
}

@Test func `tasks that wait for their inputs or for a busy worker are no reason for a hint`() {
    var harness = CoreHarness()
    let worker = harness.join(1, cpus: 1)
    let session = harness.openHeldSession()
    harness.submit(session) { build in
        let template = build.template()
        let first = build.row(template)
        build.row(template, [first])
        build.row(template, count: 10)
        build.row(build.template("later/f"), [first])
    }
    #expect(!harness.takeTasks(worker).isEmpty)
    harness.pass(milliseconds: 8000, worker)
    #expect(hintTexts(harness).isEmpty)
}

@Test func `a task is taken back only for a worker that offers its subworker`() {
    var harness = CoreHarness()
    let busy = harness.join(1, cpus: 1, subworkers: ["gpu"])
    let session = harness.openHeldSession()
    harness.submit(session) { $0.row($0.template("gpu/train"), count: 2) }
    #expect(harness.takeTasks(busy) == [0, 1])
    _ = harness.takeInbox(busy)
    let idle = harness.join(2, cpus: 1, subworkers: ["py"])
    harness.pass(milliseconds: 1000, busy, idle)
    #expect(harness.takeInbox(busy).isEmpty)
    let right = harness.join(3, cpus: 1, subworkers: ["gpu"])
    harness.pass(milliseconds: 1000, busy, idle, right)
    let revoked = harness.takeInbox(busy).compactMap { if case .revoke(let attempt) = $0 { attempt } else { nil } }
    #expect(revoked.map(\.task.index) == [1])
    harness.say(busy, revoked.map { .revoked($0, wasTakenBack: true) })
    #expect(harness.takeTasks(right) == [1])
}

@Test func `a follower goes ahead only on a worker that offers its subworker`() {
    var harness = CoreHarness()
    let first = harness.join(1, cpus: 1, subworkers: ["x"])
    let session = harness.openHeldSession()
    harness.submit(session) { build in
        let x = build.template("x/y")
        // Short ones, so that others go ahead of their inputs.
        build.row(x)
        let made = build.row(x)
        let next = build.row(build.template("z/y"), [made])
        build.row(build.template("x/z"), [next])
    }
    let assigned = harness.takeAssignments(first)
    harness.say(first, [CoreHarness.finished(assigned[0])])
    #expect(harness.takeTasks(first).isEmpty, "nobody offers z")
    let second = harness.join(2, cpus: 1, subworkers: ["z"])
    harness.say(first, assigned.dropFirst().map { CoreHarness.finished($0) })
    #expect(harness.takeTasks(second) == [2])
}

@Test func `what a restarted server knows of a worker's offers comes from its hello`() throws {
    var harness = CoreHarness()
    let worker = harness.join(1, place: 5, subworkers: ["gpu"])
    let session = harness.openHeldSession(SessionOptions(isDetached: true, resumeToken: "token"))
    harness.submit(session) { $0.row($0.template("gpu/train"), count: 9) }
    #expect(!harness.takeTasks(worker).isEmpty)
    try harness.restart()
    let other = harness.join(2, subworkers: ["py"])
    let back = harness.comeBack(1, as: WorkerID(1), peer: 11)
    harness.say(back, [.handedOver])
    #expect(!harness.takeTasks(back).isEmpty)
    #expect(harness.takeTasks(other).isEmpty)
}
