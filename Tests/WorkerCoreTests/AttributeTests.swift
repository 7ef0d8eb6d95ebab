import Link
import TaskModel
import Testing
import WorkerCore

/// Objects keep their user's attributes on the way from task to task.
@Suite struct AttributeTests {
    private struct Missing: Error {}
    private let text = Array(#"{"unit": "m"}"#.utf8)

    private func harness() throws -> Harness {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run", outputs: 1))
        return harness
    }
    private func inputs(_ round: Harness.Round) -> [LocalInput] {
        for case .runJob(_, let request) in round.effects { return request.inputs }
        return []
    }

    @Test(arguments: [InputSource.inline([1]), .fetch([Endpoint(host: "10.0.0.2", port: 9)])])
    func `a task sees what the server says of an input, and so does a later one that finds it held`(source: InputSource) throws {
        var harness = try harness()
        var input = Make.input(1, source)
        input.attributes = text
        var round = try harness.send(Make.assign(0, inputs: [input]))
        if let fetch = round.fetches.first { round = try harness.handle(.fetched(fetch, .stored(sizeBytes: 5))) }
        #expect(inputs(round).map(\.attributes) == [text])
        #expect(inputs(try harness.send(Make.assign(1, inputs: [Make.input(1, .held)]))).map(\.attributes) == [text])
    }

    @Test func `a value that is sent ahead keeps them`() throws {
        var harness = try harness()
        var value = Make.input(1, .inline([1]))
        value.attributes = text
        #expect(inputs(try harness.send(.provide([value]), Make.assign(1, inputs: [Make.input(1, .held)]))).map(\.attributes) == [text])
    }

    @Test func `what a task says of its output is told to the server and seen by the next task`() throws {
        var harness = try harness()
        let job = try harness.send(Make.assign(0)).jobs[0]
        try harness.send(Make.assign(1, inputs: [Make.input(100, .expect(Make.attempt(0)))]))
        let round = try harness.handle(
            .jobEnded(job, .finished([LocalOutput(attributes: text, value: .inline([1]))], durationNanoseconds: 1, debug: "")))
        #expect(inputs(round).map(\.attributes) == [text])
        guard case .finished(_, let message) = round.messages.first else { throw Missing() }
        #expect(message.outputs[0].attributes == text)
    }

    @Test(arguments: [false, true]) func `an input that is passed on keeps them, unless the task says otherwise`(saysSo: Bool) throws {
        var harness = try harness()
        var input = Make.input(1, .inline([1]))
        input.attributes = text
        let job = try harness.send(Make.assign(0, inputs: [input])).jobs[0]
        let output = LocalOutput(attributes: saysSo ? Array("{}".utf8) : [], value: .sameAsInput(0))
        let round = try harness.handle(.jobEnded(job, .finished([output], durationNanoseconds: 1, debug: "")))
        guard case .finished(_, let message) = round.messages.first else { throw Missing() }
        #expect(message.outputs[0].attributes == (saysSo ? Array("{}".utf8) : text))
    }
}
