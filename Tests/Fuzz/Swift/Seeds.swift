import Glibc
import Link
import Tar
import TaskModel
import Wire

/// First inputs, made as the tests make theirs: a fuzzer that begins with whole messages gets further in.
enum Seeds {
    static func write(into directory: String) {
        for seed in 0..<12 as Range<UInt64> {
            var generator = ValueGenerator(seed: seed)
            var codec = ControlCodec()
            let kind = Int(seed) % ValueGenerator.frameKindCount
            if let bytes = try? codec.encode(generator.serverFrame(kind)) { write(bytes, directory, "control", "server-\(seed)") }
            if let bytes = try? codec.encode(generator.workerFrame(kind)) { write(bytes, directory, "control", "worker-\(seed)") }
            write((0..<400).map { _ in UInt8(truncatingIfNeeded: generator.bits()) }, directory, "server-core", "\(seed)")
            write((0..<400).map { _ in UInt8(truncatingIfNeeded: generator.bits()) }, directory, "worker-core", "\(seed)")
        }
        var codec = SubworkerCodec()
        for (number, message) in messages.enumerated() {
            var bytes: [UInt8] = []
            if (try? codec.encode(message, into: &bytes)) != nil { write(bytes, directory, "codec", "\(number)") }
        }
        for (number, stream) in trees.enumerated() { write([UInt8(number + 1)] + stream, directory, "tar", "\(number)") }
        for (number, body) in submits.enumerated() { write([UInt8(number + 7)] + Array(body.utf8), directory, "submit", "\(number)") }
        for (number, body) in bodies.enumerated() { write([UInt8(number)] + Array(body.utf8), directory, "bodies", "\(number)") }
    }

    private static let trees: [[UInt8]] = {
        func entry(_ path: String, _ kind: TarEntry.Kind = .directory) -> TarEntry { TarEntry(path: Array(path.utf8), kind: kind) }
        let long = String(repeating: "n", count: 150)
        let trees = [
            [entry("")], [entry(""), entry("a", .file(sizeBytes: 0, isExecutable: true)), entry("b"), entry("b/c", .link(target: Array("../a".utf8)))],
            [entry(""), entry(long, .link(target: Array(long.utf8))), entry("ü", .file(sizeBytes: 0, isExecutable: false))],
        ]
        return trees.map { entries in
            var stream: [UInt8] = []
            for entry in entries { TarForm.appendHeader(of: entry, to: &stream) }
            return stream + [UInt8](repeating: 0, count: TarForm.endBytes)
        }
    }()

    private static let messages: [ToSubworker] = {
        let attempt = AttemptID(task: TaskID(session: SessionID(1), index: 2), epoch: ServerEpoch(3), number: 4)
        let replica = Replica(object: ObjectID(session: SessionID(1), index: 5), generation: attempt.generation)
        func input(_ location: SubworkerInput.Location) -> SubworkerInput {
            SubworkerInput(replica: replica, sizeBytes: 3, contentType: "text", location: location)
        }
        return [
            .welcome(SubworkerWelcome(workerName: "w", stagingDirectory: "/staging", inlineBytesMax: 65_536)), .refused(reason: "no"),
            .templates([
                SubworkerTemplate(
                    id: 1, method: "count", config: Array("{}".utf8), inputLabels: ["text"], outputs: [OutputSpec(label: "out")],
                    constantCount: 1)
            ]),
            .calls([
                SubworkerCall(
                    slot: 1, template: 1, attempt: attempt, arguments: Array("[1]".utf8),
                    inputs: [input(.inline(Array("abc".utf8))), input(.path("/a/b")), input(.descriptor(0)), input(.cached)], arrayIndex: 0)
            ]), .dropCached([replica]), .cancel([1, 2]), .ping(7), .shutdown,
        ]
    }()

    private static let submits = [
        """
        {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}}
        {"object": {"data": "hello ", "label": "greeting", "content_type": "text", "attributes": {"a": [1, null]}}}
        {"object": {"data64": "d29ybGQ=", "keep": true}}
        {"template": {"type": "builtin/concat", "outputs": [{"label": "out", "keep": true}], "constants": [0], "retries": 2, "rerun": "never"}}
        [0, [0, 1], null]
        [0, [2], {"x": 1.5e3}, {"name": "n", "keep": [0], "count": 3}]

        """,
        "[0, [], null]\n[2, [1, 2], \"\\ud83d\\ude00 ü\"]", "{\"object\": {\"blob\": \"\(String(repeating: "ab", count: 32))\"}}",
        "{\"template\": {\"type\": \"a/b\", \"outputs\": [\"x\", {\"label\": \"y\", \"directory\": true}], \"cpus\": 0}}\n[3, [], [[[]]]]",
    ]

    private static let bodies = [
        """
        {"name": "a", "on_error": "fail_descendants", "grace_ms": 1, "detached": true, "subworkers": [{"name": "py", "command": ["p"], "env": ["A=b"]}]}
        """,
        "{\"tasks\": [[0, 10]], \"timeout_ms\": 5}", "{\"all\": true}", "{\"objects\": [[3, 2], [9, 1]]}", "{\"objects\": [[0, 4294967295]]}",
        "{\"tasks\": [[0, 5]], \"objects\": []}", "bytes=1-5",
    ]

    private static func write(_ bytes: [UInt8], _ directory: String, _ target: String, _ name: String) {
        mkdir("\(directory)/\(target)", 0o755)
        let path = "\(directory)/\(target)/seed-\(name)"
        guard let file = fopen(path, "w"), fwrite(bytes, 1, bytes.count, file) == bytes.count, fclose(file) == 0 else {
            fatalError("cannot write \(path): \(String(cString: strerror(errno)))")
        }
    }
}
