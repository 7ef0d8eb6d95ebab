import Link
import TaskModel
import Testing
import WorkerCore

/// Processes that take more and more memory, or that nobody needs.
@Suite struct MemoryGrowthTests {
    private static let growing: SubworkerCommand = {
        var command = Harness.count
        command.memoryGrowthBytesMax = 1 << 20
        command.idleSecondsMax = 2
        return command
    }()
    private static let first = SubworkerID(1)

    private static func answered() throws -> (Harness, Harness.Round) {
        var harness = try Harness(cpus: 1, subworkers: [growing])
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "count/words"), Make.assign(0))
        try harness.register(1)
        let round = try harness.answer(1, [0])
        return (harness, round)
    }

    @Test func `memory is looked at after an answer, once a second`() throws {
        var (harness, round) = try Self.answered()
        #expect(round.effects == [.measureMemory(Self.first)])
        try harness.send(Make.assign(1))
        #expect(try harness.answer(1, [0]).effects == [])
        harness.wait(microseconds: 1_000_000)
        try harness.send(Make.assign(2))
        #expect(try harness.answer(1, [0]).effects == [.measureMemory(Self.first)])
    }

    @Test func `who has grown too much is ended when idle, and another takes its place`() throws {
        var (harness, _) = try Self.answered()
        try harness.handle(.memoryMeasured(Self.first, bytes: 5 << 20))
        try harness.handle(.memoryMeasured(Self.first, bytes: 6 << 20))
        try harness.send(Make.assign(1))
        let noted = try harness.handle(.memoryMeasured(Self.first, bytes: (6 << 20) + 1))
        guard case .note(let text)? = noted.effects.first else {
            Issue.record("\(noted)")
            return
        }
        #expect(text.contains("'count'") && text.contains("memory_growth"))
        // Its call goes on; the next one is not for it.
        #expect(try harness.send(Make.assign(2)).calls.isEmpty)
        let answered = try harness.answer(1, [0])
        #expect(answered.messages == [Make.answered(1)] || answered.messages.count == 1)
        #expect(answered.effects == [.startSubworker(SubworkerID(2), Self.growing)])
        #expect(try harness.handle(.tick).effects == [.stopSubworker(Self.first, isKilled: false)])
        #expect(try harness.end(1).effects == [])
        #expect(try harness.register(2).calls == [[Make.call(0, 2)]])
    }

    @Test func `what it gave back is what it starts from, and its size is no fault`() throws {
        var (harness, _) = try Self.answered()
        for bytes in [UInt64(50), 10, 10, 11] { #expect(try harness.handle(.memoryMeasured(Self.first, bytes: bytes << 20)).effects == []) }
        #expect(try harness.handle(.memoryMeasured(Self.first, bytes: (11 << 20) + 1)).effects.count == 1)
    }

    @Test func `a process that nobody needs ends after the time of its command, or that of all`() throws {
        var (harness, _) = try Self.answered()
        #expect(try harness.tick(afterMilliseconds: 1990).effects == [])
        #expect(try harness.tick(afterMilliseconds: 20).effects == [.stopSubworker(Self.first, isKilled: false)])
        var other = try Harness(cpus: 1)
        try other.send(.session(Make.session, subworkers: []), Make.define(0, "count/words"), Make.assign(0))
        try other.register(1)
        #expect(try other.answer(1, [0]).effects == [], "without a limit nobody looks")
    }
}
