import Link
import TaskModel

/// What the shell does for the core, in order.
package enum ServerEffect: Equatable, Sendable {
    /// Append to the journal as record `number` (counted from 1 over this start). Never dropped; those marked durable
    /// are reported back by `committed`.
    case append(number: UInt64, JournalRecord, isDurable: Bool)
    /// Everything that the answer speaks of is committed.
    case reply(RequestID, ServerReply)
    case leaseLines(SessionID, lease: UInt64, [LeaseLine])
    /// The lease ends: after its last line.
    case endLease(SessionID, lease: UInt64)
    case send(PeerID, ServerToWorkerFrame)
    /// Forget the peer; what it still sends is dropped.
    case closePeer(PeerID)
    /// A session needs the blob from now on. In order with `releaseBlob`, and before the submit that brings it is answered.
    case claimBlob(BlobHash)
    /// No session needs the blob any more.
    case releaseBlob(BlobHash)
    /// For the log.
    case note(Note)
}

package enum Note: Equatable, Sendable, CustomStringConvertible {
    case workerJoined(WorkerID, WorkerDescription)
    /// It is known from before the server was started again, and has handed over what it has.
    case workerReturned(WorkerID, runningTasks: Int, objects: Int)
    case workerLost(WorkerID, reason: String, requeuedTasks: Int)
    case restored(sessions: Int, tasks: UInt64, workers: Int)
    case peerRefused(reason: String)
    /// It connects anew.
    case peerDropped(WorkerID, reason: String)
    case sessionOpened(SessionID, name: String)
    case sessionClosed(SessionID, reason: String)
    case sessionFailed(SessionID, task: TaskID, message: String)
    /// Tasks of the session wait for what only a person can do.
    case hint(SessionID, String)

    package var description: String {
        switch self {
        case .workerJoined(let id, let worker):
            "worker \(id) joined from \(worker.hostName) (pid \(worker.processID)) with \(worker.cpus) cpus, store \(worker.store)"
        case .workerReturned(let id, let tasks, let objects): "worker \(id) is back, with \(tasks) running tasks and \(objects) objects"
        case .restored(let sessions, let tasks, let workers):
            "restored \(sessions) sessions with \(tasks) tasks; \(workers) workers are to come back"
        case .workerLost(let id, let reason, let tasks): "worker \(id) is lost (\(reason)); \(tasks) tasks go back to the queue"
        case .peerRefused(let reason): "a worker was refused: \(reason)"
        case .peerDropped(let id, let reason): "the connection of worker \(id) is dropped: \(reason)"
        case .sessionOpened(let id, let name): "session \(id) opened" + (name.isEmpty ? "" : ": \(name)")
        case .sessionClosed(let id, let reason): "session \(id) closed: \(reason)"
        case .sessionFailed(let id, let task, let message): "session \(id) failed at task \(task): \(message)"
        case .hint(let id, let text): "session \(id): \(text)"
        }
    }
}

package enum ServerReply: Equatable, Sendable {
    case sessionOpened(SessionID, resumeToken: String)
    /// `lease` numbers this holding of the lease; what was finished before comes as the first lines.
    case lease(lease: UInt64)
    case submitted(SubmitReceipt)
    /// Every task that was waited for has its outcome; none failed the session.
    case waited
    case located([ObjectLocation])
    case taskInfos([TaskInfo])
    case objectInfos([ObjectInfo])
    case done
    case sessionStatus(SessionStatus)
    case status(ServerStatus)
    case refused(RequestError)
}

package struct SubmitReceipt: Equatable, Sendable {
    package var firstTemplate: UInt32
    package var firstTask: UInt32
    package var firstObject: UInt32
    package var taskCount: UInt32
    package var objectCount: UInt32
    /// The same submit had been taken before.
    package var isRepeated: Bool
    package init(
        firstTemplate: UInt32, firstTask: UInt32, firstObject: UInt32, taskCount: UInt32, objectCount: UInt32, isRepeated: Bool = false
    ) {
        self.firstTemplate = firstTemplate
        self.firstTask = firstTask
        self.firstObject = firstObject
        self.taskCount = taskCount
        self.objectCount = objectCount
        self.isRepeated = isRepeated
    }
}

package enum LeaseLine: Equatable, Sendable {
    /// Tasks that finished, as ranges of indices.
    case finished([Range<UInt32>])
    case failed(UInt32, TaskFailure)
    case cancelled([Range<UInt32>])
    /// How far running tasks are; each once.
    case progress([TaskProgress])
    /// The first failure of a session that fails as a whole; nothing follows but `closed`.
    case sessionFailed(UInt32, TaskFailure)
    case closed(reason: String)
    /// Tasks wait for what only a person can do; numbered in the session, so that one that is told again is known.
    case hint(UInt32, String)
}

package struct TaskProgress: Equatable, Sendable {
    package var task: UInt32
    /// `nil` when it is unknown again, since the task begins once more.
    package var progress: Progress?
    package init(task: UInt32, progress: Progress?) {
        self.task = task
        self.progress = progress
    }
}

/// A failed task as a client sees it: the error with the task's name and where it was made.
package struct TaskFailure: Equatable, Sendable {
    package var task: UInt32
    package var name: String
    package var type: String
    package var origin: String
    package var error: TaskError
    package init(task: UInt32, name: String, type: String, origin: String, error: TaskError) {
        self.task = task
        self.name = name
        self.type = type
        self.origin = origin
        self.error = error
    }
}

/// Where an object's bytes are; the shell reads or streams them.
package enum ObjectLocation: Equatable, Sendable {
    case inline([UInt8], contentType: String, isDirectory: Bool)
    case blob(BlobHash, sizeBytes: UInt64, contentType: String, isDirectory: Bool)
    case remote(Replica, [Endpoint], sizeBytes: UInt64, contentType: String, isDirectory: Bool)
    /// It was not kept and nobody needs it any more.
    case dropped(UInt32)
    case failed(UInt32, TaskFailure)
    case cancelled(UInt32)
}

package enum TaskState: UInt8, Equatable, CaseIterable, Sendable {
    case waiting = 0, ready, assigned, running, finished, failed, cancelled
    package var name: String {
        switch self {
        case .waiting: "waiting"
        case .ready: "ready"
        case .assigned: "assigned"
        case .running: "running"
        case .finished: "finished"
        case .failed: "failed"
        case .cancelled: "cancelled"
        }
    }
    package var hasOutcome: Bool { rawValue >= TaskState.finished.rawValue }
}

package struct TaskInfo: Equatable, Sendable {
    package var task: UInt32
    package var name: String
    package var type: String
    package var state: TaskState
    package var worker: String
    package var startedUnixMicroseconds: UInt64
    package var durationNanoseconds: UInt64
    package var debug: String
    package var attributes: [UInt8]
    package var failure: TaskFailure?
    /// Of one that runs and says so.
    package var progress: Progress?
    package init(
        task: UInt32, name: String, type: String, state: TaskState, worker: String = "", startedUnixMicroseconds: UInt64 = 0,
        durationNanoseconds: UInt64 = 0, debug: String = "", attributes: [UInt8] = [], failure: TaskFailure? = nil, progress: Progress? = nil
    ) {
        self.task = task
        self.name = name
        self.type = type
        self.state = state
        self.worker = worker
        self.startedUnixMicroseconds = startedUnixMicroseconds
        self.durationNanoseconds = durationNanoseconds
        self.debug = debug
        self.attributes = attributes
        self.failure = failure
        self.progress = progress
    }
}

package enum ObjectState: UInt8, Equatable, Sendable {
    case unfinished = 0, finished, dropped
    package var name: String {
        switch self {
        case .unfinished: "unfinished"
        case .finished: "finished"
        case .dropped: "dropped"
        }
    }
}

package struct ObjectInfo: Equatable, Sendable {
    package var object: UInt32
    package var label: String
    package var state: ObjectState
    package var isKept: Bool
    package var isDirectory: Bool
    package var contentType: String
    package var sizeBytes: UInt64
    package var attributes: [UInt8]
    package init(
        object: UInt32, label: String, state: ObjectState, isKept: Bool, isDirectory: Bool, contentType: String, sizeBytes: UInt64,
        attributes: [UInt8]
    ) {
        self.object = object
        self.label = label
        self.state = state
        self.isKept = isKept
        self.isDirectory = isDirectory
        self.contentType = contentType
        self.sizeBytes = sizeBytes
        self.attributes = attributes
    }
}

package struct SessionStatus: Equatable, Sendable {
    package var session: SessionID
    package var name: String
    package var taskCount: UInt32
    package var objectCount: UInt32
    package var finishedCount: UInt32
    package var failedCount: UInt32
    package var cancelledCount: UInt32
    package var runningCount: UInt32
    package var isFailed: Bool
    package var isClosing: Bool
    package var hasLease: Bool
    /// Needs no lease.
    package var isDetached: Bool
    package var openedUnixSeconds: UInt64
    /// Why tasks wait that nothing but a person can help.
    package var hints: [String]
    package var failure: TaskFailure?
    package init(
        session: SessionID, name: String, taskCount: UInt32, objectCount: UInt32, finishedCount: UInt32, failedCount: UInt32,
        cancelledCount: UInt32, runningCount: UInt32, isFailed: Bool, isClosing: Bool, hasLease: Bool, isDetached: Bool = false, openedUnixSeconds: UInt64 = 0,
        hints: [String] = [], failure: TaskFailure?
    ) {
        self.session = session
        self.name = name
        self.taskCount = taskCount
        self.objectCount = objectCount
        self.finishedCount = finishedCount
        self.failedCount = failedCount
        self.cancelledCount = cancelledCount
        self.runningCount = runningCount
        self.isFailed = isFailed
        self.isClosing = isClosing
        self.hasLease = hasLease
        self.isDetached = isDetached
        self.openedUnixSeconds = openedUnixSeconds
        self.hints = hints
        self.failure = failure
    }
}

package struct WorkerStatus: Equatable, Sendable {
    package var worker: WorkerID
    package var description: WorkerDescription
    package var runningCount: UInt32
    package var queuedCount: UInt32
    package var objectCount: UInt32
    package init(worker: WorkerID, description: WorkerDescription, runningCount: UInt32, queuedCount: UInt32, objectCount: UInt32) {
        self.worker = worker
        self.description = description
        self.runningCount = runningCount
        self.queuedCount = queuedCount
        self.objectCount = objectCount
    }
}

package struct ServerStatus: Equatable, Sendable {
    package var epoch: ServerEpoch
    package var workers: [WorkerStatus]
    package var sessions: [SessionStatus]
    package init(epoch: ServerEpoch, workers: [WorkerStatus], sessions: [SessionStatus]) {
        self.epoch = epoch
        self.workers = workers
        self.sessions = sessions
    }
}

/// A request that was not carried out; nothing of it remains.
package struct RequestError: Error, Equatable, Sendable {
    /// Stable, for programs.
    package enum Code: String, Sendable {
        case unknownSession = "unknown_session"
        case sessionClosed = "session_closed"
        case sessionFailed = "session_failed"
        case badToken = "bad_resume_token"
        case unknownTask = "unknown_task"
        case unknownObject = "unknown_object"
        case unknownTemplate = "unknown_template"
        case badSubmit = "bad_submit"
        case conflict = "submit_conflict"
        case objectDropped = "object_dropped"
        case notKept = "object_not_kept"
        case tooLarge = "too_large"
        case journal = "journal_failed"
        case cancelled = "task_cancelled"
        case taskFailed = "task_failed"
    }
    package var code: Code
    package var message: String
    /// The task that failed the session, when the code is `sessionFailed` or `taskFailed`.
    package var failure: TaskFailure?
    package init(_ code: Code, _ message: String, failure: TaskFailure? = nil) {
        self.code = code
        self.message = message
        self.failure = failure
    }
}

/// What the journal keeps; enough to restore the core. The journal's file has the time beside each group of records.
package enum JournalRecord: Equatable, Sendable {
    case epochBegan(ServerEpoch)
    case sessionOpened(SessionID, SessionOptions)
    case sessionClosed(SessionID, reason: String)
    case submitted(SessionID, Submit, SubmitReceipt)
    case keptChanged(SessionID, ObjectSelection, isKept: Bool)
    case cancelRequested(SessionID, TaskSelection)
    /// `incarnation` and `place` as in its hello: by them a restarted server knows it again.
    case workerJoined(WorkerID, incarnation: UInt64, place: UInt64, WorkerDescription)
    case workerLost(WorkerID, reason: String)
    case finished(AttemptID, WorkerID, FinishedAttempt)
    case failed(AttemptID, WorkerID?, TaskError)
    case cancelled(TaskID)
    /// Finished tasks that run again, and the objects for which they do. Nobody waits for it: a restored server finds out what it lacks.
    case runAgain(SessionID, tasks: [Range<UInt32>], objects: [Range<UInt32>])
    /// The attempt failed, and its template allows another. Nobody waits for it: lost, it is allowed once more.
    case retried(AttemptID, WorkerID)
    /// The attempt ran on a worker that was lost, which ended so. Nobody waits for it: lost, the task may end one worker more.
    case charged(AttemptID, WorkerID, how: String)
    /// An object that existed is lost for good, since this task must not run again.
    case lost(ObjectID, obstacle: UInt32, TaskError)
    /// Telemetry, but for a task that must not run twice: such an assignment leaves when its record is on disk.
    case assigned(AttemptID, WorkerID)
    /// Telemetry.
    case started(AttemptID)
}
