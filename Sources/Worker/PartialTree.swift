import Glibc
import Tar
import TaskModel

/// A directory that comes as its stream, and is unpacked as it comes.
struct PartialTree: ~Copyable, Sendable {
    private let store: Store
    private let sizeBytes: UInt64
    private var unpacker: TarUnpacker?
    /// There was no room in memory.
    private var mustBeOnDisk = false

    init(sizeBytes: UInt64, store: Store) throws(SystemError) {
        self.store = store
        self.sizeBytes = sizeBytes
        try restart()
    }

    mutating func restart() throws(SystemError) {
        unpacker = nil
        do throws(TreeError) {
            unpacker = TarUnpacker(into: try store.makeTree(sizeBytes: sizeBytes, onDisk: mustBeOnDisk))
        } catch { throw error.systemError }
    }

    mutating func append(_ bytes: UnsafeRawBufferPointer) -> PullFailure? {
        do throws(TreeError) {
            try unpacker?.append(bytes)
            return nil
        } catch {
            if case .system(let failure) = error, failure.code == ENOSPC, !mustBeOnDisk, store.disk != nil {
                mustBeOnDisk = true
                return PullFailure("sent a directory that has no room in memory", isWorthRepeating: true)
            }
            return failure(error)
        }
    }

    /// Moves the tree in.
    ///
    /// - Returns: whether it lies on disk.
    mutating func finish(as replica: Replica) -> Result<Bool, PullFailure> {
        guard let complete = unpacker.take() else { return .failure(PullFailure("was asked twice")) }
        do throws(TreeError) {
            let tree = try complete.finish()
            let isOnDisk = tree.isOnDisk
            try store.moveIn(tree, as: replica)
            return .success(isOnDisk)
        } catch {
            return .failure(failure(error))
        }
    }

    private func failure(_ error: TreeError) -> PullFailure {
        if let complaint = error.complaint { return PullFailure("sent what is no directory: \(complaint)") }
        return PullFailure("", system: error.systemError)
    }
}
