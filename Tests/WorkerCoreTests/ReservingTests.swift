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
}
