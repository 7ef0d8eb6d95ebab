import CXXHash
import Glibc
import ServerCore
import TaskModel

/// Turns the NDJSON body of a submit into columns, chunk by chunk as it arrives; only a line that is cut by the end of a chunk is copied.
///
/// Budget: a row ≤ 0.2 µs in release. So a row never becomes a tree or a string, and the JSON text of its arguments is copied once.
struct SubmitScanner: ~Copyable {
    /// A line is held in memory as a whole; the body isn't, and has no limit.
    static let lineBytesMax = 64 << 20
    /// A wrong digit in a `count` shall be an error, not a server without memory.
    static let arrayTasksMax: UInt64 = 10_000_000
    static let cpusMax: UInt64 = 65_535
    static let retriesMax: UInt64 = 1_000_000
    /// A worker gives a process no more calls.
    static let threadsMax: UInt64 = 64
    static let templateOutputsMax = 65_535

    /// What came out of a body.
    struct Result {
        var submit: Submit
        /// Number of outputs of each template of this submit.
        var outputCounts: ContiguousArray<UInt32>
    }

    private var submit = Submit()
    private var outputCounts: ContiguousArray<UInt32>
    private let earlierTemplates: Int
    private var firstTemplate: Int
    private var hasSubmitLine = false
    private var taskCount: UInt32 = 0
    private var objectCount: UInt32 = 0
    private var carry: [UInt8] = []
    private var lineNumber = 0
    private let hash = BodyHash()
    private let blobSize: (BlobHash) -> UInt64?

    /// - Parameters:
    ///   - earlierOutputCounts: number of outputs of each template that the session has already.
    ///   - blobSize: the size of a blob in the depot, `nil` when it isn't there.
    init(earlierOutputCounts: ContiguousArray<UInt32>, blobSize: @escaping (BlobHash) -> UInt64?) {
        outputCounts = earlierOutputCounts
        earlierTemplates = earlierOutputCounts.count
        firstTemplate = earlierOutputCounts.count
        self.blobSize = blobSize
    }

    // MARK: Lines

    /// Takes the next bytes of the body.
    mutating func consume(_ bytes: Span<UInt8>) throws(RequestError) {
        hash.update(bytes)
        var start = 0
        while let end = newline(bytes, from: start) {
            if carry.isEmpty {
                try scanLine(bytes.extracting(start..<end))
            } else {
                try keep(bytes.extracting(start..<end))
                try scanCarry()
            }
            start = end + 1
        }
        if start < bytes.count { try keep(bytes.extracting(start..<bytes.count)) }
    }

    /// The body has ended.
    mutating func finish() throws(RequestError) -> Result {
        if !carry.isEmpty { try scanCarry() }
        let digest = hash.digest()
        submit.hashLow = digest.low
        submit.hashHigh = digest.high
        // Ids of templates were resolved against those that the session had: the core must take them there or refuse.
        if !hasSubmitLine && !submit.templates.isEmpty { submit.firstTemplate = UInt32(truncatingIfNeeded: firstTemplate) }
        try checkIDs(submit.firstTemplate, count: submit.templates.count, of: "template")
        try checkIDs(submit.firstTask, count: Int(taskCount), of: "task")
        try checkIDs(submit.firstObject, count: Int(objectCount), of: "object")
        return Result(submit: submit, outputCounts: ContiguousArray(outputCounts[firstTemplate...]))
    }

    private func checkIDs(_ first: UInt32?, count: Int, of kind: String) throws(RequestError) {
        if let first, UInt64(first) + UInt64(count) > UInt64(UInt32.max) {
            throw RequestError(.badSubmit, "\(count) \(kind)s from \(first) on are more than ids can count")
        }
    }

    private func newline(_ bytes: Span<UInt8>, from start: Int) -> Int? {
        guard start < bytes.count else { return nil }
        return bytes.withUnsafeBufferPointer { buffer in
            // Not empty, so there is a base address.
            let base = UnsafeRawPointer(buffer.baseAddress!)
            guard let found = memchr(base + start, 0x0A, buffer.count - start) else { return nil }
            return UnsafeRawPointer(found) - base
        }
    }

    private mutating func keep(_ part: Span<UInt8>) throws(RequestError) {
        guard carry.count + part.count <= Self.lineBytesMax else {
            throw RequestError(
                .tooLarge, "line \(lineNumber + 1) is longer than \(Self.lineBytesMax >> 20) MiB: put large values into blobs")
        }
        part.withUnsafeBufferPointer { carry.append(contentsOf: $0) }
    }

    private mutating func scanCarry() throws(RequestError) {
        // Moved out for the call: a line can't be read from `self` while `self` takes what it says.
        var line: [UInt8] = []
        swap(&line, &carry)
        try scanLine(line.span)
        line.removeAll(keepingCapacity: line.count <= 1 << 20)
        swap(&line, &carry)
    }

    private mutating func scanLine(_ text: Span<UInt8>) throws(RequestError) {
        lineNumber += 1
        do throws(JSONError) {
            var cursor = JSONCursor()
            switch cursor.peek(text) {
            case UInt8(ascii: "["): try scanRow(&cursor, text)
            case UInt8(ascii: "{"): try scanObject(&cursor, text)
            case nil: return
            default:
                throw cursor.error(
                    "a line must be a row [template, [inputs], arguments] or one of {\"submit\"}, {\"object\"}, {\"subworker\"}, {\"template\"}")
            }
            try cursor.expectEnd(text)
        } catch {
            throw RequestError(.badSubmit, "line \(lineNumber), column \(error.offset + 1): \(error.what)")
        }
    }

    // MARK: Rows

    @inline(__always)
    private mutating func scanRow(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) {
        try cursor.expect(UInt8(ascii: "["), text)
        let template = try cursor.integer(text)
        guard template < outputCounts.count else { throw unknownTemplate(cursor, template) }
        try cursor.expect(UInt8(ascii: ","), text)
        try cursor.elements(text) { (cursor, text) throws(JSONError) in submit.rows.inputs.append(try object(&cursor, text)) }
        try cursor.expect(UInt8(ascii: ","), text)
        let arguments = try cursor.skipValue(text)
        var count: UInt64 = 1
        if cursor.take(UInt8(ascii: ","), text) { count = try scanOptions(&cursor, text, outputCount: outputCounts[Int(template)]) }
        try cursor.expect(UInt8(ascii: "]"), text)

        submit.rows.template.append(UInt32(template))
        submit.rows.count.append(UInt32(count))
        submit.rows.firstOutputOffset.append(objectCount)
        // Each line takes at least two bytes for an input, so a 32-bit count of inputs would need a body of 8 GiB.
        guard let inputEnd = UInt32(exactly: submit.rows.inputs.count) else { throw cursor.error("more than 2^32 inputs in one submit") }
        submit.rows.inputEnd.append(inputEnd)
        text.extracting(arguments).withUnsafeBufferPointer { submit.rows.arguments.append(contentsOf: $0) }
        submit.rows.argumentsEnd.append(UInt64(submit.rows.arguments.count))
        try add(tasks: count, objects: count * UInt64(outputCounts[Int(template)]), cursor)
    }

    /// `count` ≤ 10^7 and outputs ≤ 65,535, so the products fit.
    @inline(__always)
    private mutating func add(tasks: UInt64, objects: UInt64, _ cursor: borrowing JSONCursor) throws(JSONError) {
        let (taskSum, objectSum) = (UInt64(taskCount) + tasks, UInt64(objectCount) + objects)
        guard taskSum < UInt64(UInt32.max), objectSum < UInt64(UInt32.max) else {
            throw cursor.error("more tasks or objects than ids can count: split the submit over sessions")
        }
        taskCount = UInt32(taskSum)
        objectCount = UInt32(objectSum)
    }

    /// The index of an object, made by an earlier line as far as that can be known here; the core knows the rest.
    @inline(__always)
    private func object(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> UInt32 {
        let index = try cursor.integer(text)
        if let first = submit.firstObject, index >= UInt64(first) + UInt64(objectCount) {
            throw cursor.error("object \(index) is not made by an earlier line; the next one is \(UInt64(first) + UInt64(objectCount))")
        }
        return UInt32(index)
    }

    private func unknownTemplate(_ cursor: JSONCursor, _ template: UInt64) -> JSONError {
        cursor.error("there is no template \(template): " + (outputCounts.isEmpty ? "there is none yet" : "the last one is \(outputCounts.count - 1)"))
    }

    private mutating func scanOptions(
        _ cursor: inout JSONCursor, _ text: Span<UInt8>, outputCount: UInt32
    ) throws(JSONError) -> UInt64 {
        var count: UInt64 = 1
        var options = Submit.RowOptions()
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "name": options.name = try cursor.string(text)
            case "count":
                count = try cursor.integer(text, max: Self.arrayTasksMax)
                if count == 0 { throw cursor.error("a task array has at least one task") }
            case "keep":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in
                    let position = try cursor.integer(text)
                    guard position < outputCount else { throw cursor.error("no output \(position): the template has \(outputCount)") }
                    options.keep.append(UInt16(position))
                }
            default: throw cursor.unknownKey(key, known: "name, keep and count")
            }
        }
        if options != Submit.RowOptions() { submit.rows.options.append((UInt32(submit.rows.rowCount), options)) }
        return count
    }

    // MARK: Submit, object, subworker and template lines

    private mutating func scanObject(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) {
        var keyCount = 0
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            keyCount += 1
            if keyCount > 1 { throw cursor.error("a line has one key: submit, object, subworker or template") }
            switch key {
            case "submit": try scanSubmitLine(&cursor, text)
            case "object": try scanUpload(&cursor, text)
            case "subworker": try scanSubworker(&cursor, text)
            case "template": try scanTemplate(&cursor, text)
            default: throw cursor.unknownKey(key, known: "submit, object, subworker and template")
            }
        }
        if keyCount == 0 { throw cursor.error("an empty object; a line has one key: submit, object, subworker or template") }
    }

    private mutating func scanSubmitLine(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) {
        guard !hasSubmitLine, submit.templates.isEmpty, submit.subworkers.isEmpty, objectCount == 0, taskCount == 0 else {
            throw cursor.error("the submit line must be the first, and the only one")
        }
        hasSubmitLine = true
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "first_template": submit.firstTemplate = try cursor.uint32(text)
            case "first_task": submit.firstTask = try cursor.uint32(text)
            case "first_object": submit.firstObject = try cursor.uint32(text)
            default: throw cursor.unknownKey(key, known: "first_template, first_task and first_object")
            }
        }
        guard let template = submit.firstTemplate, submit.firstTask != nil, submit.firstObject != nil else {
            throw cursor.error("the submit line gives all of first_template, first_task and first_object, or is left out")
        }
        guard template <= earlierTemplates else {
            throw cursor.error("first_template is \(template), but the next free one is \(earlierTemplates)")
        }
        firstTemplate = Int(template)
        outputCounts.removeSubrange(firstTemplate...)
    }

    private mutating func scanUpload(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) {
        var upload = Submit.Upload(offset: objectCount, value: .inline([]))
        var valueCount = 0
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "data":
                upload.value = .inline(try inlineValue(Array(try cursor.string(text).utf8), cursor))
                valueCount += 1
            case "data64":
                guard let bytes = decodeBase64(try cursor.string(text)) else { throw cursor.error("data64 is not base64 (RFC 4648, padded)") }
                upload.value = .inline(try inlineValue(bytes, cursor))
                valueCount += 1
            case "blob":
                guard let hash = BlobHash(hex: try cursor.string(text)) else { throw cursor.error("a blob is named by 64 hexadecimal digits") }
                guard let size = blobSize(hash) else { throw cursor.error("the blob \(hash) is not here: PUT it to /api/v1/blobs/\(hash) first") }
                upload.value = .blob(hash, sizeBytes: size)
                valueCount += 1
            case "label": upload.label = try cursor.string(text)
            case "content_type": upload.contentType = try contentType(&cursor, text)
            case "directory": upload.isDirectory = try cursor.bool(text)
            case "keep": upload.isKept = try cursor.bool(text)
            case "attributes": upload.attributes = try objectText(&cursor, text)
            default: throw cursor.unknownKey(key, known: "data, data64, blob, label, content_type, keep, directory and attributes")
            }
        }
        guard valueCount == 1 else { throw cursor.error("an object has one of data, data64 and blob, not \(valueCount)") }
        if upload.isDirectory, case .inline = upload.value {
            throw cursor.error("a directory is a blob: PUT its tar stream to /api/v1/blobs and name it")
        }
        submit.uploads.append(upload)
        try add(tasks: 0, objects: 1, cursor)
    }

    private func inlineValue(_ bytes: [UInt8], _ cursor: borrowing JSONCursor) throws(JSONError) -> [UInt8] {
        guard bytes.count <= ControlLimits.inlineBytesMax else {
            throw cursor.error("\(bytes.count) bytes of data are more than \(ControlLimits.inlineBytesMax): PUT them to /api/v1/blobs and name the blob")
        }
        return bytes
    }

    private mutating func scanSubworker(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) {
        var name: String?
        var object: UInt32?
        var program = SubworkerProgram(object: 0)
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "name": name = try cursor.string(text)
            case "program": object = try self.object(&cursor, text)
            case "path": program.path = try cursor.string(text)
            case "arguments":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in program.arguments.append(try cursor.string(text)) }
            case "env": try cursor.elements(text) { (cursor, text) throws(JSONError) in program.environment.append(try cursor.string(text)) }
            default: throw cursor.unknownKey(key, known: "name, program, path, arguments and env")
            }
        }
        guard let name, let object else { throw cursor.error("a subworker has a name, and as its program an object that an earlier line made") }
        program.object = object
        submit.subworkers.append(DeclaredSubworker(name: name, program: program))
    }

    private mutating func scanTemplate(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) {
        guard submit.templates.count < Int(UInt32.max) - firstTemplate else { throw cursor.error("more templates than ids can count") }
        var template = TaskTemplate(type: "")
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "type": template.type = try cursor.string(text)
            case "name": template.name = try cursor.string(text)
            case "config": template.config = Self.bytes(text, try cursor.skipValue(text))
            case "inputs":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in template.inputLabels.append(try cursor.string(text)) }
            case "constants":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in template.constants.append(try object(&cursor, text)) }
            case "outputs":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in template.outputs.append(try Self.output(&cursor, text)) }
            case "cpus": template.resources.cpus = UInt32(try cursor.integer(text, max: Self.cpusMax))
            case "rerun": template.rerun = try Self.rerun(&cursor, text)
            case "retries": template.retryCountMax = UInt32(try cursor.integer(text, max: Self.retriesMax))
            case "threads": template.threads = UInt32(try cursor.integer(text, max: Self.threadsMax))
            case "origin": template.origin = try cursor.string(text)
            case "attributes": template.attributes = try objectText(&cursor, text)
            default:
                throw cursor.unknownKey(
                    key, known: "type, name, config, inputs, constants, outputs, cpus, rerun, retries, threads, origin and attributes")
            }
        }
        guard !template.runner.isEmpty, !template.method.isEmpty else {
            throw cursor.error("a template's type is RUNNER/METHOD, such as builtin/concat, not \"\(template.type.prefix(64))\"")
        }
        guard template.outputs.count <= Self.templateOutputsMax else {
            throw cursor.error("\(template.outputs.count) outputs are more than \(Self.templateOutputsMax): give a directory, or fewer that hold more")
        }
        submit.templates.append(template)
        outputCounts.append(UInt32(template.outputs.count))
    }

    private static func output(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> OutputSpec {
        if cursor.peek(text) == UInt8(ascii: "\"") { return OutputSpec(label: try cursor.string(text)) }
        var output = OutputSpec(label: "")
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "label": output.label = try cursor.string(text)
            case "content_type": output.contentType = try contentType(&cursor, text)
            case "directory": output.isDirectory = try cursor.bool(text)
            case "keep": output.isKept = try cursor.bool(text)
            default: throw cursor.unknownKey(key, known: "label, content_type, directory and keep")
            }
        }
        return output
    }

    private static func rerun(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> RerunPolicy {
        switch try cursor.string(text) {
        case "on_loss": .onLoss
        case "always": .always
        case "never": .never
        default: throw cursor.error("rerun is one of \"on_loss\", \"always\" and \"never\"")
        }
    }

    private static func bytes(_ text: Span<UInt8>, _ range: Range<Int>) -> [UInt8] {
        text.extracting(range).withUnsafeBufferPointer { Array($0) }
    }
}

/// A content type has at most 65,535 bytes: its length travels as a u16.
func contentType(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> String {
    let type = try cursor.string(text)
    guard type.utf8.count <= 65_535 else { throw cursor.error("a content type of \(type.utf8.count) bytes") }
    return type
}

/// The JSON text of an object, kept as it is.
func objectText(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> [UInt8] {
    guard cursor.peek(text) == UInt8(ascii: "{") else { throw cursor.error("attributes are an object") }
    return text.extracting(try cursor.skipValue(text)).withUnsafeBufferPointer { Array($0) }
}

/// XXH3-128 of a stream of bytes.
struct BodyHash: ~Copyable {
    private let state: OpaquePointer

    init() {
        guard let state = XXH3_createState() else { fatalError("out of memory") }
        self.state = state
        XXH3_128bits_reset(state)
    }

    func update(_ bytes: Span<UInt8>) {
        bytes.withUnsafeBufferPointer { _ = XXH3_128bits_update(state, $0.baseAddress, $0.count) }
    }

    func digest() -> (low: UInt64, high: UInt64) {
        let digest = XXH3_128bits_digest(state)
        return (digest.low64, digest.high64)
    }

    deinit { XXH3_freeState(state) }
}
