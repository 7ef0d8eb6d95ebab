import TaskModel
import Testing

@testable import Worker
@testable import rain

@Suite struct WorkerFileTests {
    private func read(_ text: String) throws -> WorkerFile { try WorkerFile(text: Array(text.utf8), directory: "/etc/rain") }

    @Test func `a file says what the command line can say`() throws {
        let file = try read(
            """
            server = "n1:7300"
            cpus = 8
            store_memory = "2G"
            work_dir = "work"
            log_dir = "/var/log/rain"
            log_level = "debug"
            access = "access.toml"
            ffi = ["physics.h"]

            [subworkers.wordcount]
            command = "./wordcount --name 'two words'"
            env = { OMP_NUM_THREADS = "1" }

            [subworkers.stats]
            command = ["python3", "-m", "stats"]
            """)
        #expect(file.server == HostAndPort(host: "n1", port: 7300))
        #expect(file.cpus == .exactly(8) && file.storeMemory?.bytes == 2 << 30)
        #expect(file.workDirectory == "/etc/rain/work" && file.logDirectory == "/var/log/rain" && file.access == "/etc/rain/access.toml")
        #expect(file.logLevel == .debug)
        #expect(file.declarations == ["/etc/rain/physics.h"])
        #expect(
            file.subworkers == [
                SubworkerCommand(name: "stats", arguments: ["python3", "-m", "stats"]),
                SubworkerCommand(name: "wordcount", arguments: ["/etc/rain/./wordcount", "--name", "two words"], environment: ["OMP_NUM_THREADS=1"]),
            ])
        let limits = try read("subworkers.a = { command = \"a\", memory_growth = \"1.5G\", idle = 60 }").subworkers[0]
        #expect(limits.memoryGrowthBytesMax == 3 << 29 && limits.idleSecondsMax == 60)
        let text = WorkerOptions(serverHost: "n1", workDirectory: "w", logDirectory: "l", accessFile: "a", subworkers: [limits]).text
        #expect(WorkerOptions(text: Array(text.utf8))?.subworkers == [limits], "the worker's own process hears of it")
        #expect(try read("") == WorkerFile())
        #expect(try read("cpus = \"detect\"\nstore_memory = 1000").storeMemory?.bytes == 1000)
    }

    @Test(arguments: [
        ("cpus = = 2", "line 1, column 8"), ("cpus = 0", "`cpus` is a number above 0"), ("cpu = 2", "nobody knows `cpu`"), ("ffi = \"x\"", "`ffi` is a list"),
        ("log_level = \"loud\"", "`log_level` is error, warning, info or debug"), ("store_memory = \"much\"", "`store_memory` is a size"),
        ("server = 1", "`server` is a text"), ("subworkers = 1", "`subworkers` are tables"),
        ("[subworkers.a]\nenv = {}", "[subworkers.a] has no `command`"), ("[subworkers.a]\ncommand = []", "[subworkers.a] has no `command`"),
        ("[subworkers.a]\ncommand = \"'x\"", "has no end"), ("[subworkers.a]\ncomand = \"x\"", "nobody knows `comand`"),
        ("[subworkers.\"a/b\"]\ncommand = \"x\"", "can't be the name"), ("[subworkers.a]\ncommand = \"x\"\nenv = { A = 1 }", "`A` in `env`"),
        ("[subworkers.a]\ncommand = [1]", "is a list of texts"), ("a = \"\u{1}\"", "line 1"), ("[subworkers]\na = 1", "[subworkers.a] is a table"),
    ])
    func `what is wrong in it is said`(_ text: String, _ reason: String) {
        let error = #expect(throws: WorkerFileError.self) { try read(text) }
        #expect(error?.reason.contains(reason) == true, "\(error?.reason ?? "")")
    }

    @Test func `a file that is named must be there`() {
        let error = #expect(throws: CLIError.self) { try WorkerFile(path: "/does/not/exist.toml") }
        #expect(error?.description.contains("/does/not/exist.toml") == true)
    }
}
