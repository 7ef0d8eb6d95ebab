import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// Subworkers that a client brings along.
private func declare(_ name: String, _ program: SubworkerProgram) -> DeclaredSubworker { DeclaredSubworker(name: name, program: program) }

private func submit(type: String = "words/count", _ change: (inout Submit) -> Void = { _ in }) -> Submit {
    var submit = Submit()
    submit.uploads = [Submit.Upload(offset: 0, value: .inline([7, 7]))]
    submit.subworkers = [declare("words", SubworkerProgram(object: 0, arguments: ["-v"], environment: ["A=b"]))]
    submit.templates = [TaskTemplate(type: type)]
    submit.rows.template = [0]
    submit.rows.count = [1]
    submit.rows.firstOutputOffset = [1]
    submit.rows.inputEnd = [0]
    submit.rows.argumentsEnd = [0]
    change(&submit)
    return submit
}

private func refusal(_ harness: inout CoreHarness, _ session: SessionID, _ submit: Submit) -> RequestError? {
    let request = harness.request { .submit($0, session, submit) }
    if case .refused(let error)? = harness.replies[request] { return error }
    return nil
}

@Test func `a worker learns of the program with the first task's template, and gets it as the last input`() throws {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    #expect(refusal(&harness, session, submit()) == nil)
    let messages = harness.takeInbox(worker)
    let templates = messages.compactMap { if case .template(_, let template) = $0 { template } else { nil } }
    #expect(templates.map(\.program) == [SubworkerProgram(object: 0, arguments: ["-v"], environment: ["A=b"])])
    let assignment = try #require(messages.compactMap { if case .assign(let assignment) = $0 { assignment } else { nil } }.first)
    #expect(assignment.inputs.map(\.replica.object.index) == [0])
    #expect(assignment.inputs.map(\.source) == [.inline([7, 7])])
    // From the next one on it is there.
    let next = submit {
        ($0.uploads, $0.subworkers, $0.templates) = ([], [], [])
        $0.rows.firstOutputOffset = [0]
    }
    #expect(refusal(&harness, session, next) == nil)
    #expect(harness.takeAssignments(worker).flatMap { $0.inputs.map(\.source) } == [.held])
}

@Test func `a restarted server knows what its sessions brought along`() throws {
    var harness = CoreHarness()
    let session = harness.openSession(SessionOptions(onError: .failDescendants, isDetached: true, resumeToken: "t"))
    #expect(refusal(&harness, session, submit()) == nil)
    try harness.restart()
    let worker = harness.join(2)
    let templates = harness.takeInbox(worker).compactMap { if case .template(_, let template) = $0 { template } else { nil } }
    #expect(templates.map { $0.program?.object } == [0])
    #expect(refusal(&harness, session, submit { $0.firstObject = nil })?.message.contains("already") == true)
}

@Test func `a program that could not be fetched is fetched again for the tasks that need it`() throws {
    var harness = CoreHarness()
    let worker = harness.join(1)
    let session = harness.openSession()
    let hash = try #require(BlobHash(bytes: [UInt8](repeating: 9, count: 32)))
    #expect(refusal(&harness, session, submit { $0.uploads[0].value = .blob(hash, sizeBytes: 9000) }) == nil)
    let first = try #require(harness.takeAssignments(worker).first)
    #expect(first.inputs.map(\.source) == [.fetch([Endpoint(host: "", port: 7210)])])
    harness.say(worker, [.missing(first.inputs[0].replica), .failed(first.attempt, TaskError(.setup, "could not be fetched"))])
    var next: Assignment?
    for _ in 0..<4 where next == nil {
        harness.now = harness.now.advanced(byMilliseconds: 250)
        harness.say(worker, [])
        harness.send(.tick)
        next = harness.takeAssignments(worker).first
    }
    let second = try #require(next)
    #expect(second.attempt.number == 2 && second.inputs.map(\.source) == [.fetch([Endpoint(host: "", port: 7210)])])
}

@Test(arguments: ["", "a b", "a/b", "..", ".x", "ä", "builtin", "py", "ffi", String(repeating: "x", count: 101)])
func `names that can't be are refused`(name: String) {
    var harness = CoreHarness()
    let session = harness.openSession()
    let error = refusal(&harness, session, submit { $0.subworkers[0].name = name })
    #expect(error?.code == .badSubmit && error?.message.contains(name.prefix(20)) == true, "\(error.map { $0.message } ?? "taken")")
    #expect(harness.core.openSessions == [OpenSession(session: session, outputCounts: [])])
}

@Test func `declarations that can't be are refused, and say what to do`() {
    var harness = CoreHarness()
    let session = harness.openSession(SessionOptions(subworkers: [SubworkerCommand(name: "own", arguments: ["own"])], resumeToken: "t"))
    func expect(_ word: String, sourceLocation: SourceLocation = #_sourceLocation, _ change: (inout Submit) -> Void) {
        let error = refusal(&harness, session, submit(change))
        #expect(error?.message.contains(word) == true, "\(error.map { $0.message } ?? "taken")", sourceLocation: sourceLocation)
    }
    expect("already") { $0.subworkers[0].name = "own" }
    expect("twice") { $0.subworkers.append($0.subworkers[0]) }
    expect("not an object that the client gave") { $0.subworkers[0].program.object = 1 }
    expect("is a file") { $0.subworkers[0].program.path = "bin/words" }
    expect("is a directory") { $0.uploads[0].isDirectory = true }
    for path in ["../x", "/bin/sh", "a//b", "a/./b", "a/"] {
        expect("is a directory") {
            $0.uploads[0].isDirectory = true
            $0.subworkers[0].program.path = path
        }
    }
    expect("character 0") { $0.subworkers[0].program.arguments = ["a\0b"] }
    expect("NAME=value") { $0.subworkers[0].program.environment = ["=x"] }
    expect("bytes") { $0.subworkers[0].program.arguments = [String(repeating: "x", count: 70_000)] }
    expect("at most") { $0.subworkers = (0..<1001).map { declare("s\($0)", SubworkerProgram(object: 0)) } }
    // Nothing of that remains, so the name is free; afterwards it is not.
    #expect(refusal(&harness, session, submit()) == nil)
    expect("already") { _ in }
    let earlier = submit(type: "later/x") { $0.subworkers = [] }
    #expect(refusal(&harness, session, earlier) == nil)
    expect("before its first task") { $0.subworkers[0].name = "later" }
}
