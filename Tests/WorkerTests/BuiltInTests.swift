import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

@Suite(.serialized) struct BuiltInTests {
    private func argument(path: String) -> String { JSONValue.object([("path", .string(path))]).text }

    @Test func `concat joins inputs of any size, and none`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/concat", outputs: ["out"])
        #expect(try harness.outputs(of: harness.request(template, inputs: [harness.input("ab"), harness.input("c")])) == ["abc"])
        #expect(try harness.outputs(of: harness.request(template)) == [""])
        let long = String(repeating: "l", count: 5000)
        #expect(
            try harness.outputs(of: harness.request(template, inputs: [harness.input(long), harness.input("!"), harness.input(long)])) == [long + "!" + long])
        #expect(try harness.outputs(of: harness.request(template, inputs: [harness.storedInput("s"), harness.input("t")])) == ["st"])
        #expect(harness.stagedFiles.isEmpty)
    }

    @Test func `sleep gives its input after the time, and can be stopped`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/sleep", outputs: ["out"])
        let before = monotonicNanoseconds()
        #expect(try harness.outputs(of: harness.request(template, arguments: #"{"seconds": 0.05}"#, inputs: [harness.input("x")])) == ["same as 0"])
        #expect(monotonicNanoseconds() - before >= 50_000_000)
        let token = harness.start(harness.request(template, arguments: #"{"seconds": 1000}"#, inputs: [try harness.input("x")]))
        harness.shell.perform(.stopJob(token))
        #expect(try harness.end(of: token) == .cancelled)
        let none = harness.define("builtin/sleep")
        #expect(try harness.outputs(of: harness.request(none, arguments: #"{"seconds": 0}"#)) == [])
        for arguments in ["null", #"{"seconds": -1}"#, #"{"seconds": "1"}"#, #"{"seconds": 1e300}"#, "[", ""] {
            #expect(try harness.failure(of: harness.request(none, arguments: arguments)).cause == .setup)
        }
    }

    @Test func `load brings a file in`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/load", outputs: ["out"])
        let path = harness.directory + "/file"
        for size in [0, 10, 4096, 4097, 3_000_000] {
            let content = String(repeating: "a", count: size)
            try write(content, to: path)
            #expect(try harness.outputs(of: harness.request(template, arguments: argument(path: path))) == [content])
        }
        // Such files say that they are empty.
        #expect(try harness.outputs(of: harness.request(template, arguments: argument(path: "/proc/self/status")))[0].contains("Pid:"))
        for (path, word) in [("relative", "absolute"), ("/no/such", "no file"), (harness.directory, "directory"), ("/dev/null", "regular")] {
            let error = try harness.failure(of: harness.request(template, arguments: argument(path: path)))
            #expect(error.message.contains(path) && error.message.contains(word), "\(error.message)")
        }
        #expect(try harness.failure(of: harness.request(template, arguments: "null")).message.contains("path"))
        #expect(harness.stagedFiles.isEmpty)
    }

    @Test func `store writes a file whole or not at all`() throws {
        let harness = try Harness()
        let template = harness.define("builtin/store")
        let path = harness.directory + "/out/file"
        let long = String(repeating: "b", count: 2_000_000)
        mkdir(harness.directory + "/out", 0o755)
        for content in ["short", long, ""] {
            #expect(try harness.outputs(of: harness.request(template, arguments: argument(path: path), inputs: [harness.input(content)])) == [])
            #expect(try text(of: path) == content)
        }
        #expect(names(in: harness.directory + "/out") == ["file"])
        for (path, word) in [("x", "absolute"), ("/no/such/file", "no directory"), (harness.directory + "/out", "is a directory")] {
            let error = try harness.failure(of: harness.request(template, arguments: argument(path: path), inputs: [harness.input("x")]))
            #expect(error.message.contains(word), "\(error.message)")
        }
        #expect(names(in: harness.directory + "/out") == ["file"])
    }

    @Test func `store says when it is its input that is missing, and makes nothing`() throws {
        let harness = try Harness()
        for isDirectory in [false, true] {
            let input = LocalInput(replica: replica(77), sizeBytes: 5000, isDirectory: isDirectory, value: .stored)
            let path = harness.directory + "/target"
            let error = try harness.failure(of: harness.request(harness.define("builtin/store"), arguments: argument(path: path), inputs: [input]))
            #expect(error.message.contains("its input, object") && error.message.contains("No such file"), "\(error.message)")
            #expect(!names(in: harness.directory).contains { $0.hasPrefix("target") })
        }
    }

    @Test func `a name is made durable with its directory, where that can be read`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        try syncDirectory(of: directory + "/new")
        try syncDirectory(of: "/new")
        #expect(throws: SystemError.self) { try syncDirectory(of: directory + "/none/new") }
        #expect(throws: SystemError.self, "a name that begins with a combining mark") { try syncDirectory(of: directory + "/none/\u{301}new") }
    }

    @Test func `wrong numbers of inputs and unknown types are errors`() throws {
        let harness = try Harness()
        #expect(try harness.failure(of: harness.request(harness.define("builtin/store"))).message.contains("1 inputs"))
        #expect(try harness.failure(of: harness.request(harness.define("builtin/concat"))).message.contains("1 outputs"))
        #expect(try harness.failure(of: harness.request(harness.define("builtin/dance"))).message.contains("builtin/dance"))
    }
}

struct JSONTextTests {
    private func parse(_ text: String) throws -> JSONValue { try JSONParser.parse(Array(text.utf8)) }

    @Test func `values are read`() throws {
        #expect(
            try parse(#" {"a": [1, -2.5e1, true, null], "b": "x\n\u00e9\ud83d\ude00\ud800"} "#)
                == .object([("a", .array([.number(1), .number(-25), .bool(true), .null])), ("b", .string("x\né😀\u{FFFD}"))]))
        #expect(try parse("[]") == .array([]))
    }

    @Test(arguments: ["", "{", "[1,]", "{\"a\"}", "tru", "\"x", "1 2", "\"\\q\"", "\"\\u12\"", "nan", "1e999", "\"\u{1}\"", String(repeating: "[", count: 100)])
    func `nonsense is an error`(text: String) {
        #expect(throws: JSONError.self) { try parse(text) }
    }

    @Test func `what is written is read back`() throws {
        let value = JSONValue.object([("a\"\\\n\u{1}", .array([.number(1.5), .number(7), .bool(false), .null, .string("ü")]))])
        #expect(try parse(value.text) == value)
    }

    @Test func `options come through to the worker's process`() throws {
        var options = WorkerOptions(serverHost: "h", controlPort: 9, cpus: 3, workDirectory: "/w", logDirectory: "/l", accessFile: "/a\"b")
        options.subworkers = [SubworkerCommand(name: "x", arguments: ["a", "b c"], environment: ["K=v"])]
        options.name = "me"
        options.storeName = "rain-1-2-3"
        options.storeMemoryBytes = 12345
        #expect(WorkerOptions(text: Array(options.text.utf8)) == options)
        #expect(WorkerOptions(text: Array("{}".utf8)) == nil)
    }
}
