import CLinux
import Glibc
import Tar
import TaskModel
import WorkerCore

/// Directories as objects: trees with files of mode 0444 or 0555, directories of 0555, and links that stay inside. Each is made in
/// `staging`, and moved in as a whole.
extension Store {
    // MARK: Making them

    /// An empty directory in `staging`.
    ///
    /// - Parameters:
    ///   - sizeBytes: of what will be in it.
    ///   - onDisk: at once; else only when memory has no room.
    func makeTree(sizeBytes: UInt64, onDisk: Bool = false) throws(TreeError) -> NewTree {
        let onDisk = disk != nil && (onDisk || !hasRoom(for: sizeBytes, onDisk: false))
        let directory = staging(onDisk: onDisk)
        let name = newName()
        let result = rain_mkdirat(directory, name, 0o700)
        guard result == 0 else { throw .system(SystemError("make directory in", path(onDisk: onDisk), code: 0 &- result)) }
        return try openTree(name, onDisk: onDisk)
    }

    private func openTree(_ name: String, onDisk: Bool) throws(TreeError) -> NewTree {
        let directory = staging(onDisk: onDisk)
        let descriptor = rain_openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
        guard descriptor >= 0 else {
            _ = rain_remove_tree(directory, name)
            throw .system(SystemError("open directory", name, code: 0 &- descriptor))
        }
        return NewTree(Descriptor(descriptor), name: name, directory: directory, isOnDisk: onDisk)
    }

    /// Makes a complete new tree the replica.
    func moveIn(_ tree: consuming NewTree, as replica: Replica) throws(TreeError) {
        let target = tree.isOnDisk ? disk?.objects ?? objects : objects
        var failure: SystemError?
        do throws(SystemError) { try moveIn(tree.name, from: tree.directory, to: target, as: replica) } catch { failure = error }
        if let code = failure?.code, code == ENOTEMPTY || code == EEXIST {
            // The same bytes were here before; a file would be replaced, a directory can't be.
            _ = removeTree(replica, from: target, to: tree.isOnDisk ? disk?.trash ?? trash : trash)
            failure = nil
            do throws(SystemError) { try moveIn(tree.name, from: tree.directory, to: target, as: replica) } catch { failure = error }
        }
        if let failure { throw .system(failure) }
        tree.isKept = true
        // Only now: a directory that can't be written can't be moved either.
        _ = fchmod(tree.root.raw, 0o555)
        markTree(tree.root.raw, onDisk: tree.isOnDisk)
    }

    /// A copy of an open directory as an object.
    ///
    func copyIn(
        tree source: Int32, as replica: Replica, onDisk: Bool = false, by transfer: TreeTransfer = .copy, stop: StopFlag? = nil
    ) throws(TreeError) -> LocalOutput.Value {
        // What has no room in memory is known before it is copied.
        let size = disk == nil || transfer == .link ? 0 : try TarIndex(of: source, stop: stop).sizeBytes
        let tree = try makeTree(sizeBytes: size, onDisk: onDisk)
        let isOnDisk = tree.isOnDisk
        var index = TarIndex()
        try copyTree(source, into: tree.root.raw, by: transfer, index: &index, stop: stop)
        try moveIn(tree, as: replica)
        return .stored(sizeBytes: index.sizeBytes, isOnDisk: isOnDisk)
    }

    // MARK: Accepting what a task made

    /// Makes an output directory an object: nobody writes to a file in it any more, all of it is sealed by its modes, and moved in.
    ///
    /// Looks at every file: not for the loop.
    ///
    /// - Parameter onDisk: whether the directory lies there; else it is in memory.
    func acceptTree(
        _ name: String, in directory: Int32, as replica: Replica, onDisk: Bool = false, stop: StopFlag? = nil
    ) throws(AcceptanceError) -> LocalOutput.Value {
        var status = stat()
        guard fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else {
            throw errno == ENOENT || errno == ENOTDIR ? .missing : .system(SystemError("look at", name, code: errno))
        }
        guard status.isDirectory || status.isLink else { throw .notADirectory }
        do throws(TreeError) {
            if status.isDirectory, isPlain(name, in: directory) { return try takeIn(name, from: directory, as: replica, onDisk: onDisk, stop: stop) }
            // A link to it, or on the way to it: it is somebody else's.
            let source = rain_openat(directory, name, O_RDONLY | O_DIRECTORY, 0)
            guard source >= 0 else { throw .system(SystemError("open", name, code: 0 &- source)) }
            defer { _ = close(source) }
            return try copyIn(tree: source, as: replica, onDisk: onDisk, stop: stop)
        } catch {
            switch error {
            case .system(let error) where error.code == ENOTDIR: throw .notADirectory
            case .system(let error): throw .system(error)
            case .tar, .notAFile, .stillWritten, .stopped: throw .tree(error)
            }
        }
    }

    /// Whether no link is on the way to what a path names: then it lies in this directory, and may be moved.
    func isPlain(_ path: String, in directory: Int32) -> Bool {
        guard let cut = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return true }
        let result = rain_open_inside(directory, String(path[..<cut]), O_RDONLY | O_DIRECTORY, false)
        guard result >= 0 else { return false }
        _ = close(result)
        return true
    }

    private func takeIn(
        _ name: String, from directory: Int32, as replica: Replica, onDisk: Bool, stop: StopFlag?
    ) throws(TreeError) -> LocalOutput.Value {
        let own = newName()
        // One that its maker has made unwritable can't be moved.
        _ = fchmodat(directory, name, 0o700, 0)
        guard renameat(directory, name, staging(onDisk: onDisk), own) == 0 else {
            guard errno == EXDEV else { throw .system(SystemError("move into the store", name, code: errno)) }
            let source = rain_openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
            guard source >= 0 else { throw .system(SystemError("open", name, code: 0 &- source)) }
            defer { _ = close(source) }
            return try copyIn(tree: source, as: replica, onDisk: onDisk, stop: stop)
        }
        let tree = try openTree(own, onDisk: onDisk)
        let size = try seal(tree, stop: stop)
        try moveIn(tree, as: replica)
        return .stored(sizeBytes: size, isOnDisk: onDisk)
    }

    /// Checks and seals every member of a tree that nobody else knows of any more.
    ///
    /// - Returns: the length of its stream.
    private func seal(_ tree: borrowing NewTree, stop: StopFlag?) throws(TreeError) -> UInt64 {
        let (root, staging) = (tree.root.raw, tree.directory)
        var index = TarIndex()
        try walkTree(
            root, stop: stop,
            visit: { item throws(TreeError) in
                if item.status.isRegular { return try index.append(try seal(item, staging)) }
                if item.status.isDirectory, item.status.st_mode & 0o700 != 0o700 { _ = item.name.withPath { fchmodat(item.directory, $0, 0o700, 0) } }
                try index.append(item)
            },
            leave: { path throws(TreeError) in
                guard path.withPath({ fchmodat(root, $0, 0o555, 0) }) == 0 else {
                    throw .system(SystemError("change the mode of", String(decoding: path, as: UTF8.self), code: errno))
                }
            })
        return index.sizeBytes
    }

    /// As `accept` for a single file: first its mode, then the question whether anybody has it open for writing.
    private func seal(_ item: TreeItem, _ staging: Int32) throws(TreeError) -> TreeItem {
        if item.status.st_nlink > 1 || item.status.st_uid != geteuid() { return try replaceByCopy(item, staging) }
        guard item.name.withPath({ fchmodat(item.directory, $0, item.isExecutable ? 0o555 : 0o444, 0) }) == 0 else {
            throw .system(SystemError("change the mode of", item.text, code: errno))
        }
        let file = try item.open()
        var now = stat()
        guard fstat(file.raw, &now) == 0, now.st_ino == item.status.st_ino, now.isRegular else { throw .system(SystemError("open", item.text, code: ESTALE)) }
        if rain_has_no_writer(file.raw) == 0 { throw .stillWritten(item.text) }
        return TreeItem(path: item.path, name: item.name, directory: item.directory, status: now)
    }

    /// A file with a second name somewhere, or of another user.
    private func replaceByCopy(_ item: TreeItem, _ staging: Int32) throws(TreeError) -> TreeItem {
        let name = newName()
        let source = try item.open()
        let descriptor = rain_openat(staging, name, O_RDWR | O_CREAT | O_EXCL, item.isExecutable ? 0o555 : 0o444)
        guard descriptor >= 0 else { throw .system(SystemError("copy", item.text, code: 0 &- descriptor)) }
        let copy = Descriptor(descriptor)
        let copied = rain_copy(source.raw, copy.raw, nil)
        var code = copied < 0 ? Int32(truncatingIfNeeded: 0 &- copied) : 0
        if code == 0, item.name.withPath({ renameat(staging, name, item.directory, $0) }) != 0 { code = errno }
        var now = stat()
        if code == 0, fstat(copy.raw, &now) != 0 { code = errno }
        guard code == 0 else {
            _ = unlinkat(staging, name, 0)
            throw .system(SystemError("copy", item.text, code: code))
        }
        return TreeItem(path: item.path, name: item.name, directory: item.directory, status: now)
    }

    // MARK: Those that are here

    func isTree(_ replica: Replica) -> Bool {
        var status = stat()
        let name = Self.name(replica)
        if fstatat(objects, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return status.isDirectory }
        guard let disk, fstatat(disk.objects, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return false }
        return status.isDirectory
    }

    /// Whether it lies on disk alone.
    private func isOnDisk(_ replica: Replica) -> Bool { disk != nil && faccessat(objects, Self.name(replica), F_OK, 0) != 0 }

    /// Another tree with the same files.
    func aliasTree(from: Replica, to: Replica) throws(TreeError) {
        do throws(SystemError) {
            let source = try openWhole(from)
            let onDisk = isOnDisk(from)
            do throws(TreeError) { _ = try copyIn(tree: source.raw, as: to, onDisk: onDisk, by: .link) } catch { throw error.systemError }
        } catch { throw .system(error) }
    }

    /// Moves the name of a directory to the trash.
    func removeTree(_ replica: Replica, from objects: Int32, to trash: Int32) -> Bool {
        let name = Self.name(replica)
        _ = fchmodat(objects, name, 0o700, 0)
        if renameat(objects, name, trash, trashName()) == 0 { return true }
        _ = rain_remove_tree(objects, name)
        return false
    }

    /// As `spill`, for a directory.
    func spillTree(_ replica: Replica, _ source: Int32, to disk: StoreDisk, stop: StopFlag?) throws(TreeError) -> Bool {
        let tree = try makeTree(sizeBytes: 0, onDisk: true)
        var index = TarIndex()
        // What the disk could not take must be known while it is still in memory.
        try copyTree(source, into: tree.root.raw, by: .copy, index: &index, isWrittenOut: true, stop: stop)
        if keepsMarks, damage(toTree: source) != nil { return false }
        try moveIn(tree, as: replica)
        // Its name in memory goes last. When it has gone by then, the object was dropped.
        let (name, trashed) = (Self.name(replica), trashName())
        _ = fchmodat(objects, name, 0o700, 0)
        guard renameat(objects, name, trash, trashed) == 0 else {
            _ = removeTree(replica, from: disk.objects, to: disk.trash)
            return true
        }
        // At once: this is about room.
        _ = rain_remove_tree(trash, trashed)
        return true
    }
}

extension TreeError {
    /// For where the tree is one of the store, which is in order.
    var systemError: SystemError {
        switch self {
        case .system(let error): error
        case .tar(let error): SystemError("read a directory of the store: \(error)", code: EIO)
        case .notAFile(let name), .stillWritten(let name): SystemError("read a directory of the store", name, code: EIO)
        case .stopped: SystemError("copy", code: ECANCELED)
        }
    }

    /// What is wrong with a tree that a task or a user gave; `nil` for a system call that failed.
    var complaint: String? {
        switch self {
        case .tar(let error): error.description
        case .notAFile(let name): "'\(name)' in it is no file, directory or symbolic link"
        case .stillWritten(let name): "'\(name)' in it is still open for writing or mapped by a process: close it first"
        case .stopped, .system: nil
        }
    }
}
