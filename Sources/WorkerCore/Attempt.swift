import TaskModel

/// One attempt, from its assignment to its outcome.
///
///     waiting ──▶ ready ──▶ running (a job) ────┬──▶ finishing ──▶ (outcome, gone)
///                 ▲ ▲ │                         │     its outputs get their second names
///                 │ │ └───▶ calling (a slot) ───┘
///                 │ └──────────┤ taken back, or its subworker died
///                 └ awaitingRoom ◀ it found none
struct Attempt: TableRow {
    enum State: Equatable, Sendable {
        /// For so many inputs.
        case waiting(missing: UInt32)
        /// In its lane; the lowest sequence starts first.
        case ready(sequence: UInt64)
        case running
        case calling(SubworkerHandle, slot: UInt8)
        /// The call found no room for what it writes without asking: it begins once more when there may be some.
        case awaitingRoom
        case finishing(Table<Finish>.Handle)
    }
    enum Event: Equatable, Sendable {
        case inputArrived
        case queued(sequence: UInt64)
        case jobStarted(now: Instant)
        case called(SubworkerHandle, slot: UInt8, now: Instant)
        case foundNoRoom
        case renaming(Table<Finish>.Handle)
    }
    /// Why it shall end before its time.
    enum Stop: Sendable { case no, cancelled, sessionClosed }

    let id: AttemptID
    let session: SessionHandle
    let template: TemplateHandle
    private(set) var arguments: [UInt8]
    private(set) var name: String
    let firstOutput: UInt32
    let arrayIndex: UInt32
    /// The template's constants, then the row's own.
    var inputs: ContiguousArray<ObjectHandle> = []

    private(set) var state: State = .waiting(missing: 0)
    private(set) var startedAt = Instant(nanoseconds: 0)
    var stop: Stop = .no
    /// The server asked for it while its call was in flight; answered when the subworker has said whether the call had begun.
    var isRevoking = false
    /// A process has worked on it, which is gone: it may have changed the world, so it stays here.
    var hasBegun = false
    var isStartReported = false
    /// Workers that were lost while they ran the task.
    let lossCount: UInt16
    /// One more, and the task fails: where others are in the same place, one of them runs at a time.
    var isLastTry: Bool { lossCount >= 2 }
    /// How each process ended that died of it.
    var crashes: ContiguousArray<TaskError> = []
    /// As a job it found no room in memory: it works on disk now.
    var isOnDisk = false
    /// As a call it found no room, and began once more.
    private(set) var hasFoundNoRoom = false
    /// Memory that is kept for what it makes while it runs as a job.
    var reservedBytes: UInt64 = 0

    init(_ assignment: Assignment, session: SessionHandle, template: TemplateHandle) {
        id = assignment.attempt
        self.session = session
        self.template = template
        arguments = assignment.arguments
        name = assignment.name
        firstOutput = assignment.firstOutput
        arrayIndex = assignment.arrayIndex
        lossCount = assignment.lossCount
    }

    mutating func vacate() {
        arguments = []
        name = ""
        inputs = []
        crashes = []
    }

    /// Whether a process works on it, or the store on its outputs.
    var isActive: Bool {
        switch state {
        case .waiting, .ready, .awaitingRoom: false
        case .running, .calling, .finishing: true
        }
    }

    func output(_ position: Int) -> Replica {
        Replica(
            object: ObjectID(session: id.task.session, index: firstOutput &+ UInt32(truncatingIfNeeded: position)), generation: id.generation)
    }

    /// One more input is awaited.
    mutating func awaitInput() {
        guard case .waiting(let missing) = state else { preconditionFailure("\(id) awaits an input after it was ready") }
        state = .waiting(missing: missing + 1)
    }

    mutating func handle(_ event: Event) {
        switch (state, event) {
        case (.waiting(let missing), .inputArrived) where missing > 0:
            state = .waiting(missing: missing - 1)
        case (.waiting(missing: 0), .queued(let sequence)), (.running, .queued(let sequence)), (.calling, .queued(let sequence)),
            (.awaitingRoom, .queued(let sequence)):
            state = .ready(sequence: sequence)
        case (.ready, .jobStarted(let now)):
            state = .running
            startedAt = now
        case (.ready, .called(let subworker, let slot, let now)):
            state = .calling(subworker, slot: slot)
            startedAt = now
        case (.calling, .foundNoRoom):
            state = .awaitingRoom
            hasFoundNoRoom = true
        case (.running, .renaming(let finish)), (.calling, .renaming(let finish)):
            state = .finishing(finish)
        case (_, .inputArrived), (_, .queued), (_, .jobStarted), (_, .called), (_, .foundNoRoom), (_, .renaming):
            preconditionFailure("\(id): \(event) while \(state)")
        }
    }
}

/// A finished attempt whose outputs still get their second names, or their files.
struct Finish: TableRow {
    let attempt: AttemptHandle
    private(set) var message: FinishedAttempt
    /// What each output becomes.
    private(set) var outputs: ContiguousArray<NewObject>
    /// Outputs that are files of their own.
    private(set) var made: [Replica]
    /// Positions of outputs that become files.
    private(set) var writing: [Int]
    /// Outputs that have their second name, or their file, by now.
    var named: [Replica] = []
    var missing: UInt32
    var failure: TaskError?

    init(
        attempt: AttemptHandle, message: FinishedAttempt, outputs: ContiguousArray<NewObject>, made: [Replica], writing: [Int], missing: UInt32
    ) {
        self.attempt = attempt
        self.message = message
        self.outputs = outputs
        self.made = made
        self.writing = writing
        self.missing = missing
    }

    /// The files that it was to get are there, or never will be.
    ///
    /// - Parameter isOnDisk: of each file.
    /// - Returns: positions of the outputs that they are of; none when that was known already.
    mutating func endWriting(isOnDisk: [Bool]) -> [Int] {
        if writing.isEmpty { return [] }
        for (position, isOnDisk) in zip(writing, isOnDisk) { outputs[position].isOnDisk = isOnDisk }
        missing -= 1
        defer { writing = [] }
        return writing
    }

    mutating func vacate() {
        message = FinishedAttempt()
        outputs = []
        made = []
        writing = []
        named = []
        failure = nil
    }
}

/// A second name that the store is making.
struct Alias: TableRow {
    let finish: Table<Finish>.Handle
    let output: Replica

    mutating func vacate() {}  // Nothing in it takes memory.
}
