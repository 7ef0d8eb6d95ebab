import ArgumentParser

struct Stop: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stops what `rain start` started.",
        discussion: """
            Asks every process to end, and ends those that have not done so after 5 seconds. Data that tasks have made goes with the \
            workers. Sessions that are open stay in the server's journal: the next `rain start` goes on with those that are detached, \
            and with those whose clients are still there; what is missing is made again.
            """)

    func run() throws {
        let directory = try RunDirectory()
        let lock = try directory.lock()
        _ = lock
        let started = try directory.started().map(\.record)
        let running = try directory.running()
        if running.isEmpty {
            print("nothing to stop: no rain process of yours was started by `rain start`")
            return
        }
        // The server last: its journal then has that the others left, and a later start does not wait for them.
        let left = stopProcesses(running.filter { $0.role == .worker }) + stopProcesses(running.filter { $0.role == .server })
        for record in started where !left.contains(record) { directory.remove(record) }
        guard left.isEmpty else { throw CLIError.didNotStop(left.map(\.title)) }
        print("stopped \(running.map(\.title).joined(separator: "; "))")
    }
}
