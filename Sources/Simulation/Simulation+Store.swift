import Link
import TaskModel
import WorkerCore

/// What a worker's shell does with files: where outputs and fetched objects go, what moves to disk, and what happens when there is no room.
extension Simulation {
    static let noRoom = TaskError(.resource, "no space left, in memory and on disk")

    /// Whether a task may fail for want of room.
    var isRoomLimited: Bool { plan.stores.contains { $0.memoryBytes != nil && $0.diskBytes != nil } }

    // MARK: Room for outputs

    /// A running call tells how large its files will be, before it makes them.
    func reserve(_ id: SubworkerID, _ serial: UInt64, _ worker: VirtualWorker) throws(Violation) {
        guard let process = worker.processIndex(id), let call = worker.processes[process].queue.firstIndex(where: { $0.serial == serial }) else { return }
        let job = worker.processes[process].queue[call].request.job
        let slot = worker.processes[process].queue[call].request.slot
        let graph = try graph(of: job.attempt.task.session)
        var files: [UInt32] = []
        for object in graph.outputs[Int(job.attempt.task.index)] where graph.isFile(object) {
            worker.processes[process].fileCount += 1
            files.append(worker.processes[process].fileCount)
        }
        worker.processes[process].queue[call].files = files.map { (number: $0, grant: nil) }
        for file in files {
            count("reservations")
            try tell(.reserve(id, slot: slot, file: file, sizeBytes: VirtualStore.fileBytes), worker)
        }
    }

    func granted(_ id: SubworkerID, _ file: UInt32, _ grant: Grant, _ worker: VirtualWorker) throws(Violation) {
        guard let process = worker.processIndex(id) else { return }
        for call in worker.processes[process].queue.indices {
            guard let position = worker.processes[process].queue[call].files.firstIndex(where: { $0.number == file }) else { continue }
            guard worker.processes[process].queue[call].files[position].grant == nil else {
                throw Violation(.brokenContract, "worker \(worker.index): room for file \(file) is granted twice")
            }
            if case .refused(let reason) = grant { throw Violation(.brokenContract, "worker \(worker.index): room is refused: \(reason)") }
            if grant == .disk { count("outputs sent to disk") }
            worker.processes[process].queue[call].files[position].grant = grant
            if worker.processes[process].queue[call].isHeldUp, worker.processes[process].queue[call].hasItsRoom {
                let serial = worker.processes[process].queue[call].serial
                queue.add(.callDone(worker: worker.index, life: worker.life, id, serial: serial), at: now + 1000)
            }
            return
        }
        throw Violation(.brokenContract, "worker \(worker.index): room is granted for file \(file), which nobody makes")
    }

    /// Some calls find no room for what they write without asking: once, for when they begin again there is some.
    func findsNoRoom(_ attempt: AttemptID, _ worker: VirtualWorker) -> Bool {
        guard worker.store.memoryBytes != nil, random.chance(2), roomlessAttempts.insert(attempt).inserted else { return false }
        count("calls without room")
        return true
    }

    /// Puts what a task made into the store; nothing of it when there is no room for all.
    ///
    /// - Parameter tiers: where each file was to go. Memory that is full after all is no reason to fail while the disk has room.
    /// - Returns: the result with the place of each file; `nil` without room.
    func store(
        _ outputs: [LocalOutput], _ made: [(Replica, Content)], _ tiers: [VirtualStore.Tier], mayOverflow: Bool, _ worker: VirtualWorker
    ) -> [LocalOutput]? {
        var stored: [Replica] = []
        for ((replica, content), tier) in zip(made, tiers) {
            let isThere = worker.store.insert(replica, content, tier) || (tier == .memory && mayOverflow && worker.store.insert(replica, content, .disk))
            guard isThere else {
                for replica in stored { _ = worker.store.remove(replica) }
                count("outputs without room")
                return nil
            }
            stored.append(replica)
        }
        var next = 0
        return outputs.map { output in
            guard case .stored(let sizeBytes, _) = output.value else { return output }
            defer { next += 1 }
            return LocalOutput(isDirectory: output.isDirectory, value: .stored(sizeBytes: sizeBytes, isOnDisk: worker.store.isOnDisk(stored[next])))
        }
    }

    /// Small outputs that are too much for one message; nothing of them when there is no room for all.
    func finishWrite(_ token: WriteToken, _ worker: VirtualWorker) throws(Violation) {
        guard let index = worker.writes.firstIndex(where: { $0.token == token }) else { return }
        let files = worker.writes.remove(at: index).files
        var stored: [FileToWrite] = []
        for file in files {
            guard let content = Content(file.bytes), content == ledger[file.replica] else {
                throw Violation(.wrongValue, "worker \(worker.index): \(file.replica) is written with other bytes than its own")
            }
            let size = UInt64(file.bytes.count)
            guard worker.store.insert(file.replica, content, .memory, bytes: size) || worker.store.insert(file.replica, content, .disk, bytes: size) else {
                break
            }
            stored.append(file)
        }
        var result = WriteResult.stored(isOnDisk: stored.map { worker.store.isOnDisk($0.replica) })
        if stored.count < files.count {
            for file in stored { _ = worker.store.remove(file.replica) }
            result = .failed(Self.noRoom)
            count("small outputs without room")
        } else {
            count("small outputs that became files")
        }
        try tell(.written(token, result), worker)
        mayRepeat(.written(token, result), worker)
    }

    // MARK: To disk

    func spill(_ replica: Replica, _ worker: VirtualWorker) throws(Violation) {
        guard worker.store[replica] != nil else { throw Violation(.brokenContract, "worker \(worker.index): \(replica) is spilled and is not here") }
        if let attempt = worker.isInUse(replica) {
            throw Violation(.brokenContract, "worker \(worker.index): \(replica) is spilled under \(attempt), which frees nothing")
        }
        let microseconds = random.chance(10) ? random.microseconds(1000...500_000) : random.microseconds(20...5000)
        queue.add(.spillDone(worker: worker.index, life: worker.life, replica), at: now + microseconds)
    }

    func finishSpill(_ replica: Replica, _ worker: VirtualWorker) throws(Violation) {
        let isBroken = random.chance(plan.stores[worker.index].spillFailurePercent)
        let isDone = !isBroken && worker.store.spill(replica)
        if !isBroken, worker.store.isDamaged(worker.store.file(of: replica)) {
            count("files found written to on their way to disk")
            try tell(.foundDamaged([replica]), worker)
        }
        count(isDone ? "files spilled" : "files not spilled")
        try tell(.spilled(replica, isDone: isDone), worker)
    }

    // MARK: From elsewhere

    /// What was fetched goes where there is room.
    func keepFetched(_ replica: Replica, _ content: Content, _ worker: VirtualWorker) -> FetchResult {
        if worker.store.insert(replica, content, .memory) { return .stored(sizeBytes: VirtualStore.fileBytes) }
        if worker.store.insert(replica, content, .disk) {
            count("fetches to disk")
            return .stored(sizeBytes: VirtualStore.fileBytes, isOnDisk: true)
        }
        count("failed fetches")
        return .failed(Self.noRoom)
    }

    /// Most transfers take a moment, some seconds.
    var transferTime: UInt64 {
        2 * delay + (random.chance(4) ? random.milliseconds(100...4000) : random.microseconds(10...3000))
    }

    /// Some answers come twice, the second time when nobody waits for them any more.
    func mayRepeat(_ event: WorkerEvent, _ worker: VirtualWorker) {
        guard random.chance(5) else { return }
        count("answers that come twice")
        queue.add(.again(worker: worker.index, life: worker.life, event), at: now + random.microseconds(1...2_000_000))
    }
}
