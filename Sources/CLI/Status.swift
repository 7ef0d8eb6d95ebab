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
        var connection = try client.connect(timeoutSeconds: 10)
        let body = try client.call(&connection, "GET", "/status?transfers=true")
        if json {
            try printJSON(body, client)
        } else {
            printTable(try client.decode(StatusAnswer.self, body), client)
        }
    }

    private func printJSON(_ body: [UInt8], _ client: APIClient) throws(CLIError) {
        guard body.first == UInt8(ascii: "{"), body.count > 2 else { throw .badAnswer(client.url, reason: "it is no JSON object") }
        // The server's own text stays as it is; what we add comes in front of it, under names that it does not use.
        let place = try encodeJSON(["url": client.url, "access_file": client.accessPath])
        let port = Array(",\"port\":\(client.port),".utf8)
        try writeAll(place.dropLast() + port + body.dropFirst() + [UInt8(ascii: "\n")], to: STDOUT_FILENO, path: "stdout")
    }

    private func printTable(_ status: StatusAnswer, _ client: APIClient) {
        print("server    \(client.url)   rain \(status.version), pid \(status.pid) on \(status.host), up \(duration(status.uptimeSeconds))")
        print("access    \(client.accessPath)")
        let moved = status.transfers
        print(
            "moved     uploads \(size(moved.uploadedBytes)), depot to workers \(size(moved.toWorkersBytes)), "
                + "workers to server \(size(moved.fromWorkersBytes)), server to clients \(size(moved.toClientsBytes))")
        print("workers   \(status.workers.count)")
        table(
            ["id", "host", "pid", "cpus", "running", "queued", "objects", "pulled", "served", "store"],
            status.workers.map {
                [
                    $0.worker, $0.host, "\($0.pid)", "\($0.cpus)", "\($0.running)", "\($0.queued)", "\($0.objects)",
                    size($0.transfers?.pulledBytes), size($0.transfers?.servedBytes), $0.store ?? "",
                ]
            })
        print("sessions  \(status.sessions.count)")
        table(
            ["id", "name", "state", "tasks", "running", "finished", "failed"],
            status.sessions.map {
                ["\($0.session)", $0.name, $0.state, "\($0.tasks)", "\($0.running)", "\($0.finished)", "\($0.failed)"]
            })
        let largest = status.workers.map(\.cpus).max() ?? 0
        for session in status.sessions where session.missingCPUs > 0 {
            print("session \(session.session) waits for a worker with \(session.missingCPUs) CPUs; the largest has \(largest)")
        }
    }

    /// "?" for a worker that did not answer.
    private func size(_ bytes: UInt64?) -> String {
        guard let bytes else { return "?" }
        var value = Double(bytes)
        var unit = 0
        while value >= 1000, unit < 4 {
            value /= 1000
            unit += 1
        }
        let name = ["B", "kB", "MB", "GB", "TB"][unit]
        let tenths = Int((value * 10).rounded())
        return unit == 0 || tenths >= 100 ? "\(Int(value.rounded())) \(name)" : "\(tenths / 10).\(tenths % 10) \(name)"
    }

    private func duration(_ seconds: Double) -> String {
        let whole = Int(seconds)
        if whole < 120 { return "\(whole) s" }
        if whole < 7200 { return "\(whole / 60) min" }
        return "\(whole / 3600) h"
    }

    private func table(_ titles: [String], _ rows: [[String]]) {
        guard !rows.isEmpty else { return }
        let widths = titles.indices.map { column in ([titles] + rows).map { $0[column].count }.max() ?? 0 }
        for row in [titles] + rows {
            let cells = zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            print(("  " + cells.joined(separator: "  ")).trimmedEnd)
        }
    }
}
