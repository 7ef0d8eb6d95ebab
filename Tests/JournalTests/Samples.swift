import Glibc
import Link
import ServerCore
import TaskModel

@testable import Journal

/// One record of every kind, every field set to something that isn't its default.
func sampleRecords() -> [JournalRecord] {
    let session = SessionID(7)
    let attempt = AttemptID(task: TaskID(session: session, index: 70_000), epoch: ServerEpoch(3), number: 2)
    var error = TaskError(.crash, "it died: \"ü\"", detail: "tail\nof log", debug: "line", exitCode: -3, signal: 11)
    error.host = "n1"
    let finished = FinishedAttempt(
        outputs: [
            FinishedOutput(sizeBytes: .max, contentType: "text", isDirectory: false, inline: [1, 2, 255], attributes: Array("{}".utf8)),
            FinishedOutput(sizeBytes: 9, isDirectory: true),
        ], startedUnixMicroseconds: 1_700_000_000_000_000, durationNanoseconds: 12_345, debug: "d", attributes: Array("{\"a\":1}".utf8))
    let worker = WorkerDescription(
        hostName: "node", processID: 77, cpus: 4, dataEndpoint: Endpoint(host: "10.0.0.1", port: 65_535), store: "tmpfs /dev/shm", subworkers: ["py", "ffi"])
    return [
        .epochBegan(ServerEpoch(1)),
        .sessionOpened(
            session,
            SessionOptions(
                name: "näme", onError: .failDescendants, graceMilliseconds: .max, isDetached: true,
                subworkers: [SubworkerCommand(name: "py", arguments: ["python3", "-m", "x"], environment: ["A=b", "C="])], resumeToken: "secret",
                openedUnixSeconds: 1_700_000_000)),
        .workerJoined(WorkerID(4), incarnation: .max - 1, place: 77, worker),
        .submitted(session, sampleSubmit(), SubmitReceipt(firstTemplate: 1, firstTask: 2, firstObject: 3, taskCount: 4, objectCount: 5, isRepeated: true)),
        .assigned(attempt, WorkerID(4)),
        .started(attempt), .runAgain(session, tasks: [0..<3, 7..<8], objects: [4..<6]), .retried(attempt, WorkerID(4)),
        .charged(attempt, WorkerID(4), how: " (signal 9)"),
        .lost(ObjectID(session: session, index: 9), obstacle: 4, TaskError(.workerLost, "gone")),
        .finished(attempt, WorkerID(4), finished),
        .failed(attempt, nil, error),
        .failed(attempt, WorkerID(4), TaskError(.user, "no")),
        .cancelled(TaskID(session: session, index: .max)),
        .keptChanged(session, ObjectSelection(ranges: [0..<5, 9..<9, 4_294_967_294..<4_294_967_295]), isKept: false),
        .cancelRequested(session, .all),
        .cancelRequested(session, .ranges([1..<3])),
        .workerLost(WorkerID(4), reason: "silence"),
        .sessionClosed(session, reason: "by its client"),
        .workerLost(WorkerID(99), reason: "one that never joined"),
        .sessionClosed(SessionID(98), reason: "one that never opened"),
    ]
}

let sampleReceipt = SubmitReceipt(firstTemplate: 1, firstTask: 2, firstObject: 3, taskCount: 4, objectCount: 5)

func sampleSubmit() -> Submit {
    var submit = Submit()
    (submit.firstTemplate, submit.firstTask) = (0, 5)
    (submit.hashLow, submit.hashHigh) = (.max, 1)
    var template = TaskTemplate(type: "py/call")
    template.name = "n"
    template.config = Array("{\"c\":[1]}".utf8)
    template.inputLabels = ["a", ""]
    template.constants = [3, .max]
    template.outputs = [OutputSpec(label: "o", contentType: "json", isDirectory: true, isKept: true)]
    template.resources = Resources(cpus: 0)
    template.rerun = .never
    template.retryCountMax = 3
    template.threads = 4
    template.origin = "f.py:1\ng.py:2"
    template.attributes = Array("{}".utf8)
    submit.templates = [template, TaskTemplate(type: "builtin/sleep")]
    submit.subworkers = [
        DeclaredSubworker(name: "words", program: SubworkerProgram(object: 2, path: "bin/words", arguments: ["-v", ""], environment: ["A=b"])),
        DeclaredSubworker(name: "w", program: SubworkerProgram(object: .max)),
    ]
    submit.uploads = [
        .init(offset: 0, label: "l", contentType: "text", isDirectory: true, isKept: true, attributes: [123, 125], value: .inline([0, 1])),
        .init(offset: 1, value: .blob(BlobHash(bytes: Array(0..<32))!, sizeBytes: 1 << 40)),
    ]
    submit.rows.template = [0, 1]
    submit.rows.count = [1, 1000]
    submit.rows.firstOutputOffset = [2, 3]
    submit.rows.inputEnd = [2, 2]
    submit.rows.inputs = [0, 1]
    submit.rows.argumentsEnd = [4, 9]
    submit.rows.arguments = Array("null[1,2]".utf8)
    submit.rows.options = [(row: 1, options: .init(name: "r", keep: [0, 65_535]))]
    return submit
}

/// A directory that goes with this value.
final class TemporaryDirectory {
    let path: String
    init() {
        var template = Array("/tmp/rain-journal-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? ""
        precondition(!path.isEmpty, "no temporary directory")
    }
    deinit {
        guard let stream = opendir(path) else { return }
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != "." && name != ".." { unlink(path + "/" + name) }
        }
        closedir(stream)
        rmdir(path)
    }
}

/// Collects what the journal says, and lets a test wait for it.
final class EventLog: @unchecked Sendable {
    private var events: [Journal.Event] = []
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }
    func add(_ event: Journal.Event) {
        pthread_mutex_lock(mutex)
        events.append(event)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }
    /// - Returns: whether an event fits within ten seconds.
    func wait(_ fits: (Journal.Event) -> Bool) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_REALTIME, &deadline)
        deadline.tv_sec += 10
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while !events.contains(where: fits) {
            if pthread_cond_timedwait(condition, mutex, &deadline) != 0 { return false }
        }
        return true
    }
    func waitForCommit(_ number: UInt64) -> Bool {
        wait { if case .committed(let through) = $0 { through >= number } else { false } }
    }
}
