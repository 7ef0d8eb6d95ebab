import Link
import TaskModel
import Testing
import WorkerCore

/// What a worker says to a server that was started again.
@Suite struct HandoverTests {
    private func restarted(_ harness: inout Harness, isRestored: Bool = true) throws -> Harness.Round {
        try harness.handle(.connected)
        return try harness.greetRestarted(isRestored: isRestored)
    }

    @Test func `what runs and what is held stays, and outcomes that nobody took are told again first`() throws {
        var harness = try Harness(cpus: 2)
        let jobs = try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/sleep", outputs: 1), Make.assign(0), Make.assign(1), Make.assign(2)
        ).jobs
        let output = LocalOutput(value: .stored(sizeBytes: 5))
        try harness.handle(.jobEnded(jobs[0], .finished([output], durationNanoseconds: 1000, debug: "")))
        try harness.handle(.jobEnded(jobs[1], .finished([output], durationNanoseconds: 1000, debug: "")))
        let round = try restarted(&harness)
        #expect(round.effects.count == 1, "nothing is stopped or removed: \(round.effects)")
        var outcomes: [AttemptID] = []
        for case .finished(let attempt, _) in round.messages.prefix(2) { outcomes.append(attempt) }
        #expect(outcomes == [Make.attempt(0), Make.attempt(1)])
        #expect(
            Array(round.messages.dropFirst(2)) == [
                .knows(Make.session), .runs(Make.attempt(2)),
                .holds([Make.replica(Make.firstOutput(0)), Make.replica(Make.firstOutput(1))]), .handedOver,
            ])
    }

    @Test func `what has not begun is forgotten, and what comes for it too`() throws {
        var harness = try Harness(cpus: 1)
        try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/sleep", outputs: 1), Make.assign(0), Make.assign(1),
            Make.assign(2, inputs: [Make.input(1, .fetch([Endpoint(host: "h", port: 1)]))]),
            Make.assign(3, inputs: [InputAssignment(replica: Make.replica(Make.firstOutput(1)), source: .expect(Make.attempt(1)))]))
        let round = try restarted(&harness)
        #expect(round.messages == [.knows(Make.session), .runs(Make.attempt(0)), .handedOver])
        // Its fetch ends, and nobody is told of an object that the server does not count here.
        let fetched = try harness.handle(.fetched(FetchToken(harness.firstFetch), .stored(sizeBytes: 5)))
        #expect(fetched.messages.isEmpty && fetched.effects == [.remove([Make.replica(1)])])
    }

    @Test func `a server that does not know the worker gets no handover`() throws {
        var harness = try Harness(cpus: 1)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/sleep"), Make.assign(0))
        let round = try restarted(&harness, isRestored: false)
        #expect(round.messages.isEmpty)
        #expect(round.effects.contains { if case .stopJob = $0 { true } else { false } })
    }

    @Test func `a second restart gets one handover, not two`() throws {
        var harness = try Harness(cpus: 1)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/sleep"), Make.assign(0))
        let first = try restarted(&harness)
        #expect(try restarted(&harness).messages == first.messages)
    }
}
