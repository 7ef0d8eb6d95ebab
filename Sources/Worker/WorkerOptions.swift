import CLinux
import Glibc
import Link
import TaskModel

/// How a worker is started.
package struct WorkerOptions: Equatable, Sendable {
    package var serverHost: String
    package var controlPort: UInt16
    /// CPUs that it offers; at least 1.
    package var cpus: UInt32
    /// For the store when memory has no room. Made when missing.
    package var workDirectory: String
    /// For the logs of subworkers. Made when missing.
    package var logDirectory: String
    package var accessFile: String
    /// Subworkers that every session may use.
    package var subworkers: [SubworkerCommand]
    /// What people call it; empty for the host's name.
    package var name: String
    /// Written when the server has taken the worker in; removed before.
    package var readyFile: String?
    /// Gets the same line, and is closed then.
    package var readyDescriptor: Int32?
    /// Where it serves objects; `nil` for this machine only when the server is on it, else for all.
    package var dataHost: String?
    /// How much memory objects may take; what is more goes to the work directory. 0: all of it goes there.
    package var storeMemoryBytes: UInt64
    /// What subworkers are told to log; `nil`: nothing, so that RAIN_LOG counts.
    package var logLevel: LogLevel?
    /// What it offers beside its subworkers: `ffi/LIBRARY`.
    package var offers: [String] = []
    /// Names the worker's files in `/dev/shm`; set by the process that owns them.
    var storeName = ""
    /// Tells the server that processes follow one another; set by the process that starts them.
    var place: UInt64 = 0
    /// How that process's predecessor ended; set by the process that saw it.
    var predecessor: Predecessor?

    package init(
        serverHost: String, controlPort: UInt16 = 7211, cpus: UInt32 = availableCPUs(), workDirectory: String, logDirectory: String,
        accessFile: String, subworkers: [SubworkerCommand] = [], name: String = "", readyFile: String? = nil, readyDescriptor: Int32? = nil,
        dataHost: String? = nil, storeMemoryBytes: UInt64 = defaultStoreMemory(), logLevel: LogLevel? = nil
    ) {
        self.serverHost = serverHost
        self.controlPort = controlPort
        self.cpus = max(1, cpus)
        self.workDirectory = workDirectory
        self.logDirectory = logDirectory
        self.accessFile = accessFile
        self.subworkers = subworkers
        self.name = name
        self.readyFile = readyFile
        self.readyDescriptor = readyDescriptor
        self.dataHost = dataHost
        self.storeMemoryBytes = storeMemoryBytes
        self.logLevel = logLevel
    }

    /// The address that the data plane listens on.
    var dataAddress: String {
        if let dataHost { return dataHost }
        return serverHost == "localhost" || serverHost == "::1" || serverHost.hasPrefix("127.") ? "127.0.0.1" : "0.0.0.0"
    }
}

/// CPUs that this process may use: of its affinity mask, or of its control group where that allows less.
package func availableCPUs() -> UInt32 {
    var count = Int(max(1, rain_usable_cpus()))
    if let file = try? Descriptor.open("/sys/fs/cgroup/cpu.max", O_RDONLY), let bytes = try? file.read(count: 64) {
        // "max 100000", or microseconds of CPU time in each period.
        let fields = String(decoding: bytes, as: UTF8.self).split { $0 == " " || $0 == "\n" }
        if fields.count == 2, let quota = Double(fields[0]), let period = Double(fields[1]), period > 0, quota > 0 {
            count = min(count, max(1, Int((quota / period).rounded(.up).clamped(to: 1...65536))))
        }
    }
    return UInt32(max(1, min(count, 65536)))
}

extension Double {
    func clamped(to range: ClosedRange<Double>) -> Double { min(max(self, range.lowerBound), range.upperBound) }
}

extension WorkerOptions {
    /// One line of JSON, for the worker's own process.
    var text: String {
        JSONValue.object([
            ("server_host", .string(serverHost)), ("control_port", .number(Double(controlPort))), ("cpus", .number(Double(cpus))),
            ("work_directory", .string(workDirectory)), ("log_directory", .string(logDirectory)), ("access_file", .string(accessFile)),
            ("name", .string(name)), ("store_name", .string(storeName)), ("place", .string(String(place))),
            ("data_host", dataHost.map { .string($0) } ?? .null), ("store_memory", .string(String(storeMemoryBytes))),
            ("offers", .array(offers.map { .string($0) })), ("predecessor", predecessor.map { $0.json } ?? .null),
            ("log_level", logLevel.map { .string($0.name) } ?? .null),
            (
                "subworkers",
                .array(
                    subworkers.map { command in
                        .object([
                            ("name", .string(command.name)), ("command", .array(command.arguments.map { .string($0) })),
                            ("env", .array(command.environment.map { .string($0) })),
                            ("memory_growth", command.memoryGrowthBytesMax.map { .string(String($0)) } ?? .null),
                            ("idle", command.idleSecondsMax.map { .string(String($0)) } ?? .null),
                            (
                                "threads",
                                command.threadsByMethod.map { .object($0.sorted { $0.key < $1.key }.map { ($0.key, .number(Double($0.value))) }) } ?? .null
                            ),
                        ])
                    })
            ),
        ]).text
    }

    /// - Returns: `nil` when it is not the text of options.
    init?(text: [UInt8]) {
        guard let value = try? JSONParser.parse(text), let host = value["server_host"]?.string,
            let port = value["control_port"]?.index.flatMap({ UInt16(exactly: $0) }),
            let cpus = value["cpus"]?.index.flatMap({ UInt32(exactly: $0) }), let work = value["work_directory"]?.string,
            let log = value["log_directory"]?.string, let access = value["access_file"]?.string, let name = value["name"]?.string,
            let store = value["store_name"]?.string, let place = value["place"]?.string.flatMap({ UInt64($0) }),
            let subworkers = value["subworkers"]?.array, let memory = value["store_memory"]?.string.flatMap({ UInt64($0) })
        else { return nil }
        var commands: [SubworkerCommand] = []
        for subworker in subworkers {
            guard let name = subworker["name"]?.string, let command = subworker["command"]?.array, let environment = subworker["env"]?.array
            else { return nil }
            var known = SubworkerCommand(name: name, arguments: command.compactMap(\.string), environment: environment.compactMap(\.string))
            known.memoryGrowthBytesMax = subworker["memory_growth"]?.string.flatMap { UInt64($0) }
            known.idleSecondsMax = subworker["idle"]?.string.flatMap { UInt32($0) }
            if case .object(let methods)? = subworker["threads"] {
                known.threadsByMethod = Dictionary(
                    methods.map { ($0.name, UInt32($0.value.index ?? 1)) }, uniquingKeysWith: { _, last in last })
            }
            commands.append(known)
        }
        self.init(
            serverHost: host, controlPort: port, cpus: cpus, workDirectory: work, logDirectory: log, accessFile: access,
            subworkers: commands, name: name, dataHost: value["data_host"]?.string, storeMemoryBytes: memory,
            logLevel: value["log_level"]?.string.flatMap { LogLevel($0) })
        offers = value["offers"]?.array?.compactMap(\.string) ?? []
        storeName = store
        self.place = place
        predecessor = value["predecessor"].flatMap { Predecessor(json: $0) }
    }
}

extension Predecessor {
    fileprivate var json: JSONValue {
        // The numbers of all attempts in a row, four each.
        let numbers = running.flatMap { [$0.task.session.rawValue, $0.task.index, $0.epoch.rawValue, $0.number] }
        return .object([("end", .string(end)), ("running", .array(numbers.map { .number(Double($0)) }))])
    }

    fileprivate init?(json: JSONValue) {
        guard let end = json["end"]?.string, let values = json["running"]?.array else { return nil }
        let numbers = values.compactMap { $0.index.flatMap { UInt32(exactly: $0) } }
        guard numbers.count == values.count, numbers.count % 4 == 0 else { return nil }
        let running = stride(from: 0, to: numbers.count, by: 4).map { first in
            AttemptID(
                task: TaskID(session: SessionID(numbers[first]), index: numbers[first + 1]), epoch: ServerEpoch(numbers[first + 2]),
                number: numbers[first + 3])
        }
        self.init(end: end, running: running)
    }
}
