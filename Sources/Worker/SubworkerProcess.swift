import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

/// A subworker's process, its socket and its control page.
final class SubworkerProcess {
    /// What waits for an answer in one slot.
    struct Call {
        let attempt: AttemptID
        let template: TemplateEntry
        let firstOutput: UInt32
        let inputCount: Int
        /// Inputs that it could write to.
        var exposed: [WorkerShell.ExposedInput] = []
    }
    /// Bytes that go with descriptors, which travel with the first of them.
    struct Segment {
        var bytes: [UInt8]
        var sentBytes = 0
        var descriptors: [Int32]
    }

    let id: SubworkerID
    let command: SubworkerCommand
    let pid: pid_t
    let socket: Int32
    let page: ControlPage
    let log: Descriptor
    let logPath: String
    /// Below `staging`.
    let stagingName: String
    let staging: Descriptor
    /// The same on disk, from the first file on that has no room in memory; -1 before.
    private(set) var diskStaging: Int32 = -1

    var isRegistered = false
    var takesDescriptors = false
    var usesPage = false
    /// Answers whose directories are being accepted.
    var acceptingCount = 0
    var calls: [Call?] = Array(repeating: nil, count: ControlPage.slotCount)
    /// Where they are recorded for the parent.
    var block: Int?
    var received: [UInt8] = []
    var outgoing: ContiguousArray<Segment> = []
    var isUnsent = false
    var isWatchedForWriting = false
    var isSocketOpen = true
    /// Numbers of templates that it was told.
    private var templateNumbers: [TemplateID: UInt32] = [:]
    private var templateCount: UInt32 = 0
    /// Why it was ended, when that was our doing.
    var verdict: TaskError?

    init(
        id: SubworkerID, command: SubworkerCommand, pid: pid_t, socket: Int32, page: ControlPage, log: consuming Descriptor, logPath: String,
        stagingName: String, staging: consuming Descriptor
    ) {
        self.id = id
        self.command = command
        self.pid = pid
        self.socket = socket
        self.page = page
        self.log = log
        self.logPath = logPath
        self.stagingName = stagingName
        self.staging = staging
    }

    deinit {
        for segment in outgoing { for descriptor in segment.descriptors { _ = close(descriptor) } }
        if diskStaging >= 0 { _ = close(diskStaging) }
    }

    func makeStaging(on disk: StoreDisk) throws(SystemError) {
        guard diskStaging < 0 else { return }
        try check(rain_mkdirat(disk.staging, stagingName, 0o700), "make directory", stagingName)
        diskStaging = try check(rain_openat(disk.staging, stagingName, O_RDONLY | O_DIRECTORY, 0), "open", stagingName)
    }

    /// - Returns: its number, and whether it has to be told first.
    func number(of template: TemplateID) -> (number: UInt32, isNew: Bool) {
        if let number = templateNumbers[template] { return (number, false) }
        templateCount &+= 1
        templateNumbers[template] = templateCount
        return (templateCount, true)
    }

    /// What it leaves: the calls that are charged for its end, and those that had begun besides.
    func unansweredCalls() -> (running: SlotSet, begun: SlotSet) {
        var (running, atFault, done) = (SlotSet(), SlotSet(), SlotSet())
        for slot in 0..<UInt8(ControlPage.slotCount) where calls[Int(slot)] != nil {
            guard usesPage else {
                running.insert(slot)
                continue
            }
            switch page.state(Int(slot)) {
            case .running: running.insert(slot)
            case .atFault: atFault.insert(slot)
            case .done: done.insert(slot)
            case .free, .queued, .recalled: break
            }
        }
        return atFault.isEmpty ? (running, done) : (atFault, SlotSet(bits: running.bits | done.bits))
    }
    func forgetTemplates(of session: SessionID) { templateNumbers = templateNumbers.filter { $0.key.session != session } }

    /// Appends one message; those without descriptors ride behind the one before.
    func append(_ message: ToSubworker, descriptors: [Int32] = [], with codec: inout SubworkerCodec) throws(WireError) {
        let isNew = !descriptors.isEmpty || outgoing.isEmpty
        if isNew { outgoing.append(Segment(bytes: [], descriptors: descriptors)) }
        do throws(WireError) {
            try codec.encode(message, descriptorCount: UInt16(descriptors.count), into: &outgoing[outgoing.count - 1].bytes)
        } catch {
            if isNew { outgoing.removeLast() }
            for descriptor in descriptors { _ = close(descriptor) }
            throw error
        }
    }
}

/// The page that a worker shares with a subworker: one atomic word for each call slot. See include/subworker.capnp.
final class ControlPage {
    static let slotCount = 64
    static let sizeBytes = 4096
    private static let slotWords = 16
    enum State: UInt32 { case free = 0, queued, running, done, recalled, atFault }

    let descriptor: Descriptor
    private let words: UnsafeMutablePointer<UInt32>
    private var nextTicket: UInt32 = 0

    init() throws(SystemError) {
        descriptor = Descriptor(try check(rain_memfd("rain-control-page"), "memfd_create"))
        // Reserved now: a full memory must be met here and not as a fault at the first write.
        try check(rain_fallocate(descriptor.raw, Int64(Self.sizeBytes)), "reserve a control page")
        guard let memory = rain_map_shared(descriptor.raw, Self.sizeBytes) else { throw SystemError("mmap", code: errno) }
        words = memory.bindMemory(to: UInt32.self, capacity: Self.sizeBytes / 4)
    }
    deinit { munmap(words, Self.sizeBytes) }

    private func word(_ slot: Int) -> UnsafeMutablePointer<UInt32> { words + slot * Self.slotWords }
    /// A value that is no state (only a broken subworker writes one) counts as running: it is charged.
    func state(_ slot: Int) -> State { State(rawValue: rain_load(word(slot))) ?? .running }

    /// Readies a slot for a call.
    /// - Returns: the ticket to put into the call; never 0.
    func queue(_ slot: Int) -> UInt32 {
        nextTicket = nextTicket == .max ? 1 : nextTicket + 1
        for offset in 1...3 { rain_store(word(slot) + offset, 0) }
        rain_store(word(slot) + 4, nextTicket)
        rain_store(word(slot), State.queued.rawValue)
        return nextTicket
    }
    /// - Returns: whether it had not begun.
    func recall(_ slot: Int) -> Bool { rain_exchange(word(slot), State.queued.rawValue, State.recalled.rawValue) }
    func free(_ slot: Int) { rain_store(word(slot), State.free.rawValue) }
    /// Asks the call that runs there to stop.
    func cancel(_ slot: Int) { rain_store(word(slot) + 1, 1) }
}
