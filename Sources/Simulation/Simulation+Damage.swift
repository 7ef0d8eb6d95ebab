import ServerCore
import TaskModel
import WorkerCore

/// Tasks that write to files that they were to read. Their worker finds out when the first of those has ended that had the file as an input.
extension Simulation {
    /// Whether copies of objects may have gone that were there.
    var hasLostCopies: Bool { lostWorkerCount > 0 || damageCount > 0 }

    /// Some tasks do it, at some time while they run.
    func mayWrite(_ job: JobRequest, _ worker: VirtualWorker) {
        guard random.chance(plan.damagePercent), job.inputs.contains(where: { $0.value == .stored }) else { return }
        let at = now + random.microseconds(1...plan.taskMicrosecondsMax)
        queue.add(.damage(worker: worker.index, life: worker.life, job.attempt), at: at)
    }

    func damage(by attempt: AttemptID, _ worker: VirtualWorker) throws(Violation) {
        var files: [Int] = []
        for job in worker.jobs where job.request.attempt == attempt { files = job.inputFiles.compactMap { $0 } }
        for process in worker.processes {
            for call in process.queue where call.request.job.attempt == attempt && call.begunAt != nil { files = call.inputFiles.compactMap { $0 } }
        }
        if files.isEmpty { return }
        // One with several names rather than another: all of them are damaged.
        let file = files.first(where: worker.store.hasOtherNames) ?? files[random.below(files.count)]
        // What subworkers are started from is a copy, which nobody writes to.
        for subworker in try graph(of: attempt.task.session).submits.flatMap(\.subworkers) {
            let program = Replica(object: ObjectID(session: attempt.task.session, index: subworker.program.object), generation: .uploaded)
            if worker.store.file(of: program) == file { return }
        }
        write("worker \(worker.index): \(attempt) writes to its input, file \(file)")
        count("files written to")
        damageCount += 1
        worker.store.write(to: file)
    }

    /// Looks at the inputs of what has ended, and has the core hear of those that were written to.
    ///
    /// - Returns: how it fails; `nil` when nothing was found.
    func lookForDamage(_ jobs: [JobRequest], _ worker: VirtualWorker) throws(Violation) -> TaskError? {
        var damaged: [Replica] = []
        for job in jobs {
            for input in job.inputs where input.value == .stored && !damaged.contains(input.replica) {
                guard let file = worker.store.file(of: input.replica), worker.store.isDamaged(file) else { continue }
                damaged.append(input.replica)
                worker.damagedFiles.append(file)
                blamedTasks.insert(job.attempt.task)
            }
        }
        if damaged.isEmpty { return nil }
        count("damaged inputs found")
        if plan.hasDeathAfterDamage, counts["damaged inputs found"] == 1 { queue.add(.killServer, at: now + random.microseconds(1...50_000)) }
        write("worker \(worker.index) finds \(damaged) written to")
        try tell(.damaged(damaged), worker)
        return TaskError(.contract, "it wrote to its input")
    }

    /// When the core knows of it, no name of such a file is left: whoever had another one would have its bytes.
    func checkDamagedFiles(after event: WorkerEvent, _ worker: VirtualWorker) throws(Violation) {
        if worker.damagedFiles.isEmpty { return }
        if case .damaged = event { return }
        defer { worker.damagedFiles = [] }
        // A task that is ending may have given one of its outputs such a name; it fails when it has all of them.
        guard worker.aliases.isEmpty, worker.writes.isEmpty else { return }
        if worker.damagedFiles.contains(where: worker.store.hasNames) {
            throw Violation(.brokenContract, "worker \(worker.index): a file to which a task wrote is still there under another name")
        }
    }

    /// Whether it read what another wrote, and does not know: the file has no name any more, or its name is another's.
    func isMisled(_ job: JobRequest, _ inputFiles: [Int?], _ worker: VirtualWorker) -> Bool {
        inputFiles.contains(where: worker.store.isDamaged) && !blamedTasks.contains(job.attempt.task)
    }

    func mislead(_ attempt: AttemptID) {
        count("misled attempts")
        misledAttempts.insert(attempt)
    }

    /// What somebody made of damaged inputs, or failed with for them, is no outcome.
    func checkOutcome(_ record: JournalRecord) throws(Violation) {
        switch record {
        case .finished(let attempt, _, _) where misledAttempts.contains(attempt):
            throw Violation(.wrongOutcome, "\(attempt) counts as finished, and read what another task wrote")
        case .failed(let attempt, _, let error) where misledAttempts.contains(attempt):
            if error.cause == .user || error.cause == .crash {
                throw Violation(.wrongOutcome, "\(attempt) fails for what another task wrote: \(error.message)")
            }
        default: break  // It tells of no outcome.
        }
    }
}
