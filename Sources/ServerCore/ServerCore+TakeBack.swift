import Link
import Scheduling
import TaskModel

/// Taking queued tasks back from a worker whose queue is long, for one that has nothing to do.
///
/// Looked at after each event, when everything that is ready has been placed: then a CPU without a task means that its work waits elsewhere.
/// The youngest tasks of the longest queue go first: they would begin last, and have most likely not begun.
///
///     assigned ──revoke──▶ assigned, asked back ──revoked: it had not begun──▶ ready (as another attempt)
///         ▲                        └──revoked: it had begun, or any outcome──▶ as if nobody had asked
extension ServerCore {
    /// A task that moved so often stays where it is.
    static let takenBackCountMax: UInt8 = 3
    // What one event looks at, at most: then its cost is bounded however long the queues are. The next event goes on.
    private static let victimCountMax = 4
    private static let lookCountMax = 64
    private static let inputLookCountMax = 256

    mutating func takeBackQueued() {
        guard presentWorkers.count > 1, let longest = scheduler.longestQueue(after: nil, now: now) else { return }
        var victim: (worker: Int, nanoseconds: UInt64)? = longest
        for _ in 0..<Self.victimCountMax {
            guard let from = victim, let idle = scheduler.idleWorker(from: 0) else { return }
            // One that can't be reached would answer late.
            if workers[from.worker]!.peer != nil { takeBack(from: from.worker, startingWith: idle) }
            victim = scheduler.longestQueue(after: from, now: now)
        }
    }

    /// A queued task, and what it adds to its worker's queue as far as is known today.
    private struct Candidate {
        var given: WorkerEntry.Given
        var slot: Int
        var demand: Demand
        var microseconds: UInt64
    }

    private mutating func takeBack(from worker: Int, startingWith first: Int) {
        guard let load = scheduler.loads[worker] else { return }
        var total = load.expectedNanoseconds
        let stall = scheduler.stallNanoseconds(worker, now: now)
        var queuedCPUs = load.assignedCPUs
        let candidates = takeCandidates(of: worker, total: &total)
        var idle: Int? = first
        var inputLooks = 0
        var kept: ContiguousArray<WorkerEntry.Given> = []
        for candidate in candidates {
            let own = Scheduler.work(cpus: candidate.demand.cpus, candidate.microseconds * 1000)
            let wait = max(stall, (total > own ? total - own : 0) / UInt64(max(1, load.cpus)))
            let cpus = candidate.demand.cpus
            guard let target = idle.flatMap({ scheduler.canTake($0, candidate.demand) ? $0 : scheduler.idleWorker(from: 0, for: candidate.demand) }),
                queuedCPUs > UInt64(load.cpus), inputLooks < Self.inputLookCountMax,
                scheduler.isSooner(
                    on: target, candidate.demand, missingBytes: missingBytes(candidate, on: target, &inputLooks), than: wait)
            else {
                kept.append(candidate.given)
                continue
            }
            ask(candidate, from: worker, for: target)
            total = total > own ? total - own : 0
            queuedCPUs -= UInt64(cpus)
            if target == idle, scheduler.loads[target].map({ $0.assignedCPUs + $0.incomingCPUs >= UInt64($0.cpus) }) ?? true {
                // Others that have nothing to do come first; when there is none, this one may have a queue too.
                idle = scheduler.idleWorker(from: target + 1) ?? scheduler.idleWorker(from: 0) ?? target
            }
        }
        workers[worker]!.given.append(contentsOf: kept.reversed())
    }

    /// The worker's youngest queued tasks, the youngest first, taken out of its list: one that is asked back is asked once.
    ///
    /// - Parameter total: what the scheduler counts for all tasks of the worker, corrected by what has been learned since.
    private mutating func takeCandidates(of worker: Int, total: inout UInt64) -> ContiguousArray<Candidate> {
        var candidates: ContiguousArray<Candidate> = []
        while candidates.count < Self.lookCountMax, let given = workers[worker]!.given.popLast() {
            guard let slot = slotIfQueued(given, on: worker) else { continue }
            let template = Int(sessions[slot]!.tasks.template(of: given.task))
            let demand = sessions[slot]!.demand(ofTemplate: template)
            let cpus = demand.cpus
            let assumed = UInt64(sessions[slot]!.tasks.expectedMicroseconds[Int(given.task)])
            let known = UInt64(UInt32(clamping: sessions[slot]!.durations[template].expectedNanoseconds / 1000))
            total = total - Scheduler.work(cpus: cpus, assumed * 1000) + Scheduler.work(cpus: cpus, known * 1000)
            candidates.append(Candidate(given: given, slot: slot, demand: demand, microseconds: known))
        }
        return candidates
    }

    /// The session's slot while this attempt is given to the worker and can be asked back.
    private func slotIfQueued(_ given: WorkerEntry.Given, on worker: Int) -> Int? {
        let index = Int(given.task)
        guard let slot = slotOfSession[given.session], sessions[slot]!.isOpen, sessions[slot]!.tasks.state[index] == .assigned,
            sessions[slot]!.tasks.worker[index] == UInt32(worker), sessions[slot]!.tasks.attemptNumber[index] == given.attempt,
            !sessions[slot]!.tasks.cancelRequested.contains(given.task), sessions[slot]!.tasks.askedBack[given.task] == nil,
            sessions[slot]!.tasks.takenBackCounts[given.task] ?? 0 < Self.takenBackCountMax
        else { return nil }
        return slot
    }

    /// How much of the task's inputs the worker would have to fetch.
    private func missingBytes(_ candidate: Candidate, on worker: Int, _ looks: inout Int) -> UInt64 {
        var missing: UInt64 = 0
        let inputs = sessions[candidate.slot]!.tasks.inputRange(ofRow: sessions[candidate.slot]!.tasks.row[Int(candidate.given.task)])
        looks += inputs.count
        // More than that is not looked at, and the task stays.
        guard inputs.count < Self.inputLookCountMax else { return .max }
        for position in inputs {
            let object = sessions[candidate.slot]!.tasks.inputs[position]
            if sessions[candidate.slot]!.objects.isHeld(object, by: UInt32(worker)) { continue }
            missing &+= sessions[candidate.slot]!.objects.sizeBytes[Int(object)]
        }
        return missing
    }

    private mutating func ask(_ candidate: Candidate, from worker: Int, for target: Int) {
        let microseconds = UInt32(clamping: candidate.microseconds)
        sessions[candidate.slot]!.tasks.askedBack[candidate.given.task] = AskedBack(worker: UInt32(target), microseconds: microseconds)
        scheduler.expect(target, from: worker, cpus: candidate.demand.cpus, expectedNanoseconds: UInt64(microseconds) * 1000)
        send(.revoke(attempt(candidate.slot, candidate.given.task)), to: worker)
    }

    /// The worker's answer: whether the attempt was taken back before it began.
    mutating func answerTakeBack(_ slot: Int, _ task: UInt32, wasTakenBack: Bool) {
        guard wasTakenBack else { return forgetTakeBack(slot, task) }
        sessions[slot]!.tasks.takenBackCounts[task, default: 0] += 1
        requeue(slot, task)
    }

    /// It is known what came of the task, or it leaves its worker in another way.
    mutating func forgetTakeBack(_ slot: Int, _ task: UInt32) {
        guard !sessions[slot]!.tasks.askedBack.isEmpty, let asked = sessions[slot]!.tasks.askedBack.removeValue(forKey: task) else { return }
        let cpus = sessions[slot]!.templates[Int(sessions[slot]!.tasks.template(of: task))].resources.cpus
        scheduler.settle(
            Int(asked.worker), from: Int(sessions[slot]!.tasks.worker[Int(task)]), cpus: cpus, expectedNanoseconds: UInt64(asked.microseconds) * 1000)
    }

    // MARK: What a worker was given

    /// From now on the task can be taken back.
    mutating func noteGiven(_ slot: Int, _ task: UInt32, to worker: Int) {
        let given = WorkerEntry.Given(session: sessions[slot]!.id, task: task, attempt: sessions[slot]!.tasks.attemptNumber[Int(task)])
        workers[worker]!.given.append(given)
        if workers[worker]!.given.count >= workers[worker]!.givenCountMax { forgetGiven(on: worker) }
    }

    /// Most have an outcome by now. What is left is at most what the worker has, so each entry is looked at about once.
    private mutating func forgetGiven(on worker: Int) {
        var list: ContiguousArray<WorkerEntry.Given> = []
        swap(&list, &workers[worker]!.given)
        // A closure that calls a method of the core would copy the core for each entry.
        var keptCount = 0
        for index in list.indices where slotIfQueued(list[index], on: worker) != nil {
            list[keptCount] = list[index]
            keptCount += 1
        }
        list.removeLast(list.count - keptCount)
        workers[worker]!.givenCountMax = max(WorkerEntry.givenCountMin, 2 * keptCount)
        workers[worker]!.given = list
    }
}

/// A task that its worker was asked to give back.
struct AskedBack: Equatable, Sendable {
    /// For which worker.
    var worker: UInt32
    /// What that one's scheduler was told.
    var microseconds: UInt32
}
