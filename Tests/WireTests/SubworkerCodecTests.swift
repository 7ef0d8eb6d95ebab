import CCapnp
import TaskModel
import Testing
import Wire

struct SubworkerCodecTests {
    private func decode(_ bytes: [UInt8]) throws -> (messages: [FromSubworker], consumed: Int) {
        var codec = SubworkerCodec()
        var messages: [FromSubworker] = []
        let consumed = try decodeAll(bytes, &codec, &messages)
        return (messages, consumed)
    }
    private func decodeAll(_ bytes: [UInt8], _ codec: inout SubworkerCodec, _ messages: inout [FromSubworker]) throws -> Int {
        let result: Result<Int, WireError> = bytes.withUnsafeBytes { buffer in
            do throws(WireError) { return .success(try codec.decode(buffer, into: &messages)) } catch { return .failure(error) }
        }
        return try result.get()
    }
    private func fromTool(_ text: String, segmentSizeWords: Int? = nil) throws -> [UInt8] {
        try CapnpTool.encode(text, schema: CapnpTool.subworker, type: "ToWorker", segmentSizeWords: segmentSizeWords)
    }
    private func asText(_ message: ToSubworker, descriptorCount: UInt16 = 0) throws -> String {
        var codec = SubworkerCodec()
        var bytes: [UInt8] = []
        try codec.encode(message, descriptorCount: descriptorCount, into: &bytes)
        return try CapnpTool.decode(bytes, schema: CapnpTool.subworker, type: "ToSubworker")
    }

    private static let registerText = """
        (register = (protocolVersion = 1, name = "wordcount", tasks = [(name = "count", documentation = "doc", inputs = ["words"],
          outputs = ["counts", "rest"]), ()], capabilities = (descriptors = true, controlPage = true, threads = 0, caching = true),
          library = "csubworker 0.1.0"))
        """
    private static let resultsText = """
        (results = [
          (slot = 3, durationNanoseconds = 12, debug = "line", attributes = "{}", outputs = [
            (contentType = "text", inline = "ab"), (isDirectory = true, path = "/staging/x"), (sameAsInput = 2, attributes = "{\\"a\\": 1}")]),
          (slot = 4, error = (message = "no", detail = "trace")),
          (slot = 5, cancelled = void)])
        """
    private static var registered: FromSubworker {
        var registration = SubworkerRegistration(protocolVersion: 1, name: "wordcount")
        registration.tasks = [
            SubworkerTask(name: "count", documentation: "doc", inputs: ["words"], outputs: ["counts", "rest"]), SubworkerTask(name: ""),
        ]
        registration.takesDescriptors = true
        registration.hasControlPage = true
        registration.threads = 1
        registration.hasCaching = true
        registration.library = "csubworker 0.1.0"
        return .register(registration)
    }
    private static let results = FromSubworker.results([
        SubworkerResult(
            slot: 3, durationNanoseconds: 12, debug: "line", attributes: Array("{}".utf8),
            value: .outputs([
                SubworkerOutput(contentType: "text", value: .inline(Array("ab".utf8))),
                SubworkerOutput(isDirectory: true, value: .path("/staging/x")),
                SubworkerOutput(attributes: Array("{\"a\": 1}".utf8), value: .sameAsInput(2)),
            ])),
        SubworkerResult(slot: 4, value: .failed(message: "no", detail: "trace")),
        SubworkerResult(slot: 5, value: .cancelled),
    ])

    @Test(arguments: [nil, 1]) func `we read what the capnp tool writes`(segmentSizeWords: Int?) throws {
        let stream =
            try fromTool(Self.registerText, segmentSizeWords: segmentSizeWords)
            + fromTool(Self.resultsText, segmentSizeWords: segmentSizeWords) + fromTool("(pong = 99)", segmentSizeWords: segmentSizeWords)
        let (messages, consumed) = try decode(stream)
        #expect(messages == [Self.registered, Self.results, .pong(99)])
        #expect(consumed == stream.count)
    }

    @Test func `a stream may be cut anywhere and stand at any alignment`() throws {
        let parts = try [fromTool(Self.resultsText), fromTool("(pong = 1)"), fromTool(Self.registerText, segmentSizeWords: 1)]
        let stream = parts.flatMap { $0 }
        let ends = [parts[0].count, parts[0].count + parts[1].count, stream.count]
        var codec = SubworkerCodec()
        for cut in 0...stream.count {
            // One byte in front, so that nothing is aligned.
            let shifted = [0] + stream.prefix(cut)
            var messages: [FromSubworker] = []
            let result: Result<Int, WireError> = shifted.withUnsafeBytes { buffer in
                do throws(WireError) {
                    return .success(try codec.decode(UnsafeRawBufferPointer(rebasing: buffer[1...]), into: &messages))
                } catch { return .failure(error) }
            }
            let consumed = try result.get()
            #expect(consumed == ends.last { $0 <= cut } ?? 0)
            #expect(messages == Array([Self.results, .pong(1), Self.registered].prefix(ends.count { $0 <= cut })))
        }
    }

    @Test func `a message that announces too much is refused at once`() {
        // One segment of 2³²-1 words; then 600 segments.
        #expect(throws: WireError.self) { try decode([0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]) }
        #expect(throws: WireError.self) { try decode([0x57, 0x02, 0, 0]) }
    }

    @Test func `an empty message has no kind that we know`() throws {
        // A null root is `register` with nothing in it: the worker refuses its version, not we.
        let (messages, _) = try decode([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        #expect(messages == [.register(SubworkerRegistration(protocolVersion: 0, name: ""))])
    }

    @Test func `a changed stream is no danger`() throws {
        let good = try fromTool(Self.resultsText) + fromTool(Self.registerText, segmentSizeWords: 1)
        var codec = SubworkerCodec()
        var refusedCount = 0
        for seed in 0..<5000 as Range<UInt64> {
            var generator = ValueGenerator(seed: seed)
            var bytes = good
            for _ in 0...generator.below(3) { bytes[generator.below(bytes.count)] = UInt8(truncatingIfNeeded: generator.bits()) }
            var messages: [FromSubworker] = []
            do { _ = try decodeAll(bytes, &codec, &messages) } catch is WireError { refusedCount += 1 }
        }
        #expect(refusedCount > 0)
        var messages: [FromSubworker] = []
        #expect(try decodeAll(good, &codec, &messages) == good.count)
        #expect(messages == [Self.results, Self.registered])
    }

    @Test func `a message that unfolds into much more than itself is refused`() throws {
        // 2,000 results, whose pointers are all turned to the outputs of the first.
        let first4000 = "(outputs = [(inline = \"\(String(repeating: "x", count: 4000))\")]), "
        let many = String(repeating: "(outputs = [()]), ", count: 2000)
        var bytes = try fromTool("(results = [\(first4000)\(many)])", segmentSizeWords: 1 << 20)
        // A segment table of 8 bytes, the root's pointer of 8, its data of 16 and its pointer; then the list's tag and its elements.
        let tag = 8 + 8 + 16 + 8
        let words = { (at: Int) in bytes[at..<at + 8].enumerated().reduce(into: UInt64(0)) { $0 |= UInt64($1.element) << UInt64($1.offset * 8) } }
        let dataWords = Int(words(tag) >> 32 & 0xFFFF)
        let pointerWords = Int(words(tag) >> 48)
        let elementBytes = (dataWords + pointerWords) * 8
        let pointerInElement = elementBytes - 8
        let first = tag + 8 + pointerInElement
        let target = words(first)
        let offset = Int(Int32(bitPattern: UInt32(truncatingIfNeeded: target)) >> 2)
        for element in 1...2000 {
            let shifted = UInt32(bitPattern: Int32(offset - element * elementBytes / 8) << 2) | UInt32(target & 3)
            let pointer = UInt64(shifted) | (target & 0xFFFF_FFFF_0000_0000)
            for byte in 0..<8 { bytes[first + element * elementBytes + byte] = UInt8(truncatingIfNeeded: pointer >> UInt64(byte * 8)) }
        }
        #expect {
            _ = try decode(bytes)
        } throws: { error in
            "\(error)".contains("raversal limit")
        }
    }

    @Test func `the capnp tool reads what we write`() throws {
        let attempt = AttemptID(task: TaskID(session: SessionID(3), index: 4), epoch: ServerEpoch(5), number: 6)
        let replica = Replica(
            object: ObjectID(session: SessionID(3), index: 9), generation: Generation(epoch: ServerEpoch(5), number: 1))
        let key = "key = (session = 3, index = 9, epoch = 5, number = 1)"
        let call = SubworkerCall(
            slot: 7, template: 2, attempt: attempt, arguments: Array("[]".utf8),
            inputs: [
                SubworkerInput(replica: replica, sizeBytes: 2, contentType: "text", location: .inline(Array("ab".utf8))),
                SubworkerInput(replica: replica, isKept: true, location: .descriptor(1)),
                SubworkerInput(replica: replica, isDirectory: true, attributes: Array("{}".utf8), location: .path("/objects/1")),
                SubworkerInput(replica: replica, location: .cached),
            ], arrayIndex: 8, ticket: 10)
        #expect(
            try asText(.calls([call]), descriptorCount: 2) == """
                (descriptorCount = 2, calls = [(slot = 7, template = 2, session = 3, task = 4, epoch = 5, attempt = 6, arguments = "[]", \
                inputs = [(\(key), sizeBytes = 2, contentType = "text", isDirectory = false, keep = false, inline = "ab"), (\(key), \
                sizeBytes = 0, isDirectory = false, keep = true, descriptor = 1), (\(key), sizeBytes = 0, isDirectory = true, keep = false, \
                attributes = "{}", path = "/objects/1"), (\(key), sizeBytes = 0, isDirectory = false, keep = false, cached = void)], \
                arrayIndex = 8, ticket = 10)])

                """)
        let template = SubworkerTemplate(
            id: 2, method: "count", name: "n", config: Array("{}".utf8), inputLabels: ["a", ""],
            outputs: [OutputSpec(label: "o", contentType: "text", isDirectory: true)], attributes: Array("1".utf8), constantCount: 3)
        #expect(
            try asText(.templates([template])) == """
                (descriptorCount = 0, templates = [(id = 2, method = "count", name = "n", config = "{}", inputLabels = ["a", ""], outputs = \
                [(label = "o", contentType = "text", isDirectory = true)], attributes = "1", constantCount = 3)])

                """)
        #expect(
            try asText(.welcome(SubworkerWelcome(workerName: "w1", stagingDirectory: "/s", inlineBytesMax: 65536, creditBytes: 7))) == """
                (descriptorCount = 0, welcome = (protocolVersion = 1, workerName = "w1", stagingDirectory = "/s", inlineBytesMax = 65536, \
                creditBytes = 7, takesProgress = true, logLevel = 0))

                """)
        #expect(try asText(.refused(reason: "why")) == "(descriptorCount = 0, refused = \"why\")\n")
        #expect(
            try asText(.dropCached([replica])) == "(descriptorCount = 0, dropCached = [(session = 3, index = 9, epoch = 5, number = 1)])\n")
        #expect(try asText(.cancel([1, 63])) == "(descriptorCount = 0, cancel = [1, 63])\n")
        #expect(try asText(.ping(8)) == "(descriptorCount = 0, ping = 8)\n")
        #expect(try asText(.shutdown) == "(descriptorCount = 0, shutdown = void)\n")
    }

    @Test func `messages follow each other in one output`() throws {
        var codec = SubworkerCodec()
        var bytes: [UInt8] = []
        try codec.encode(.ping(1), into: &bytes)
        try codec.encode(.shutdown, into: &bytes)
        let text = try CapnpTool.decode(bytes, schema: CapnpTool.subworker, type: "ToSubworker")
        #expect(text == "(descriptorCount = 0, ping = 1)\n(descriptorCount = 0, shutdown = void)\n")
    }

    @Test func `what is too large leaves the output as it was`() throws {
        var codec = SubworkerCodec()
        var bytes: [UInt8] = []
        try codec.encode(.ping(1), into: &bytes)
        let before = bytes
        let reason = String(repeating: "x", count: SubworkerCodec.messageBytesMax + 1)
        #expect(throws: WireError.self) { try codec.encode(.refused(reason: reason), into: &bytes) }
        #expect(bytes == before)
    }

    @Test func `the protocol's version is the schema's`() throws {
        let text = try CapnpTool.pipe([], "capnp eval --short '\(CapnpTool.subworker)' protocolVersion")
        #expect(String(decoding: text, as: UTF8.self) == "\(subworkerProtocolVersion)\n")
    }

    @Test func `generated code is that of the schemas`() throws {
        _ = try CapnpTool.pipe([], "'\(CapnpTool.root)/scripts/generate-capnp' --check")
    }
}
