import Link
import TaskModel

/// What becomes of files that somebody has written to who was to read them.
///
/// The copy goes, and with it whatever else is a name of the same file; the server has the objects fetched or made again. Of those that have
/// one as an input here, who has not begun is given back; who runs may have read what was written: its end does not count, and the server has
/// its task run again, or fail when it must not begin twice. What has finished meanwhile stays finished: nobody knows when the file was
/// written to.
extension WorkerCore {
    mutating func dropDamaged() {
        if damagedReplicas.isEmpty { return }
        var replicas: [Replica] = []
        swap(&replicas, &damagedReplicas)
        for replica in replicas {
            guard let found = objects.find(replica), objects[found].representation == .stored else { continue }
            // One that nobody wants any more may go with an attempt that is given back.
            for object in objects.namesOfFile(of: found) where objects.rows.contains(object) { dropDamaged(object) }
        }
    }

    private mutating func dropDamaged(_ object: ObjectHandle) {
        let replica = objects[object].replica
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), attempts[attempt].isActive, attempts[attempt].inputs.contains(object),
                templates[attempts[attempt].template].template.rerun == .never
            else { continue }
            // So that the server knows which can't begin again.
            reportStart(attempt)
        }
        tell(.missing(replica))
        // Whoever was sent it may remember it, also in a call that has no answer yet or was taken back, and would go on with what was written.
        var remembering: ContiguousArray<SubworkerHandle> = []
        if objects[object].isConstant {
            for index in subworkers.indices { if let handle = subworkers.handle(at: index), subworkers[handle].hasCaching { remembering.append(handle) } }
        }
        objects.detach(object, rememberedBy: remembering)
        for index in attempts.indices {
            guard let attempt = attempts.handle(at: index), !attempts[attempt].isActive, let replica = detachedInput(of: attempt) else { continue }
            settle(attempt, .failed(SetupErrors.damaged(replica)))
        }
    }

    func detachedInput(of attempt: AttemptHandle) -> Replica? {
        if objects.detachedCount == 0 { return nil }
        return attempts[attempt].inputs.first { objects[$0].isDetached }.map { objects[$0].replica }
    }

    /// Why an attempt that ran does not count, however it ended; `nil` when nobody wrote to its inputs. The server knows from `missing`; one
    /// that was started again since may not.
    func damageError(of attempt: AttemptHandle) -> TaskError? {
        guard let replica = detachedInput(of: attempt) else { return nil }
        let mayRepeat = !attempts[attempt].isActive || templates[attempts[attempt].template].template.rerun != .never
        return mayRepeat ? SetupErrors.damaged(replica) : SetupErrors.damagedUnderWay(replica)
    }
}
