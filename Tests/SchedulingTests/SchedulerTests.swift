import Testing

@testable import Scheduling

private func scheduler(_ cpus: UInt32...) -> Scheduler {
    var scheduler = Scheduler()
    for count in cpus { _ = scheduler.join(cpus: count) }
    return scheduler
}

@Test func `a task goes to the worker that has its inputs`() {
    let two = scheduler(2, 2)
    #expect(two.place(Demand(cpus: 1), totalBytes: 1 << 30, localBytes: [0, 1 << 30]) == 1)
    #expect(two.place(Demand(cpus: 1), totalBytes: 1 << 30, localBytes: [1 << 30, 1 << 29]) == 0)
}

@Test func `waiting for the data's worker is weighed against moving the data`() {
    var two = scheduler(1, 1)
    two.assign(1, cpus: 1, expectedNanoseconds: 40_000_000)
    // 1 KB moves in a microsecond: better than 40 ms in a queue.
    #expect(two.place(Demand(cpus: 1), totalBytes: 1024, localBytes: [0, 1024]) == 0)
    // 1 GB takes a second: better to wait.
    #expect(two.place(Demand(cpus: 1), totalBytes: 1 << 30, localBytes: [0, 1 << 30]) == 1)
}

@Test func `equal workers share tasks, the first one first`() {
    var three = scheduler(1, 1, 1)
    var counts = [0, 0, 0]
    for _ in 0..<6 {
        let worker = three.place(Demand(cpus: 1), totalBytes: 0, localBytes: [])!
        counts[worker] += 1
        three.assign(worker, cpus: 1, expectedNanoseconds: Scheduler.unknownNanoseconds)
    }
    #expect(counts == [2, 2, 2])
}

@Test func `a worker gets no task that is larger than itself`() {
    let two = scheduler(1, 4)
    #expect(two.place(Demand(cpus: 3), totalBytes: 0, localBytes: []) == 1)
    #expect(two.place(Demand(cpus: 5), totalBytes: 0, localBytes: []) == nil)
    #expect(two.fit(Demand(cpus: 5)) == .nobody && two.fit(Demand(cpus: 4)) == .some && two.fit(Demand(cpus: 1)) == .all)
}

@Test func `a task goes to a worker that offers its subworker`() {
    var three = Scheduler()
    #expect(three.runner("gpu") == .nobody)
    _ = three.join(cpus: 4, subworkers: ["py"])
    _ = three.join(cpus: 2, subworkers: ["gpu", "py"])
    _ = three.join(cpus: 1, subworkers: [])
    let gpu = three.runner("gpu")
    #expect(gpu != .nobody)
    #expect(three.place(Demand(cpus: 1, runner: gpu), totalBytes: 1 << 30, localBytes: [1 << 30, 0, 0]) == 1, "wherever its inputs are")
    #expect(three.place(Demand(cpus: 1, runner: .nobody), totalBytes: 0, localBytes: []) == nil)
    #expect(three.fit(Demand(cpus: 1, runner: gpu)) == .some && three.fit(Demand(cpus: 3, runner: gpu)) == .nobody)
    #expect(three.fit(Demand(cpus: 1)) == .all)
    #expect(three.idleWorker(from: 0, for: Demand(cpus: 1, runner: gpu)) == 1)
    three.leave(1)
    #expect(three.fit(Demand(cpus: 1, runner: gpu)) == .nobody)
    #expect(three.fit(Demand(cpus: 1, runner: three.runner("py"))) == .some)
    three.rejoin(1, cpus: 2, subworkers: ["gpu"])
    #expect(three.canTake(1, Demand(cpus: 1, runner: gpu)) && !three.canTake(1, Demand(cpus: 1, runner: three.runner("py"))))
}

@Test func `a queue is as deep as what is worked off in 50 ms, and at least two tasks a cpu`() {
    var short = scheduler(2)
    var count = 0
    while let worker = short.place(Demand(cpus: 1), totalBytes: 0, localBytes: []) {
        short.assign(worker, cpus: 1, expectedNanoseconds: 1_000_000)
        count += 1
    }
    #expect(count == 100)
    #expect(short.isFull)

    var long = scheduler(2)
    count = 0
    while let worker = long.place(Demand(cpus: 1), totalBytes: 0, localBytes: []) {
        long.assign(worker, cpus: 1, expectedNanoseconds: 10_000_000_000)
        count += 1
    }
    #expect(count == 4)
    long.release(0, cpus: 1, expectedNanoseconds: 10_000_000_000)
    #expect(!long.isFull)
}

@Test func `a worker that left gets nothing`() {
    var two = scheduler(2, 2)
    two.leave(0)
    #expect(two.place(Demand(cpus: 1), totalBytes: 10, localBytes: [10, 0]) == 1)
    two.leave(1)
    #expect(two.isEmpty && two.isFull && two.fit(Demand(cpus: 1)) == .nobody)
    two.rejoin(1, cpus: 1)
    two.rejoin(0, cpus: 1)
    two.rejoin(0, cpus: 1)
    #expect(two.place(Demand(cpus: 1), totalBytes: 0, localBytes: []) == 0, "the lowest index on a tie, whoever came first")
    #expect(two.idleWorker(from: 1) == 1)
}

@Test func `what is looked at for a task does not grow with the workers that are gone`() {
    var many = Scheduler()
    for _ in 0..<1000 { many.leave(many.join(cpus: 1)) }
    #expect(many.join(cpus: 1) == 1000)
    #expect(many.present == [1000])
}

@Test func `tasks without a cpu are given to a worker up to a bound`() {
    var one = scheduler(2)
    one.assign(0, cpus: 2, expectedNanoseconds: 10_000_000_000)
    var count: UInt32 = 0
    while count < 1000, one.place(Demand(cpus: 0), totalBytes: 0, localBytes: []) != nil {
        one.assign(0, cpus: 0, expectedNanoseconds: 10_000_000_000)
        count += 1
    }
    #expect(count == 1 + Scheduler.weightlessCountMax)
}

@Test func `sizes beyond all measure neither overflow nor keep a task from its worker`() {
    var two = scheduler(1, 1)
    two.assign(0, cpus: 1, expectedNanoseconds: 40_000_000)
    #expect(two.place(Demand(cpus: 1), totalBytes: .max, localBytes: [0, 0]) == 0, "both as late as can be")
    #expect(two.place(Demand(cpus: 1), totalBytes: .max, localBytes: [0, 1]) == 1)
    #expect(!two.isSooner(on: 1, Demand(cpus: 1), missingBytes: .max, than: 1_000_000_000))
    #expect(two.isSooner(on: 1, Demand(cpus: 1), missingBytes: 1000, than: 1_000_000_000))
    #expect(!two.isSooner(on: 1, Demand(cpus: 1), missingBytes: 0, than: Scheduler.takeBackNanoseconds))
}

@Test func `durations are learned, recent ones count more, and none is below the cost of a task`() {
    var duration = LearnedDuration()
    #expect(duration.expectedNanoseconds == Scheduler.unknownNanoseconds)
    duration.learn(1)
    #expect(duration.expectedNanoseconds == Scheduler.leastNanoseconds)
    for _ in 0..<100 { duration.learn(1_000_000) }
    #expect(duration.expectedNanoseconds > 900_000 && duration.expectedNanoseconds <= 1_000_000)
}
