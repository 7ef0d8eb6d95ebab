import ArgumentParser
import Glibc
import Worker

struct SubworkerCommands: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "subworker", abstract: "Helps to write programs that run tasks.", subcommands: [CheckSubworker.self])
}

struct CheckSubworker: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Tries whether a program speaks the subworker protocol as docs/protocol.md wants it.",
        discussion: """
            Starts the program many times, as a worker would, and prints a line for each requirement. Most of them need a call that the \
            program understands:

                rain subworker check --name words \\
                    --call '{"method": "count", "inputs": ["a b c"], "outputs": ["n"], "expect": ["3"]}' ./words

            A call may have `config` and `arguments` (any JSON), `constants`, `inputs` and `expect` (lists of texts, or of {"hex": "00ff"}, \
            {"text": "x", "times": 1000}, {"file": "path"}, {"directory": {"name": "text", "below/name": "text"}}), `labels` (a list of texts), \
            `outputs` (a number, or a list of texts and of {"directory": "label"}), and `"varies": true` when it gives something else each time.
            """)

    @Option(help: ArgumentHelp("The name under which a worker would start it.", valueName: "name"))
    var name = "subject"
    @Option(help: ArgumentHelp("A call that succeeds.", valueName: "json"))
    var call: String?
    @Option(help: ArgumentHelp("A call that gives an error.", valueName: "json"))
    var error: String?
    @Option(help: ArgumentHelp("A call that runs until it is cancelled.", valueName: "json"))
    var endless: String?
    @Option(help: ArgumentHelp("A call with a directory among its inputs or outputs, unless --call is one.", valueName: "json"))
    var directory: String?
    @Option(help: ArgumentHelp("How long each answer may take.", valueName: "seconds"))
    var timeout: Double = 10
    @Argument(parsing: .captureForPassthrough, help: "The program and its arguments.")
    var command: [String]

    func validate() throws {
        guard timeout > 0, timeout <= 86_400 else { throw ValidationError("--timeout is a number of seconds above 0") }
        // What follows the program is its own; --help before it is ours.
        if command.first == "--help" || command.first == "-h" { throw CleanExit.helpRequest(self) }
        guard !command.isEmpty else { throw ValidationError("name a program to be tried") }
    }

    func run() throws {
        var words = command
        if words[0].contains("/") { words[0] = try absolute(words[0]) }
        var options = ConformanceOptions(command: words, name: name)
        options.call = try call.map { (text) throws(ConformanceFailure) in try SampleCall(json: text) }
        options.failing = try error.map { (text) throws(ConformanceFailure) in try SampleCall(json: text) }
        options.endless = try endless.map { (text) throws(ConformanceFailure) in try SampleCall(json: text) }
        options.directory = try directory.map { (text) throws(ConformanceFailure) in try SampleCall(json: text) }
        if let directory = options.directory, !directory.hasDirectory {
            throw ConformanceFailure(
                "--directory is a call in which no input or output is a directory: write {\"directory\": …} among its `inputs` or `outputs`")
        }
        options.timeoutNanoseconds = UInt64(timeout * 1e9)
        let interrupt = try ConformanceInterrupt([SIGINT, SIGTERM, SIGHUP])
        options.interrupt = interrupt
        var counts = (passed: 0, failed: 0, skipped: 0)
        checkConformance(options) { result in
            switch result.verdict {
            case .passed:
                counts.passed += 1
                print("ok    \(result.title)")
            case .skipped(let reason):
                counts.skipped += 1
                print("--    \(result.title): \(reason)")
            case .failed(let reason):
                counts.failed += 1
                print("FAIL  \(result.title): \(reason)")
            }
        }
        if interrupt.signal != 0 {
            // Ends as the signal would have ended it, and leaves nothing behind.
            printError("interrupted: \(counts.passed) passed, \(counts.failed) failed so far")
            throw ExitCode(128 + interrupt.signal)
        }
        print("\(counts.passed) passed, \(counts.failed) failed, \(counts.skipped) not tried")
        if counts.failed > 0 { throw ExitCode.failure }
    }
}
