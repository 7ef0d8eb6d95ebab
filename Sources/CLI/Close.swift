import ArgumentParser

struct Close: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Closes sessions: stops what runs, and forgets them with their data.",
        discussion: """
            Returns when nothing of them runs any more. Fetch what you want first, with `rain get`.

                rain close 1
                rain close 1 2 3
            """)

    @Argument(help: ArgumentHelp("The numbers of sessions.", valueName: "session"), transform: parsed(ValueForm.session))
    var sessions: [SessionNumber]
    @OptionGroup var address: ServerAddressOptions

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect()
        for session in sessions {
            let status = try client.decode(SessionAnswer.self, client.call(&connection, "GET", "/sessions/\(session.value)"))
            _ = try client.call(&connection, "DELETE", "/sessions/\(session.value)", mayTakeLong: true)
            print("closed session \(session.value) \"\(shown(status.name))\": \(status.finished) of \(status.tasks) tasks had finished")
        }
    }
}
