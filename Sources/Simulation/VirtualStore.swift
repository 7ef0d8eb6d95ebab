import TaskModel

/// The files of a virtual worker: names for bytes that lie in memory or on disk, each of which holds so much.
struct VirtualStore {
    enum Tier: Equatable { case memory, disk }
    private struct File {
        let content: Content
        var tier: Tier
        /// Names of the same bytes in the same tier share it.
        var number: Int
        let bytes: UInt64
    }

    /// Of a file, but for the small ones.
    static let fileBytes: UInt64 = 10_000

    let memoryBytes: UInt64?
    let diskBytes: UInt64?
    private var fileOfReplica: [Replica: File] = [:]
    /// How many names a file has, by its number; 0 when it is gone.
    private var nameCounts: ContiguousArray<Int> = []
    /// By its number, whether somebody wrote to it.
    private var isWrittenTo: ContiguousArray<Bool> = []
    /// By its number, the file of which it is a copy, or itself.
    private var originals: ContiguousArray<Int> = []
    private var damagedOriginals: Set<Int> = []
    private(set) var usedInMemory: UInt64 = 0
    private(set) var usedOnDisk: UInt64 = 0

    init(memoryBytes: UInt64?, diskBytes: UInt64?) {
        self.memoryBytes = memoryBytes
        self.diskBytes = diskBytes
    }

    var isEmpty: Bool { fileOfReplica.isEmpty }
    var count: Int { fileOfReplica.count }
    subscript(replica: Replica) -> Content? { fileOfReplica[replica]?.content }
    /// The number of its file, which keeps it when its names are gone.
    func file(of replica: Replica) -> Int? { fileOfReplica[replica]?.number }
    func isDamaged(_ file: Int?) -> Bool { file.map { isWrittenTo[$0] } ?? false }
    func hasOtherNames(_ file: Int) -> Bool { nameCounts[file] > 1 }
    mutating func write(to file: Int) {
        isWrittenTo[file] = true
        damagedOriginals.insert(originals[file])
    }
    /// Whether it is damaged, or a copy of what is, or the other way round: nobody knows what came first.
    func isSuspect(_ file: Int) -> Bool { damagedOriginals.contains(originals[file]) }
    func hasNames(_ file: Int) -> Bool { nameCounts[file] > 0 }
    func isOnDisk(_ replica: Replica) -> Bool { fileOfReplica[replica]?.tier == .disk }

    private func hasRoom(_ tier: Tier, for bytes: UInt64) -> Bool {
        switch tier {
        case .memory: memoryBytes.map { usedInMemory + bytes <= $0 } ?? true
        case .disk: diskBytes.map { usedOnDisk + bytes <= $0 } ?? true
        }
    }

    private mutating func makeFile(_ tier: Tier, _ bytes: UInt64, copyOf original: Int? = nil) -> Int {
        switch tier {
        case .memory: usedInMemory += bytes
        case .disk: usedOnDisk += bytes
        }
        nameCounts.append(1)
        isWrittenTo.append(false)
        originals.append(original.map { originals[$0] } ?? originals.count)
        return nameCounts.count - 1
    }

    private mutating func releaseName(_ file: File) {
        nameCounts[file.number] -= 1
        guard nameCounts[file.number] == 0 else { return }
        switch file.tier {
        case .memory: usedInMemory -= file.bytes
        case .disk: usedOnDisk -= file.bytes
        }
    }

    /// A copy of a program, which no replica names.
    ///
    /// - Returns: whether memory had room.
    mutating func addProgram(_ bytes: UInt64) -> Bool {
        guard hasRoom(.memory, for: bytes) else { return false }
        usedInMemory += bytes
        return true
    }
    mutating func removeProgram(_ bytes: UInt64) { usedInMemory -= bytes }

    /// - Returns: whether there was room.
    mutating func insert(_ replica: Replica, _ content: Content, _ tier: Tier, bytes: UInt64 = fileBytes) -> Bool {
        guard hasRoom(tier, for: bytes) else { return false }
        if let old = fileOfReplica[replica] { releaseName(old) }
        fileOfReplica[replica] = File(content: content, tier: tier, number: makeFile(tier, bytes), bytes: bytes)
        return true
    }

    /// A second name costs nothing. The first must be there.
    mutating func alias(_ from: Replica, _ to: Replica) {
        guard let file = fileOfReplica[from] else { preconditionFailure("\(from) is not here") }
        nameCounts[file.number] += 1
        fileOfReplica[to] = file
    }

    /// - Returns: whether it was there.
    mutating func remove(_ replica: Replica) -> Bool {
        guard let file = fileOfReplica.removeValue(forKey: replica) else { return false }
        releaseName(file)
        return true
    }

    /// - Returns: whether the file lies on disk now.
    mutating func spill(_ replica: Replica) -> Bool {
        guard let file = fileOfReplica[replica] else { return false }
        if file.tier == .disk { return true }
        // Its copy would look as if nobody had written to it.
        guard !isDamaged(file.number), hasRoom(.disk, for: file.bytes) else { return false }
        fileOfReplica[replica] = File(content: file.content, tier: .disk, number: makeFile(.disk, file.bytes, copyOf: file.number), bytes: file.bytes)
        releaseName(file)
        return true
    }
}
