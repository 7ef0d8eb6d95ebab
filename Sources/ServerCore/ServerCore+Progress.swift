import TaskModel

/// How far running tasks are: known while they run, and never in the journal.
extension ServerCore {
    mutating func take(_ news: AttemptProgress, from worker: Int) {
        let task = news.attempt.task.index
        guard let slot = current(news.attempt, on: worker), sessions[slot]!.tasks.state[Int(task)] == .running else { return }
        sessions[slot]!.tasks.progress[task] = news.progress
    }
}
