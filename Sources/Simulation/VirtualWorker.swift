import Link
import TaskModel
import WorkerCore

/// A worker's machine: the real core, and around it a store, subworkers and jobs that exist only as values.
final class VirtualWorker {
    struct Process {
        let id: SubworkerID
        /// Whose program it runs; `nil` when it belongs to none.
        let session: SessionID?
        var capabilities: SubworkerCapabilities?
        /// Calls without an answer, in order; the first `threads` of them run.
        var queue: [Call] = []
        var cached: [Replica: Content] = [:]
        var isEnding = false
        /// When the last answer to a recall comes: they come in order.
        var recalledAt: UInt64 = 0
        /// What it has for itself; the first that was measured is what it may have.
        var memoryBytes: UInt64 = 0
        var firstMemoryBytes: UInt64?
        /// It was measured to have more than it may.
        var isWornOut = false
        /// Numbers of its files.
        var fileCount: UInt32 = 0
        var threads: Int { Int(max(capabilities?.threads ?? 1, 1)) }
    }
    struct Call {
        let request: CallRequest
        let serial: UInt64
        /// Of each input that has one.
        let inputFiles: [Int?]
        /// What the process remembered when it came to the call.
        var remembered: [Replica: Content] = [:]
        /// What it was told to forget behind the call and before the next: messages are taken in their order.
        var forgetting: [Replica] = []
        var begunAt: UInt64?
        /// It was asked to stop, and heeds that.
        var isCancelled = false
        /// Files that it asked room for, and where they may go.
        var files: [(number: UInt32, grant: Grant?)] = []
        /// It is done but for its files.
        var isHeldUp = false
        var hasItsRoom: Bool { files.allSatisfy { $0.grant != nil } }
    }
    struct Job {
        let token: JobToken
        let request: JobRequest
        let inputFiles: [Int?]
        let begunAt: UInt64
        var isStopped = false
    }

    static let memoryGrowthBytesMax: UInt64 = 1000

    let index: Int
    let cpus: UInt32
    let offers: [String]
    /// Counts its processes; what was started in an earlier life is not heard any more.
    var life = 0
    /// How its last process ended, and what that ran.
    var predecessor: Predecessor?
    var isAlive = false
    var core: WorkerCore
    var frozenUntil: UInt64 = 0
    var partitionedUpUntil: UInt64 = 0
    var partitionedDownUntil: UInt64 = 0
    var dataPartitionedUntil: UInt64 = 0
    var connection: Int?
    var tickAt: UInt64?

    let neverHandsOver: Bool
    let storePlan: Plan.StorePlan
    var store: VirtualStore
    /// Of the templates that were defined, in order.
    var definitions: ContiguousArray<SessionID> = []
    var processes: [Process] = []
    var jobs: [Job] = []
    var fetches: [(token: FetchToken, input: InputAssignment)] = []
    var aliases: [(token: AliasToken, from: Replica, to: Replica, file: Int?)] = []
    /// Files that the core is told of with the next event, as somebody wrote to them.
    var damagedFiles: [Int] = []
    /// Copies of programs that sessions brought along, with what they take in memory.
    var programs: [(session: SessionID, name: String, bytes: UInt64)] = []
    var writes: [(token: WriteToken, files: [FileToWrite])] = []
    var traffic = Traffic()
    /// Of the server that last welcomed it, as far as it has heard.
    var heardEpoch: ServerEpoch?

    /// What went over the Link, to hold the acknowledgements against the journal.
    struct Traffic {
        var epoch: ServerEpoch?
        var worker: WorkerID?
        /// Attempts whose outcomes a batch carried, by sequence; index 0 is unused.
        var outcomes: [[AttemptID]] = [[]]
        var acknowledged = 0
        var sentDown: UInt64 = 0
        var acknowledgedDown: UInt64 = 0
        var isSettled: Bool { acknowledged == outcomes.count - 1 && acknowledgedDown == sentDown }
    }

    init(index: Int, cpus: UInt32, offers: [String], neverHandsOver: Bool, store storePlan: Plan.StorePlan) {
        self.index = index
        self.cpus = cpus
        self.offers = offers
        self.neverHandsOver = neverHandsOver
        self.storePlan = storePlan
        store = VirtualStore(memoryBytes: storePlan.memoryBytes, diskBytes: storePlan.diskBytes)
        core = Self.makeCore(index: index, life: 0, cpus: cpus, offers, storePlan)
    }

    private static func makeCore(
        index: Int, life: Int, cpus: UInt32, _ offers: [String], predecessor: Predecessor? = nil, _ storePlan: Plan.StorePlan
    ) -> WorkerCore {
        let description = WorkerDescription(
            hostName: "host\(index)", processID: UInt32(life + 1), cpus: cpus, dataEndpoint: endpoint(index: index, life: life), store: "virtual",
            subworkers: offers.filter { $0.contains("/") })
        let commands = offers.filter { !$0.contains("/") } + ["ffi"]
        var core = WorkerCore(
            description: description, incarnation: UInt64(index + 1) << 32 | UInt64(life), place: storePlan.hasPlace ? UInt64(index + 1) : 0,
            predecessor: predecessor, subworkers: commands.map { command($0) })
        core.storeMemoryBytes = storePlan.memoryBytes
        core.runsProgramsInMemory = !storePlan.isNoExec
        if let resultBytesMax = storePlan.resultBytesMax { core.resultBytesMax = resultBytesMax }
        core.memoryGrowthBytesMax = memoryGrowthBytesMax
        return core
    }

    private static func command(_ name: String) -> SubworkerCommand {
        var command = SubworkerCommand(name: name, arguments: [name])
        // Calls of some templates share a process.
        command.threadsByMethod = name == "ffi" ? ["d/f": 2, "e/f": 2] : [:]
        return command
    }

    static func endpoint(index: Int, life: Int) -> Endpoint { Endpoint(host: "host\(index)", port: UInt16(truncatingIfNeeded: life + 1)) }
    var endpoint: Endpoint { Self.endpoint(index: index, life: life) }

    func start() {
        life += 1
        isAlive = true
        core = Self.makeCore(index: index, life: life, cpus: cpus, offers, predecessor: predecessor, storePlan)
    }

    /// Everything of the process is gone, and with it whatever it had started.
    func die() {
        isAlive = false
        let running = jobs.map(\.request.attempt) + processes.flatMap { $0.queue.map(\.request.job.attempt) }
        predecessor = storePlan.hasPlace ? Predecessor(end: "signal 9", running: running) : nil
        connection = nil
        tickAt = nil
        store = VirtualStore(memoryBytes: storePlan.memoryBytes, diskBytes: storePlan.diskBytes)
        definitions = []
        processes = []
        jobs = []
        fetches = []
        aliases = []
        writes = []
        programs = []
        traffic = Traffic()
        heardEpoch = nil
    }

    var runsProgramsInMemory: Bool { core.runsProgramsInMemory }

    func processIndex(_ id: SubworkerID) -> Int? { processes.firstIndex { $0.id == id } }

    /// Nothing of any session is left.
    var isEmpty: Bool {
        core.isEmpty && store.isEmpty && jobs.isEmpty && fetches.isEmpty && aliases.isEmpty && writes.isEmpty && programs.isEmpty && store.usedInMemory == 0
            && definitions.isEmpty
    }

    /// What runs, or waits in a process, and has the replica's file as an input. One to which somebody wrote, or may have, is everybody's to throw away.
    func isInUse(_ replica: Replica) -> AttemptID? {
        guard let file = store.file(of: replica), !store.isSuspect(file) else { return nil }
        // Under this name: it may have others.
        func uses(_ job: JobRequest, _ files: [Int?]) -> Bool { zip(job.inputs, files).contains { $0.replica == replica && $1 == file } }
        for job in jobs where uses(job.request, job.inputFiles) { return job.request.attempt }
        for process in processes {
            for call in process.queue where uses(call.request.job, call.inputFiles) { return call.request.job.attempt }
        }
        return nil
    }

    func inputFiles(_ job: JobRequest) -> [Int?] { job.inputs.map { $0.value == .stored ? store.file(of: $0.replica) : nil } }
}
