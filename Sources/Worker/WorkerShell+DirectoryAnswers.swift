import CLinux
import Glibc
import TaskModel
import WorkerCore

/// A directory that a subworker gave as an output: out of its reach, and not an object yet.
struct StagedDirectory: Sendable {
    let position: Int
    /// In the store's `staging`.
    let name: String
    let isOnDisk: Bool
    let replica: Replica
    /// What messages call it.
    let title: String
}

/// Directories from subworkers: every file in them is looked at, so not on the loop. The call is answered when that is done, and before the
/// end of its subworker is told.
extension WorkerShell {
    /// Takes a directory (or what stands in its place) away from a subworker at once.
    func stage(_ file: String, in directory: Int32, onDisk: Bool, position: Int, as replica: Replica, title: String) throws(TaskError) -> StagedDirectory {
        let name = store.newName()
        // One that its maker has made unwritable can't be moved.
        _ = fchmodat(directory, file, 0o700, AT_SYMLINK_NOFOLLOW)
        guard renameat(directory, file, store.staging(onDisk: onDisk), name) == 0 else {
            let code = errno
            if code == ENOENT { throw TaskError(.contract, "\(title), but there is no such directory") }
            throw store.taskError(SystemError("move", file, code: code), doing: "\(title), which could not be taken")
        }
        return StagedDirectory(position: position, name: name, isOnDisk: onDisk, replica: replica, title: title)
    }

    /// - Parameter answer: complete but for the directories.
    func acceptLater(_ answer: CallAnswer, _ directories: [StagedDirectory], of subworker: SubworkerProcess) {
        subworker.acceptingCount += 1
        let id = subworker.id
        pool.run { [store, mailbox] in
            mailbox.post(.answered(id, store.accept(directories, for: answer)))
        }
    }

    func directoriesAccepted(_ id: SubworkerID, _ answer: CallAnswer) {
        // What was made besides is given up.
        if case .failed = answer.result { hasNewTrash = true }
        events.append(.callsAnswered(id, [answer]))
        if let subworker = subworkers[id] { subworker.acceptingCount -= 1 }
        guard let ended = endedSubworkers[id] else { return }
        if ended.acceptingCount > 1 {
            endedSubworkers[id]!.acceptingCount -= 1
        } else {
            endedSubworkers[id] = nil
            events.append(.subworkerEnded(id, evidence: ended.evidence, running: ended.running, begun: ended.begun))
        }
    }
}

/// A subworker whose end is told when its last answer is.
struct EndedSubworker {
    var acceptingCount: Int
    let evidence: TaskError
    let running: SlotSet
    let begun: SlotSet
}

extension Store {
    fileprivate func accept(_ directories: [StagedDirectory], for answer: CallAnswer) -> CallAnswer {
        guard case .outputs(var outputs) = answer.result else { return answer }
        var answer = answer
        var failure: TaskError?
        for directory in directories {
            let staging = staging(onDisk: directory.isOnDisk)
            if failure == nil {
                do throws(AcceptanceError) {
                    outputs[directory.position].value = try acceptTree(directory.name, in: staging, as: directory.replica, onDisk: directory.isOnDisk)
                } catch { failure = taskError(error, directory: directory.title, debug: answer.debug) }
            }
            // What was not moved in; nothing, when all went well.
            if failure != nil { _ = discard(directory.name, from: staging) }
        }
        if let failure {
            let first = directories[0].replica
            for (position, output) in outputs.enumerated() {
                guard case .stored = output.value else { continue }
                let index = first.object.index &- UInt32(directories[0].position) &+ UInt32(truncatingIfNeeded: position)
                _ = remove(Replica(object: ObjectID(session: first.object.session, index: index), generation: first.generation))
            }
            answer.result = .failed(failure)
        } else {
            answer.result = .outputs(outputs)
        }
        return answer
    }

    private func taskError(_ error: AcceptanceError, directory title: String, debug: String) -> TaskError {
        var result =
            switch error {
            case .missing: TaskError(.contract, "\(title), but there is no such directory")
            case .notADirectory, .directory, .needsCopy, .notAFile: TaskError(.contract, "\(title), but it is a file where a directory belongs")
            case .stillWritten: TaskError(.contract, "\(title), but still has it open for writing")
            case .tree(let error): TaskError(.contract, "\(title), which can't be an object: \(error.complaint ?? "it was stopped")")
            case .system(let error): taskError(error, doing: "\(title), which could not be taken")
            }
        result.debug = debug
        return result
    }
}
