import TaskModel
import Testing
import WorkerCore

/// Calls that share a process because their template, or what the worker knows of their function, says `threads`.
@Suite struct ThreadsTests {
    private static func command(_ threads: String...) -> SubworkerCommand {
        var command = SubworkerCommand(name: "ffi", arguments: ["./ffi"])
        for count in threads { command.arguments += ["--threads", count] }
        // Which functions it has is told to no process.
        command.threadsByMethod = ["libz/crc32": 8, "libz/adler32": 2]
        return command
    }

    private static func define(
        _ index: UInt32 = 0, _ type: String = "ffi/m/f", threads: UInt32, cpus: UInt32 = 1, config: String = ""
    ) -> ServerMessage {
        var template = TaskTemplate(type: type)
        template.threads = threads
        template.resources = Resources(cpus: cpus)
        template.config = Array(config.utf8)
        return .template(TemplateID(session: Make.session, index: index), template)
    }

    private static func opened(cpus: UInt32 = 4, _ templates: ServerMessage...) throws -> Harness {
        var harness = try Harness(cpus: cpus, subworkers: [command(), Harness.count])
        try harness.send([.session(Make.session, subworkers: [])] + templates)
        return harness
    }

    /// What is started for the first task of a template.
    private static func started(cpus: UInt32 = 4, _ template: ServerMessage) throws -> [WorkerEffect] {
        var harness = try opened(cpus: cpus, template)
        return try harness.send(Make.assign(0)).effects
    }

    private static func start(_ id: UInt32, _ command: SubworkerCommand) -> WorkerEffect { .startSubworker(SubworkerID(id), command) }

    @Test func `ready tasks that share processes start as many as they fill`() throws {
        var harness = try Self.opened(cpus: 8, Self.define(threads: 4))
        #expect(try harness.send((0..<4).map { Make.assign($0) }).effects == [Self.start(1, Self.command("4"))])
        #expect(try harness.send(Make.assign(4)).effects == [Self.start(2, Self.command("4"))])
        #expect(try harness.register(1, threads: 4).calls.map(\.count) == [4])
        #expect(try harness.register(2, threads: 4).calls.map(\.count) == [1])
    }

    @Test func `a process is filled before another is used`() throws {
        var harness = try Self.opened(cpus: 4, Self.define(threads: 2))
        try harness.send((0..<4).map { Make.assign($0) })
        try harness.register(1, threads: 2)
        try harness.register(2, threads: 2)
        try harness.answer(1, [0, 1])
        try harness.answer(2, [0, 1])
        let shared = try harness.send(Make.assign(10), Make.assign(11), Make.assign(12))
        #expect(shared.calls.map(\.count) == [2, 1])
        try harness.answer(1, [0])
        #expect(try harness.send(Make.assign(13)).calls.map(\.count) == [1], "beside one of the two that are left, not behind one")
    }

    @Test func `no more calls share a process than there are CPUs`() throws {
        #expect(try Self.started(cpus: 2, Self.define(threads: 64)) == [Self.start(1, Self.command("2"))])
        #expect(try Self.started(cpus: 1, Self.define(threads: 64)) == [Self.start(1, Self.command())])
        #expect(try Self.started(cpus: 100, Self.define(threads: 64)) == [Self.start(1, Self.command("60"))])
    }

    @Test func `a template without threads has a process for each call`() throws {
        var harness = try Self.opened(cpus: 2, Self.define(threads: 0), Self.define(1, threads: 1))
        #expect(try harness.send(Make.assign(0), Make.assign(1, template: 1)).effects == [Self.start(1, Self.command()), Self.start(2, Self.command())])
    }

    @Test func `what the worker knows of a function counts, unless its task brings it along`() throws {
        #expect(try Self.started(Self.define(0, "ffi/libz/crc32", threads: 0)) == [Self.start(1, Self.command("4"))])
        #expect(try Self.started(Self.define(0, "ffi/libz/adler32", threads: 0)) == [Self.start(1, Self.command("2"))])
        #expect(try Self.started(Self.define(0, "ffi/libz/other", threads: 0)) == [Self.start(1, Self.command())])
        #expect(try Self.started(Self.define(0, "ffi/libz/crc32", threads: 0, config: "{}")) == [Self.start(1, Self.command())])
        #expect(try Self.started(Self.define(0, "ffi/libz/crc32", threads: 3, config: "{}")) == [Self.start(1, Self.command("3"))])
    }

    @Test func `a subworker that knows no --threads is not told of them`() throws {
        #expect(try Self.started(Self.define(0, "count/words", threads: 4)) == [Self.start(1, Harness.count)])
    }

    @Test func `calls of several templates with as many threads share a process`() throws {
        var harness = try Self.opened(Self.define(threads: 4), Self.define(1, "ffi/n/g", threads: 64))
        #expect(try harness.send(Make.assign(0), Make.assign(1, template: 1)).effects == [Self.start(1, Self.command("4"))])
        #expect(try harness.register(1, threads: 4).calls.map(\.count) == [2])
    }
}
