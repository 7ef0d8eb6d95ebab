import CLinux
import Glibc
import TaskModel
import WorkerCore

/// What of a store in memory lies on disk: files that were spilled, and those that had no room.
final class StoreDisk: Sendable {
    let path: String
    let objects: Int32
    let staging: Int32
    /// Working directories of programs that had no room in memory.
    let tasks: Int32
    let trash: Int32
    let keepsMarks: Bool

    init(path: String) throws(SystemError) {
        _ = rain_remove_tree(AT_FDCWD, path)
        func part(_ name: String) throws(SystemError) -> Int32 {
            try check(rain_mkdirat(AT_FDCWD, "\(path)/\(name)", 0o700), "make directory", "\(path)/\(name)")
            return try check(rain_openat(AT_FDCWD, "\(path)/\(name)", O_RDONLY | O_DIRECTORY, 0), "open", "\(path)/\(name)")
        }
        try check(rain_mkdirat(AT_FDCWD, path, 0o700), "make directory", path)
        self.path = path
        objects = try part("objects")
        staging = try part("staging")
        tasks = try part("tasks")
        trash = try part("trash")
        keepsMarks = Store.keepsMarks(staging)
    }
    deinit { for descriptor in [objects, staging, tasks, trash] { _ = close(descriptor) } }
}

extension Store {
    /// Moves an object's file from memory to disk. Who has it open or mapped keeps what is there; from then on it is opened on disk.
    ///
    /// It is on disk before its name in memory goes, so that it can always be opened. When that name is gone by then, the object was
    /// dropped meanwhile, and the copy goes too.
    ///
    /// - Returns: `false` when a task has written to it: it stays where that is seen, for the copy would look whole.
    @discardableResult
    func spill(_ replica: Replica, stop: StopFlag? = nil) throws(SystemError) -> Bool {
        guard let disk else { throw SystemError("spill to disk", code: ENOSPC) }
        let name = Self.name(replica)
        let source: Descriptor
        do throws(SystemError) {
            source = try Descriptor.open(name, in: objects, O_RDONLY | O_NOFOLLOW)
        } catch {
            if error.code == ENOENT { return true }  // It lies on disk, or nowhere.
            throw error
        }
        if try source.status().isDirectory {
            do throws(TreeError) { return try spillTree(replica, source.raw, to: disk, stop: stop) } catch { throw error.systemError }
        }
        // Its room first: a disk that is full says so before anything is written.
        var copy = try makeFile(onDisk: disk, sizeBytes: try source.status().sizeBytes)
        let result = rain_copy(source.raw, copy.descriptor.raw, stop?.word)
        guard result >= 0 else { throw SystemError("spill", name, code: Int32(truncatingIfNeeded: 0 &- result)) }
        // What the disk could not take must be known while it is still in memory.
        let written = rain_write_out(copy.descriptor.raw, stop?.word)
        guard written == 0 else { throw SystemError("spill", name, code: 0 &- written) }
        if keepsMarks, isWrittenTo(try source.status()) { return false }
        try moveIn(&copy, as: replica)
        if unlinkat(objects, name, 0) != 0 { _ = unlinkat(disk.objects, name, 0) }
        return true
    }
}
