import CCapnp
import TaskModel

/// Messages of the subworker plane as bytes, by include/subworker.capnp, in the standard stream framing.
///
/// Holds the buffers that it works in: one serves every subworker of a thread.
package struct SubworkerCodec: ~Copyable {
    private let work = CapnpWork()
    private var bytes = BytesColumn(limit: messageBytesMax)
    private var texts = Column<cc_bytes>()
    private var slots = Column<UInt32>()
    private var replicas = Column<cc_id>()
    private var templates = Column<cs_template>()
    private var templateOutputs = Column<cs_template_output>()
    private var calls = Column<cs_call>()
    private var inputs = Column<cs_input>()

    package init() {}

    /// A subworker that sends a larger message is not worth having.
    package static let messageBytesMax = 64 << 20

    /// Takes every whole message from the front of what was read so far, and appends it to `messages`.
    ///
    /// - Parameter bytes: what the socket gave and was not consumed before; at any alignment.
    /// - Returns: how many bytes were consumed; keep the rest and come again with more behind it.
    /// - Throws: when a message is malformed or over `messageBytesMax`; the connection is of no use any more. The whole
    ///   messages before it are in `messages`.
    package mutating func decode(
        _ bytes: UnsafeRawBufferPointer, into messages: inout [FromSubworker]
    ) throws(WireError) -> Int {
        guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return 0 }
        var position = 0
        while position < bytes.count {
            var consumed = 0
            var message: UnsafePointer<cs_to_worker>?
            try work.check(
                ccapnp_decode_to_worker(work.raw, base + position, bytes.count - position, Self.messageBytesMax, &consumed, &message))
            guard consumed > 0, let message else { break }
            messages.append(FromSubworker(message.pointee))
            position += consumed
        }
        return position
    }

    /// Appends one framed message to `output`.
    ///
    /// - Parameter descriptorCount: how many descriptors travel with its first byte.
    /// - Throws: `tooLarge`; `output` is then as it was.
    package mutating func encode(
        _ message: ToSubworker, descriptorCount: UInt16 = 0, into output: inout [UInt8]
    ) throws(WireError) {
        removeAll()
        var plain = cs_to_subworker()
        plain.descriptor_count = UInt32(descriptorCount)
        fill(&plain, with: message)
        guard bytes.refusedBytes == 0 else {
            throw .tooLarge(sizeBytes: UInt64(bytes.wantedBytes), limitBytes: UInt64(Self.messageBytesMax))
        }
        plain.bytes = bytes.base
        plain.texts = UnsafePointer(texts.base)
        plain.slots = UnsafePointer(slots.base)
        plain.slot_count = slots.count
        plain.replicas = UnsafePointer(replicas.base)
        plain.replica_count = replicas.count
        plain.templates = UnsafePointer(templates.base)
        plain.template_count = templates.count
        plain.template_outputs = UnsafePointer(templateOutputs.base)
        plain.calls = UnsafePointer(calls.base)
        plain.call_count = calls.count
        plain.inputs = UnsafePointer(inputs.base)
        var size = 0
        try work.check(ccapnp_encode_to_subworker(work.raw, &plain, &size))
        guard size <= Self.messageBytesMax else {
            throw .tooLarge(sizeBytes: UInt64(size), limitBytes: UInt64(Self.messageBytesMax))
        }
        work.take(size, into: &output)
    }

    private mutating func removeAll() {
        bytes.removeAll()
        texts.removeAll()
        slots.removeAll()
        replicas.removeAll()
        templates.removeAll()
        templateOutputs.removeAll()
        calls.removeAll()
        inputs.removeAll()
    }

    private mutating func fill(_ plain: inout cs_to_subworker, with message: ToSubworker) {
        switch message {
        case .welcome(let welcome):
            plain.kind = UInt32(CS_WELCOME)
            plain.welcome = cs_welcome(
                worker_name: bytes.add(welcome.workerName), staging_directory: bytes.add(welcome.stagingDirectory),
                credit_bytes: welcome.creditBytes, inline_bytes_max: welcome.inlineBytesMax, protocol_version: UInt32(welcome.protocolVersion),
                takes_progress: welcome.takesProgress ? 1 : 0, log_level: welcome.logLevel)
        case .refused(let reason):
            plain.kind = UInt32(CS_REFUSED)
            plain.refusal = bytes.add(reason)
        case .templates(let list):
            plain.kind = UInt32(CS_TEMPLATES)
            for template in list { add(template) }
        case .calls(let list):
            plain.kind = UInt32(CS_CALLS)
            for call in list { add(call) }
        case .dropCached(let list):
            plain.kind = UInt32(CS_DROP_CACHED)
            for replica in list { replicas.append(cc_id(replica)) }
        case .cancel(let list):
            plain.kind = UInt32(CS_CANCEL)
            for slot in list { slots.append(UInt32(slot)) }
        case .ping(let number):
            plain.kind = UInt32(CS_PING)
            plain.ping = number
        case .shutdown: plain.kind = UInt32(CS_SHUTDOWN)
        case .granted(let file, let directory):
            plain.kind = UInt32(CS_GRANTED)
            plain.granted = cs_granted(text: bytes.add(directory), id: file, is_refused: 0)
        case .notGranted(let file, let reason):
            plain.kind = UInt32(CS_GRANTED)
            plain.granted = cs_granted(text: bytes.add(reason), id: file, is_refused: 1)
        }
    }

    private mutating func add(_ template: SubworkerTemplate) {
        let firstText = texts.count
        for label in template.inputLabels { texts.append(bytes.add(label)) }
        let firstOutput = templateOutputs.count
        for output in template.outputs {
            templateOutputs.append(
                cs_template_output(
                    label: bytes.add(output.label), content_type: bytes.add(output.contentType), is_directory: output.isDirectory ? 1 : 0))
        }
        templates.append(
            cs_template(
                id: template.id, constant_count: UInt32(template.constantCount), method: bytes.add(template.method),
                name: bytes.add(template.name), config: bytes.add(template.config), attributes: bytes.add(template.attributes),
                input_labels: cc_range(from: firstText, to: texts.count), outputs: cc_range(from: firstOutput, to: templateOutputs.count)))
    }

    private mutating func add(_ call: SubworkerCall) {
        let firstInput = inputs.count
        for input in call.inputs { add(input) }
        calls.append(
            cs_call(
                attempt: cc_id(call.attempt), slot: UInt32(call.slot), template_id: call.template, array_index: call.arrayIndex,
                ticket: call.ticket, arguments: bytes.add(call.arguments), inputs: cc_range(from: firstInput, to: inputs.count)))
    }

    private mutating func add(_ input: SubworkerInput) {
        var plain = cs_input()
        plain.replica = cc_id(input.replica)
        plain.size_bytes = input.sizeBytes
        plain.content_type = bytes.add(input.contentType)
        plain.attributes = bytes.add(input.attributes)
        plain.is_directory = input.isDirectory ? 1 : 0
        plain.is_kept = input.isKept ? 1 : 0
        switch input.location {
        case .inline(let value):
            plain.kind = UInt16(CS_INPUT_INLINE)
            plain.value = bytes.add(value)
        case .descriptor(let position):
            plain.kind = UInt16(CS_INPUT_DESCRIPTOR)
            plain.descriptor = position
        case .path(let path):
            plain.kind = UInt16(CS_INPUT_PATH)
            plain.value = bytes.add(path)
        case .cached: plain.kind = UInt16(CS_INPUT_CACHED)
        }
        inputs.append(plain)
    }
}

extension FromSubworker {
    fileprivate init(_ message: cs_to_worker) {
        let bytes = BytesReader(base: message.bytes)
        switch Int(message.kind) {
        case CS_REGISTER:
            var registration = SubworkerRegistration(
                protocolVersion: message.registration.protocol_version, name: bytes.text(message.registration.name))
            registration.takesDescriptors = message.registration.takes_descriptors != 0
            registration.hasControlPage = message.registration.has_control_page != 0
            registration.threads = max(message.registration.threads, 1)
            registration.hasCaching = message.registration.has_caching != 0
            registration.library = bytes.text(message.registration.library)
            registration.tasks = cc_range(from: 0, to: message.task_count).map(message.tasks) { task in
                SubworkerTask(
                    name: bytes.text(task.pointee.name), documentation: bytes.text(task.pointee.documentation),
                    inputs: task.pointee.inputs.map(message.texts) { bytes.text($0.pointee) },
                    outputs: task.pointee.outputs.map(message.texts) { bytes.text($0.pointee) })
            }
            self = .register(registration)
        case CS_RESULTS:
            self = .results(
                cc_range(from: 0, to: message.result_count).map(message.results) {
                    SubworkerResult($0.pointee, outputs: message.outputs, bytes)
                })
        case CS_RESERVE:
            self = .reserve(SubworkerReserve(slot: message.reserve.slot, file: message.reserve.id, sizeBytes: message.reserve.size_bytes))
        case CS_PROGRESS:
            self = .progress(
                cc_range(from: 0, to: message.progress_count).map(message.progress) { each in
                    SubworkerProgress(
                        slot: each.pointee.slot, progress: Progress(millionths: each.pointee.millionths, text: bytes.text(each.pointee.text)))
                })
        default: self = .pong(message.pong)
        }
    }
}

extension SubworkerResult {
    fileprivate init(_ result: cs_result, outputs: UnsafePointer<cs_output>?, _ bytes: BytesReader) {
        let value: Value
        switch Int(result.kind) {
        case CS_OUTPUTS: value = .outputs(result.outputs.map(outputs) { SubworkerOutput($0.pointee, bytes) })
        case CS_ERROR: value = .failed(message: bytes.text(result.message), detail: bytes.text(result.detail))
        default: value = .cancelled
        }
        self.init(
            slot: result.slot, durationNanoseconds: result.duration_nanoseconds, debug: Self.debug(result.debug, bytes),
            attributes: bytes.data(result.attributes), value: value)
    }

    /// What is too much is cut at the end of a line where there is one.
    private static func debug(_ part: cc_bytes, _ bytes: BytesReader) -> String {
        guard part.length > debugBytesMax else { return bytes.text(part) }
        let newline = UInt8(ascii: "\n")
        let kept = bytes.data(cc_bytes(offset: part.offset, length: UInt32(debugBytesMax)))
        let end = kept.lastIndex(of: newline).map { $0 + 1 } ?? kept.count
        return String(decoding: kept[..<end], as: UTF8.self) + "(more debug lines than 1 MiB: the rest is left out)\n"
    }
}

extension SubworkerOutput {
    fileprivate init(_ output: cs_output, _ bytes: BytesReader) {
        let value: Value
        switch Int(output.kind) {
        case CS_OUTPUT_INLINE: value = .inline(bytes.data(output.value))
        case CS_OUTPUT_PATH: value = .path(bytes.text(output.value))
        default: value = .sameAsInput(output.input)
        }
        self.init(
            contentType: bytes.text(output.content_type), attributes: bytes.data(output.attributes), isDirectory: output.is_directory != 0,
            value: value)
    }
}
