import CLinux
import Glibc

/// A hold on one living process that can't slip to another one that gets its number later.
struct ProcessHandle: ~Copyable {
    let descriptor: Descriptor

    /// The process of a run file; `nil` when it has ended.
    init?(_ record: RunRecord) {
        // The descriptor first: what `/proc` tells after it is about the process that it holds, or about a later one.
        let raw = rain_pidfd_open(record.pid)
        guard raw >= 0 else { return nil }
        let held = Descriptor(raw)
        guard rain_start_time(record.pid) == record.startTicks, Self.bootID() == record.bootID, !isReadable(held) else { return nil }
        descriptor = held
    }

    /// Whether it has ended, reaped or not; waits for it at most that long.
    func hasEnded(waitMilliseconds: Int32) -> Bool {
        isReadable(descriptor, waitMilliseconds: waitMilliseconds)
    }

    func signal(_ number: Int32) {
        // The only failure is that it has just ended, which is what we want.
        _ = rain_pidfd_send_signal(descriptor.raw, number)
    }

    static func bootID() -> String {
        guard let bytes = try? readFile("/proc/sys/kernel/random/boot_id") else { return "" }
        return String(decoding: bytes, as: UTF8.self).trimmed
    }
}

/// Ends processes of ours: SIGTERM to all, SIGKILL to those that are still there after a time.
/// - Returns: those that even SIGKILL did not end.
func stopProcesses(_ records: [RunRecord], graceMilliseconds: Int64 = 5000) -> [RunRecord] {
    var left = records
    for (signal, waitMilliseconds) in [(SIGTERM, graceMilliseconds), (SIGKILL, 2000)] {
        for record in left { ProcessHandle(record)?.signal(signal) }
        let deadline = monotonicMilliseconds() + waitMilliseconds
        // One after the other: they end side by side, and all must have.
        left = left.filter { record in
            guard let process = ProcessHandle(record) else { return false }
            return !process.hasEnded(waitMilliseconds: Int32(max(0, deadline - monotonicMilliseconds())))
        }
        if left.isEmpty { break }
    }
    return left
}

private func isReadable(_ descriptor: borrowing Descriptor, waitMilliseconds: Int32 = 0) -> Bool {
    var polled = pollfd(fd: descriptor.raw, events: Int16(POLLIN), revents: 0)
    return poll(&polled, 1, waitMilliseconds) == 1
}

func monotonicMilliseconds() -> Int64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return Int64(now.tv_sec) * 1000 + Int64(now.tv_nsec) / 1_000_000
}

extension StringProtocol {
    var trimmed: String {
        String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}
