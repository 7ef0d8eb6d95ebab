import Glibc
import Logging
import TaskModel

/// Log lines on stderr: time, level, text. Never a token, key or ticket: nothing that holds one is logged.
struct StderrLogHandler: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        var parts = tm()
        localtime_r(&time.tv_sec, &parts)
        var stamp = [CChar](repeating: 0, count: 32)
        let length = strftime(&stamp, stamp.count, "%Y-%m-%d %H:%M:%S", &parts)
        let date = String(decoding: stamp[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        let milliseconds = String(Int(time.tv_nsec) / 1_000_000 + 1000).dropFirst()
        // One write for the line, so that lines of several threads don't mix.
        let line = "\(date).\(milliseconds) \(event.level) \("\(event.message)".onOneLine)\n"
        _ = line.utf8.withContiguousStorageIfAvailable { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    /// `level` by the environment variable RAIN_LOG: trace, debug, info (when not given), notice, warning, error, critical.
    static func makeLogger(_ label: String) -> Logger {
        let level = getenv("RAIN_LOG").flatMap { Logger.Level(rawValue: String(cString: $0)) } ?? .info
        return Logger(label: label, factory: { _ in StderrLogHandler(logLevel: level) })
    }
}
