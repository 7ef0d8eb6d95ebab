import ArgumentParser
import Glibc

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what a session or a task waits for, what failed and why.",
        discussion: """
                rain explain 1       the session: its tasks by state, failures with their texts, what runs, why the rest waits
                rain explain 1 5     task 5 of it
            """)

    @Argument(help: "The session's number.", transform: parsed(ValueForm.session))
    var session: SessionNumber
    @Argument(help: ArgumentHelp("The number of a task, or a range such as 5-9.", valueName: "task"), transform: parsed(ValueForm.tasks))
    var tasks: TaskRange? = nil
    @OptionGroup var address: ServerAddressOptions
    @Flag(help: "Print JSON: the session's status, or what POST …/info answers of the tasks.")
    var json = false

    /// Of failures, and of tasks that run.
    private static let shownMax = 10

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect(timeoutSeconds: 60)
        let number = session.value
        if let tasks {
            let body = try client.taskInfo(&connection, number, tasks)
            if json { return try writeAll(body + [UInt8(ascii: "\n")], to: STDOUT_FILENO, path: "stdout") }
            for task in try client.decode(TaskInfosAnswer.self, body).tasks { print(task.text) }
            return
        }
        let body = try client.call(&connection, "GET", "/sessions/\(number)")
        if json { return try writeAll(body + [UInt8(ascii: "\n")], to: STDOUT_FILENO, path: "stdout") }
        let status = try client.decode(SessionAnswer.self, body)
        print("session \(number) \"\(shown(status.name))\": \(status.state), \(Self.clientText(status)), opened \(ageText(status.opened)) ago")
        print(
            "tasks: \(status.tasks), of which \(status.finished) finished, \(status.failed) failed, \(status.cancelled) cancelled, "
                + "\(status.running) run, \(status.waiting) wait")
        try printTasks(status, client, &connection)
        if status.state == "open", status.waiting > 0 { try printObstacles(status, client, &connection) }
    }

    private static func clientText(_ status: SessionAnswer) -> String {
        status.detached ? "detached (it needs no client)" : status.lease ? "its client is connected" : "its client is away"
    }

    /// Failures and running tasks, the first of each. They are looked for in pieces, no further than to the last one that there is.
    private func printTasks(_ status: SessionAnswer, _ client: APIClient, _ connection: inout HTTPConnection) throws(CLIError) {
        var failures: [FailureAnswer] = status.failure.map { [$0] } ?? []
        var consequenceCount = 0
        var runningTasks: [TaskInfoAnswer] = []
        var left = (failed: status.failed, running: status.running)
        var next: UInt32 = 0
        while next < status.tasks, failures.count < Self.shownMax, left.failed > 0 || left.running > 0 && runningTasks.count < Self.shownMax {
            let range = TaskRange(first: next, count: min(10_000, status.tasks - next))
            next += range.count
            for task in try client.decode(TaskInfosAnswer.self, client.taskInfo(&connection, session.value, range)).tasks {
                if task.state == "running" {
                    if left.running > 0 { left.running -= 1 }
                    if runningTasks.count < Self.shownMax { runningTasks.append(task) }
                }
                guard task.state == "failed" else { continue }
                if left.failed > 0 { left.failed -= 1 }
                guard let failure = task.failure, failure.task != status.failure?.task || failure.task == nil else { continue }
                if failure.cause == "dependency" {
                    consequenceCount += 1
                } else if failures.count < Self.shownMax {
                    failures.append(failure)
                }
            }
        }
        for failure in failures { print(failure.text) }
        if consequenceCount > 0 { print("\(consequenceCount) more could not run, because what they need failed") }
        if left.failed > 0 { print("there are more failed tasks: `rain explain \(session.value) TASK` tells of each") }
        for task in runningTasks { print("runs: \(task.line)") }
        if left.running > 0 { print("\(left.running)\(runningTasks.isEmpty ? "" : " more") run") }
    }

    private func printObstacles(_ status: SessionAnswer, _ client: APIClient, _ connection: inout HTTPConnection) throws(CLIError) {
        let server = try client.decode(StatusAnswer.self, client.call(&connection, "GET", "/status"))
        let obstacles = server.obstacles(of: status, client)
        if !obstacles.isEmpty {
            for line in obstacles { print(line) }
            return
        }
        // The first ones tell enough: they wait for data, or for a CPU.
        let range = TaskRange(first: 0, count: min(10_000, status.tasks))
        let tasks = try client.decode(TaskInfosAnswer.self, client.taskInfo(&connection, session.value, range)).tasks
        if let task = tasks.first(where: { $0.state == "ready" || $0.state == "assigned" }) {
            let running = server.workers.reduce(0) { $0 + $1.running }
            print("waits for a free CPU: \(task.line); \(running) tasks run on \(server.workers.reduce(0) { $0 + $1.cpus }) CPUs")
        } else if let task = tasks.first(where: { $0.state == "waiting" }) {
            print("waits for its inputs: \(task.line)")
        }
    }
}

extension TaskRange {
    init(first: UInt32, count: UInt32) { (self.first, self.count) = (first, count) }
}

extension APIClient {
    func taskInfo(_ connection: inout HTTPConnection, _ session: UInt32, _ tasks: TaskRange) throws(CLIError) -> [UInt8] {
        try call(&connection, "POST", "/sessions/\(session)/info", body: encodeJSON(["tasks": [[tasks.first, tasks.count]]]))
    }
}

struct TaskInfosAnswer: Decodable {
    var tasks: [TaskInfoAnswer]
}

struct ProgressAnswer: Decodable {
    var fraction: Double
    var text: String
    var line: String { "\(Int(max(0, min(fraction, 1)) * 100)) %" + (text.isEmpty ? "" : ", \(shown(text))") }
}

struct TaskInfoAnswer: Decodable {
    var task: UInt32
    var name: String
    var type: String
    var state: String
    var worker: String
    /// In seconds since 1970.
    var started: Double?
    var duration_s: Double?
    /// Of one that runs and says so.
    var progress: ProgressAnswer?
    var debug: String
    var failure: FailureAnswer?

    var line: String {
        var text = "task \(task) \"\(shown(name))\" (\(type))"
        if !worker.isEmpty, state == "running" || state == "assigned" { text += " on \(worker)" }
        if let progress { text += ": \(progress.line)" }
        return text
    }

    /// All of it for people.
    var text: String {
        if let failure { return failure.text }
        var lines = ["\(line): \(state)"]
        if !worker.isEmpty { lines.append("worker: \(worker)") }
        if let started { lines.append("started: \(ageText(UInt64(max(0, min(started, 1e12))))) ago") }
        if let duration_s, state == "finished" { lines.append("took: \((duration_s * 1000).rounded() / 1000) s") }
        if !debug.isEmpty { lines.append("debug lines:\n\(debug.trimmedEnd)") }
        return lines.joined(separator: "\n")
    }
}
