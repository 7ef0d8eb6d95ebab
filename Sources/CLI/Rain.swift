import ArgumentParser
import TaskModel

@main
struct Rain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rain",
        abstract: "Runs graphs of tasks, in any language, on one machine or many.",
        discussion: """
            Start a server and a worker on this machine, see them, stop them:

                rain start --simple
                rain status
                rain stop

            Then, from Python:  Client("localhost", 7210)
            From the shell:     rain submit graph.ndjson --wait --get out=result.txt

            Sessions that were submitted without --wait, and those of clients:

                rain sessions
                rain explain 1
                rain get 1 out -o result.txt
                rain close 1

            On several machines, run `rain server --host '*'` on one and `rain worker SERVER` on the others, with the \
            access file of the server (`rain status` says where it is) copied to them.
            """,
        version: "rain \(rainVersion)",
        subcommands: [
            Start.self, Stop.self, Status.self, SubmitFile.self, Sessions.self, Explain.self, Wait.self, Get.self, Cancel.self, Close.self,
            RunServer.self, RunWorker.self, FFI.self, SubworkerCommands.self, RunWorkerProcess.self,
        ]
    )
}
