import Link
import TaskModel

/// Everything a worker decides: what runs when and where, what is kept, what is told to the server.
///
/// Pure: events go in with the time, effects come out in order. See `WorkerEvent` and `WorkerEffect` for the contract with the shell.
package struct WorkerCore: Sendable {
    static let registrationMillisecondsMax: UInt64 = 30_000
    /// Asked to end and still there: it is killed.
    static let farewellMillisecondsMax: UInt64 = 5_000
    /// A warm process that nobody needed for so long ends.
    static let idleMillisecondsMax: UInt64 = 300_000
    /// An attempt under which so many processes died is not tried again, whatever its template allows.
    static let poisonCrashCount = 3

    let description: WorkerDescription
    /// Subworkers of the worker's own configuration.
    let ownCommands: [SubworkerCommand]
    /// The wall clock at zero of the monotonic one, in µs since 1970, for the start times of outcomes; set by the shell.
    package var unixMicrosecondsAtZero: UInt64 = 0
    /// How long outcomes may wait for company while more work is queued; 0 for not at all. Set by the shell.
    package var gatherNanoseconds: UInt64 = 0

    /// How much more memory than after its first call a subworker may have before another takes its place, unless its command says; `nil`: any.
    /// Set by the shell.
    package var memoryGrowthBytesMax: UInt64?

    /// What an outcome may carry in its message; small outputs beyond that become files. Set smaller by tests.
    package var resultBytesMax = ControlLimits.resultBytesMax
    /// Files of one subworker for which room is kept at a time: all outputs of a task, and of some that run beside it. Set smaller by tests.
    package var reservationCountMax = 1 << 17

    /// How much memory files of the store may take before they are spilled to disk; `nil`: there is no disk behind it. Set by the shell.
    package var storeMemoryBytes: UInt64?

    /// Whether programs can be executed from the store's memory. Set by the shell.
    package var runsProgramsInMemory = true

    var link: WorkerLink
    var cpus: CPULedger
    var sessions = Table<HeldSession>()
    var sessionByID: [SessionID: SessionHandle] = [:]
    var templates = Table<HeldTemplate>()
    var attempts = Table<Attempt>()
    var attemptByID: [AttemptID: AttemptHandle] = [:]
    var finishes = Table<Finish>()
    var aliases = Table<Alias>()
    var objects = ObjectTable()
    var lanes = Table<Lane>()
    /// Lanes with ready attempts, in no order that matters.
    var readyLanes: ContiguousArray<LaneHandle> = []
    var pools = Table<SubworkerPool>()
    var poolByCommand: [SubworkerCommand: PoolHandle] = [:]
    var subworkers = Table<SubworkerMachine>()
    var subworkerByID: [SubworkerID: SubworkerHandle] = [:]
    /// The template that was used last: rows of one template come in a row.
    var latestTemplate: (id: TemplateID, handle: TemplateHandle)?

    /// Somebody waits for a message that is gathered.
    var isUrgent = false
    /// When what is gathered must go; `nil` while nothing waits.
    var gatherDeadline: Instant?
    /// When to look for files to spill again, after there were none or the disk was full.
    var nextSpill: Instant?
    /// When to look for files that could make room for a reservation, after there were too few or the disk did not take them.
    var nextRoomSearch: Instant?
    /// Memory that is kept for what running calls and jobs make.
    var reservedBytes: UInt64 = 0
    /// What copies of sessions' programs take of the store's memory.
    var programBytes: UInt64 = 0
    /// Files that wait for room, in the order in which they asked; those that are gone by then are passed over.
    var waitingReservations = Queue<WaitingReservation>()
    /// Calls that wait for others to end, in the order in which they found no room.
    var roomWaits: ContiguousArray<RoomWait> = []
    /// The one of them that has its turn; the next waits until it has ended.
    var roomTaker: AttemptHandle?
    /// When the first of them became the first.
    var roomWaitSince = Instant(nanoseconds: 0)
    var reports = ProgressReports()
    var round: UInt64 = 0
    var nextSequence: UInt64 = 0
    var nextSubworker: UInt32 = 1
    /// Subworkers that have not registered yet.
    var startingCount = 0
    /// Active attempts that would be charged with the last worker that they may end.
    var lastTryCount = 0
    var now = Instant(nanoseconds: 0)
    /// What a new server said while the work for its predecessor was being cleared away; `nil` when nothing is.
    var heldMessages: ContiguousArray<ServerMessage>?

    // Buffers that are reused, empty between events.
    var frames: ContiguousArray<WorkerToServerFrame> = []
    /// Subworkers with calls in their outbox.
    var outboxes: ContiguousArray<SubworkerHandle> = []
    var blockedLanes: ContiguousArray<LaneHandle> = []
    var closedSessions: ContiguousArray<SessionHandle> = []
    var damagedReplicas: [Replica] = []

    /// - Parameters:
    ///   - place: of the parent that starts this worker's processes, 0 without one.
    ///   - predecessor: the process of that place before this one, when it ended before its time.
    ///   - subworkers: what every session may use; their names are told to the server, before those that the description has.
    package init(
        description: WorkerDescription, incarnation: UInt64, place: UInt64 = 0, predecessor: Predecessor? = nil, subworkers: [SubworkerCommand]
    ) {
        var description = description
        description.subworkers = subworkers.map(\.name) + description.subworkers
        self.description = description
        ownCommands = subworkers
        link = WorkerLink(incarnation: incarnation, place: place, description: description, predecessor: predecessor)
        cpus = CPULedger(capacity: description.cpus)
    }

    package mutating func handle(_ event: WorkerEvent, now: Instant, into effects: inout ContiguousArray<WorkerEffect>) {
        self.now = now
        switch event {
        case .connected:
            if let hello = link.connected(now: now) { effects.append(.send(hello)) }
        case .frame(let frame):
            let delivery = link.receive(frame, now: now, into: &frames)
            handle(delivery, frame: frame, into: &effects)
        case .subworkerRegistered(let id, let capabilities):
            subworkerRegistered(id, capabilities)
        case .callsAnswered(let id, let answers):
            callsAnswered(id, answers, into: &effects)
        case .reserve(let id, let slot, let file, let sizeBytes):
            reserve(id, slot: slot, file: file, sizeBytes: sizeBytes, into: &effects)
        case .progress(let id, let news):
            progress(id, news)
        case .memoryMeasured(let id, let bytes):
            memoryMeasured(id, bytes, into: &effects)
        case .recalled(let id, let slots):
            recalled(id, slots, into: &effects)
        case .subworkerEnded(let id, let evidence, let running, let begun):
            subworkerEnded(id, evidence: evidence, running: running, begun: begun, into: &effects)
        case .jobEnded(let token, let result):
            jobEnded(token, result, into: &effects)
        case .fetched(let token, let result):
            fetched(token, result, into: &effects)
        case .aliased(let token, let error):
            aliased(token, error)
        case .written(let token, let result):
            written(token, result)
        case .damaged(let replicas):
            // Told after the end of who did it, so that this is the end that counts.
            damagedReplicas += replicas
            return
        case .foundDamaged(let replicas):
            damagedReplicas += replicas
        case .spilled(let replica, let isDone):
            spilled(replica, isDone: isDone)
        case .trashEmptied:
            trashEmptied()
        case .tick:
            let delivery = link.tick(now: now, into: &frames)
            handle(delivery, frame: nil, into: &effects)
            tick(into: &effects)
        }
        endRound(into: &effects)
    }

    private mutating func handle(_ delivery: WorkerLink.Delivery, frame: ServerToWorkerFrame?, into effects: inout ContiguousArray<WorkerEffect>) {
        switch delivery {
        case .nothing:
            break
        case .messages(let messages):
            for message in messages {
                if heldMessages == nil { handle(message, into: &effects) } else { heldMessages?.append(message) }
            }
        case .fresh(let welcome):
            effects.append(.welcomed(welcome))
            forgetEverything(into: &effects)
        case .restored(let welcome, let messages):
            effects.append(.welcomed(welcome))
            handOver(messages)
        case .resumed:
            if case .welcome(let welcome) = frame { effects.append(.welcomed(welcome)) }
        case .refused(let reason):
            effects.append(.refused(reason: reason))
        case .reconnect:
            effects.append(.reconnect)
        }
    }

    /// After each event: what can start is started, and what was gathered goes out.
    private mutating func endRound(into effects: inout ContiguousArray<WorkerEffect>) {
        dropDamaged()
        closeSessions(into: &effects)
        resumeAfterForgetting(into: &effects)
        grantReservations(into: &effects)
        if !roomWaits.isEmpty { endRoomWaits(into: &effects) }
        dispatch(into: &effects)
        recallBehindSlowCalls(into: &effects)
        stopIdleSubworkers(into: &effects)
        spill(into: &effects)
        sendGathered(into: &effects)
        tellProgress()
        if isTimeToTell() { link.flush(now: now, into: &frames) }
        for frame in frames { effects.append(.send(frame)) }
        frames.removeAll(keepingCapacity: true)
    }

    /// Calls of one subworker travel in one message, and so do removals.
    private mutating func sendGathered(into effects: inout ContiguousArray<WorkerEffect>) {
        sendRemovals(into: &effects)
        for handle in outboxes {
            var calls: ContiguousArray<CallRequest> = []
            swap(&calls, &subworkers[handle].outbox)
            effects.append(.call(subworkers[handle].id, calls))
        }
        outboxes.removeAll(keepingCapacity: true)
    }

    mutating func sendRemovals(into effects: inout ContiguousArray<WorkerEffect>) {
        if !objects.forgotten.isEmpty { sendForgotten(objects.takeForgotten(), into: &effects) }
        if !objects.removals.isEmpty { effects.append(.remove(objects.takeRemovals())) }
    }

    /// One message per subworker; a run of drops mostly concerns the same few.
    private mutating func sendForgotten(
        _ forgotten: ContiguousArray<(subworker: SubworkerHandle, replica: Replica)>, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        for index in subworkers.indices {
            guard let handle = subworkers.handle(at: index), case .open = subworkers[handle].state else { continue }
            let replicas = forgotten.compactMap { $0.subworker == handle ? $0.replica : nil }
            if !replicas.isEmpty { effects.append(.dropCached(subworkers[handle].id, replicas)) }
        }
    }

    mutating func takeSequence() -> UInt64 {
        nextSequence += 1
        return nextSequence
    }
}
