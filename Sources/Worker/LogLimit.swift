import CLinux
import Glibc

/// A process may write to its log without end: what is too long loses its beginning.
extension WorkerShell {
    static let logBytesMax: UInt64 = 16 << 20
    static let logBytesKept = 1 << 20
    /// Logs of processes that have ended; older ones are removed.
    static let endedLogCountMax = 100
    private static let logNanoseconds: UInt64 = 10_000_000_000

    /// A process was started that has a log.
    func watchLogs() {
        if isWatchingLogs { return }
        isWatchingLogs = true
        timers.set(.trimLogs, at: monotonicNanoseconds() &+ Self.logNanoseconds)
    }

    func trimLogs() {
        isWatchingLogs = false
        for subworker in subworkers.values { subworker.log.keepTail(bytesMax: Self.logBytesMax, bytesKept: Self.logBytesKept) }
        for case .program(let program) in jobs.values { program.prepared.directory.error.keepTail(bytesMax: Self.logBytesMax, bytesKept: Self.logBytesKept) }
        if !owners.isEmpty { watchLogs() }
    }

    /// The process has ended: an empty log is of no use, and of the others so many are kept.
    ///
    /// - Parameter isMentioned: an error names it.
    func keepLog(of subworker: SubworkerProcess, isMentioned: Bool) {
        if !isMentioned, (try? subworker.log.status().st_size) == 0 {
            _ = unlink(subworker.logPath)
            return
        }
        endedLogs.append(subworker.logPath)
        if endedLogs.count > Self.endedLogCountMax { _ = unlink(endedLogs.removeFirst()) }
    }
}

extension Descriptor {
    /// Shortens a log that its writer appends to. What is written at this very moment may be lost.
    func keepTail(bytesMax: UInt64, bytesKept: Int) {
        guard let size = try? status().sizeBytes, size > bytesMax, let tail = try? read(at: Int64(size) - Int64(bytesKept), count: bytesKept),
            ftruncate(raw, 0) == 0
        else { return }
        // When the disk is full the log stays empty, and goes on.
        try? writeAll(Array("[\(size - UInt64(bytesKept)) bytes before this are left out]\n".utf8) + tail)
    }
}
