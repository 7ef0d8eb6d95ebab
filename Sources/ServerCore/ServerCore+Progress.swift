import TaskModel

/// How far running tasks are: known while they run, told to the lease with what else is new, and never in the journal.
extension ServerCore {
    mutating func take(_ news: AttemptProgress, from worker: Int) {
        let task = news.attempt.task.index
        guard let slot = current(news.attempt, on: worker), sessions[slot]!.tasks.state[Int(task)] == .running else { return }
        sessions[slot]!.tasks.progress[task] = news.progress
        sessions[slot]!.newProgress.append(task)
    }

    /// The attempt is over; another begins anew.
    mutating func forgetProgress(_ slot: Int, _ task: UInt32) {
        guard sessions[slot]!.tasks.progress.removeValue(forKey: task) != nil else { return }
        sessions[slot]!.newProgress.append(task)
    }
}

extension Session {
    /// Of tasks that clients know no outcome of; nothing for one that is not known any more.
    mutating func takeNewProgress() -> LeaseLine? {
        newProgress.sort()
        var list: [TaskProgress] = []
        for task in newProgress where list.last?.task != task && !tasks.isHeard(task) {
            list.append(TaskProgress(task: task, progress: tasks.progress[task]))
        }
        newProgress.removeAll()
        return list.isEmpty ? nil : .progress(list)
    }
}
