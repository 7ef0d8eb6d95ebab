import TaskModel

/// Why a task can't be started here: what, which, and what to do.
enum SetupErrors {
    static func unknownTemplate(_ id: TemplateID) -> TaskError {
        TaskError(.setup, "the worker was never told of template \(id): this is an error of Rain, please report it")
    }

    static func noProgram(_ object: ObjectID) -> TaskError {
        TaskError(.setup, "the task came without the program of its subworker, object \(object): this is an error of Rain, please report it")
    }

    static func unknownRunner(_ type: String, name: Substring, known: ContiguousArray<String>) -> TaskError {
        var names = "builtin"
        for name in known { names += ", " + name }
        let what = type.contains("/") ? "no subworker is called \"\(name)\"" : "a task type is NAME/METHOD"
        return TaskError(
            .setup,
            "unknown task type \"\(type)\": \(what); register it when the session is opened (\"subworkers\": [{\"name\", \"command\"}]) "
                + "or in the worker's configuration ([subworkers.NAME]); known here: \(names)")
    }

    static func tooManyCPUs(asked: UInt32, capacity: UInt32, host: String) -> TaskError {
        TaskError(.setup, "the task asks for \(asked) CPUs but the worker on \(host) has \(capacity): lower the request or add a larger worker")
    }

    static func unknownMethod(_ type: String, method: String, subworker: String, tasks: [String]) -> TaskError {
        let has = tasks.isEmpty ? "it has registered none" : "it has \(tasks.joined(separator: ", "))"
        return TaskError(.setup, "unknown task type \"\(type)\": subworker \"\(subworker)\" has no task \"\(method)\"; \(has)")
    }

    static func notHeld(_ replica: Replica, position: Int) -> TaskError {
        TaskError(.setup, "input \(position) (object \(replica.object), generation \(replica.generation)) is not on the worker that was to have it")
    }

    static func noHolder(_ replica: Replica, position: Int) -> TaskError {
        TaskError(.setup, "input \(position) (object \(replica.object)) can't be fetched: nobody is said to have it")
    }

    static func notProduced(_ replica: Replica, position: Int, by attempt: AttemptID) -> TaskError {
        TaskError(.dependency, "input \(position) (object \(replica.object)) was to come from attempt \(attempt), which does not make it")
    }

    static func damaged(_ replica: Replica) -> TaskError {
        TaskError(.setup, "object \(replica.object) was written to by a task that was to read it, so that this worker's copy of it is gone")
    }

    static func damagedUnderWay(_ replica: Replica) -> TaskError {
        TaskError(
            .preempted,
            "object \(replica.object) was written to by another task while this one ran, which must not run again (rerun: never)")
    }

    static func fetchFailed(_ replica: Replica, _ cause: TaskError) -> TaskError {
        // Causes that have rules of their own stay; whatever else keeps an input away is a task that can't be started.
        let kept: TaskError.Cause =
            switch cause.cause {
            case .resource, .workerLost, .outOfMemory: cause.cause
            case .user, .crash, .timeout, .preempted, .setup, .dependency, .contract: .setup
            }
        return TaskError(kept, "object \(replica.object) could not be fetched: \(cause.message)", detail: cause.detail)
    }

    static func producerFailed(_ replica: Replica, _ attempt: AttemptID, _ cause: TaskError) -> TaskError {
        // Along a chain everybody gets the first failure, told once.
        if cause.cause == .dependency { return cause }
        return TaskError(
            .dependency, "object \(replica.object) was never made: attempt \(attempt) failed: \(cause.message)", detail: cause.detail)
    }

    static func producerCancelled(_ replica: Replica, _ attempt: AttemptID) -> TaskError {
        TaskError(.dependency, "object \(replica.object) was never made: attempt \(attempt) was cancelled")
    }

    static func neverRegistered(_ name: String, _ evidence: TaskError, hasEverRegistered: Bool, isOverdue: Bool) -> TaskError {
        var message = evidence.message
        if isOverdue {
            let seconds = WorkerCore.registrationMillisecondsMax / 1000
            message = "subworker \"\(name)\" was ended because it did not register within \(seconds) s: \(message)"
        } else if hasEverRegistered {
            message = "subworker \"\(name)\" ended \(SubworkerPool.failureCountMax) times in a row before it did any work: \(message)"
        }
        return TaskError(
            .setup, message, detail: evidence.detail, debug: evidence.debug, exitCode: evidence.exitCode,
            signal: evidence.signal)
    }
}

/// What code did that its contract forbids.
enum ContractErrors {
    static func outputCount(made: Int, declared: Int) -> TaskError {
        TaskError(.contract, "the task made \(made) output\(made == 1 ? "" : "s") but its template declares \(declared)")
    }

    /// Of what can't become files.
    static func tooLarge(_ message: FinishedAttempt, bytesMax: Int) -> TaskError {
        var attributes = message.attributes.count
        var contentTypes = 0
        var values = 0
        for output in message.outputs {
            attributes += output.attributes.count
            contentTypes += output.contentType.utf8.count
            values += output.inline?.count ?? 0
        }
        return TaskError(
            .contract,
            "what the task gave besides the bytes of its outputs has \(message.estimatedBytes - values) bytes (attributes \(attributes), "
                + "content types \(contentTypes), debug lines \(message.debug.utf8.count), 64 for each of \(message.outputs.count) outputs), "
                + "and must not have more than \(bytesMax): put it into one output")
    }

    static func noSuchInput(_ index: UInt16, output: Int, inputCount: Int) -> TaskError {
        TaskError(.contract, "output \(output) is said to be the same as input \(index), but the task has \(inputCount) input\(inputCount == 1 ? "" : "s")")
    }

    static func wrongKind(output: Int, label: String, isDirectory: Bool, input: UInt16?) -> TaskError {
        let name = "output \(output)\(label.isEmpty ? "" : " ('\(label)')")"
        let source = input.map { ", being the same as input \($0)" } ?? ""
        return TaskError(
            .contract,
            isDirectory
                ? "\(name) is a directory\(source), but its task declares a file" : "\(name) is a file\(source), but its task declares a directory")
    }

    /// The last crash of an attempt, with how each of those before ended and what its log said.
    static func crashed(_ crashes: ContiguousArray<TaskError>, last: TaskError) -> TaskError {
        guard crashes.count > 1 else { return last }
        var error = last
        error.message = "crashed \(crashes.count) times: \(last.message)"
        error.detail = ""
        for (index, crash) in crashes.enumerated() {
            error.detail += "crash \(index + 1) of \(crashes.count): \(crash.message)\n"
            error.detail += crash.detail
            if let last = crash.detail.utf8.last, last != UInt8(ascii: "\n") { error.detail += "\n" }
        }
        return error
    }

    static func endedByAnother(_ attempt: AttemptID, _ evidence: TaskError) -> TaskError {
        TaskError(
            .preempted,
            "attempt \(attempt) had begun and may run only once, but its subworker ended because of another task: \(evidence.message)",
            detail: evidence.detail)
    }
}
