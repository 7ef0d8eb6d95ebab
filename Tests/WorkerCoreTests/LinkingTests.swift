import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct LinkingTests {
    @Test func `a new worker says hello and is welcomed`() throws {
        var core = WorkerCore(description: Harness.worker, incarnation: 7, subworkers: [])
        var effects: ContiguousArray<WorkerEffect> = []
        core.handle(.connected, now: Instant(nanoseconds: 5), into: &effects)
        #expect(effects == [.send(.hello(Hello(incarnation: 7, knownEpoch: nil, lastReceived: 0, description: Harness.worker)))])
        effects = []
        let welcome = Welcome(epoch: ServerEpoch(1), worker: WorkerID(1), lastReceived: 0, dataSecret: [1])
        core.handle(.frame(.welcome(welcome)), now: Instant(nanoseconds: 6), into: &effects)
        #expect(effects == [.welcomed(welcome)])
    }

    @Test func `a refused worker is told why`() throws {
        var core = WorkerCore(description: Harness.worker, incarnation: 7, subworkers: [])
        var effects: ContiguousArray<WorkerEffect> = []
        core.handle(.connected, now: Instant(nanoseconds: 5), into: &effects)
        effects = []
        core.handle(.frame(.refused(reason: "other version")), now: Instant(nanoseconds: 6), into: &effects)
        #expect(effects == [.refused(reason: "other version")])
        effects = []
        core.handle(.connected, now: Instant(nanoseconds: 7), into: &effects)
        #expect(effects.isEmpty)
    }

    @Test func `a silent server is greeted again on a new connection and work goes on`() throws {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/sleep"), Make.assign(0))
        let round = try harness.tick(afterMilliseconds: 10_000)
        #expect(round.effects == [.reconnect])
        let hello = try harness.handle(.connected)
        #expect(hello.frames.count == 1)
        let welcomed = try harness.handle(.frame(.welcome(harness.welcome)))
        #expect(welcomed.effects == [.welcomed(harness.welcome)])
        #expect(welcomed.messages == [.started(Make.attempt(0))], "what was not acknowledged is said again")
    }

    @Test func `outcomes made without a connection are sent when it is back`() throws {
        var harness = try Harness()
        let token = try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/sleep"), Make.assign(0)).jobs[0]
        try harness.tick(afterMilliseconds: 10_000)
        let silent = try harness.handle(.jobEnded(token, .finished([], durationNanoseconds: 1000, debug: "")))
        #expect(silent == Harness.Round())
        try harness.handle(.connected)
        let round = try harness.handle(.frame(.welcome(harness.welcome)))
        #expect(round.messages.first == .started(Make.attempt(0)))
        #expect(round.messages.last == Make.finished(0))
    }

    @Test func `a server that knows nothing of us makes us forget everything`() throws {
        var harness = try Harness()
        let started = try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/sleep"), Make.define(1, "count/words"),
            Make.assign(0, inputs: [Make.input(1, .fetch([Endpoint(host: "h", port: 1)]))]), Make.assign(1), Make.assign(2, template: 1))
        try harness.register(1)
        let fresh = try harness.meetNewServer()
        #expect(
            fresh.effects == [
                .welcomed(harness.welcome), .stopJob(started.jobs[0]), .recall(SubworkerID(1), slots: Make.slots(0)),
                .stopSubworker(SubworkerID(1), isKilled: true),
            ])
        // The new server's work waits until the old processes are gone.
        let early = try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/sleep"), Make.assign(0, epoch: 2))
        #expect(early == Harness.Round())
        #expect(try harness.handle(.jobEnded(started.jobs[0], .cancelled)) == Harness.Round())
        #expect(try harness.end(1, running: Make.slots(0)).effects == [.forgetSession(Make.session)])
        let last = try harness.handle(.fetched(started.fetches[0], .stored(sizeBytes: 5)))
        #expect(last.effects.first == .remove([Make.replica(1)]))
        #expect(last.jobs.count == 1)
        #expect(last.messages == [.started(Make.attempt(0, epoch: 2))])
    }
}
