import Link
import TaskModel

/// How inputs come to be here.
extension WorkerCore {
    /// Gives an attempt its inputs; what is not here yet is fetched or awaited.
    ///
    /// All that can come do come, even if another can't: for the server the worker is told of them from now on.
    ///
    /// - Returns: why the attempt can't have all of them.
    mutating func attach(
        _ inputs: [InputAssignment], to attempt: AttemptHandle, into effects: inout ContiguousArray<WorkerEffect>
    ) -> TaskError? {
        if inputs.isEmpty { return nil }
        var problem: TaskError?
        attempts[attempt].inputs.reserveCapacity(inputs.count)
        for (position, input) in inputs.enumerated() {
            let object: ObjectHandle
            if let known = objects.find(input.replica) {
                object = known
                take(up: known, input, into: &effects)
            } else {
                switch bring(input, position: position, into: &effects) {
                case .success(let new): object = new
                case .failure(let error):
                    if problem == nil { problem = error }
                    // What was to be here and is not was told of before, when it went: said again, it would be taken for the news of a fetch that
                    // the server has asked for since.
                    if case .fetch = input.source { tell(.missing(input.replica)) }
                    continue
                }
            }
            objects[object].useCount += 1
            attempts[attempt].inputs.append(object)
            if !objects[object].isLocal {
                objects[object].waiters.append(attempt)
                attempts[attempt].awaitInput()
            }
        }
        return problem
    }

    /// An object that is here already, or on its way.
    private mutating func take(up object: ObjectHandle, _ input: InputAssignment, into effects: inout ContiguousArray<WorkerEffect>) {
        if objects[object].contentType.isEmpty, !input.contentType.isEmpty { objects[object].contentType = input.contentType }
        if objects[object].attributes.isEmpty, !input.attributes.isEmpty { objects[object].attributes = input.attributes }
        guard objects[object].isDropped else { return }
        // Dropped while it was in use, and now wanted again.
        objects[object].isDropped = false
        if case .fetch = input.source, objects[object].isLocal { tell(.replicated(input.replica)) }
    }

    private mutating func bring(
        _ input: InputAssignment, position: Int, into effects: inout ContiguousArray<WorkerEffect>
    ) -> Result<ObjectHandle, TaskError> {
        func insert(_ representation: HeldObject.Representation, sizeBytes: UInt64) -> ObjectHandle {
            objects.insert(
                input.replica,
                NewObject(
                    representation: representation, sizeBytes: sizeBytes, contentType: input.contentType, isDirectory: input.isDirectory,
                    attributes: input.attributes))
        }
        switch input.source {
        case .held:
            return .failure(SetupErrors.notHeld(input.replica, position: position))
        case .inline(let bytes):
            return .success(insert(.inline(bytes), sizeBytes: UInt64(bytes.count)))
        case .expect(let producer):
            guard let known = attemptByID[producer], produces(known, input.replica) else {
                return .failure(SetupErrors.notProduced(input.replica, position: position, by: producer))
            }
            return .success(insert(.expected(from: known), sizeBytes: 0))
        case .fetch(let endpoints):
            if endpoints.isEmpty { return .failure(SetupErrors.noHolder(input.replica, position: position)) }
            let object = insert(.fetching, sizeBytes: input.sizeBytes)
            effects.append(.fetch(FetchToken(object.packed), input))
            return .success(object)
        }
    }

    /// A value that later assignments name as held; it stays until it is dropped.
    mutating func take(_ value: InputAssignment) {
        // A closed session's value is late; anything but bytes is no value.
        guard let session = sessionByID[value.replica.object.session], sessions[session].closing == .no, case .inline(let bytes) = value.source
        else { return }
        if let known = objects.find(value.replica) {
            objects[known].isDropped = false
            return
        }
        _ = objects.insert(
            value.replica,
            NewObject(
                representation: .inline(bytes), sizeBytes: UInt64(bytes.count), contentType: value.contentType, isDirectory: value.isDirectory,
                attributes: value.attributes))
    }

    private func produces(_ producer: AttemptHandle, _ replica: Replica) -> Bool {
        let id = attempts[producer].id
        let first = attempts[producer].firstOutput
        return replica.object.session == id.task.session && replica.generation == id.generation && replica.object.index >= first
            && replica.object.index - first < UInt32(truncatingIfNeeded: templates[attempts[producer].template].outputCount)
    }

    /// An object has come; whoever waited only for it is ready.
    mutating func wake(_ waiters: ContiguousArray<AttemptHandle>) {
        for attempt in waiters where attempts.contains(attempt) {
            attempts[attempt].handle(.inputArrived)
            if attempts[attempt].state == .waiting(missing: 0) { makeReady(attempt) }
        }
    }

    mutating func fetched(_ token: FetchToken, _ result: FetchResult, into effects: inout ContiguousArray<WorkerEffect>) {
        let object = ObjectHandle(packed: token.rawValue)
        guard objects.rows.contains(object), objects[object].representation == .fetching else { return }
        let replica = objects[object].replica
        let new: NewObject
        switch result {
        case .failed(let error):
            let waiters = objects[object].waiters
            objects[object].waiters = []
            tell(.missing(replica))
            for attempt in waiters where attempts.contains(attempt) { settle(attempt, .failed(SetupErrors.fetchFailed(replica, error))) }
            // Without uses now: the next task that wants it has it fetched anew.
            objects.remove(object)
            return
        case .inline(let bytes):
            new = NewObject(
                representation: .inline(bytes), sizeBytes: UInt64(bytes.count), contentType: objects[object].contentType,
                isDirectory: objects[object].isDirectory)
        case .stored(let sizeBytes, let isOnDisk):
            new = NewObject(
                representation: .stored, sizeBytes: sizeBytes, contentType: objects[object].contentType,
                isDirectory: objects[object].isDirectory, isOnDisk: isOnDisk)
        }
        let waiters = objects.publish(replica, new)
        if objects[object].isDropped, objects[object].useCount == 0 {
            objects.remove(object)
            return
        }
        if !objects[object].isDropped { tell(.replicated(replica)) }
        wake(waiters)
    }
}
