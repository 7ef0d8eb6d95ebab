import Link
import TaskModel

/// How far running attempts are. The newest of each is kept here; what is new goes to the server together and seldom, so that what it costs
/// depends on the time and not on how often tasks report.
struct ProgressReports: Sendable {
    static let milliseconds: UInt64 = 200

    struct Row: Sendable {
        let attempt: AttemptHandle
        var progress: Progress
        var isNew: Bool
    }
    /// Those that run are few. One that has ended goes when the next is told.
    var rows: ContiguousArray<Row> = []
    var hasNew = false
    /// Nothing is told before.
    var due = Instant(nanoseconds: 0)
}

extension WorkerCore {
    mutating func progress(_ id: SubworkerID, _ news: ContiguousArray<CallProgress>) {
        guard let handle = subworkerByID[id] else { return }  // What a process said before it died, heard after.
        for each in news {
            // One that was answered already is late, and no harm.
            guard let attempt = subworkers[handle].attempt(in: each.slot) else { continue }
            note(each.progress, of: attempt)
        }
    }

    private mutating func note(_ progress: Progress, of attempt: AttemptHandle) {
        if let row = reports.rows.firstIndex(where: { $0.attempt == attempt }) {
            guard reports.rows[row].progress != progress else { return }
            reports.rows[row].progress = progress
            reports.rows[row].isNew = true
        } else {
            reports.rows.append(ProgressReports.Row(attempt: attempt, progress: progress, isNew: true))
        }
        reports.hasNew = true
        reportStart(attempt)
    }

    /// The attempt begins once more.
    mutating func forgetProgress(of attempt: AttemptHandle) {
        if reports.rows.contains(where: { $0.attempt == attempt }) { note(Progress(millionths: 0), of: attempt) }
    }

    /// A server that was started again knows of none.
    mutating func repeatProgress() {
        for row in reports.rows.indices { reports.rows[row].isNew = true }
        reports.hasNew = !reports.rows.isEmpty
    }

    /// When there is something to tell.
    var progressDue: Instant? { reports.hasNew && link.state == .open ? reports.due : nil }

    mutating func tellProgress() {
        guard let due = progressDue, now >= due else { return }
        reports.hasNew = false
        reports.due = now.advanced(byMilliseconds: ProgressReports.milliseconds)
        reports.rows.removeAll { !attempts.contains($0.attempt) }
        var list: [AttemptProgress] = []
        var bytes = 0
        for row in reports.rows.indices where reports.rows[row].isNew {
            reports.rows[row].isNew = false
            let attempt = reports.rows[row].attempt
            guard sessions[attempts[attempt].session].closing == .no else { continue }
            list.append(AttemptProgress(attempt: attempts[attempt].id, progress: reports.rows[row].progress))
            bytes += 40 + reports.rows[row].progress.text.utf8.count
            guard bytes > ControlLimits.batchBytesMax / 4 else { continue }
            tell(.progress(list))
            (list, bytes) = ([], 0)
        }
        if !list.isEmpty { tell(.progress(list)) }
    }
}
