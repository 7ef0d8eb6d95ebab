import Transport

/// What goes wrong on the command line's side; ends the program with status 1 and the text.
enum CLIError: Error, Equatable, CustomStringConvertible {
    case system(call: String, about: String, code: Int32)
    case transport(TransportError)
    case malformed(what: String, path: String, reason: String)
    /// Of the subworkers that a worker was told to offer.
    case badSubworker(String)
    case alreadyRunning([String])
    case notStarted(name: String, cause: String, logPath: String, tail: String)
    case interrupted
    case didNotStop([String])
    case unknownHost(String, reason: String)
    case noServer(String, reason: String)
    case connectionLost(String, reason: String)
    case silent(String, seconds: Double)
    /// Nothing runs that `rain start` started, and nobody answers at the default address.
    case noneStarted(String, reason: String)
    /// A request of a client went to the port of workers, or the other way round.
    case controlPort(String)
    case clientPort(String)
    case notControlPort(String, found: String)
    case badAnswer(String, reason: String)
    case refused(status: Int, message: String, accessPath: String)
    case taskFailed(String)
    case noSuchLabel(String, known: [String])
    case ambiguousLabel(String, objects: [UInt32])
    case ambiguousObject(String, objects: [UInt32])
    case noSuchObject(UInt32, session: UInt32, count: UInt32)
    case notText
    case notKept(String)
    case notDone(session: UInt32, seconds: Double)
    case notAllFinished(session: UInt32, tasks: UInt32, failed: UInt32, cancelled: UInt32)
    case outputCut(reason: String)

    var description: String {
        switch self {
        case .system(let call, let about, let code):
            "\(about): \(call): \(errorText(code))"
        case .transport(let error):
            error.description
        case .malformed(let what, let path, let reason):
            "\(path) is not \(what): \(reason)"
        case .badSubworker(let reason):
            reason
        case .alreadyRunning(let processes):
            "rain is already running:\n\(indented(processes))\nstop it first with `rain stop`, or set another XDG_STATE_HOME"
        case .notStarted(let name, let cause, let logPath, let tail):
            "\(name) did not start: \(cause)\n"
                + (tail.isEmpty ? "its log \(logPath) is empty" : "the end of its log \(logPath):\n\(indented(tail.split(separator: "\n").map(String.init)))")
        case .interrupted:
            "interrupted; what was started has been stopped"
        case .didNotStop(let processes):
            "could not be stopped:\n\(indented(processes))"
        case .unknownHost(let host, let reason):
            "there is no host \(host): \(reason)"
        case .noServer(let address, let reason):
            "no rain server at \(address): \(reason); start one with `rain start --simple`, or name another with --server HOST:PORT"
        case .noneStarted(let address, let reason):
            "nothing runs that `rain start` started, and at the default address \(address) nobody answers (\(reason)); start a server with "
                + "`rain start --simple`, or name one with --server HOST:PORT"
        case .controlPort(let address):
            "\(address) is the port of workers; clients have another one: 7210, unless the server was told otherwise (its log says both)"
        case .clientPort(let address):
            "\(address) is the port of clients; workers have another one: 7211, unless the server was told otherwise "
                + "(`rain status` shows it, and the server's log says both)"
        case .notControlPort(let address, let found):
            "\(address) is no port of a rain server: there is \(found); name the server's control port, 7211 unless it was told otherwise"
        case .connectionLost(let address, let reason):
            "the server at \(address) closed the connection: \(reason)"
        case .silent(let address, let seconds):
            "the server at \(address) has not answered for \(seconds == seconds.rounded() ? "\(Int(seconds))" : "\(seconds)") s, nor anybody else: "
                + "it hangs, was stopped, or can't be reached any more"
        case .badAnswer(let address, let reason):
            "the answer of \(address) is not that of a rain server: \(reason)"
        case .refused(401, let message, let accessPath):
            "\(message)\nthe token was read from \(accessPath): use the server's own access file, with --access FILE or in that place"
        case .refused(let status, let message, _):
            "the server refused (\(status)): \(message)"
        case .taskFailed(let text):
            text
        case .noSuchLabel(let label, let known):
            "no object has the label \"\(label)\""
                + (known.isEmpty ? ": none has a label" : "; there are: \(known.prefix(20).joined(separator: ", "))\(known.count > 20 ? "…" : "")")
        case .ambiguousLabel(let label, let objects):
            "the label \"\(label)\" is that of \(objects.count) objects (\(objects.prefix(10).map(String.init).joined(separator: ", "))"
                + "\(objects.count > 10 ? "…" : "")): give them different labels"
        case .ambiguousObject(let label, let objects):
            "the label \"\(label)\" is that of \(objects.count) objects: name one by its number, "
                + objects.prefix(10).map(String.init).joined(separator: ", ") + (objects.count > 10 ? "…" : "")
        case .noSuchObject(let object, let session, let count):
            "session \(session) has no object \(object)" + (count == 0 ? ": it has none" : ": its objects are 0 to \(count - 1)")
        case .notText:
            "this is no text, and stdout is a terminal: write it to a file with -o FILE, or pipe it on"
        case .notDone(let session, let seconds):
            "session \(session) is not done after \(seconds) s: `rain explain \(session)` says what it waits for"
        case .notAllFinished(let session, let tasks, let failed, let cancelled):
            "of \(tasks) tasks \(failed) failed and \(cancelled) were cancelled: `rain explain \(session)` says why"
        case .notKept(let label):
            "the object \"\(label)\" was dropped when nothing needed it any more: add \"keep\": true to that output"
        case .outputCut(let reason):
            "what was printed is not complete: \(reason); run it again, with the output to a file"
        }
    }
}

private func indented(_ lines: [String]) -> String {
    lines.map { "    \($0)" }.joined(separator: "\n")
}
