import Link
import TaskModel
import Testing
import WorkerCore

/// How far running calls are: kept here, told together and seldom.
@Suite struct ProgressTests {
    /// Two calls run, each on a process of its own.
    private func running(retries: UInt32 = 0) throws -> Harness {
        var harness = try Harness(cpus: 2)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "count/words", retries: retries), Make.assign(0), Make.assign(1))
        try harness.register(1)
        try harness.register(2)
        return harness
    }

    private func progress(_ task: UInt32, _ millionths: UInt32, _ text: String = "") -> AttemptProgress {
        AttemptProgress(attempt: Make.attempt(task), progress: Progress(millionths: millionths, text: text))
    }

    @discardableResult
    private func report(_ harness: inout Harness, _ subworker: UInt32, _ millionths: UInt32, _ text: String = "", slot: UInt8 = 0) throws -> Harness.Round {
        try harness.handle(.progress(SubworkerID(subworker), [CallProgress(slot: slot, progress: Progress(millionths: millionths, text: text))]))
    }

    @Test func `the first is told at once, with the start`() throws {
        var harness = try running()
        #expect(try report(&harness, 1, 10, "a") == Harness.Round(messages: [.started(Make.attempt(0)), .progress([progress(0, 10, "a")])]))
    }

    @Test func `what follows is told together after a while, the newest of each`() throws {
        var harness = try running()
        try report(&harness, 1, 10)
        #expect(try report(&harness, 1, 20) == Harness.Round())
        #expect(try report(&harness, 2, 5, "x") == Harness.Round(messages: [.started(Make.attempt(1))]))
        #expect(try report(&harness, 1, 30, "b") == Harness.Round())
        #expect(try harness.tick(afterMilliseconds: 199).messages.isEmpty)
        #expect(try harness.tick(afterMilliseconds: 1).messages == [.progress([progress(0, 30, "b"), progress(1, 5, "x")])])
    }

    @Test func `nothing new takes no message and no timer`() throws {
        var harness = try running()
        let quiet = harness.nextTick
        try report(&harness, 1, 10)
        #expect(try report(&harness, 1, 10) == Harness.Round())
        // Those that run for long are told of: the only tick that is left.
        #expect(try harness.tick(afterMilliseconds: 50).messages == [.started(Make.attempt(1))])
        #expect(quiet.map { $0 < harness.now.advanced(byMilliseconds: 1) } == true)
        let next = try #require(harness.nextTick)
        #expect(next >= harness.now.advanced(byMilliseconds: 200), "a heartbeat, not a timer for nothing")
        #expect(try harness.tick(afterMilliseconds: 250).messages.isEmpty)
    }

    @Test func `an attempt that has ended is not told of any more`() throws {
        var harness = try running()
        try report(&harness, 1, 10)
        try report(&harness, 1, 20)
        try report(&harness, 2, 5)
        #expect(try harness.answer(1, [0]).messages.count == 1)
        #expect(try harness.tick(afterMilliseconds: 200).messages == [.progress([progress(1, 5)])])
    }

    @Test func `what comes late or makes no sense is nothing`() throws {
        var harness = try running()
        try harness.answer(1, [0])
        #expect(try report(&harness, 1, 10) == Harness.Round(), "answered")
        #expect(try report(&harness, 2, 10, slot: 7) == Harness.Round(), "no such call")
        #expect(try report(&harness, 2, 10, slot: 200) == Harness.Round(), "no such slot")
        #expect(try report(&harness, 9, 10) == Harness.Round(), "no such process")
    }

    @Test func `one that begins once more is where it began`() throws {
        var harness = try running(retries: 1)
        try report(&harness, 1, 900_000, "nearly")
        try harness.end(1, running: Make.slots(0))
        #expect(try harness.tick(afterMilliseconds: 200).messages.last == .progress([progress(0, 0)]))
    }

    @Test func `nothing is told while the server is away, and then the newest`() throws {
        var harness = try running()
        try harness.handle(.connected)
        #expect(try report(&harness, 1, 10) == Harness.Round())
        #expect(try report(&harness, 1, 20) == Harness.Round())
        #expect(harness.nextTick.map { $0 > harness.now } == true)
        let round = try harness.greetRestarted(isRestored: true)
        #expect(round.messages.suffix(2) == [.handedOver, .progress([progress(0, 20)])])
    }

    @Test func `a server that was started again is told once more`() throws {
        var harness = try running()
        try report(&harness, 1, 10, "a")
        harness.wait(microseconds: 1_000_000)
        try harness.handle(.connected)
        #expect(try harness.greetRestarted(isRestored: true).messages.suffix(2) == [.handedOver, .progress([progress(0, 10, "a")])])
    }

    @Test func `many long texts travel in several messages`() throws {
        var harness = try Harness(cpus: 200)
        try harness.send([.session(Make.session, subworkers: []), Make.define(0, "count/words")] + (0..<200).map { Make.assign($0) })
        for id in 1...200 as ClosedRange<UInt32> { try harness.register(id) }
        try report(&harness, 1, 1)
        let text = String(repeating: "x", count: 1024)
        for id in 1...200 as ClosedRange<UInt32> { try report(&harness, id, 2, text) }
        let lists = try harness.tick(afterMilliseconds: 200).messages.map { if case .progress(let list) = $0 { list.count } else { 0 } }
        #expect(lists.count == 4 && lists.reduce(0, +) == 200, "\(lists)")
    }

    @Test func `sessions that close are told nothing of`() throws {
        var harness = try running()
        try report(&harness, 1, 1)
        try report(&harness, 1, 2)
        try harness.send(.closeSession(Make.session))
        #expect(try harness.tick(afterMilliseconds: 200).messages.isEmpty)
    }
}
