import Glibc
import Synchronization
import TaskModel
import Transport
import WorkerCore

/// An object on its way into the store. It outlives the connection that brings it: another holder of the same generation goes on where
/// one broke off, and the checksum covers all of it.
final class PartialObject: Sendable {
    private struct State: ~Copyable {
        var file: NewFile?
        /// Instead of the file, for a directory.
        var tree: PartialTree?
        var receivedBytes: UInt64 = 0
        var checksum = Checksum()
        /// Who has brought some of it.
        var sources: [String] = []
    }
    private let state: Mutex<State>
    private let input: InputAssignment
    private let store: Store

    init(_ input: InputAssignment, store: Store) throws(SystemError) {
        self.input = input
        self.store = store
        if input.isDirectory {
            let tree = try PartialTree(sizeBytes: input.sizeBytes, store: store)
            state = Mutex(State(tree: tree))
        } else {
            let file = try store.makeFile(sizeBytes: input.sizeBytes)
            state = Mutex(State(file: file))
        }
    }

    var receivedBytes: UInt64 { state.withLock { $0.receivedBytes } }

    /// From the first byte again.
    func restart() -> PullFailure? {
        state.withLock { state in
            if let file = state.file?.descriptor.raw, lseek(file, 0, SEEK_SET) < 0 { return PullFailure("", system: SystemError("lseek", code: errno)) }
            do throws(SystemError) { try state.tree?.restart() } catch { return PullFailure("", system: error) }
            state.receivedBytes = 0
            state.checksum = Checksum()
            state.sources = []
            return nil
        }
    }

    /// Nobody will go on with it.
    func discard() {
        state.withLock { state in
            state.file = nil
            state.tree = nil
        }
    }

    func append(_ bytes: UnsafeRawBufferPointer, from source: String) -> PullFailure? {
        state.withLock { state in
            let (count, overflow) = state.receivedBytes.addingReportingOverflow(UInt64(bytes.count))
            guard !overflow, count <= input.sizeBytes else { return PullFailure("sends more than the \(input.sizeBytes) bytes that the object has") }
            state.receivedBytes = count
            if state.sources.last != source { state.sources.append(source) }
            state.checksum.update(bytes)
            if input.isDirectory {
                guard let failure = state.tree?.append(bytes) else { return nil }
                // What was made of it can't be gone on with.
                do throws(SystemError) { try state.tree?.restart() } catch { return PullFailure("", system: error) }
                state.receivedBytes = 0
                state.checksum = Checksum()
                state.sources = []
                return failure
            }
            do throws(SystemError) { try state.file?.descriptor.writeAll(bytes) } catch { return PullFailure("", system: error) }
            return nil
        }
    }

    /// All has come: checks it and moves it in. What is wrong is thrown away, so that nothing of it is built upon.
    ///
    /// - Parameter said: the checksum, as the holder says.
    func finish(said: Checksum.Digest) -> Result<(result: FetchResult, digest: Checksum.Digest), PullFailure> {
        let (digest, received, sources) = state.withLock { ($0.checksum.digest, $0.receivedBytes, $0.sources) }
        guard received == input.sizeBytes else {
            if let failure = restart() { return .failure(failure) }
            return .failure(PullFailure("sent the end after \(received) bytes of the \(input.sizeBytes) that the object has"))
        }
        guard digest == said else {
            if let failure = restart() { return .failure(failure) }
            let others = sources.count > 1 ? " (together with \(sources.dropLast().joined(separator: ", ")))" : ""
            return .failure(
                PullFailure("sent \(received) bytes\(others) whose checksum is \(digest) and should be \(said)", isWorthRepeating: sources.count > 1))
        }
        return state.withLock { state in
            if input.isDirectory {
                return (state.tree?.finish(as: input.replica) ?? .failure(PullFailure("was asked twice")))
                    .map { (.stored(sizeBytes: received, isOnDisk: $0), digest) }
            }
            guard var file = state.file.take() else { return .failure(PullFailure("was asked twice")) }
            do throws(SystemError) {
                if received <= UInt64(ControlLimits.inlineBytesMax) { return .success((.inline(try file.descriptor.read(count: Int(received))), digest)) }
                let isOnDisk = file.isOnDisk
                try store.moveIn(&file, as: input.replica)
                return .success((.stored(sizeBytes: received, isOnDisk: isOnDisk), digest))
            } catch {
                return .failure(PullFailure("", system: error))
            }
        }
    }
}
