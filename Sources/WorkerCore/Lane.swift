/// Ready attempts that need the same to run: the same kind of process and as many CPUs. First in, first out.
struct Lane: TableRow {
    enum Runner: Equatable, Sendable {
        /// The worker itself: built-ins and programs.
        case jobs
        case subworkers(PoolHandle)
    }
    /// After so many younger attempts have gone past a head that does not fit, CPUs are kept free for it.
    static let passCountMax = 64

    let runner: Runner
    let cpus: UInt32
    /// With attempts that are gone by now; they are passed over.
    var queue = Queue<AttemptHandle>()
    /// Attempts that are really ready.
    var readyCount = 0
    var passCount = 0
    /// Templates that lead here; without any the lane goes.
    var templateCount = 0
    /// The round in which its head was found not to fit.
    var blockedRound: UInt64 = 0
    /// The sequence of its head, valid while `isHeadKnown`.
    var headSequence: UInt64 = 0
    var isHeadKnown = false
    var isListed = false

    init(runner: Runner, cpus: UInt32) {
        self.runner = runner
        self.cpus = cpus
    }

    mutating func vacate() { queue.removeAll() }
}
