import Link
import ServerCore
import TaskModel

/// The answers of the client plane, as docs/rest-api.md has them.
extension JSONWriter {
    /// `{"key":` … `}` around members.
    mutating func object(_ body: (inout JSONWriter) -> Void) {
        raw("{")
        body(&self)
        raw("}")
    }

    mutating func failure(_ failure: TaskFailure) {
        object { writer in
            writer.key("task")
            writer.integer(failure.task)
            writer.key("name")
            writer.string(failure.name)
            writer.key("type")
            writer.string(failure.type)
            writer.key("origin")
            writer.string(failure.origin)
            writer.key("cause")
            writer.string(failure.error.cause.name)
            writer.key("message")
            writer.string(failure.error.message)
            writer.key("detail")
            writer.string(failure.error.detail)
            writer.key("debug")
            writer.string(failure.error.debug)
            writer.key("exit_code")
            writer.optional(failure.error.exitCode)
            writer.key("signal")
            writer.optional(failure.error.signal)
            writer.key("host")
            writer.string(failure.error.host)
        }
    }

    mutating func optional(_ value: Int32?) { if let value { integer(value) } else { raw("null") } }
    mutating func optional(_ value: TaskFailure?) { if let value { failure(value) } else { raw("null") } }

    mutating func receipt(_ receipt: SubmitReceipt) {
        object { writer in
            writer.key("first_template")
            writer.integer(receipt.firstTemplate)
            writer.key("first_task")
            writer.integer(receipt.firstTask)
            writer.key("first_object")
            writer.integer(receipt.firstObject)
            writer.key("tasks")
            writer.integer(receipt.taskCount)
            writer.key("objects")
            writer.integer(receipt.objectCount)
            writer.key("repeated")
            writer.bool(receipt.isRepeated)
        }
    }

    mutating func session(_ status: SessionStatus) {
        object { writer in
            writer.key("session")
            writer.integer(status.session.rawValue)
            writer.key("name")
            writer.string(status.name)
            writer.key("tasks")
            writer.integer(status.taskCount)
            writer.key("objects")
            writer.integer(status.objectCount)
            writer.key("finished")
            writer.integer(status.finishedCount)
            writer.key("failed")
            writer.integer(status.failedCount)
            writer.key("cancelled")
            writer.integer(status.cancelledCount)
            writer.key("running")
            writer.integer(status.runningCount)
            writer.key("state")
            writer.raw(status.isClosing ? "\"closing\"" : status.isFailed ? "\"failed\"" : "\"open\"")
            writer.key("lease")
            writer.bool(status.hasLease)
            writer.key("detached")
            writer.bool(status.isDetached)
            writer.key("opened")
            writer.integer(status.openedUnixSeconds)
            writer.key("hints")
            writer.array(status.hints) { writer, text in writer.string(text) }
            writer.key("failure")
            writer.optional(status.failure)
        }
    }

    /// - Parameter transfers: what it says of them, as JSON.
    mutating func worker(_ status: WorkerStatus, transfers: [UInt8]? = nil) {
        object { writer in
            writer.key("worker")
            writer.string(status.worker.description)
            writer.key("host")
            writer.string(status.description.hostName)
            writer.key("pid")
            writer.integer(status.description.processID)
            writer.key("cpus")
            writer.integer(status.description.cpus)
            writer.key("running")
            writer.integer(status.runningCount)
            writer.key("queued")
            writer.integer(status.queuedCount)
            writer.key("objects")
            writer.integer(status.objectCount)
            writer.key("subworkers")
            writer.array(status.description.subworkers) { writer, name in writer.string(name) }
            writer.key("store")
            writer.string(status.description.store)
            writer.key("endpoint")
            writer.string(status.description.dataEndpoint.description)
            if let transfers {
                writer.key("transfers")
                writer.raw(transfers)
            }
        }
    }

    mutating func task(_ info: TaskInfo) {
        object { writer in
            writer.key("task")
            writer.integer(info.task)
            writer.key("name")
            writer.string(info.name)
            writer.key("type")
            writer.string(info.type)
            writer.key("state")
            writer.string(info.state.name)
            writer.key("worker")
            writer.string(info.worker)
            writer.key("started")
            if info.startedUnixMicroseconds == 0 { writer.raw("null") } else { writer.decimal(info.startedUnixMicroseconds, decimals: 6) }
            writer.key("duration_s")
            if info.startedUnixMicroseconds == 0 { writer.raw("null") } else { writer.decimal(info.durationNanoseconds, decimals: 9) }
            writer.key("progress")
            if let progress = info.progress { writer.object { $0.progress(progress) } } else { writer.raw("null") }
            writer.key("debug")
            writer.string(info.debug)
            writer.key("attributes")
            writer.raw(info.attributes, otherwise: "{}")
            writer.key("failure")
            writer.optional(info.failure)
        }
    }

    mutating func object(_ info: ObjectInfo) {
        object { writer in
            writer.key("object")
            writer.integer(info.object)
            writer.key("label")
            writer.string(info.label)
            writer.key("state")
            writer.string(info.state.name)
            writer.key("kept")
            writer.bool(info.isKept)
            writer.key("directory")
            writer.bool(info.isDirectory)
            writer.key("content_type")
            writer.string(info.contentType)
            writer.key("size")
            writer.integer(info.sizeBytes)
            writer.key("attributes")
            writer.raw(info.attributes, otherwise: "{}")
        }
    }

    /// Its members.
    private mutating func progress(_ progress: Progress) {
        key("fraction")
        decimal(UInt64(progress.millionths), decimals: 6)
        key("text")
        string(progress.text)
    }

    /// One line of a lease, with its end.
    mutating func line(_ line: LeaseLine) {
        switch line {
        case .finished(let ranges):
            raw("{\"finished\":")
            self.ranges(ranges)
        case .cancelled(let ranges):
            raw("{\"cancelled\":")
            self.ranges(ranges)
        case .failed(_, let failure):
            raw("{\"failed\":")
            self.failure(failure)
        case .sessionFailed(_, let failure):
            raw("{\"session_failed\":")
            self.failure(failure)
        case .progress(let list):
            raw("{\"progress\":")
            array(list) { writer, task in
                writer.object { writer in
                    writer.key("task")
                    writer.integer(task.task)
                    if let progress = task.progress {
                        writer.progress(progress)
                    } else {
                        writer.key("fraction")
                        writer.raw("null")
                    }
                }
            }
        case .hint(let number, let text):
            raw("{\"hint\":")
            object { writer in
                writer.key("number")
                writer.integer(number)
                writer.key("message")
                writer.string(text)
            }
        case .closed(let reason):
            raw("{\"closed\":")
            string(reason)
        }
        raw("}\n")
    }
}

extension TaskError.Cause {
    /// Stable, for programs.
    var name: String {
        switch self {
        case .user: "user"
        case .crash: "crash"
        case .workerLost: "worker_lost"
        case .outOfMemory: "out_of_memory"
        case .timeout: "timeout"
        case .preempted: "preempted"
        case .setup: "setup"
        case .dependency: "dependency"
        case .resource: "resource"
        case .contract: "contract"
        }
    }
}
