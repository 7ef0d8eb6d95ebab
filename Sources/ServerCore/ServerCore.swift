import Link
import Scheduling
import TaskModel

/// The server's whole state: sessions with their graphs, workers, and what waits for the journal.
///
/// Pure: an event goes in, effects come out in order. The shell that owns it does the I/O and decides nothing. One value on
/// one thread; its parts are in `ServerCore+….swift`, one file for each kind of event.
package struct ServerCore: Sendable {
    package let epoch: ServerEpoch
    let dataSecret: [UInt8]
    /// Where workers fetch uploads; an empty host is the address at which they reached the server.
    package var depotEndpoint: Endpoint

    var gate = CommitGate()
    /// Why nothing can be committed any more.
    var journalFailure: String?

    var sessions: ContiguousArray<Session?> = []
    var freeSlots: ContiguousArray<Int> = []
    var slotOfSession: [SessionID: Int] = [:]
    var nextSession: UInt32
    // What the end of an event looks at, so that its cost does not grow with the sessions and workers that have nothing to do with it.
    /// Sessions with ready tasks, by slot. They take turns, so that one session's long queue doesn't hide the others.
    var placeable = SlotList()
    /// Sessions in which something happened.
    var touched = SlotList()
    /// Workers that may have to be sent something.
    var addressed = SlotList()
    /// Workers with tasks that may go ahead.
    var leading = SlotList()

    /// By worker index, `nil` for one that is lost. Never shortened: an index belongs to one worker for ever, as tasks and objects go on naming it.
    var workers: ContiguousArray<WorkerEntry?> = []
    /// Indices of those that are not lost, rising: nothing that is done for all workers looks at the others.
    var presentWorkers: ContiguousArray<Int> = []
    /// By worker index, of all that there ever were.
    var workerIDs: ContiguousArray<WorkerID> = []
    var nextWorker: UInt32
    /// By worker index, whether it is of an earlier epoch and has not handed over yet; empty when there is no such worker.
    var away: ContiguousArray<Bool> = []
    /// Until then nothing is given away while a worker is away: it may run what the journal does not know of.
    var gatheredAt = Instant(nanoseconds: 0)
    /// Workers that wait at their barrier.
    var barred = SlotList()
    /// What is going on is the past: nobody is told, and nothing is queued.
    var isRestoring = false
    /// By the ids of the journal; while restoring.
    var restoredWorkers: [WorkerID: Int] = [:]
    var workerOfPeer: [PeerID: Int] = [:]
    var workerOfIncarnation: [UInt64: Int] = [:]
    /// By the number that a worker's parent drew; its processes follow one another.
    var workerOfPlace: [UInt64: Int] = [:]
    var scheduler = Scheduler()
    /// Attempts that were given a worker, and that no message can tell it of.
    var unsendable: ContiguousArray<(attempt: AttemptID, worker: Int, bytes: Int)> = []
    /// By worker index, how many bytes of one task's inputs it has; zero but while a worker is chosen for that task.
    var localBytes: ContiguousArray<UInt64> = []

    var blobUses: [BlobHash: UInt32] = [:]
    var sessionOfRequest: [RequestID: SessionID] = [:]
    var lastTick: Instant?
    /// When the event that is handled came.
    var now = Instant(nanoseconds: 0)

    /// - Parameters:
    ///   - epoch: of this start; its record is already on disk.
    ///   - firstSession, firstWorker: numbers that no earlier start has given.
    ///   - dataSecret: 32 random bytes that sign requests of the data plane.
    package init(epoch: ServerEpoch, firstSession: UInt32 = 1, firstWorker: UInt32 = 1, dataSecret: [UInt8], depotEndpoint: Endpoint) {
        self.epoch = epoch
        self.dataSecret = dataSecret
        self.depotEndpoint = depotEndpoint
        nextSession = firstSession
        nextWorker = firstWorker
    }

    package mutating func handle(_ event: ServerEvent, now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        self.now = now
        switch event {
        case .openSession(let request, let options): openSession(request, options, now: now, into: &effects)
        case .openLease(let request, let session, let token): openLease(request, session, token: token, into: &effects)
        case .leaseLost(let session, let lease, let isClean): loseLease(session, lease: lease, isClean: isClean, now: now, into: &effects)
        case .closeSession(let request, let session): closeSession(request, session, into: &effects)
        case .submit(let request, let session, let submit): self.submit(request, session, submit, into: &effects)
        case .wait(let request, let session, let selection): wait(request, session, selection, into: &effects)
        case .locate(let request, let session, let selection): locate(request, session, selection, into: &effects)
        case .taskInfo(let request, let session, let selection, let filter): taskInfo(request, session, selection, filter, into: &effects)
        case .objectInfo(let request, let session, let selection): objectInfo(request, session, selection, into: &effects)
        case .setKept(let request, let session, let selection, let isKept):
            setKept(request, session, selection, isKept: isKept, into: &effects)
        case .cancel(let request, let session, let selection): cancel(request, session, selection, into: &effects)
        case .sessionStatus(let request, let session): sessionStatus(request, session, into: &effects)
        case .status(let request): status(request, into: &effects)
        case .withdraw(let request): withdraw(request)
        case .frame(let peer, let frame): handleFrame(frame, from: peer, now: now, into: &effects)
        case .peerGone(let peer, let reason): losePeer(peer, reason: reason, now: now)
        case .committed(let number):
            gate.commit(through: number)
            while !barred.isEmpty { addressed.insert(barred.removeFirst()) }
            while let action = gate.next() { perform(action, into: &effects) }
        case .journalFailed(let reason): failJournal(reason, into: &effects)
        case .tick: tick(now: now, into: &effects)
        case .overdue: goOn(into: &effects)
        }
        settle(now: now, into: &effects)
    }

    /// When `tick` has something to judge.
    package func nextTick(after now: Instant) -> Instant { now.advanced(byMilliseconds: 250) }

    // MARK: Answers

    /// Now, when everything before it is on disk, else then.
    mutating func emit(_ effect: ServerEffect, into effects: inout ContiguousArray<ServerEffect>) {
        guard journalFailure == nil else {
            // Nothing can become true any more: an answer says so, and news are not told.
            if case .reply(let request, _) = effect { effects.append(.reply(request, .refused(journalError))) }
            return
        }
        if case .effect(let now)? = gate.afterCommit(.effect(effect)) { effects.append(now) }
    }

    mutating func reply(_ request: RequestID, _ reply: ServerReply, into effects: inout ContiguousArray<ServerEffect>) {
        emit(.reply(request, reply), into: &effects)
    }

    mutating func refuse(
        _ request: RequestID, _ code: RequestError.Code, _ message: String, failure: TaskFailure? = nil,
        into effects: inout ContiguousArray<ServerEffect>
    ) {
        reply(request, .refused(RequestError(code, message, failure: failure)), into: &effects)
    }

    mutating func append(_ record: JournalRecord, isDurable: Bool = true, into effects: inout ContiguousArray<ServerEffect>) {
        guard journalFailure == nil else { return }
        gate.append(record, isDurable: isDurable, into: &effects)
    }

    mutating func perform(_ action: CommitGate.Held, into effects: inout ContiguousArray<ServerEffect>) {
        switch action {
        case .effect(let effect): effects.append(effect)
        case .take(let worker, let sequence):
            workers[worker]?.link.take(through: sequence)
            addressed.insert(worker)
        case .activate(let session, let throughRow):
            if let slot = slotOfSession[session] { activate(slot, throughRow: throughRow) }
        case .send(.drop(let replicas), let worker):
            let unwanted = replicas.filter { !isWanted($0, on: worker) }
            if !unwanted.isEmpty { send(.drop(unwanted), to: worker) }
        case .send(let message, let worker): send(message, to: worker)
        }
    }

    private mutating func failJournal(_ reason: String, into effects: inout ContiguousArray<ServerEffect>) {
        journalFailure = reason
        for action in gate.takeAll() {
            if case .effect(.reply(let request, _)) = action { effects.append(.reply(request, .refused(journalError))) }
        }
        for slot in sessions.indices where sessions[slot] != nil { giveUp(slot, journalError, into: &effects) }
    }

    private var journalError: RequestError {
        RequestError(.journal, "the server can't write its journal (\(journalFailure ?? "")): free the disk and start the server again")
    }

    // MARK: At the end of every event

    mutating func settle(now: Instant, into effects: inout ContiguousArray<ServerEffect>) {
        for _ in 0..<touched.count {
            let slot = touched.removeFirst()
            touched.insert(slot)
            if hasSession(slot) { cancelReturned(slot, into: &effects) }
        }
        if journalFailure == nil, away.isEmpty || now >= gatheredAt {
            place(now: now, into: &effects)
            sendFollowers(into: &effects)
            if !unsendable.isEmpty { failUnsendable(into: &effects) }
            takeBackQueued()
        }
        while !touched.isEmpty {
            let slot = touched.removeFirst()
            guard hasSession(slot) else { continue }
            answerWaits(slot, into: &effects)
            flushLease(slot, into: &effects)
        }
        flushWorkers(now: now, into: &effects)
    }

    // MARK: Workers by index

    mutating func add(_ worker: WorkerEntry) {
        presentWorkers.append(workers.count)
        workers.append(worker)
    }

    mutating func remove(_ worker: Int) {
        workers[worker] = nil
        presentWorkers.removeAll { $0 == worker }
    }

    /// Whether the worker is not lost; through a span, as with sessions.
    func hasWorker(_ worker: Int) -> Bool {
        if case .some = workers.span[worker] { true } else { false }
    }

    // MARK: Sessions by number

    /// Whether there is a session in the slot. Through a span, because comparing an array's element with `nil` copies it: 3,000 instructions.
    func hasSession(_ slot: Int) -> Bool {
        if case .some = sessions.span[slot] { true } else { false }
    }

    /// The session's slot, or an answer that says why there is none.
    mutating func findSession(
        _ session: SessionID, for request: RequestID, into effects: inout ContiguousArray<ServerEffect>
    ) -> Int? {
        guard let slot = slotOfSession[session] else {
            refuse(request, .unknownSession, "there is no session \(session): it was closed, or never opened", into: &effects)
            return nil
        }
        touched.insert(slot)
        return slot
    }

    /// As `findSession`, for requests that need a session which works.
    mutating func findOpenSession(
        _ session: SessionID, for request: RequestID, into effects: inout ContiguousArray<ServerEffect>
    ) -> Int? {
        guard let slot = findSession(session, for: request, into: &effects) else { return nil }
        if journalFailure != nil {
            refuse(request, .journal, "", into: &effects)  // With the reason that every answer has now.
            return nil
        }
        if let failure = sessions[slot]!.failure {
            refuse(request, .sessionFailed, Self.failureMessage(session, failure), failure: failure, into: &effects)
            return nil
        }
        if let reason = sessions[slot]!.closeReason {
            refuse(request, .sessionClosed, "session \(session) is closed: \(reason)", into: &effects)
            return nil
        }
        return slot
    }

    static func failureMessage(_ session: SessionID, _ failure: TaskFailure) -> String {
        "session \(session) failed: task \(failure.name): \(failure.error.message)"
    }

    /// - Returns: the ranges, or `nil` after answering that one reaches past the end.
    mutating func checked(
        _ ranges: [Range<UInt32>], atMost most: UInt64 = 1_000_000, below count: UInt32, what: String, code: RequestError.Code, for request: RequestID,
        into effects: inout ContiguousArray<ServerEffect>
    ) -> [Range<UInt32>]? {
        var total: UInt64 = 0
        for range in ranges {
            total += UInt64(range.count)
            guard range.upperBound <= count, total <= most else {
                let first = max(range.lowerBound, min(count, range.upperBound))
                refuse(
                    request, code,
                    total > most
                        ? "more than \(most) \(what)s in one request: ask in parts"
                        : "there is no \(what) \(first): the session has \(count)", into: &effects)
                return nil
            }
        }
        return ranges
    }
}
