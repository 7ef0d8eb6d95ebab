import CLinux
import Glibc

/// A third process, for the case that worker and parent are killed at one blow: it waits until both are gone, ends what they left
/// running, and removes their files.
enum Janitor {
    /// In the worker's process: an end of the pipe whose other end the janitor reads.
    static let lifeline: Int32 = 4
    /// In the environment of everything that a worker starts: the name of its store.
    static let variable = "RAIN_WORKER"

    /// - Returns: `nil` unless the argument is that of a janitor.
    static func descriptor(_ argument: String) -> Int32? {
        guard argument.hasPrefix("j"), let number = Int32(argument.dropFirst()), number >= 3, fcntl(number, F_GETFD) >= 0 else { return nil }
        return number
    }

    /// One line for its pipe.
    static func plan(storeName: String, directories: [String]) -> [UInt8] {
        Array((JSONValue.object([("store_name", .string(storeName)), ("directories", .array(directories.map { .string($0) }))]).text + "\n").utf8)
    }

    static func run(_ descriptor: Int32) -> Int32 {
        rain_set_name("rain-janitor")
        _ = chdir("/")
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { break }
            text += buffer[..<count]
        }
        // A janitor before this one may have ended before it read its line.
        guard let value = try? JSONParser.parse(Array(text.prefix { $0 != UInt8(ascii: "\n") })), let name = value["store_name"]?.string,
            name.hasPrefix("rain-"),
            let directories = value["directories"]?.array
        else { return WorkerExit.unusable }
        endProcesses(of: name)
        for directory in directories.compactMap(\.string) { _ = rain_remove_tree(AT_FDCWD, "\(directory)/\(name)") }
        return 0
    }

    /// Kills every process that has the worker's name in its environment, and what those leave.
    static func endProcesses(of name: String) {
        let line = Array("\(variable)=\(name)".utf8)
        for _ in 0..<100 {
            var hasKilled = false
            guard let list = opendir("/proc") else { return }
            while let entry = readdir(list) {
                let text = withUnsafePointer(to: &entry.pointee.d_name) { $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) } }
                guard let pid = pid_t(text), pid != getpid() else { continue }
                // The process is held first: its number may be another's by the time that it is ended.
                let process = rain_pidfd_open(pid)
                guard process >= 0 else { continue }
                defer { _ = close(process) }
                guard let file = try? Descriptor.open("/proc/\(pid)/environ", O_RDONLY),
                    let environment = try? file.read(count: 256 * 1024)
                else { continue }
                if environment.split(separator: 0).contains(where: { $0.elementsEqual(line) }) {
                    _ = rain_pidfd_send_signal(process, SIGKILL)
                    hasKilled = true
                }
            }
            closedir(list)
            if !hasKilled { return }
            usleep(1000)
        }
    }
}
