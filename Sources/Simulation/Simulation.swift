import Link
import ServerCore
import TaskModel
import WorkerCore

/// One run of a whole cluster in one thread and in virtual time: the real cores and Links, and around them a network, disks, processes
/// and clients that do what a plan says. The run is a function of the plan.
///
/// Its parts are in `Simulation+….swift`, one file for each side.
package final class Simulation {
    enum Event: Sendable {
        case serverTick
        case written(epoch: ServerEpoch)
        case startServer
        case killServer
        case connectionReset(connection: Int)
        case up(connection: Int)
        case down(connection: Int)
        case peerGone(connection: Int)
        case connect(worker: Int, life: Int)
        case workerTick(worker: Int, life: Int)
        case register(worker: Int, life: Int, SubworkerID)
        case callDone(worker: Int, life: Int, SubworkerID, serial: UInt64)
        case recalled(worker: Int, life: Int, SubworkerID, SlotSet)
        case subworkerEnd(worker: Int, life: Int, SubworkerID, isCrash: Bool)
        case jobDone(worker: Int, life: Int, JobToken)
        case fetchDone(worker: Int, life: Int, FetchToken)
        case aliasDone(worker: Int, life: Int, AliasToken)
        case writeDone(worker: Int, life: Int, WriteToken)
        case reserve(worker: Int, life: Int, SubworkerID, serial: UInt64)
        case progress(worker: Int, life: Int, SubworkerID, serial: UInt64)
        case spillDone(worker: Int, life: Int, Replica)
        case damage(worker: Int, life: Int, AttemptID)
        case again(worker: Int, life: Int, WorkerEvent)
        case startWorker(Int)
        case clientStep(Int)
        case clientLeaseLost(Int, lease: UInt64, epoch: ServerEpoch)
        case clientLease(Int)
        case clientVanishes(Int)
        case clientWithdraws(Int, RequestID)
        case fault(Int)
        case watch
    }

    package struct Report: Sendable {
        package var seed: UInt64
        package var violation: Violation?
        package var traceHash: UInt64
        package var eventCount: Int
        package var virtualNanoseconds: UInt64
        /// How often something happened, by name, so that a run which tries nothing is noticed.
        package var counts: [String: Int]
    }

    let plan: Plan
    var random: SeededGenerator
    var queue = EventQueue<Event>()
    var now: UInt64 = 1_000_000_000
    var trace = TraceHash()
    var eventCount = 0
    /// Called with each line of the trace.
    let log: ((String) -> Void)?
    var counts: [String: Int] = [:]

    var server: ServerCore
    var serverFrozenUntil: UInt64 = 0
    var isServerDown = false
    var serverDownUntil: UInt64 = 0
    var serverEffects: ContiguousArray<ServerEffect> = []
    var journal = VirtualJournal()
    var connections: ContiguousArray<Connection> = []
    var workers: ContiguousArray<VirtualWorker> = []
    var clients: ContiguousArray<VirtualClient> = []
    var clientOfSession: [SessionID: Int] = [:]
    var requests: ContiguousArray<(client: Int, step: VirtualClient.Step, isAnswered: Bool)> = []
    var status: ServerStatus?

    /// What each run of a task made, by the replica that it has to be found under.
    var ledger: [Replica: Content] = [:]
    var ranOn: [AttemptID: Int] = [:]
    /// How many attempts of a task have begun.
    var beginCounts: [TaskID: Int] = [:]
    /// How many attempts of a task failed so that another was allowed.
    var retryCounts: [TaskID: Int] = [:]
    /// Attempts that their worker gave back before they began.
    var takenBack: Set<AttemptID> = []
    /// Uploads that the depot must keep.
    var claimedBlobs: Set<BlobHash> = []
    var runCount: UInt64 = 0
    var serialCount: UInt64 = 0
    // What may excuse a failure.
    var crashedTasks: Set<TaskID> = []
    /// Workers that each task has ended.
    var killCounts: [TaskID: Int] = [:]
    var lostWorkerCount = 0
    var hasLostWorker = false
    var dataPartitionCount = 0
    var damageCount = 0
    /// Tasks at whose end an input was found to be damaged, whoever did it.
    var blamedTasks: Set<TaskID> = []
    /// Attempts that may have read what others wrote, unknown to themselves.
    var misledAttempts: Set<AttemptID> = []
    /// Calls that have found no room.
    var roomlessAttempts: Set<AttemptID> = []
    /// A subworker died before it did anything, as one does whose command is wrong.
    var hasFutileCrash = false
    var isDiskFull = false
    var lastFaultEnd: UInt64

    package init(plan: Plan, log: ((String) -> Void)? = nil) {
        self.plan = plan
        self.log = log
        random = SeededGenerator(seed: plan.seed, part: 2)
        server = Self.makeServer(1, journal)
        lastFaultEnd = now
        for (index, cpus) in plan.cpus.enumerated() {
            workers.append(
                VirtualWorker(
                    index: index, cpus: cpus, offers: plan.offers[index], neverHandsOver: plan.neverHandsOver[index], store: plan.stores[index]))
            queue.add(.startWorker(index), at: now + random.milliseconds(0...50))
        }
        for (index, client) in plan.clients.enumerated() {
            clients.append(VirtualClient(index: index, plan: client, random: &random))
            guard client.startMilliseconds != .max else { continue }
            queue.add(.clientStep(index), at: now + client.startMilliseconds * 1_000_000)
            if let after = client.vanishesAfterMilliseconds {
                queue.add(.clientVanishes(index), at: now + (client.startMilliseconds + after) * 1_000_000)
            }
        }
        for (index, fault) in plan.faults.enumerated() { queue.add(.fault(index), at: now + fault.atMilliseconds * 1_000_000) }
        queue.add(.serverTick, at: now)
        queue.add(.watch, at: now + Self.watchNanoseconds)
    }

    static let depot = Endpoint(host: "", port: 7210)
    static let watchNanoseconds: UInt64 = 500_000_000
    /// After the last fault: more than any sum of time-outs and work.
    static let hangNanoseconds: UInt64 = 400_000_000_000

    package func run() -> Report {
        var violation: Violation?
        do throws(Violation) {
            while let (time, event) = queue.removeFirst() {
                now = max(now, time)
                eventCount += 1
                if try handle(event) { break }
            }
        } catch {
            violation = error
            write("violation: \(error)")
        }
        return Report(
            seed: plan.seed, violation: violation, traceHash: trace.value, eventCount: eventCount, virtualNanoseconds: now, counts: counts)
    }

    func write(_ line: @autoclosure () -> String) {
        guard let log else { return }
        let microseconds = "\(now / 1000 % 1_000_000)"
        log("\(now / 1_000_000_000).\(String(repeating: "0", count: 6 - microseconds.count))\(microseconds)  \(line())")
    }

    func count(_ what: String) { counts[what, default: 0] += 1 }

    /// - Returns: true when everything is over.
    private func handle(_ event: Event) throws(Violation) -> Bool {
        switch event {
        case .serverTick, .written, .up, .peerGone: try handleAtServer(event)
        case .startServer: try startServer()
        case .killServer: try inject(.crashServer(restartMilliseconds: 20 + random.next() % 1000))
        case .connectionReset(let connection):
            let worker = workers[connections[connection].worker]
            if worker.connection == connection { breakConnection(worker) }
        case .down(let connection): try deliverDown(connection)
        case .connect(let worker, let life), .workerTick(let worker, let life), .register(let worker, let life, _),
            .callDone(let worker, let life, _, _), .recalled(let worker, let life, _, _), .subworkerEnd(let worker, let life, _, _),
            .jobDone(let worker, let life, _), .fetchDone(let worker, let life, _), .aliasDone(let worker, let life, _), .writeDone(let worker, let life, _),
            .reserve(let worker, let life, _, _), .progress(let worker, let life, _, _), .spillDone(let worker, let life, _),
            .damage(let worker, let life, _), .again(let worker, let life, _):
            guard workers[worker].isAlive, workers[worker].life == life else { break }
            if workers[worker].frozenUntil > now {
                queue.add(event, at: workers[worker].frozenUntil)
            } else {
                trace.add(now)
                try handleAtWorker(event, workers[worker])
            }
        case .startWorker(let worker): try start(workers[worker])
        case .clientStep, .clientLeaseLost, .clientLease, .clientVanishes, .clientWithdraws: try handleAtClient(event)
        case .fault(let index): try inject(plan.faults[index].kind)
        case .watch: return try watch()
        }
        return false
    }

    /// Looks whether the run is over, or will never be.
    private func watch() throws(Violation) -> Bool {
        let isQuiet = now > lastFaultEnd && queueOfFaultsIsOver
        let areClientsDone = clients.allSatisfy { $0.isDone || $0.isVanished }
        if isQuiet, areClientsDone {
            if isDiskFull { return true }
            if try leftover() == nil { return true }
        }
        if now > lastFaultEnd + Self.hangNanoseconds {
            if let client = clients.first(where: { !$0.isDone && !$0.isVanished }) {
                throw Violation(.hang, "client \(client.index) waits at \(client.step.map { "\($0)" } ?? "its end")")
            }
            throw Violation(.leak, try leftover() ?? "")
        }
        queue.add(.watch, at: now + Self.watchNanoseconds)
        return false
    }

    private var queueOfFaultsIsOver: Bool { plan.faults.allSatisfy { now > 1_000_000_000 + $0.atMilliseconds * 1_000_000 } }

    /// What is left when nothing should be; `nil` when nothing is.
    private func leftover() throws(Violation) -> String? {
        if serverFrozenUntil > now || isServerDown { return "the server is away" }
        status = nil
        try send(.status(makeRequest(client: -1, .close)))
        guard let status else { return "the server's status waits for the journal" }
        if let session = status.sessions.first { return "session \(session.session) at the server" }
        for worker in status.workers where worker.runningCount != 0 || worker.queuedCount != 0 || worker.objectCount != 0 {
            return
                "worker \(worker.worker) at the server: \(worker.runningCount) running, \(worker.queuedCount) queued, \(worker.objectCount) objects"
        }
        guard claimedBlobs.isEmpty else { return "the depot keeps \(claimedBlobs.count) uploads" }
        guard journal.isIdle else { return "records that are not written" }
        for worker in workers {
            guard worker.isAlive, worker.frozenUntil <= now else { return "worker \(worker.index) is away" }
            if !worker.isEmpty { return "worker \(worker.index): \(worker.store.count) files, core empty: \(worker.core.isEmpty)" }
            if let process = worker.processes.first(where: { !$0.cached.isEmpty || !$0.queue.isEmpty }) {
                return "subworker \(process.id.rawValue) of worker \(worker.index): \(process.queue.count) calls, \(process.cached.count) values"
            }
            if !worker.traffic.isSettled { return "worker \(worker.index): batches that are not acknowledged" }
        }
        return nil
    }
}
