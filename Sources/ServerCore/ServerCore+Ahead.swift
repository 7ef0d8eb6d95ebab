import Scheduling
import TaskModel

/// Tasks that a worker is given before their inputs exist, so that a chain of short tasks costs no round trip to the server a hop.
///
/// A task goes ahead when each input that it lacks is being made by an attempt on one worker, nothing else waits for that input, and it is
/// expected to be short: then it would be placed there anyway, and being bound to that worker costs it little if another one is idle. Until
/// its inputs exist it occupies no CPU, so the scheduler doesn't count it.
extension ServerCore {
    /// Work that a worker has ahead at most: more than it does in the time of a round trip, little to be taken back when it is lost.
    static let aheadCountMax = 64
    /// Beside a longer task a round trip of 0.2 ms does not count.
    private static let aheadNanosecondsMax: UInt64 = 5_000_000
    /// Looking at the inputs of a row costs time for each task that makes one of them.
    private static let aheadInputCountMax = 4

    /// The task was given to the worker: who uses its outputs may follow it.
    mutating func noteFollowers(_ slot: Int, of task: UInt32, on worker: Int) {
        for object in sessions[slot]!.outputs(of: task) {
            let edge = sessions[slot]!.objects.firstEdge[Int(object)]
            guard edge != ObjectTable.none, sessions[slot]!.objects.edgeNext[Int(edge)] == ObjectTable.none else { continue }
            let row = sessions[slot]!.objects.edgeRow[Int(edge)]
            let tasks = sessions[slot]!.tasks.tasks(ofRow: row)
            guard tasks.count == 1, canGoAhead(slot, tasks.lowerBound, on: worker) else { continue }
            workers[worker]!.followers.append((sessions[slot]!.id, tasks.lowerBound))
            leading.insert(worker)
        }
    }

    /// Gives followers to the worker, as many as may be ahead.
    mutating func sendFollowers(into effects: inout ContiguousArray<ServerEffect>) {
        for _ in 0..<leading.count {
            let worker = leading.removeFirst()
            guard hasWorker(worker) else { continue }
            var next = 0
            while next < workers[worker]!.followers.count, workers[worker]!.aheadCount < Self.aheadCountMax {
                let (session, task) = workers[worker]!.followers[next]
                next += 1
                guard let slot = slotOfSession[session], sessions[slot]!.isOpen, canGoAhead(slot, task, on: worker) else { continue }
                sessions[slot]!.tasks.ahead.insert(task)
                workers[worker]!.aheadCount += 1
                assign(slot, task, to: worker, into: &effects)
            }
            if next > 0 { workers[worker]!.followers.removeFirst(next) }
            if !workers[worker]!.followers.isEmpty { leading.insert(worker) }
        }
    }

    private func canGoAhead(_ slot: Int, _ task: UInt32, on worker: Int) -> Bool {
        let row = Int(sessions[slot]!.tasks.row[Int(task)])
        let template = Int(sessions[slot]!.tasks.rowTemplate[row])
        guard sessions[slot]!.tasks.state[Int(task)] == .waiting, !sessions[slot]!.postponed.contains(task), row < sessions[slot]!.activeRowCount,
            sessions[slot]!.tasks.rowMissing[row] > 0,
            // It could begin, and be lost with the news of it, while it is thought to wait: whoever may run once waits here.
            sessions[slot]!.templates[template].rerun != .never,
            sessions[slot]!.durations[template].expectedNanoseconds <= Self.aheadNanosecondsMax,
            scheduler.canTake(worker, sessions[slot]!.demand(ofTemplate: template))
        else { return false }
        let inputs = sessions[slot]!.tasks.inputRange(ofRow: UInt32(row))
        guard inputs.count <= Self.aheadInputCountMax else { return false }
        for position in inputs {
            let input = sessions[slot]!.tasks.inputs[position]
            switch sessions[slot]!.objects.state[Int(input)] {
            case .finished: break
            case .unfinished: guard isBeingMade(slot, input, on: worker) else { return false }
            case .dropped, .lost: return false
            }
        }
        return true
    }

    private func isBeingMade(_ slot: Int, _ object: UInt32, on worker: Int) -> Bool {
        let producer = Int(sessions[slot]!.objects.producer[Int(object)])
        let state = sessions[slot]!.tasks.state[producer]
        return (state == .assigned || state == .running) && sessions[slot]!.tasks.worker[producer] == UInt32(worker)
            && sessions[slot]!.tasks.askedBack[UInt32(producer)] == nil
    }

    /// The last input of a row exists: those of its tasks that went ahead occupy the worker from now on.
    mutating func countAhead(_ slot: Int, row: UInt32) {
        guard !sessions[slot]!.tasks.ahead.isEmpty else { return }
        for task in sessions[slot]!.tasks.tasks(ofRow: row) where sessions[slot]!.tasks.ahead.remove(task) != nil {
            let worker = Int(sessions[slot]!.tasks.worker[Int(task)])
            workers[worker]!.aheadCount -= 1
            occupy(slot, task, worker)
        }
    }

    /// The attempt is over without outputs, and so, on the worker, is whatever follows it: those tasks wait again.
    mutating func takeBackFollowers(_ slot: Int, of first: UInt32) {
        guard !sessions[slot]!.tasks.ahead.isEmpty else { return }
        var worklist: ContiguousArray<UInt32> = [first]
        while let task = worklist.popLast() {
            for object in sessions[slot]!.outputs(of: task) {
                var edge = sessions[slot]!.objects.firstEdge[Int(object)]
                while edge != ObjectTable.none {
                    let row = sessions[slot]!.objects.edgeRow[Int(edge)]
                    edge = sessions[slot]!.objects.edgeNext[Int(edge)]
                    for follower in sessions[slot]!.tasks.tasks(ofRow: row) where sessions[slot]!.tasks.ahead.contains(follower) {
                        releaseWorker(slot, follower)
                        sessions[slot]!.tasks.state[Int(follower)] = .waiting
                        noteReturn(slot, follower)
                        worklist.append(follower)
                    }
                }
            }
        }
    }
}
