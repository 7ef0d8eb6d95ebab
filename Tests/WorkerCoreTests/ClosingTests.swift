import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct ClosingTests {
    private let holders = [Endpoint(host: "10.0.0.2", port: 9)]

    @Test func `a session that never came is closed`() throws {
        var harness = try Harness()
        #expect(try harness.send(.closeSession(SessionID(9))) == Harness.Round(messages: [.sessionClosed(SessionID(9))]))
    }

    @Test func `an idle session goes with its objects at once`() throws {
        var harness = try Harness()
        let token = try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run", outputs: 1), Make.assign(0)).jobs[0]
        try harness.handle(.jobEnded(token, .finished([LocalOutput(value: .stored(sizeBytes: 9000))], durationNanoseconds: 1, debug: "")))
        let round = try harness.send(.closeSession(Make.session))
        #expect(round == Harness.Round(effects: [.remove([Make.replica(100)]), .forgetSession(Make.session)], messages: [.sessionClosed(Make.session)]))
        #expect(harness.core.isEmpty)
        #expect(try harness.send(Make.define(0, "builtin/run"), Make.assign(3)).failure?.cause == .setup)
    }

    @Test func `closing stops what runs and waits for it, and what was queued vanishes`() throws {
        var harness = try Harness(cpus: 1)
        let token = try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/run", outputs: 1), Make.assign(0),
            Make.assign(1, inputs: [Make.input(100, .expect(Make.attempt(0)))]), Make.assign(2)
        ).jobs[0]
        #expect(try harness.send(.closeSession(Make.session)) == Harness.Round(effects: [.stopJob(token)]))
        #expect(try harness.send(.closeSession(Make.session)) == Harness.Round(), "it will be answered")
        #expect(try harness.send(Make.assign(5)) == Harness.Round())
        let end = try harness.handle(.jobEnded(token, .finished([LocalOutput(value: .stored(sizeBytes: 9000))], durationNanoseconds: 1, debug: "")))
        #expect(end == Harness.Round(effects: [.remove([Make.replica(100)]), .forgetSession(Make.session)], messages: [.sessionClosed(Make.session)]))
        #expect(harness.core.isEmpty)
    }

    @Test func `closing kills under its running call, and its neighbours run again uncharged`() throws {
        var harness = try Harness(cpus: 1)
        for session in UInt32(1)...2 {
            try harness.send(.session(SessionID(session), subworkers: []), Make.define(0, "count/words", session: session))
        }
        try harness.send(Make.assign(1000), Make.assign(1000, session: 2))
        try harness.register(1)
        try harness.answer(1, [0])
        try harness.answer(1, [0])
        try harness.send(Make.assign(0), Make.assign(0, session: 2), Make.assign(1))
        let closing = try harness.send(.closeSession(Make.session))
        #expect(closing.effects == [.recall(SubworkerID(1), slots: Make.slots(0)), .recall(SubworkerID(1), slots: Make.slots(2))])
        #expect(try harness.handle(.recalled(SubworkerID(1), slots: SlotSet())).effects == [.stopSubworker(SubworkerID(1), isKilled: true)])
        #expect(try harness.handle(.recalled(SubworkerID(1), slots: Make.slots(2))) == Harness.Round())
        let end = try harness.end(1, running: Make.slots(0))
        #expect(end.effects == [.forgetSession(Make.session), .startSubworker(SubworkerID(2), Harness.count)])
        #expect(end.messages == [.sessionClosed(Make.session)])
        #expect(try harness.register(2).calls == [[Make.call(0, 0, session: 2)]])
    }

    @Test func `closing takes queued calls back and leaves the process alone`() throws {
        var harness = try Harness(cpus: 1)
        for session in UInt32(1)...2 {
            try harness.send(.session(SessionID(session), subworkers: []), Make.define(0, "count/words", session: session))
        }
        try harness.send(Make.assign(1000), Make.assign(1000, session: 2))
        try harness.register(1)
        try harness.answer(1, [0])
        try harness.answer(1, [0])
        try harness.send(Make.assign(0, session: 2), Make.assign(0))
        try harness.send(.closeSession(Make.session))
        let round = try harness.handle(.recalled(SubworkerID(1), slots: Make.slots(1)))
        #expect(round == Harness.Round(effects: [.forgetSession(Make.session)], messages: [.sessionClosed(Make.session)]))
        #expect(try harness.answer(1, [0]).messages == [Make.answered(0, session: 2, started: 1_000_002)])
    }

    @Test func `closing does not wait for a transfer, and what it brings goes`() throws {
        var harness = try Harness()
        let fetch = try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/run"), Make.assign(0, inputs: [Make.input(1, .fetch(holders))])
        ).fetches[0]
        #expect(try harness.send(.closeSession(Make.session)).messages == [.sessionClosed(Make.session)])
        #expect(try harness.handle(.fetched(fetch, .stored(sizeBytes: 5))) == Harness.Round(effects: [.remove([Make.replica(1)])]))
        #expect(harness.core.isEmpty)
    }

    @Test func `closing while a second name is made leaves nothing`() throws {
        var harness = try Harness()
        let fetch = try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/sleep", outputs: 1),
            Make.assign(0, inputs: [Make.input(1, .fetch(holders))])
        ).fetches[0]
        let token = try harness.handle(.fetched(fetch, .stored(sizeBytes: 6000))).jobs[0]
        let alias = try harness.handle(.jobEnded(token, .finished([LocalOutput(value: .sameAsInput(0))], durationNanoseconds: 1, debug: ""))).aliases[0]
        #expect(try harness.send(.closeSession(Make.session)) == Harness.Round())
        let round = try harness.handle(.aliased(alias, nil))
        #expect(
            round
                == Harness.Round(
                    effects: [.remove([Make.replica(100), Make.replica(1)]), .forgetSession(Make.session)], messages: [.sessionClosed(Make.session)]))
        #expect(harness.core.isEmpty)
    }

    @Test func `a closed session's constants are forgotten by its subworkers`() throws {
        var harness = try Harness(cpus: 1)
        try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "count/words", constants: [1]),
            Make.assign(0, inputs: [Make.input(1, .inline([7]))]))
        try harness.register(1)
        try harness.answer(1, [0])
        #expect(
            try harness.send(.closeSession(Make.session)).effects == [
                .dropCached(SubworkerID(1), [Make.replica(1)]), .forgetSession(Make.session),
            ])
    }
}
