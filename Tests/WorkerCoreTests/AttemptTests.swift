import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct AttemptTests {
    private static func opened(cpus: UInt32 = 2, _ templates: ServerMessage...) throws -> Harness {
        var harness = try Harness(cpus: cpus)
        try harness.send([.session(Make.session, subworkers: [])] + templates)
        return harness
    }

    @Test func `a job starts, is told of, and its outcome is sent`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/concat", outputs: 1))
        let round = try harness.send(Make.assign(0))
        let token = try #require(round.jobs.first)
        #expect(round == Harness.Round(effects: [.runJob(token, Make.request(0))], messages: [.started(Make.attempt(0))]))
        let end = try harness.handle(
            .jobEnded(token, .finished([LocalOutput(value: .inline([1, 2]))], durationNanoseconds: 1000, debug: "")))
        #expect(end == Harness.Round(messages: [Make.finished(0, outputs: [FinishedOutput(sizeBytes: 2, inline: [1, 2])])]))
    }

    @Test func `a repeated assignment is ignored`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"))
        try harness.send(Make.assign(0))
        #expect(try harness.send(Make.assign(0)) == Harness.Round())
    }

    @Test func `the start time is that of the wall clock`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"))
        harness.setUnixMicrosecondsAtZero(1_700_000_000_000_000)
        let token = try harness.send(Make.assign(0)).jobs[0]
        harness.wait(microseconds: 50)
        let end = try harness.handle(.jobEnded(token, .finished([], durationNanoseconds: 0, debug: "")))
        #expect(
            end.messages == [Make.finished(0, started: 1_700_000_001_000_000, nanoseconds: 50_000)], "what was not measured is measured here")
    }

    @Test func `outcomes wait for company while more work is queued, but not for long, and failures never`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"))
        harness.setGatherNanoseconds(2_000_000)
        let jobs = try harness.send((0..<6).map { Make.assign($0) }).jobs
        func done(_ job: JobToken) -> WorkerEvent { .jobEnded(job, .finished([], durationNanoseconds: 1000, debug: "")) }
        let first = try harness.handle(done(jobs[0]))
        #expect(first.messages.isEmpty && first.jobs.count == 1, "three more are queued")
        let deadline = try #require(harness.core.nextTick)
        #expect(deadline <= Instant(nanoseconds: harness.now.nanoseconds + 2_000_000))
        harness.wait(microseconds: 2000)
        let late = try harness.handle(.tick)
        #expect(late.messages.contains(Make.finished(0)))

        let second = try harness.handle(done(jobs[1]))
        #expect(second.messages.isEmpty)
        let failed = try harness.handle(.jobEnded(first.jobs[0], .failed(TaskError(.user, "no"))))
        #expect(failed.messages.contains(Make.finished(1)) && failed.failure != nil, "an error takes everything with it")
        let third = try harness.handle(done(second.jobs[0]))
        #expect(third.messages.contains { if case .finished(Make.attempt(3), _) = $0 { true } else { false } }, "nothing is queued any more")
    }

    @Test func `the outcome of a task that took long goes at once`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"))
        harness.setGatherNanoseconds(2_000_000)
        let jobs = try harness.send((0..<6).map { Make.assign($0) }).jobs
        let short = try harness.handle(.jobEnded(jobs[0], .finished([], durationNanoseconds: 499_999, debug: "")))
        #expect(short.messages.isEmpty)
        let long = try harness.handle(.jobEnded(jobs[1], .finished([], durationNanoseconds: 500_000, debug: "")))
        #expect(long.messages.count(where: { if case .finished = $0 { true } else { false } }) == 2, "and takes the other with it")
    }

    @Test func `jobs wait for CPUs in order`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"))
        let first = try harness.send(Make.assign(0), Make.assign(1), Make.assign(2), Make.assign(3))
        #expect(first.jobs.count == 2)
        let second = try harness.handle(.jobEnded(first.jobs[1], .finished([], durationNanoseconds: 1000, debug: "")))
        #expect(second.jobs.count == 1)
        #expect(second.messages == [Make.finished(1), .started(Make.attempt(2))])
    }

    @Test func `a task without CPUs runs beside the others, up to 64`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep", cpus: 0), Make.define(1, "builtin/sleep", cpus: 2))
        let round = try harness.send((0..<70).map { Make.assign($0) } + [Make.assign(70, template: 1)])
        #expect(round.jobs.count == 65)
    }

    @Test func `a task that needs more CPUs than there are fails clearly`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep", cpus: 3))
        let round = try harness.send(Make.assign(0))
        #expect(
            round.messages == [
                Make.failed(0, TaskError(.setup, "the task asks for 3 CPUs but the worker on n1 has 2: lower the request or add a larger worker"))
            ])
        #expect(round.effects.isEmpty)
    }

    @Test func `a large task is passed by small ones, but not for ever`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"), Make.define(1, "builtin/sleep", cpus: 2))
        var round = try harness.send([Make.assign(0), Make.assign(1, template: 1)] + (2..<200).map { Make.assign($0) })
        #expect(round.messages == [.started(Make.attempt(0)), .started(Make.attempt(2))])
        var running = round.jobs
        var passCount = 1
        while !running.isEmpty {
            round = try harness.handle(.jobEnded(running.removeFirst(), .finished([], durationNanoseconds: 1000, debug: "")))
            if round.messages.contains(.started(Make.attempt(1))) { break }
            running += round.jobs
            passCount += round.jobs.count
        }
        #expect(passCount == 64)
        #expect(round.jobs.count == 1 && running.isEmpty, "both CPUs were kept free for it")
    }

    @Test func `an unknown runner fails with what is known`() throws {
        var harness = try Self.opened(Make.define(0, "cuont/words"))
        let error = try #require(try harness.send(Make.assign(0)).failure)
        #expect(error.cause == .setup)
        #expect(error.message.contains("no subworker is called \"cuont\"") && error.message.contains("builtin, count"))
        #expect(error.host == "n1")
    }

    @Test func `an attempt of a template that was never told of fails`() throws {
        var harness = try Self.opened()
        let error = try #require(try harness.send(Make.assign(0, template: 9)).failure)
        #expect(error.cause == .setup && error.message.contains("template 1.k9"))
    }

    @Test func `a failed job fails its task with the host`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/run"))
        let token = try harness.send(Make.assign(0)).jobs[0]
        let error = TaskError(.user, "exit code 3", detail: "no such file", exitCode: 3)
        #expect(try harness.handle(.jobEnded(token, .failed(error))) == Harness.Round(messages: [Make.failed(0, error)]))
        #expect(try harness.handle(.jobEnded(token, .failed(error))) == Harness.Round(), "late news")
    }

    @Test func `a wrong number of outputs names both numbers and leaves no file`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/run", outputs: 1))
        let token = try harness.send(Make.assign(0)).jobs[0]
        let outputs = [LocalOutput(value: .stored(sizeBytes: 9000)), LocalOutput(value: .inline([1]))]
        let round = try harness.handle(.jobEnded(token, .finished(outputs, durationNanoseconds: 1, debug: "seen")))
        var error = TaskError(.contract, "the task made 2 outputs but its template declares 1")
        error.debug = "seen"
        #expect(round == Harness.Round(effects: [.remove([Make.replica(100)])], messages: [Make.failed(0, error)]))
    }

    @Test func `a wrong pass-through names the input`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/run", outputs: 1))
        let token = try harness.send(Make.assign(0)).jobs[0]
        let error = try harness.handle(
            .jobEnded(token, .finished([LocalOutput(value: .sameAsInput(4))], durationNanoseconds: 1, debug: ""))
        ).failure
        #expect(error?.cause == .contract)
        #expect(error?.message == "output 0 is said to be the same as input 4, but the task has 0 inputs")
    }

    @Test func `cancel ends what waits at once and what runs when it has stopped`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(0, "builtin/sleep"))
        let token = try harness.send(Make.assign(0), Make.assign(1)).jobs[0]
        #expect(try harness.send(.cancel(Make.attempt(1))) == Harness.Round(messages: [.cancelled(Make.attempt(1))]))
        #expect(try harness.send(.cancel(Make.attempt(0))) == Harness.Round(effects: [.stopJob(token)]))
        #expect(try harness.send(.cancel(Make.attempt(0))) == Harness.Round(), "once is enough")
        #expect(try harness.handle(.jobEnded(token, .failed(TaskError(.user, "killed")))).messages == [.cancelled(Make.attempt(0))])
        #expect(try harness.send(.cancel(Make.attempt(0))) == Harness.Round(), "late")
    }

    @Test func `a job that finished before it could be cancelled has finished`() throws {
        var harness = try Self.opened(Make.define(0, "builtin/sleep"))
        let token = try harness.send(Make.assign(0)).jobs[0]
        try harness.send(.cancel(Make.attempt(0)))
        #expect(try harness.handle(.jobEnded(token, .finished([], durationNanoseconds: 1000, debug: ""))).messages == [Make.finished(0)])
    }

    @Test func `revoke takes back only what has not begun`() throws {
        var harness = try Self.opened(cpus: 1, Make.define(0, "builtin/sleep"))
        let token = try harness.send(Make.assign(0), Make.assign(1)).jobs[0]
        #expect(try harness.send(.revoke(Make.attempt(1))) == Harness.Round(messages: [.revoked(Make.attempt(1), wasTakenBack: true)]))
        #expect(try harness.send(.revoke(Make.attempt(1))) == Harness.Round(messages: [.revoked(Make.attempt(1), wasTakenBack: true)]))
        #expect(try harness.send(.revoke(Make.attempt(0))) == Harness.Round(messages: [.revoked(Make.attempt(0), wasTakenBack: false)]))
        try harness.handle(.jobEnded(token, .finished([], durationNanoseconds: 1, debug: "")))
        #expect(
            try harness.send(.revoke(Make.attempt(0))) == Harness.Round(messages: [.revoked(Make.attempt(0), wasTakenBack: false)]),
            "its outcome was reported")
        #expect(try harness.send(Make.assign(1)) == Harness.Round(), "what was taken back does not come again under that number")
    }
}
