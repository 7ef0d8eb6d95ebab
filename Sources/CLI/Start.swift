import ArgumentParser
import Worker

struct Start: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Starts a server and workers on this machine and leaves them running.",
        discussion: """
            Returns when all are ready. If one is not, the others are stopped again and the cause is printed with the end of its log.

                rain start --simple                    a worker with all CPUs
                rain start --local-workers [2,2]       two workers with two CPUs each
                rain start --simple --subworker wc=./wordcount

            When a process of an earlier `rain start` has ended and others of it still run, the missing ones are started again as they \
            were, whatever the options say now: a server that comes back so goes on with its sessions, and its workers with their tasks.
            """)

    @Flag(help: "One worker with all CPUs of this machine.")
    var simple = false
    @Option(help: ArgumentHelp("Workers with these numbers of CPUs.", valueName: "[n,…]"), transform: parsed(ValueForm.cpuList))
    var localWorkers: CPUList? = nil
    @Option(help: ArgumentHelp("With --simple: the CPUs of its worker; default: all of this machine.", valueName: "n"), transform: parsed(ValueForm.cpus))
    var cpus: UInt32? = nil
    @Option(help: "The address that the server listens on; * for every network.")
    var host = "127.0.0.1"
    @Option(help: "The port of clients; 0 for any that is free; default: 7210.", transform: parsed(ValueForm.port))
    var port: UInt16 = 7210
    @Option(help: "The port of workers; 0 for any that is free; default: 7211.", transform: parsed(ValueForm.port))
    var controlPort: UInt16 = 7211
    @Option(
        help: ArgumentHelp(
            "How much memory the data of each worker may take, such as 4G; what is more goes to disk; default: half of the machine's, shared out.",
            valueName: "bytes"), transform: parsed(ValueForm.bytes))
    var storeMemory: ByteCount? = nil
    @Option(help: ArgumentHelp("Where each process gets a directory for its data; default: work in the state directory.", valueName: "directory"))
    var workDir: String?
    @Option(help: ArgumentHelp("Where the logs go; default: log in the state directory.", valueName: "directory"))
    var logDir: String?
    @Option(help: ArgumentHelp("A subworker that every worker offers; may be repeated.", valueName: "name=command"))
    var subworker: [String] = []
    @Option(help: ArgumentHelp("Declarations of C functions that are tasks of every worker (see rain ffi); may be repeated.", valueName: "file"))
    var ffi: [String] = []
    @Option(help: ArgumentHelp("A file that is written when everything is ready, with the server's address as JSON.", valueName: "file"))
    var readyFile: String?

    func validate() throws {
        guard simple != (localWorkers != nil) else { throw ValidationError("say either --simple or --local-workers [2,2]") }
        if let cpus {
            guard simple else { throw ValidationError("--cpus is for --simple; with --local-workers say the CPUs there: [2,2]") }
            guard cpus > 0 else { throw ValidationError("--cpus 0: a worker needs at least one") }
        }
        try checkPorts(clients: port, workers: controlPort)
        for text in subworker where SubworkerOption(argument: text) == nil {
            throw ValidationError("--subworker \(text): \(ValueForm.subworker)")
        }
    }

    func run() throws {
        let directory = try RunDirectory()
        let lock = try directory.lock()
        _ = lock
        let earlier = try directory.started()
        if !earlier.isEmpty { return try goOn(earlier, in: directory) }
        let logs = try absolute(logDir ?? stateDirectory() + "/log")
        let work = try absolute(workDir ?? stateDirectory() + "/work")

        var starter = try DaemonStarter(runDirectory: directory)
        do {
            let server = try starter.start([serverSpec(logs: logs, work: work)])[0]
            guard let clientPort = server.port, let workerPort = server.controlPort else {
                throw CLIError.badAnswer("the server", reason: "it did not say its ports")
            }
            _ = try starter.start(workerSpecs(logs: logs, work: work, controlPort: workerPort))
            if let readyFile { try writeReadyFile(absolute(readyFile), server: starter.started[0], clientPort: clientPort, controlPort: workerPort) }
            report(starter.started, clientPort: clientPort, controlPort: workerPort, logs: logs)
        } catch {
            starter.undo()
            throw error
        }
    }

    /// Starts again what is missing of an earlier start.
    private func goOn(_ earlier: [(record: RunRecord, isRunning: Bool)], in directory: RunDirectory) throws {
        let missing = earlier.filter { !$0.isRunning }.map(\.record)
        let specs = missing.compactMap { record in
            record.again.map { DaemonSpec(role: record.role, name: record.name, arguments: $0, logPath: record.logPath) }
        }
        guard !missing.isEmpty, specs.count == missing.count, let server = earlier.first?.record, server.role == .server else {
            throw CLIError.alreadyRunning(earlier.filter(\.isRunning).map(\.record.title))
        }
        var starter = try DaemonStarter(runDirectory: directory)
        do {
            // The server first: its workers are ready when it has taken them.
            for part in [specs.filter { $0.role == .server }, specs.filter { $0.role == .worker }] where !part.isEmpty { _ = try starter.start(part) }
            let known = starter.started.first { $0.role == .server } ?? server
            if let readyFile, let clientPort = known.port, let controlPort = known.controlPort {
                try writeReadyFile(absolute(readyFile), server: known, clientPort: clientPort, controlPort: controlPort)
            }
            for (record, isRunning) in earlier where isRunning { print("\(record.title), runs on") }
            for record in starter.started { print("\(record.title), had ended and was started again as it was") }
        } catch {
            starter.undo()
            // Not forgotten: the next try finds it.
            for record in missing { try directory.write(record) }
            throw error
        }
    }

    private func writeReadyFile(_ path: String, server: RunRecord, clientPort: UInt16, controlPort: UInt16) throws(CLIError) {
        let file = try NewFile(path, mode: 0o644)
        let text = #"{"ready": true, "host": "\#(reachableHost)", "port": \#(clientPort), "control_port": \#(controlPort), "pid": \#(server.pid)}"#
        try file.write(Array((text + "\n").utf8))
        try file.finish()
    }

    private func serverSpec(logs: String, work: String) throws(CLIError) -> DaemonSpec {
        let arguments = ["server", "--host", host, "--port", String(port), "--control-port", String(controlPort)]
        return try spec(.server, "server", arguments, logs: logs, work: work)
    }

    private func workerSpecs(logs: String, work: String, controlPort: UInt16) throws(CLIError) -> [DaemonSpec] {
        var specs: [DaemonSpec] = []
        for (index, count) in cpuCounts.enumerated() {
            var arguments = ["worker", "\(reachableHost):\(controlPort)", "--cpus", String(count)]
            arguments += ["--store-memory", String(storeMemory?.bytes ?? defaultStoreMemory() / UInt64(cpuCounts.count))]
            for text in subworker { arguments += ["--subworker", text] }
            for file in ffi { arguments += ["--ffi", try absolute(file)] }
            specs.append(try spec(.worker, "worker-\(index + 1)", arguments, logs: logs, work: work))
        }
        return specs
    }

    /// A process whose log, and the logs of its subworkers, are in a directory of its own.
    private func spec(_ role: RunRecord.Role, _ name: String, _ arguments: [String], logs: String, work: String) throws(CLIError) -> DaemonSpec {
        try makeDirectories("\(logs)/\(name)")
        return DaemonSpec(
            role: role, name: name, arguments: arguments + ["--work-dir", "\(work)/\(name)", "--log-dir", "\(logs)/\(name)"],
            logPath: logFile(directory: "\(logs)/\(name)", role: role))
    }

    private func report(_ started: [RunRecord], clientPort: UInt16, controlPort: UInt16, logs: String) {
        print("server    http://\(reachableHost):\(clientPort)   workers join at port \(controlPort), pid \(started[0].pid)")
        for (record, count) in zip(started.dropFirst(), cpuCounts) {
            print("\(record.name)  \(count) CPU\(count == 1 ? "" : "s"), pid \(record.pid)")
        }
        print("logs      \(logs)")
        print("Stop it with `rain stop`, see it with `rain status`.")
    }

    private var cpuCounts: [Int] { localWorkers?.counts ?? [Int(cpus ?? availableCPUs())] }
    /// A server that listens everywhere is reached by the loopback address.
    private var reachableHost: String { ["*", "0.0.0.0"].contains(host) ? "127.0.0.1" : host }
}

/// `[2,2]` or `2,2`: how many CPUs each worker has.
struct CPUList: ExpressibleByArgument, Equatable {
    var counts: [Int]

    init?(argument: String) {
        var text = argument[...]
        if text.first == "[", text.last == "]" { text = text.dropFirst().dropLast() }
        counts = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let count = Int(part.trimmed), count > 0 else { return nil }
            counts.append(count)
        }
    }
}
