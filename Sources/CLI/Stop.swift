import ArgumentParser

struct Stop: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Stops what `rain start` started.",
        discussion: "Asks every process to end, and ends those that have not done so after 5 seconds. Sessions that are open are closed.")

    func run() throws {
        let directory = try RunDirectory()
        let lock = try directory.lock()
        _ = lock
        let running = try directory.running()
        if running.isEmpty {
            print("nothing to stop: no rain process of yours was started by `rain start`")
            return
        }
        let left = stopProcesses(running)
        for record in running where !left.contains(record) { directory.remove(record) }
        guard left.isEmpty else { throw CLIError.didNotStop(left.map(\.title)) }
        print("stopped \(running.map(\.title).joined(separator: "; "))")
    }
}
