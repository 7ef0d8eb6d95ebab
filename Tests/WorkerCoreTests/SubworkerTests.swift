import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct SubworkerTests {
    private static func opened(cpus: UInt32 = 2, _ templates: ServerMessage...) throws -> Harness {
        var harness = try Harness(cpus: cpus)
        try harness.send([.session(Make.session, subworkers: []), Make.define(0, "count/words")] + templates)
        return harness
    }

    private static func worker(_ id: UInt32) -> SubworkerID { SubworkerID(id) }

    /// A harness on one CPU whose subworker 1 is known to be fast.
    private static func fast(_ templates: ServerMessage..., threads: UInt16 = 1) throws -> Harness {
        var harness = try Harness(cpus: 1)
        try harness.send([.session(Make.session, subworkers: []), Make.define(0, "count/words")] + templates)
        try harness.send(Make.assign(1000))
        try harness.register(1, threads: threads)
        try harness.answer(1, [0])
        return harness
    }

    @Test func `a subworker is started for each ready task, but only one for each free CPU`() throws {
        var harness = try Self.opened()
        #expect(try harness.send(Make.assign(0)).effects == [.startSubworker(Self.worker(1), Harness.count)])
        #expect(try harness.send(Make.assign(1), Make.assign(2)).effects == [.startSubworker(Self.worker(2), Harness.count)])
        let called = try harness.register(1)
        #expect(called == Harness.Round(effects: [.call(Self.worker(1), [Make.call(0, 0)])]))
        #expect(try harness.register(1) == Harness.Round(), "late news")
    }

    @Test func `a session's own subworker comes before the worker's`() throws {
        var harness = try Harness()
        let own = SubworkerCommand(name: "count", arguments: ["./other"])
        let round = try harness.send(.session(Make.session, subworkers: [own]), Make.define(0, "count/words"), Make.assign(0))
        #expect(round.effects.last == .startSubworker(Self.worker(1), own))
    }

    @Test func `sessions with the same command share processes`() throws {
        var harness = try Self.fast()
        let round = try harness.send(
            .session(SessionID(2), subworkers: [Harness.count]), Make.define(0, "count/words", session: 2), Make.assign(0, session: 2))
        #expect(round.effects.last == .call(Self.worker(1), [Make.call(0, 0, session: 2)]))
    }

    @Test func `an unknown task runs alone, a known short one many at a time`() throws {
        var harness = try Self.opened(cpus: 1)
        try harness.send((0..<200).map { Make.assign($0) })
        #expect(try harness.register(1).calls.map(\.count) == [1])
        let filled = try harness.answer(1, [0], nanoseconds: 5000)
        #expect(filled.calls.map(\.count) == [40], "200 µs of work")
        #expect(filled.messages == [Make.answered(0, started: 1_000_000, nanoseconds: 5000)])
        #expect(try harness.answer(1, (0..<19).map { $0 }, nanoseconds: 5000).calls.isEmpty, "more than half is left")
        let refilled = try harness.answer(1, [19], nanoseconds: 5000)
        #expect(refilled.calls.map(\.count) == [20])
    }

    @Test func `at most 60 calls are in flight`() throws {
        var harness = try Self.fast()
        #expect(try harness.send((0..<200).map { Make.assign($0) }).calls.map(\.count) == [60])
    }

    @Test func `without a control page there is one call at a time`() throws {
        var harness = try Self.opened(cpus: 1)
        try harness.send((0..<9).map { Make.assign($0) })
        #expect(try harness.register(1, page: false, threads: 4).calls.map(\.count) == [1])
        #expect(try harness.answer(1, [0]).calls.map(\.count) == [1])
    }

    @Test func `a subworker with threads occupies a CPU for each call that it runs`() throws {
        var harness = try Self.opened(cpus: 3)
        try harness.send((0..<9).map { Make.assign($0) })
        #expect(try harness.register(1, threads: 2).calls.map(\.count) == [2])
        #expect(try harness.register(2, threads: 2).calls.map(\.count) == [1], "the third CPU")
    }

    @Test func `calls are spread evenly`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(1000), Make.assign(1001))
        try harness.register(1)
        try harness.register(2)
        try harness.answer(1, [0])
        try harness.answer(2, [0])
        #expect(try harness.send((0..<20).map { Make.assign($0) }).calls.map(\.count) == [10, 10])
    }

    @Test func `a call that takes long is told of after 50 ms`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        try harness.register(1)
        #expect(try harness.tick(afterMilliseconds: 49) == Harness.Round())
        #expect(harness.core.nextTick == Instant(nanoseconds: 1_050_000_000))
        #expect(try harness.tick(afterMilliseconds: 1) == Harness.Round(messages: [.started(Make.attempt(0))]))
        #expect(try harness.tick(afterMilliseconds: 50) == Harness.Round())
    }

    @Test func `what waits behind a slow call goes to a free CPU`() throws {
        var harness = try Self.fast(Make.define(1, "builtin/sleep"))
        try harness.send(Make.assign(0), Make.assign(1), Make.assign(2))
        #expect(try harness.tick(afterMilliseconds: 3) == Harness.Round(), "no CPU is free")
        var wide = try Self.opened(Make.define(1, "builtin/sleep"))
        let sleep = try wide.send(Make.assign(50, template: 1), Make.assign(0)).jobs[0]
        try wide.register(1)
        try wide.answer(1, [0])
        #expect(try wide.send(Make.assign(1), Make.assign(2), Make.assign(3)).calls.map(\.count) == [3])
        try wide.handle(.jobEnded(sleep, .finished([], durationNanoseconds: 1, debug: "")))
        #expect(wide.core.nextTick == Instant(nanoseconds: 1_002_001_000))
        #expect(try wide.tick(afterMilliseconds: 2).effects == [.recall(Self.worker(1), slots: Make.slots(1, 2))])
        let back = try wide.handle(.recalled(Self.worker(1), slots: Make.slots(1, 2)))
        #expect(back.effects == [.startSubworker(Self.worker(2), Harness.count)])
        #expect(try wide.register(2).calls == [[Make.call(0, 2), Make.call(1, 3)]])
        #expect(try wide.answer(1, [0], nanoseconds: 3_000_000).messages == [Make.answered(1, started: 1_002_001, nanoseconds: 3_000_000)])
    }

    @Test func `a recall that comes back empty is not repeated for the same call`() throws {
        var harness = try Self.opened(Make.define(1, "builtin/sleep"))
        let sleep = try harness.send(Make.assign(50, template: 1), Make.assign(0)).jobs[0]
        try harness.register(1)
        try harness.answer(1, [0])
        try harness.send(Make.assign(1), Make.assign(2))
        try harness.handle(.jobEnded(sleep, .finished([], durationNanoseconds: 1, debug: "")))
        #expect(try harness.tick(afterMilliseconds: 2).effects == [.recall(Self.worker(1), slots: Make.slots(1))])
        #expect(try harness.handle(.recalled(Self.worker(1), slots: SlotSet())) == Harness.Round())
        #expect(try harness.tick(afterMilliseconds: 2) == Harness.Round())
    }

    @Test func `a task that the subworker does not have fails with what it has`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0), Make.assign(1))
        let round = try harness.register(1, tasks: ["lines", "bytes"])
        let error = TaskError(.setup, "unknown task type \"count/words\": subworker \"count\" has no task \"words\"; it has lines, bytes")
        #expect(round == Harness.Round(messages: [Make.failed(0, error), Make.failed(1, error)]))
    }

    @Test func `a failed call carries the text and the debug lines`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        try harness.register(1)
        let answer = CallAnswer(slot: 0, debug: "line 1", result: .failed(TaskError(.user, "no words", detail: "traceback")))
        var error = TaskError(.user, "no words", detail: "traceback")
        error.debug = "line 1"
        #expect(try harness.handle(.callsAnswered(Self.worker(1), [answer])) == Harness.Round(messages: [Make.failed(0, error)]))
        let twice = try harness.handle(.callsAnswered(Self.worker(1), [answer]))
        #expect(twice.effects == [.note("subworker 1 answered in slot 0, in which it has no call")])
    }

    @Test func `a subworker that claims absurd durations is not believed`() throws {
        var harness = try Self.opened(cpus: 1)
        try harness.send((0..<9).map { Make.assign($0) })
        try harness.register(1)
        harness.wait(microseconds: 4)
        let answer = CallAnswer(slot: 0, durationNanoseconds: .max, result: .outputs([]))
        let round = try harness.handle(.callsAnswered(Self.worker(1), [answer]))
        #expect(round.messages == [Make.answered(0, started: 1_000_000, nanoseconds: 4000)])
        #expect(round.calls.map(\.count) == [8])
    }

    // MARK: Constants

    @Test func `a constant is sent once to a subworker that remembers it`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/call", constants: [1]))
        try harness.send(Make.assign(0, template: 1, inputs: [Make.input(1, .inline([7])), Make.input(2, .inline([8]))]))
        let first = LocalInput(replica: Make.replica(1), sizeBytes: 1, value: .inline([7]), isKept: true)
        let second = LocalInput(replica: Make.replica(1), sizeBytes: 1, value: .cached)
        let other = LocalInput(replica: Make.replica(2), sizeBytes: 1, value: .inline([8]))
        #expect(try harness.register(1).calls == [[Make.call(0, 0, template: 1, inputs: [first, other])]])
        try harness.answer(1, [0])
        let held = [Make.input(1, .held), Make.input(2, .held)]
        #expect(try harness.send(Make.assign(1, template: 1, inputs: held)).calls == [[Make.call(0, 1, template: 1, inputs: [second, other])]])
        #expect(try harness.send(.drop([Make.replica(1)])) == Harness.Round(), "in use")
        #expect(try harness.answer(1, [0]).effects == [.dropCached(Self.worker(1), [Make.replica(1)])])
    }

    @Test func `a constant that never reached the subworker is sent again`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/call", constants: [1]))
        try harness.send(Make.assign(0, template: 1, inputs: [Make.input(1, .inline([7]))]))
        let input = LocalInput(replica: Make.replica(1), sizeBytes: 1, value: .inline([7]), isKept: true)
        #expect(try harness.register(1).calls == [[Make.call(0, 0, template: 1, inputs: [input])]])
        try harness.answer(1, [0], .failed(TaskError(.setup, "input object 1.o1 could not be opened")))
        #expect(try harness.send(Make.assign(1, template: 1, inputs: [Make.input(1, .held)])).calls == [[Make.call(0, 1, template: 1, inputs: [input])]])
    }

    @Test func `a subworker without a cache gets constants each time`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/call", constants: [1]))
        try harness.send(Make.assign(0, template: 1, inputs: [Make.input(1, .inline([7]))]))
        let input = LocalInput(replica: Make.replica(1), sizeBytes: 1, value: .inline([7]))
        #expect(try harness.register(1, caching: false).calls == [[Make.call(0, 0, template: 1, inputs: [input])]])
        try harness.answer(1, [0])
        #expect(try harness.send(Make.assign(1, template: 1, inputs: [Make.input(1, .held)])).calls == [[Make.call(0, 1, template: 1, inputs: [input])]])
    }

    // MARK: Ends

    @Test func `a subworker that ends before it registers fails what waits for it`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        let round = try harness.end(1, TaskError(.setup, "program not found: ./count", exitCode: 127))
        let error = TaskError(.setup, "program not found: ./count", exitCode: 127)
        #expect(round == Harness.Round(messages: [Make.failed(0, error)]))
        #expect(try harness.send(Make.assign(1)).effects == [.startSubworker(Self.worker(2), Harness.count)], "the next task tries again")
    }

    @Test func `one that worked before is tried three times`() throws {
        var harness = try Self.fast()
        try harness.end(1)
        #expect(try harness.send(Make.assign(0)).effects == [.startSubworker(Self.worker(2), Harness.count)])
        #expect(try harness.end(2).effects == [.startSubworker(Self.worker(3), Harness.count)])
        #expect(try harness.end(3).effects == [.startSubworker(Self.worker(4), Harness.count)])
        let last = try harness.end(4)
        #expect(last.effects.isEmpty)
        #expect(last.failure?.message == "subworker \"count\" ended 3 times in a row before it did any work: killed by signal 11")
    }

    @Test func `one that never registers is killed and fails what waits`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        try harness.tick(afterMilliseconds: 5000)
        #expect(try harness.send().effects.isEmpty)
        var round = Harness.Round()
        for _ in 0..<5 {
            try harness.send()
            round = try harness.tick(afterMilliseconds: 5000)
        }
        #expect(round.effects == [.stopSubworker(Self.worker(1), isKilled: true)])
        #expect(try harness.register(1) == Harness.Round(), "too late")
        #expect(try harness.end(1).failure?.message == "subworker \"count\" was ended because it did not register within 30 s: killed by signal 11")
    }

    @Test func `a crash is charged to what ran only`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0), Make.assign(1), Make.assign(2))
        let round = try harness.end(1, running: Make.slots(0))
        #expect(round == Harness.Round(effects: [.startSubworker(Self.worker(2), Harness.count)], messages: [Make.failed(0, Harness.crash)]))
        #expect(try harness.register(2).calls == [[Make.call(0, 1)]], "after a crash the type is a stranger again")
    }

    @Test func `what had begun and is not at fault runs again uncharged, or not at all`() throws {
        var harness = try Self.opened(cpus: 3, Make.define(1, "count/words", rerun: .never))
        try harness.send(Make.assign(0), Make.assign(1), Make.assign(2, template: 1))
        try harness.register(1, threads: 3)
        let round = try harness.end(1, running: Make.slots(0), begun: Make.slots(1, 2))
        #expect(round.messages.contains(Make.failed(0, Harness.crash)), "it made the process crash")
        let lost = TaskError(
            .preempted,
            "attempt \(Make.attempt(2)) had begun and may run only once, but its subworker ended because of another task: killed by signal 11",
            detail: "log")
        #expect(round.messages.contains(Make.failed(2, lost)) && round.messages.count == 2)
        #expect(try harness.send(.revoke(Make.attempt(1))).messages == [.revoked(Make.attempt(1), wasTakenBack: false)], "it has begun")
        #expect(try harness.register(2, threads: 3).calls.joined().map(\.job.attempt) == [Make.attempt(1)])
    }

    @Test func `results that are lost again and again end it when nothing else is done`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        for id in UInt32(1)...3 {
            #expect(try harness.register(id).calls.count == 1)
            let round = try harness.end(id, begun: Make.slots(0))
            #expect((round.failure != nil) == (id == 3))
        }
    }

    @Test func `the error of several crashes tells of each`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/words", retries: 2))
        try harness.send(Make.assign(0, template: 1))
        var round = Harness.Round()
        for id in UInt32(1)...3 {
            try harness.register(id)
            let code: Int32? = id == 2 ? 4 : nil
            let evidence = TaskError(
                .crash, "ended by \(id)", detail: id == 2 ? "" : "log \(id)", exitCode: code, signal: code == nil ? Int32(id) : nil)
            round = try harness.end(id, running: Make.slots(0), evidence)
        }
        let failure = try #require(round.failure)
        #expect(failure.message == "crashed 3 times: ended by 3" && failure.signal == 3 && failure.exitCode == nil)
        #expect(failure.detail == "crash 1 of 3: ended by 1\nlog 1\ncrash 2 of 3: ended by 2\ncrash 3 of 3: ended by 3\nlog 3\n")
    }

    @Test func `what would not fit into one message fails its task`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/words", outputs: 2))
        try harness.send(Make.assign(0, template: 1), Make.assign(1, template: 1))
        try harness.register(1)
        let heavy = LocalOutput(attributes: [UInt8](repeating: 32, count: 7 << 20), value: .inline([]))
        let failure = try #require(try harness.answer(1, [0], .outputs([heavy, heavy])).failure)
        #expect(failure.cause == .contract && failure.message.hasSuffix("must not have more than 12582912: put it into one output"))
        let light = LocalOutput(value: .inline([]))
        #expect(try harness.answer(1, [0], .outputs([heavy, light])).failure == nil)
    }

    @Test func `texts of an error are cut`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        try harness.register(1)
        let long = String(repeating: "ä", count: 1 << 20)
        let failure = try #require(try harness.answer(1, [0], .failed(TaskError(.user, long, detail: long, debug: long))).failure)
        for text in [failure.message, failure.detail, failure.debug] {
            #expect(text.hasPrefix("ää") && text.hasSuffix("ä … (cut: it has 2097152 bytes)") && text.utf8.count < 1 << 20 + 50)
        }
    }

    @Test func `a crashed task is retried, and the third crash is the last`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/words", retries: 9))
        try harness.send(Make.assign(0, template: 1))
        for id in UInt32(1)...3 {
            #expect(try harness.register(id).calls == [[Make.call(0, 0, template: 1)]])
            let round = try harness.end(id, running: Make.slots(0))
            if id < 3 {
                #expect(round == Harness.Round(effects: [.startSubworker(Self.worker(id + 1), Harness.count)]))
            } else {
                #expect(round.failure?.message == "crashed 3 times: killed by signal 11")
                #expect(round.failure?.signal == 11 && round.failure?.cause == .crash)
            }
        }
    }

    @Test func `retries that are used up fail the task, and none are given to what may run once`() throws {
        var harness = try Self.opened(
            cpus: 1, Make.define(1, "count/words", retries: 1), Make.define(2, "count/words", retries: 5, rerun: .never))
        try harness.send(Make.assign(0, template: 1))
        try harness.register(1)
        try harness.end(1, running: Make.slots(0))
        try harness.register(2)
        #expect(try harness.end(2, running: Make.slots(0)).failure?.message == "crashed 2 times: killed by signal 11")
        try harness.send(Make.assign(1, template: 2))
        try harness.register(3)
        #expect(try harness.end(3, running: Make.slots(0)).failure?.message == "killed by signal 11")
    }

    @Test func `a program that crashes is retried too`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "builtin/run", retries: 1))
        let token = try harness.send(Make.assign(0, template: 1)).jobs[0]
        let again = try harness.handle(.jobEnded(token, .failed(Harness.crash)))
        #expect(again.jobs.count == 1 && again.messages.isEmpty)
        #expect(try harness.handle(.jobEnded(again.jobs[0], .failed(Harness.crash))).failure?.cause == .crash)
    }

    // MARK: Cancel and revoke

    @Test func `cancel takes a queued call back and asks a running one to stop`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0), Make.assign(1), Make.assign(2))
        #expect(try harness.send(.cancel(Make.attempt(1))).effects == [.recall(Self.worker(1), slots: Make.slots(1))])
        #expect(try harness.handle(.recalled(Self.worker(1), slots: Make.slots(1))) == Harness.Round(messages: [.cancelled(Make.attempt(1))]))
        #expect(try harness.send(.cancel(Make.attempt(0))).effects == [.recall(Self.worker(1), slots: Make.slots(0))])
        #expect(try harness.handle(.recalled(Self.worker(1), slots: SlotSet())).effects == [.cancelCall(Self.worker(1), slot: 0)])
        let answer = CallAnswer(slot: 0, durationNanoseconds: 1000, result: .cancelled)
        let round = try harness.handle(.callsAnswered(Self.worker(1), [answer]))
        #expect(round.messages == [.cancelled(Make.attempt(0))] && round.effects.isEmpty, "its process goes on")
        #expect(try harness.tick(afterMilliseconds: 5000).effects.isEmpty)
        let other = try harness.answer(1, [2]).messages
        #expect(other.contains { if case .finished(Make.attempt(2), _) = $0 { true } else { false } })
    }

    @Test func `a call that fails after it was asked to stop is cancelled`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0))
        try harness.send(.cancel(Make.attempt(0)))
        try harness.handle(.recalled(Self.worker(1), slots: SlotSet()))
        let answer = CallAnswer(slot: 0, durationNanoseconds: 1000, result: .failed(TaskError(.user, "stopped")))
        #expect(try harness.handle(.callsAnswered(Self.worker(1), [answer])).messages == [.cancelled(Make.attempt(0))])
    }

    @Test func `a call that does not stop is killed with its process`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0), Make.assign(2))
        try harness.send(.cancel(Make.attempt(0)))
        try harness.handle(.recalled(Self.worker(1), slots: SlotSet()))
        #expect(try !harness.tick(afterMilliseconds: 900).effects.contains(.stopSubworker(Self.worker(1), isKilled: true)))
        let deadline = try #require(harness.core.nextTick)
        #expect(deadline <= Instant(nanoseconds: harness.now.nanoseconds + 100_000_000))
        #expect(try harness.tick(afterMilliseconds: 100).effects.contains(.stopSubworker(Self.worker(1), isKilled: true)))
        let end = try harness.end(1, running: Make.slots(0))
        #expect(end == Harness.Round(effects: [.startSubworker(Self.worker(2), Harness.count)], messages: [.cancelled(Make.attempt(0))]))
        #expect(try harness.register(2).calls == [[Make.call(0, 2)]], "the neighbour runs again uncharged")
    }

    @Test func `cancel without a control page asks too, then kills`() throws {
        var harness = try Self.opened()
        try harness.send(Make.assign(0))
        try harness.register(1, page: false)
        #expect(try harness.send(.cancel(Make.attempt(0))).effects == [.cancelCall(Self.worker(1), slot: 0)])
        #expect(try harness.tick(afterMilliseconds: 1000).effects == [.stopSubworker(Self.worker(1), isKilled: true)])
        #expect(try harness.end(1, running: Make.slots(0)).messages == [.cancelled(Make.attempt(0))])
    }

    @Test func `what comes back before it could be cancelled has finished`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0))
        try harness.send(.cancel(Make.attempt(0)))
        #expect(try harness.answer(1, [0]).messages == [Make.answered(0)])
        #expect(try harness.handle(.recalled(Self.worker(1), slots: SlotSet())) == Harness.Round())
    }

    @Test func `revoke takes a queued call back and leaves a running one`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0), Make.assign(1))
        #expect(
            try harness.send(.revoke(Make.attempt(0)), .revoke(Make.attempt(1))).effects == [
                .recall(Self.worker(1), slots: Make.slots(0)), .recall(Self.worker(1), slots: Make.slots(1)),
            ])
        #expect(
            try harness.handle(.recalled(Self.worker(1), slots: SlotSet())).messages == [.revoked(Make.attempt(0), wasTakenBack: false)])
        #expect(
            try harness.handle(.recalled(Self.worker(1), slots: Make.slots(1))).messages == [.revoked(Make.attempt(1), wasTakenBack: true)])
        #expect(try harness.answer(1, [0]).messages == [Make.answered(0)])
    }

    @Test func `what a crashed process had begun is not given back`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(1, "count/words", retries: 9))
        try harness.send(Make.assign(0, template: 1))
        try harness.register(1)
        try harness.end(1, running: Make.slots(0))
        // Between two tries, and in the queue of the next process.
        #expect(try harness.send(.revoke(Make.attempt(0))).messages == [.revoked(Make.attempt(0), wasTakenBack: false)])
        try harness.register(2)
        #expect(try harness.send(.revoke(Make.attempt(0))).effects == [.recall(Self.worker(2), slots: Make.slots(0))])
        let round = try harness.handle(.recalled(Self.worker(2), slots: Make.slots(0)))
        #expect(round.messages == [.revoked(Make.attempt(0), wasTakenBack: false)])
        #expect(round.calls == [[Make.call(0, 0, template: 1)]])
    }

    @Test func `a revoked call that comes back first has an outcome, then the answer`() throws {
        var harness = try Self.fast()
        try harness.send(Make.assign(0))
        try harness.send(.revoke(Make.attempt(0)))
        #expect(try harness.answer(1, [0]).messages == [Make.answered(0), .revoked(Make.attempt(0), wasTakenBack: false)])
    }

    @Test func `what may run once is not run again after its subworker was stopped for another`() throws {
        var harness = try Self.opened(cpus: 2, Make.define(1, "count/words", rerun: .never))
        try harness.send(Make.assign(0), Make.assign(1, template: 1))
        try harness.register(1, threads: 2)
        try harness.send(.cancel(Make.attempt(0)))
        try harness.handle(.recalled(Self.worker(1), slots: SlotSet()))
        try harness.tick(afterMilliseconds: 1000)
        let end = try harness.end(1, running: Make.slots(0, 1))
        #expect(end.messages.contains(.cancelled(Make.attempt(0))))
        #expect(end.failure?.cause == .preempted)
    }

    // MARK: Warmth

    @Test func `idle subworkers end after 300 s`() throws {
        var harness = try Self.fast()
        var round = Harness.Round()
        for _ in 0..<60 {
            try harness.send()
            #expect(round.effects.isEmpty)
            round = try harness.tick(afterMilliseconds: 5000)
        }
        #expect(round.effects == [.stopSubworker(Self.worker(1), isKilled: false)])
        try harness.send()
        #expect(try harness.tick(afterMilliseconds: 5000).effects == [.stopSubworker(Self.worker(1), isKilled: true)], "it did not go")
        #expect(try harness.end(1) == Harness.Round())
    }

    @Test func `more idle subworkers than twice the CPUs are too many`() throws {
        var harness = try Harness(cpus: 1, subworkers: (0..<3).map { SubworkerCommand(name: "s\($0)", arguments: ["s"]) })
        try harness.send([.session(Make.session, subworkers: [])] + (0..<3).map { Make.define($0, "s\($0)/x") })
        var round = Harness.Round()
        for task in UInt32(0)..<3 {
            try harness.send(Make.assign(task, template: task))
            try harness.register(task + 1)
            round = try harness.answer(task + 1, [0])
            harness.wait(microseconds: 1)
        }
        #expect(round.effects == [.stopSubworker(Self.worker(1), isKilled: false)])
    }

    @Test func `a lane without processes is not starved by one that has them`() throws {
        var harness = try Harness(cpus: 1, subworkers: [SubworkerCommand(name: "a", arguments: ["a"]), SubworkerCommand(name: "b", arguments: ["b"])])
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "a/x"), Make.define(1, "b/x"), Make.assign(1000))
        try harness.register(1)
        try harness.answer(1, [0], nanoseconds: 1_000_000)
        try harness.send([Make.assign(0), Make.assign(1, template: 1)] + (2..<300).map { Make.assign($0) })
        var answeredCount = 0
        var isOtherStarted = false
        while answeredCount < 200 {
            let round = try harness.answer(1, [0], nanoseconds: 1_000_000)
            answeredCount += 1
            if round.effects.contains(.startSubworker(Self.worker(2), SubworkerCommand(name: "b", arguments: ["b"]))) {
                isOtherStarted = true
                try harness.register(2)
            }
            if round.calls.isEmpty { break }
        }
        #expect(isOtherStarted)
        #expect(answeredCount < 80, "it got its turn")
    }
}
