import Glibc
import TaskModel
import Worker

/// What a worker is told to offer is looked at when it starts: the first task that needs it would be late for that.
enum SubworkerCheck {
    static func check(_ commands: [SubworkerCommand]) throws(CLIError) {
        for (position, command) in commands.enumerated() {
            if let problem = SubworkerName.problem(with: command.name) { throw .badSubworker(problem) }
            if command.name == "builtin" { throw .badSubworker("\"builtin\" can't be the name of a subworker: the worker's own tasks are of that name") }
            if commands[..<position].contains(where: { $0.name == command.name }) {
                throw .badSubworker("subworker \"\(command.name)\" is given twice: choose another name for one of them")
            }
            if let problem = problem(with: command) { throw .badSubworker("subworker \"\(command.name)\" can't be started: \(problem)") }
        }
    }

    private static func problem(with command: SubworkerCommand) -> String? {
        guard let program = command.arguments.first, !program.isEmpty else { return "it has no command" }
        if program.contains("/") { return problem(withFile: program) }
        // As the worker will look for it: its own PATH, or that of the command.
        let own = command.environment.last { $0.hasPrefix("PATH=") }.map { String($0.dropFirst(5)) }
        let path = own ?? getenv("PATH").map { String(cString: $0) } ?? "/usr/local/bin:/usr/bin:/bin"
        let isThere = path.split(separator: ":").contains { problem(withFile: "\($0)/\(program)") == nil }
        return isThere ? nil : "there is no program \"\(program)\" in the PATH, \(path): install it, or give its path"
    }

    private static func problem(withFile path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0 else { return "\(path): \(errorText(errno)): correct its command" }
        guard status.st_mode & S_IFMT == S_IFREG else { return "\(path) is no file: correct its command" }
        guard access(path, X_OK) == 0 else { return "\(path) is not executable: chmod +x it" }
        if case .script(let interpreter)? = ProgramFile(path: path), access(interpreter, X_OK) != 0 {
            return "the first line of \(path) names '\(interpreter)', which is not there or not executable"
        }
        return nil
    }
}
