import Link
import TaskModel

/// Tasks that the worker runs itself: built-ins and programs.
extension WorkerCore {
    mutating func jobEnded(_ token: JobToken, _ result: JobResult, into effects: inout ContiguousArray<WorkerEffect>) {
        let attempt = AttemptHandle(packed: token.rawValue)
        guard attempts.contains(attempt), attempts[attempt].state == .running else { return }
        cpus.release(templates[attempts[attempt].template].cpus)
        reservedBytes -= attempts[attempt].reservedBytes
        attempts[attempt].reservedBytes = 0
        switch result {
        case .finished(let outputs, let durationNanoseconds, let debug):
            learnOutputs(of: attempt, outputs)
            let started = attempts[attempt].startedAt
            // What the shell does on the spot it does not measure.
            let duration = durationNanoseconds > 0 ? durationNanoseconds : now.since(started)
            complete(attempt, outputs, started: started, durationNanoseconds: duration, debug: debug, attributes: [], into: &effects)
        case .failed(let error):
            switch attempts[attempt].stop {
            case .no where error.cause == .crash: charge(attempt, error)
            case .no: settle(attempt, .failed(error))
            case .cancelled: settle(attempt, .cancelled)  // It was killed for that, whatever it says of its end.
            case .sessionClosed: settle(attempt, .vanished)
            }
        case .outOfRoom(let error):
            switch attempts[attempt].stop {
            case .no: outOfRoom(attempt, error)
            case .cancelled: settle(attempt, .cancelled)
            case .sessionClosed: settle(attempt, .vanished)
            }
        case .cancelled:
            settle(attempt, .cancelled)
        }
    }
}
