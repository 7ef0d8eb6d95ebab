import ArgumentParser
import Glibc

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows the server, its workers and its sessions.",
        discussion: """
            For programs, `rain status --json` prints what GET /api/v1/status answers, with the server's address and the \
            path of the access file in front:

                rain status --json | jq .workers
            """)

    @OptionGroup var address: ServerAddressOptions
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect(timeoutSeconds: min(10, APIClient.patienceSeconds))
        let body = try client.call(&connection, "GET", "/status?transfers=true")
        if json {
            try printJSON(body, client)
        } else {
            printStatus(try client.decode(StatusAnswer.self, body), client)
        }
    }

    private func printJSON(_ body: [UInt8], _ client: APIClient) throws(CLIError) {
        guard body.first == UInt8(ascii: "{"), body.count > 2 else { throw .badAnswer(client.url, reason: "it is no JSON object") }
        // The server's own text stays as it is; what we add comes in front of it, under names that it does not use.
        let place = try encodeJSON(["url": client.url, "access_file": client.accessPath])
        let port = Array(",\"port\":\(client.port),".utf8)
        try writeAll(place.dropLast() + port + body.dropFirst() + [UInt8(ascii: "\n")], to: STDOUT_FILENO, path: "stdout")
    }

    private func printStatus(_ status: StatusAnswer, _ client: APIClient) {
        print("server    \(client.url)   rain \(status.version), pid \(status.pid) on \(status.host), up \(durationText(status.uptimeSeconds))")
        print("joining   workers join with `rain worker \(workerAddress(status, client))`")
        print("access    \(client.accessPath)")
        let moved = status.transfers
        print(
            "moved     uploads \(sizeText(moved.uploadedBytes)), depot to workers \(sizeText(moved.toWorkersBytes)), "
                + "workers to server \(sizeText(moved.fromWorkersBytes)), server to clients \(sizeText(moved.toClientsBytes))")
        print("workers   \(status.workers.count)")
        printTable(
            ["id", "host", "pid", "cpus", "running", "queued", "objects", "pulled", "served", "store"],
            status.workers.map {
                [
                    $0.worker, $0.host, "\($0.pid)", "\($0.cpus)", "\($0.running)", "\($0.queued)", "\($0.objects)",
                    sizeText($0.transfers?.pulledBytes), sizeText($0.transfers?.servedBytes), $0.store ?? "",
                ]
            })
        print("sessions  \(status.sessions.count)")
        SessionAnswer.printSessions(status.sessions)
        if status.workers.isEmpty {
            print("There is no worker, so nothing runs: \(status.joinAdvice(client))")
            return
        }
        for session in status.sessions where session.state == "open" {
            for line in status.obstacles(of: session, client) { print("session \(session.session): \(line)") }
        }
    }
}

extension StatusAnswer {
    /// How a worker on this machine joins the server.
    func joinAdvice(_ client: APIClient) -> String {
        "start one with `rain worker \(workerAddress(self, client))`, on another machine with the server's name and its access file"
    }

    /// Why tasks of a session can't begin on the workers that there are, a line each; none when they only wait for their turn.
    func obstacles(of session: SessionAnswer, _ client: APIClient) -> [String] {
        // The server says it after a while; who asks shall know at once.
        if session.waiting > 0, workers.isEmpty { return ["waits for a worker, and there is none: \(joinAdvice(client))"] }
        return session.hints ?? []
    }
}

/// Where workers reach the server that this client reaches.
private func workerAddress(_ status: StatusAnswer, _ client: APIClient) -> String {
    "\(client.host.contains(":") ? "[\(client.host)]" : client.host):\(status.controlPort)"
}
