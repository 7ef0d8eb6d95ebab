import TaskModel

/// The processes of one command, warm between tasks and shared by sessions; those of a session's program end with it.
struct SubworkerPool: TableRow {
    /// So many processes in a row that did no work fail what waits for them.
    static let failureCountMax = 3

    private(set) var command: SubworkerCommand
    /// Whose program it is; `nil` when it belongs to none.
    let session: SessionHandle?
    /// Calls that each process was started to run at once: above 1 they are to share one, so a process is filled before another is used.
    let threads: Int
    var members: ContiguousArray<SubworkerHandle> = []
    var startingCount = 0
    /// Where the program that its session brought along was copied to; `nil` before the first process.
    var isProgramOnDisk: Bool?
    /// What that takes in memory.
    var programBytes: UInt64 = 0
    /// Ready attempts in its lanes.
    var readyCount = 0
    /// Lanes that lead here; without any, and without members, the pool goes.
    var laneCount = 0
    var failuresInRow = 0
    /// What the last process that registered can do.
    private(set) var tasks: [String] = []
    /// Counted up whenever that changes; 0 until the first one has registered.
    private(set) var registration: UInt32 = 0

    init(command: SubworkerCommand, session: SessionHandle?, threads: Int) {
        self.command = command
        self.session = session
        self.threads = max(threads, 1)
    }

    mutating func vacate() {
        command = SubworkerCommand(name: "", arguments: [])
        members = []
        tasks = []
    }

    var hasRegistered: Bool { registration > 0 }

    mutating func registered(tasks: [String]) {
        if hasRegistered, tasks == self.tasks { return }
        self.tasks = tasks
        registration &+= 1
    }

    func runs(_ method: String) -> Bool { tasks.contains(method) || tasks.contains("") }

    /// One of its processes ended without having done anything.
    ///
    /// - Returns: whether what waits for the pool fails now. One that never registered is most likely set up wrongly.
    mutating func failed() -> Bool {
        failuresInRow += 1
        guard !hasRegistered || failuresInRow >= Self.failureCountMax else { return false }
        failuresInRow = 0
        return true
    }
}
