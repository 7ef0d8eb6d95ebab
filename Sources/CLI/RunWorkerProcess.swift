import ArgumentParser
import Worker

/// What a worker's parent starts; never typed by a person.
struct RunWorkerProcess: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "worker-process", shouldDisplay: false)

    @Argument(help: .hidden)
    var descriptor: String

    func run() throws {
        throw ExitCode(runWorkerProcess([descriptor]))
    }
}
