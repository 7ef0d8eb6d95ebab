import ArgumentParser
import FoundationEssentials
import Glibc

struct Get: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fetches a result of a session, or lists what it keeps.",
        discussion: """
            Waits until the object is there. A directory comes as a tar stream.

                rain get 1                          what can be fetched
                rain get 1 greeting                 the object with that label, to stdout
                rain get 1 greeting -o result.txt   to a file
                rain get 1 2 -o result.txt          object 2
                rain get 1 tree | tar x             a directory
            """)

    @Argument(help: "The session's number.", transform: parsed(ValueForm.session))
    var session: SessionNumber
    @Argument(help: "The object's number or label; without it, a list.")
    var object: String?
    @OptionGroup var address: ServerAddressOptions
    @Option(name: [.customShort("o"), .long], help: ArgumentHelp("Where it goes; default, and with -: stdout.", valueName: "file"))
    var output: String?

    /// Of a list for people.
    private static let shownMax = 100

    func validate() throws {
        if output != nil, object == nil { throw ValidationError("--output needs an object: its number or label") }
        if let output, output.isEmpty { throw ValidationError("--output \"\": say a file, or - for stdout") }
    }

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect()
        let status = try client.decode(SessionAnswer.self, client.call(&connection, "GET", "/sessions/\(session.value)"))
        guard let object else { return try printList(status, client, &connection) }
        if let failure = status.failure { throw CLIError.taskFailed(failure.text) }
        if let output, output != "-" { try NewFile.check(output) }
        let found = try find(object, status, client, &connection)
        if found.state == "dropped" { throw CLIError.notKept(found.label.map { $0.isEmpty ? object : $0 } ?? object) }
        if found.state == "unfinished", isatty(STDERR_FILENO) != 0 { printError("object \(found.object) is not there yet; waiting for it") }
        try client.download(
            "/api/v1/sessions/\(session.value)/objects/\(found.object)/content", to: output ?? "-", &connection,
            asText: output == nil && isatty(STDOUT_FILENO) != 0)
    }

    private func find(
        _ wanted: String, _ status: SessionAnswer, _ client: APIClient, _ connection: inout HTTPConnection
    ) throws(CLIError) -> ObjectInfoAnswer.Object {
        if let number = SessionNumber(argument: wanted)?.value {
            guard number < status.objects else { throw .noSuchObject(number, session: session.value, count: status.objects) }
            if let object = try client.objects(&connection, session.value, from: number, count: 1).first { return object }
        }
        var found: [ObjectInfoAnswer.Object] = []
        var labels: Set<String> = []
        try client.forEachObject(&connection, status) { object in
            guard let label = object.label, !label.isEmpty else { return }
            if label == wanted { found.append(object) } else if labels.count < 20 { labels.insert(label) }
        }
        guard let object = found.first else { throw .noSuchLabel(wanted, known: labels.sorted()) }
        guard found.count == 1 else { throw .ambiguousObject(wanted, objects: found.map(\.object)) }
        return object
    }

    private func printList(_ status: SessionAnswer, _ client: APIClient, _ connection: inout HTTPConnection) throws(CLIError) {
        var rows: [[String]] = []
        var moreCount = 0
        try client.forEachObject(&connection, status) { object in
            guard object.kept == true, object.state != "dropped" else { return }
            if rows.count < Self.shownMax { rows.append(object.row) } else { moreCount += 1 }
        }
        if rows.isEmpty {
            print("session \(status.session) keeps nothing: only outputs with \"keep\": true stay after their last use")
        } else {
            printTable(["object", "label", "state", "size", "content type"], rows)
            if moreCount > 0 { print("and \(moreCount) more") }
        }
        if let failure = status.failure { print("The session has failed, and nothing of it can be fetched:\n\(failure.text)") }
    }
}

struct ObjectInfoAnswer: Decodable {
    struct Object: Decodable {
        var object: UInt32
        var label: String?
        var state: String
        var kept: Bool?
        var directory: Bool?
        var content_type: String?
        var size: UInt64?

        var row: [String] {
            [
                "\(object)", shown(label ?? ""), state, state == "finished" ? sizeText(size) : "",
                directory == true ? "directory (tar)" : shown(content_type ?? ""),
            ]
        }
    }
    var objects: [Object]
}

extension APIClient {
    func objects(_ connection: inout HTTPConnection, _ session: UInt32, from first: UInt32, count: UInt32) throws(CLIError) -> [ObjectInfoAnswer.Object] {
        let answer = try call(&connection, "POST", "/sessions/\(session)/info", body: encodeJSON(["objects": [[first, count]]]))
        return try decode(ObjectInfoAnswer.self, answer).objects
    }

    /// All objects of a session, asked for in pieces.
    func forEachObject(_ connection: inout HTTPConnection, _ status: SessionAnswer, _ body: (ObjectInfoAnswer.Object) -> Void) throws(CLIError) {
        var next: UInt32 = 0
        while next < status.objects {
            let count = min(10_000, status.objects - next)
            for object in try objects(&connection, status.session, from: next, count: count) { body(object) }
            next += count
        }
    }

    /// - Parameter asText: for a terminal, which bytes of other kinds would upset.
    func download(_ path: String, to file: String, _ connection: inout HTTPConnection, asText: Bool = false) throws(CLIError) {
        // The object may have to be made first, or to be made again on the way.
        connection.mayTakeLong = true
        defer { connection.mayTakeLong = false }
        let head = try connection.request("GET", path, headers: headers)
        guard head.status == 200 else { return try check(head, connection.readBody()) }
        if file == "-" {
            var isBegun = false
            do throws(CLIError) {
                while let part = try connection.nextPart() {
                    if asText, !isBegun, part.prefix(4096).contains(0) { throw .notText }
                    isBegun = true
                    try writeAll(part, to: STDOUT_FILENO, path: "stdout")
                }
            } catch {
                // What is printed can't be taken back, to be printed again.
                throw isBegun && error.mayPass ? .outputCut(reason: "\(error)") : error
            }
            return
        }
        let target = try NewFile(file, mode: 0o666)
        while let part = try connection.nextPart() { try target.write(part) }
        try target.finish()
    }
}
