import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct ObjectTests {
    private let holders = [Endpoint(host: "10.0.0.2", port: 9)]

    private static func opened(cpus: UInt32 = 2) throws -> Harness {
        var harness = try Harness(cpus: cpus)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/concat", outputs: 1))
        return harness
    }

    private static func local(_ object: UInt32, _ value: LocalInput.Value, sizeBytes: UInt64, contentType: String = "") -> LocalInput {
        LocalInput(replica: Make.replica(object), sizeBytes: sizeBytes, contentType: contentType, value: value)
    }

    @Test func `bytes that came along are used and kept`() throws {
        var harness = try Self.opened()
        let first = try harness.send(Make.assign(0, inputs: [Make.input(1, .inline([7, 8]))]))
        #expect(first.effects == [.runJob(first.jobs[0], Make.request(0, inputs: [Self.local(1, .inline([7, 8]), sizeBytes: 2)]))])
        let second = try harness.send(Make.assign(1, inputs: [Make.input(1, .held)]))
        #expect(second.effects == [.runJob(second.jobs[0], Make.request(1, inputs: [Self.local(1, .inline([7, 8]), sizeBytes: 2)]))])
    }

    @Test func `a value that comes ahead is held until it is dropped`() throws {
        var harness = try Self.opened()
        #expect(try harness.send(.provide([Make.input(1, .inline([7])), Make.input(2, .inline([]))])) == Harness.Round())
        let round = try harness.send(Make.assign(0, inputs: [Make.input(1, .held), Make.input(2, .held)]))
        #expect(
            round.effects == [
                .runJob(round.jobs[0], Make.request(0, inputs: [Self.local(1, .inline([7]), sizeBytes: 1), Self.local(2, .inline([]), sizeBytes: 0)]))
            ])
        try harness.send(.drop([Make.replica(2)]))
        _ = try harness.handle(.jobEnded(round.jobs[0], .finished([LocalOutput(value: .inline([]))], durationNanoseconds: 1, debug: "")))
        #expect(try harness.send(Make.assign(1, inputs: [Make.input(1, .held)])).jobs.count == 1)
        let gone = try harness.send(Make.assign(2, inputs: [Make.input(2, .held)]))
        #expect(gone.messages.count == 1 && gone.failure?.cause == .setup, "the server knows that it is not held, or hears of it before this")
    }

    @Test func `one fetch serves every task that wants the object`() throws {
        var harness = try Self.opened()
        let input = Make.input(1, .fetch(holders))
        let round = try harness.send(Make.assign(0, inputs: [input, input]), Make.assign(1, inputs: [input]), Make.assign(2, inputs: [Make.input(1, .held)]))
        #expect(round == Harness.Round(effects: [.fetch(round.fetches[0], input)]))
        let come = try harness.handle(.fetched(round.fetches[0], .stored(sizeBytes: 6000)))
        #expect(come.jobs.count == 2)
        #expect(come.messages == [.replicated(Make.replica(1)), .started(Make.attempt(0)), .started(Make.attempt(1))])
        let stored = Self.local(1, .stored, sizeBytes: 6000)
        #expect(come.effects.first == .runJob(come.jobs[0], Make.request(0, inputs: [stored, stored])))
        #expect(try harness.handle(.fetched(round.fetches[0], .stored(sizeBytes: 6000))) == Harness.Round(), "late news")
    }

    @Test func `a fetch that failed fails those who waited, and the next one tries again`() throws {
        var harness = try Self.opened()
        let input = Make.input(1, .fetch(holders))
        let round = try harness.send(Make.assign(0, inputs: [input]))
        let failed = try harness.handle(.fetched(round.fetches[0], .failed(TaskError(.user, "404 from 10.0.0.2:9"))))
        #expect(
            failed
                == Harness.Round(messages: [
                    .missing(Make.replica(1)), Make.failed(0, TaskError(.setup, "object 1.o1 could not be fetched: 404 from 10.0.0.2:9")),
                ]))
        #expect(try harness.send(Make.assign(1, inputs: [input])).fetches.count == 1)
    }

    @Test func `a full disk stays a matter of resources`() throws {
        var harness = try Self.opened()
        let round = try harness.send(Make.assign(0, inputs: [Make.input(1, .fetch(holders))]))
        #expect(try harness.handle(.fetched(round.fetches[0], .failed(TaskError(.resource, "disk full")))).failure?.cause == .resource)
    }

    @Test func `an input that is not here fails its task, and the others come all the same`() throws {
        var harness = try Self.opened()
        let round = try harness.send(Make.assign(0, inputs: [Make.input(1, .held), Make.input(2, .inline([1])), Make.input(3, .fetch([]))]))
        #expect(
            round
                == Harness.Round(messages: [
                    .missing(Make.replica(3)),
                    Make.failed(0, TaskError(.setup, "input 0 (object 1.o1, generation 1-1) is not on the worker that was to have it")),
                ]))
        #expect(try harness.send(Make.assign(1, inputs: [Make.input(2, .held)])).jobs.count == 1)
        #expect(try #require(harness.send(Make.assign(2, inputs: [Make.input(3, .fetch([]))])).failure).message.contains("nobody is said to have it"))
    }

    @Test func `a chain runs without the server in between`() throws {
        var harness = try Self.opened()
        let round = try harness.send(
            Make.assign(0), Make.assign(1, inputs: [Make.input(100, .expect(Make.attempt(0)))]),
            Make.assign(2, inputs: [Make.input(110, .expect(Make.attempt(1)))]))
        #expect(round.jobs.count == 1)
        let second = try harness.handle(
            .jobEnded(round.jobs[0], .finished([LocalOutput(contentType: "csv", value: .stored(sizeBytes: 9000))], durationNanoseconds: 1000, debug: "")))
        let input = Self.local(100, .stored, sizeBytes: 9000, contentType: "csv")
        #expect(second.effects == [.runJob(second.jobs[0], Make.request(1, inputs: [input]))])
        #expect(
            second.messages == [
                Make.finished(0, outputs: [FinishedOutput(sizeBytes: 9000, contentType: "csv")]), .started(Make.attempt(1)),
            ])
        let third = try harness.handle(
            .jobEnded(second.jobs[0], .finished([LocalOutput(value: .inline([3]))], durationNanoseconds: 1000, debug: "")))
        let passed = Self.local(110, .inline([3]), sizeBytes: 1, contentType: "text")
        #expect(third.effects == [.runJob(third.jobs[0], Make.request(2, inputs: [passed]))])
    }

    @Test func `a failed producer fails the chain behind it with the first cause`() throws {
        var harness = try Self.opened()
        let round = try harness.send(
            Make.assign(0), Make.assign(1, inputs: [Make.input(100, .expect(Make.attempt(0)))]),
            Make.assign(2, inputs: [Make.input(110, .expect(Make.attempt(1)))]))
        let failed = try harness.handle(.jobEnded(round.jobs[0], .failed(TaskError(.user, "exit code 1"))))
        let dependency = TaskError(.dependency, "object 1.o100 was never made: attempt 1.t0#e1-1 failed: exit code 1")
        #expect(
            failed
                == Harness.Round(messages: [
                    Make.failed(0, TaskError(.user, "exit code 1")), Make.failed(1, dependency), Make.failed(2, dependency),
                ]))
    }

    @Test func `a chain of 20000 fails without recursion`() throws {
        var harness = try Self.opened()
        var messages = [Make.assign(0)]
        for task in UInt32(1)..<20_000 { messages.append(Make.assign(task, inputs: [Make.input(90 + 10 * task, .expect(Make.attempt(task - 1)))])) }
        var core = harness.core
        var effects: ContiguousArray<WorkerEffect> = []
        let batch = Batch(epoch: harness.epoch, incarnation: Harness.incarnation, sequence: 2, acknowledged: 0, payload: ContiguousArray(messages))
        core.handle(.frame(.batch(batch)), now: harness.now, into: &effects)
        guard case .runJob(let token, _)? = effects.first else { throw BrokenTest() }
        effects = []
        core.handle(.jobEnded(token, .failed(TaskError(.user, "exit code 1"))), now: harness.now, into: &effects)
        var failedCount = 0
        for case .send(.batch(let batch)) in effects { failedCount += batch.payload.count }
        #expect(failedCount == 20_000)
        try harness.send(.drop([]))
    }

    @Test func `what expects from a cancelled attempt fails, from one taken back is taken back`() throws {
        var harness = try Self.opened(cpus: 1)
        try harness.send(Make.assign(0), Make.assign(1), Make.assign(2, inputs: [Make.input(110, .expect(Make.attempt(1)))]))
        #expect(
            try harness.send(.cancel(Make.attempt(1))).messages == [
                .cancelled(Make.attempt(1)),
                Make.failed(2, TaskError(.dependency, "object 1.o110 was never made: attempt 1.t1#e1-1 was cancelled")),
            ])
        try harness.send(Make.assign(3), Make.assign(4, inputs: [Make.input(130, .expect(Make.attempt(3)))]))
        #expect(
            try harness.send(.revoke(Make.attempt(3)), .revoke(Make.attempt(4))).messages == [
                .revoked(Make.attempt(3), wasTakenBack: true), .revoked(Make.attempt(4), wasTakenBack: true),
                .revoked(Make.attempt(4), wasTakenBack: true),
            ])
    }

    @Test func `an attempt that does not make the object, or is gone, can't be expected from`() throws {
        var harness = try Self.opened(cpus: 1)
        try harness.send(Make.assign(0))
        let wrong = try harness.send(Make.assign(1, inputs: [Make.input(105, .expect(Make.attempt(0)))]))
        #expect(wrong.failure?.message == "input 0 (object 1.o105) was to come from attempt 1.t0#e1-1, which does not make it")
        #expect(try harness.send(Make.assign(2, inputs: [Make.input(120, .expect(Make.attempt(2)))])).failure?.cause == .dependency)
    }

    @Test func `a passed-through file gets a second name before it is told of`() throws {
        var harness = try Self.opened()
        let input = InputAssignment(replica: Make.replica(1), sizeBytes: 6000, contentType: "png", source: .fetch(holders))
        let fetch = try harness.send(Make.define(1, "builtin/sleep", outputs: 2), Make.assign(0, template: 1, inputs: [input])).fetches[0]
        let token = try harness.handle(.fetched(fetch, .stored(sizeBytes: 6000))).jobs[0]
        let outputs = [LocalOutput(value: .sameAsInput(0)), LocalOutput(contentType: "csv", value: .inline([1]))]
        let named = try harness.handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1000, debug: "")))
        #expect(named == Harness.Round(effects: [.alias(named.aliases[0], from: Make.replica(1), to: Make.replica(100))]))
        #expect(try harness.send(.drop([Make.replica(1)])) == Harness.Round(), "still in use")
        let done = try harness.handle(.aliased(named.aliases[0], nil))
        #expect(done.effects == [.remove([Make.replica(1)])])
        #expect(
            done.messages == [
                Make.finished(
                    0, outputs: [FinishedOutput(sizeBytes: 6000, contentType: "text"), FinishedOutput(sizeBytes: 1, contentType: "csv", inline: [1])])
            ])
        #expect(try harness.handle(.aliased(named.aliases[0], nil)) == Harness.Round(), "late news")
    }

    @Test func `passed-through bytes need no second name`() throws {
        var harness = try Self.opened()
        let input = InputAssignment(replica: Make.replica(1), sizeBytes: 1, contentType: "png", source: .inline([9]))
        let token = try harness.send(Make.assign(0, inputs: [input])).jobs[0]
        let round = try harness.handle(.jobEnded(token, .finished([LocalOutput(value: .sameAsInput(0))], durationNanoseconds: 1000, debug: "")))
        #expect(round == Harness.Round(messages: [Make.finished(0, outputs: [FinishedOutput(sizeBytes: 1, contentType: "text", inline: [9])])]))
    }

    @Test func `a second name that can't be made fails the task and removes its other files`() throws {
        var harness = try Self.opened()
        let fetch = try harness.send(
            Make.define(1, "builtin/sleep", outputs: 2), Make.assign(0, template: 1, inputs: [Make.input(1, .fetch(holders))])
        ).fetches[0]
        let token = try harness.handle(.fetched(fetch, .stored(sizeBytes: 6000))).jobs[0]
        let outputs = [LocalOutput(value: .sameAsInput(0)), LocalOutput(value: .stored(sizeBytes: 7000))]
        let alias = try harness.handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1000, debug: ""))).aliases[0]
        let error = TaskError(.resource, "disk full")
        #expect(
            try harness.handle(.aliased(alias, error)) == Harness.Round(effects: [.remove([Make.replica(101)])], messages: [Make.failed(0, error)]))
    }

    @Test func `small outputs that are too much for one message become files, the largest first`() throws {
        var harness = try Self.opened(cpus: 1)
        harness.setResultBytesMax(112 + 4 * 64 + 4 + 30)
        let input = InputAssignment(replica: Make.replica(1), sizeBytes: 40, source: .inline([UInt8](repeating: 7, count: 40)))
        let token = try harness.send(Make.define(1, "builtin/sleep", outputs: 4), Make.assign(0, template: 1, inputs: [input])).jobs[0]
        let bytes = [[UInt8](repeating: 1, count: 20), [UInt8](repeating: 2, count: 41), []]
        let outputs = bytes.map { LocalOutput(value: .inline($0)) } + [LocalOutput(value: .sameAsInput(0))]
        let asked = try harness.handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1000, debug: "")))
        let write = try #require(asked.writes.first)
        #expect(
            asked
                == Harness.Round(effects: [
                    .write(
                        write,
                        [
                            FileToWrite(replica: Make.replica(101), bytes: bytes[1]),
                            FileToWrite(replica: Make.replica(103), bytes: [UInt8](repeating: 7, count: 40)),
                        ])
                ]))
        let done = try harness.handle(.written(write, .stored(isOnDisk: [false, true])))
        let finished = try #require(done.messages.first)
        guard case .finished(_, let message) = finished else {
            Issue.record("\(finished)")
            return
        }
        #expect(message.outputs.map(\.inline) == [bytes[0], nil, [], nil])
        #expect(message.outputs.map(\.sizeBytes) == [20, 41, 0, 40])
        #expect(harness.core.memoryFileBytes == 41, "the other file lies on disk")
        #expect(try harness.handle(.written(write, .stored(isOnDisk: [false, true]))) == Harness.Round(), "late news")
        let used = try harness.send(Make.assign(1, inputs: [Make.input(101, .held)])).effects
        guard case .runJob(_, let request)? = used.first else {
            Issue.record("\(used)")
            return
        }
        #expect(request.inputs[0].value == .stored)
    }

    @Test func `small outputs that could not be written fail their task, and a closed session waits for them`() throws {
        var harness = try Self.opened(cpus: 1)
        harness.setResultBytesMax(112 + 2 * 64 + 4)
        func run(_ task: UInt32) throws -> WriteToken {
            let token = try harness.send(Make.define(1, "builtin/sleep", outputs: 2), Make.assign(task, template: 1)).jobs[0]
            let outputs = [LocalOutput(value: .inline([1, 2, 3, 4, 5])), LocalOutput(value: .stored(sizeBytes: 7000))]
            return try harness.handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1000, debug: ""))).writes[0]
        }
        let error = TaskError(.resource, "disk full")
        #expect(
            try harness.handle(.written(run(0), .failed(error))) == Harness.Round(effects: [.remove([Make.replica(101)])], messages: [Make.failed(0, error)]))
        let write = try run(1)
        #expect(try harness.send(.closeSession(Make.session)) == Harness.Round())
        let closed = try harness.handle(.written(write, .stored(isOnDisk: [false])))
        #expect(closed.effects == [.remove([Make.replica(110), Make.replica(111)]), .forgetSession(Make.session)])
        #expect(closed.messages == [.sessionClosed(Make.session)])
    }

    @Test func `a dropped object goes at once, or with its last use`() throws {
        var harness = try Self.opened(cpus: 1)
        let fetch = try harness.send(Make.assign(0, inputs: [Make.input(1, .fetch(holders))])).fetches[0]
        let token = try harness.handle(.fetched(fetch, .stored(sizeBytes: 6000))).jobs[0]
        try harness.send(Make.assign(1, inputs: [Make.input(1, .held)]))
        #expect(try harness.send(.drop([Make.replica(1), Make.replica(55)])) == Harness.Round())
        let second = try harness.handle(.jobEnded(token, .finished([LocalOutput(value: .stored(sizeBytes: 5000))], durationNanoseconds: 1, debug: "")))
        #expect(second.jobs.count == 1 && second.effects.count == 1)
        let end = try harness.handle(.jobEnded(second.jobs[0], .finished([LocalOutput(value: .inline([1]))], durationNanoseconds: 1, debug: "")))
        #expect(end.effects == [.remove([Make.replica(1)])])
        #expect(try harness.send(.drop([Make.replica(100), Make.replica(110), Make.replica(100)])).effects == [.remove([Make.replica(100)])])
    }

    @Test func `an object that is dropped while it is fetched goes when it comes`() throws {
        var harness = try Self.opened()
        let fetch = try harness.send(Make.assign(0, inputs: [Make.input(1, .fetch(holders))])).fetches[0]
        try harness.send(.cancel(Make.attempt(0)))
        #expect(try harness.send(.drop([Make.replica(1)])) == Harness.Round())
        #expect(try harness.handle(.fetched(fetch, .stored(sizeBytes: 5))) == Harness.Round(effects: [.remove([Make.replica(1)])]))
    }

    @Test func `an object that is wanted again before it went stays`() throws {
        var harness = try Self.opened(cpus: 1)
        let fetch = try harness.send(Make.assign(0, inputs: [Make.input(1, .fetch(holders))])).fetches[0]
        let token = try harness.handle(.fetched(fetch, .stored(sizeBytes: 6000))).jobs[0]
        try harness.send(.drop([Make.replica(1)]))
        #expect(try harness.send(Make.assign(1, inputs: [Make.input(1, .fetch(holders))])).messages == [.replicated(Make.replica(1))])
        let next = try harness.handle(.jobEnded(token, .finished([LocalOutput(value: .inline([1]))], durationNanoseconds: 1, debug: "")))
        #expect(next.effects.count == 1 && next.jobs.count == 1)
    }
}

struct BrokenTest: Error {}
