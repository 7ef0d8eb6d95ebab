import ArgumentParser
import TaskModel
import Testing

@testable import rain

@Suite struct ArgumentTests {
    @Test(
        arguments: [
            ("n1", "n1", nil), ("n1:80", "n1", 80), ("10.0.0.1:7210", "10.0.0.1", 7210), ("::1", "::1", nil), ("[::1]", "::1", nil), ("[::1]:99", "::1", 99),
        ] as [(String, String, UInt16?)])
    func `a server is a host with or without a port`(text: String, host: String, port: UInt16?) {
        #expect(HostAndPort(argument: text) == HostAndPort(host: host, port: port))
    }

    @Test(arguments: ["", ":80", "n1:", "n1:0", "n1:70000", "n1:x", "[::1", "[::1]x"])
    func `what is no server is refused`(text: String) {
        #expect(HostAndPort(argument: text) == nil)
    }

    @Test(
        arguments: [
            ("0", 0), ("4096", 4096), ("4G", 4 << 30), ("1.5GiB", 3 << 29), ("200m", 200 << 20), ("1kB", 1024), ("", nil), ("G", nil), ("-1", nil),
            ("4X", nil), ("1e3", nil), ("99999999999T", nil),
        ] as [(String, UInt64?)])
    func `an amount of memory is a number and a unit`(text: String, bytes: UInt64?) {
        #expect(ByteCount(argument: text)?.bytes == bytes)
    }

    @Test func `workers are a list of CPU counts, in brackets or not`() {
        #expect(CPUList(argument: "[2, 4]")?.counts == [2, 4])
        #expect(CPUList(argument: "3")?.counts == [3])
        for text in ["", "[]", "[0]", "[-1]", "[2,]", "[a]", "[2"] { #expect(CPUList(argument: text) == nil, "\(text)") }
    }

    @Test(
        arguments: [
            ("wc=./wordcount", ["./wordcount"]), ("wc=a b  c", ["a", "b", "c"]), (#"wc='a b' "c d" e\ f"#, ["a b", "c d", "e f"]),
            (#"wc=x "" y=1"#, ["x", "", "y=1"]), (#"wc='a\b' "q\"q""#, [#"a\b"#, "q\"q"]),
        ] as [(String, [String])])
    func `a subworker is a name and a command with quotes`(text: String, command: [String]) {
        let option = SubworkerOption(argument: text)
        #expect(option?.name == "wc")
        #expect(option?.command == command)
    }

    @Test(arguments: ["", "wc", "=a", "wc=", "wc=  ", "wc='a", #"wc=a\"#])
    func `what is no subworker is refused`(text: String) {
        #expect(SubworkerOption(argument: text) == nil)
    }

    @Test func `a program with a slash is made absolute, one without is looked up`() throws {
        let here = try absolute("x").dropLast()
        #expect(try SubworkerOption(argument: "wc=bin/wc -l")?.subworkerCommand().arguments == ["\(here)bin/wc", "-l"])
        #expect(try SubworkerOption(argument: "wc=wc -l")?.subworkerCommand().arguments == ["wc", "-l"])
    }

    @Test func `the subworkers of an installation are found from its program`() {
        #expect(Installation.subworkerProgram("ffi", of: "/opt/rain/bin/rain") == "/opt/rain/libexec/rain/ffi")
        #expect(Installation.subworkerProgram("ffi", of: "/bin/rain") == "/libexec/rain/ffi")
    }

    @Test func `a worker offers ffi with its declarations, unless another one is given`() throws {
        let here = try absolute("x").dropLast()
        let own = try Installation.subworkers([], of: WorkerFile(), declarations: ["a.ffi", "/b.ffi"])
        #expect(own.map(\.name) == ["ffi"])
        #expect(own[0].arguments.dropFirst() == ["--declarations", "\(here)a.ffi", "--declarations", "/b.ffi"])
        #expect(own[0].arguments[0].hasSuffix("/libexec/rain/ffi"))
        #expect(own[0].threadsByMethod == [:])
        let shared = try Installation.subworkers([], of: WorkerFile(), declarations: [], threadsByMethod: ["libz/crc32": 8])
        #expect(shared[0].threadsByMethod == ["libz/crc32": 8])
        let given = try #require(SubworkerOption(argument: "ffi=/bin/true"))
        #expect(try Installation.subworkers([given], of: WorkerFile(), declarations: []).map(\.arguments) == [["/bin/true"]])
    }

    @Test func `functions that may run at once are known by their tasks, and so are libraries`() throws {
        #expect(Installation.threads(ofList: "libz/crc32 8\nlibz/zlibVersion 1\nm/cos 64\n") == ["libz/crc32": 8, "m/cos": 64])
        let own = try Installation.subworkers([], of: WorkerFile(), declarations: [])
        #expect(try Installation.offers(of: own, list: "libz/crc32 8\nm/cos 1\nlibz/adler32 1\n.\n") == ["ffi/libz", "ffi/m"])
        let other = SubworkerCommand(name: "ffi", arguments: ["/bin/true"])
        #expect(try Installation.offers(of: [other], list: "") == ["ffi/"], "it may have any library")
        #expect(Installation.threads(ofList: "") == [:] && Installation.threads(ofList: "x\ny z\nz -1\n\n") == [:])
    }

    @Test func `a label may hold an equals sign, a path may not`() {
        let option = LabelAndPath(argument: "a=b=out.txt")
        #expect(option?.label == "a=b")
        #expect(option?.path == "out.txt")
        for text in ["", "x", "=x", "x="] { #expect(LabelAndPath(argument: text) == nil, "\(text)") }
    }

    @Test func `tasks are named by numbers and ranges`() {
        #expect(TaskRange(argument: "5") == TaskRange(first: 5, count: 1))
        #expect(TaskRange(argument: "5-9") == TaskRange(first: 5, count: 5))
        for text in ["", "-", "5-", "-5", "9-5", "x", "1-2-3", "4294967295", "99999999999"] { #expect(TaskRange(argument: text) == nil, "\(text)") }
    }

    @Test(
        arguments: [
            (["status", "--server", "n1:99999"], ValueForm.server), (["start", "--simple", "--port", "99999"], ValueForm.port),
            (["server", "--control-port", "1,1"], ValueForm.port), (["worker", "n1", "--cpus", "none"], ValueForm.cpuCount),
            (["start", "--local-workers", "2;2"], ValueForm.cpuList), (["worker", "n1", "--store-memory", "much"], ValueForm.bytes),
            (["submit", "x", "--get", "out"], ValueForm.labelAndPath), (["close", "all"], ValueForm.session),
            (["cancel", "1", "2..3"], ValueForm.tasks), (["wait", "1", "--timeout", "soon"], ValueForm.seconds),
            (["worker", "n1", "--subworker", "wc"], ValueForm.subworker),
        ])
    func `a wrong value is refused with what would be right`(arguments: [String], form: String) {
        do {
            _ = try Rain.parseAsRoot(arguments)
            Issue.record("it was taken")
        } catch {
            #expect(Rain.message(for: error).contains(form))
        }
    }

    @Test func `a server that is gone may be gone for any time`() throws {
        var outage = Outage(secondsMax: .max)
        try outage.wait(after: .noServer("n1:7210", reason: "refused"))
        #expect(throws: CLIError.notText) { try outage.wait(after: .notText) }
    }

    @Test func `hints are told once, however their lines come`() {
        var lines = LeaseLines()
        #expect(lines.hints(in: Array("{\"lease\":1}\n{\"hint\":{\"number\":1,\"mess".utf8)) == [])
        #expect(lines.hints(in: Array("age\":\"no worker\"}}\n\n".utf8)) == ["no worker"])
        let other = #"{"hint":{"number":2,"message":"none is large"}}"#
        #expect(lines.hints(in: Array("{\"hint\":{\"number\":1,\"message\":\"no worker\"}}\n\(other)\n".utf8)) == ["none is large"])
        #expect(lines.hints(in: Array("{\"hint\":7}\n{\"hinted\":1}\n".utf8)) == [])
    }

    @Test func `names can't move the cursor`() {
        #expect(shown("a\u{1b}[2Jb\nc é") == "a?[2Jb?c é")
    }

    @Test(arguments: [(0.4, "0 s"), (119, "119 s"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 days"), (-5, "0 s")])
    func `a time is told in the unit that fits`(seconds: Double, text: String) {
        #expect(durationText(seconds) == text)
    }

    @Test func `a failure is told with everything that is known`() {
        let failure = FailureAnswer(
            task: 5, name: "sort", type: "builtin/run", origin: "flow.py:12 in main", cause: "user", message: "exit code 1", detail: "no such file\n",
            debug: "", host: "n1")
        let expected = """
            task 5 "sort" failed (user): exit code 1
            no such file
            type: builtin/run
            host: n1
            made at: flow.py:12 in main
            """
        #expect(failure.text == expected)
    }
}
