import ArgumentParser
import Glibc
import TaskModel

/// Where the parts of Rain are: beside this program, `bin/rain` and `libexec/rain/…` below one directory.
enum Installation {
    /// The program of a subworker that comes with Rain, whether it is there or not: who needs it gets a message with this path.
    static func subworkerProgram(_ name: String) throws(CLIError) -> String {
        guard let path = realpath("/proc/self/exe", nil) else { throw .system(call: "realpath", about: "/proc/self/exe", code: errno) }
        defer { free(path) }
        return subworkerProgram(name, of: String(cString: path))
    }

    static func subworkerProgram(_ name: String, of program: String) -> String {
        let root = program.split(separator: "/").dropLast(2)
        return root.map { "/" + $0 }.joined() + "/libexec/rain/" + name
    }

    /// Ends the program where declarations are wrong, or name what a library has not got, after saying what: the first task that needs them
    /// would be late for that.
    static func checkDeclarations(_ files: [String]) throws {
        guard !files.isEmpty else { return }
        let program = try subworkerProgram("ffi")
        var arguments: [UnsafeMutablePointer<CChar>?] = ([program, "--verify"] + files).map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var pid: pid_t = 0
        let code = posix_spawn(&pid, program, nil, nil, &arguments, environ)
        guard code == 0 else { throw CLIError.system(call: "start", about: program, code: code) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { throw CLIError.system(call: "waitpid", about: program, code: errno) }
        }
        if status != 0 { throw ExitCode.failure }
    }

    static func ownSubworkers(_ given: [SubworkerOption], of file: WorkerFile) throws(CLIError) -> [SubworkerCommand] {
        var commands: [SubworkerCommand] = []
        for option in given { commands.append(try option.subworkerCommand()) }
        for command in file.subworkers where !commands.contains(where: { $0.name == command.name }) { commands.append(command) }
        return commands
    }

    /// What a worker offers: its own subworkers, and those that come with Rain where nobody gave another of their name.
    static func subworkers(_ given: [SubworkerOption], of file: WorkerFile, declarations: [String]) throws(CLIError) -> [SubworkerCommand] {
        var commands = try ownSubworkers(given, of: file)
        if !commands.contains(where: { $0.name == "ffi" }) {
            var arguments = [try subworkerProgram("ffi")]
            for path in file.declarations + declarations { arguments += ["--declarations", try absolute(path)] }
            commands.append(SubworkerCommand(name: "ffi", arguments: arguments))
        }
        return commands
    }
}
