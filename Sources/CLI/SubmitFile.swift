import ArgumentParser
import FoundationEssentials
import Glibc

struct SubmitFile: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "submit",
        abstract: "Submits a file of templates, objects and rows.",
        discussion: """
            The file holds one JSON value per line, the same as POST /api/v1/sessions/{s}/submit takes. graph.ndjson:

                {"object": {"data": "hello "}}
                {"object": {"data": "world\\n"}}
                {"template": {"type": "builtin/concat", "outputs": [{"label": "greeting", "keep": true}]}}
                [0, [0, 1], null]

            Run it and see the result:

                rain submit graph.ndjson --wait --get greeting=-

            Without --wait the session is a detached one: it goes on by itself, and its number is printed, for `rain wait`, \
            `rain get` and `rain close`. A task that fails ends the command with status 1 and tells why.
            """)

    @Argument(help: "The file; - for stdin.")
    var file: String
    @OptionGroup var address: ServerAddressOptions
    @Flag(help: "Wait until every task is done, then close the session.")
    var wait = false
    @Option(
        help: ArgumentHelp(
            "When all is done, write the object with that label to a file (- for stdout); may be repeated. Implies --wait.",
            valueName: "label=path"), transform: parsed(ValueForm.labelAndPath))
    var get: [LabelAndPath] = []
    @Option(
        help: ArgumentHelp("With --wait: for how long a server that is gone may be started again; default: 60.", valueName: "seconds"),
        transform: parsed(ValueForm.seconds))
    var reconnect: Int = 60
    @Option(help: "The session's name, shown to people; default: the file's name.")
    var sessionName: String?

    func run() throws {
        // Before anything runs: a result that nobody can write down is lost with its session.
        for wanted in get where wanted.path != "-" { try NewFile.check(wanted.path) }
        guard let text = try readFile(file) else { throw CLIError.system(call: "open", about: file, code: ENOENT) }
        guard text.contains(where: { $0 > 0x20 }) else {
            throw CLIError.malformed(what: "a graph", path: file == "-" ? "stdin" : file, reason: "it is empty; see `rain submit --help`")
        }
        let client = try APIClient(address)
        let waits = wait || !get.isEmpty
        var connection = try client.connect()
        let options = OpenOptions(
            name: sessionName ?? String(file.split(separator: "/").last ?? "stdin"),
            detached: !waits,
            // A command that is gone does not come back for its session.
            grace_ms: 0)
        let session = try client.decode(OpenedAnswer.self, client.call(&connection, "POST", "/sessions", body: encodeJSON(options)))
        if !waits {
            do {
                _ = try client.call(&connection, "POST", "/sessions/\(session.session)/submit", body: text, mayTakeLong: true)
            } catch {
                _ = try? client.call(&connection, "DELETE", "/sessions/\(session.session)")
                throw error
            }
            print("session \(session.session)")
            return
        }

        var work = Work(session: session, text: text)
        do throws(CLIError) { try carryOut(&work, client) } catch {
            // Without its client it closes by itself, as it does when the server is gone.
            if !error.mayPass { try? close(session.session, client) }
            throw error
        }
        do throws(CLIError) { try close(session.session, client) } catch {
            guard error.mayPass else { return }
            printError("all is done, but session \(session.session) could not be closed: \(error). It closes by itself, now that its client is gone")
        }
    }

    private func close(_ session: UInt32, _ client: APIClient) throws(CLIError) {
        var connection = try client.connect()
        _ = try client.call(&connection, "DELETE", "/sessions/\(session)")
    }

    private func carryOut(_ work: inout Work, _ client: APIClient) throws(CLIError) {
        var outage: Outage?
        while true {
            do throws(CLIError) { return try carryOut(&work, client, &outage) } catch {
                var now = outage ?? Outage(secondsMax: reconnect)
                try now.wait(after: error)
                outage = now
            }
        }
    }

    /// How far it has come: what is done is not done again when the server was away meanwhile.
    private struct Work {
        let session: OpenedAnswer
        let text: [UInt8]
        var submitted: SubmittedAnswer?
        /// The submit was sent; whether it arrived is not known.
        var isInDoubt = false
        /// The objects that `get` names.
        var wanted: [UInt32]?
        var isOver = false
        var fetched = 0
    }

    private func carryOut(_ work: inout Work, _ client: APIClient, _ outage: inout Outage?) throws(CLIError) {
        let number = work.session.session
        var connection = try client.connect()
        var lease = try client.connect()
        let head = try lease.request("GET", "/api/v1/sessions/\(number)/lease?resume=\(work.session.resume)", headers: client.headers)
        if head.status != 200 { try client.check(head, lease.readBody()) }
        outage = nil
        if work.isInDoubt, work.submitted == nil {
            // All of it was taken, or nothing; nobody else submits to this session.
            let status = try client.decode(CountsAnswer.self, client.call(&connection, "GET", "/sessions/\(number)"))
            if status.tasks > 0 || status.objects > 0 { work.submitted = SubmittedAnswer(firstObject: 0, tasks: status.tasks, objects: status.objects) }
        }
        if work.submitted == nil {
            work.isInDoubt = true
            let answer = try client.call(&connection, "POST", "/sessions/\(number)/submit", body: work.text, mayTakeLong: true)
            work.submitted = try client.decode(SubmittedAnswer.self, answer)
        }
        if work.wanted == nil, let submitted = work.submitted { work.wanted = try find(client, number, submitted, &connection) }
        if !work.isOver { try waitForAll(client, number, lease: &lease) }
        work.isOver = true
        try fetch(client, number, work.wanted ?? [], &work.fetched, &connection)
    }

    /// Waits for the answer, and keeps reading the lease meanwhile so that the server never has to hold its lines back.
    private func waitForAll(_ client: APIClient, _ session: UInt32, lease: inout HTTPConnection) throws(CLIError) {
        var waiting = try client.connect()
        try waiting.send("POST", "/api/v1/sessions/\(session)/wait", headers: client.headers, body: Array(#"{"all":true}"#.utf8))
        var polled = [waiting.rawDescriptor, lease.rawDescriptor].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        var lines = LeaseLines()
        while polled[0].revents == 0 {
            let count = poll(&polled, 2, Int32(APIClient.patienceSeconds * 1000))
            if count < 0 {
                guard errno == EINTR else { throw .system(call: "poll", about: "the server's answer", code: errno) }
            } else if count == 0 {
                guard client.answers() else { throw .silent(waiting.address, seconds: APIClient.patienceSeconds) }
            } else if polled[1].revents != 0 {
                if let part = try lease.nextPart() {
                    for hint in lines.hints(in: part) { printError(hint) }
                } else {
                    // It ends with its session, of which the answer tells, or with the server, which then gives none.
                    polled[1].fd = -1
                }
            }
        }
        let head = try waiting.readHead()
        try client.check(head, waiting.readBody())
    }

    /// The objects with the labels that are wanted: before the wait, which may be long.
    private func find(
        _ client: APIClient, _ session: UInt32, _ submitted: SubmittedAnswer, _ connection: inout HTTPConnection
    ) throws(CLIError) -> [UInt32] {
        guard !get.isEmpty else { return [] }
        var found: [String: [UInt32]] = [:]
        var next = submitted.firstObject
        let end = next.addingReportingOverflow(submitted.objects).partialValue
        while next < end {
            let count = min(10_000, end - next)
            for object in try client.objects(&connection, session, from: next, count: count) {
                if let label = object.label, !label.isEmpty { found[label, default: []].append(object.object) }
            }
            next += count
        }
        var wanted: [UInt32] = []
        for label in get.map(\.label) {
            guard let objects = found[label], let object = objects.first else { throw .noSuchLabel(label, known: found.keys.sorted()) }
            guard objects.count == 1 else { throw .ambiguousLabel(label, objects: objects) }
            wanted.append(object)
        }
        return wanted
    }

    /// - Parameter count: of objects that are fetched.
    private func fetch(
        _ client: APIClient, _ session: UInt32, _ wanted: [UInt32], _ count: inout Int, _ connection: inout HTTPConnection
    ) throws(CLIError) {
        for (option, object) in zip(get, wanted).dropFirst(count) {
            if try client.objects(&connection, session, from: object, count: 1).first?.state == "dropped" { throw .notKept(option.label) }
            try client.download("/api/v1/sessions/\(session)/objects/\(object)/content", to: option.path, &connection)
            count += 1
        }
    }
}

/// The lines of a lease, of which the command line tells those that only a person can help with.
struct LeaseLines {
    private var line: [UInt8] = []
    private var told = ""

    private struct Hint: Decodable {
        struct Content: Decodable { var message: String }
        var hint: Content
    }

    /// What the lines say that end in this part, unless it was the last thing that was said.
    mutating func hints(in part: [UInt8]) -> [String] {
        var hints: [String] = []
        for byte in part {
            if byte != UInt8(ascii: "\n") {
                line.append(byte)
                continue
            }
            // Outcomes of a large session are long lines, and none of them is needed.
            if line.starts(with: Array(#"{"hint""#.utf8)), let hint = try? JSONDecoder().decode(Hint.self, from: Data(line)), hint.hint.message != told {
                told = hint.hint.message
                hints.append(told)
            }
            line.removeAll(keepingCapacity: true)
        }
        return hints
    }
}

/// Of a session's status.
private struct CountsAnswer: Decodable {
    var tasks: UInt32
    var objects: UInt32
}

private struct OpenOptions: Encodable {
    var name: String
    var detached: Bool
    var grace_ms: Int
}

/// `label=path`.
struct LabelAndPath: ExpressibleByArgument, Equatable {
    var label: String
    var path: String

    init?(argument: String) {
        guard let equals = argument.lastIndex(of: "="), equals != argument.startIndex else { return nil }
        label = String(argument[..<equals])
        path = String(argument[argument.index(after: equals)...])
        if path.isEmpty { return nil }
    }
}
