import CTOML
import Glibc
import TaskModel
import Worker

/// A worker's configuration file: TOML such as
///
///     cpus = 8
///     store_memory = "16G"
///
///     [subworkers.wordcount]
///     command = "./wordcount --fast"
///     env = { OMP_NUM_THREADS = "1" }
///
/// What the command line says counts more. Relative paths are below the file's directory.
struct WorkerFile: Equatable {
    var server: HostAndPort?
    var cpus: CPUCount?
    var storeMemory: ByteCount?
    var workDirectory: String?
    var logDirectory: String?
    var logLevel: LogLevel?
    var access: String?
    var declarations: [String] = []
    /// In the order of their names.
    var subworkers: [SubworkerCommand] = []

    /// Read when `--config` names no other.
    static var defaultPath: String {
        func directory(_ name: String) -> String? { getenv(name).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 } }
        let base = directory("XDG_CONFIG_HOME") ?? (directory("HOME") ?? "") + "/.config"
        return base + "/rain/worker.toml"
    }

    init() {}

    /// - Parameter path: `nil` for the default one, which need not be there.
    init(path: String?) throws(CLIError) {
        let file = try absolute(path ?? Self.defaultPath)
        guard let bytes = try readFile(file) else {
            if path == nil {
                self.init()
                return
            }
            throw .system(call: "open", about: file, code: ENOENT)
        }
        do throws(WorkerFileError) { try self.init(text: bytes, directory: file.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 }) } catch {
            throw .malformed(what: "a worker's configuration", path: file, reason: error.reason)
        }
    }

    init(text: [UInt8], directory: String) throws(WorkerFileError) {
        let root = try Self.parse(text)
        for (key, value) in Self.members(root) {
            switch key {
            case "server": server = try Self.known(HostAndPort(argument: try Self.text(value, key)), key, "host, or host:port")
            case "cpus":
                let count = value.string ?? value.index.map(String.init) ?? ""
                cpus = try Self.known(CPUCount(argument: count), key, "a number above 0, or \"detect\"")
            case "store_memory":
                storeMemory = try Self.known(ByteCount(argument: value.string ?? value.index.map(String.init) ?? ""), key, "a size such as \"4G\"")
            case "work_dir": workDirectory = Self.path(try Self.text(value, key), in: directory)
            case "log_dir": logDirectory = Self.path(try Self.text(value, key), in: directory)
            case "log_level": logLevel = try Self.known(LogLevel(try Self.text(value, key)), key, "error, warning, info or debug")
            case "access": access = Self.path(try Self.text(value, key), in: directory)
            case "ffi": declarations = try Self.texts(value, key).map { Self.path($0, in: directory) }
            case "subworkers":
                guard case .object(let tables) = value else { throw WorkerFileError("`subworkers` are tables: [subworkers.NAME]") }
                for (name, table) in tables { subworkers.append(try Self.subworker(name, table, directory)) }
            case _:
                throw WorkerFileError(
                    "nobody knows `\(key)`; there are server, cpus, store_memory, work_dir, log_dir, log_level, access, ffi and [subworkers.NAME]")
            }
        }
    }

    private static func subworker(_ name: String, _ table: JSONValue, _ directory: String) throws(WorkerFileError) -> SubworkerCommand {
        guard case .object(let members) = table else { throw WorkerFileError("[subworkers.\(name)] is a table with a `command`") }
        if let problem = SubworkerName.problem(with: name) { throw WorkerFileError(problem) }
        var command = SubworkerCommand(name: name, arguments: [])
        for (key, value) in members {
            switch key {
            case "command":
                if let line = value.string {
                    guard let words = splitWords(line) else { throw WorkerFileError("a quote in the `command` of [subworkers.\(name)] has no end") }
                    command.arguments = words
                } else {
                    command.arguments = try texts(value, "command of [subworkers.\(name)]")
                }
            case "env":
                guard case .object(let variables) = value else { throw WorkerFileError("`env` of [subworkers.\(name)] is a table: { NAME = \"value\" }") }
                for (variable, value) in variables {
                    guard let text = value.string, !variable.isEmpty, !variable.contains("="), !text.utf8.contains(0) else {
                        throw WorkerFileError("`\(variable)` in `env` of [subworkers.\(name)] is no text")
                    }
                    command.environment.append("\(variable)=\(text)")
                }
            case "memory_growth":
                let text = value.string ?? value.index.map(String.init) ?? ""
                command.memoryGrowthBytesMax = try known(ByteCount(argument: text), "\(key)` of `[subworkers.\(name)]", "a size such as \"1G\"").bytes
            case "idle":
                let seconds = value.index.flatMap { UInt32(exactly: $0) }.flatMap { $0 > 0 ? $0 : nil }
                command.idleSecondsMax = try known(seconds, "\(key)` of `[subworkers.\(name)]", "a whole number of seconds above 0")
            case _:
                throw WorkerFileError("nobody knows `\(key)` of [subworkers.\(name)]; there are `command`, `env`, `memory_growth` and `idle`")
            }
        }
        guard let program = command.arguments.first, !program.isEmpty else { throw WorkerFileError("[subworkers.\(name)] has no `command`") }
        // A name without a slash is looked up in the PATH.
        if program.contains("/") { command.arguments[0] = path(program, in: directory) }
        return command
    }

    private static func parse(_ text: [UInt8]) throws(WorkerFileError) -> JSONValue {
        var problem: UnsafeMutablePointer<CChar>?
        let json = text.withUnsafeBytes { rain_toml_to_json($0.baseAddress?.assumingMemoryBound(to: CChar.self), $0.count, &problem) }
        defer {
            free(json)
            free(problem)
        }
        guard let json else { throw WorkerFileError(problem.map { String(cString: $0) } ?? "no memory") }
        do throws(JSONError) { return try JSONParser.parse(Array(String(cString: json).utf8)) } catch { throw WorkerFileError("\(error)") }
    }

    private static func members(_ value: JSONValue) -> [(name: String, value: JSONValue)] { if case .object(let members) = value { members } else { [] } }
    private static func known<Value>(_ value: Value?, _ key: String, _ form: String) throws(WorkerFileError) -> Value {
        guard let value else { throw WorkerFileError("`\(key)` is \(form)") }
        return value
    }
    private static func text(_ value: JSONValue, _ key: String) throws(WorkerFileError) -> String { try known(value.string, key, "a text in quotes") }
    private static func texts(_ value: JSONValue, _ key: String) throws(WorkerFileError) -> [String] {
        guard let list = value.array, case let texts = list.compactMap(\.string), texts.count == list.count else {
            throw WorkerFileError("`\(key)` is a list of texts: [\"…\", \"…\"]")
        }
        return texts
    }
    private static func path(_ text: String, in directory: String) -> String { text.hasPrefix("/") ? text : "\(directory)/\(text)" }
}

/// What is wrong in a configuration file.
struct WorkerFileError: Error, Equatable {
    let reason: String
    init(_ reason: String) { self.reason = reason }
}
