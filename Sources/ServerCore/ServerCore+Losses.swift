import Link
import TaskModel

/// Workers that were lost while they ran a task: the task may be what ends them, and must not end one after the other.
///
/// Charged are tasks that ran; what only waited on the worker is not. The worker's next process knows what ran, from its parent; when there
/// is none, it is what the worker had said to run.
struct Losses: Equatable, Sendable {
    /// So many, and the task fails. One is mostly chance; two happen to long tasks on machines that come and go.
    static let countMax: UInt16 = 3

    var count: UInt16 = 0
    /// The last one that was charged: news of it may come twice.
    var attempt: AttemptID
    /// Which worker, and how it ended, for each.
    var descriptions: [String] = []
}

/// What ran on a worker when it was lost, as far as anybody knows.
enum RanAtLoss {
    /// It had ended everything before it went, or is to be blamed itself.
    case nothing
    case whatHadStarted
    case attempts(Set<AttemptID>)
}

extension ServerCore {
    func ran(_ slot: Int, _ task: UInt32, _ known: RanAtLoss) -> Bool {
        switch known {
        case .nothing: false
        case .whatHadStarted: sessions[slot]!.tasks.state[Int(task)] == .running
        case .attempts(let attempts): attempts.contains(attempt(slot, task))
        }
    }

    /// - Returns: whether that was one worker too many.
    mutating func charge(
        _ slot: Int, _ attempt: AttemptID, worker id: WorkerID, how: String, into effects: inout ContiguousArray<ServerEffect>
    ) -> Bool {
        append(.charged(attempt, id, how: how), isDurable: false, into: &effects)
        noteCharged(slot, attempt, id, how)
        return sessions[slot]!.tasks.losses[attempt.task.index]!.count >= Losses.countMax
    }

    mutating func noteCharged(_ slot: Int, _ attempt: AttemptID, _ id: WorkerID, _ how: String) {
        let task = attempt.task.index
        var losses = sessions[slot]!.tasks.losses[task] ?? Losses(attempt: attempt)
        losses.count += 1
        losses.attempt = attempt
        losses.descriptions.append("worker \(id)\(how)")
        sessions[slot]!.tasks.losses[task] = losses
    }

    mutating func failPoisonous(_ slot: Int, _ task: UInt32, on id: WorkerID?, into effects: inout ContiguousArray<ServerEffect>) {
        let losses = sessions[slot]!.tasks.losses[task]
        let error = TaskError(
            .workerLost,
            "\(losses?.count ?? 0) workers were lost while they ran the task: \(losses?.descriptions.joined(separator: ", ") ?? ""). It is not run again, "
                + "since it may be what ends them: see whether it kills its parent process or takes all memory, and what the workers' logs say")
        append(.failed(attempt(slot, task), id, error), into: &effects)
        failTask(slot, task, error, into: &effects)
    }

    /// A worker's process tells what ran in the one before it, after that was given up.
    mutating func chargeLate(_ predecessor: Predecessor, into effects: inout ContiguousArray<ServerEffect>) {
        for attempt in predecessor.running where attempt.epoch == epoch {
            guard let slot = slotOfSession[attempt.task.session], sessions[slot]!.isOpen, attempt.task.index < sessions[slot]!.tasks.count else { continue }
            let task = attempt.task.index
            let state = sessions[slot]!.tasks.state[Int(task)]
            let worker = sessions[slot]!.tasks.worker[Int(task)]
            // It has not run elsewhere since; where it does now, it is charged when that worker is lost, too.
            guard state == .waiting || state == .ready, sessions[slot]!.tasks.attemptNumber[Int(task)] == attempt.number, worker != TaskTable.noWorker,
                !hasWorker(Int(worker)), sessions[slot]!.tasks.losses[task]?.attempt != attempt
            else { continue }
            let id = workerIDs[Int(worker)]
            touched.insert(slot)
            if charge(slot, attempt, worker: id, how: Self.ending(predecessor.end), into: &effects) { failPoisonous(slot, task, on: id, into: &effects) }
        }
    }

    static func ending(_ how: String) -> String { how.isEmpty ? "" : " (\(how))" }
}
