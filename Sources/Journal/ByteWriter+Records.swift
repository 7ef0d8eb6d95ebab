import Link
import ServerCore
import TaskModel
import Wire

extension ByteWriter {
    mutating func encode(_ attempt: AttemptID) {
        varint(attempt.task.session.rawValue)
        varint(attempt.task.index)
        varint(attempt.epoch.rawValue)
        varint(attempt.number)
    }

    /// As first and count, so that an empty range keeps its place.
    mutating func encode(_ ranges: [Range<UInt32>]) {
        list(ranges) { writer, range in
            writer.varint(range.lowerBound)
            writer.varint(range.upperBound - range.lowerBound)
        }
    }

    mutating func encode(_ options: SessionOptions) {
        string(options.name)
        uint8(options.onError.rawValue)
        varint(options.graceMilliseconds)
        bool(options.isDetached)
        list(options.subworkers) { writer, subworker in
            writer.string(subworker.name)
            writer.list(subworker.arguments) { $0.string($1) }
            writer.list(subworker.environment) { $0.string($1) }
        }
        string(options.resumeToken)
        varint(options.openedUnixSeconds)
    }

    mutating func encode(_ description: WorkerDescription) {
        string(description.hostName)
        varint(description.processID)
        varint(description.cpus)
        string(description.dataEndpoint.host)
        uint16(description.dataEndpoint.port)
        string(description.store)
        list(description.subworkers) { $0.string($1) }
    }

    mutating func encode(_ receipt: SubmitReceipt) {
        varint(receipt.firstTemplate)
        varint(receipt.firstTask)
        varint(receipt.firstObject)
        varint(receipt.taskCount)
        varint(receipt.objectCount)
        bool(receipt.isRepeated)
    }

    mutating func encode(_ submit: Submit) {
        optional(submit.firstTemplate) { $0.varint($1) }
        optional(submit.firstTask) { $0.varint($1) }
        optional(submit.firstObject) { $0.varint($1) }
        uint64(submit.hashLow)
        uint64(submit.hashHigh)
        list(submit.templates) { $0.encode($1) }
        list(submit.uploads) { $0.encode($1) }
        list(submit.subworkers) { $0.encode($1) }
        encode(submit.rows)
    }

    private mutating func encode(_ subworker: DeclaredSubworker) {
        string(subworker.name)
        varint(subworker.program.object)
        string(subworker.program.path)
        list(subworker.program.arguments) { $0.string($1) }
        list(subworker.program.environment) { $0.string($1) }
    }

    private mutating func encode(_ template: TaskTemplate) {
        string(template.type)
        string(template.name)
        data(template.config)
        list(template.inputLabels) { $0.string($1) }
        list(template.constants) { $0.varint($1) }
        list(template.outputs) { writer, output in
            writer.string(output.label)
            writer.string(output.contentType)
            writer.bool(output.isDirectory)
            writer.bool(output.isKept)
        }
        varint(template.resources.cpus)
        uint8(template.rerun.rawValue)
        varint(template.retryCountMax)
        varint(template.threads)
        string(template.origin)
        data(template.attributes)
    }

    private mutating func encode(_ upload: Submit.Upload) {
        varint(upload.offset)
        string(upload.label)
        string(upload.contentType)
        bool(upload.isDirectory)
        bool(upload.isKept)
        data(upload.attributes)
        switch upload.value {
        case .inline(let bytes):
            bool(true)
            data(bytes)
        case .blob(let hash, let sizeBytes):
            bool(false)
            raw(hash.bytes)
            varint(sizeBytes)
        }
    }

    private mutating func encode(_ rows: Submit.Rows) {
        uint32s(rows.template)
        uint32s(rows.count)
        uint32s(rows.firstOutputOffset)
        uint32s(rows.inputEnd)
        uint32s(rows.inputs)
        uint64s(rows.argumentsEnd)
        data(rows.arguments)
        list(rows.options) { writer, option in
            writer.varint(option.row)
            writer.string(option.options.name)
            writer.list(option.options.keep) { $0.uint16($1) }
        }
    }

    mutating func encode(_ finished: FinishedAttempt) {
        list(finished.outputs) { writer, output in
            writer.varint(output.sizeBytes)
            writer.string(output.contentType)
            writer.bool(output.isDirectory)
            writer.optional(output.inline) { $0.data($1) }
            writer.data(output.attributes)
        }
        varint(finished.startedUnixMicroseconds)
        varint(finished.durationNanoseconds)
        string(finished.debug)
        data(finished.attributes)
    }

    mutating func encode(_ error: TaskError) {
        uint8(error.cause.rawValue)
        string(error.message)
        string(error.detail)
        string(error.debug)
        optional(error.exitCode) { $0.int32($1) }
        optional(error.signal) { $0.int32($1) }
        string(error.host)
    }
}
