import ArgumentParser
import FoundationEssentials

struct Cancel: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stops tasks of a session.",
        discussion: """
            Returns when nothing of them runs any more. The session stays open, and what has finished can be fetched.

                rain cancel 1          all tasks that have not finished
                rain cancel 1 5 7-9    these, and what needs their results
            """)

    @Argument(help: "The session's number.", transform: parsed(ValueForm.session))
    var session: SessionNumber
    @Argument(help: ArgumentHelp("Tasks by their numbers, or ranges such as 5-9; default: all.", valueName: "task"), transform: parsed(ValueForm.tasks))
    var tasks: [TaskRange] = []
    @OptionGroup var address: ServerAddressOptions

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect()
        let path = "/sessions/\(session.value)"
        let before = try client.decode(SessionAnswer.self, client.call(&connection, "GET", path))
        let body = tasks.isEmpty ? Array(#"{"all":true}"#.utf8) : try encodeJSON(["tasks": tasks.map { [$0.first, $0.count] }])
        _ = try client.call(&connection, "POST", "\(path)/cancel", body: body, mayTakeLong: true)
        let after = try client.decode(SessionAnswer.self, client.call(&connection, "GET", path))
        let count = after.cancelled - min(before.cancelled, after.cancelled)
        print(count == 0 ? "nothing to cancel: these tasks had their outcome already" : "\(count) task\(count == 1 ? "" : "s") cancelled")
    }
}
