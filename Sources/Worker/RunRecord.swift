import CLinux
import Glibc
import TaskModel
import WorkerCore

/// What a worker's process runs, in memory that outlives it: its parent reads there what ran when it died.
///
/// An entry is four numbers in a row of slots, written with plain stores before the task can begin: no system call, and nothing to be
/// flushed. It belongs to the loop's thread; the parent reads when the process is gone.
final class RunRecord {
    /// The number under which the process inherits the memory.
    static let descriptor: Int32 = 5

    // Calls, by subworker and slot, then jobs. Only pages that were written to take memory. What finds no place is not recorded.
    private static let blockCount = 1024
    private static let blockSlots = ControlPage.slotCount
    private static let jobCount = 8192
    private static let wordsEach = 4
    private static let entryCount = blockCount * blockSlots + jobCount
    static let sizeBytes = entryCount * wordsEach * 4

    private let words: UnsafeMutablePointer<UInt32>
    private var freeBlocks: ContiguousArray<Int> = []
    private var blockEnd = 0
    private var freeJobs: ContiguousArray<Int> = []
    private var jobEnd = 0
    private var jobPlaces: [JobToken: Int] = [:]

    /// - Parameter descriptor: of the parent's memory, of which nothing is in use.
    init(descriptor: Int32) throws(SystemError) {
        guard let memory = rain_map_shared(descriptor, Self.sizeBytes) else { throw SystemError("mmap", code: errno) }
        words = memory.bindMemory(to: UInt32.self, capacity: Self.sizeBytes / 4)
    }
    deinit { munmap(words, Self.sizeBytes) }

    /// A place for a subworker's calls; `nil` when there are too many of them.
    func takeBlock() -> Int? {
        if let block = freeBlocks.popLast() { return block }
        guard blockEnd < Self.blockCount else { return nil }
        blockEnd += 1
        return blockEnd - 1
    }

    func freeBlock(_ block: Int?) {
        guard let block else { return }
        for slot in 0..<Self.blockSlots { clear(block * Self.blockSlots + slot) }
        freeBlocks.append(block)
    }

    func begin(_ attempt: AttemptID, block: Int?, slot: Int) {
        if let block { write(attempt, block * Self.blockSlots + slot) }
    }
    func end(block: Int?, slot: Int) { if let block { clear(block * Self.blockSlots + slot) } }

    func begin(_ attempt: AttemptID, job: JobToken) {
        var place = freeJobs.popLast()
        if place == nil, jobEnd < Self.jobCount {
            place = jobEnd
            jobEnd += 1
        }
        guard let place else { return }
        jobPlaces[job] = place
        write(attempt, Self.blockCount * Self.blockSlots + place)
    }

    func end(job: JobToken) {
        guard let place = jobPlaces.removeValue(forKey: job) else { return }
        clear(Self.blockCount * Self.blockSlots + place)
        freeJobs.append(place)
    }

    private func write(_ attempt: AttemptID, _ entry: Int) {
        let place = words + entry * Self.wordsEach
        place[1] = attempt.task.session.rawValue
        place[2] = attempt.task.index
        place[3] = attempt.number
        // The last one: no epoch is 0.
        rain_store(place, attempt.epoch.rawValue)
    }

    private func clear(_ entry: Int) { rain_store(words + entry * Self.wordsEach, 0) }

    // MARK: The parent's side

    /// Memory for a record, without entries.
    static func make() throws(SystemError) -> Descriptor {
        let descriptor = Descriptor(try check(rain_memfd("rain-run-record"), "memfd_create"))
        try check(ftruncate(descriptor.raw, sizeBytes) == 0 ? 0 : -errno, "ftruncate")
        return descriptor
    }

    /// What the process ran that is gone; the record is empty then.
    ///
    /// By reading, since a look at memory that nobody wrote to would take it.
    static func take(_ descriptor: Int32) -> [AttemptID] {
        var attempts: [AttemptID] = []
        var buffer = [UInt32](repeating: 0, count: 64 * 1024)
        var offset = 0
        while offset < sizeBytes {
            let count = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, offset) }
            guard count > 0 else { break }
            for entry in stride(from: 0, to: count / 4, by: wordsEach) where buffer[entry] != 0 {
                attempts.append(
                    AttemptID(
                        task: TaskID(session: SessionID(buffer[entry + 1]), index: buffer[entry + 2]), epoch: ServerEpoch(buffer[entry]),
                        number: buffer[entry + 3]))
            }
            offset += count
        }
        if ftruncate(descriptor, 0) == 0 { _ = ftruncate(descriptor, sizeBytes) }
        return attempts
    }
}
