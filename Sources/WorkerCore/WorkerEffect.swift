import Link
import TaskModel

/// What the shell does for the core, in order. Those that can fail carry a token and are answered by exactly one event.
package enum WorkerEffect: Equatable, Sendable {
    case send(WorkerToServerFrame)
    /// Drop the control connection and make a new one; then `connected`.
    case reconnect
    /// The server took the worker in, for the first time or again: its data plane checks signatures with this secret from now on.
    case welcomed(Welcome)
    /// The server will not have this worker, for good: say why and end the process.
    case refused(reason: String)

    /// The shell keeps templates for its jobs and calls until `forgetSession`.
    case defineTemplate(TemplateID, TaskTemplate)
    case forgetSession(SessionID)

    /// - `program`: of a command with a source; it stays here while the session does.
    case startSubworker(SubworkerID, SubworkerCommand, program: CarriedProgram? = nil)
    /// All in one message.
    case call(SubworkerID, ContiguousArray<CallRequest>)
    /// Take back what has not begun; answered by `recalled`.
    case recall(SubworkerID, slots: SlotSet)
    /// Ask a call that runs to stop; its answer comes as always.
    case cancelCall(SubworkerID, slot: UInt8)
    case dropCached(SubworkerID, [Replica])
    /// `isKilled`: at once, with its whole process group; else it is asked to end. Then `subworkerEnded`.
    case stopSubworker(SubworkerID, isKilled: Bool)
    case measureMemory(SubworkerID)
    /// The answer to `reserve`.
    /// - `heldBytes`: what was granted for the same file before, in memory.
    case grant(SubworkerID, file: UInt32, sizeBytes: UInt64, heldBytes: UInt64, Grant)

    /// A task of type `builtin/…`, programs among them.
    case runJob(JobToken, JobRequest)
    /// Kill its process group, or wake it; then `jobEnded`.
    case stopJob(JobToken)

    case fetch(FetchToken, InputAssignment)
    /// A second name for the same data.
    case alias(AliasToken, from: Replica, to: Replica)
    /// Make files of these bytes, all or none.
    case write(WriteToken, [FileToWrite])
    /// Move this file from memory to disk; who has it open or mapped keeps it. Answered by `spilled`.
    case spill(Replica)
    /// Remove these files; an open descriptor or map stays valid.
    case remove([Replica])
    /// Have what was removed by now give its room back. Answered by `trashEmptied`.
    case emptyTrash
    case note(String)
}

/// A small output that becomes a file all the same.
package struct FileToWrite: Equatable, Sendable {
    package var replica: Replica
    package var bytes: [UInt8]
    package init(replica: Replica, bytes: [UInt8]) {
        self.replica = replica
        self.bytes = bytes
    }
}

package enum Grant: Equatable, Sendable {
    case memory
    /// Memory has no room for it, and can't be made to.
    case disk
    case refused(reason: String)
}

package struct CallRequest: Equatable, Sendable {
    package var slot: UInt8
    package var job: JobRequest
    package init(slot: UInt8, job: JobRequest) {
        self.slot = slot
        self.job = job
    }
}

package struct JobRequest: Equatable, Sendable {
    package var attempt: AttemptID
    package var template: TemplateID
    package var name: String
    package var arguments: [UInt8]
    package var inputs: [LocalInput]
    package var firstOutput: UInt32
    package var arrayIndex: UInt32
    /// What it makes lies on disk: memory has no room for it.
    package var isOnDisk: Bool
    package init(
        attempt: AttemptID, template: TemplateID, name: String = "", arguments: [UInt8] = [], inputs: [LocalInput] = [],
        firstOutput: UInt32, arrayIndex: UInt32 = 0, isOnDisk: Bool = false
    ) {
        self.attempt = attempt
        self.template = template
        self.name = name
        self.arguments = arguments
        self.inputs = inputs
        self.firstOutput = firstOutput
        self.arrayIndex = arrayIndex
        self.isOnDisk = isOnDisk
    }
}

/// A program that a session brought along, to be copied where it can be executed.
package struct CarriedProgram: Equatable, Sendable {
    package var object: LocalInput
    /// Memory has no room for the copy, or runs no programs.
    package var isOnDisk: Bool
    package init(_ object: LocalInput, isOnDisk: Bool = false) {
        self.object = object
        self.isOnDisk = isOnDisk
    }
}

/// An input that is on this machine.
package struct LocalInput: Equatable, Sendable {
    package var replica: Replica
    package var sizeBytes: UInt64
    package var contentType: String
    package var isDirectory: Bool
    /// JSON text of the user's attributes.
    package var attributes: [UInt8]
    package var value: Value
    /// Ask the subworker to remember it.
    package var isKept: Bool
    package enum Value: Equatable, Sendable {
        case inline([UInt8])
        /// A file or directory of the store, under the replica's name.
        case stored
        /// The subworker of the call remembers it.
        case cached
    }
    package init(
        replica: Replica, sizeBytes: UInt64, contentType: String = "", isDirectory: Bool = false, attributes: [UInt8] = [], value: Value,
        isKept: Bool = false
    ) {
        self.replica = replica
        self.sizeBytes = sizeBytes
        self.contentType = contentType
        self.isDirectory = isDirectory
        self.attributes = attributes
        self.value = value
        self.isKept = isKept
    }
}
