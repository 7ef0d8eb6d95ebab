import FoundationEssentials
import Glibc
import Transport

/// A process that `rain start` left running.
struct RunRecord: Codable, Equatable {
    enum Role: String, Codable { case server, worker }
    var role: Role
    /// `server`, `worker-1`; also the name of its run file and of its log.
    var name: String
    var pid: Int32
    /// When it started and in which boot: a number that another process got later is then never mistaken for it.
    var startTicks: Int64
    var bootID: String
    var logPath: String
    /// Where clients (`port`) and workers (`controlPort`) reach the server; only in the server's record, once it is ready.
    var host: String?
    var port: UInt16?
    var controlPort: UInt16?
    /// How it was started; absent in files of earlier versions.
    var arguments: [String]?

    /// The same again. A server gets the ports that it had, for its workers and clients look for it there.
    var again: [String]? {
        guard var arguments else { return nil }
        for (option, value) in [("--port", port), ("--control-port", controlPort)] {
            guard let value, let index = arguments.firstIndex(of: option), index + 1 < arguments.count else { continue }
            arguments[index + 1] = String(value)
        }
        return arguments
    }

    var title: String { "\(name), pid \(pid)" }
}

/// Where a user's rain keeps its keys, run files and logs.
func stateDirectory() throws(CLIError) -> String {
    do { return try AccessFile.defaultStateDirectory() } catch { throw .transport(error) }
}

/// The run files, one for each process, in a directory of the state directory.
struct RunDirectory {
    let path: String

    init() throws(CLIError) { path = try stateDirectory() + "/run" }

    /// Held while processes are started or stopped, so that two commands don't do it at once.
    func lock() throws(CLIError) -> Descriptor {
        try makeDirectories(path)
        let raw = open("\(path)/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard raw >= 0 else { throw .system(call: "open", about: "\(path)/lock", code: errno) }
        let descriptor = Descriptor(raw)
        while flock(descriptor.raw, LOCK_EX) != 0 {
            guard errno == EINTR else { throw .system(call: "flock", about: "\(path)/lock", code: errno) }
        }
        return descriptor
    }

    func write(_ record: RunRecord) throws(CLIError) {
        let bytes: [UInt8]
        do {
            bytes = Array(try JSONEncoder().encode(record))
        } catch {
            throw .malformed(what: "a run file", path: record.name, reason: "\(error)")
        }
        let file = try NewFile("\(path)/\(record.name).json", mode: 0o600)
        try file.write(bytes)
        try file.finish()
    }

    func remove(_ record: RunRecord) {
        unlink("\(path)/\(record.name).json")
    }

    /// The processes that still run, the server first.
    func running() throws(CLIError) -> [RunRecord] { try started().filter(\.isRunning).map(\.record) }

    /// What was started, the server first. When nothing of it runs any more, the run files are removed; until then they tell what is missing.
    func started() throws(CLIError) -> [(record: RunRecord, isRunning: Bool)] {
        var records: [(record: RunRecord, isRunning: Bool)] = []
        for name in try fileNames() where name.hasSuffix(".json") {
            let file = "\(path)/\(name)"
            guard let bytes = try readFile(file) else { continue }
            let record: RunRecord
            do {
                record = try JSONDecoder().decode(RunRecord.self, from: Data(bytes))
            } catch {
                throw .malformed(what: "a run file", path: file, reason: "\(error); remove it if no rain process runs")
            }
            records.append((record, ProcessHandle(record) != nil))
        }
        guard records.contains(where: \.isRunning) else {
            for (record, _) in records { remove(record) }
            return []
        }
        return records.sorted { ($0.record.role == .server ? 0 : 1, $0.record.name) < ($1.record.role == .server ? 0 : 1, $1.record.name) }
    }

    private func fileNames() throws(CLIError) -> [String] {
        guard let directory = opendir(path) else {
            if errno == ENOENT { return [] }
            throw .system(call: "opendir", about: path, code: errno)
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            names.append(withUnsafePointer(to: &entry.pointee.d_name) { String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self)) })
        }
        return names
    }
}
