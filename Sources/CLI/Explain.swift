import ArgumentParser
import Glibc

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what a session or a task waits for, what failed and why.",
        discussion: """
                rain explain 1                   the session: its tasks by state, failures with their texts, what runs, why the rest waits
                rain explain 1 5                 task 5 of it
                rain explain 1 --state failed    the tasks of it that failed
            """)

    @Argument(help: "The session's number.", transform: parsed(ValueForm.session))
    var session: SessionNumber
    @Argument(help: ArgumentHelp("The number of a task, or a range such as 5-9.", valueName: "task"), transform: parsed(ValueForm.tasks))
    var tasks: TaskRange? = nil
    @Option(
        help: ArgumentHelp(
            "Only tasks in this state: waiting, ready, assigned, running, finished, failed or cancelled; may be given several times.", valueName: "state"))
    var state: [TaskStateName] = []
    @Option(help: ArgumentHelp("With --state: so many tasks at most.", valueName: "count"))
    var limit: UInt32 = 100
    @OptionGroup var address: ServerAddressOptions
    @Flag(help: "Print JSON: the session's status, or what POST …/info answers of the tasks.")
    var json = false

    /// Of failures, and of tasks that run.
    private static let shownMax = 10

    func validate() throws {
        guard (1...100_000).contains(limit) else { throw ValidationError("--limit is a number from 1 to 100000") }
    }

    func run() throws {
        let client = try APIClient(address)
        var connection = try client.connect()
        let number = session.value
        if !state.isEmpty { return try printStates(client, &connection) }
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

    private func printStates(_ client: APIClient, _ connection: inout HTTPConnection) throws {
        var question = TaskQuestion(states: state.map(\.rawValue), limit: limit)
        if json {
            let body = try client.taskInfo(&connection, session.value, tasks, question)
            return try writeAll(body + [UInt8(ascii: "\n")], to: STDOUT_FILENO, path: "stdout")
        }
        // One more, to know whether that is all.
        question.limit = limit + 1
        let found: [TaskInfoAnswer]
        if let tasks {
            found = try client.decode(TaskInfosAnswer.self, client.taskInfo(&connection, session.value, tasks, question)).tasks
        } else {
            let status = try client.decode(SessionAnswer.self, client.call(&connection, "GET", "/sessions/\(session.value)"))
            found = try client.taskInfos(&connection, session.value, upTo: status.tasks, question)
        }
        for task in found.prefix(Int(limit)) { print(task.text) }
        if found.count > Int(limit) { print("there are more: ask with a larger --limit, or for a range of tasks") }
        if found.isEmpty { printError("no task is \(state.map(\.rawValue).joined(separator: " or "))") }
    }

    /// Failures and running tasks, the first of each.
    private func printTasks(_ status: SessionAnswer, _ client: APIClient, _ connection: inout HTTPConnection) throws(CLIError) {
        var failures: [FailureAnswer] = status.failure.map { [$0] } ?? []
        var ownCount = 0
        if status.failed > 0 {
            let question = TaskQuestion(states: ["failed"], consequences: false, limit: UInt32(Self.shownMax + 1))
            let failed = try client.taskInfos(&connection, session.value, upTo: status.tasks, question)
            ownCount = failed.count
            failures += failed.compactMap(\.failure).filter { $0.task == nil || $0.task != status.failure?.task }
        }
        for failure in failures.prefix(Self.shownMax) { print(failure.text) }
        if ownCount > Self.shownMax {
            print("there are more failed tasks: `rain explain \(session.value) --state failed` tells of each")
        } else if Int(status.failed) > ownCount {
            print("\(Int(status.failed) - ownCount) more could not run, because what they need failed")
        }
        guard status.running > 0 else { return }
        let running = try client.taskInfos(&connection, session.value, upTo: status.tasks, TaskQuestion(states: ["running"], limit: UInt32(Self.shownMax)))
        for task in running { print("runs: \(task.line)") }
        if Int(status.running) > running.count { print("\(Int(status.running) - running.count)\(running.isEmpty ? "" : " more") run") }
    }

    private func printObstacles(_ status: SessionAnswer, _ client: APIClient, _ connection: inout HTTPConnection) throws(CLIError) {
        let server = try client.decode(StatusAnswer.self, client.call(&connection, "GET", "/status"))
        let obstacles = server.obstacles(of: status, client)
        if !obstacles.isEmpty {
            for line in obstacles { print(line) }
            return
        }
        func first(_ states: String...) throws(CLIError) -> TaskInfoAnswer? {
            try client.taskInfos(&connection, session.value, upTo: status.tasks, TaskQuestion(states: states, limit: 1)).first
        }
        if let task = try first("ready", "assigned") {
            let running = server.workers.reduce(0) { $0 + $1.running }
            let cpus = server.workers.reduce(0) { $0 + $1.cpus }
            if task.state == "assigned", running < cpus {
                print("has not begun, since its subworker starts, its inputs are on their way or it needs more CPUs: \(task.line)")
            } else {
                print("waits for a free CPU: \(task.line); \(running) tasks run on \(cpus) CPUs")
            }
        } else if let task = try first("waiting") {
            print("waits for its inputs: \(task.line)")
        }
    }
}

enum TaskStateName: String, ExpressibleByArgument, CaseIterable { case waiting, ready, assigned, running, finished, failed, cancelled }

/// What `POST …/info` is asked about tasks.
struct TaskQuestion: Encodable {
    var tasks: [[UInt32]]?
    var states: [String]?
    var consequences: Bool?
    var limit: UInt32?
}

extension TaskRange {
    init(first: UInt32, count: UInt32) { (self.first, self.count) = (first, count) }
}

extension APIClient {
    /// What one request looks at, at most.
    private static let askedMax: UInt32 = 1_000_000

    /// - Parameter tasks: `nil` for all.
    func taskInfo(
        _ connection: inout HTTPConnection, _ session: UInt32, _ tasks: TaskRange?, _ question: TaskQuestion = TaskQuestion()
    ) throws(CLIError) -> [UInt8] {
        var question = question
        question.tasks = tasks.map { [[$0.first, $0.count]] }
        return try call(&connection, "POST", "/sessions/\(session)/info", body: encodeJSON(question))
    }

    /// The first tasks of a session that a question with a limit is about.
    func taskInfos(_ connection: inout HTTPConnection, _ session: UInt32, upTo count: UInt32, _ question: TaskQuestion) throws(CLIError) -> [TaskInfoAnswer] {
        var found: [TaskInfoAnswer] = []
        var next: UInt32 = 0
        while next < count, found.count < question.limit ?? .max {
            let range = TaskRange(first: next, count: min(Self.askedMax, count - next))
            found += try decode(TaskInfosAnswer.self, taskInfo(&connection, session, range, question)).tasks
            next += range.count
        }
        return Array(found.prefix(Int(question.limit ?? .max)))
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
