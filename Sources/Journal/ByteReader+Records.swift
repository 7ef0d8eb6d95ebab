import Link
import ServerCore
import TaskModel
import Wire

/// The counterpart of `ByteWriter+Records`: what was written there is read here, in the same order.
extension ByteReader {
    mutating func sessionID() throws(WireError) -> SessionID { SessionID(try varint32()) }
    mutating func workerID() throws(WireError) -> WorkerID { WorkerID(try varint32()) }

    mutating func attempt() throws(WireError) -> AttemptID {
        let task = TaskID(session: try sessionID(), index: try varint32())
        return AttemptID(task: task, epoch: ServerEpoch(try varint32()), number: try varint32())
    }

    mutating func ranges() throws(WireError) -> [Range<UInt32>] {
        try list(elementBytes: 2) { (reader) throws(WireError) in
            let first = try reader.varint32()
            let (end, overflow) = first.addingReportingOverflow(try reader.varint32())
            if overflow { throw .malformed("a range beyond 32 bits") }
            return first..<end
        }
    }

    private mutating func strings() throws(WireError) -> [String] {
        try list { (reader) throws(WireError) in try reader.string() }
    }

    private mutating func choice<Choice: RawRepresentable>(_: Choice.Type) throws(WireError) -> Choice where Choice.RawValue == UInt8 {
        let number = try uint8()
        guard let choice = Choice(rawValue: number) else { throw .malformed("\(number) is no \(Choice.self)") }
        return choice
    }

    mutating func sessionOptions() throws(WireError) -> SessionOptions {
        var options = SessionOptions(name: try string())
        options.onError = try choice(OnError.self)
        options.graceMilliseconds = try varint32()
        options.isDetached = try bool()
        options.subworkers = try list(elementBytes: 3) { (reader) throws(WireError) in
            SubworkerCommand(name: try reader.string(), arguments: try reader.strings(), environment: try reader.strings())
        }
        options.resumeToken = try string()
        options.openedUnixSeconds = try varint()
        return options
    }

    mutating func workerDescription() throws(WireError) -> WorkerDescription {
        let (hostName, processID, cpus) = (try string(), try varint32(), try varint32())
        let endpoint = Endpoint(host: try string(), port: try uint16())
        return WorkerDescription(
            hostName: hostName, processID: processID, cpus: cpus, dataEndpoint: endpoint, store: try string(), subworkers: try strings())
    }

    mutating func submitReceipt() throws(WireError) -> SubmitReceipt {
        SubmitReceipt(
            firstTemplate: try varint32(), firstTask: try varint32(), firstObject: try varint32(), taskCount: try varint32(),
            objectCount: try varint32(), isRepeated: try bool())
    }

    private mutating func optionalIndex() throws(WireError) -> UInt32? {
        try optional { (reader) throws(WireError) in try reader.varint32() }
    }

    mutating func submit() throws(WireError) -> Submit {
        var submit = Submit()
        submit.firstTemplate = try optionalIndex()
        submit.firstTask = try optionalIndex()
        submit.firstObject = try optionalIndex()
        submit.hashLow = try uint64()
        submit.hashHigh = try uint64()
        submit.templates = try list(elementBytes: 11) { (reader) throws(WireError) in try reader.template() }
        submit.uploads = try list(elementBytes: 8) { (reader) throws(WireError) in try reader.upload() }
        submit.subworkers = try list(elementBytes: 5) { (reader) throws(WireError) in try reader.subworker() }
        submit.rows = try rows()
        return submit
    }

    private mutating func subworker() throws(WireError) -> DeclaredSubworker {
        DeclaredSubworker(
            name: try string(),
            program: SubworkerProgram(object: try varint32(), path: try string(), arguments: try strings(), environment: try strings()))
    }

    private mutating func template() throws(WireError) -> TaskTemplate {
        var template = TaskTemplate(type: try string())
        template.name = try string()
        template.config = try data()
        template.inputLabels = try strings()
        template.constants = try list { (reader) throws(WireError) in try reader.varint32() }
        template.outputs = try list(elementBytes: 4) { (reader) throws(WireError) in
            OutputSpec(
                label: try reader.string(), contentType: try reader.string(), isDirectory: try reader.bool(), isKept: try reader.bool())
        }
        template.resources = Resources(cpus: try varint32())
        template.rerun = try choice(RerunPolicy.self)
        template.retryCountMax = try varint32()
        template.threads = try varint32()
        template.origin = try string()
        template.attributes = try data()
        return template
    }

    private mutating func upload() throws(WireError) -> Submit.Upload {
        var upload = Submit.Upload(offset: try varint32(), value: .inline([]))
        upload.label = try string()
        upload.contentType = try string()
        upload.isDirectory = try bool()
        upload.isKept = try bool()
        upload.attributes = try data()
        if try bool() {
            upload.value = .inline(try data())
        } else {
            guard let hash = BlobHash(bytes: try raw(32)) else { throw .malformed("a blob's hash") }
            upload.value = .blob(hash, sizeBytes: try varint())
        }
        return upload
    }

    private mutating func rows() throws(WireError) -> Submit.Rows {
        var rows = Submit.Rows()
        rows.template = try uint32s()
        rows.count = try uint32s()
        rows.firstOutputOffset = try uint32s()
        rows.inputEnd = try uint32s()
        rows.inputs = try uint32s()
        rows.argumentsEnd = try uint64s()
        rows.arguments = try data()
        rows.options = try list(elementBytes: 3) { (reader) throws(WireError) in
            let row = try reader.varint32()
            let name = try reader.string()
            let keep = try reader.list(elementBytes: 2) { (reader) throws(WireError) in try reader.uint16() }
            return (row: row, options: Submit.RowOptions(name: name, keep: keep))
        }
        return rows
    }

    mutating func finishedAttempt() throws(WireError) -> FinishedAttempt {
        let outputs = try list(elementBytes: 5) { (reader) throws(WireError) in
            FinishedOutput(
                sizeBytes: try reader.varint(), contentType: try reader.string(), isDirectory: try reader.bool(),
                inline: try reader.optional { (reader) throws(WireError) in try reader.data() }, attributes: try reader.data())
        }
        return FinishedAttempt(
            outputs: outputs, startedUnixMicroseconds: try varint(), durationNanoseconds: try varint(), debug: try string(),
            attributes: try data())
    }

    mutating func taskError() throws(WireError) -> TaskError {
        let cause = try choice(TaskError.Cause.self)
        var error = TaskError(cause, try string(), detail: try string(), debug: try string())
        error.exitCode = try optional { (reader) throws(WireError) in try reader.int32() }
        error.signal = try optional { (reader) throws(WireError) in try reader.int32() }
        error.host = try string()
        return error
    }
}
