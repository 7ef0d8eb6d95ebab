import TaskModel

/// One subworker process, from its start to its end.
///
///     starting ──▶ open (idle ◀──▶ busy) ──▶ stopping ──▶ (ended, gone)
///         └──────────────────────────────────▲
struct SubworkerMachine: TableRow {
    enum State: Equatable, Sendable {
        case starting
        case open
        /// Asked to end, or killed.
        case stopping(isKilled: Bool)
    }
    /// A call that is in flight.
    struct Call: Sendable {
        var attempt: AttemptHandle
        var sequence: UInt64
        var estimate: UInt64
        /// Brings constants to be remembered.
        var bringsConstants: Bool
        /// Memory that was kept for its outputs until now; set when it is removed.
        var reservedBytes: UInt64 = 0
    }
    /// What it has in memory is looked at no more often.
    static let measureNanoseconds: UInt64 = 1_000_000_000
    /// Slots are 64; a few stay free so that those being recalled don't keep the queue short.
    static let depthMax = 60
    /// A call that runs for so long gets nothing queued behind it, and loses what is.
    static let slowNanoseconds: UInt64 = 2_000_000
    /// A call that was asked to stop and goes on for so long is killed with its process.
    static let cancelMillisecondsMax: UInt64 = 1000
    /// A call that runs for so long is told of.
    static let startedNanoseconds: UInt64 = 50_000_000

    let id: SubworkerID
    let pool: PoolHandle
    private(set) var state: State = .starting
    /// When the state last changed.
    private(set) var since: Instant
    private var hasControlPage = false
    private var threads = 1
    private(set) var hasCaching = false
    private(set) var wasRegistered = false
    /// It took too long to register, which is why it was killed.
    private(set) var isOverdue = false
    /// It has taken too much memory: it gets no more calls, and ends after those that it has.
    private(set) var isWornOut = false
    private var measuredAt: Instant?
    /// Its memory after its first answer.
    private var firstBytes: UInt64?

    private var calls: ContiguousArray<Call?> = ContiguousArray(repeating: nil, count: 64)
    private(set) var inFlight = SlotSet()
    private(set) var inFlightCount = 0
    /// Recalls in the order in which they are answered.
    private var recallRequests = Queue<SlotSet>()
    private(set) var recalling = SlotSet()
    /// Running calls that were asked to stop, and when the first of them was.
    private(set) var cancelling = SlotSet()
    private(set) var cancelledSince: Instant?
    /// Where its calls come from, while it is busy: all need as many CPUs.
    private(set) var lane: LaneHandle?
    /// How many times the lane's CPUs it occupies.
    var unitCount = 0
    private var queuedNanoseconds: UInt64 = 0
    /// When the oldest call began to run, or the process became idle.
    private(set) var headSince: Instant
    var isStartReported = false
    /// What waited behind the oldest call was asked back: once is enough for one call.
    var isQueueRecalled = false
    private(set) var answeredCount: UInt64 = 0
    private var openedRound: UInt64 = 0
    /// Calls of this round, sent together.
    var outbox: ContiguousArray<CallRequest> = []
    /// Files for which its calls asked.
    var reservations = ReservationTable()

    init(id: SubworkerID, pool: PoolHandle, now: Instant) {
        self.id = id
        self.pool = pool
        since = now
        headSince = now
    }

    mutating func vacate() {
        calls = []
        recallRequests.removeAll()
        outbox = []
        reservations = ReservationTable()
    }

    var isIdle: Bool { state == .open && inFlightCount == 0 }
    var isBusy: Bool { inFlightCount > 0 }
    /// Calls that it runs at once now.
    var runningCount: Int { min(threads, inFlightCount) }
    /// Calls that wait behind running ones and could be taken back.
    var hasQueue: Bool { hasControlPage && inFlightCount > threads && recalling.isEmpty && !isQueueRecalled }
    /// Whether its calls can be taken back before they begin; without a control page the one call has begun.
    var canRecall: Bool { hasControlPage }

    /// - Returns: whether this is news; a process that was given up may register late.
    mutating func registered(_ capabilities: SubworkerCapabilities, now: Instant) -> Bool {
        switch state {
        case .starting:
            state = .open
            since = now
            headSince = now
            wasRegistered = true
            hasControlPage = capabilities.hasControlPage
            threads = hasControlPage ? min(max(Int(capabilities.threads), 1), Self.depthMax) : 1
            hasCaching = capabilities.hasCaching
            return true
        case .open, .stopping:
            return false
        }
    }

    /// What it would take for one more call of the lane.
    enum Room: Equatable {
        case none
        /// Runs beside the others, with CPUs of its own, after `load` nanoseconds.
        case running(load: UInt64)
        /// Queues behind the others.
        case queued(load: UInt64)
    }

    /// After an answer: whether somebody should look at its memory.
    mutating func isTimeToMeasure(_ now: Instant) -> Bool {
        guard state == .open, !isWornOut, measuredAt.map({ now.since($0) >= Self.measureNanoseconds }) ?? true else { return false }
        measuredAt = now
        return true
    }

    /// - Returns: by how much it has grown, when that is more than it may.
    mutating func measured(bytes: UInt64, growthMax: UInt64) -> UInt64? {
        guard state == .open, !isWornOut else { return nil }
        guard let first = firstBytes else {
            firstBytes = bytes
            return nil
        }
        // What it gives back is what it starts from.
        firstBytes = min(first, bytes)
        guard bytes > first, bytes - first > growthMax else { return nil }
        isWornOut = true
        return bytes - first
    }

    /// - Parameters:
    ///   - estimate: what the call is expected to take.
    ///   - round: the queue is filled up only once it is half empty, so that calls travel many to a message.
    func room(lane: LaneHandle, estimate: UInt64, round: UInt64, now: Instant) -> Room {
        guard state == .open, !isWornOut else { return .none }
        guard inFlightCount > 0 else { return .running(load: 0) }
        // Slots that are being recalled stay unused until that is answered, so that an answer can't mean a later call.
        guard lane == self.lane, recalling.isEmpty else { return .none }
        if inFlightCount < threads { return .running(load: queuedNanoseconds) }
        guard hasControlPage, inFlightCount < Self.depthMax, queuedNanoseconds + estimate <= LearnedDuration.queueNanoseconds,
            now.since(headSince) < Self.slowNanoseconds
        else { return .none }
        let isHalfEmpty = inFlightCount <= Self.depthMax / 2 && queuedNanoseconds <= LearnedDuration.queueNanoseconds / 2
        return isHalfEmpty || openedRound == round ? .queued(load: queuedNanoseconds) : .none
    }

    /// Takes one more call, for which there must be room.
    ///
    /// - Returns: its slot.
    mutating func call(
        _ attempt: AttemptHandle, lane: LaneHandle, sequence: UInt64, estimate: UInt64, bringsConstants: Bool, round: UInt64, now: Instant
    ) -> UInt8 {
        precondition(state == .open && inFlightCount < Self.depthMax, "a subworker is given a call that it has no room for")
        let slot = UInt8(truncatingIfNeeded: (~(inFlight.bits | recalling.bits)).trailingZeroBitCount)
        if inFlightCount == 0 {
            headSince = now
            isStartReported = false
            isQueueRecalled = false
            self.lane = lane
        }
        calls[Int(slot)] = Call(attempt: attempt, sequence: sequence, estimate: estimate, bringsConstants: bringsConstants)
        inFlight.insert(slot)
        inFlightCount += 1
        queuedNanoseconds += estimate
        openedRound = round
        return slot
    }

    /// A call came back, with an answer or without.
    ///
    /// - Returns: `nil` when there was none in the slot.
    mutating func remove(_ slot: UInt8) -> Call? {
        guard slot < 64, inFlight.contains(slot), var call = calls[Int(slot)] else { return nil }
        calls[Int(slot)] = nil
        if !reservations.isEmpty { call.reservedBytes = reservations.removeAll(ofSlot: slot) }
        inFlight.remove(slot)
        inFlightCount -= 1
        cancelling.remove(slot)
        if cancelling.isEmpty { cancelledSince = nil }
        queuedNanoseconds -= call.estimate
        if inFlightCount == 0 { lane = nil }
        return call
    }

    mutating func answered(_ slot: UInt8, now: Instant) -> Call? {
        guard let call = remove(slot) else { return nil }
        answeredCount += 1
        headSince = now
        isStartReported = false
        isQueueRecalled = false
        return call
    }

    func attempt(in slot: UInt8) -> AttemptHandle? { slot < 64 ? calls[Int(slot)]?.attempt : nil }
    func sequence(of slot: UInt8) -> UInt64? { slot < 64 ? calls[Int(slot)]?.sequence : nil }

    /// Slots in flight in the order in which their calls were sent.
    func slotsInOrder() -> ContiguousArray<UInt8> {
        var slots: ContiguousArray<UInt8> = []
        var bits = inFlight.bits
        while bits != 0 {
            slots.append(UInt8(truncatingIfNeeded: bits.trailingZeroBitCount))
            bits &= bits - 1
        }
        slots.sort { calls[Int($0)]!.sequence < calls[Int($1)]!.sequence }
        return slots
    }

    /// Calls that wait behind those which run.
    func queuedSlots() -> SlotSet {
        var slots = SlotSet()
        for slot in slotsInOrder().dropFirst(threads) { slots.insert(slot) }
        return slots
    }

    /// - Returns: what has to be asked for; a slot that is being recalled already is not asked for twice.
    mutating func recall(_ slots: SlotSet) -> SlotSet {
        let asked = SlotSet(bits: slots.bits & inFlight.bits & ~recalling.bits)
        guard !asked.isEmpty else { return asked }
        recalling.bits |= asked.bits
        recallRequests.pushBack(asked)
        return asked
    }

    /// - Returns: the slots that had been asked for; none when nothing had been.
    mutating func recallAnswered() -> SlotSet {
        guard let asked = recallRequests.popFront() else { return SlotSet() }
        recalling.bits &= ~asked.bits
        return asked
    }

    /// The call runs, and shall stop.
    mutating func cancel(_ slot: UInt8, now: Instant) {
        cancelling.insert(slot)
        cancelledSince = cancelledSince ?? now
    }

    /// - Returns: whether the process has to be told.
    mutating func stop(isKilled: Bool, isOverdue: Bool = false, now: Instant) -> Bool {
        switch state {
        case .starting, .open:
            self.isOverdue = isOverdue
        case .stopping(let wasKilled):
            guard isKilled, !wasKilled else { return false }
        }
        state = .stopping(isKilled: isKilled)
        since = now
        return true
    }

    func check() throws(BrokenInvariant) {
        var load: UInt64 = 0
        var count = 0
        for slot in UInt8(0)..<64 {
            guard (calls[Int(slot)] != nil) == inFlight.contains(slot) else { throw BrokenInvariant("slot \(slot) of subworker \(id.rawValue)") }
            guard let call = calls[Int(slot)] else { continue }
            load += call.estimate
            count += 1
        }
        guard load == queuedNanoseconds, count == inFlightCount else { throw BrokenInvariant("the load of subworker \(id.rawValue)") }
        guard (lane != nil) == (inFlightCount > 0) else { throw BrokenInvariant("subworker \(id.rawValue) is busy without a lane") }
        guard outbox.isEmpty else { throw BrokenInvariant("calls of subworker \(id.rawValue) were not sent") }
        guard state != .starting || inFlightCount == 0 else { throw BrokenInvariant("subworker \(id.rawValue) is called before it registered") }
    }
}
