import CLinux
import Glibc
import TaskModel
import WorkerCore

/// Why a file can't become an object.
enum AcceptanceError: Error, Equatable, Sendable {
    case missing
    case directory
    /// A file where a directory was declared.
    case notADirectory
    /// A directory with something that an object can't have.
    case tree(TreeError)
    /// A link to somewhere else, or a file with a second name: its bytes must be copied.
    case needsCopy
    case notAFile
    case stillWritten
    case system(SystemError)
}

extension Store {
    /// Copies of at least this size stay off the loop.
    static let longCopyBytes: UInt64 = 1 << 20

    /// Small files are read while those of their task together have no more than this: an outcome has not much more room.
    private static let readBytesMax = 8 << 20

    /// How large a file of a task may be to be read, and its file to go, when those before it are these.
    static func inlineBytesMax(after readBytes: Int) -> Int { readBytes <= readBytesMax ? ControlLimits.inlineBytesMax : 0 }

    /// Makes an output file an object: nobody writes to it any more, it is sealed by its mode, and moved in. Small ones are read.
    ///
    /// The lease is asked for after the mode is set: from then on nobody can open the file for writing, short of its owner's chmod.
    /// - Parameters:
    ///   - onDisk: whether the directory lies there; else it is in memory.
    ///   - inlineBytesMax: what is larger stays a file.
    ///   - mayCopyLong: `false` on the loop: then `needsCopy` is thrown for what would take long.
    func accept(
        _ name: String, in directory: Int32, as replica: Replica, onDisk: Bool = false, inlineBytesMax: Int = ControlLimits.inlineBytesMax, mayCopyLong: Bool
    ) throws(AcceptanceError) -> LocalOutput.Value {
        var status = stat()
        guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            throw errno == ENOENT || errno == ENOTDIR ? .missing : .system(SystemError("look at", name, code: errno))
        }
        if status.isLink || !isPlain(name, in: directory) {
            return try acceptByCopy(name, in: directory, as: replica, mayCopyLong: mayCopyLong)
        }
        if status.isDirectory { throw .directory }
        guard status.isRegular else { throw .notAFile }
        if status.st_nlink > 1 || status.st_uid != geteuid() {
            return try acceptByCopy(name, in: directory, as: replica, mayCopyLong: mayCopyLong)
        }
        do throws(SystemError) {
            if status.st_mode & 0o7777 != 0o444, fchmodat(directory, name, 0o444, 0) != 0 { throw SystemError("change the mode of", name, code: errno) }
            let file = try Descriptor.open(name, in: directory, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            let now = try file.status()
            guard now.st_ino == status.st_ino, now.isRegular else { throw SystemError("open", name, code: ESTALE) }
            if rain_has_no_writer(file.raw) == 0 { throw SystemError("", code: ETXTBSY) }
            if now.sizeBytes <= UInt64(inlineBytesMax) {
                let bytes = try file.read(count: Int(now.sizeBytes))
                _ = unlinkat(directory, name, 0)
                return .inline(bytes)
            }
            try moveIn(name, from: directory, as: replica, onDisk: onDisk)
            return .stored(sizeBytes: now.sizeBytes, isOnDisk: onDisk)
        } catch {
            throw error.code == ETXTBSY ? .stillWritten : .system(error)
        }
    }

    private func acceptByCopy(_ name: String, in directory: Int32, as replica: Replica, mayCopyLong: Bool) throws(AcceptanceError) -> LocalOutput.Value {
        do throws(SystemError) {
            let file = try Descriptor.open(name, in: directory, O_RDONLY | O_NONBLOCK)
            let status = try file.status()
            if status.isDirectory { throw SystemError("", code: EISDIR) }
            guard status.isRegular else { throw SystemError("", code: ENODEV) }
            if status.sizeBytes >= Self.longCopyBytes && !mayCopyLong { throw SystemError("", code: EINPROGRESS) }
            let value = try copyIn(file, sizeBytes: status.sizeBytes, as: replica)
            if isPlain(name, in: directory) { _ = unlinkat(directory, name, 0) }
            return value
        } catch {
            switch error.code {
            case ENOENT: throw .missing
            case EISDIR: throw .directory
            case ENODEV: throw .notAFile
            case EINPROGRESS: throw .needsCopy
            case _: throw .system(error)
            }
        }
    }

    /// A copy of an open file, from its start, as an object.
    func copyIn(
        _ file: borrowing Descriptor, sizeBytes: UInt64, as replica: Replica, onDisk: Bool = false, stop: StopFlag? = nil
    ) throws(SystemError) -> LocalOutput.Value {
        if sizeBytes <= UInt64(ControlLimits.inlineBytesMax) {
            // One byte more than may stay: a file such as those of /proc says that it is empty and is not.
            let bytes = try file.read(count: ControlLimits.inlineBytesMax + 1)
            if bytes.count <= ControlLimits.inlineBytesMax { return .inline(bytes) }
        }
        var copy = try makeFile(sizeBytes: sizeBytes, onDisk: onDisk)
        let copied = rain_copy(file.raw, copy.descriptor.raw, stop?.word)
        guard copied >= 0 else { throw SystemError("copy into", path, code: Int32(truncatingIfNeeded: 0 &- copied)) }
        // It became shorter under the copy.
        if UInt64(copied) < sizeBytes { _ = ftruncate(copy.descriptor.raw, off_t(copied)) }
        try moveIn(&copy, as: replica)
        return .stored(sizeBytes: UInt64(copied), isOnDisk: copy.isOnDisk)
    }

    /// What to say about a system call that failed while the store was worked on.
    func taskError(_ error: SystemError, doing what: String) -> TaskError {
        switch error.code {
        case ENOSPC, EDQUOT, ENOMEM:
            TaskError(.resource, "\(what): the store of the worker is full: \(fullness())")
        case EMFILE, ENFILE:
            TaskError(.resource, "\(what): the worker has no descriptor left: raise `ulimit -n`")
        case EAGAIN:
            TaskError(.resource, "\(what): the machine has no process left: raise `ulimit -u`")
        case _: TaskError(.setup, "\(what): \(error)")
        }
    }
}

/// Tells a long job on another thread to stop.
final class StopFlag: @unchecked Sendable {
    // The word is only touched by atomic loads and stores, here and in rain_copy.
    let word: UnsafeMutablePointer<UInt32> = .allocate(capacity: 1)
    init() { word.initialize(to: 0) }
    deinit { word.deallocate() }
    func set() { rain_store(word, 1) }
    var isSet: Bool { rain_load(word) != 0 }
}
