import Link
import TaskModel
import Testing
import WorkerCore

/// Subworkers whose program is an object of their session.
@Suite struct SessionSubworkerTests {
    private static let program = SubworkerProgram(object: 7, arguments: ["--fast"], environment: ["A=b"])

    private static func define(_ index: UInt32, _ type: String = "words/count", session: UInt32 = 1, outputs: Int = 0) -> ServerMessage {
        var template = TaskTemplate(type: type)
        template.program = program
        template.outputs = (0..<outputs).map { OutputSpec(label: "out\($0)") }
        return .template(Make.template(index, session: session), template)
    }

    private static func command(session: UInt32 = 1) -> SubworkerCommand {
        SubworkerCommand(
            name: "words", arguments: ["words", "--fast"], environment: ["A=b"],
            source: ProgramSource(object: ObjectID(session: SessionID(session), index: 7)))
    }

    private static func local(session: UInt32 = 1, _ value: LocalInput.Value, sizeBytes: UInt64, onDisk: Bool = false) -> CarriedProgram {
        CarriedProgram(LocalInput(replica: Make.replica(7, session: session), sizeBytes: sizeBytes, value: value), isOnDisk: onDisk)
    }

    private static func opened(cpus: UInt32 = 1) throws -> Harness {
        var harness = try Harness(cpus: cpus)
        try harness.send(.session(Make.session, subworkers: []), define(0))
        return harness
    }

    @Test func `it is started when its program is here, and its code does not get that`() throws {
        var harness = try Self.opened()
        let fetch = InputSource.fetch([Endpoint(host: "depot", port: 1)])
        let assigned = try harness.send(Make.assign(0, inputs: [Make.input(3, .inline([1])), Make.input(7, fetch)]))
        #expect(assigned.fetches.count == 1 && assigned.effects.count == 1, "first comes its program")
        let started = try harness.handle(.fetched(assigned.fetches[0], .stored(sizeBytes: 9000)))
        #expect(started.effects == [.startSubworker(SubworkerID(1), Self.command(), program: Self.local(.stored, sizeBytes: 9000))])
        #expect(started.messages == [.replicated(Make.replica(7))])
        let input = LocalInput(replica: Make.replica(3), sizeBytes: 1, value: .inline([1]))
        #expect(try harness.register(1).calls == [[Make.call(0, 0, inputs: [input])]])
        let other = LocalInput(replica: Make.replica(4), sizeBytes: 1, value: .inline([2]))
        try harness.answer(1, [0])
        #expect(try harness.send(Make.assign(1, inputs: [Make.input(4, .inline([2])), Make.input(7, .held)])).calls == [[Make.call(0, 1, inputs: [other])]])
    }

    @Test func `an output can't be the same as the program`() throws {
        var harness = try Harness(cpus: 1)
        try harness.send(.session(Make.session, subworkers: []), Self.define(0, outputs: 1))
        try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        try harness.register(1)
        let answered = try harness.answer(1, [0], .outputs([LocalOutput(value: .sameAsInput(0))]))
        #expect(answered.failure?.cause == .contract)
    }

    @Test func `sessions with the same program have processes of their own`() throws {
        var harness = try Self.opened(cpus: 2)
        try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        try harness.register(1)
        try harness.answer(1, [0])
        try harness.send(.session(SessionID(2), subworkers: []), Self.define(0, session: 2))
        let round = try harness.send(Make.assign(0, session: 2, inputs: [Make.input(7, session: 2, .inline([1]))]))
        #expect(
            round.effects == [
                .startSubworker(SubworkerID(2), Self.command(session: 2), program: Self.local(session: 2, .inline([1]), sizeBytes: 1))
            ])
    }

    @Test func `it comes before one of its name that the worker has`() throws {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Self.define(0, "count/words"))
        let round = try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        guard case .startSubworker(_, let command, _)? = round.effects.last else {
            Issue.record("\(round)")
            return
        }
        #expect(command.source != nil)
    }

    @Test func `its processes end with the session, which is closed when they have`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        try harness.register(1)
        try harness.answer(1, [0])
        let closing = try harness.send(.closeSession(Make.session))
        #expect(closing == Harness.Round(effects: [.stopSubworker(SubworkerID(1), isKilled: false)]))
        let ended = try harness.end(1)
        #expect(ended == Harness.Round(effects: [.forgetSession(Make.session)], messages: [.sessionClosed(Make.session)]))
        #expect(harness.core.isEmpty)
    }

    @Test func `one that does not end when asked is killed, and one that is starting at once`() throws {
        var harness = try Self.opened(cpus: 2)
        try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        try harness.register(1)
        // Long enough for the next to be given a process of its own.
        try harness.answer(1, [0], nanoseconds: 50_000_000)
        try harness.send(Make.assign(1, inputs: [Make.input(7, .held)]), Make.assign(2, inputs: [Make.input(7, .held)]))
        let closing = try harness.send(.closeSession(Make.session))
        #expect(closing.effects.contains(.stopSubworker(SubworkerID(2), isKilled: true)))
        #expect(closing.messages.isEmpty)
        try harness.handle(.recalled(SubworkerID(1), slots: Make.slots(0)))
        try harness.end(2)
        let late = try harness.tick(afterMilliseconds: 5001)
        #expect(late.messages.isEmpty)
        #expect(try harness.end(1).messages == [.sessionClosed(Make.session)])
        #expect(harness.core.isEmpty)
    }

    @Test func `one that can't be started fails its tasks with the evidence, and the next task tries again`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        let ended = try harness.end(1, TaskError(.setup, "subworker 'words' exited with code 3 before it registered", detail: "log", exitCode: 3))
        #expect(ended.failure?.message.contains("exited with code 3") == true && ended.failure?.detail == "log")
        let again = try harness.send(Make.assign(1, inputs: [Make.input(7, .held)]))
        #expect(again.effects == [.startSubworker(SubworkerID(2), Self.command(), program: Self.local(.inline([1]), sizeBytes: 1))])
    }

    @Test func `its program takes room in memory until the session closes, or goes to disk`() throws {
        var harness = try Harness(cpus: 4)
        harness.setStoreMemoryBytes(8000)
        func start(_ session: UInt32, _ sizeBytes: UInt64) throws -> Bool? {
            try harness.send(.session(SessionID(session), subworkers: []), Self.define(0, session: session))
            let input = InputAssignment(
                replica: Make.replica(7, session: session), sizeBytes: sizeBytes, source: .fetch([Endpoint(host: "depot", port: 1)]))
            let fetch = try harness.send(Make.assign(0, session: session, inputs: [input])).fetches[0]
            let round = try harness.handle(.fetched(fetch, .stored(sizeBytes: sizeBytes, isOnDisk: true)))
            for case .startSubworker(_, _, let program?) in round.effects { return program.isOnDisk }
            return nil
        }
        #expect(try start(1, 1500) == false)
        #expect(harness.core.memoryFileBytes == 1500)
        #expect(try start(2, 501) == true, "a quarter of the memory is for programs")
        #expect(try start(3, 500) == false)
        #expect(harness.core.memoryFileBytes == 2000)
        try harness.send(.closeSession(SessionID(1)))
        try harness.end(1)
        #expect(harness.core.memoryFileBytes == 500)
        try harness.send(.closeSession(SessionID(2)), .closeSession(SessionID(3)))
        for id in UInt32(2)...3 { try harness.end(id) }
        #expect(harness.core.isEmpty)
    }

    @Test func `programs that claim more than can be counted are no trap`() throws {
        var harness = try Harness(cpus: 4)
        let depot = InputSource.fetch([Endpoint(host: "depot", port: 1)])
        for session in UInt32(1)...2 {
            try harness.send(.session(SessionID(session), subworkers: []), Self.define(0, session: session))
            let input = InputAssignment(replica: Make.replica(7, session: session), sizeBytes: 1 << 63, source: depot)
            let fetch = try harness.send(Make.assign(0, session: session, inputs: [input])).fetches[0]
            #expect(try harness.handle(.fetched(fetch, .stored(sizeBytes: 1 << 63))).effects.count == 1)
        }
        try harness.send(.closeSession(SessionID(1)), .closeSession(SessionID(2)))
        for id in UInt32(1)...2 { try harness.end(id) }
        #expect(harness.core.isEmpty)
    }

    @Test func `its program goes to disk where memory runs none`() throws {
        var harness = try Self.opened()
        harness.setRunsProgramsInMemory(false)
        let round = try harness.send(Make.assign(0, inputs: [Make.input(7, .inline([1]))]))
        #expect(round.effects == [.startSubworker(SubworkerID(1), Self.command(), program: Self.local(.inline([1]), sizeBytes: 1, onDisk: true))])
    }

    @Test func `a task that comes without the program fails, and nothing traps`() throws {
        var harness = try Self.opened()
        for (task, inputs) in [[], [Make.input(3, .inline([1]))]].enumerated() {
            let round = try harness.send(Make.assign(UInt32(task), inputs: inputs))
            #expect(round.failure?.cause == .setup, "\(round)")
        }
    }
}
