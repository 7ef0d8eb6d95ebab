import TaskModel

/// The tasks of one session as columns: about 45 bytes a task, and 28 a row.
///
///     waiting ──▶ ready ──▶ assigned(attempt) ──▶ running ──▶ finished | failed | cancelled
///        ▲──────────┴────────────┴───────────────────┤ (worker lost, taken back, retried)
///        └───────────────────────────────────────────┘ (finished, but an output was lost that is needed)
///
/// A row is what the client wrote: one task, or a task array whose tasks share template, inputs and arguments.
struct TaskTable: Sendable {
    // By row.
    var rowTemplate: ContiguousArray<UInt32> = []
    var rowFirstTask: ContiguousArray<UInt32> = []
    var rowFirstOutput: ContiguousArray<UInt32> = []
    var rowInputStart: ContiguousArray<UInt32> = [0]
    var rowArgumentStart: ContiguousArray<UInt64> = [0]
    /// Inputs that don't exist yet; at 0 the row's tasks can run.
    var rowMissing: ContiguousArray<UInt32> = []
    var inputs: ContiguousArray<UInt32> = []
    /// Inputs of all tasks, those of an array counted for each of its tasks. No object is needed more often.
    var inputUseCount: UInt64 = 0
    var arguments: [UInt8] = []
    /// Names that rows gave to their tasks; most have the template's.
    var rowNames: [UInt32: String] = [:]

    // By task.
    var state: ContiguousArray<TaskState> = []
    var row: ContiguousArray<UInt32> = []
    /// Number of the last attempt, 0 before the first.
    var attemptNumber: ContiguousArray<UInt32> = []
    /// Index of the worker that has or had it; `noWorker` before.
    var worker: ContiguousArray<UInt32> = []
    /// What the scheduler was told for the attempt, to be given back.
    var expectedMicroseconds: ContiguousArray<UInt32> = []
    var startedUnixMicroseconds: ContiguousArray<UInt64> = []
    var durationNanoseconds: ContiguousArray<UInt64> = []

    // Few tasks have these.
    var errors: [UInt32: TaskError] = [:]
    var failureCounts: [UInt32: UInt32] = [:]
    /// Workers that were lost while they ran the task.
    var losses: [UInt32: Losses] = [:]
    /// How often an input could not be had.
    var missCounts: [UInt32: UInt32] = [:]
    /// Tasks that had finished and run again, since an output was lost.
    var remaking: Set<UInt32> = []
    /// Tasks that had finished, ran again and then did not: for clients they stay finished, and their lost outputs say what happened.
    var heardFinished: Set<UInt32> = []
    /// Assigned tasks whose inputs don't all exist.
    var ahead: Set<UInt32> = []
    /// Assigned tasks whose worker, of an earlier epoch, has not handed them over yet: the scheduler doesn't count them.
    var awaited: Set<UInt32> = []
    /// Of tasks whose last attempt was given by an earlier epoch.
    var earlierEpochs: [UInt32: ServerEpoch] = [:]
    var cancelRequested: Set<UInt32> = []
    /// Assigned tasks that their worker was asked to give back for another.
    var askedBack: [UInt32: AskedBack] = [:]
    /// How often a worker gave the task back, until it finishes.
    var takenBackCounts: [UInt32: UInt8] = [:]
    /// Of running tasks that say how far they are.
    var progress: [UInt32: Progress] = [:]
    var debug: [UInt32: String] = [:]
    var attributes: [UInt32: [UInt8]] = [:]

    static let noWorker = UInt32.max

    /// Whether clients know an outcome of the task.
    func isHeard(_ task: UInt32) -> Bool { state[Int(task)].hasOutcome || remaking.contains(task) }

    var count: UInt32 { UInt32(state.count) }
    var rowCount: UInt32 { UInt32(rowTemplate.count) }

    /// The task has ended badly.
    ///
    /// - Returns: whether clients hear of it; not of a task that they know as finished.
    mutating func endsHeard(_ task: UInt32) -> Bool {
        guard remaking.remove(task) != nil else { return true }
        heardFinished.insert(task)
        return false
    }

    /// Tasks that the worker has and that have no outcome, by rising number. Of a million others each is passed over at the cost of one comparison.
    @inline(__always)
    func assigned(to index: UInt32) -> ContiguousArray<UInt32> {
        var tasks: ContiguousArray<UInt32> = []
        let (workers, states) = (worker.span, state.span)
        for task in workers.indices where workers[task] == index && (states[task] == .assigned || states[task] == .running) { tasks.append(UInt32(task)) }
        return tasks
    }

    /// Where a run of finished tasks ends that begins with this one. Of a million it is mostly one run.
    @inline(__always)
    func endOfFinished(from task: UInt32) -> UInt32 {
        let states = state.span
        var end = Int(task) + 1
        while end < states.count, states[end] == .finished { end += 1 }
        return UInt32(end)
    }

    func inputRange(ofRow row: UInt32) -> Range<Int> { Int(rowInputStart[Int(row)])..<Int(rowInputStart[Int(row) + 1]) }
    func template(of task: UInt32) -> UInt32 { rowTemplate[Int(row[Int(task)])] }
    func arrayIndex(of task: UInt32) -> UInt32 { task - rowFirstTask[Int(row[Int(task)])] }
    func tasks(ofRow row: UInt32) -> Range<UInt32> {
        let next = Int(row) + 1
        return rowFirstTask[Int(row)]..<(next < rowFirstTask.count ? rowFirstTask[next] : count)
    }
    /// Inlined, or each call would copy the table: it is reached through an optional.
    @inline(__always)
    func arguments(ofRow row: UInt32) -> [UInt8] {
        Array(arguments[Int(rowArgumentStart[Int(row)])..<Int(rowArgumentStart[Int(row) + 1])])
    }

    /// The first of the task's outputs, which follow one another.
    func firstOutput(of task: UInt32, outputCount: Int) -> UInt32 {
        rowFirstOutput[Int(row[Int(task)])] + arrayIndex(of: task) * UInt32(outputCount)
    }

    mutating func appendRow(
        template: UInt32, firstOutput: UInt32, taskCount: UInt32, inputs new: some Collection<UInt32>, arguments bytes: some Collection<UInt8>
    ) {
        let index = rowCount
        rowTemplate.append(template)
        rowFirstTask.append(count)
        rowFirstOutput.append(firstOutput)
        inputs.append(contentsOf: new)
        inputUseCount += UInt64(taskCount) * UInt64(new.count)
        rowInputStart.append(UInt32(inputs.count))
        arguments.append(contentsOf: bytes)
        rowArgumentStart.append(UInt64(arguments.count))
        rowMissing.append(0)
        let added = Int(taskCount)
        state.append(contentsOf: repeatElement(.waiting, count: added))
        row.append(contentsOf: repeatElement(index, count: added))
        attemptNumber.append(contentsOf: repeatElement(0, count: added))
        worker.append(contentsOf: repeatElement(Self.noWorker, count: added))
        expectedMicroseconds.append(contentsOf: repeatElement(0, count: added))
        startedUnixMicroseconds.append(contentsOf: repeatElement(0, count: added))
        durationNanoseconds.append(contentsOf: repeatElement(0, count: added))
    }
}
