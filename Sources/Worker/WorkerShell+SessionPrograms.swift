import TaskModel
import WorkerCore

/// Where a session's program can be started from.
enum ProgramPlace {
    /// It is being copied; these wait for it.
    case coming(ContiguousArray<(id: SubworkerID, command: SubworkerCommand)>)
    case here(path: String)
}

extension WorkerShell {
    func startSubworker(_ id: SubworkerID, _ command: SubworkerCommand, program: CarriedProgram?) {
        guard let source = command.source, let program else { return startSubworker(id, command, path: nil) }
        let key = SessionProgram(source: source, name: command.name)
        switch sessionPrograms[key] {
        case .here(let path): startSubworker(id, command, path: path)
        case .coming(let waiting): sessionPrograms[key] = .coming(waiting + [(id, command)])
        case nil:
            sessionPrograms[key] = .coming([(id, command)])
            // Not for the loop: a program may be large.
            pool.run { [store, mailbox] in
                do throws(SystemError) {
                    mailbox.post(.programPlaced(key, .success(try store.placeProgram(key, program))))
                } catch {
                    mailbox.post(.programPlaced(key, .failure(store.taskError(error, doing: "subworker '\(key.name)' could not be started"))))
                }
            }
        }
    }

    func programPlaced(_ key: SessionProgram, _ result: Result<String, TaskError>) {
        guard case .coming(let waiting)? = sessionPrograms.removeValue(forKey: key) else {
            // Its session has gone before it was copied: nothing else would take the copy away.
            if store.forget(key.source.object.session) { hasNewTrash = true }
            return
        }
        switch result {
        case .success(let path):
            sessionPrograms[key] = .here(path: path)
            for (id, command) in waiting { startSubworker(id, command, path: path) }
        case .failure(let error):
            for (id, _) in waiting { events.append(.subworkerEnded(id, evidence: error, running: SlotSet())) }
        }
    }

    /// - Returns: whether the subworker had yet to be started; it never will be.
    func stopBeforeStart(_ id: SubworkerID) -> Bool {
        for (key, place) in sessionPrograms {
            guard case .coming(let waiting) = place, waiting.contains(where: { $0.id == id }) else { continue }
            sessionPrograms[key] = .coming(waiting.filter { $0.id != id })
            let evidence = TaskError(.setup, "subworker '\(key.name)' was stopped before it was started")
            events.append(.subworkerEnded(id, evidence: evidence, running: SlotSet()))
            return true
        }
        return false
    }

    /// Its directory is gone with the session's objects.
    func forgetPrograms(of session: SessionID) { sessionPrograms = sessionPrograms.filter { $0.key.source.object.session != session } }
}
