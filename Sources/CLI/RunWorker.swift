import ArgumentParser
import CLinux
import Glibc
import TaskModel
import Transport
import Worker

struct RunWorker: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker",
        abstract: "Runs a worker in the foreground.",
        discussion: """
            It connects to the control port of a server, and tries again while the server is away. It needs the server's \
            access.toml: copy it to the state directory of this machine, or name it with --access.

                rain worker n1
                rain worker n1:7211 --cpus 8 --access /shared/rain/access.toml
                rain worker n1 --subworker wordcount=./wordcount
                rain worker --config worker.toml

            The configuration file is TOML and can say all of that: server, cpus, store_memory, work_dir, log_dir, log_level, access, ffi, \
            and a table [subworkers.NAME] with a command for each subworker. Options count more than the file.
            """)

    @Argument(
        help: ArgumentHelp("The server, and its control port if it is not 7211.", valueName: "server[:port]"),
        transform: parsed(ValueForm.server))
    var server: HostAndPort? = nil
    @Option(
        help: ArgumentHelp(
            "A configuration file; default: rain/worker.toml in $XDG_CONFIG_HOME or ~/.config, if it is there.", valueName: "file"))
    var config: String?
    @Option(help: ArgumentHelp("How many CPUs tasks may use; default: detect.", valueName: "n|detect"), transform: parsed(ValueForm.cpuCount))
    var cpus: CPUCount? = nil
    @Option(
        help: ArgumentHelp("How much memory data may take, such as 4G; what is more goes to disk; default: half of the machine's.", valueName: "bytes"),
        transform: parsed(ValueForm.bytes))
    var storeMemory: ByteCount? = nil
    @Option(help: ArgumentHelp("Where data that has no room in memory goes; default: a directory below work in the state directory.", valueName: "directory"))
    var workDir: String?
    @Option(help: ArgumentHelp("Where worker.log and the logs of subworkers go; default: the log is written to stderr.", valueName: "directory"))
    var logDir: String?
    @Option(help: ArgumentHelp("How much subworkers log: error, warning, info or debug; default: what RAIN_LOG says, else info.", valueName: "level"))
    var logLevel: LogLevel?
    @Option(help: ArgumentHelp("A file that is written when the server has taken the worker.", valueName: "file"))
    var readyFile: String?
    @Option(help: .hidden)
    var readyFd: Int32?
    @Option(help: ArgumentHelp("The server's access file; default: access.toml in the state directory.", valueName: "file"))
    var access: String?
    @Option(help: ArgumentHelp("A subworker that this worker offers; may be repeated.", valueName: "name=command"), transform: parsed(ValueForm.subworker))
    var subworker: [SubworkerOption] = []
    @Option(help: ArgumentHelp("Declarations of C functions that are tasks of this worker (see rain ffi); may be repeated.", valueName: "file"))
    var ffi: [String] = []

    func run() throws {
        let file = try WorkerFile(path: config)
        guard let server = server ?? file.server else { throw ValidationError("name the server, here or as `server` in the configuration file") }
        let state = try stateDirectory()
        // Two workers of one user must not share a directory.
        let name = "worker-pid\(getpid())"
        let work = try absolute(workDir ?? file.workDirectory ?? "\(state)/work/\(name)")
        let logDirectory = logDir ?? file.logDirectory
        let logs = try absolute(logDirectory ?? "\(state)/log/\(name)")
        defer { if workDir == nil, file.workDirectory == nil { _ = rain_remove_tree(AT_FDCWD, work) } }
        // Logs that nobody asked for stay where there are some.
        defer { if logDirectory == nil { for directory in [logs + "/subworkers", logs] { rmdir(directory) } } }
        if logDirectory != nil { try writeLog(to: logs, role: .worker) }
        try SubworkerCheck.check(Installation.ownSubworkers(subworker, of: file))
        let list = try Installation.checkDeclarations(file.declarations + ffi)
        let subworkers = try Installation.subworkers(subworker, of: file, declarations: ffi, threadsByMethod: Installation.threads(ofList: list))
        // `rain start` knows the port.
        if readyFd == nil { try checkControlPort(server.host, server.port ?? 7211) }
        var options = try WorkerOptions(
            serverHost: server.host, controlPort: server.port ?? 7211, cpus: (cpus ?? file.cpus)?.count ?? availableCPUs(), workDirectory: work,
            logDirectory: logs, accessFile: absolute(access ?? file.access ?? AccessFile.path(inStateDirectory: state)), subworkers: subworkers,
            readyFile: readyFile.map(absolute), readyDescriptor: readyFd,
            storeMemoryBytes: (storeMemory ?? file.storeMemory)?.bytes ?? defaultStoreMemory(), logLevel: logLevel ?? file.logLevel)
        options.offers = try Installation.offers(of: subworkers, list: list)
        let code = try runWorker(options)
        if code != 0 { throw ExitCode(code) }
    }
}

extension LogLevel: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
    public static var allValueStrings: [String] { allCases.map(\.name) }
}

/// `detect`, or a number.
enum CPUCount: ExpressibleByArgument, Equatable {
    case detect
    case exactly(UInt32)

    init?(argument: String) {
        if argument == "detect" {
            self = .detect
        } else if let count = UInt32(argument), count > 0 {
            self = .exactly(count)
        } else {
            return nil
        }
    }
    /// `nil` for as many as there are.
    var count: UInt32? { if case .exactly(let count) = self { count } else { nil } }
    var defaultValueDescription: String { "detect" }
}
