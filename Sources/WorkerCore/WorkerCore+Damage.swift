import Link
import TaskModel

/// What becomes of files that somebody has written to who was to read them.
///
/// The copy goes, and the server has the object fetched or made again. Of those that have it as an input here, who has not begun is given
/// back; who runs may have read what was written, and the server has its task run again, or fail when it must not begin twice. What has finished meanwhile stays finished: nobody knows when the file was written to.
extension WorkerCore {
    mutating func dropDamaged() {
        if damagedReplicas.isEmpty { return }
        var replicas: [Replica] = []
        swap(&replicas, &damagedReplicas)
        for replica in replicas {
            guard let object = objects.find(replica), objects[object].representation == .stored else { continue }
            for index in attempts.indices {
                guard let attempt = attempts.handle(at: index), attempts[attempt].isActive, attempts[attempt].inputs.contains(object),
                    templates[attempts[attempt].template].template.rerun == .never
                else { continue }
                // So that the server knows which can't begin again.
                reportStart(attempt)
            }
            tell(.missing(replica))
            objects.detach(object)
            for index in attempts.indices {
                guard let attempt = attempts.handle(at: index), !attempts[attempt].isActive, detachedInput(of: attempt) != nil else { continue }
                settle(attempt, .failed(SetupErrors.damaged(replica)))
            }
        }
    }

    func detachedInput(of attempt: AttemptHandle) -> Replica? {
        if objects.detachedCount == 0 { return nil }
        return attempts[attempt].inputs.first { objects[$0].isDetached }.map { objects[$0].replica }
    }
}
