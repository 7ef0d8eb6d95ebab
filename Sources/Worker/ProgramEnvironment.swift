import CLinux
import Glibc

/// The environment of processes that the worker starts, as C wants it.
final class ProgramEnvironment {
    private var entries: [UnsafeMutablePointer<CChar>]
    /// Of `PATH`, to look programs up in.
    let searchPath: [String]
    private var found: [String: String] = [:]

    /// - Parameter additions: `NAME=value`; the last one of a name counts, and each comes before what the worker inherited.
    init(_ additions: [String]) {
        var names: Set<[UInt8]> = []
        var lines: [String] = []
        func name(_ line: String) -> [UInt8] { Array(line.utf8.prefix { $0 != UInt8(ascii: "=") }) }
        for line in additions.reversed() where names.insert(name(line)).inserted { lines.append(line) }
        var position = rain_environment()
        while let pointer = position?.pointee {
            position = position?.advanced(by: 1)
            let line = String(cString: pointer)
            // What this worker's own parent or subworker told it is not for its children.
            if line.hasPrefix("RAIN_SUBWORKER_") || line.hasPrefix("RAIN_CONTROL_PAGE=") || line.hasPrefix("RAIN_TASK") || line.hasPrefix("RAIN_SESSION=") {
                continue
            }
            if names.insert(name(line)).inserted { lines.append(line) }
        }
        let path = lines.first { $0.hasPrefix("PATH=") }?.dropFirst(5)
        searchPath = (path.map(String.init) ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":").map(String.init)
        entries = lines.map { strdup($0) }
    }
    deinit { for entry in entries { free(entry) } }

    /// - Returns: what `program` stands for: itself when it has a slash, else the first executable file of that name on the path.
    func find(_ program: String, again: Bool = false) -> String? {
        if program.utf8.contains(UInt8(ascii: "/")) { return program }
        if !again, let path = found[program] { return path }
        found[program] = nil
        guard !program.isEmpty else { return nil }
        for directory in searchPath {
            let path = directory + "/" + program
            var status = stat()
            if access(path, X_OK) == 0, stat(path, &status) == 0, status.isRegular {
                found[program] = path
                return path
            }
        }
        return nil
    }

    /// Starts a process in a group of its own that dies with this thread, and waits until it runs its program.
    ///
    /// - Parameters:
    ///   - additions: `NAME=value`, of names that the environment does not have.
    ///   - inherited: pairs of a descriptor here and its number there, from 3.
    func spawn(
        _ program: String, _ arguments: [String], additions: [String] = [], directory: Int32, standard: (input: Int32, output: Int32, error: Int32),
        inherited: [Int32] = []
    ) throws(SystemError) -> pid_t {
        let result = try plan(program, arguments, additions, directory, standard, inherited) { rain_spawn_process(&$0) }
        guard result > 0 else { throw SystemError("start", program, code: 0 &- result) }
        return result
    }

    /// The same without waiting: whether it does run its program is known when it has ended.
    func begin(
        _ program: String, _ arguments: [String], additions: [String], directory: Int32, standard: (input: Int32, output: Int32, error: Int32)
    ) throws(SystemError) -> (pid: pid_t, spawning: Spawning) {
        var spawning: OpaquePointer?
        let result = try plan(program, arguments, additions, directory, standard, []) { rain_begin_spawn(&$0, &spawning) }
        guard result > 0, let spawning else { throw SystemError("start", program, code: 0 &- result) }
        return (result, Spawning(spawning))
    }

    private func plan(
        _ program: String, _ arguments: [String], _ additions: [String], _ directory: Int32, _ standard: (input: Int32, output: Int32, error: Int32),
        _ inherited: [Int32], _ body: (inout rain_spawn) -> Int32
    ) throws(SystemError) -> Int32 {
        guard var path = find(program) else { throw SystemError("find", program, code: ENOENT) }
        // What was found before may have moved.
        if path != program, access(path, X_OK) != 0 {
            guard let now = find(program, again: true) else { throw SystemError("find", program, code: ENOENT) }
            path = now
        }
        let own = additions.map { strdup($0) }
        let argumentPointers = arguments.map { strdup($0) } + [nil]
        defer {
            for pointer in own { free(pointer) }
            for pointer in argumentPointers { free(pointer) }
        }
        let environment = own + entries + [nil]
        return path.withCString { path in
            argumentPointers.withUnsafeBufferPointer { argumentPointers in
                environment.withUnsafeBufferPointer { environment in
                    inherited.withUnsafeBufferPointer { inherited in
                        var plan = rain_spawn()
                        plan.path = path
                        plan.arguments = argumentPointers.baseAddress
                        plan.environment = environment.baseAddress
                        plan.working_directory = directory
                        plan.input = standard.input
                        plan.output = standard.output
                        plan.error = standard.error
                        plan.inherited = inherited.baseAddress
                        plan.inherited_count = inherited.count / 2
                        plan.new_group = true
                        plan.parent_death_signal = SIGKILL
                        return body(&plan)
                    }
                }
            }
        }
    }
}

/// What a process borrows of this one's memory until it runs its program; `end` it once the process has been reaped.
final class Spawning {
    private let raw: OpaquePointer
    init(_ raw: OpaquePointer) { self.raw = raw }

    /// - Returns: what kept it from running its program, if anything did.
    func end(_ program: String) -> SystemError? {
        let result = rain_end_spawn(raw)
        return result < 0 ? SystemError("start", program, code: 0 &- result) : nil
    }
}
