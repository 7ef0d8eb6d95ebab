import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

@Suite(.serialized) struct ProgramTests {
    @Test func `a program gets its input on stdin and its stdout becomes the output`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/run", config: #"{"command": ["tr", "a-z", "A-Z"], "stdin": 0, "stdout": 0}"#, inputs: ["in"], outputs: ["out"])
        #expect(try harness.outputs(of: harness.request(template, inputs: [harness.input("hello")])) == ["HELLO"])
        let large = String(repeating: "large ", count: 2000)
        #expect(try harness.outputs(of: harness.request(template, inputs: [harness.input(large)])) == [large.uppercased()])
        #expect(harness.taskDirectories.isEmpty)
        #expect(harness.stagedFiles.isEmpty)
    }

    @Test func `inputs and outputs are files in a directory of its own`() throws {
        let harness = try Harness()
        let template = harness.define(
            "builtin/run",
            config:
                #"{"command": ["sh", "-c", "ls; cat \"$1\" \"$2\" > \"$3\"; echo more > sub/second", "sh", {"input": 0}, {"input": 1}, {"output": 0}], "inputs": [{"path": "d/a.txt"}], "outputs": [null, {"path": "sub/second"}], "stdout": 2}"#,
            inputs: ["first", "b"], outputs: ["joined", "two", "list"])
        let results = try harness.outputs(of: harness.request(template, inputs: [harness.storedInput("1"), harness.input("2")]))
        #expect(results == ["12", "more\n", "b\nd\nsub\n"])
        #expect(harness.taskDirectories.isEmpty)
    }

    @Test func `arguments of the row follow the command, and the shell joins them`() throws {
        let harness = try Harness()
        let plain = harness.define("builtin/run", config: #"{"command": ["printf", "%s|"], "stdout": 0}"#, outputs: ["out"])
        #expect(try harness.outputs(of: harness.request(plain, arguments: #"["a b", "ü"]"#)) == ["a b|ü|"])
        let shell = harness.define("builtin/run", config: #"{"command": ["echo", "$((1", "+"], "shell": true, "stdout": 0}"#, outputs: ["out"])
        #expect(try harness.outputs(of: harness.request(shell, arguments: #"["2))"]"#)) == ["3\n"])
    }

    @Test func `the environment is the worker's with the template's and the task's on top`() throws {
        let harness = try Harness()
        let template = harness.define(
            "builtin/run", config: #"{"command": ["echo $A $RAIN_TASK $RAIN_TASK_INDEX ${PATH:+path}"], "shell": true, "env": {"A": "b c"}, "stdout": 0}"#,
            outputs: ["out"])
        var request = harness.request(template)
        request.arrayIndex = 7
        #expect(try harness.outputs(of: request) == ["b c \(request.attempt.task.index) 7 path\n"])
    }

    @Test func `a read-only input can't be written, a writable one is a private copy`() throws {
        let harness = try Harness()
        let template = harness.define(
            "builtin/run",
            config:
                #"{"command": ["stat -c %a a; echo more >> w; cat w"], "shell": true, "inputs": [{"path": "a"}, {"path": "w", "write": true}], "stdout": 0}"#,
            outputs: ["out"])
        let writable = try harness.storedInput("text ")
        #expect(try harness.outputs(of: harness.request(template, inputs: [harness.storedInput("x"), writable])) == ["444\ntext more\n"])
        #expect(try harness.store.open(writable.replica).read(count: 10) == Array("text ".utf8))
        // A long copy is made on another thread.
        let long = String(repeating: "y", count: 2 << 20)
        let results = try harness.outputs(of: harness.request(template, inputs: [harness.storedInput("x"), harness.input(long)]))
        #expect(results[0].utf8.count == 4 + long.utf8.count + 5)
    }

    @Test func `an exit code fails the task with the end of stderr`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/run", config: #"{"command": ["sh", "-c", "echo broken >&2; exit 3"]}"#)
        let error = try harness.failure(of: harness.request(template))
        #expect(error.cause == .user && error.exitCode == 3 && error.signal == nil)
        #expect(error.message == "program sh exited with code 3" && error.detail == "broken\n")
        let loud = harness.define("builtin/run", config: #"{"command": ["head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1"], "shell": true}"#)
        let long = try harness.failure(of: harness.request(loud))
        #expect(long.detail.hasPrefix("[the first 83616 bytes are left out]\nxxx") && long.detail.utf8.count < 17000)
        #expect(harness.taskDirectories.isEmpty)
    }

    @Test func `a signal fails the task and is named`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/run", config: #"{"command": ["sh", "-c", "kill -SEGV $$"]}"#)
        let error = try harness.failure(of: harness.request(template))
        #expect(error.cause == .user && error.signal == SIGSEGV && error.exitCode == nil)
        #expect(error.message == "program sh was ended by signal 11 (SIGSEGV)")
        let killed = try harness.failure(of: harness.request(harness.define("builtin/run", config: #"{"command": ["sh", "-c", "kill -KILL $$"]}"#)))
        #expect(killed.message == "program sh was ended by signal 9 (SIGKILL), by somebody or by the kernel for lack of memory")
    }

    @Test func `a program that is not there is named`() throws {
        let harness = try Harness()
        for name in ["no-such-program", "/no/such/program", "./nothing"] {
            let error = try harness.failure(of: harness.request(harness.define("builtin/run", config: #"{"command": ["\#(name)"]}"#)))
            #expect(error.cause == .setup && error.message.contains("'\(name)'") && error.message.contains("not found"))
        }
        let denied = try harness.failure(of: harness.request(harness.define("builtin/run", config: #"{"command": ["/etc/passwd"]}"#)))
        #expect(denied.cause == .setup && denied.message.contains("can't be executed"))
        #expect(harness.taskDirectories.isEmpty)
    }

    @Test func `a missing output, a directory and a pipe are errors that name the path`() throws {
        let harness = try Harness()
        for (command, word) in [("true", "made no file 'x/out'"), ("mkdir x/out", "made a directory 'x/out'"), ("mkfifo x/out", "not a regular file")] {
            let template = harness.define(
                "builtin/run", config: #"{"command": ["\#(command)"], "shell": true, "outputs": [{"path": "first"}, {"path": "x/out"}]}"#,
                outputs: ["a", "b"])
            let request = harness.request(template)
            let first = try harness.failure(of: request)
            #expect(first.cause == .contract && first.message.contains("'first'"))
            let both = harness.define(
                "builtin/run",
                config: #"{"command": ["yes | head -c 9000 > first; \#(command)"], "shell": true, "outputs": [{"path": "first"}, {"path": "x/out"}]}"#,
                outputs: ["a", "b"])
            let second = try harness.failure(of: harness.request(both))
            #expect(second.cause == .contract && second.message.contains(word), "\(second.message)")
        }
        // What was taken before the error is not left behind.
        #expect(names(in: harness.store.path + "/objects/1").isEmpty)
        #expect(harness.taskDirectories.isEmpty)
    }

    @Test func `an input that comes out again is an output`() throws {
        let harness = try Harness()
        let template = harness.define(
            "builtin/run", config: #"{"command": ["mv in out; ln -s in2 out2"], "shell": true, "outputs": [{"path": "out"}, {"path": "out2"}]}"#,
            inputs: ["in", "in2"], outputs: ["a", "b"])
        let text = String(repeating: "q", count: 3 << 20)
        let input = try harness.input(text)
        #expect(try harness.outputs(of: harness.request(template, inputs: [input, harness.input("two")])) == [text, "two"])
        #expect(try harness.store.open(input.replica).read(count: 1) == [UInt8(ascii: "q")])
    }

    @Test func `what lies at an input's path may be an output, changed or not`() throws {
        let harness = try Harness()
        let text = String(repeating: "q", count: 9000)
        let paths = #"[{"path": "in"}, {"path": "in2"}]"#
        let config = #"{"command": ["echo more >> in; test -w in2"], "shell": true, "inputs": \#(paths), "outputs": \#(paths)}"#
        let template = harness.define("builtin/run", config: config, outputs: ["a", "b"])
        let input = try harness.input(text)
        #expect(try harness.outputs(of: harness.request(template, inputs: [input, harness.input("two")])) == [text + "more\n", "two"])
        #expect(try harness.store.open(input.replica).read(count: 10_000) == Array(text.utf8), "the input is as it was")
        let twice = #"{"command": ["x"], "inputs": [{"path": "in"}], "outputs": [{"path": "in"}, {"path": "in"}]}"#
        let error = try harness.failure(of: harness.request(harness.define("builtin/run", config: twice, outputs: ["a", "b"]), inputs: [harness.input("x")]))
        #expect(error.message.contains("output 0 and output 1 both have the path 'in'"))
    }

    @Test(arguments: [
        (#"{"command": []}"#, "`command`"), ("nonsense", "not JSON"), (#"{"command": ["x"], "typo": 1}"#, "typo"),
        (#"{"command": ["x"], "stdin": 3}"#, "no input 3"), (#"{"command": ["x", {"output": 2}]}"#, "no output 2"),
        (#"{"command": ["x"], "inputs": [{"path": "../up"}]}"#, "'../up'"), (#"{"command": ["x"], "inputs": [{"path": "/abs"}]}"#, "'/abs'"),
        (#"{"command": ["x"], "inputs": [{"path": "same"}], "outputs": [{"path": "same"}], "stdout": 0}"#, "both have the path 'same'"),
        (#"{"command": ["x", 5]}"#, "neither a string"), (#"{"command": ["x"], "env": {"A=B": "c"}}"#, "`env`"),
    ]) func `a wrong configuration is an error that says what is wrong`(config: String, word: String) throws {
        let harness = try Harness()
        let error = try harness.failure(of: harness.request(harness.define("builtin/run", config: config, outputs: ["out"]), inputs: [harness.input("x")]))
        #expect(error.cause == .setup && error.message.contains(word), "\(error.message)")
    }

    @Test func `a stopped program goes with its whole group before its end is told`() throws {
        let harness = try Harness()
        let file = harness.directory + "/pids"
        let template = harness.define(
            "builtin/run", config: #"{"command": ["sleep 1000 & echo $$ $! > \#(file); wait"], "shell": true}"#)
        let token = harness.start(harness.request(template))
        #expect(
            try eventually {
                try text(of: file).hasSuffix("\n")
            } catching: { _ in
                false
            })
        let pids = try text(of: file).split { $0 == " " || $0 == "\n" }.compactMap { pid_t($0) }
        #expect(pids.count == 2 && pids.allSatisfy(isAlive))
        harness.shell.perform(.stopJob(token))
        #expect(try harness.end(of: token) == .cancelled)
        #expect(!pids.contains(where: isAlive))
        #expect(harness.taskDirectories.isEmpty)
    }

    @Test func `what a program leaves in its group ends with it`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/run", config: #"{"command": ["sleep 1000 & echo $!"], "shell": true, "stdout": 0}"#, outputs: ["out"])
        let pid = try #require(pid_t(try harness.outputs(of: harness.request(template))[0].dropLast()))
        #expect(!isAlive(pid))
    }

    @Test func `directories are made ahead, as many as programs were started, and each is used once and empty`() throws {
        let harness = try Harness()
        let template = harness.define(
            "builtin/run", config: #"{"command": ["pwd; ls -A; touch left .over; mkdir -p a/b"], "shell": true, "stdout": 0}"#, outputs: ["out"])
        var seen: Set<String> = []
        for _ in 0..<6 {
            let spare = harness.shell.spareDirectories.map(\.name)
            let lines = try harness.outputs(of: harness.request(template))[0].split(separator: "\n")
            #expect(lines.count == 1 && seen.insert(String(lines[0])).inserted, "\(lines)")
            if let name = spare.last { #expect(lines[0].hasSuffix("/tasks/" + name)) }
            #expect(harness.shell.spareDirectories.count == 1)
        }
        let tokens = (0..<40).map { _ in harness.start(harness.request(template)) }
        for token in tokens { _ = try harness.end(of: token) }
        #expect(harness.shell.spareDirectories.count == WorkerShell.spareDirectoryCountMax)
    }

    @Test func `small outputs that an outcome has no room for stay files`() throws {
        let harness = try Harness()
        let names = (0..<2100).map { "o\(10_000 + $0)" }
        let paths = names.map { #"{"path": "\#($0)"}"# }.joined(separator: ",")
        let template = harness.define(
            "builtin/run",
            config: #"{"command": ["head -c 8601600 /dev/zero | split -b 4096 -a 5 --numeric-suffixes=10000 - o"], "shell": true, "outputs": [\#(paths)]}"#,
            outputs: names)
        guard case .finished(let outputs, _, _) = try harness.run(harness.request(template)) else { throw Harness.Unexpected() }
        #expect(outputs.prefix { if case .inline = $0.value { true } else { false } }.count == 2049, "8 MiB, and the one that is more")
        #expect(outputs.dropFirst(2049).allSatisfy { $0.value == .stored(sizeBytes: 4096) })
    }

    @Test func `many programs run at once`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/run", config: #"{"command": ["true"]}"#)
        let tokens = (0..<200).map { _ in harness.start(harness.request(template)) }
        for token in tokens {
            guard case .finished = try harness.end(of: token) else { throw Harness.Unexpected() }
        }
        #expect(harness.taskDirectories.isEmpty)
    }
}

func eventually(seconds: Double = 10, _ condition: () throws -> Bool, catching: (any Error) -> Bool) -> Bool {
    eventually(seconds: seconds) { do { return try condition() } catch { return catching(error) } }
}
