import Link
import TaskModel

/// What a server that was started again is told.
///
/// Its journal has what was committed; the rest is here: outcomes that nobody acknowledged, attempts that run, objects. What has not begun is
/// forgotten: the server places it anew, and no message has to say what it waits for.
extension WorkerCore {
    /// So that one message stays small.
    private static let replicaCountMax = 2000

    /// - Parameter messages: what the server before had not acknowledged.
    mutating func handOver(_ messages: ContiguousArray<WorkerMessage>) {
        // Nothing of what waits for the end of earlier work has begun.
        if heldMessages != nil { heldMessages = [] }
        forgetQueued()
        for message in messages {
            switch message {
            case .finished, .failed: tell(message)
            // The rest follows from what is told now, or from what is not.
            case .started, .cancelled, .revoked, .replicated, .sessionClosed, .missing, .knows, .runs, .holds, .handedOver, .progress: break
            }
        }
        for index in sessions.indices {
            guard let session = sessions.handle(at: index), sessions[session].closing == .no else { continue }
            tell(.knows(sessions[session].id))
        }
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), sessions[attempts[attempt].session].closing == .no else { continue }
            tell(.runs(attempts[attempt].id))
            attempts[attempt].isStartReported = true
        }
        tellObjects()
        tell(.handedOver)
        repeatProgress()
    }

    private mutating func forgetQueued() {
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), !attempts[attempt].isActive, !attempts[attempt].hasBegun,
                sessions[attempts[attempt].session].closing == .no
            else { continue }
            settle(attempt, .vanished)
        }
        for index in objects.rows.indices {
            // On its way for nobody now.
            guard let object = objects.rows.handle(at: index), objects[object].representation == .fetching else { continue }
            objects.drop(object)
        }
    }

    private mutating func tellObjects() {
        var replicas: [Replica] = []
        for index in objects.rows.indices {
            guard let object = objects.rows.handle(at: index), objects[object].isLocal, !objects[object].isDropped else { continue }
            replicas.append(objects[object].replica)
            guard replicas.count == Self.replicaCountMax else { continue }
            tell(.holds(replicas))
            replicas = []
        }
        if !replicas.isEmpty { tell(.holds(replicas)) }
    }
}
