import CLinux
import Glibc
import Link
import TaskModel
import Testing

@testable import Worker

/// Real workers, really killed.
@Suite(.serialized) struct ReaperTests {
    /// A worker of the built program, with a server to talk to and a task that leaves processes everywhere.
    private final class Worker {
        let directory: String
        private(set) var server: FakeServer
        let parent: pid_t
        private(set) var process: pid_t = 0
        private(set) var taskProcesses: [pid_t] = []
        let storeName: String
        private let ready: Descriptor

        init(accessFile: (FakeServer) throws -> String = { $0.accessFile }) throws {
            directory = try temporaryDirectory()
            server = try FakeServer(stateDirectory: directory + "/state")
            var ends: [Int32] = [-1, -1]
            try check(rain_pipe(&ends, true), "pipe")
            ready = Descriptor(ends[0])
            let writer = Descriptor(ends[1])
            let null = try Descriptor.open("/dev/null", O_RDWR)
            let log = try Descriptor.open(directory + "/log", O_WRONLY | O_CREAT | O_APPEND, mode: 0o644)
            parent = try ProgramEnvironment(["XDG_STATE_HOME=\(directory)/state"]).spawn(
                try Self.program,
                [
                    "rain", "worker", "127.0.0.1:\(server.port)", "--cpus", "4", "--work-dir", directory + "/work", "--access",
                    try accessFile(server), "--ready-file", directory + "/ready", "--ready-fd", "9", "--store-memory", "64M",
                ], directory: -1, standard: (null.raw, null.raw, log.raw), inherited: [writer.raw, 9])
            storeName = Store.name(ofProcess: parent)
        }
        deinit {
            kill(parent, SIGKILL)
            _ = waitpid(parent, nil, WNOHANG)
            _ = eventually { !isAlive(process) }
            _ = rain_remove_tree(AT_FDCWD, directory)
        }

        static var program: String {
            get throws {
                // The tests are loaded from the directory that the program was built into.
                let maps = String(decoding: try Descriptor.open("/proc/self/maps", O_RDONLY).read(count: 4 << 20), as: UTF8.self)
                let line = try #require(maps.split(separator: "\n").first { $0.hasSuffix("PackageTests.xctest") })
                let path = String(line[line.firstIndex(of: "/")!...])
                return path.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/rain"
            }
        }

        /// 0 while there is none.
        var janitor: pid_t {
            let children = (try? Descriptor.open("/proc/\(parent)/task/\(parent)/children", O_RDONLY).read(count: 4096)) ?? []
            let pids = String(decoding: children, as: UTF8.self).split(separator: " ").compactMap { pid_t($0) }
            return pids.first { pid in
                let name = try? Descriptor.open("/proc/\(pid)/comm", O_RDONLY).read(count: 64)
                return name.map { String(decoding: $0, as: UTF8.self) } == "rain-janitor\n"
            } ?? 0
        }
        var log: String { (try? text(of: directory + "/log")) ?? "" }
        var storeExists: Bool { access("/dev/shm/" + storeName, F_OK) == 0 || access(directory + "/work/" + storeName, F_OK) == 0 }

        /// The worker is taken in; gives the line that it says then.
        func awaitReady() throws -> JSONValue {
            var line: [UInt8] = []
            let isReady = try server.wait {
                line += (try? self.ready.readSome()) ?? []
                return line.last == UInt8(ascii: "\n")
            }
            try #require(isReady, "\(log)")
            let value = try JSONParser.parse(line)
            process = pid_t(try #require(value["process"]?.index))
            return value
        }

        /// Starts a shell that starts a child, and a grandchild that is forked twice, with a session of its own.
        func startTask() throws {
            let session = SessionID(5)
            var template = TaskTemplate(type: "builtin/run")
            let file = directory + "/pids"
            template.config = Array(
                #"{"command": ["sleep 1000 & setsid sh -c 'sleep 1001 & echo $! > \#(file).2' & sleep 0.2; echo $$ $! > \#(file).1; wait"], "shell": true}"#
                    .utf8)
            let id = TemplateID(session: session, index: 0)
            try server.send(
                .session(session, subworkers: []), .template(id, template),
                .assign(
                    Assignment(attempt: AttemptID(task: TaskID(session: session, index: 0), epoch: ServerEpoch(1), number: 1), template: id, firstOutput: 0)))
            let hasStarted = try server.wait {
                let numbers = ["\(file).1", "\(file).2"].map { ((try? text(of: $0)) ?? "").split { $0 == " " || $0 == "\n" }.compactMap { pid_t($0) } }
                self.taskProcesses = numbers.flatMap { $0 }
                return numbers.allSatisfy { !$0.isEmpty }
            }
            try #require(hasStarted, "\(log)")
            try #require(isAlive(taskProcesses[0]) && isAlive(taskProcesses.last!))
        }

        /// The server goes, and one with the same keys comes to the same port.
        func replaceServer() throws {
            let (stateDirectory, port) = (server.stateDirectory, server.port)
            let unused = directory + "/unused"
            server = try FakeServer(stateDirectory: unused)
            server = try FakeServer(stateDirectory: stateDirectory, port: port)
        }

        /// Whether what the task started is gone.
        func isQuiet() -> Bool { !taskProcesses.contains(where: isAlive) }
        func pollEnd() -> Int32? {
            var status: Int32 = 0
            return waitpid(parent, &status, WNOHANG) == parent ? status : nil
        }
        func awaitEnd() -> Int32? {
            var status: Int32 = 0
            return eventually { waitpid(parent, &status, WNOHANG) == parent } ? status : nil
        }
    }

    @Test func `a worker says when it is ready, and ends cleanly on SIGTERM`() throws {
        let worker = try Worker()
        let line = try worker.awaitReady()
        #expect(line["ready"] == .bool(true) && line["worker"] == .string("w1") && line["pid"] == .number(Double(worker.parent)))
        #expect(line["data_port"]?.index ?? 0 > 0)
        #expect(try text(of: worker.directory + "/ready") == line.text + "\n")
        #expect(worker.storeExists)
        try worker.startTask()
        kill(worker.parent, SIGTERM)
        #expect(try worker.server.wait { worker.server.goodbyeCount == 1 }, "the server is told of the end")
        #expect(worker.awaitEnd() == 0)
        // Everything went before the parent did.
        #expect(worker.isQuiet() && !isAlive(worker.process) && !worker.storeExists)
        #expect(access(worker.directory + "/ready", F_OK) != 0)
        #expect(names(in: worker.directory + "/state/rain/log").isEmpty, "no subworker wrote a log")
    }

    @Test func `kill -9 of the worker's process ends everything that it ran, and starts it again`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        try worker.startTask()
        let before = monotonicNanoseconds()
        kill(worker.process, SIGKILL)
        #expect(eventually(seconds: 2) { worker.isQuiet() })
        #expect(monotonicNanoseconds() - before < 500_000_000)
        #expect(try worker.server.wait { worker.server.hellos.count == 2 }, "\(worker.log)")
        #expect(worker.server.hellos[0].incarnation != worker.server.hellos[1].incarnation)
        #expect(worker.server.hellos[0].place == worker.server.hellos[1].place && worker.server.hellos[0].place != 0)
        #expect(worker.log.contains("SIGKILL"))
        kill(worker.parent, SIGTERM)
        #expect(worker.awaitEnd() == 0)
        #expect(!worker.storeExists)
    }

    @Test func `kill -9 of the parent leaves nothing`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        try worker.startTask()
        kill(worker.parent, SIGKILL)
        _ = worker.awaitEnd()
        #expect(eventually(seconds: 2) { worker.isQuiet() && !isAlive(worker.process) && !worker.storeExists })
    }

    @Test func `kill -9 of both at once leaves nothing`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        try worker.startTask()
        try #require(eventually { worker.janitor > 0 }, "it is started after the worker has said that it is ready")
        kill(worker.parent, SIGKILL)
        kill(worker.process, SIGKILL)
        _ = worker.awaitEnd()
        #expect(eventually(seconds: 2) { worker.isQuiet() && !worker.storeExists })
    }

    @Test func `a janitor that somebody ends is replaced`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        try worker.startTask()
        try #require(eventually { worker.janitor > 0 })
        let first = worker.janitor
        kill(first, SIGKILL)
        try #require(eventually { ![0, first].contains(worker.janitor) }, "\(worker.log)")
        kill(worker.parent, SIGKILL)
        kill(worker.process, SIGKILL)
        _ = worker.awaitEnd()
        #expect(eventually(seconds: 2) { worker.isQuiet() && !worker.storeExists })
    }

    @Test func `objects lie in a mount of the worker's own, as large as was said, where it may make one`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        let mounts = String(decoding: try Descriptor.open("/proc/\(worker.process)/mountinfo", O_RDONLY).read(count: 1 << 20), as: UTF8.self)
        let store = try #require(worker.server.hellos.first?.description.store)
        if let line = mounts.split(separator: "\n").first(where: { $0.contains("/dev/shm/\(worker.storeName) ") }) {
            #expect(line.contains("size=\(64 << 10)k") && store.hasPrefix("private tmpfs") && store.hasSuffix("64 MiB"), "\(store); \(line)")
        } else {
            print("the private mount is not tested: this user may not mount")
            #expect(geteuid() != 0 || access("/dev/shm", W_OK) != 0 || !store.hasPrefix("private"), "\(store)")
        }
        // Nothing of it is seen outside.
        #expect(names(in: "/dev/shm/" + worker.storeName).isEmpty || !store.hasPrefix("private"))
        kill(worker.parent, SIGTERM)
        #expect(worker.awaitEnd() == 0)
        #expect(!worker.storeExists)
    }

    @Test func `a session that is closed takes its stray processes with it`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        try worker.startTask()
        try worker.server.send(.closeSession(SessionID(5)))
        #expect(try worker.server.wait { worker.server.messages.contains(.sessionClosed(SessionID(5))) })
        #expect(eventually(seconds: 1) { worker.isQuiet() })
        kill(worker.parent, SIGINT)
        #expect(worker.awaitEnd() == 0)
    }

    @Test func `a worker whose key the server does not know is told what to do`() throws {
        let other = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, other) }
        let foreign = try FakeServer(stateDirectory: other)
        let worker = try Worker { server in
            // The server's key is right, the worker's is that of another server.
            let own = try text(of: server.accessFile)
            let theirs = try text(of: foreign.accessFile)
            let file = other + "/mixed.toml"
            try write(String(own[..<own.firstRange(of: "[worker]")!.lowerBound] + theirs[theirs.firstRange(of: "[worker]")!.lowerBound...]), to: file)
            chmod(file, 0o600)
            return file
        }
        var status: Int32?
        _ = try worker.server.wait {
            status = worker.pollEnd()
            return status != nil
        }
        #expect(status.map { ($0 >> 8) & 255 } == WorkerExit.unusable)
        #expect(worker.log.contains("mixed.toml") && worker.log.contains("copy access.toml"), "\(worker.log)")
        #expect(!worker.storeExists)
    }

    @Test func `a worker finds its server again`() throws {
        let worker = try Worker()
        _ = try worker.awaitReady()
        try worker.replaceServer()
        #expect(try worker.server.wait { worker.server.hellos.count == 1 }, "\(worker.log)")
        kill(worker.parent, SIGTERM)
        #expect(worker.awaitEnd() == 0)
    }

    @Test func `a worker without an access file is told what to do`() throws {
        let worker = try Worker { _ in "/no/such/access.toml" }
        #expect(worker.awaitEnd().map { ($0 >> 8) & 255 } == WorkerExit.unusable)
        #expect(worker.log.contains("no access file /no/such/access.toml"))
    }
}

extension Descriptor {
    /// What is there now.
    func readSome() throws -> [UInt8] {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(raw, &buffer, buffer.count)
        return count > 0 ? Array(buffer[..<count]) : []
    }
}
