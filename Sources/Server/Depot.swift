import Glibc
import Logging
import NIOCore
import NIOPosix
import ServerCore
import Synchronization
import TaskModel
import Transport

/// What clients have uploaded: one file for each blob, named by its SHA-256.
///
/// A blob stays while a session needs it, while a submit that names it is on its way, and for a while after its upload, so that
/// the submit finds it. What no submit came for is removed later.
final class Depot: Sendable {
    /// From a client's question whether a blob is here to its submit.
    private static let graceNanoseconds: UInt64 = 60_000_000_000
    /// From an upload to the submit that names it.
    private static let unclaimedNanoseconds: UInt64 = 600_000_000_000
    private static let temporaryPrefix = "upload-"

    private struct Blob {
        var sizeBytes: UInt64
        var touched: Instant
        /// For transfers; worked out while it came, or when it is first asked for.
        var checksum: Checksum.Digest?
        /// A session has it.
        var isClaimed = false
        /// A session had it once.
        var wasClaimed = false
        /// Submits on their way that name it.
        var pinCount = 0
    }

    let directory: String
    /// For everything that touches the disk: two threads, for one disk gains nothing from more.
    let pool = NIOThreadPool(numberOfThreads: 2)
    private let blobs = Mutex<[BlobHash: Blob]>([:])
    /// How many uploads of each have their name and wait for the disk; no sweep takes it from them. Locked inside `blobs` alone.
    private let finishing = Mutex<[BlobHash: Int]>([:])
    private let lastUpload = Atomic<UInt64>(0)
    private let directorySync: DirectorySync
    private let logger: Logger

    /// Takes up the blobs of an earlier start: their sessions go on, or their submits may still come. What was half uploaded is removed.
    ///
    /// - Parameter fsync: of the directory.
    init(directory: String, logger: Logger, fsync: @escaping @Sendable (Int32) -> Int32 = Glibc.fsync) throws(ServerError) {
        self.directory = directory
        self.logger = logger
        try makePrivateDirectory(directory)
        let found = try Self.takeUp(directory)
        blobs.withLock { $0 = found }
        directorySync = try DirectorySync(path: directory, pool: pool, fsync: fsync)
        // A start that was killed may not have come so far with what is found here.
        if !found.isEmpty { try directorySync.syncNow() }
        pool.start()
    }

    private static func takeUp(_ directory: String) throws(ServerError) -> [BlobHash: Blob] {
        var found: [BlobHash: Blob] = [:]
        guard let stream = opendir(directory) else { throw .directory(path: directory, action: "read", reason: lastErrorText()) }
        defer { closedir(stream) }
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno == 0 { return found }
                throw .directory(path: directory, action: "read", reason: lastErrorText())
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            let path = directory + "/" + name
            if let hash = BlobHash(hex: name) {
                var status = stat()
                guard stat(path, &status) == 0 else { throw .directory(path: path, action: "use", reason: lastErrorText()) }
                found[hash] = Blob(sizeBytes: UInt64(status.st_size), touched: .now)
            } else if name.hasPrefix(temporaryPrefix), unlink(path) != 0, errno != ENOENT {
                throw .directory(path: path, action: "remove", reason: lastErrorText())
            }
        }
    }

    /// Sessions have these from the start on.
    ///
    /// - Returns: those that are missing.
    func claim(_ hashes: [BlobHash]) -> [BlobHash] {
        blobs.withLock { blobs in
            for hash in hashes where blobs[hash] != nil {
                blobs[hash]!.isClaimed = true
                blobs[hash]!.wasClaimed = true
            }
            return hashes.filter { blobs[$0] == nil }
        }
    }

    func stop() { pool.shutdownGracefully { _ in } }

    func path(of hash: BlobHash) -> String { directory + "/" + hash.description }

    // MARK: Who needs what

    /// - Returns: the blob's size; `nil` when it isn't here.
    func size(of hash: BlobHash) -> UInt64? {
        blobs.withLock { blobs in
            guard blobs[hash] != nil else { return nil }
            blobs[hash]!.touched = .now
            return blobs[hash]!.sizeBytes
        }
    }

    /// As `size`, and keeps the blob until `unpin`.
    func pin(_ hash: BlobHash) -> UInt64? {
        blobs.withLock { blobs in
            guard blobs[hash] != nil else { return nil }
            blobs[hash]!.touched = .now
            blobs[hash]!.pinCount += 1
            return blobs[hash]!.sizeBytes
        }
    }

    /// The submit was taken or refused.
    func unpin(_ hashes: [BlobHash]) {
        blobs.withLock { blobs in for hash in hashes where blobs[hash] != nil { blobs[hash]!.pinCount -= 1 } }
    }

    /// A session has it.
    func claim(_ hash: BlobHash) {
        blobs.withLock { blobs in
            blobs[hash]?.isClaimed = true
            blobs[hash]?.wasClaimed = true
        }
    }

    /// No session needs it any more. The next sweep removes it, unless somebody asks for it before.
    func release(_ hash: BlobHash) { blobs.withLock { $0[hash]?.isClaimed = false } }

    /// Removes what nobody needs; called every few seconds.
    func sweep() { pool.submit { [self] _ in removeUnneeded(now: .now) } }

    func removeUnneeded(now: Instant) {
        var removed: [String] = []
        // The lock is held over the rename, as it is over that of an upload: the same blob may be coming in again. Whoever asks for one must not
        // wait for large files to go: they go after that.
        blobs.withLock { blobs in
            for (hash, blob) in blobs where !blob.isClaimed && blob.pinCount == 0 {
                guard now.since(blob.touched) > (blob.wasClaimed ? Self.graceNanoseconds : Self.unclaimedNanoseconds),
                    finishing.withLock({ $0[hash] == nil })
                else { continue }
                let name = "\(directory)/\(Self.temporaryPrefix)removed-\(lastUpload.wrappingAdd(1, ordering: .relaxed).newValue)"
                if rename(path(of: hash), name) == 0 {
                    removed.append(name)
                } else if errno != ENOENT {
                    logger.warning("cannot remove \(path(of: hash)): \(lastErrorText())")
                }
                blobs[hash] = nil
            }
        }
        for name in removed where unlink(name) != 0 { logger.warning("cannot remove \(name): \(lastErrorText())") }
    }

    func checksum(of hash: BlobHash, in file: DepotFile) async throws(HTTPFailure) -> Checksum.Digest {
        if let known = blobs.withLock({ $0[hash]?.checksum }) { return known }
        return try await run { () throws(HTTPFailure) in
            let checksum = try file.checksum()
            self.blobs.withLock { $0[hash]?.checksum = checksum }
            return checksum
        }
    }

    // MARK: Uploads

    func beginUpload() async throws(HTTPFailure) -> BlobUpload {
        let number = lastUpload.wrappingAdd(1, ordering: .relaxed).newValue
        let path = "\(directory)/\(Self.temporaryPrefix)\(number)"
        return try await run { () throws(HTTPFailure) in try BlobUpload(path: path) }
    }

    /// Makes an upload durable under its name.
    func finish(_ upload: BlobUpload, as hash: BlobHash) async throws(HTTPFailure) {
        let (sizeBytes, checksum) = try await run { () throws(HTTPFailure) in
            let synced = try upload.sync(expecting: hash)
            try self.blobs.withLock { blobs throws(HTTPFailure) in
                guard rename(upload.path, self.path(of: hash)) == 0 else { throw .disk("store the blob in \(self.directory)", errno) }
                upload.isNamed = true
                // Another upload of the same bytes may have come first: then only the file is new, and no sweep takes it from now on.
                blobs[hash]?.touched = .now
                self.finishing.withLock { $0[hash, default: 0] += 1 }
            }
            return synced
        }
        var failure: HTTPFailure?
        do throws(HTTPFailure) { try await directorySync.sync() } catch { failure = error }
        // Only now: whoever asks for it meanwhile must not be told that it is here, for a submit that names it stands on that.
        blobs.withLock { blobs in
            finishing.withLock { finishing in finishing[hash] = finishing[hash].flatMap { $0 > 1 ? $0 - 1 : nil } }
            if failure != nil { return }
            if blobs[hash] == nil { blobs[hash] = Blob(sizeBytes: sizeBytes, touched: .now, checksum: checksum) }
            blobs[hash]?.touched = .now
        }
        if let failure { throw failure }
    }

    /// Runs what touches the disk, on a thread that may wait for it.
    func run<Value: Sendable>(_ body: @escaping @Sendable () throws(HTTPFailure) -> Value) async throws(HTTPFailure) -> Value {
        let result: Result<Value, HTTPFailure>
        do {
            result = try await pool.runIfActive {
                do throws(HTTPFailure) { return .success(try body()) } catch { return .failure(error) }
            }
        } catch { throw .stopping }
        return try result.get()
    }
}
