import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct DamageTests {
    private static let wrote = TaskError(.contract, "input 0 was written to")
    private let input = Make.input(1, .fetch([Endpoint(host: "10.0.0.2", port: 9)]))

    /// Three tasks have the same file: two run, the third waits for a CPU.
    private func opened(rerun: RerunPolicy = .onLoss) throws -> (Harness, [JobToken]) {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run"), Make.define(1, "builtin/run", rerun: rerun))
        let fetch = try harness.send(
            Make.assign(0, inputs: [input]), Make.assign(1, template: 1, inputs: [input]), Make.assign(2, inputs: [input]))
        let jobs = try harness.handle(.fetched(fetch.fetches[0], .stored(sizeBytes: 9000))).jobs
        return (harness, jobs)
    }

    @Test func `a file that was written to goes, is told of after the one who did it, and nobody begins with it`() throws {
        var (harness, jobs) = try opened()
        #expect(try harness.handle(.damaged([Make.replica(1)])) == Harness.Round(), "its end comes first")
        let end = try harness.handle(.jobEnded(jobs[0], .failed(Self.wrote)))
        #expect(end.effects == [.remove([Make.replica(1)])])
        #expect(end.messages.prefix(2) == [Make.failed(0, Self.wrote), .missing(Make.replica(1))])
        #expect(end.messages.count == 3 && end.failure != nil, "who waits is given back")
        if case .failed(Make.attempt(2), let error) = end.messages[2] { #expect(error.cause == .setup) } else { Issue.record("\(end.messages)") }

        // Who runs with it goes on until the server says otherwise; a new copy has the name by then.
        let again = try harness.send(Make.assign(0, number: 2, inputs: [input]))
        #expect(again.effects == [.fetch(again.fetches[0], input)])
        let fresh = try harness.handle(.fetched(again.fetches[0], .stored(sizeBytes: 9000)))
        #expect(fresh.jobs.count == 1)
        #expect(try harness.send(.cancel(Make.attempt(1))).effects == [.stopJob(jobs[1])])
        #expect(try harness.handle(.jobEnded(jobs[1], .cancelled)).effects == [], "the new copy stays")
        #expect(try harness.handle(.jobEnded(fresh.jobs[0], .finished([], durationNanoseconds: 1, debug: ""))).effects == [])
        #expect(try harness.send(.drop([Make.replica(1)])).effects == [.remove([Make.replica(1)])])
    }

    @Test func `a file that is found written to goes at once, and whoever runs with it is not charged`() throws {
        var (harness, jobs) = try opened(rerun: .never)
        let found = try harness.handle(.foundDamaged([Make.replica(1)]))
        #expect(found.effects == [.remove([Make.replica(1)])])
        #expect(found.messages.contains(.missing(Make.replica(1))) && found.failure?.cause == .setup, "who waits is given back")
        #expect(try harness.handle(.jobEnded(jobs[0], .failed(Self.wrote))).failure?.cause == .setup)
        #expect(try harness.handle(.jobEnded(jobs[1], .finished([], durationNanoseconds: 1, debug: ""))).failure?.cause == .preempted)
        #expect(try harness.handle(.foundDamaged([Make.replica(1)])) == Harness.Round(), "it is gone")
    }

    @Test func `one that is found written to on its way to disk is no longer there`() throws {
        var harness = try Harness()
        harness.setStoreMemoryBytes(1000)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run"), Make.define(1, "count/x"))
        try harness.register(1)
        let fetch = try harness.send(Make.assign(0, inputs: [input]))
        let job = try harness.handle(.fetched(fetch.fetches[0], .stored(sizeBytes: 900))).jobs[0]
        try harness.handle(.jobEnded(job, .finished([], durationNanoseconds: 1, debug: "")))
        #expect(try harness.tick(afterMilliseconds: 200).effects == [.spill(Make.replica(1))])
        #expect(try harness.handle(.foundDamaged([Make.replica(1)])).effects == [.remove([Make.replica(1)])])
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: false)) == Harness.Round())
    }

    @Test func `the server knows which tasks must not begin again before it hears of the file`() throws {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run"), Make.define(1, "count/x", rerun: .never))
        let fetch = try harness.send(Make.assign(0, inputs: [input]), Make.assign(1, template: 1, inputs: [input]))
        let job = try harness.handle(.fetched(fetch.fetches[0], .stored(sizeBytes: 9000))).jobs[0]
        #expect(try harness.register(1).calls.count == 1)
        try harness.handle(.damaged([Make.replica(1)]))
        let end = try harness.handle(.jobEnded(job, .failed(Self.wrote)))
        #expect(end.messages == [Make.failed(0, Self.wrote), .started(Make.attempt(1)), .missing(Make.replica(1))])
        #expect(try harness.answer(1, [0]).failure?.cause == .preempted)
    }

    @Test func `a constant that was written to is forgotten wherever it was sent, before it comes again`() throws {
        var harness = try Harness(cpus: 3)
        try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "builtin/run"), Make.define(1, "count/x", constants: [1]))
        let fetch = try harness.send(Make.assign(0, inputs: [input]), Make.assign(1, template: 1, inputs: [input]))
        let job = try harness.handle(.fetched(fetch.fetches[0], .stored(sizeBytes: 9000))).jobs[0]
        let call = try #require(harness.register(1).calls.first?.first)
        #expect(call.job.inputs.map(\.isKept) == [true], "it remembers it from now on, and has not answered")
        try harness.handle(.damaged([Make.replica(1)]))
        let end = try harness.handle(.jobEnded(job, .failed(Self.wrote)))
        #expect(end.effects == [.dropCached(SubworkerID(1), [Make.replica(1)]), .remove([Make.replica(1)])])
        // It comes again while the first call still runs there.
        let again = try harness.send(Make.assign(0, number: 2, inputs: [input]))
        try harness.handle(.fetched(again.fetches[0], .stored(sizeBytes: 9000)))
        #expect(try harness.answer(1, [0]).effects == [], "what came since is not forgotten with it")
        let next = try harness.send(Make.assign(2, template: 1, inputs: [Make.input(1, .held)])).calls
        #expect(next.first?.first?.job.inputs.map(\.isKept) == [true], "and is sent")
        try harness.answer(1, [0])
        let last = try harness.send(Make.assign(3, template: 1, inputs: [Make.input(1, .held)])).calls
        #expect(last.first?.first?.job.inputs.map(\.value) == [.cached])
    }

    @Test func `what was written to can't be passed on, remembered or begun with once more`() throws {
        var (harness, jobs) = try opened()
        try harness.handle(.damaged([Make.replica(1)]))
        let full = try harness.handle(.jobEnded(jobs[0], .outOfRoom(TaskError(.resource, "full"))))
        #expect(full.jobs.isEmpty)
        let same = try harness.handle(.jobEnded(jobs[1], .finished([LocalOutput(value: .sameAsInput(0))], durationNanoseconds: 1, debug: "")))
        #expect(same.failure?.cause == .setup && same.aliases.isEmpty)
        #expect(try harness.send(.closeSession(Make.session)).effects == [.forgetSession(Make.session)])
    }

    @Test(arguments: [RerunPolicy.onLoss, .never]) func `who ran beside the one that wrote has no outcome, not for a server that was started again either`(
        rerun: RerunPolicy
    ) throws {
        for end in [JobResult.finished([], durationNanoseconds: 1, debug: ""), .failed(TaskError(.user, "what is this?")), .failed(Harness.crash)] {
            var (harness, jobs) = try opened(rerun: rerun)
            try harness.handle(.damaged([Make.replica(1)]))
            try harness.handle(.jobEnded(jobs[0], .failed(Self.wrote)))
            try harness.handle(.connected)
            #expect(try harness.greetRestarted(isRestored: true).messages.suffix(2) == [.runs(Make.attempt(1)), .handedOver])
            #expect(try harness.handle(.jobEnded(jobs[1], end)).failure?.cause == (rerun == .never ? .preempted : .setup))
        }
    }

    @Test func `all names of a file that was written to go`() throws {
        for written in [Make.replica(1), Make.replica(Make.firstOutput(0))] {
            var harness = try Harness(cpus: 1)
            try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run", outputs: 1))
            let fetch = try harness.send(Make.assign(0, inputs: [input]))
            let job = try harness.handle(.fetched(fetch.fetches[0], .stored(sizeBytes: 9000))).jobs[0]
            let same = try harness.handle(.jobEnded(job, .finished([LocalOutput(value: .sameAsInput(0))], durationNanoseconds: 1, debug: "")))
            try harness.handle(.aliased(same.aliases[0], nil))
            let reader = try harness.send(Make.assign(1, inputs: [InputAssignment(replica: written, source: .held)])).jobs[0]
            try harness.handle(.damaged([written]))
            let end = try harness.handle(.jobEnded(reader, .failed(Self.wrote)))
            #expect(end.messages == [Make.failed(1, Self.wrote), .missing(Make.replica(1)), .missing(Make.replica(Make.firstOutput(0)))])
            #expect(end.effects == [.remove([Make.replica(1), Make.replica(Make.firstOutput(0))])])
        }
    }

    @Test func `a file that is written to while it gets its second name gives none`() throws {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run", outputs: 1))
        let fetch = try harness.send(Make.assign(0, inputs: [input]), Make.assign(1, inputs: [input]))
        let jobs = try harness.handle(.fetched(fetch.fetches[0], .stored(sizeBytes: 9000))).jobs
        let same = try harness.handle(.jobEnded(jobs[0], .finished([LocalOutput(value: .sameAsInput(0))], durationNanoseconds: 1, debug: "")))
        try harness.handle(.damaged([Make.replica(1)]))
        try harness.handle(.jobEnded(jobs[1], .failed(Self.wrote)))
        let named = try harness.handle(.aliased(same.aliases[0], nil))
        #expect(named.failure?.cause == .setup && named.effects == [.remove([Make.replica(Make.firstOutput(0))])])
    }

    @Test func `a file that is gone, or bytes, can't be written to`() throws {
        var harness = try Harness()
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/run"))
        let job = try harness.send(Make.assign(0, inputs: [Make.input(1, .inline([1]))])).jobs[0]
        try harness.handle(.damaged([Make.replica(1), Make.replica(2)]))
        let end = try harness.handle(.jobEnded(job, .failed(Self.wrote)))
        #expect(end.messages == [Make.failed(0, Self.wrote)] && end.effects.isEmpty)
    }
}
