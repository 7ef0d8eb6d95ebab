import Link
import ServerCore
import TaskModel
import WorkerCore

extension Simulation {
    func inject(_ fault: Plan.Fault.Kind) throws(Violation) {
        write("fault: \(fault)")
        trace.add(now)
        func lasts(_ milliseconds: UInt64) -> UInt64 {
            let end = now + milliseconds * 1_000_000
            lastFaultEnd = max(lastFaultEnd, end)
            return end
        }
        count("faults")
        switch fault {
        case .breakConnection(let worker): breakConnection(workers[worker])
        case .partition(let worker, let up, let down, let milliseconds):
            if up { workers[worker].partitionedUpUntil = max(workers[worker].partitionedUpUntil, lasts(milliseconds)) }
            if down { workers[worker].partitionedDownUntil = max(workers[worker].partitionedDownUntil, lasts(milliseconds)) }
        case .dataPartition(let worker, let milliseconds):
            dataPartitionCount += 1
            workers[worker].dataPartitionedUntil = max(workers[worker].dataPartitionedUntil, lasts(milliseconds))
        case .crashWorker(let worker, let milliseconds):
            if workers[worker].isAlive { kill(workers[worker], restartAt: lasts(milliseconds)) }
        case .freezeWorker(let worker, let milliseconds): workers[worker].frozenUntil = max(workers[worker].frozenUntil, lasts(milliseconds))
        case .crashServer(let milliseconds): crashServer(restartAt: lasts(milliseconds))
        case .freezeServer(let milliseconds): serverFrozenUntil = max(serverFrozenUntil, lasts(milliseconds))
        case .crashSubworker(let worker):
            guard workers[worker].isAlive, !workers[worker].processes.isEmpty else { return }
            let process = workers[worker].processes[random.below(workers[worker].processes.count)]
            queue.add(.subworkerEnd(worker: worker, life: workers[worker].life, process.id, isCrash: true), at: now)
        case .breakLease(let index, let milliseconds):
            guard let lease = clients[index].lease, !clients[index].isDone, !clients[index].isVanished else { return }
            clients[index].lease = nil
            queue.add(.clientLeaseLost(index, lease: lease, epoch: server.epoch), at: now + random.milliseconds(0...50))
            queue.add(.clientLease(index), at: lasts(milliseconds))
        case .ghost(let worker): try haunt(workers[worker])
        case .slowDisk(let milliseconds): journal.slowUntil = max(journal.slowUntil, lasts(milliseconds))
        case .fullDisk: journal.isFull = true
        }
    }

    /// What a server of another epoch, or a worker's earlier process, said long ago arrives now.
    private func haunt(_ worker: VirtualWorker) throws(Violation) {
        guard worker.isAlive, let index = worker.connection, worker.traffic.epoch != nil, !isServerDown else { return }
        let epoch = ServerEpoch(server.epoch.rawValue + (random.chance(50) ? 1 : 0) - (random.chance(50) ? 1 : 0))
        let incarnation = UInt64(worker.index + 1) << 32 | UInt64(worker.life)
        let isOther = epoch != server.epoch
        if random.chance(50) {
            let batch = Batch<ServerMessage>(
                epoch: epoch, incarnation: isOther ? incarnation : incarnation + 7, sequence: worker.traffic.sentDown + 1, acknowledged: .max,
                payload: ContiguousArray(clientOfSessionIDs.map { .closeSession($0) }))
            connections[index].down.append(.batch(batch))
            queue.add(.down(connection: index), at: max(now, connections[index].lastDown))
        } else {
            let batch = Batch<WorkerMessage>(
                epoch: epoch, incarnation: isOther ? incarnation : incarnation + 7, sequence: UInt64(worker.traffic.outcomes.count), acknowledged: .max,
                payload: ContiguousArray(ghostOutcomes(worker)))
            connections[index].up.append(.batch(batch))
            queue.add(.up(connection: index), at: max(now, connections[index].lastUp))
        }
    }

    private var clientOfSessionIDs: [SessionID] { clients.compactMap(\.session) }

    private func ghostOutcomes(_ worker: VirtualWorker) -> [WorkerMessage] {
        let running = worker.jobs.map(\.request.attempt) + worker.processes.flatMap { $0.queue.map(\.request.job.attempt) }
        return running.map { .failed($0, TaskError(.contract, "a ghost")) }
    }
}
