import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// Tasks that write to what they are to read, on a store that can't keep them from it. Every test would do so as root or not.
@Suite(.serialized) struct DamageTests {
    private static let id = SubworkerID(4)

    private func program(_ harness: Harness, _ command: String, directories: Set<String> = []) -> TemplateID {
        harness.define(
            "builtin/run", config: #"{"command": ["\#(command)"], "shell": true, "inputs": [{"path": "in"}]}"#, inputs: ["data"])
    }
    private func damaged(_ harness: Harness) throws -> [Replica] { try harness.wait { if case .damaged(let replicas) = $0 { replicas } else { nil } } }

    private func found(_ harness: Harness) throws -> [Replica] { try harness.wait { if case .foundDamaged(let replicas) = $0 { replicas } else { nil } } }

    private func tree(_ harness: Harness) throws -> LocalInput {
        let source = harness.directory + "/source-\(harness.shell.store.newName())"
        try makeDirectories(source + "/sub")
        for name in ["a", "sub/b"] { try write("text", to: source + "/" + name) }
        var input = try harness.input("")
        let root = try Descriptor.open(source, O_RDONLY | O_DIRECTORY)
        guard case .stored(let size, _) = try harness.store.copyIn(tree: root.raw, as: input.replica) else { throw Harness.Unexpected() }
        (input.sizeBytes, input.isDirectory, input.value) = (size, true, .stored)
        return input
    }

    @Test(arguments: [
        ("chmod u+w in; echo more >> in", "its size is"),
        ("chmod u+w in; printf X | dd of=in conv=notrunc 2> /dev/null", "its time of last change"),
        ("chmod u+w in; : > in", "its size is 0"),
    ])
    func `a program that writes to an input fails, and the input is named`(command: String, text: String) throws {
        let harness = try Harness()
        let input = try harness.storedInput("what others read")
        let error = try harness.failure(of: harness.request(program(harness, command), inputs: [input]))
        #expect(error.cause == .contract && error.message.contains("input 0 ('data') (\(text)"), "\(error.message)")
        #expect(error.message.contains("write=True"))
        #expect(try damaged(harness) == [input.replica])
    }

    @Test func `its own error comes first`() throws {
        let harness = try Harness()
        let input = try harness.storedInput("what others read")
        let template = program(harness, "chmod u+w in; echo >> in; echo why >&2; exit 3")
        let error = try harness.failure(of: harness.request(template, inputs: [input]))
        #expect(error.cause == .user && error.exitCode == 3 && error.detail.contains("input 0 ('data')") && error.detail.hasSuffix("why\n"))
        #expect(try damaged(harness) == [input.replica])
    }

    @Test func `to read an input, link to it, run it or pass it on is no change`() throws {
        let harness = try Harness()
        let input = try harness.storedInput("#!/bin/sh\necho it runs\n")
        let template = harness.define(
            "builtin/run",
            config:
                #"{"command": ["chmod 755 in; ln in second; cat in > /dev/null; ./in; rm in"], "shell": true, "inputs": [{"path": "in"}], "stdout": 0}"#,
            inputs: ["data"], outputs: ["out"])
        for _ in 0..<2 { #expect(try harness.outputs(of: harness.request(template, inputs: [input])) == ["it runs\n"]) }
        var status = stat()
        #expect(stat(harness.store.path(input.replica), &status) == 0 && status.st_mode & 0o222 == 0)
        // A second name of the object, and one in a directory of the store, are as good.
        let second = Replica(object: ObjectID(session: Harness.session, index: 7), generation: .uploaded)
        try harness.store.alias(from: input.replica, to: second)
        var other = input
        other.replica = second
        #expect(harness.store.damage(to: other) == nil && harness.store.damage(to: input) == nil)
    }

    @Test func `files that come into the store in any way are known as unchanged`() throws {
        let harness = try Harness(memoryBytes: 64 << 20)
        let long = String(repeating: "long ", count: 4000)
        let input = try harness.storedInput(long)
        // By a program, by its standard output, by concat, and spilled to disk.
        let template = harness.define(
            "builtin/run",
            config:
                #"{"command": ["cat in > file; cat in"], "shell": true, "inputs": [{"path": "in"}], "outputs": [{"path": "file"}], "stdout": 1}"#,
            inputs: ["data"], outputs: ["file", "out"])
        let request = harness.request(template, inputs: [input])
        _ = try harness.outputs(of: request)
        let joined = harness.request(harness.define("builtin/concat", outputs: ["out"]), inputs: [input, input])
        _ = try harness.outputs(of: joined)
        try harness.store.spill(input.replica)
        func local(_ replica: Replica, _ size: Int) -> LocalInput { LocalInput(replica: replica, sizeBytes: UInt64(size), value: .stored) }
        for (replica, size) in [
            (input.replica, 20_000), (harness.shell.output(request, 0), 20_000), (harness.shell.output(request, 1), 20_000),
            (harness.shell.output(joined, 0), 40_000),
        ] {
            #expect(harness.store.damage(to: local(replica, size)) == nil, "\(replica)")
        }
        // The sliced file of a directory is a second name of that in the directory.
        let made = harness.request(
            harness.define("builtin/make_directory", outputs: ["out"], directories: ["out"]), arguments: #"{"paths": ["x/file"]}"#,
            inputs: [local(harness.shell.output(request, 0), 20_000)])
        guard case .finished(let outputs, _, _) = try harness.run(made), case .stored(let size, _) = outputs[0].value else { throw Harness.Unexpected() }
        var directory = local(harness.shell.output(made, 0), Int(size))
        directory.isDirectory = true
        let sliced = harness.request(harness.define("builtin/slice_directory", outputs: ["out"]), arguments: #"{"path": "x/file"}"#, inputs: [directory])
        _ = try harness.outputs(of: sliced)
        #expect(harness.store.damage(to: local(harness.shell.output(sliced, 0), 20_000)) == nil)
        #expect(harness.store.damage(to: directory) == nil)
    }

    @Test func `what a task wrote to is not copied to disk, where it would look whole`() throws {
        let harness = try Harness(memoryBytes: 64 << 20)
        let (file, directory) = (try harness.storedInput("twelve bytes"), try tree(harness))
        let path = harness.store.path + "/objects/"
        for name in [Store.name(file.replica), Store.name(directory.replica) + "/sub/b"] {
            try #require(system("cd \(path); chmod u+w \(name); printf FOUR | dd of=\(name) conv=notrunc 2> /dev/null") == 0)
        }
        for input in [file, directory] {
            harness.shell.perform(.spill(input.replica))
            // It is told first, so that nobody tries once more.
            let event = try harness.wait { event -> WorkerEvent? in
                switch event {
                case .foundDamaged, .spilled: event
                default: nil
                }
            }
            #expect(event == .foundDamaged([input.replica]))
            #expect(try harness.wait { if case .spilled(input.replica, let isDone) = $0 { isDone } else { nil } } == false)
            #expect(harness.store.damage(to: input) != nil && access(path + Store.name(input.replica), F_OK) == 0)
            #expect(access(harness.directory + "/disk/objects/" + Store.name(input.replica), F_OK) != 0)
        }
    }

    @Test func `a directory that a task made and nobody wrote to goes to disk`() throws {
        let harness = try Harness(memoryBytes: 64 << 20)
        let staged = harness.store.path + "/staging/made"
        try makeDirectories(staged + "/deep")
        for number in 0..<300 { try write("\(number)", to: "\(staged)/deep/\(number)") }
        let replica = try harness.input("").replica
        _ = try harness.store.acceptTree("made", in: harness.store.staging, as: replica)
        #expect(try harness.store.spill(replica))
        #expect(harness.store.path(replica).hasPrefix(harness.directory + "/disk/") && names(in: harness.store.path(replica) + "/deep").count == 300)
    }

    @Test func `a file of a directory that was written to under its other name spoils the directory, too`() throws {
        let harness = try Harness()
        let long = String(repeating: "long ", count: 4000)
        let source = harness.directory + "/source"
        try makeDirectories(source)
        try write(long, to: source + "/file")
        var directory = try harness.input("")
        let root = try Descriptor.open(source, O_RDONLY | O_DIRECTORY)
        guard case .stored(let size, _) = try harness.store.copyIn(tree: root.raw, as: directory.replica) else { throw Harness.Unexpected() }
        (directory.sizeBytes, directory.isDirectory, directory.value) = (size, true, .stored)
        let slice = harness.define("builtin/slice_directory", outputs: ["out"])
        let sliced = harness.request(slice, arguments: #"{"path": "file"}"#, inputs: [directory])
        _ = try harness.outputs(of: sliced)
        let file = LocalInput(replica: harness.shell.output(sliced, 0), sizeBytes: UInt64(long.utf8.count), value: .stored)
        let error = try harness.failure(of: harness.request(program(harness, "chmod u+w in; echo more | dd of=in conv=notrunc 2> /dev/null"), inputs: [file]))
        #expect(error.cause == .contract)
        #expect(try damaged(harness) == [file.replica])
        // Whoever would read it from now on, copy it or take it apart finds out, and is not charged.
        for request in [
            harness.request(program(harness, "ls in"), inputs: [directory]),
            harness.request(slice, arguments: #"{"path": "file"}"#, inputs: [directory]),
            harness.request(
                harness.define("builtin/make_directory", outputs: ["out"], directories: ["out"]), arguments: #"{"paths": ["x"]}"#, inputs: [directory]),
            harness.request(harness.define("builtin/store"), arguments: #"{"path": "\#(harness.directory)/elsewhere"}"#, inputs: [directory]),
        ] {
            let result = try harness.run(request)
            guard case .failed = result else {
                Issue.record("\(result)")
                continue
            }
            #expect(try found(harness) == [directory.replica], "so that its failure does not count")
            #expect(harness.store.damage(to: directory) != nil, "no mark was set anew")
        }
        let other = Replica(object: ObjectID(session: Harness.session, index: 7), generation: .uploaded)
        harness.shell.perform(.alias(AliasToken(1), from: directory.replica, to: other))
        #expect(try harness.wait { if case .aliased(_, let error) = $0 { error } else { nil } } != nil)
        #expect(try found(harness) == [directory.replica])
    }

    @Test(arguments: [
        ("ls -R in; cat in/sub/b", nil), ("chmod u+w in; echo > in/new", ""), ("chmod u+w in/sub; rm in/sub/b", "'sub'"),
        ("chmod u+w in/a; printf TEXT | dd of=in/a conv=notrunc 2> /dev/null", "'a'"),
    ])
    func `a change in an input directory is found`(command: String, text: String?) throws {
        let harness = try Harness()
        let input = try tree(harness)
        let request = harness.request(program(harness, command), inputs: [input])
        guard let text else {
            guard case .finished = try harness.run(request) else { throw Harness.Unexpected() }
            return
        }
        let error = try harness.failure(of: request)
        #expect(error.cause == .contract && error.message.contains("input 0 ('data') (\(text)"), "\(error.message)")
        #expect(try damaged(harness) == [input.replica])
    }

    @Test func `only the first members of a large directory are looked at`() throws {
        let harness = try Harness()
        let source = harness.directory + "/source"
        try makeDirectories(source)
        for number in 0..<2000 { try write("", to: "\(source)/\(number)") }
        var input = try harness.input("")
        let root = try Descriptor.open(source, O_RDONLY | O_DIRECTORY)
        _ = try harness.store.copyIn(tree: root.raw, as: input.replica)
        (input.isDirectory, input.value) = (true, .stored)
        #expect(harness.store.damage(to: input) == nil)
        let path = harness.store.path(input.replica)
        chmod(path, 0o755)
        try write("more", to: path + "/more")
        #expect(harness.store.damage(to: input) != nil)
    }

    @Test(arguments: [20_000, 100_000])
    func `a subworker's call that writes to its input fails`(sizeBytes: Int) throws {
        let harness = try Harness()
        harness.shell.perform(.startSubworker(Self.id, SubworkerCommand(name: "trees", arguments: [try Trees.built.get()])))
        _ = try harness.wait { if case .subworkerRegistered(Self.id, let capabilities) = $0 { capabilities } else { nil } }
        let input = try harness.storedInput(String(repeating: "x", count: sizeBytes))
        let request = harness.request(harness.define("trees/scribble", inputs: ["data"], outputs: ["out"]), inputs: [input])
        harness.shell.perform(.call(Self.id, [CallRequest(slot: 3, job: request)]))
        harness.shell.finishRound()
        let result = try harness.wait { event in
            if case .callsAnswered(Self.id, let answers) = event { answers.first?.result } else { nil }
        }
        guard sizeBytes > 32 * 1024 else {
            // Small inputs are copies.
            #expect(result == .outputs([LocalOutput(value: .inline(Array("written".utf8)))]))
            return
        }
        guard case .failed(let error) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(error.cause == .contract && error.message.contains("trees/scribble wrote to its input 0 ('data')"), "\(error.message)")
        #expect(try damaged(harness) == [input.replica])
    }
}
