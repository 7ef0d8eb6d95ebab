import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TaskModel
import Transport

/// The checksums of objects of this worker, each worked out once: while it came from elsewhere, or when it is first asked for.
final class ChecksumTable: Sendable {
    /// Some 10 MB. Beyond, all are forgotten: each can be worked out again.
    private static let countMax = 100_000

    private enum Entry {
        case known(Checksum.Digest)
        case computing([EventLoopPromise<Checksum.Digest>])
    }
    private let entries = Mutex<[Replica: Entry]>([:])
    /// How many files were read for it.
    let computedCount = Atomic<UInt64>(0)

    func known(_ replica: Replica) -> Checksum.Digest? {
        entries.withLock { entries in
            guard case .known(let digest)? = entries[replica] else { return nil }
            return digest
        }
    }

    func set(_ digest: Checksum.Digest, of replica: Replica) {
        let waiting = entries.withLock { entries -> [EventLoopPromise<Checksum.Digest>] in
            let before = entries[replica]
            if before == nil, entries.count >= Self.countMax {
                entries = entries.filter { if case .computing = $0.value { true } else { false } }
            }
            entries[replica] = .known(digest)
            guard case .computing(let promises)? = before else { return [] }
            return promises
        }
        for promise in waiting { promise.succeed(digest) }
    }

    /// They are gone, or will be.
    func remove(_ replicas: [Replica]) {
        entries.withLock { entries in
            for replica in replicas { if case .known? = entries[replica] { entries[replica] = nil } }
        }
    }

    func remove(_ session: SessionID) {
        entries.withLock { entries in
            entries = entries.filter {
                if case .computing = $0.value { return true }
                return $0.key.object.session != session
            }
        }
    }

    /// - Parameter file: the replica's; read on a thread that may wait for the disk, while this table keeps it open.
    func digest(of replica: Replica, in file: SharedFile, on loop: any EventLoop) -> EventLoopFuture<Checksum.Digest> {
        let promise = loop.makePromise(of: Checksum.Digest.self)
        enum Next { case answer(Checksum.Digest), wait, compute }
        let next = entries.withLock { entries -> Next in
            switch entries[replica] {
            case .known(let digest): return .answer(digest)
            case .computing(let others):
                entries[replica] = .computing(others + [promise])
                return .wait
            case nil:
                entries[replica] = .computing([promise])
                return .compute
            }
        }
        switch next {
        case .answer(let digest): promise.succeed(digest)
        case .wait: break
        case .compute:
            computedCount.add(1, ordering: .relaxed)
            NIOThreadPool.singleton.submit { [self] state in
                guard case .active = state else { return fail(replica, ChannelError.ioOnClosedChannel) }
                do { set(try Checksum.ofFile(file.raw), of: replica) } catch { fail(replica, error) }
            }
        }
        return promise.futureResult
    }

    private func fail(_ replica: Replica, _ error: any Error) {
        let waiting = entries.withLock { entries -> [EventLoopPromise<Checksum.Digest>] in
            guard case .computing(let promises)? = entries[replica] else { return [] }
            entries[replica] = nil
            return promises
        }
        for promise in waiting { promise.fail(error) }
    }
}

/// An open file that several threads read, by offset; closed when the last has done with it.
final class SharedFile: Sendable {
    private let descriptor: Descriptor
    var raw: Int32 { descriptor.raw }
    init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}
