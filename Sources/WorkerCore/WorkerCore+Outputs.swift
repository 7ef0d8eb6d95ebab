import Link
import TaskModel

/// What the code of an attempt made, and how it becomes objects.
extension WorkerCore {
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
        if let error = damageError(of: attempt) ?? contractError(attempt, outputs, debug: debug) {
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
            var new = newObject(output, position: position, of: attempt)
            if case .sameAsInput(let input) = output.value, new.representation == .stored {
                let source = attempts[attempt].inputs[Int(input)]
                new.fileNumber = objects.shareFile(of: source)
                renamed.append((position, source))
            }
            var finished = FinishedOutput(
                sizeBytes: new.sizeBytes, contentType: output.contentType, isDirectory: new.isDirectory, attributes: output.attributes)
            if case .inline(let bytes) = new.representation { finished.inline = bytes }
            // Passed through: unless somebody says otherwise it stays what it was.
            if case .sameAsInput = output.value, output.contentType.isEmpty { finished.contentType = new.contentType }
            finished.attributes = new.attributes
            message.outputs.append(finished)
            made.append(new)
        }
        var files: [FileToWrite] = []
        var writing: [Int] = []
        guard fit(&message, &made, of: attempt, into: &files, at: &writing) else {
            discard(outputs, of: attempt)
            settle(attempt, .failed(ContractErrors.tooLarge(message, bytesMax: resultBytesMax)))
            return
        }
        if renamed.isEmpty, files.isEmpty {
            publish(made, of: attempt)
            settle(attempt, .finished(message))
        } else {
            let missing = UInt32(renamed.count + (files.isEmpty ? 0 : 1))
            let finish = Finish(
                attempt: attempt, message: message, outputs: made, made: storedOutputs(outputs, of: attempt), writing: writing, missing: missing)
            finishLater(finish, renamed, files, into: &effects)
        }
    }

    /// Small outputs that are too much for one message become files, the largest first.
    ///
    /// - Returns: `false` when the rest is too much all the same.
    private func fit(
        _ message: inout FinishedAttempt, _ made: inout ContiguousArray<NewObject>, of attempt: AttemptHandle, into files: inout [FileToWrite],
        at positions: inout [Int]
    ) -> Bool {
        var bytes = message.estimatedBytes
        if bytes <= resultBytesMax { return true }
        var small: [(sizeBytes: Int, position: Int)] = []
        var rest = bytes
        for (position, output) in message.outputs.enumerated() {
            guard let size = output.inline?.count, size > 0 else { continue }
            small.append((size, position))
            rest -= size
        }
        if rest > resultBytesMax { return false }
        small.sort { ($1.sizeBytes, $0.position) < ($0.sizeBytes, $1.position) }
        for (sizeBytes, position) in small where bytes > resultBytesMax {
            files.append(FileToWrite(replica: attempts[attempt].output(position), bytes: message.outputs[position].inline ?? []))
            positions.append(position)
            message.outputs[position].inline = nil
            made[position].representation = .stored
            bytes -= sizeBytes
        }
        return true
    }

    private func contractError(_ attempt: AttemptHandle, _ outputs: [LocalOutput], debug: String) -> TaskError? {
        let declared = templates[attempts[attempt].template].outputCount
        var error: TaskError?
        if outputs.count != declared { error = ContractErrors.outputCount(made: outputs.count, declared: declared) }
        let inputCount = callInputCount(of: attempt)
        for (position, output) in outputs.enumerated() where error == nil {
            if case .sameAsInput(let input) = output.value, Int(input) >= inputCount {
                error = ContractErrors.noSuchInput(input, output: position, inputCount: inputCount)
            } else {
                error = kindError(attempt, output, position: position)
            }
        }
        error?.debug = debug
        return error
    }

    /// An output is a directory where, and only where, one is declared: who uses it relies on that.
    private func kindError(_ attempt: AttemptHandle, _ output: LocalOutput, position: Int) -> TaskError? {
        let declared = templates[attempts[attempt].template].template.outputs[position]
        var (isDirectory, source): (Bool, UInt16?) = (output.isDirectory, nil)
        if case .sameAsInput(let input) = output.value {
            (isDirectory, source) = (objects[attempts[attempt].inputs[Int(input)]].isDirectory, input)
        }
        if isDirectory == declared.isDirectory { return nil }
        return ContractErrors.wrongKind(output: position, label: declared.label, isDirectory: isDirectory, input: source)
    }

    private func newObject(_ output: LocalOutput, position: Int, of attempt: AttemptHandle) -> NewObject {
        let declared = templates[attempts[attempt].template].template.outputs[position]
        let contentType = output.contentType.isEmpty ? declared.contentType : output.contentType
        let isDirectory = declared.isDirectory
        switch output.value {
        case .inline(let bytes):
            return NewObject(
                representation: .inline(bytes), sizeBytes: UInt64(bytes.count), contentType: contentType, isDirectory: isDirectory,
                attributes: output.attributes)
        case .stored(let sizeBytes, let isOnDisk):
            return NewObject(
                representation: .stored, sizeBytes: sizeBytes, contentType: contentType, isDirectory: isDirectory, isOnDisk: isOnDisk,
                attributes: output.attributes)
        case .sameAsInput(let input):
            let object = attempts[attempt].inputs[Int(input)]
            return NewObject(
                representation: objects[object].representation, sizeBytes: objects[object].sizeBytes,
                contentType: contentType.isEmpty ? objects[object].contentType : contentType, isDirectory: objects[object].isDirectory,
                isOnDisk: objects[object].tier == .disk, attributes: output.attributes.isEmpty ? objects[object].attributes : output.attributes)
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

    private mutating func finishLater(
        _ finish: Finish, _ renamed: ContiguousArray<(position: Int, from: ObjectHandle)>, _ files: [FileToWrite],
        into effects: inout ContiguousArray<WorkerEffect>
    ) {
        let attempt = finish.attempt
        let handle = finishes.insert(finish)
        attempts[attempt].handle(.renaming(handle))
        for (position, from) in renamed {
            let to = attempts[attempt].output(position)
            let alias = aliases.insert(Alias(finish: handle, output: to))
            effects.append(.alias(AliasToken(alias.packed), from: objects[from].replica, to: to))
        }
        if !files.isEmpty { effects.append(.write(WriteToken(handle.packed), files)) }
    }

    mutating func written(_ token: WriteToken, _ result: WriteResult) {
        let finish = Table<Finish>.Handle(packed: token.rawValue)
        guard finishes.contains(finish) else { return }
        let attempt = finishes[finish].attempt
        let positions: [Int]
        switch result {
        case .stored(let isOnDisk):
            positions = finishes[finish].endWriting(isOnDisk: isOnDisk)
            finishes[finish].named += positions.map { attempts[attempt].output($0) }
        case .failed(let error):
            positions = finishes[finish].endWriting(isOnDisk: [])
            if !positions.isEmpty { finishes[finish].failure = error }
        }
        if !positions.isEmpty, finishes[finish].missing == 0 { conclude(finish) }
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
        var finish = finishes[handle]
        finishes.remove(handle)
        let attempt = finish.attempt
        finish.failure = finish.failure ?? damageError(of: attempt)
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
