import ArgumentParser
import CLinux
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
    ///
    /// - Returns: a line `libz/crc32 8` for each function, for `threads(ofList:)` and `offers(of:list:)`.
    static func checkDeclarations(_ files: [String]) throws -> String {
        guard !files.isEmpty else { return "" }
        let program = try subworkerProgram("ffi")
        var arguments: [UnsafeMutablePointer<CChar>?] = ([program, "--verify"] + files).map { strdup($0) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        var ends: [Int32] = [-1, -1]
        let made = rain_pipe(&ends, false)
        guard made == 0 else { throw CLIError.system(call: "pipe", about: program, code: -made) }
        let reader = Descriptor(ends[0])
        var pid: pid_t = 0
        do {
            let writer = Descriptor(ends[1])
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            defer { posix_spawn_file_actions_destroy(&actions) }
            posix_spawn_file_actions_adddup2(&actions, writer.raw, STDOUT_FILENO)
            let code = posix_spawn(&pid, program, &actions, nil, &arguments, environ)
            guard code == 0 else { throw CLIError.system(call: "start", about: program, code: code) }
        }
        let list = readList(reader, of: pid)
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0 {
            guard errno == EINTR else { throw CLIError.system(call: "waitpid", about: program, code: errno) }
        }
        let signal = status & 0x7f
        guard signal == 0 else {
            throw CLIError.badSubworker(
                "\(files.joined(separator: ", ")): signal \(signal) (\(String(cString: strsignal(signal)))) ended the program that loads the libraries: "
                    + "one of them crashes when it is loaded; `rain ffi check FILE` tries a file by itself")
        }
        if status != 0 { throw ExitCode.failure }
        return list
    }

    /// Up to the line with a full stop, or until the process has ended; the exit code says whether that is all. What a library started may
    /// hold the pipe open.
    private static func readList(_ reader: borrowing Descriptor, of pid: pid_t) -> String {
        let process = rain_pidfd_open(pid)
        defer { if process >= 0 { close(process) } }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while !bytes.elementsEqual(".\n".utf8), !bytes.suffix(3).elementsEqual("\n.\n".utf8) {
            var polled = [reader.raw, process].map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            if poll(&polled, 2, -1) < 0, errno == EINTR { continue }
            // What it wrote before its end comes first.
            if polled[0].revents == 0 { break }
            let count = read(reader.raw, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// How many calls may run at once in a process, by function, where that is more than one.
    static func threads(ofList list: String) -> [String: UInt32] {
        var threads: [String: UInt32] = [:]
        for line in list.split(separator: "\n") {
            let parts = line.split(separator: " ")
            if parts.count == 2, let count = UInt32(parts[1]), count > 1 { threads[String(parts[0])] = count }
        }
        return threads
    }

    /// What the server is told beside the names of subworkers: libraries. Of another `ffi` than Rain's nobody knows which it has.
    static func offers(of subworkers: [SubworkerCommand], list: String) throws(CLIError) -> [String] {
        let program = try subworkerProgram("ffi")
        if subworkers.contains(where: { $0.name == "ffi" && $0.arguments.first != program }) { return ["ffi/"] }
        let names = list.split(separator: "\n").compactMap { line in line.firstIndex(of: "/").map { "ffi/" + line[..<$0] } }
        return Set(names).sorted()
    }

    static func ownSubworkers(_ given: [SubworkerOption], of file: WorkerFile) throws(CLIError) -> [SubworkerCommand] {
        var commands: [SubworkerCommand] = []
        for option in given { commands.append(try option.subworkerCommand()) }
        for command in file.subworkers where !commands.contains(where: { $0.name == command.name }) { commands.append(command) }
        return commands
    }

    /// What a worker offers: its own subworkers, and those that come with Rain where nobody gave another of their name.
    static func subworkers(
        _ given: [SubworkerOption], of file: WorkerFile, declarations: [String], threadsByMethod: [String: UInt32] = [:]
    ) throws(CLIError) -> [SubworkerCommand] {
        var commands = try ownSubworkers(given, of: file)
        if !commands.contains(where: { $0.name == "ffi" }) {
            var arguments = [try subworkerProgram("ffi")]
            for path in file.declarations + declarations { arguments += ["--declarations", try absolute(path)] }
            var command = SubworkerCommand(name: "ffi", arguments: arguments)
            command.threadsByMethod = threadsByMethod
            commands.append(command)
        }
        return commands
    }
}
