import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

@Suite struct LogLimitTests {
    @Test func `a log that is too long keeps its end, and its writer goes on behind it`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        let writer = try Descriptor.open(directory + "/log", O_WRONLY | O_CREAT | O_APPEND, mode: 0o644)
        let log = try Descriptor.open(directory + "/log", O_RDWR | O_APPEND)
        try writer.writeAll([UInt8](repeating: UInt8(ascii: "a"), count: 1000) + Array("the end\n".utf8))
        log.keepTail(bytesMax: 2000, bytesKept: 8)
        #expect(try log.status().sizeBytes == 1008, "it is not too long")
        log.keepTail(bytesMax: 1000, bytesKept: 8)
        try writer.writeAll(Array("more\n".utf8))
        #expect(try text(of: directory + "/log") == "[1000 bytes before this are left out]\nthe end\nmore\n")
    }

    @Test func `the log of a process that ended well without a word goes, that of another stays`() throws {
        let harness = try Harness()
        for (id, command) in [(1 as UInt32, "exit 0"), (2, "echo hello"), (3, "exit 3")] {
            harness.shell.perform(.startSubworker(SubworkerID(id), SubworkerCommand(name: "odd", arguments: ["sh", "-c", command])))
            _ = try harness.wait { if case .subworkerEnded(SubworkerID(id), let evidence, _, _) = $0 { evidence } else { nil } }
        }
        #expect(names(in: harness.directory + "/log/subworkers") == ["odd-2.log", "odd-3.log"])
    }

    @Test func `the log of a subworker is watched from its start`() throws {
        let harness = try Harness()
        harness.shell.perform(.startSubworker(SubworkerID(1), SubworkerCommand(name: "odd", arguments: ["sleep", "1000"])))
        #expect(harness.shell.timers.contains(.trimLogs))
        // What tasks print is nobody else's.
        #expect(try #require(harness.shell.subworkers[SubworkerID(1)]).log.status().st_mode & 0o777 == 0o600)
        try #require(harness.shell.subworkers[SubworkerID(1)]).log.writeAll([UInt8](repeating: 0x61, count: Int(WorkerShell.logBytesMax) + 1))
        harness.shell.timerFired(.trimLogs)
        #expect(try text(of: harness.directory + "/log/subworkers/odd-1.log").utf8.count < 2 * WorkerShell.logBytesKept)
        #expect(harness.shell.timers.contains(.trimLogs), "as long as it runs")
    }

    @Test func `no more than so many logs of ended processes are kept`() throws {
        let harness = try Harness()
        harness.shell.endedLogs = ContiguousArray((0..<WorkerShell.endedLogCountMax).map { "\(harness.directory)/old-\($0)" })
        try write("x", to: harness.directory + "/old-0")
        harness.shell.perform(.startSubworker(SubworkerID(1), SubworkerCommand(name: "odd", arguments: ["sh", "-c", "echo hello"])))
        _ = try harness.wait { if case .subworkerEnded(SubworkerID(1), let evidence, _, _) = $0 { evidence } else { nil } }
        #expect(access(harness.directory + "/old-0", F_OK) != 0 && access(harness.directory + "/log/subworkers/odd-1.log", F_OK) == 0)
        #expect(harness.shell.endedLogs.count == WorkerShell.endedLogCountMax)
    }
}
