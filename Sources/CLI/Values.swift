import ArgumentParser

/// For values on the command line: one that can't be read is refused with what would be right.
func parsed<Value: ExpressibleByArgument>(_ form: String) -> @Sendable (String) throws -> Value {
    { text in
        guard let value = Value(argument: text) else { throw ValidationError(form) }
        return value
    }
}

/// What is right where, in the words of an error.
enum ValueForm {
    static let port = "a port is a number from 1 to 65535, or 0 for any that is free"
    static let server = "say HOST or HOST:PORT, such as localhost:7210 or [::1]:7210, with a port from 1 to 65535"
    static let cpus = "say a number above 0"
    static let cpuCount = "say a number above 0, or detect"
    static let cpuList = "say the CPUs of each worker, such as [2,2] for two workers with two each"
    static let bytes = "say a number of bytes, or one with K, M, G or T, such as 4G"
    static let subworker = "say it as name=command, for example wc=./wordcount"
    static let labelAndPath = "say it as label=path, for example out=result.txt, or out=- for stdout"
    static let seconds = "say a number of seconds"
    static let session = "a session is a number, as `rain sessions` shows it"
    static let tasks = "say a task's number, such as 5, or a range, such as 5-9"
}

/// Each side needs a port of its own.
func checkPorts(clients: UInt16, workers: UInt16) throws {
    guard clients == workers, clients != 0 else { return }
    throw ValidationError("--port and --control-port are both \(clients): clients and workers need a port each; give one of them another number")
}

/// The number of a session.
struct SessionNumber: ExpressibleByArgument, Equatable {
    var value: UInt32

    init?(argument: String) {
        guard !argument.isEmpty, argument.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let value = UInt32(argument) else { return nil }
        self.value = value
    }
}

/// `5` or `5-9`: tasks by their numbers.
struct TaskRange: ExpressibleByArgument, Equatable {
    var first: UInt32
    var count: UInt32

    init?(argument: String) {
        let ends = argument.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false).map { SessionNumber(argument: String($0))?.value }
        guard let first = ends[0], let last = ends.count == 2 ? ends[1] : first, last >= first, last < .max else { return nil }
        (self.first, count) = (first, last - first + 1)
    }
}
