import Link
import TaskModel
import Testing
import WorkerCore

@Suite struct SpillingTests {
    private let holders = [Endpoint(host: "10.0.0.2", port: 9)]

    /// A worker with room for 100 bytes that has objects 1, 2, … of 20 bytes each; a task waits for one more.
    private func filled(_ count: UInt32, limit: UInt64? = 100) throws -> (Harness, [Harness.Round]) {
        var harness = try Harness(cpus: 2)
        harness.setStoreMemoryBytes(limit)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/concat", outputs: 1))
        let inputs = (1...count + 1).map { Make.input($0, .fetch(holders)) }
        let fetches = try harness.send(Make.assign(0, inputs: inputs)).fetches
        let rounds = try fetches.dropLast().map { try harness.handle(.fetched($0, .stored(sizeBytes: 20))) }
        return (harness, rounds)
    }

    @Test func `above three quarters the files that were used longest ago go until half is free`() throws {
        var (harness, rounds) = try filled(4)
        #expect(rounds.map(\.spills) == [[], [], [], [Make.replica(1), Make.replica(2)]])
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: true)) == Harness.Round())
        #expect(try harness.handle(.spilled(Make.replica(2), isDone: true)) == Harness.Round())
    }

    @Test func `nothing new starts until there is room`() throws {
        var (harness, _) = try filled(4)
        #expect(try harness.send(Make.assign(1)).jobs.isEmpty)
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: true)).jobs.count == 1)
    }

    @Test func `above half no call waits behind another in a subworker`() throws {
        for (count, callCount) in [(2 as UInt32, 3), (3, 1)] {
            var (harness, _) = try filled(count)
            try harness.send(Make.define(1, "count/words"))
            try harness.send(Make.assign(1, template: 1))
            try harness.register(1)
            try harness.answer(1, [0])
            let round = try harness.send(Make.assign(2, template: 1), Make.assign(3, template: 1), Make.assign(4, template: 1))
            #expect(round.calls.flatMap { $0 }.count == callCount)
        }
    }

    @Test func `a full disk holds up nobody`() throws {
        var (harness, _) = try filled(4)
        #expect(try harness.send(Make.assign(1)).jobs.isEmpty)
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: false)).jobs.isEmpty)
        #expect(try harness.handle(.spilled(Make.replica(2), isDone: false)).jobs.count == 1)
    }

    @Test func `without a disk nothing is spilled`() throws {
        let (_, rounds) = try filled(6, limit: nil)
        #expect(rounds.allSatisfy { $0.spills.isEmpty })
    }

    @Test func `a running task keeps its inputs, and they go when it has ended`() throws {
        var harness = try Harness(cpus: 2)
        harness.setStoreMemoryBytes(100)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/concat", outputs: 1))
        let start = try harness.send(Make.assign(0, inputs: (1...4).map { Make.input($0, .fetch(holders)) }))
        for fetch in start.fetches.dropLast() { try harness.handle(.fetched(fetch, .stored(sizeBytes: 20))) }
        let running = try harness.handle(.fetched(start.fetches[3], .stored(sizeBytes: 20)))
        #expect(running.jobs.count == 1 && running.spills.isEmpty)
        let next = try #require(harness.nextTick)
        #expect(next.nanoseconds <= harness.now.nanoseconds + 100_000_000, "it looks again")
        #expect(try harness.tick(afterMilliseconds: 100).spills.isEmpty)
        harness.wait(microseconds: 100_000)
        let ended = try harness.handle(.jobEnded(running.jobs[0], .finished([LocalOutput(value: .inline([1]))], durationNanoseconds: 1, debug: "")))
        #expect(ended.spills == [Make.replica(1), Make.replica(2)])
    }

    @Test func `what had to stay is tried again later`() throws {
        var (harness, _) = try filled(4)
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: false)).spills.isEmpty)
        #expect(try harness.handle(.spilled(Make.replica(2), isDone: false)).spills.isEmpty)
        #expect(try harness.tick(afterMilliseconds: 500).spills.isEmpty)
        #expect(try harness.tick(afterMilliseconds: 500).spills == [Make.replica(1), Make.replica(2)])
    }

    @Test func `what is dropped on its way to disk is removed, and the answer is late news`() throws {
        var (harness, _) = try filled(4)
        try harness.send(.closeSession(Make.session))
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: true)) == Harness.Round())
    }

    @Test func `files that claim more bytes than can be counted are no danger`() throws {
        var harness = try Harness(cpus: 2)
        harness.setStoreMemoryBytes(100)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "builtin/concat", outputs: 1))
        let fetches = try harness.send(Make.assign(0, inputs: (1...4).map { Make.input($0, .fetch(holders)) })).fetches
        for fetch in fetches.dropLast() { try harness.handle(.fetched(fetch, .stored(sizeBytes: UInt64(Int64.max)))) }
        for object in 1...3 as ClosedRange<UInt32> { try harness.handle(.spilled(Make.replica(object), isDone: true)) }
        #expect(try harness.handle(.fetched(fetches[3], .stored(sizeBytes: 20))).jobs.count == 1)
    }
}
