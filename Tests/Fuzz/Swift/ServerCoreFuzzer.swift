import Link
import ServerCore
import TaskModel

@testable import Server

/// A server among clients that ask for anything and workers that say anything: it must not trap, and its state must stay whole.
///
/// Clients come through the scanner, as they do in the server. Workers have the right key and nothing else: wrong epochs, batches without
/// hello, outcomes of attempts that they were never given.
struct ServerCoreFuzzer {
    private static let stepsMax = 300
    private var decisions: Decisions
    private var core = ServerCore(epoch: ServerEpoch(1), dataSecret: [1], depotEndpoint: Endpoint(host: "", port: 1))
    private var now = Instant(nanoseconds: 1_000_000_000)
    private var effects: ContiguousArray<ServerEffect> = []
    private var appended: UInt64 = 0
    /// Of all epochs; those after `base` of this one.
    private var records: [JournalRecord] = []
    private var base = 0
    private var committed: UInt64 = 0
    private var lastRequest: UInt64 = 0
    private var sessions: [SessionID] = []
    /// Outputs of each template that a session has, as the shell knows them.
    private var outputCounts: [SessionID: ContiguousArray<UInt32>] = [:]
    private var submitting: [RequestID: (session: SessionID, outputCounts: ContiguousArray<UInt32>)] = [:]
    private var attempts: [AttemptID] = []
    private var sequences = [UInt64](repeating: 0, count: 4)
    private var answered: Set<RequestID> = []

    static func run(_ bytes: UnsafeRawBufferPointer) {
        var fuzzer = ServerCoreFuzzer(decisions: Decisions(bytes))
        for _ in 0..<stepsMax where !fuzzer.decisions.isEmpty { fuzzer.step() }
    }

    private init(decisions: Decisions) { self.decisions = decisions }

    private mutating func step() {
        switch decisions.below(25) {
        case 0: openSession()
        case 1, 2, 3: submit()
        case 4: request { .openLease($0, $1.session(), resumeToken: $1.bool() ? "t" : "") }
        case 5: request { .wait($0, $1.session(), $1.bool() ? .all : .ranges($1.ranges())) }
        case 6: request { .locate($0, $1.session(), ObjectSelection(ranges: $1.ranges())) }
        case 7:
            request {
                $1.bool()
                    ? .taskInfo($0, $1.session(), .ranges($1.ranges()), $1.filter()) : .objectInfo($0, $1.session(), ObjectSelection(ranges: $1.ranges()))
            }
        case 8: request { .setKept($0, $1.session(), ObjectSelection(ranges: $1.ranges()), isKept: $1.bool()) }
        case 9: request { .cancel($0, $1.session(), $1.bool() ? .all : .ranges($1.ranges())) }
        case 10: request { $1.byte() < 128 ? .closeSession($0, $1.session()) : .sessionStatus($0, $1.session()) }
        case 11: request { $1.bool() ? .status($0) : .withdraw(RequestID(UInt64($1.byte()))) }
        case 12: send(.leaseLost(decisions.session(), lease: decisions.uint64(), isClean: decisions.bool()))
        case 13, 14, 15: hello()
        case 16, 17, 18, 19, 20: batch()
        case 21: send(.peerGone(peer(), reason: "gone"))
        case 22: commit()
        case 23: if decisions.byte() < 100 { restart() }
        default:
            now = now.advanced(byMilliseconds: [1, 250, 3000, 20_000][decisions.below(4)])
            send(decisions.below(8) == 0 ? .overdue : .tick)
        }
    }

    private mutating func peer() -> PeerID { PeerID(UInt64(decisions.below(4))) }

    // MARK: Clients

    private mutating func request(_ make: (RequestID, inout Decisions) -> ServerEvent) {
        lastRequest += 1
        send(make(RequestID(lastRequest), &decisions))
    }

    private mutating func openSession() {
        var options = SessionOptions(name: decisions.text(), onError: decisions.bool() ? .failSession : .failDescendants, resumeToken: "t")
        options.isDetached = decisions.byte() < 200
        options.graceMilliseconds = decisions.bool() ? 0 : 5000
        if decisions.bool() { options.subworkers = [SubworkerCommand(name: "x", arguments: ["x"])] }
        request { request, _ in .openSession(request, options) }
    }

    /// A few rows over small ids, in which anything may be wrong that the scanner lets through.
    private mutating func submit() {
        let session = decisions.session()
        var body = ""
        if decisions.byte() < 100 {
            body += "{\"submit\":{\"first_template\":\(decisions.uint32()),\"first_task\":\(decisions.uint32()),\"first_object\":\(decisions.uint32())}}\n"
        }
        for _ in 0..<decisions.below(3) {
            let outputs = (0..<decisions.below(3)).map { "{\"label\":\"o\($0)\",\"keep\":\(decisions.bool())}" }.joined(separator: ",")
            let constants = decisions.byte() < 60 ? "\(decisions.uint32())" : ""
            let rerun = ["on_loss", "always", "never"][decisions.below(3)]
            let policies = "\"rerun\":\"\(rerun)\",\"retries\":\(decisions.below(3)),\"cpus\":\(decisions.below(3))"
            if decisions.byte() < 40 {
                let name = ["s", "x", "py", "a b"][decisions.below(4)]
                body += "{\"subworker\":{\"name\":\"\(name)\",\"program\":\(decisions.uint32(below: 4))}}\n"
            }
            let type = decisions.byte() < 200 ? "x/y" : "s/y"
            body += "{\"template\":{\"type\":\"\(type)\",\"outputs\":[\(outputs)],\"constants\":[\(constants)],\(policies)}}\n"
        }
        for _ in 0..<decisions.below(6) {
            if decisions.byte() < 80 {
                body += "{\"object\":{\"data\":\"v\",\"keep\":\(decisions.bool())}}\n"
            } else {
                let inputs = decisions.list { "\($0.uint32(below: 12))" }.joined(separator: ",")
                let options = decisions.byte() < 60 ? ",{\"count\":\(decisions.below(5) + 1),\"keep\":[\(decisions.bool() ? "0" : "")]}" : ""
                body += "[\(decisions.uint32(below: 4)),[\(inputs)],null\(options)]\n"
            }
        }
        var bytes = Array(body.utf8)
        let earlier = outputCounts[session] ?? []
        let scanned = bytes.withUnsafeMutableBytes { scan(UnsafeRawBufferPointer($0), cutEvery: 1 << 20, earlier: earlier) }
        guard let scanned else { return }
        submitting[RequestID(lastRequest + 1)] = (session, scanned.outputCounts)
        request { request, _ in .submit(request, session, scanned.submit) }
    }

    // MARK: Workers

    private mutating func hello() {
        let which = peer()
        let incarnation = decisions.byte() < 200 ? which.rawValue : UInt64(decisions.below(4))
        var hello = Hello(
            incarnation: incarnation, knownEpoch: decisions.bool() ? decisions.epoch() : nil,
            knownWorker: decisions.bool() ? WorkerID(UInt32(decisions.below(6))) : nil, lastReceived: decisions.uint64(),
            description: decisions.description())
        if decisions.byte() > 250 { hello.protocolVersion = UInt16(decisions.byte()) }
        if hello.knownEpoch == nil { sequences[Int(incarnation) % 4] = 0 }
        send(.frame(which, .hello(hello)))
    }

    private mutating func batch() {
        let which = peer()
        let index = Int(which.rawValue)
        let isNext = decisions.byte() < 220
        if isNext { sequences[index] += 1 }
        let batch = Batch(
            epoch: decisions.byte() < 230 ? core.epoch : decisions.epoch(), incarnation: which.rawValue,
            sequence: isNext ? sequences[index] : decisions.uint64(), acknowledged: decisions.uint64(),
            payload: ContiguousArray(decisions.list(4) { $0.workerMessage(attempts) }))
        send(.frame(which, .batch(batch)))
    }

    // MARK: The shell

    private mutating func commit() {
        guard committed < appended else { return }
        committed = decisions.bool() ? appended : committed + 1
        send(.committed(through: committed))
    }

    /// Killed, and started again on what was on disk: its own records make sense to it.
    private mutating func restart() {
        records.removeSubrange((base + Int(committed))...)
        base = records.count
        (appended, committed) = (0, 0)
        var (lastSession, lastWorker): (UInt32, UInt32) = (0, 0)
        for case .sessionOpened(let session, _) in records { lastSession = max(lastSession, session.rawValue) }
        for case .workerJoined(let worker, _, _, _) in records { lastWorker = max(lastWorker, worker.rawValue) }
        core = ServerCore(
            epoch: ServerEpoch(core.epoch.rawValue + 1), firstSession: lastSession + 1, firstWorker: lastWorker + 1, dataSecret: [1],
            depotEndpoint: Endpoint(host: "", port: 1))
        do { for record in records { try core.restore(record) } } catch { fatalError("\(error)") }
        submitting = [:]
        outputCounts = [:]
        for session in core.openSessions { outputCounts[session.session] = session.outputCounts }
        sequences = [0, 0, 0, 0]
        effects.removeAll(keepingCapacity: true)
        core.finishRestoring(now: now, into: &effects)
        take()
    }

    private mutating func send(_ event: ServerEvent) {
        effects.removeAll(keepingCapacity: true)
        core.handle(event, now: now, into: &effects)
        take()
    }

    private mutating func take() {
        core.checkInvariants()
        for effect in effects {
            switch effect {
            case .append(let number, let record, _):
                guard number == appended + 1 else { fatalError("record \(number) after \(appended)") }
                appended = number
                records.append(record)
            case .reply(let request, let reply):
                guard answered.insert(request).inserted else { fatalError("a request is answered twice") }
                note(request, reply)
            case .send(_, .batch(let batch)):
                for case .assign(let assignment) in batch.payload { attempts.append(assignment.attempt) }
                if attempts.count > 200 { attempts.removeFirst(attempts.count - 200) }
            default: break  // What leaves the core and never comes back.
            }
        }
    }

    /// What the shell's directory of sessions learns from an answer.
    private mutating func note(_ request: RequestID, _ reply: ServerReply) {
        switch reply {
        case .sessionOpened(let session, _): sessions.append(session)
        case .submitted(let receipt):
            guard let (session, counts) = submitting.removeValue(forKey: request), !receipt.isRepeated else { return }
            outputCounts[session, default: []].append(contentsOf: counts)
        default: break
        }
    }
}

extension Decisions {
    mutating func workerMessage(_ known: [AttemptID]) -> WorkerMessage {
        switch below(15) {
        case 0: .started(attempt(known))
        case 1, 2, 3:
            .finished(
                attempt(known),
                FinishedAttempt(
                    outputs: list { decisions in
                        FinishedOutput(sizeBytes: decisions.uint64(), contentType: decisions.text(), inline: decisions.bool() ? decisions.data() : nil)
                    }, startedUnixMicroseconds: uint64(), durationNanoseconds: uint64(), debug: text(), attributes: data()))
        case 4: .failed(attempt(known), error())
        case 5: .cancelled(attempt(known))
        case 6: .revoked(attempt(known), wasTakenBack: bool())
        case 7: .replicated(replica())
        case 8: .sessionClosed(session())
        case 9: .missing(replica())
        case 10: .knows(session())
        case 11: .runs(attempt(known))
        case 12: .holds(list { $0.replica() })
        case 13: .progress(list { AttemptProgress(attempt: $0.attempt(known), progress: Progress(millionths: $0.uint32(), text: $0.text())) })
        default: .handedOver
        }
    }
}

extension Decisions {
    mutating func filter() -> TaskFilter {
        guard bool() else { return TaskFilter() }
        let bits = byte()
        var filter = TaskFilter(states: TaskState.allCases.filter { bits >> $0.rawValue & 1 == 1 })
        filter.hasConsequences = bool()
        filter.limit = uint32()
        return filter
    }
}
