import Link
import Scheduling
import TaskModel

extension ServerCore {
    /// Walks the whole state; for tests, after every event. Traps with what is wrong.
    package func checkInvariants() {
        var assignedOf = ContiguousArray<UInt32>(repeating: 0, count: workers.count)
        var runningOf = ContiguousArray<UInt32>(repeating: 0, count: workers.count)
        checkTakeBacks()
        for slot in sessions.indices {
            guard let session = sessions[slot] else { continue }
            precondition(slotOfSession[session.id] == slot, "session \(session.id) is not in its slot")
            checkInvariants(of: session, &assignedOf, &runningOf)
        }
        for worker in presentWorkers {
            guard !isAway(worker) else {
                precondition(scheduler.loads[worker] == nil && runningOf[worker] == 0, "worker \(worker) is given tasks before it is back")
                continue
            }
            guard let load = scheduler.loads[worker] else { preconditionFailure("worker \(worker) is unknown to the scheduler") }
            precondition(load.assignedCount == assignedOf[worker], "worker \(worker): \(load.assignedCount) assigned, \(assignedOf[worker]) counted")
            precondition(workers[worker]!.runningCount == runningOf[worker], "worker \(worker): running tasks are miscounted")
            if load.assignedCount == 0 { precondition(load.assignedCPUs == 0 && load.expectedNanoseconds == 0, "worker \(worker): a load without tasks") }
        }
    }

    private func checkTakeBacks() {
        var incoming = ContiguousArray<UInt32>(repeating: 0, count: workers.count)
        var outgoing = incoming
        for case .some(let session) in sessions {
            var count = 0
            for task in 0..<session.tasks.count {
                guard let asked = session.tasks.askedBack[task] else { continue }
                let state = session.tasks.state[Int(task)]
                precondition(state == .assigned || state == .running, "task \(task) is asked back from nobody")
                precondition(!session.tasks.ahead.contains(task), "task \(task) is asked back, but the scheduler does not count it")
                incoming[Int(asked.worker)] += 1
                outgoing[Int(session.tasks.worker[Int(task)])] += 1
                count += 1
            }
            precondition(count == session.tasks.askedBack.count, "tasks that there are not are asked back")
        }
        for worker in presentWorkers {
            guard let load = scheduler.loads[worker] else { continue }
            precondition(load.incomingCount == incoming[worker], "worker \(worker): \(load.incomingCount) tasks come, \(incoming[worker]) counted")
            precondition(load.outgoingCount == outgoing[worker], "worker \(worker): \(load.outgoingCount) tasks go, \(outgoing[worker]) counted")
            if load.incomingCount == 0 { precondition(load.incomingCPUs == 0 && load.incomingNanoseconds == 0, "worker \(worker): nothing comes") }
        }
    }

    private func checkInvariants(of session: Session, _ assignedOf: inout ContiguousArray<UInt32>, _ runningOf: inout ContiguousArray<UInt32>) {
        let tasks = session.tasks
        var counts = (finished: UInt32(0), failed: UInt32(0), cancelled: UInt32(0), running: UInt32(0))
        var needs = ContiguousArray<UInt32>(repeating: 0, count: Int(session.objects.count))
        for task in 0..<tasks.count {
            let state = tasks.state[Int(task)]
            let row = tasks.row[Int(task)]
            switch state {
            case .finished: counts.finished += 1
            case .failed: counts.failed += 1
            case .cancelled: counts.cancelled += 1
            case .running: counts.running += 1
            case .waiting, .ready, .assigned: break
            }
            if state == .assigned || state == .running {
                let worker = Int(tasks.worker[Int(task)])
                precondition(hasWorker(worker), "task \(task) is on a worker that is gone")
                let runner = session.template(of: task).runner
                let isOffered =
                    runner == "builtin" || session.template(of: task).program != nil || session.options.subworkers.contains { $0.name == runner }
                    || workers[worker]!.description.offers(session.template(of: task).offer)
                precondition(isOffered, "task \(task) is on a worker that does not offer \(session.template(of: task).offer)")
                if !tasks.ahead.contains(task), !tasks.awaited.contains(task) { assignedOf[worker] += 1 }
                if state == .running { runningOf[worker] += 1 }
                precondition(!tasks.awaited.contains(task) || (state == .assigned && isAway(worker)), "task \(task) is awaited from nobody")
            }
            precondition(tasks.progress[task] == nil || state == .running, "task \(task) makes progress and does not run")
            if !state.hasOutcome {
                var missing: UInt32 = 0
                for position in tasks.inputRange(ofRow: row) {
                    let input = Int(tasks.inputs[position])
                    needs[input] += 1
                    if session.objects.state[input] == .unfinished || session.objects.state[input] == .lost { missing += 1 }
                }
                let known = tasks.rowMissing[Int(row)]
                precondition(!session.isOpen || known == missing, "task \(task): \(known) inputs missing, \(missing) counted")
                let isAhead = tasks.ahead.contains(task)
                precondition(state == .waiting || isAhead || known == 0 || tasks.awaited.contains(task), "task \(task) is \(state) without its inputs")
                precondition(!isAhead || (state == .assigned && known > 0), "task \(task) is \(state), but counts as ahead")
            }
        }
        precondition(
            counts == (session.finishedCount, session.failedCount, session.cancelledCount, session.runningCount),
            "session \(session.id): outcomes are miscounted")
        guard session.isOpen else { return }
        precondition(session.newlyFinished.isEmpty && session.newlyCancelled.isEmpty && session.newLines.isEmpty, "news are not told")
        precondition(!session.hasPlaceable || placeable.contains(slotOfSession[session.id]!), "session \(session.id) has ready tasks and no turn")
        for object in 0..<session.objects.count {
            let index = Int(object)
            precondition(
                session.objects.needCount[index] == needs[index], "object \(object): need \(session.objects.needCount[index]), counted \(needs[index])")
            let isNeeded = needs[index] > 0 || session.objects.isKept[index]
            switch session.objects.state[index] {
            case .finished:
                precondition(isNeeded, "object \(object) is kept for nobody")
                precondition(!session.objects.isGone(object), "object \(object) has no copy")
            case .dropped: precondition(needs[index] == 0, "object \(object) was dropped under a task")
            case .unfinished, .lost: precondition(session.objects.holder[index] == ObjectTable.none, "object \(object) is held before it exists")
            }
        }
    }
}
