import ArgumentParser
import FoundationEssentials

struct Wait: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Waits until all tasks of a session are done.",
        discussion: """
            Ends with status 0 when every task has finished, and with 1 when one has failed or was cancelled, or the time is over. The \
            session stays open: see `rain get` and `rain close`.

                rain wait 1
                rain wait 1 --timeout 60
            """)

    @Argument(help: "The session's number.", transform: parsed(ValueForm.session))
    var session: SessionNumber
    @OptionGroup var address: ServerAddressOptions
    @Option(help: ArgumentHelp("For how long; default: any time.", valueName: "seconds"), transform: parsed(ValueForm.seconds))
    var timeout: Double? = nil
    @Option(
        help: ArgumentHelp("For how long a server that is gone may be started again; default: 60.", valueName: "seconds"),
        transform: parsed(ValueForm.seconds))
    var reconnect: Int = 60

    func validate() throws {
        if let timeout, !(timeout >= 0 && timeout < 1e9) { throw ValidationError("--timeout \(timeout): \(ValueForm.seconds), 0 or more") }
    }

    func run() throws {
        let client = try APIClient(address)
        let deadline = timeout.map { monotonicMilliseconds() + Int64($0 * 1000) }
        var outage: Outage?
        while true {
            do throws(CLIError) {
                var connection = try client.connect()
                _ = try client.call(&connection, "GET", "/sessions/\(session.value)")
                outage = nil
                var body = #"{"all":true}"#
                if let deadline { body = #"{"all":true,"timeout_ms":\#(max(0, deadline - monotonicMilliseconds()))}"# }
                let answer = try client.call(&connection, "POST", "/sessions/\(session.value)/wait", body: Array(body.utf8), mayTakeLong: true)
                guard try client.decode(WaitAnswer.self, answer).done else { throw .notDone(session: session.value, seconds: timeout ?? 0) }
                return try client.checkOutcomes(session.value, &connection)
            } catch {
                var now = outage ?? Outage(secondsMax: reconnect)
                try now.wait(after: error)
                outage = now
            }
        }
    }
}

private struct WaitAnswer: Decodable {
    var done: Bool
}

extension APIClient {
    /// Of a session that goes on after failures: a wait for it is no error there.
    func checkOutcomes(_ session: UInt32, _ connection: inout HTTPConnection) throws(CLIError) {
        let status = try decode(SessionAnswer.self, call(&connection, "GET", "/sessions/\(session)"))
        guard status.failed == 0, status.cancelled == 0 else {
            throw .notAllFinished(session: session, tasks: status.tasks, failed: status.failed, cancelled: status.cancelled)
        }
    }
}
