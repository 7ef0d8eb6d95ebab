import TaskModel

/// The configuration of a `builtin/run` template, read once.
struct ProgramPlan: Equatable, Sendable {
    enum Part: Equatable, Sendable {
        case text(String)
        case input(Int)
        case output(Int)
    }
    struct Mapping: Equatable, Sendable {
        /// `nil`: the label.
        var path: String?
        var isWritable = false
        /// Whether it must be a directory, or must not be one; `nil` for whatever it is.
        var isDirectory: Bool?
    }
    var command: [Part] = []
    var isShell = false
    var stdin: Int?
    var stdout: Int?
    /// By position; `nil` where the configuration has no entry.
    var inputs: [Mapping?] = []
    var outputs: [Mapping?] = []
    /// `NAME=value`.
    var environment: [String] = []

    /// - Throws: with cause `setup`, says which part of the configuration is wrong.
    init(config: [UInt8]) throws(TaskError) {
        let value: JSONValue
        do throws(JSONError) { value = try JSONParser.parse(config) } catch { throw Self.wrong("is not JSON: \(error)") }
        guard case .object(let members) = value else { throw Self.wrong("must be an object with a `command`") }
        for (name, value) in members where !value.isNull {
            switch name {
            case "command": command = try Self.command(value)
            case "shell":
                guard let flag = value.bool else { throw Self.wrong("`shell` must be true or false") }
                isShell = flag
            case "stdin": stdin = try Self.position(value, "stdin")
            case "stdout": stdout = try Self.position(value, "stdout")
            case "inputs": inputs = try Self.mappings(value, "inputs")
            case "outputs": outputs = try Self.mappings(value, "outputs")
            case "env": environment = try Self.environment(value)
            case _: throw Self.wrong("has an unknown member `\(name)`")
            }
        }
        guard !command.isEmpty else { throw Self.wrong("needs a `command` with at least the program") }
    }

    /// What an error message calls it.
    var title: String {
        guard !isShell, case .text(let program) = command[0] else {
            let text = command.map { part in
                switch part {
                case .text(let text): text
                case .input(let position): "{input \(position)}"
                case .output(let position): "{output \(position)}"
                }
            }.joined(separator: " ")
            return "shell command `\(text.count > 80 ? text.prefix(80) + "…" : text)`"
        }
        return "program \(program)"
    }

    private static func wrong(_ what: String) -> TaskError { TaskError(.setup, "the configuration of builtin/run \(what)") }

    private static func command(_ value: JSONValue) throws(TaskError) -> [Part] {
        guard let parts = value.array else { throw wrong("needs `command` as a list") }
        var command: [Part] = []
        for part in parts {
            if let text = part.string {
                guard !text.utf8.contains(0) else { throw wrong("has a NUL character in its `command`") }
                command.append(.text(text))
            } else if let input = part["input"]?.index {
                command.append(.input(input))
            } else if let output = part["output"]?.index {
                command.append(.output(output))
            } else {
                throw wrong("has a part of `command` that is neither a string nor {\"input\": i} nor {\"output\": i}: \(part.text)")
            }
        }
        return command
    }
    private static func position(_ value: JSONValue, _ name: String) throws(TaskError) -> Int {
        guard let position = value.index else { throw wrong("needs a position as `\(name)`, not \(value.text)") }
        return position
    }
    private static func mappings(_ value: JSONValue, _ name: String) throws(TaskError) -> [Mapping?] {
        guard let entries = value.array else { throw wrong("needs `\(name)` as a list") }
        var mappings: [Mapping?] = []
        for entry in entries {
            if entry.isNull {
                mappings.append(nil)
                continue
            }
            guard case .object = entry else { throw wrong("has an entry in `\(name)` that is no object: \(entry.text)") }
            var mapping = Mapping()
            if let path = entry["path"], !path.isNull {
                guard let text = path.string else { throw wrong("has a `path` in `\(name)` that is no string") }
                mapping.path = text
            }
            if let write = entry["write"], !write.isNull {
                guard let flag = write.bool else { throw wrong("has a `write` in `\(name)` that is not true or false") }
                mapping.isWritable = flag
            }
            if let directory = entry["directory"], !directory.isNull {
                guard let flag = directory.bool else { throw wrong("has a `directory` in `\(name)` that is not true or false") }
                mapping.isDirectory = flag
            }
            mappings.append(mapping)
        }
        return mappings
    }
    private static func environment(_ value: JSONValue) throws(TaskError) -> [String] {
        guard case .object(let members) = value else { throw wrong("needs `env` as an object") }
        var environment: [String] = []
        for (name, value) in members {
            guard let text = value.string, !name.isEmpty, !name.utf8.contains(UInt8(ascii: "=")), !name.utf8.contains(0), !text.utf8.contains(0)
            else { throw wrong("has an `env` that is no pair of name and string: \(name)") }
            environment.append("\(name)=\(text)")
        }
        return environment
    }
}

/// Where the objects of one task lie in its directory.
struct ProgramLayout: Equatable, Sendable {
    /// By position; `nil` is not mapped.
    var inputPaths: [String?] = []
    var inputIsWritable: [Bool] = []
    var outputPaths: [String?] = []
    /// The command with its paths.
    var command: [String] = []

    /// - Parameter arguments: of the row, appended to the command.
    init(_ plan: ProgramPlan, template: TaskTemplate, inputCount: Int, arguments: [String]) throws(TaskError) {
        func check(_ position: Int, _ count: Int, _ what: String) throws(TaskError) {
            guard position < count else {
                throw TaskError(.setup, "\(plan.title): there is no \(what) \(position): the task has \(count)")
            }
        }
        if let stdin = plan.stdin { try check(stdin, inputCount, "input") }
        if let stdout = plan.stdout { try check(stdout, template.outputs.count, "output") }
        if plan.inputs.count > inputCount { try check(plan.inputs.count - 1, inputCount, "input") }
        if plan.outputs.count > template.outputs.count { try check(plan.outputs.count - 1, template.outputs.count, "output") }
        for part in plan.command {
            switch part {
            case .text: break
            case .input(let position): try check(position, inputCount, "input")
            case .output(let position): try check(position, template.outputs.count, "output")
            }
        }
        var taken: [String: String] = [:]
        func place(_ path: String, _ what: String) throws(TaskError) -> String {
            guard Self.isInside(path) else {
                throw TaskError(.setup, "\(plan.title): \(what) can't have the path '\(path)': give it one that is relative, without `..`")
            }
            if let other = taken.updateValue(what, forKey: path) {
                throw TaskError(.setup, "\(plan.title): \(other) and \(what) both have the path '\(path)': give them different ones")
            }
            return path
        }
        for position in 0..<inputCount {
            let entry = position < plan.inputs.count ? plan.inputs[position] : nil
            inputIsWritable.append(entry?.isWritable ?? false)
            guard entry?.path != nil || plan.stdin != position || plan.command.contains(.input(position)) else {
                inputPaths.append(nil)
                continue
            }
            let row = position - template.constants.count
            let label = template.inputLabels.indices.contains(row) ? template.inputLabels[row] : ""
            inputPaths.append(try place(entry?.path ?? (label.isEmpty ? "input\(position)" : label), "input \(position)"))
        }
        if let stdout = plan.stdout, template.outputs[stdout].isDirectory {
            throw TaskError(.setup, "\(plan.title): output \(stdout) is its standard output and can't be a directory")
        }
        for (position, output) in template.outputs.enumerated() {
            let entry = position < plan.outputs.count ? plan.outputs[position] : nil
            guard entry?.path != nil || plan.stdout != position || plan.command.contains(.output(position)) else {
                outputPaths.append(nil)
                continue
            }
            let path = entry?.path ?? (output.label.isEmpty ? "output\(position)" : output.label)
            // What lies at an input's path when the program has ended: it gets a copy of its own to work on, or to leave as it is.
            if let input = inputPaths.firstIndex(of: path), taken[path] == "input \(input)", plan.stdout != position {
                inputIsWritable[input] = true
                taken[path] = nil
            }
            outputPaths.append(try place(path, "output \(position)"))
        }
        for part in plan.command {
            switch part {
            case .text(let text): command.append(text)
            case .input(let position): command.append(inputPaths[position] ?? "")
            case .output(let position): command.append(outputPaths[position] ?? "")
            }
        }
        command += arguments
        if plan.isShell { command = ["/bin/sh", "-c", command.joined(separator: " ")] }
    }

    /// Whether a path stays below the directory that it starts in.
    static func isInside(_ path: String) -> Bool {
        guard !path.isEmpty, path.utf8.count < 4000, !path.utf8.contains(0) else { return false }
        return path.isPathInside(partBytesMax: 255)
    }
}
