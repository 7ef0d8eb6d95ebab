import Link
import TaskModel
import Testing
import WorkerCore

/// A worker of 800 bytes of memory, of which 700 may be promised.
@Suite struct ReservingTests {
    private let holders = [Endpoint(host: "10.0.0.2", port: 9)]

    /// Two calls run in subworkers 1 and 2, in slot 0 each.
    private func calling(limit: UInt64? = 800) throws -> Harness {
        var harness = try Harness(cpus: 3)
        harness.setStoreMemoryBytes(limit)
        try harness.send(
            .session(Make.session, subworkers: []), Make.define(0, "count/words", outputs: 1), Make.define(1, "builtin/concat", outputs: 1),
            Make.define(2, "builtin/run", outputs: 1), Make.define(3, "builtin/run", outputs: 1, rerun: .never))
        try harness.send(Make.assign(0), Make.assign(1))
        try harness.register(1, page: false)
        try harness.register(2, page: false)
        return harness
    }

    /// Objects 1, 2, … of 100 bytes each, used in this order.
    private func bring(_ count: UInt32, to harness: inout Harness) throws {
        let inputs = (1...count + 1).map { Make.input($0, .fetch(holders)) }
        let fetches = try harness.send(Make.assign(9, template: 1, inputs: inputs)).fetches
        for fetch in fetches.dropLast() { try harness.handle(.fetched(fetch, .stored(sizeBytes: 100))) }
    }

    private func ask(_ subworker: UInt32, file: UInt32 = 1, slot: UInt8 = 0, _ size: UInt64) -> WorkerEvent {
        .reserve(SubworkerID(subworker), slot: slot, file: file, sizeBytes: size)
    }
    private func granted(_ subworker: UInt32, file: UInt32 = 1, _ size: UInt64, held: UInt64 = 0, _ grant: Grant) -> WorkerEffect {
        .grant(SubworkerID(subworker), file: file, sizeBytes: size, heldBytes: held, grant)
    }
    private let spilledOne = WorkerEvent.spilled(Make.replica(1), isDone: true)

    @Test func `what fits is granted at once, what never fits goes to disk at once`() throws {
        var harness = try calling()
        #expect(try harness.handle(ask(1, 700)) == Harness.Round(effects: [granted(1, 700, .memory)]))
        #expect(try harness.handle(ask(2, 1)) == Harness.Round(effects: [granted(2, 1, .disk)]), "all of it is promised")
        #expect(try harness.handle(ask(1, file: 2, 701)) == Harness.Round(effects: [granted(1, file: 2, 701, .disk)]))
        #expect(try harness.handle(ask(1, file: 3, .max)) == Harness.Round(effects: [granted(1, file: 3, .max, .disk)]))
    }

    @Test func `without a disk behind memory nobody has to wait`() throws {
        var harness = try calling(limit: nil)
        #expect(try harness.handle(ask(1, .max)) == Harness.Round(effects: [granted(1, .max, .memory)]))
    }

    @Test func `others go to disk first, no more of them than it takes, and the call waits for that`() throws {
        var harness = try calling()
        try bring(5, to: &harness)
        let asked = try harness.handle(ask(1, 350))
        #expect(asked.effects == [.spill(Make.replica(1)), .spill(Make.replica(2))])
        #expect(try harness.handle(spilledOne).effects.isEmpty)
        #expect(try harness.handle(.spilled(Make.replica(2), isDone: true)).effects.first == granted(1, 350, .memory))
    }

    @Test func `who asks later waits behind, and nothing new starts meanwhile`() throws {
        var harness = try calling()
        try bring(5, to: &harness)
        try harness.handle(ask(1, 300))
        #expect(try harness.handle(ask(2, 1)).effects.isEmpty)
        #expect(try harness.send(Make.assign(5, template: 2)).jobs.isEmpty)
        let first = try harness.handle(spilledOne)
        #expect(first == Harness.Round(effects: [granted(1, 300, .memory), .spill(Make.replica(2))]))
        let second = try harness.handle(.spilled(Make.replica(2), isDone: true))
        #expect(second.effects.first == granted(2, 1, .memory) && second.jobs.count == 1)
    }

    @Test func `what can't be made room for goes to disk at once`() throws {
        var harness = try calling()
        try bring(1, to: &harness)
        try harness.handle(ask(1, 600))
        #expect(try harness.handle(ask(2, 300)).effects == [granted(2, 300, .disk)], "one object is not enough, so it stays")
    }

    @Test func `a disk that takes nothing leaves what is asked for to the disk's own answer`() throws {
        var harness = try calling()
        try bring(5, to: &harness)
        try harness.handle(ask(1, 250))
        #expect(try harness.handle(.spilled(Make.replica(1), isDone: false)).effects.first == granted(1, 250, .disk))
        #expect(try harness.handle(ask(2, 250)).effects == [granted(2, 250, .disk)], "it is not tried again at once")
        try harness.tick(afterMilliseconds: 1000)
        #expect(try harness.handle(ask(2, file: 2, 250)).effects == [.spill(Make.replica(1))])
    }

    @Test func `a file that grows keeps what it has until its answer, which tells of it`() throws {
        var harness = try calling()
        try harness.handle(ask(1, 400))
        #expect(try harness.handle(ask(1, 700)).effects == [granted(1, 700, held: 400, .memory)])
        #expect(try harness.handle(ask(1, 701)).effects == [granted(1, 701, held: 700, .disk)])
        #expect(try harness.handle(ask(2, 700)).effects == [granted(2, 700, .memory)], "on disk it holds no memory")
    }

    @Test func `who finds no space where it was granted gets it on disk`() throws {
        var harness = try calling()
        try harness.handle(ask(1, 400))
        #expect(try harness.handle(ask(1, 400)).effects == [granted(1, 400, held: 400, .disk)])
    }

    @Test func `room comes back when the call is answered, its process ends, or the file is not made`() throws {
        var harness = try calling()
        try harness.handle(ask(1, 700))
        try harness.answer(1, [0], .outputs([LocalOutput(value: .stored(sizeBytes: 100))]))
        let output = Replica(object: ObjectID(session: Make.session, index: 100), generation: Make.attempt(0).generation)
        #expect(try harness.handle(ask(2, 600)).effects == [granted(2, 600, .memory), .spill(output)])
        try harness.handle(.spilled(output, isDone: true))
        #expect(try harness.handle(ask(2, 0)) == Harness.Round())
        #expect(try harness.handle(ask(2, 0)) == Harness.Round(), "there is none")
        #expect(try harness.handle(ask(2, file: 2, 600)).effects == [granted(2, file: 2, 600, .memory)])
        try harness.end(2, running: Make.slots(0))
        #expect(try harness.send(.closeSession(Make.session)).messages == [.sessionClosed(Make.session)])
        #expect(harness.core.isEmpty)
    }

    @Test func `an output on disk takes no memory`() throws {
        var harness = try calling()
        try harness.handle(ask(1, 5000))
        try harness.answer(1, [0], .outputs([LocalOutput(value: .stored(sizeBytes: 5000, isOnDisk: true))]))
        #expect(try harness.handle(ask(2, 700)).effects == [granted(2, 700, .memory)])
    }

    @Test func `nonsense is refused`() throws {
        var harness = try calling()
        func reason(_ round: Harness.Round) -> String? {
            if case .grant(_, _, _, _, .refused(let reason)) = round.effects.first { reason } else { nil }
        }
        #expect(reason(try harness.handle(ask(1, slot: 7, 10)))?.contains("not running") == true)
        #expect(reason(try harness.handle(ask(1, slot: 200, 10)))?.contains("not running") == true)
        #expect(try harness.handle(ask(77, 10)) == Harness.Round(), "it is gone")
        harness.setReservationCountMax(1024)
        for file in 0..<UInt32(1024) { try harness.handle(ask(1, file: file, 1)) }
        #expect(reason(try harness.handle(ask(1, file: 5000, 1)))?.contains("1024 large files") == true)
        harness = try calling()
        try bring(5, to: &harness)
        try harness.handle(ask(2, 300))
        #expect(reason(try harness.handle(ask(2, 400)))?.contains("waits") == true)
    }

    @Test(arguments: [false, true]) func `very many files are given back one by one, in any order`(isBackwards: Bool) throws {
        var harness = try calling()
        harness.checksInvariants = false
        let count: UInt32 = 60_000
        for file in 1...count { try harness.handle(ask(1, file: file, file <= 600 ? 1 : 900)) }
        #expect(try harness.handle(ask(2, 100)).effects == [granted(2, 100, .memory)])
        #expect(try harness.handle(ask(2, file: 2, 1)).effects == [granted(2, file: 2, 1, .disk)])
        // Were each looked for among the others, or the others moved, this would take minutes.
        for file in 1...count { try harness.handle(ask(1, file: isBackwards ? count + 1 - file : file, 0)) }
        harness.checksInvariants = true
        #expect(try harness.handle(ask(1, file: 7, 600)).effects == [granted(1, file: 7, 600, .memory)], "their room is free, and numbers come again")
    }

    @Test func `a waiting call that ends is passed over`() throws {
        var harness = try calling()
        try bring(5, to: &harness)
        try harness.handle(ask(1, 300))
        try harness.handle(ask(2, 200))
        #expect(try harness.end(1, running: Make.slots(0)).effects.contains(granted(2, 200, .memory)))
    }

    @Test func `a task whose input is on its way to disk starts when it is there`() throws {
        var harness = try calling()
        try bring(5, to: &harness)
        try harness.handle(ask(1, 300))
        try harness.handle(ask(1, 0))
        #expect(try harness.send(Make.assign(5, template: 2, inputs: [Make.input(1, .held)])).jobs.isEmpty)
        #expect(try harness.handle(spilledOne).jobs.count == 1)
    }

    // MARK: Programs

    private func isOnDisk(_ round: Harness.Round) -> [Bool] {
        round.effects.compactMap { if case .runJob(_, let request) = $0 { request.isOnDisk } else { nil } }
    }

    @Test func `a program that finds no room in memory begins once more on disk, uncharged, and so do its like`() throws {
        var harness = try calling()
        let first = try harness.send(Make.assign(4, template: 2))
        #expect(isOnDisk(first) == [false])
        let again = try harness.handle(.jobEnded(first.jobs[0], .outOfRoom(TaskError(.resource, "full"))))
        #expect(isOnDisk(again) == [true] && again.failure == nil)
        #expect(isOnDisk(try harness.handle(.jobEnded(again.jobs[0], .finished([LocalOutput(value: .inline([]))], durationNanoseconds: 1, debug: "")))).isEmpty)
        #expect(isOnDisk(try harness.send(Make.assign(5, template: 2))) == [true])
    }

    @Test func `on disk too it fails with what was said`() throws {
        var harness = try calling()
        let first = try harness.send(Make.assign(4, template: 2))
        let again = try harness.handle(.jobEnded(first.jobs[0], .outOfRoom(TaskError(.resource, "full"))))
        #expect(try harness.handle(.jobEnded(again.jobs[0], .outOfRoom(TaskError(.resource, "both are full")))).failure?.message == "both are full")
    }

    @Test func `one that may not run again, and one without a disk, fails at once`() throws {
        var harness = try calling()
        let never = try harness.send(Make.assign(4, template: 3))
        #expect(try harness.handle(.jobEnded(never.jobs[0], .outOfRoom(TaskError(.resource, "full")))).failure?.cause == .resource)
        harness = try calling(limit: nil)
        let alone = try harness.send(Make.assign(4, template: 2))
        #expect(try harness.handle(.jobEnded(alone.jobs[0], .outOfRoom(TaskError(.resource, "full")))).failure?.cause == .resource)
    }

    @Test func `what its like made is kept free for a program while it runs`() throws {
        var harness = try calling()
        let first = try harness.send(Make.assign(4, template: 2))
        let made = [LocalOutput(value: .stored(sizeBytes: 300, isOnDisk: true))]
        try harness.handle(.jobEnded(first.jobs[0], .finished(made, durationNanoseconds: 1, debug: "")))
        let second = try harness.send(Make.assign(5, template: 2))
        #expect(isOnDisk(second) == [false])
        #expect(try harness.handle(ask(1, 401)).effects == [granted(1, 401, .disk)])
        #expect(try harness.handle(ask(1, file: 2, 400)).effects == [granted(1, file: 2, 400, .memory)])
        try harness.handle(.jobEnded(second.jobs[0], .cancelled))
        #expect(isOnDisk(try harness.send(Make.assign(6, template: 2))) == [false])
        #expect(try harness.handle(ask(2, 1)).effects == [granted(2, 1, .disk)])
    }

    @Test func `a program that was cancelled does not begin again`() throws {
        var harness = try calling()
        let first = try harness.send(Make.assign(4, template: 2))
        try harness.send(.cancel(Make.attempt(4)))
        let round = try harness.handle(.jobEnded(first.jobs[0], .outOfRoom(TaskError(.resource, "full"))))
        #expect(round.messages == [.cancelled(Make.attempt(4))] && round.jobs.isEmpty)
    }

    // MARK: Calls that find no room for what they write without asking

    private static let full = CallAnswer.Result.outOfRoom(TaskError(.resource, "full"))
    private func calls(_ round: Harness.Round) -> [UInt32] {
        round.effects.flatMap { effect -> [UInt32] in if case .call(_, let calls) = effect { calls.map(\.job.attempt.task.index) } else { [] } }
    }

    @Test func `a call that finds no room begins once more, uncharged, when what ran beside it has ended`() throws {
        var harness = try calling()
        let program = try harness.send(Make.assign(4, template: 2)).jobs[0]
        let first = try harness.answer(1, [0], Self.full)
        #expect(calls(first).isEmpty && first.messages.isEmpty)
        #expect(calls(try harness.answer(2, [0])).isEmpty, "the program may have taken it")
        let end = try harness.handle(.jobEnded(program, .outOfRoom(TaskError(.resource, "full"))))
        #expect(end.effects.contains(.emptyTrash) && calls(end).isEmpty && isOnDisk(end) == [true] && end.failure == nil, "its files may be there yet")
        #expect(calls(try harness.handle(.trashEmptied)) == [0])
        #expect(try harness.answer(1, [0]).messages.count == 1)
    }

    @Test func `it waits for what goes to disk for its sake, and for nothing that begins later or takes no memory`() throws {
        var harness = try calling()
        try bring(3, to: &harness)
        try harness.answer(2, [0])
        try harness.send(.session(Make.session, subworkers: []), Make.define(6, "builtin/sleep"), Make.assign(6, template: 6))
        let first = try harness.answer(1, [0], Self.full)
        #expect(first.effects.filter { if case .spill = $0 { true } else { false } } == [.spill(Make.replica(1))], "a quarter is left")
        #expect(try harness.send(Make.assign(4, template: 2)).jobs.count == 1)
        #expect(try harness.handle(spilledOne).effects == [.emptyTrash])
        #expect(calls(try harness.handle(.trashEmptied)) == [0])
        #expect(calls(try harness.handle(.trashEmptied)).isEmpty)
    }

    @Test func `the second time it fails with what was said, and so do one that must not begin twice and one without a disk`() throws {
        var harness = try calling()
        try harness.answer(2, [0])
        #expect(try harness.answer(1, [0], Self.full).effects == [.emptyTrash])
        #expect(calls(try harness.handle(.trashEmptied)) == [0])
        #expect(try harness.answer(1, [0], Self.full).failure?.message == "full")

        harness = try Harness()
        harness.setStoreMemoryBytes(800)
        try harness.send(.session(Make.session, subworkers: []), Make.define(0, "count/words", outputs: 1, rerun: .never), Make.assign(0))
        try harness.register(1)
        #expect(try harness.answer(1, [0], Self.full).failure?.cause == .resource)

        harness = try calling(limit: nil)
        #expect(try harness.answer(1, [0], Self.full).failure?.cause == .resource)
    }

    @Test func `those that found no room have it one after the other, in front of what is queued`() throws {
        var harness = try calling()
        try harness.send((10..<14).map { Make.assign($0) })
        try harness.register(3, page: false)
        #expect(calls(try harness.answer(1, [0], Self.full)) == [11])
        #expect(calls(try harness.answer(2, [0], Self.full)) == [12])
        #expect(calls(try harness.answer(3, [0])) == [13], "10 was the last that ran beside it when it found no room")
        try harness.handle(.trashEmptied)
        #expect(calls(try harness.answer(1, [0])) == [0], "the first CPU that is free")
        #expect(try harness.answer(2, [0]).effects.contains(.emptyTrash) == false, "nothing is left but 1, which waits for the end of 0")
        try harness.answer(3, [0])
        #expect(try harness.answer(1, [0]).effects == [.emptyTrash])
        #expect(calls(try harness.handle(.trashEmptied)) == [1])
    }

    @Test func `it does not wait for ever for what runs beside it`() throws {
        var harness = try calling()
        try harness.answer(1, [0], Self.full)
        #expect(calls(try harness.tick(afterMilliseconds: 59_000)).isEmpty)
        #expect(harness.core.nextTick != nil)
        #expect(calls(try harness.tick(afterMilliseconds: 1500)) == [0])
    }

    @Test func `one that waits for room can be cancelled, is not taken back, and outlives the server`() throws {
        var harness = try calling()
        try harness.answer(1, [0], Self.full)
        #expect(try harness.send(.revoke(Make.attempt(0))).messages == [.revoked(Make.attempt(0), wasTakenBack: false)])
        try harness.handle(.connected)
        let restarted = try harness.greetRestarted(isRestored: true)
        #expect(restarted.messages.contains(.runs(Make.attempt(0))))
        #expect(try harness.send(.cancel(Make.attempt(0))).messages == [.cancelled(Make.attempt(0))])
        #expect(calls(try harness.answer(2, [0])).isEmpty)
        #expect(try harness.send(.closeSession(Make.session)).messages.contains(.sessionClosed(Make.session)))
    }
}
