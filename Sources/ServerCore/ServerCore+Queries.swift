import Scheduling
import TaskModel

extension ServerCore {
    mutating func wait(
        _ request: RequestID, _ id: SessionID, _ selection: TaskSelection, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findOpenSession(id, for: request, into: &effects),
            let ranges = taskRanges(slot, selection, for: request, into: &effects)
        else { return }
        hold(Wait(request: request, kind: .outcomes, ranges: ranges), slot)
    }

    mutating func locate(
        _ request: RequestID, _ id: SessionID, _ selection: ObjectSelection, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findOpenSession(id, for: request, into: &effects),
            let ranges = checked(
                selection.ranges, below: sessions[slot]!.objects.count, what: "object", code: .unknownObject, for: request, into: &effects)
        else { return }
        hold(Wait(request: request, kind: .objects, ranges: ranges), slot)
    }

    mutating func taskRanges(
        _ slot: Int, _ selection: TaskSelection, for request: RequestID, into effects: inout ContiguousArray<ServerEffect>
    ) -> [Range<UInt32>]? {
        let count = sessions[slot]!.tasks.count
        switch selection {
        case .all: return [0..<count]
        case .ranges(let ranges):
            // Waiting and cancelling cost nothing per task that is asked for.
            return checked(ranges, atMost: .max, below: count, what: "task", code: .unknownTask, for: request, into: &effects)
        }
    }

    /// Answered at the end of this event, or of a later one.
    mutating func hold(_ wait: Wait, _ slot: Int) {
        sessions[slot]!.waits.append(wait)
        sessionOfRequest[wait.request] = sessions[slot]!.id
    }

    mutating func withdraw(_ request: RequestID) {
        guard let id = sessionOfRequest.removeValue(forKey: request), let slot = slotOfSession[id] else { return }
        sessions[slot]!.waits.removeAll { $0.request == request }
    }

    mutating func answerWaits(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        var position = 0
        while position < sessions[slot]!.waits.count {
            guard sessions[slot]!.isWaitOver(at: position, away: away) else {
                position += 1
                continue
            }
            let wait = sessions[slot]!.waits.remove(at: position)
            sessionOfRequest[wait.request] = nil
            switch wait.kind {
            case .outcomes: reply(wait.request, .waited, into: &effects)
            case .cancellation: reply(wait.request, .done, into: &effects)
            case .objects: reply(wait.request, .located(locations(slot, wait.ranges)), into: &effects)
            }
        }
    }

    private func locations(_ slot: Int, _ ranges: [Range<UInt32>]) -> [ObjectLocation] {
        var locations: [ObjectLocation] = []
        locations.reserveCapacity(ranges.reduce(0) { $0 + $1.count })
        for range in ranges { for object in range { locations.append(location(slot, object)) } }
        return locations
    }

    private func location(_ slot: Int, _ object: UInt32) -> ObjectLocation {
        let index = Int(object)
        switch sessions[slot]!.objects.state[index] {
        case .dropped: return .dropped(object)
        case .unfinished: preconditionFailure("an object is located before it exists")
        case .lost:
            if let loss = sessions[slot]!.objects.losses[object] {
                return .failed(object, sessions[slot]!.failure(of: loss.obstacle, loss.error))
            }
            let producer = sessions[slot]!.objects.producer[index]
            guard let error = sessions[slot]!.tasks.errors[producer] else { return .cancelled(object) }
            return .failed(object, sessions[slot]!.failure(of: producer, error))
        case .finished:
            let contentType = sessions[slot]!.contentType(of: object)
            let isDirectory = sessions[slot]!.isDirectory(object)
            if sessions[slot]!.objects.hasInline[index] {
                return .inline(sessions[slot]!.objects.inline[index], contentType: contentType, isDirectory: isDirectory)
            }
            if let blob = sessions[slot]!.objects.blobs[object] {
                return .blob(blob.hash, sizeBytes: blob.sizeBytes, contentType: contentType, isDirectory: isDirectory)
            }
            let replica = Replica(
                object: ObjectID(session: sessions[slot]!.id, index: object), generation: sessions[slot]!.objects.generation[index])
            return .remote(
                replica, endpoints(slot, object), sizeBytes: sessions[slot]!.objects.sizeBytes[index], contentType: contentType,
                isDirectory: isDirectory)
        }
    }

    mutating func taskInfo(
        _ request: RequestID, _ id: SessionID, _ selection: TaskSelection, _ filter: TaskFilter, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findSession(id, for: request, into: &effects),
            let asked = taskRanges(slot, selection, for: request, into: &effects),
            let ranges = checked(asked, below: sessions[slot]!.tasks.count, what: "task", code: .unknownTask, for: request, into: &effects)
        else { return }
        var infos: [TaskInfo] = []
        if filter.isOpen { infos.reserveCapacity(ranges.reduce(0) { $0 + $1.count }) }
        search: for range in ranges {
            for task in range where filter.takes(sessions[slot]!.tasks.state[Int(task)]) {
                if !filter.hasConsequences, sessions[slot]!.tasks.errors[task]?.cause == .dependency { continue }
                var info = sessions[slot]!.info(of: task)
                let worker = sessions[slot]!.tasks.worker[Int(task)]
                if worker != TaskTable.noWorker { info.worker = workerIDs[Int(worker)].description }
                infos.append(info)
                if infos.count == Int(filter.limit) { break search }
            }
        }
        reply(request, .taskInfos(infos), into: &effects)
    }

    mutating func objectInfo(
        _ request: RequestID, _ id: SessionID, _ selection: ObjectSelection, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findSession(id, for: request, into: &effects),
            let ranges = checked(
                selection.ranges, below: sessions[slot]!.objects.count, what: "object", code: .unknownObject, for: request, into: &effects)
        else { return }
        var infos: [ObjectInfo] = []
        for range in ranges { for object in range { infos.append(sessions[slot]!.info(ofObject: object)) } }
        reply(request, .objectInfos(infos), into: &effects)
    }

    mutating func setKept(
        _ request: RequestID, _ id: SessionID, _ selection: ObjectSelection, isKept: Bool,
        into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findOpenSession(id, for: request, into: &effects),
            let ranges = checked(
                selection.ranges, below: sessions[slot]!.objects.count, what: "object", code: .unknownObject, for: request, into: &effects)
        else { return }
        if isKept {
            for range in ranges {
                for object in range where sessions[slot]!.objects.state[Int(object)] == .dropped {
                    return refuse(request, .objectDropped, "object \(object) is gone already: keep it before its last use", into: &effects)
                }
            }
        }
        append(.keptChanged(id, selection, isKept: isKept), into: &effects)
        noteKept(slot, selection, isKept: isKept)
        reply(request, .done, into: &effects)
    }

    mutating func noteKept(_ slot: Int, _ selection: ObjectSelection, isKept: Bool) {
        for range in selection.ranges {
            // A client's own constants stay for later submits whatever it says.
            for object in range where sessions[slot]!.objects.producer[Int(object)] != ObjectTable.uploaded {
                sessions[slot]!.objects.isKept[Int(object)] = isKept
                dropIfUnneeded(slot, object)
            }
        }
    }

    mutating func sessionStatus(_ request: RequestID, _ id: SessionID, into effects: inout ContiguousArray<ServerEffect>) {
        guard let slot = findSession(id, for: request, into: &effects) else { return }
        reply(request, .sessionStatus(sessionStatus(slot)), into: &effects)
    }

    /// With what it waits for now: whoever asks needs no time of grace.
    private func sessionStatus(_ slot: Int) -> SessionStatus {
        var status = sessions[slot]!.status
        status.hints = causes(slot).map(\.text)
        return status
    }

    mutating func status(_ request: RequestID, into effects: inout ContiguousArray<ServerEffect>) {
        var statuses: [WorkerStatus] = []
        for index in presentWorkers {
            guard let worker = workers[index], let load = scheduler.loads[index] else { continue }
            statuses.append(
                WorkerStatus(
                    worker: worker.id, description: worker.description, runningCount: worker.runningCount,
                    queuedCount: load.assignedCount - worker.runningCount, objectCount: worker.objectCount))
        }
        let sessionStatuses = sessions.indices.filter { hasSession($0) }.map { sessionStatus($0) }.sorted { $0.session < $1.session }
        reply(request, .status(ServerStatus(epoch: epoch, workers: statuses, sessions: sessionStatuses)), into: &effects)
    }
}
