import Synchronization
import TaskModel
import WorkerCore

/// What tasks did to inputs that they were to read only: see `Store.damage`.
extension WorkerShell {
    static let programAdvice = "let the program have a copy of its own (`write=True` in Python, `\"write\": true` in its configuration)"
    static let callAdvice = "let the task change a copy"

    /// An input that a task could write to.
    struct ExposedInput {
        let position: Int
        let input: LocalInput
        /// A directory that the task could not change by this way, but others may have: by a file that is another object, too.
        var isRead = false
    }

    func exposedInputs(of program: RunningProgram) -> [ExposedInput] {
        let layout = program.prepared.layout
        return program.request.inputs.enumerated().compactMap { position, input in
            guard input.value == .stored else { return nil }
            // A file in its directory is one of the store's; all else it has from where nothing can be changed, if there is such a place.
            let isLinked = layout.inputPaths[position] != nil && !layout.inputIsWritable[position]
            let isRead = input.isDirectory && (store.isProtected || !isLinked)
            guard isRead || isLinked || !store.isProtected && program.plan.stdin == position else { return nil }
            return ExposedInput(position: position, input: input, isRead: isRead)
        }
    }

    /// Where somebody has written to an object of this store, directories are looked at before a task begins, too: it is not to be charged with
    /// what another did to a file of theirs under another name.
    func checkDirectories(_ inputs: [LocalInput]) throws(TaskError) {
        guard store.hasSeenDamage.load(ordering: .relaxed) else { return }
        let damaged = store.damaged(among: inputs.filter(\.isDirectory))
        guard let first = damaged.first else { return }
        events.append(.foundDamaged(damaged))
        throw TaskError(.setup, "a task has written to a file of object \(first.object), which is an input")
    }

    /// Inputs that come in the message are the task's own.
    func exposedInputs(of job: JobRequest, inlineBytesMax: UInt64) -> [ExposedInput] {
        if store.isProtected, !job.inputs.contains(where: { $0.isDirectory }) { return [] }
        return job.inputs.enumerated().compactMap { position, input in
            guard input.value == .stored, input.isDirectory || !store.isProtected && input.sizeBytes > inlineBytesMax else { return nil }
            return ExposedInput(position: position, input: input, isRead: store.isProtected)
        }
    }

    /// Looks at inputs that a task could write to when it has ended, and has those go that are not what they were.
    ///
    /// - Returns: how the task fails; `nil` when nothing was changed.
    func damage(by title: @autoclosure () -> String, _ exposed: [ExposedInput], _ template: TaskTemplate?, advice: String) -> TaskError? {
        if exposed.isEmpty { return nil }
        var damaged: [Replica] = []
        var texts: [String] = []
        if store.hasSeenDamage.load(ordering: .relaxed) {
            let found = store.damaged(among: exposed.compactMap { $0.isRead ? $0.input : nil })
            if !found.isEmpty { events.append(.foundDamaged(found)) }
        }
        for input in exposed where !input.isRead {
            guard !damaged.contains(input.input.replica), let text = store.damage(to: input.input) else { continue }
            damaged.append(input.input.replica)
            texts.append("its \(template.map { inputName(input.position, $0) } ?? "input \(input.position)") (\(text))")
        }
        if damaged.isEmpty { return nil }
        events.append(.damaged(damaged))
        return TaskError(
            .contract,
            "\(title()) wrote to \(texts.joined(separator: ", ")), or another task did that ran beside it. Objects can't change, so it was thrown away "
                + "here and will be fetched or made again: \(advice)")
    }
}
