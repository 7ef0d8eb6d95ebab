import CLinux
import Glibc
import Tar
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// The subworker of trees.c, built once for all tests.
enum Trees {
    static let built: Result<String, SystemError> = {
        let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
        let target = "/dev/shm/rain-test-trees-\(getpid())"
        let command = "cc -std=gnu11 -O1 -I\(root)/include \(root)/CSubworker/*.c \(root)/Tests/WorkerTests/Fixtures/trees.c -o \(target) -lpthread"
        atexit { unlink("/dev/shm/rain-test-trees-\(getpid())") }
        return system(command) == 0 ? .success(target) : .failure(SystemError("cc", command, code: EINVAL))
    }()
}

/// Directories in tasks of every kind, without a server.
@Suite(.serialized) struct DirectoryTaskTests {
    private static let id = SubworkerID(4)

    /// An input directory of these files.
    private func tree(_ harness: Harness, _ files: [String: String]) throws -> LocalInput {
        let source = harness.directory + "/source-\(harness.shell.store.newName())"
        for (path, text) in files {
            let full = source + "/" + path
            try makeDirectories(String(full[..<full.lastIndex(of: "/")!]))
            try write(text, to: full)
        }
        try makeDirectories(source)
        var input = try harness.input("")
        let root = try Descriptor.open(source, O_RDONLY | O_DIRECTORY)
        guard case .stored(let size, _) = try harness.store.copyIn(tree: root.raw, as: input.replica) else { throw Harness.Unexpected() }
        (input.sizeBytes, input.isDirectory, input.value) = (size, true, .stored)
        return input
    }
    private func write(_ text: String, to path: String) throws {
        try Descriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644).writeAll(Array(text.utf8))
    }
    private func outputs(_ harness: Harness, _ request: JobRequest) throws -> [LocalOutput] {
        guard case .finished(let outputs, _, _) = try harness.run(request) else { throw Harness.Unexpected() }
        return outputs
    }
    private func read(_ harness: Harness, _ request: JobRequest, _ path: String, output: Int = 0) throws -> String {
        try text(of: harness.store.path(harness.shell.output(request, output)) + "/" + path)
    }

    // MARK: Built-ins

    @Test func `inputs are put into a directory, and taken out of it`() throws {
        let harness = try Harness()
        let make = harness.define("builtin/make_directory", outputs: ["out"], directories: ["out"])
        let long = String(repeating: "l", count: 10_000)
        let inner = try tree(harness, ["x/y": "deep"])
        let request = harness.request(
            make, arguments: #"{"paths": ["a/b/small", "large", "c/d"]}"#, inputs: [try harness.input("s"), try harness.input(long), inner])
        let made = try outputs(harness, request)
        #expect(made.count == 1 && made[0].isDirectory)
        #expect(try read(harness, request, "a/b/small") == "s" && read(harness, request, "large") == long && read(harness, request, "c/d/x/y") == "deep")
        // What is large has a second name, and no copy.
        var status = (stat(), stat())
        _ = (stat(harness.store.path(harness.shell.output(request, 0)) + "/large", &status.0), stat(harness.store.path(request.inputs[1].replica), &status.1))
        #expect(status.0.st_ino == status.1.st_ino)

        guard case .stored(let size, _) = made[0].value else { throw Harness.Unexpected() }
        let whole = LocalInput(replica: harness.shell.output(request, 0), sizeBytes: size, isDirectory: true, value: .stored)
        let file = harness.define("builtin/slice_directory", outputs: ["out"])
        let part = harness.define("builtin/slice_directory", outputs: ["out"], directories: ["out"])
        func arguments(_ path: String) -> String { JSONValue.object([("path", .string(path))]).text }
        #expect(try harness.outputs(of: harness.request(file, arguments: arguments("a/b/small"), inputs: [whole])) == ["s"])
        #expect(try harness.outputs(of: harness.request(file, arguments: arguments("large"), inputs: [whole])) == [long])
        let slice = harness.request(part, arguments: arguments("c/d/"), inputs: [whole])
        #expect(try outputs(harness, slice)[0].isDirectory)
        #expect(try read(harness, slice, "x/y") == "deep")
        for (template, path, word) in [
            (file, "none", "no such file"), (file, "a", "end the path with '/'"), (part, "large/", "no directory"), (part, "large", "declared as a directory"),
            (file, "a/", "declared as a file"), (file, "../x", "relative"), (file, "", "relative"), (file, "/a", "relative"),
        ] {
            let error = try harness.failure(of: harness.request(template, arguments: arguments(path), inputs: [whole]))
            #expect(error.message.contains(word), "\(path): \(error.message)")
        }
        let notOne = try harness.failure(of: harness.request(file, arguments: arguments("a"), inputs: [harness.input("x")]))
        #expect(notOne.message == "builtin/slice_directory takes a directory, but input 0 is a file")
        #expect(harness.stagedFiles.isEmpty)
    }

    @Test func `links in a directory are followed as far as they stay inside`() throws {
        let harness = try Harness()
        let input = try tree(harness, ["a/b": "found", "c": ""])
        let path = harness.store.path(input.replica)
        try runShell("chmod 755 . a && ln -s a/b link && ln -s a way && ln -s /etc/passwd out && ln -s loop loop", in: path)
        let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
        harness.store.markTree(root.raw, onDisk: false)
        let file = harness.define("builtin/slice_directory", outputs: ["out"])
        func slice(_ path: String) -> JobRequest { harness.request(file, arguments: JSONValue.object([("path", .string(path))]).text, inputs: [input]) }
        #expect(try harness.outputs(of: slice("link")) == ["found"])
        #expect(try harness.outputs(of: slice("way/b")) == ["found"])
        for path in ["out", "loop"] { #expect(try harness.failure(of: slice(path)).message.contains("leads out of input 0 or in circles")) }
    }

    @Test(arguments: [
        (#"{"paths": ["a"]}"#, "1 inputs"), (#"{"paths": ["a", "a"]}"#, "both have the path 'a'"), (#"{"paths": ["a", "a/b"]}"#, "inside of input 0"),
        (#"{"paths": ["../a", "b"]}"#, "relative"), (#"{"paths": ["", "b"]}"#, "relative"), ("null", "needs the arguments"),
        (#"{"paths": [1, 2]}"#, "needs the arguments"),
    ]) func `paths that can't be are refused`(arguments: String, word: String) throws {
        let harness = try Harness()
        let make = harness.define("builtin/make_directory", outputs: ["out"], directories: ["out"])
        let error = try harness.failure(of: harness.request(make, arguments: arguments, inputs: [harness.input("x"), harness.input("y")]))
        #expect(error.cause == .setup && (error.message.contains(word) || arguments.contains("[\"a\"]")), "\(error.message)")
        let asFile = harness.define("builtin/make_directory", outputs: ["out"])
        #expect(try harness.failure(of: harness.request(asFile, arguments: #"{"paths": []}"#)).message.contains("say `directory`"))
    }

    @Test func `a directory is loaded and stored whole`() throws {
        let harness = try Harness()
        let load = harness.define("builtin/load", outputs: ["out"], directories: ["out"])
        let store = harness.define("builtin/store")
        let source = harness.directory + "/tree"
        try makeDirectories(source + "/sub/empty")
        try write("x", to: source + "/sub/f")
        try runShell("chmod 750 sub/f && ln -s sub/f link", in: source)
        func arguments(_ path: String) -> String { JSONValue.object([("path", .string(path))]).text }
        let loading = harness.request(load, arguments: arguments(source))
        guard case .stored(let size, _) = try outputs(harness, loading)[0].value else { throw Harness.Unexpected() }
        let loaded = LocalInput(replica: harness.shell.output(loading, 0), sizeBytes: size, isDirectory: true, value: .stored)
        let target = harness.directory + "/stored"
        #expect(try outputs(harness, harness.request(store, arguments: arguments(target), inputs: [loaded])) == [])
        try runShell("diff -r --no-dereference tree stored && test -x stored/sub/f && test -w stored/sub", in: harness.directory)
        // Once more, as after the loss of a worker: it is there.
        #expect(try outputs(harness, harness.request(store, arguments: arguments(target), inputs: [loaded])) == [])
        try write("y", to: target + "/sub/f")
        let changed = try harness.failure(of: harness.request(store, arguments: arguments(target), inputs: [loaded]))
        #expect(changed.message.contains("\(target) exists on host here and is not the same directory"))
        #expect(try text(of: target + "/sub/f") == "y")
        #expect(!names(in: harness.directory).contains { $0.contains(".rain-") })
        let into = try harness.failure(of: harness.request(store, arguments: arguments("/no/such/place"), inputs: [loaded]))
        #expect(into.message.contains("there is no directory for /no/such/place"))
        #expect(try harness.failure(of: harness.request(load, arguments: arguments(source + "/sub/f"))).message.contains("is a file"))
        try runShell("mkfifo pipe", in: source)
        #expect(try harness.failure(of: harness.request(load, arguments: arguments(source))).message.contains("'pipe' in it is no file"))
    }

    @Test func `a directory where a file belongs is an error`() throws {
        let harness = try Harness()
        let input = try tree(harness, ["a": ""])
        let concat = harness.define("builtin/concat", inputs: ["one", "two"], outputs: ["out"])
        #expect(
            try harness.failure(of: harness.request(concat, inputs: [harness.input("x"), input])).message
                == "builtin/concat takes files, but input 1 ('two') is a directory")
        let cat = harness.define("builtin/run", config: #"{"command": ["cat"], "stdin": 0}"#)
        #expect(try harness.failure(of: harness.request(cat, inputs: [input])).message.contains("input 0 is its standard input and can't be a directory"))
        let declared = harness.define("builtin/run", config: #"{"command": ["true"], "inputs": [{"path": "d", "directory": true}]}"#, inputs: ["data"])
        #expect(try harness.failure(of: harness.request(declared, inputs: [harness.input("x")])).message.contains("input 0 ('data') is a file"))
        let file = harness.define("builtin/run", config: #"{"command": ["true"], "inputs": [{"path": "d", "directory": false}]}"#)
        #expect(try harness.failure(of: harness.request(file, inputs: [input])).message.contains("is a directory, but is declared as a file"))
    }

    // MARK: Programs

    @Test func `a program reads and makes directories`() throws {
        let harness = try Harness()
        let input = try tree(harness, ["a": "one", "sub/b": "two"])
        let copy = harness.define(
            "builtin/run", config: #"{"command": ["cp -rL in/. out && echo more >>out/a"], "shell": true, "inputs": [{"path": "in"}]}"#, outputs: ["out"],
            directories: ["out"])
        var request = harness.request(copy, inputs: [input])
        // Files of the store are read-only, and so are their copies.
        #expect(try harness.run(request) != .cancelled)
        let chmod = harness.define(
            "builtin/run", config: #"{"command": ["cp -rL in/. out && chmod -R u+w out && echo more >>out/a"], "shell": true, "inputs": [{"path": "in"}]}"#,
            outputs: ["out"], directories: ["out"])
        request = harness.request(chmod, inputs: [input])
        #expect(try outputs(harness, request)[0].isDirectory)
        #expect(try read(harness, request, "a") == "onemore\n" && read(harness, request, "sub/b") == "two")
        #expect(try text(of: harness.store.path(input.replica) + "/a") == "one")
        let own = harness.define(
            "builtin/run",
            config: #"{"command": ["rm in/a && echo x >in/new && ls in"], "shell": true, "stdout": 0, "inputs": [{"path": "in", "write": true}]}"#,
            outputs: ["out"])
        #expect(try harness.outputs(of: harness.request(own, inputs: [input])) == ["new\nsub\n"])
        #expect(try text(of: harness.store.path(input.replica) + "/a") == "one")
        #expect(harness.taskDirectories.isEmpty && harness.stagedFiles.isEmpty)
    }

    @Test func `a program's path through a linked directory takes nothing from it`() throws {
        let harness = try Harness()
        let input = try tree(harness, ["sub/f": "kept"])
        let template = harness.define(
            "builtin/run", config: #"{"command": ["true"], "inputs": [{"path": "in"}], "outputs": [{"path": "in/sub"}, {"path": "in/sub/f"}]}"#,
            outputs: ["part", "file"], directories: ["part"])
        let request = harness.request(template, inputs: [input])
        #expect(try outputs(harness, request)[1].value == .inline(Array("kept".utf8)))
        #expect(try read(harness, request, "f") == "kept" && text(of: harness.store.path(input.replica) + "/sub/f") == "kept")
        #expect(harness.taskDirectories.isEmpty)
    }

    // MARK: Subworkers

    private func started() throws -> Harness {
        let harness = try Harness()
        harness.shell.perform(.startSubworker(Self.id, SubworkerCommand(name: "trees", arguments: [try Trees.built.get()])))
        _ = try harness.wait { if case .subworkerRegistered(Self.id, let capabilities) = $0 { capabilities } else { nil } }
        return harness
    }
    private func answer(_ harness: Harness, slot: UInt8) throws -> CallAnswer.Result {
        try harness.wait { event in
            guard case .callsAnswered(Self.id, let answers) = event else { return nil }
            return answers.first { $0.slot == slot }?.result
        }
    }
    private func call(_ harness: Harness, _ request: JobRequest, slot: UInt8 = 0) throws -> CallAnswer.Result {
        harness.shell.perform(.call(Self.id, [CallRequest(slot: slot, job: request)]))
        harness.shell.finishRound()
        return try answer(harness, slot: slot)
    }

    @Test func `a C function gets and gives directories`() throws {
        let harness = try started()
        let both = harness.define("trees/both", outputs: ["dir", "text"], directories: ["dir"])
        let request = harness.request(both)
        guard case .outputs(let made) = try call(harness, request) else { throw Harness.Unexpected() }
        #expect(made.map(\.isDirectory) == [true, false] && made[1].value == .stored(sizeBytes: 1 << 20))
        #expect(made[0].value == .stored(sizeBytes: 512 + 3 * 1024 + 1024))
        #expect(try read(harness, request, "2") == "file 2")
        let list = harness.define("trees/names", outputs: ["out"])
        let input = LocalInput(replica: harness.shell.output(request, 0), sizeBytes: 4608, isDirectory: true, value: .stored)
        #expect(try call(harness, harness.request(list, inputs: [input])) == .outputs([LocalOutput(value: .inline(Array("0 1 2 ".utf8)))]))
        let same = harness.define("trees/same", outputs: ["out"], directories: ["out"])
        #expect(try call(harness, harness.request(same, inputs: [input])) == .outputs([LocalOutput(isDirectory: true, value: .sameAsInput(0))]))
        var late: [String] = []
        for name in harness.stagedFiles where name.hasPrefix("n") { late.append(name) }
        #expect(late.isEmpty)
    }

    @Test func `a second name of a directory is made off the loop`() throws {
        let harness = try Harness()
        let input = try tree(harness, ["a/b": "x"])
        let target = Replica(object: ObjectID(session: Harness.session, index: 999), generation: Generation(epoch: ServerEpoch(1), number: 1))
        harness.shell.perform(.alias(AliasToken(1), from: input.replica, to: target))
        let error: TaskError?? = try harness.wait { if case .aliased(AliasToken(1), let error) = $0 { .some(error) } else { nil } }
        #expect(error == .some(nil))
        #expect(try text(of: harness.store.path(target) + "/a/b") == "x")
    }

    @Test func `the wrong kind of output is refused, and what was made with it goes`() throws {
        let harness = try started()
        for (method, outputs, directories, word) in [
            ("tree", ["out"], [], "trees/tree gave a directory as output 0 ('out'), which is declared as a file"),
            ("both", ["dir", "text"], ["dir", "text"], "trees/both gave a file as output 1 ('text'), which is declared as a directory"),
            ("pipe", ["out"], ["out"], "which can't be an object: 'pipe' in it is no file, directory or symbolic link"),
        ] as [(String, [String], Set<String>, String)] {
            let request = harness.request(harness.define("trees/\(method)", outputs: outputs, directories: directories))
            guard case .failed(let error) = try call(harness, request) else { throw Harness.Unexpected() }
            #expect(error.cause == .contract && error.message.contains(word), "\(error.message)")
            for position in outputs.indices { #expect(throws: SystemError.self) { _ = try harness.store.open(harness.shell.output(request, position)) } }
        }
        #expect(harness.stagedFiles.filter { $0.hasPrefix("n") }.isEmpty)
    }

    /// Its last answer counts, though the directory in it was still being looked at when the process was gone.
    @Test func `the end of a subworker is told after its answers`() throws {
        let harness = try started()
        let request = harness.request(harness.define("trees/tree", outputs: ["out"], directories: ["out"]))
        let gate = StopFlag()
        // Both threads of the pool are busy until the process is gone.
        for _ in 0..<2 { harness.shell.pool.run { while !gate.isSet { usleep(1000) } } }
        harness.shell.perform(.call(Self.id, [CallRequest(slot: 0, job: request)]))
        harness.shell.perform(.stopSubworker(Self.id, isKilled: false))
        harness.shell.finishRound()
        #expect(throws: Harness.TimeOut.self) {
            try harness.wait(seconds: 1) { if case .subworkerEnded(Self.id, _, _, _) = $0 { true } else { nil } }
        }
        #expect(harness.shell.owners.isEmpty && harness.shell.endedSubworkers.count == 1)
        gate.set()
        guard case .outputs(let outputs) = try answer(harness, slot: 0) else { throw Harness.Unexpected() }
        #expect(outputs.map(\.isDirectory) == [true])
        let running = try harness.wait { if case .subworkerEnded(Self.id, _, let running, _) = $0 { running } else { nil } }
        #expect(running.isEmpty && harness.shell.endedSubworkers.isEmpty)
        #expect(try read(harness, request, "0") == "file 0")
    }
}
