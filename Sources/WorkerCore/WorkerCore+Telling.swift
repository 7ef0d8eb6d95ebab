import Link
import TaskModel

/// What the server is told, and when.
///
/// While more work is queued here nobody waits for a single outcome, and each message of its own costs the server a wake-up, a commit and an
/// answer: more than half of what a short program takes. So outcomes then wait a little for company. Whatever somebody waits for goes at once,
/// and so does everything as soon as the queue is empty, or beside the outcome of a task that took so long that a message adds nothing to it.
extension WorkerCore {
    mutating func tell(_ message: consuming WorkerMessage) {
        switch message {
        case .started, .replicated, .progress: break
        case .finished(_, let finished): if finished.durationNanoseconds >= gatherNanoseconds / 4 { isUrgent = true }
        case .failed, .cancelled, .revoked, .sessionClosed, .missing, .knows, .runs, .holds, .handedOver: isUrgent = true
        }
        link.enqueue(message)
    }

    /// Whether what is gathered for the server goes now; else `gatherDeadline` says when.
    mutating func isTimeToTell() -> Bool {
        if gatherNanoseconds > 0, !isUrgent, !readyLanes.isEmpty {
            let deadline = gatherDeadline ?? now.advanced(byNanoseconds: gatherNanoseconds)
            if now < deadline {
                gatherDeadline = deadline
                return false
            }
        }
        isUrgent = false
        gatherDeadline = nil
        return true
    }
}
