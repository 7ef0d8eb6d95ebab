import ServerCore
import Synchronization

/// The lines of one lease, between the reactor that puts them and the HTTP request that takes them.
///
/// A client that reads slowly costs little: what waits is joined, so that it grows with its content and not with the number of news. Of each
/// task's progress the newest is enough.
final class LeaseMailbox: Sendable {
    enum News: Sendable {
        case lines([LeaseLine])
        /// Time to show life.
        case beat
        case ended
        /// The client is gone.
        case lost
    }

    private struct State {
        var lines: [LeaseLine] = []
        var progress: [TaskProgress] = []
        /// Positions in `progress`, by task.
        var progressOfTask: [UInt32: Int] = [:]
        var isBeatDue = false
        var isEnded = false
        var isLost = false
        var waiter: CheckedContinuation<News, Never>?

        mutating func put(_ task: TaskProgress) {
            if let position = progressOfTask[task.task] {
                progress[position] = task
            } else {
                progressOfTask[task.task] = progress.count
                progress.append(task)
            }
        }

        mutating func next() -> News? {
            if isLost { return .lost }
            if !lines.isEmpty || !progress.isEmpty {
                defer { (lines, progress, progressOfTask) = ([], [], [:]) }
                isBeatDue = false
                // Outcomes later: they end it.
                return .lines(progress.isEmpty ? lines : [.progress(progress)] + lines)
            }
            if isEnded { return .ended }
            if isBeatDue {
                isBeatDue = false
                return .beat
            }
            return nil
        }
    }
    private let state = Mutex(State())

    func put(_ lines: [LeaseLine]) {
        change { state in
            for line in lines {
                if case .finished(let new) = line, case .finished(var old)? = state.lines.last {
                    old.appendJoining(new)
                    state.lines[state.lines.count - 1] = .finished(old)
                } else if case .progress(let list) = line {
                    for task in list { state.put(task) }
                } else {
                    state.lines.append(line)
                }
            }
        }
    }
    func end() { change { $0.isEnded = true } }
    func beat() { change { $0.isBeatDue = true } }
    func lose() { change { $0.isLost = true } }

    private func change(_ body: (inout State) -> Void) {
        let resumed: (CheckedContinuation<News, Never>, News)? = state.withLock { state in
            body(&state)
            guard let waiter = state.waiter, let news = state.next() else { return nil }
            state.waiter = nil
            return (waiter, news)
        }
        if let (waiter, news) = resumed { waiter.resume(returning: news) }
    }

    /// What comes next; one caller at a time.
    func next() async -> News {
        await withCheckedContinuation { continuation in
            let news = state.withLock { state -> News? in
                if let news = state.next() { return news }
                state.waiter = continuation
                return nil
            }
            if let news { continuation.resume(returning: news) }
        }
    }
}

extension [Range<UInt32>] {
    /// Appends ranges; one that continues the last makes it longer.
    mutating func appendJoining(_ ranges: [Range<UInt32>]) {
        for range in ranges {
            if let last, last.upperBound == range.lowerBound {
                self[count - 1] = last.lowerBound..<range.upperBound
            } else {
                append(range)
            }
        }
    }
}
