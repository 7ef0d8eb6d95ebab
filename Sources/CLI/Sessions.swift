import ArgumentParser
import Glibc

struct Sessions: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists the sessions that are open.",
        discussion: """
            A session that `rain submit` opened without --wait is a detached one: it goes on by itself until it is closed. The column \
            "client" says so, or whether a session's client is there; one whose client is gone closes by itself after its grace time.

                rain sessions
                rain explain 1             what it waits for, what failed and why
                rain get 1 greeting        fetch a result
                rain close 1               stop what runs, and forget it
            """)

    @OptionGroup var address: ServerAddressOptions
    @Flag(help: "Print JSON, as GET /api/v1/sessions answers.")
    var json = false

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect(timeoutSeconds: min(10, APIClient.patienceSeconds))
        let body = try client.call(&connection, "GET", "/sessions")
        if json { return try writeAll(body + [UInt8(ascii: "\n")], to: STDOUT_FILENO, path: "stdout") }
        let sessions = try client.decode(SessionsAnswer.self, body).sessions
        if sessions.isEmpty {
            print("no session is open at \(client.url)")
        } else {
            SessionAnswer.printSessions(sessions)
        }
    }
}

struct SessionsAnswer: Decodable {
    var sessions: [SessionAnswer]
}

/// The status of a session.
struct SessionAnswer: Decodable {
    var session: UInt32
    var name: String
    var tasks: UInt32
    var objects: UInt32
    var finished: UInt32
    var failed: UInt32
    var cancelled: UInt32
    var running: UInt32
    var state: String
    var lease: Bool
    var detached: Bool
    var opened: UInt64
    /// Why tasks wait that nothing but a person can help.
    var hints: [String]?
    var failure: FailureAnswer?

    /// Tasks that have not begun.
    var waiting: UInt32 {
        let begun = UInt64(finished) + UInt64(failed) + UInt64(cancelled) + UInt64(running)
        return begun < tasks ? tasks - UInt32(begun) : 0
    }

    var client: String { detached ? "detached" : lease ? "connected" : "away" }

    static func printSessions(_ sessions: [SessionAnswer]) {
        printTable(
            ["id", "name", "state", "client", "age", "tasks", "running", "finished", "failed", "cancelled"],
            sessions.map {
                [
                    "\($0.session)", shown($0.name), $0.state, $0.client, ageText($0.opened), "\($0.tasks)", "\($0.running)", "\($0.finished)",
                    "\($0.failed)", "\($0.cancelled)",
                ]
            })
    }
}
