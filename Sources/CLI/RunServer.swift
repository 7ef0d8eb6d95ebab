import ArgumentParser
import Server
import TaskModel

struct RunServer: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "server",
        abstract: "Runs a server in the foreground.",
        discussion: """
            Keys are made on the first start, in the state directory ($XDG_STATE_HOME/rain, else ~/.local/state/rain). \
            Copy its access.toml to the machines of workers and clients, and let them reach the server with --host '*'.

                rain server
                rain server --host '*' --port 8210 --control-port 8211

            Started again with the same ports and --work-dir, after whatever end, it goes on with its sessions; workers and clients find \
            it by themselves.
            """)

    @Option(help: "The address to listen on; * for every network.")
    var host = "127.0.0.1"
    @Option(help: "The port of clients; 0 for any that is free; default: 7210.", transform: parsed(ValueForm.port))
    var port: UInt16 = 7210
    @Option(help: "The port of workers; 0 for any that is free; default: 7211.", transform: parsed(ValueForm.port))
    var controlPort: UInt16 = 7211
    @Option(help: ArgumentHelp("Where the journal and uploaded data are; default: work/server in the state directory.", valueName: "directory"))
    var workDir: String?
    @Option(help: ArgumentHelp("Where server.log goes; default: the log is written to stderr.", valueName: "directory"))
    var logDir: String?
    @Option(help: ArgumentHelp("A file that is written when the server is ready.", valueName: "file"))
    var readyFile: String?
    @Option(help: .hidden)
    var readyFd: Int32?

    func validate() throws { try checkPorts(clients: port, workers: controlPort) }

    func run() throws {
        let state = try stateDirectory()
        if let logDir { try writeLog(to: absolute(logDir), role: .server) }
        var options = try ServerOptions(workDirectory: absolute(workDir ?? state + "/work/server"), stateDirectory: state)
        options.host = host
        options.port = port
        options.controlPort = controlPort
        options.readyFile = try readyFile.map(absolute)
        options.readyDescriptor = readyFd
        options.version = rainVersion
        let code = try runServer(options)
        if code != 0 { throw ExitCode(code) }
    }
}
