import Link
import TaskModel

/// How attempts end.
extension WorkerCore {
    enum Ending: Sendable {
        case finished(FinishedAttempt)
        case failed(TaskError)
        case cancelled
        /// Given back to the server before it began.
        case takenBack
        /// Its session is closed: nobody wants to hear of it.
        case vanished
    }

    /// Ends an attempt that no process works on any more, and whatever waited for its outputs.
    mutating func settle(_ attempt: AttemptHandle, _ ending: Ending) {
        if case .finished(let message) = ending {
            report(attempt, .finished(attempts[attempt].id, message))
            forget(attempt)
            return
        }
        // A chain that expects from one attempt to the next may be long: a list of what is left, not recursion.
        var endings: ContiguousArray<(AttemptHandle, Ending)> = [(attempt, ending)]
        while let (attempt, ending) = endings.popLast() {
            guard attempts.contains(attempt) else { continue }
            passOn(ending, of: attempt, to: &endings)
            end(attempt, ending)
        }
    }

    private mutating func end(_ attempt: AttemptHandle, _ ending: Ending) {
        let id = attempts[attempt].id
        switch ending {
        case .finished(let message):
            report(attempt, .finished(id, message))
        case .failed(var error):
            error.host = description.hostName
            report(attempt, .failed(id, error))
        case .cancelled:
            report(attempt, .cancelled(id))
        case .takenBack:
            sessions[attempts[attempt].session].takenBack.insert(id)
            attempts[attempt].isRevoking = false
            report(attempt, .revoked(id, wasTakenBack: true))
        case .vanished:
            break
        }
        forget(attempt)
    }

    private mutating func report(_ attempt: AttemptHandle, _ message: WorkerMessage) {
        guard sessions[attempts[attempt].session].closing == .no else { return }
        link.enqueue(message)
        if attempts[attempt].isRevoking { link.enqueue(.revoked(attempts[attempt].id, wasTakenBack: false)) }
    }

    /// What waited for its outputs ends with it. When it was taken back so is what waited: the server places them together again.
    private mutating func passOn(_ ending: Ending, of attempt: AttemptHandle, to endings: inout ContiguousArray<(AttemptHandle, Ending)>) {
        let id = attempts[attempt].id
        for position in 0..<templates[attempts[attempt].template].outputCount {
            let replica = attempts[attempt].output(position)
            guard let object = objects.find(replica), objects[object].representation == .expected(from: attempt) else { continue }
            let consequence: Ending =
                switch ending {
                case .finished: preconditionFailure("\(id) finished without its outputs")
                case .failed(let error): .failed(SetupErrors.producerFailed(replica, id, error))
                case .cancelled: .failed(SetupErrors.producerCancelled(replica, id))
                case .takenBack: .takenBack
                case .vanished: .vanished
                }
            for waiter in objects[object].waiters.reversed() where attempts.contains(waiter) { endings.append((waiter, consequence)) }
        }
    }

    /// Removes the row and what it holds.
    private mutating func forget(_ attempt: AttemptHandle) {
        switch attempts[attempt].state {
        case .waiting: break
        case .ready: leaveLane(attempt)
        case .running, .calling, .finishing: becameInactive(attempt)
        }
        releaseInputs(of: attempt)
        attemptByID[attempts[attempt].id] = nil
        attempts.remove(attempt)
    }

    private mutating func releaseInputs(of attempt: AttemptHandle) {
        if attempts[attempt].inputs.isEmpty { return }
        var inputs: ContiguousArray<ObjectHandle> = []
        swap(&inputs, &attempts[attempt].inputs)
        for object in inputs { objects.release(object) }
    }

    mutating func becameInactive(_ attempt: AttemptHandle) {
        let session = attempts[attempt].session
        sessions[session].activeCount -= 1
        if sessions[session].activeCount == 0, sessions[session].closing != .no { closedSessions.append(session) }
    }

    /// The code of an attempt gave its outputs.
    mutating func complete(
        _ attempt: AttemptHandle, _ outputs: [LocalOutput], started: Instant, durationNanoseconds: UInt64, debug: String,
        attributes: [UInt8], into effects: inout ContiguousArray<WorkerEffect>
    ) {
        guard attempts[attempt].stop != .sessionClosed else {
            discard(outputs, of: attempt)
            settle(attempt, .vanished)
            return
        }
        if let error = contractError(attempt, outputs, debug: debug) {
            discard(outputs, of: attempt)
            settle(attempt, .failed(error))
            return
        }
        var message = FinishedAttempt(
            startedUnixMicroseconds: unixMicroseconds(started), durationNanoseconds: durationNanoseconds,
            debug: debug, attributes: attributes)
        message.outputs.reserveCapacity(outputs.count)
        var made: ContiguousArray<NewObject> = []
        made.reserveCapacity(outputs.count)
        var renamed: ContiguousArray<(position: Int, from: ObjectHandle)> = []
        for (position, output) in outputs.enumerated() {
            let new = newObject(output, position: position, of: attempt)
            if case .sameAsInput(let input) = output.value, new.representation == .stored {
                renamed.append((position, attempts[attempt].inputs[Int(input)]))
            }
            var finished = FinishedOutput(
                sizeBytes: new.sizeBytes, contentType: output.contentType, isDirectory: new.isDirectory, attributes: output.attributes)
            if case .inline(let bytes) = new.representation { finished.inline = bytes }
            // Passed through: unless somebody says otherwise it stays what it was.
            if case .sameAsInput = output.value, output.contentType.isEmpty { finished.contentType = new.contentType }
            message.outputs.append(finished)
            made.append(new)
        }
        if renamed.isEmpty {
            publish(made, of: attempt)
            settle(attempt, .finished(message))
        } else {
            let files = storedOutputs(outputs, of: attempt)
            rename(renamed, of: attempt, Finish(attempt: attempt, message: message, outputs: made, made: files, missing: UInt32(renamed.count)), into: &effects)
        }
    }

    private func contractError(_ attempt: AttemptHandle, _ outputs: [LocalOutput], debug: String) -> TaskError? {
        let declared = templates[attempts[attempt].template].outputCount
        var error: TaskError?
        if outputs.count != declared { error = ContractErrors.outputCount(made: outputs.count, declared: declared) }
        let inputCount = attempts[attempt].inputs.count
        for (position, output) in outputs.enumerated() where error == nil {
            if case .sameAsInput(let input) = output.value, Int(input) >= inputCount {
                error = ContractErrors.noSuchInput(input, output: position, inputCount: inputCount)
            }
        }
        error?.debug = debug
        return error
    }

    private func newObject(_ output: LocalOutput, position: Int, of attempt: AttemptHandle) -> NewObject {
        let declared = templates[attempts[attempt].template].template.outputs[position]
        let contentType = output.contentType.isEmpty ? declared.contentType : output.contentType
        let isDirectory = output.isDirectory || declared.isDirectory
        switch output.value {
        case .inline(let bytes):
            return NewObject(
                representation: .inline(bytes), sizeBytes: UInt64(bytes.count), contentType: contentType, isDirectory: isDirectory)
        case .stored(let sizeBytes):
            return NewObject(representation: .stored, sizeBytes: sizeBytes, contentType: contentType, isDirectory: isDirectory)
        case .sameAsInput(let input):
            let object = attempts[attempt].inputs[Int(input)]
            return NewObject(
                representation: objects[object].representation, sizeBytes: objects[object].sizeBytes,
                contentType: contentType.isEmpty ? objects[object].contentType : contentType, isDirectory: objects[object].isDirectory)
        }
    }

    private mutating func publish(_ made: ContiguousArray<NewObject>, of attempt: AttemptHandle) {
        for position in made.indices {
            let waiters = objects.publish(attempts[attempt].output(position), made[position])
            if !waiters.isEmpty { wake(waiters) }
        }
    }

    /// Outputs that are files already. Those beyond what the template declares have no name: theirs would be another task's.
    func storedOutputs(_ outputs: [LocalOutput], of attempt: AttemptHandle) -> [Replica] {
        var files: [Replica] = []
        for (position, output) in outputs.prefix(templates[attempts[attempt].template].outputCount).enumerated() {
            if case .stored = output.value { files.append(attempts[attempt].output(position)) }
        }
        return files
    }

    /// Nobody will hear of these outputs.
    mutating func discard(_ outputs: [LocalOutput], of attempt: AttemptHandle) {
        for file in storedOutputs(outputs, of: attempt) { objects.removeFile(file) }
    }

    private mutating func rename(
        _ renamed: ContiguousArray<(position: Int, from: ObjectHandle)>, of attempt: AttemptHandle, _ finish: Finish,
        into effects: inout ContiguousArray<WorkerEffect>
    ) {
        let finish = finishes.insert(finish)
        attempts[attempt].handle(.renaming(finish))
        for (position, from) in renamed {
            let to = attempts[attempt].output(position)
            let alias = aliases.insert(Alias(finish: finish, output: to))
            effects.append(.alias(AliasToken(alias.packed), from: objects[from].replica, to: to))
        }
    }

    mutating func aliased(_ token: AliasToken, _ error: TaskError?) {
        let alias = Table<Alias>.Handle(packed: token.rawValue)
        guard aliases.contains(alias) else { return }
        let finish = aliases[alias].finish
        let output = aliases[alias].output
        aliases.remove(alias)
        if let error {
            finishes[finish].failure = error
        } else {
            finishes[finish].named.append(output)
        }
        finishes[finish].missing -= 1
        if finishes[finish].missing == 0 { conclude(finish) }
    }

    private mutating func conclude(_ handle: Table<Finish>.Handle) {
        let finish = finishes[handle]
        finishes.remove(handle)
        let attempt = finish.attempt
        if finish.failure == nil, attempts[attempt].stop != .sessionClosed {
            publish(finish.outputs, of: attempt)
            settle(attempt, .finished(finish.message))
            return
        }
        // Nobody will hear of the outputs that are there already: those with a second name, and those that were made.
        for file in finish.named { objects.removeFile(file) }
        for file in finish.made { objects.removeFile(file) }
        if let error = finish.failure, attempts[attempt].stop != .sessionClosed {
            settle(attempt, .failed(error))
        } else {
            settle(attempt, .vanished)
        }
    }

    func unixMicroseconds(_ instant: Instant) -> UInt64 { unixMicrosecondsAtZero &+ instant.nanoseconds / 1000 }
}
