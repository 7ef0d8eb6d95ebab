/// Who may run now: the worker's CPUs, and how many of them are occupied.
struct CPULedger: Sendable {
    /// Tasks that ask for no CPU only wait for something, but each is a process or a thread: so many at once.
    static let weightlessCountMax = 64

    let capacity: UInt32
    private(set) var occupied: UInt32 = 0
    private(set) var weightlessCount = 0

    init(capacity: UInt32) { self.capacity = capacity }

    var free: UInt32 { capacity - occupied }

    func fits(_ cpus: UInt32) -> Bool {
        cpus == 0 ? weightlessCount < Self.weightlessCountMax : cpus <= free
    }

    /// How many more tasks of so many CPUs could run now.
    func roomCount(_ cpus: UInt32) -> Int {
        cpus == 0 ? Self.weightlessCountMax - weightlessCount : Int(free / cpus)
    }

    mutating func acquire(_ cpus: UInt32) {
        precondition(fits(cpus), "more CPUs are given out than the worker has")
        if cpus == 0 { weightlessCount += 1 } else { occupied += cpus }
    }

    mutating func release(_ cpus: UInt32) {
        if cpus == 0 {
            precondition(weightlessCount > 0, "a task gives back what it never had")
            weightlessCount -= 1
        } else {
            precondition(cpus <= occupied, "a task gives back more CPUs than are occupied")
            occupied -= cpus
        }
    }
}
