import CLinux
import Glibc
import TaskModel
import WorkerCore

/// Whose orphans are looked for: processes that left their group and were given to this process when their parents ended.
struct Sweep: Equatable, Sendable {
    var session: SessionID
    /// `nil`: of the whole session.
    var task: UInt32?
    var roundsLeft = 20

    /// Whether a process has this in its environment: it was started for the session, or the task.
    func matches(_ pid: pid_t) -> Bool {
        guard let file = try? Descriptor.open("/proc/\(pid)/environ", O_RDONLY), let bytes = try? file.read(count: 256 * 1024) else { return false }
        var isOfSession = false
        var isOfTask = task == nil
        for line in bytes.split(separator: 0) {
            if line.elementsEqual("RAIN_SESSION=\(session.rawValue)".utf8) { isOfSession = true }
            if let task, line.elementsEqual("RAIN_TASK=\(task)".utf8) { isOfTask = true }
        }
        return isOfSession && isOfTask
    }
}

extension WorkerShell {
    func sweepOrphans(_ sweep: Sweep) {
        guard runSweep(sweep) else { return }
        sweeps.append(sweep)
        timers.set(.sweepAgain, at: monotonicNanoseconds() &+ 5_000_000)
    }

    /// What was killed may have left children of its own.
    func sweepAgain() {
        let before = sweeps
        sweeps = []
        for var sweep in before where sweep.roundsLeft > 0 {
            sweep.roundsLeft -= 1
            sweepOrphans(sweep)
        }
    }

    /// - Returns: whether one was killed.
    private func runSweep(_ sweep: Sweep) -> Bool {
        var hasKilled = false
        for pid in children() where owners[pid] == nil && sweep.matches(pid) {
            kill(pid, SIGKILL)
            hasKilled = true
        }
        return hasKilled
    }
}

/// Direct children, orphans that were given to this process among them.
func children() -> [pid_t] {
    var capacity = 256
    while true {
        var count = 0
        let pids = [pid_t](unsafeUninitializedCapacity: capacity) { buffer, filled in
            count = Int(max(0, rain_children(buffer.baseAddress, buffer.count)))
            filled = count
        }
        if count < capacity { return pids }
        capacity *= 4
    }
}

/// Kills children and everything that is given to this process when they end, until there is none.
///
/// - Parameter spared: the one child that may stay.
/// - Returns: whether all are gone; one that hangs in the kernel is not waited for.
@discardableResult func endAllChildren(except spared: pid_t = 0, within nanoseconds: UInt64) -> Bool {
    let end = monotonicNanoseconds() &+ nanoseconds
    while true {
        var ended = rain_ended()
        while rain_reap(-1, &ended) == 1 {}
        let left = children().filter { $0 != spared }
        if left.isEmpty { return true }
        for pid in left {
            kill(-pid, SIGKILL)
            kill(pid, SIGKILL)
        }
        if monotonicNanoseconds() > end { return false }
        // They are dying: SIGCHLD is blocked or goes elsewhere, and the wait is a matter of some 100 µs.
        usleep(500)
    }
}
