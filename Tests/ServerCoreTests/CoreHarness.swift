import Link
import Testing

@testable import ServerCore
@testable import TaskModel

/// A ServerCore with a journal that commits when the test says so and workers whose messages the test writes.
struct CoreHarness {
    var core = ServerCore(epoch: ServerEpoch(1), dataSecret: [1], depotEndpoint: Endpoint(host: "", port: 7210))
    var now = Instant(nanoseconds: 1_000_000_000)
    var appended: UInt64 = 0
    var records: [JournalRecord] = []
    var commitsAtOnce = true
    private var requestCount: UInt64 = 0
    private var sequences: [PeerID: UInt64] = [:]
    private var received: [PeerID: UInt64] = [:]
    var effects: ContiguousArray<ServerEffect> = []
    private var incarnations: [PeerID: UInt64] = [:]
    private var descriptions: [UInt64: (WorkerDescription, place: UInt64)] = [:]
    private(set) var welcomes: [PeerID: Welcome] = [:]
    /// Replies by request, since the beginning.
    var replies: [RequestID: ServerReply] = [:]
    var leaseLines: [LeaseLine] = []
    /// Messages that each peer was sent and has not handled.
    var inbox: [PeerID: [ServerMessage]] = [:]
    private(set) var sent: [PeerID: [ServerMessage]] = [:]

    mutating func send(_ event: ServerEvent) {
        effects.removeAll()
        core.handle(event, now: now, into: &effects)
        take()
    }

    private mutating func take() {
        core.checkInvariants()
        var last: UInt64 = 0
        for effect in effects {
            switch effect {
            case .append(let number, let record, _):
                #expect(number == appended + 1)
                appended = number
                last = number
                records.append(record)
            case .reply(let request, let reply):
                #expect(replies[request] == nil, "answered twice")
                replies[request] = reply
            case .leaseLines(_, _, let lines): leaseLines += lines
            case .send(let peer, .batch(let batch)):
                received[peer] = max(received[peer] ?? 0, batch.sequence)
                inbox[peer, default: []] += batch.payload
                sent[peer, default: []] += batch.payload
            case .send(let peer, .welcome(let welcome)): welcomes[peer] = welcome
            case .claimBlob(let hash): blobs.append((hash, true))
            case .releaseBlob(let hash): blobs.append((hash, false))
            case .send, .endLease, .closePeer, .note: break
            }
        }
        if commitsAtOnce, last > 0 { send(.committed(through: last)) }
    }

    /// What the depot was told, in order.
    private(set) var blobs: [(hash: BlobHash, isClaimed: Bool)] = []

    mutating func request(_ make: (RequestID) -> ServerEvent) -> RequestID {
        requestCount += 1
        send(make(RequestID(requestCount)))
        return RequestID(requestCount)
    }

    mutating func openSession(_ options: SessionOptions = SessionOptions(resumeToken: "token")) -> SessionID {
        let request = self.request { .openSession($0, options) }
        guard case .sessionOpened(let id, _)? = replies[request] else { fatalError("no session: \(String(describing: replies[request]))") }
        return id
    }

    mutating func join(_ peer: UInt64, cpus: UInt32 = 2, place: UInt64 = 0, subworkers: [String] = ["x"], predecessor: Predecessor? = nil) -> PeerID {
        let id = PeerID(peer)
        let description = WorkerDescription(
            hostName: "n\(peer)", processID: 1, cpus: cpus, dataEndpoint: Endpoint(host: "127.0.0.1", port: UInt16(peer)), store: "test",
            subworkers: subworkers)
        let hello = Hello(
            incarnation: peer, place: place, knownEpoch: nil, lastReceived: 0, description: description, predecessor: predecessor)
        send(.frame(id, .hello(hello)))
        sequences[id] = 0
        incarnations[id] = peer
        descriptions[peer] = (description, place)
        return id
    }

    // MARK: Restart

    /// The server is killed, and started again on the first records of its journal.
    mutating func restart(keeping count: Int = .max) throws {
        records.removeSubrange(min(count, records.count)...)
        core = ServerCore(
            epoch: ServerEpoch(core.epoch.rawValue + 1), firstSession: 100, firstWorker: 100, dataSecret: [2],
            depotEndpoint: Endpoint(host: "", port: 7210))
        appended = 0
        (sequences, received, inbox, leaseLines) = ([:], [:], [:], [])
        for record in records { try core.restore(record) }
        effects.removeAll()
        core.finishRestoring(now: now, into: &effects)
        take()
    }

    /// The worker's process comes back on a new connection, and may have heard of this server before.
    mutating func comeBack(_ incarnation: UInt64, as worker: WorkerID, peer: UInt64, hasHeard: Bool = false) -> PeerID {
        let id = PeerID(peer)
        let (description, place) = descriptions[incarnation]!
        sequences[id] = 0
        incarnations[id] = incarnation
        send(
            .frame(
                id,
                .hello(
                    Hello(
                        incarnation: incarnation, place: place, knownEpoch: ServerEpoch(core.epoch.rawValue - (hasHeard ? 0 : 1)), knownWorker: worker,
                        lastReceived: 9, description: description))))
        return id
    }

    /// Of the processes of workers that are not lost.
    var processes: [UInt64] { core.presentWorkers.map { core.workers[$0]!.link.incarnation } }

    func hasLost(_ worker: WorkerID) -> Bool {
        records.contains { if case .workerLost(worker, _) = $0 { true } else { false } }
    }

    mutating func say(_ peer: PeerID, _ messages: [WorkerMessage]) {
        sequences[peer]! += 1
        send(
            .frame(
                peer,
                .batch(
                    Batch(
                        epoch: core.epoch, incarnation: incarnations[peer]!, sequence: sequences[peer]!, acknowledged: received[peer] ?? 0,
                        payload: ContiguousArray(messages)))))
    }

    mutating func takeInbox(_ peer: PeerID) -> [ServerMessage] {
        defer { inbox[peer] = [] }
        return inbox[peer] ?? []
    }

    /// The time, with its ticks, while these workers show life.
    mutating func pass(milliseconds: UInt64, _ alive: PeerID...) {
        for _ in 0..<milliseconds / 250 {
            now = now.advanced(byMilliseconds: 250)
            for peer in alive { say(peer, []) }
            send(.tick)
        }
    }

    mutating func takeAssignments(_ peer: PeerID) -> [Assignment] {
        takeInbox(peer).compactMap { if case .assign(let assignment) = $0 { assignment } else { nil } }
    }

    static func finished(_ assignment: Assignment, _ values: [[UInt8]] = [[]]) -> WorkerMessage {
        .finished(
            assignment.attempt,
            FinishedAttempt(outputs: values.map { FinishedOutput(sizeBytes: UInt64($0.count), inline: $0) }, durationNanoseconds: 1000))
    }
}

/// Builds a submit as the scanner would.
struct SubmitBuilder {
    var submit = Submit()
    private var objectCount: UInt32 = 0
    let firstObject: UInt32
    private var outputCounts: [UInt32] = []
    let firstTemplate: UInt32

    init(firstObject: UInt32 = 0, firstTemplate: UInt32 = 0) {
        self.firstObject = firstObject
        self.firstTemplate = firstTemplate
    }

    /// Goes on with a submit that has uploads only.
    init(adding submit: Submit) {
        self.init()
        self.submit = submit
        objectCount = UInt32(submit.uploads.count)
    }

    mutating func template(_ type: String = "x/y", outputs: Int = 1, kept: Bool = false, edit: (inout TaskTemplate) -> Void = { _ in }) -> UInt32 {
        var template = TaskTemplate(type: type)
        template.outputs = (0..<outputs).map { OutputSpec(label: "out\($0)", isKept: kept) }
        edit(&template)
        submit.templates.append(template)
        outputCounts.append(UInt32(outputs))
        return firstTemplate + UInt32(submit.templates.count - 1)
    }

    mutating func upload(_ bytes: [UInt8]) -> UInt32 {
        submit.uploads.append(.init(offset: objectCount, value: .inline(bytes)))
        objectCount += 1
        return firstObject + objectCount - 1
    }

    /// - Returns: the first output.
    @discardableResult
    mutating func row(_ template: UInt32, _ inputs: [UInt32] = [], count: UInt32 = 1, options: Submit.RowOptions? = nil) -> UInt32 {
        let rowIndex = UInt32(submit.rows.rowCount)
        submit.rows.template.append(template)
        submit.rows.count.append(count)
        submit.rows.firstOutputOffset.append(objectCount)
        submit.rows.inputs.append(contentsOf: inputs)
        submit.rows.inputEnd.append(UInt32(submit.rows.inputs.count))
        submit.rows.argumentsEnd.append(UInt64(submit.rows.arguments.count))
        if let options { submit.rows.options.append((rowIndex, options)) }
        let first = firstObject + objectCount
        objectCount += count * (template >= firstTemplate ? outputCounts[Int(template - firstTemplate)] : 1)
        return first
    }
}
