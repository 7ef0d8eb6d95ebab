import Scheduling
import TaskModel

/// A client's session: its graph, who waits for it, and how it ends.
///
///     open ──▶ failed ──▶ closing ──▶ (gone: nothing of it runs on any worker)
///       └──────────────────▲
struct Session: Sendable {
    let id: SessionID
    let options: SessionOptions
    /// The first failure of a session that fails as a whole.
    var failure: TaskFailure?
    /// Why it ends, once it does.
    var closeReason: String?

    var templates: ContiguousArray<TaskTemplate> = []
    /// That its client brought along, in the order of the submits.
    var subworkers: ContiguousArray<DeclaredSubworker> = []
    var durations: ContiguousArray<LearnedDuration> = []
    var tasks = TaskTable()
    var objects = ObjectTable()
    var ready = ReadyQueue()
    /// What the tasks of each template ask of a worker, beside CPUs.
    var needs: ContiguousArray<Need> = []
    struct Need: Sendable {
        var runner: Demand.Runner
        /// Listed in `misfitTemplates`.
        var isMisfit = false
    }
    /// Tasks that some workers can't take, and for which the others had no room; by what they ask for.
    var heldBack: ContiguousArray<(demand: Demand, queue: ReadyQueue)> = []
    /// Tasks that could run, but that no worker can take.
    var misfits = ReadyQueue()
    var misfitTemplates: ContiguousArray<UInt32> = []
    /// Why tasks wait that nothing but a person can help.
    var hints: ContiguousArray<Hint> = []
    var hintCount: UInt32 = 0
    /// Tasks that could run, but for inputs of which only workers have copies that are yet to come back after a restart of the server.
    var outOfReach = ReadyQueue()
    /// Tasks that came back from a worker that was told to cancel them.
    var toCancel: ContiguousArray<UInt32> = []
    /// Tasks that wait a moment before they are tried again, and until when.
    var postponed = Postponed()
    /// Rows below are committed and may run.
    var activeRowCount: UInt32 = 0

    var finishedCount: UInt32 = 0
    var failedCount: UInt32 = 0
    var cancelledCount: UInt32 = 0
    var runningCount: UInt32 = 0

    /// Submits that were taken, for the client that asks again.
    var submits: ContiguousArray<TakenSubmit> = []
    struct TakenSubmit: Sendable {
        var receipt: SubmitReceipt
        var hashLow: UInt64
        var hashHigh: UInt64
    }

    /// What each worker was told, by worker index: nothing, or which templates.
    var told: ContiguousArray<ContiguousArray<Bool>?> = []
    /// Workers that have yet to say that nothing of the session runs there.
    var openWorkers: ContiguousArray<UInt32> = []

    var waits: ContiguousArray<Wait> = []
    var closers: ContiguousArray<RequestID> = []

    var lease: UInt64?
    var leaseCount: UInt64 = 0
    /// When the session closes unless a lease is held again.
    var leaseDeadline: Instant?
    /// The client is answered when this record is on disk.
    var openingRecord: UInt64 = 0
    /// From the answer to `open` to the lease, over a slow network.
    static let firstLeaseMilliseconds: UInt64 = 5000
    var newlyFinished = RangeList()
    var newlyCancelled = RangeList()
    var newLines: [LeaseLine] = []
    /// Tasks of which progress came or went, some more than once.
    var newProgress: ContiguousArray<UInt32> = []

    init(id: SessionID, options: SessionOptions) {
        self.id = id
        self.options = options
    }

    var isOpen: Bool {
        @inline(__always) get {
            if case .none = failure, case .none = closeReason { true } else { false }
        }
    }
    var hasOutcomeCount: UInt32 { finishedCount + failedCount + cancelledCount }

    func demand(ofTemplate template: Int) -> Demand { Demand(cpus: templates[template].resources.cpus, runner: needs[template].runner) }
    func demand(of task: UInt32) -> Demand { demand(ofTemplate: Int(tasks.template(of: task))) }

    /// Whether tasks wait for more than their inputs.
    var hasPlaceable: Bool { !ready.isEmpty || !heldBack.isEmpty }
    func isHeldBack(_ demand: Demand) -> Bool { heldBack.contains { $0.demand == demand } }
    mutating func holdBack(_ task: UInt32, _ demand: Demand) {
        if let position = heldBack.firstIndex(where: { $0.demand == demand }) {
            heldBack[position].queue.append(task..<task + 1)
        } else {
            var queue = ReadyQueue()
            queue.append(task..<task + 1)
            heldBack.append((demand, queue))
        }
    }

    func template(of task: UInt32) -> TaskTemplate { templates[Int(tasks.template(of: task))] }

    func name(of task: UInt32) -> String {
        tasks.rowNames[tasks.row[Int(task)]] ?? template(of: task).title
    }

    func failure(of task: UInt32, _ error: TaskError) -> TaskFailure {
        let template = template(of: task)
        return TaskFailure(task: task, name: name(of: task), type: template.type, origin: template.origin, error: error)
    }

    func outputs(of task: UInt32) -> Range<UInt32> {
        let count = template(of: task).outputs.count
        let first = tasks.firstOutput(of: task, outputCount: count)
        return first..<first + UInt32(count)
    }

    func info(of task: UInt32) -> TaskInfo {
        let index = Int(task)
        return TaskInfo(
            task: task, name: name(of: task), type: template(of: task).type, state: tasks.state[index],
            worker: "", startedUnixMicroseconds: tasks.startedUnixMicroseconds[index],
            durationNanoseconds: tasks.durationNanoseconds[index], debug: tasks.debug[task] ?? tasks.errors[task]?.debug ?? "",
            attributes: tasks.attributes[task] ?? [], failure: tasks.errors[task].map { failure(of: task, $0) },
            progress: tasks.progress[task])
    }

    func info(ofObject object: UInt32) -> ObjectInfo {
        let index = Int(object)
        let state: ObjectState =
            switch objects.state[index] {
            case .unfinished, .lost: .unfinished
            case .finished: .finished
            case .dropped: .dropped
            }
        return ObjectInfo(
            object: object, label: label(of: object), state: state, isKept: objects.isKept[index], isDirectory: isDirectory(object),
            contentType: contentType(of: object), sizeBytes: objects.sizeBytes[index], attributes: objects.attributes[object] ?? [])
    }

    private func outputSpec(of object: UInt32) -> OutputSpec? {
        let producer = objects.producer[Int(object)]
        guard producer != ObjectTable.uploaded else { return nil }
        let template = template(of: producer)
        return template.outputs[Int(object - tasks.firstOutput(of: producer, outputCount: template.outputs.count))]
    }

    func label(of object: UInt32) -> String { outputSpec(of: object)?.label ?? objects.given[object]?.label ?? "" }

    mutating func isWaitOver(at position: Int, away: ContiguousArray<Bool>) -> Bool {
        waits[position].isOver(tasks: tasks, objects: objects, away: away)
    }

    @inline(__always)
    func contentType(of object: UInt32) -> String {
        if let own = objects.contentTypes[object] { return own }
        if objects.producer[Int(object)] == ObjectTable.uploaded { return objects.given[object]?.contentType ?? "" }
        return outputSpec(of: object)?.contentType ?? ""
    }

    @inline(__always)
    func isDirectory(_ object: UInt32) -> Bool {
        if objects.producer[Int(object)] == ObjectTable.uploaded { return objects.given[object]?.isDirectory ?? false }
        return outputSpec(of: object)?.isDirectory ?? false
    }

    var status: SessionStatus {
        SessionStatus(
            session: id, name: options.name, taskCount: tasks.count, objectCount: objects.count, finishedCount: finishedCount,
            failedCount: failedCount, cancelledCount: cancelledCount, runningCount: runningCount, isFailed: failure != nil,
            isClosing: closeReason != nil, hasLease: lease != nil, isDetached: options.isDetached, openedUnixSeconds: options.openedUnixSeconds,
            failure: failure)
    }

    /// What its lease has not been told; `nil` when that is nothing. In place: a copy of a session costs 3,000 instructions.
    mutating func takeNews() -> (session: SessionID, lease: UInt64?, lines: [LeaseLine])? {
        if newlyFinished.isEmpty, newlyCancelled.isEmpty, newLines.isEmpty, newProgress.isEmpty { return nil }
        var lines: [LeaseLine] = []
        if !newlyFinished.isEmpty { lines.append(.finished(newlyFinished.take())) }
        if !newlyCancelled.isEmpty { lines.append(.cancelled(newlyCancelled.take())) }
        lines += newLines
        newLines = []
        if !newProgress.isEmpty, let line = takeNewProgress() { lines.append(line) }
        return lines.isEmpty ? nil : (id, lease, lines)
    }

    /// Every outcome so far, and how far running tasks are, as the first lines of a new lease.
    func outcomeLines() -> [LeaseLine] {
        if let failure { return [.sessionFailed(failure.task, failure)] }
        var finished = RangeList()
        var cancelled = RangeList()
        var lines: [LeaseLine] = []
        var running: [TaskProgress] = []
        var next: UInt32 = 0
        while next < tasks.count {
            let task = next
            next += 1
            switch tasks.state[Int(task)] {
            case .finished:
                next = tasks.endOfFinished(from: task)
                finished.append(task..<next)
            case _ where tasks.remaking.contains(task) || tasks.heardFinished.contains(task): finished.append(task)
            case .cancelled: cancelled.append(task)
            case .failed:
                if let error = tasks.errors[task] { lines.append(.failed(task, failure(of: task, error))) }
            case .running: if let progress = tasks.progress[task] { running.append(TaskProgress(task: task, progress: progress)) }
            case .waiting, .ready, .assigned: break
            }
        }
        if !finished.isEmpty { lines.append(.finished(finished.take())) }
        if !cancelled.isEmpty { lines.append(.cancelled(cancelled.take())) }
        if !running.isEmpty { lines.append(.progress(running)) }
        return lines
    }
}
