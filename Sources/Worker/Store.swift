import CLinux
import Glibc
import Synchronization
import TaskModel

/// The object files of this worker: plain files, 0444, `objects/SESSION/INDEX-EPOCH-NUMBER`, on one file system with the places
/// where they are made, so that an output is moved in by one rename.
///
///     objects/    what is accepted             tasks/      working directories of programs
///     staging/    what is being made           trash/      what is being removed
///     readonly/   the objects once more, for tasks: a mount in which nothing can be changed
///
/// Its functions are for any thread: they work on names that no two threads share.
final class Store: Sendable {
    /// Absolute.
    let path: String
    /// For people: which tier it is.
    let kind: String
    /// How much memory it may take; `nil` on disk.
    let memoryBytes: UInt64?
    let isMounted: Bool
    /// What has no room in memory goes there; `nil` when all of it is on disk.
    let disk: StoreDisk?
    let directory: Int32
    let objects: Int32
    let staging: Int32
    let tasks: Int32
    let trash: Int32
    /// The objects, where nobody can change them, not even root; -1 where no such mount can be made.
    let view: Int32
    /// The same of `disk`.
    let diskView: Int32
    let keepsMarks: Bool
    /// Somebody has written to an object here: before that nobody looks for what it could have spoilt besides.
    let hasSeenDamage = Atomic<Bool>(false)
    private let owner: Int32
    private let fileCount = Atomic<UInt64>(0)

    /// A container's default of 64 MiB is no place for objects.
    private static let sharedRoomBytesMin: UInt64 = 256 << 20
    /// Less than this is not worth a mount.
    private static let memoryBytesMin: UInt64 = 1 << 20

    /// Makes a store in memory where there is room, else in the work directory.
    ///
    /// - Parameters:
    ///   - name: of its directory; from `name(ofProcess:)`.
    ///   - memoryBytes: how much memory it may take; 0 for none.
    ///   - mayMount: to mount a file system of its own: for a process with one thread.
    static func make(
        name: String, workDirectory: String, memoryDirectory: String = "/dev/shm", memoryBytes: UInt64, mayMount: Bool
    ) throws(SystemError) -> Store {
        let path = memoryDirectory + "/" + name
        if mayMount, memoryBytes >= memoryBytesMin,
            let store = try? Store(path: path, kind: "private tmpfs", memoryBytes: memoryBytes, isMounted: true, disk: workDirectory + "/" + name)
        {
            return store
        }
        var room = statvfs()
        if memoryBytes > 0, statvfs(memoryDirectory, &room) == 0, access(memoryDirectory, W_OK) == 0 {
            let free = UInt64(room.f_bavail).multipliedReportingOverflow(by: UInt64(room.f_frsize)).partialValue
            if free >= sharedRoomBytesMin,
                let store = try? Store(
                    path: path, kind: "tmpfs \(memoryDirectory)", memoryBytes: min(memoryBytes, free), disk: workDirectory + "/" + name)
            {
                return store
            }
        }
        return try Store(path: workDirectory + "/" + name, kind: "disk \(workDirectory)")
    }

    /// - Parameters:
    ///   - memoryBytes: its limit when it lies in memory.
    ///   - isMounted: a tmpfs of that size is mounted there, for this process and those that it starts.
    ///   - disk: a directory for what has no room in memory.
    init(path: String, kind: String, memoryBytes: UInt64? = nil, isMounted: Bool = false, disk: String? = nil) throws(SystemError) {
        if let disk { self.disk = try StoreDisk(path: disk) } else { self.disk = nil }
        _ = rain_remove_tree(AT_FDCWD, path)
        try check(rain_mkdirat(AT_FDCWD, path, 0o700), "make directory", path)
        // While this descriptor lives, the directory has an owner, also for a worker that sees other process numbers.
        owner = try check(rain_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0), "open", path)
        _ = flock(owner, LOCK_EX | LOCK_NB)
        var details: [String] = []
        if isMounted {
            let result = rain_mount_private(path, memoryBytes ?? 0)
            if result < 0 {
                _ = close(owner)
                _ = rain_remove_tree(AT_FDCWD, path)
            }
            if try check(result, "mount a tmpfs at", path) == 1 { details.append("huge pages") }
        }
        let top = try check(rain_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0), "open", path)
        func part(_ name: String) throws(SystemError) -> Int32 {
            try check(rain_mkdirat(top, name, 0o700), "make directory", "\(path)/\(name)")
            return try check(rain_openat(top, name, O_RDONLY | O_DIRECTORY, 0), "open", "\(path)/\(name)")
        }
        objects = try part("objects")
        staging = try part("staging")
        tasks = try part("tasks")
        trash = try part("trash")
        directory = top
        keepsMarks = Self.keepsMarks(staging)
        // Only now are mounts our own.
        view = isMounted ? Self.makeView(of: path) : -1
        diskView = isMounted && disk != nil ? Self.makeView(of: disk ?? "") : -1
        self.path = path
        self.memoryBytes = memoryBytes
        self.isMounted = isMounted
        if let memoryBytes { details.append(byteText(memoryBytes)) }
        self.kind = ([kind] + details).joined(separator: ", ")
    }

    deinit { for descriptor in [objects, staging, tasks, trash, view, diskView, directory, owner] where descriptor >= 0 { _ = close(descriptor) } }

    /// Removes everything. Nothing may use the store any more.
    func removeAll() {
        // All at once; what a process still maps goes with it.
        if isMounted { _ = rain_unmount(path) }
        if let disk, diskView >= 0 { _ = rain_unmount(Self.viewPath(disk.path)) }
        _ = rain_remove_tree(AT_FDCWD, path)
        if let disk { _ = rain_remove_tree(AT_FDCWD, disk.path) }
    }

    // MARK: Places

    /// Where programs work.
    func tasks(onDisk: Bool) -> Int32 { onDisk ? disk?.tasks ?? tasks : tasks }
    /// Where files are made.
    func staging(onDisk: Bool) -> Int32 { onDisk ? disk?.staging ?? staging : staging }
    func path(onDisk: Bool) -> String { onDisk ? disk?.path ?? path : path }

    // MARK: Names

    static func name(ofProcess pid: pid_t) -> String { "rain-\(getuid())-\(pid)-\(max(0, rain_start_time(pid)))" }

    /// Below `objects`.
    static func name(_ replica: Replica) -> String {
        "\(replica.object.session.rawValue)/\(replica.object.index)-\(replica.generation.epoch.rawValue)-\(replica.generation.number)"
    }
    /// For tasks, which are to read it.
    func path(_ replica: Replica) -> String {
        let name = Self.name(replica)
        if let disk, faccessat(objects, name, F_OK, 0) != 0 {
            return (diskView >= 0 ? Self.viewPath(disk.path) : disk.path + "/objects") + "/" + name
        }
        return (view >= 0 ? Self.viewPath(path) : path + "/objects") + "/" + name
    }

    /// Removes what workers left behind that were killed together with their parent.
    static func removeAbandoned(in directories: [String]) {
        let prefix = "rain-\(getuid())-"
        for directory in directories {
            guard let list = opendir(directory) else { continue }
            defer { closedir(list) }
            while let entry = readdir(list) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                guard name.hasPrefix(prefix) else { continue }
                let fields = name.dropFirst(prefix.count).split(separator: "-")
                guard fields.count == 2, let pid = pid_t(fields[0]), let start = Int64(fields[1]), rain_start_time(pid) != start else { continue }
                guard let top = try? Descriptor.open(name, in: dirfd(list), O_RDONLY | O_DIRECTORY | O_NOFOLLOW),
                    flock(top.raw, LOCK_EX | LOCK_NB) == 0
                else { continue }
                _ = rain_remove_tree(dirfd(list), name)
            }
        }
    }

    // MARK: Objects

    /// Read-only, and also if somebody opens it anew by the descriptor's name in /proc, where there is a view.
    func openForTask(_ replica: Replica) throws(SystemError) -> Descriptor {
        let name = Self.name(replica)
        if let disk, faccessat(objects, name, F_OK, 0) != 0 {
            return try Descriptor.open(name, in: diskView >= 0 ? diskView : disk.objects, O_RDONLY | O_NOFOLLOW)
        }
        return try Descriptor.open(name, in: view >= 0 ? view : objects, O_RDONLY | O_NOFOLLOW)
    }

    /// Read-only.
    func open(_ replica: Replica) throws(SystemError) -> Descriptor {
        let found = try find(replica)
        return found.file
    }

    /// An object's file or directory, open for reading, where it lies.
    struct Found: ~Copyable {
        let file: Descriptor
        let keepsMarks: Bool
    }

    func find(_ replica: Replica) throws(SystemError) -> Found {
        let name = Self.name(replica)
        do throws(SystemError) {
            return Found(file: try Descriptor.open(name, in: objects, O_RDONLY | O_NOFOLLOW), keepsMarks: keepsMarks)
        } catch {
            guard error.code == ENOENT, let disk else { throw error }
            return Found(file: try Descriptor.open(name, in: disk.objects, O_RDONLY | O_NOFOLLOW), keepsMarks: disk.keepsMarks)
        }
    }

    /// Moves a finished file in under the replica's name. It has its last mode already.
    ///
    /// - Parameter onDisk: whether it lies there now, and stays.
    func moveIn(_ name: String, from directory: Int32, as replica: Replica, onDisk: Bool) throws(SystemError) {
        try moveIn(name, from: directory, to: onDisk ? disk?.objects ?? objects : objects, as: replica)
    }

    func moveIn(_ name: String, from directory: Int32, to objects: Int32, as replica: Replica) throws(SystemError) {
        let target = Self.name(replica)
        try check(rain_mark(directory, name, Self.mark), "mark", name)
        if renameat(directory, name, objects, target) == 0 { return }
        if errno == ENOENT {
            Self.makeSessionDirectory(replica.object.session, in: objects)
            if renameat(directory, name, objects, target) == 0 { return }
        }
        throw SystemError("move into the store", name, code: errno)
    }

    /// Makes a complete new file the replica.
    func moveIn(_ file: inout NewFile, as replica: Replica) throws(SystemError) {
        try moveIn(file.name, from: file.directory, as: replica, onDisk: file.isOnDisk)
        file.isKept = true
    }

    private static func makeSessionDirectory(_ session: SessionID, in objects: Int32) { _ = rain_mkdirat(objects, "\(session.rawValue)", 0o700) }

    /// A new file in `staging`, already with an object's mode and its space; written to by its descriptor alone.
    ///
    /// - Parameter onDisk: at once; else only when memory has no room.
    func makeFile(sizeBytes: UInt64, onDisk: Bool = false) throws(SystemError) -> NewFile {
        guard let size = Int64(exactly: sizeBytes) else { throw SystemError("reserve \(sizeBytes) bytes", code: EFBIG) }
        if onDisk, let disk { return try makeFile(onDisk: disk, sizeBytes: sizeBytes) }
        let name = newName()
        let file = NewFile(try openNew(name), name: name, directory: staging, isOnDisk: false)
        let result = rain_fallocate(file.descriptor.raw, size)
        if result == 0 { return file }
        guard result == -ENOSPC, let disk else { throw SystemError("reserve \(sizeBytes) bytes in", path, code: 0 &- result) }
        return try makeFile(onDisk: disk, sizeBytes: sizeBytes)
    }
    func makeFile(onDisk disk: StoreDisk, sizeBytes: UInt64) throws(SystemError) -> NewFile {
        let name = newName()
        let file = NewFile(
            try Descriptor.open(name, in: disk.staging, O_RDWR | O_CREAT | O_EXCL, mode: 0o444), name: name, directory: disk.staging, isOnDisk: true)
        try check(rain_fallocate(file.descriptor.raw, Int64(clamping: sizeBytes)), "reserve \(sizeBytes) bytes in", disk.path)
        return file
    }
    func newName() -> String { "n\(fileCount.add(1, ordering: .relaxed).newValue)" }
    func openNew(_ name: String, onDisk: Bool = false) throws(SystemError) -> Descriptor {
        try Descriptor.open(name, in: staging(onDisk: onDisk), O_RDWR | O_CREAT | O_EXCL, mode: 0o444)
    }

    /// A file that is gone with its last descriptor.
    func makeUnnamed(onDisk: Bool = false) throws(SystemError) -> Descriptor {
        let staging = staging(onDisk: onDisk)
        let descriptor = rain_open_unnamed(staging, O_RDWR | O_APPEND, 0o600)
        if descriptor >= 0 { return Descriptor(descriptor) }
        // Some file systems (overlayfs before Linux 6.1) have no O_TMPFILE.
        let name = newName()
        let file = try Descriptor.open(name, in: staging, O_RDWR | O_APPEND | O_CREAT | O_EXCL, mode: 0o600)
        _ = unlinkat(staging, name, 0)
        return file
    }

    /// - Returns: whether it lies on disk.
    @discardableResult
    func write(_ bytes: [UInt8], as replica: Replica) throws(SystemError) -> Bool {
        var file = try makeFile(sizeBytes: UInt64(bytes.count))
        try file.descriptor.writeAll(bytes)
        try moveIn(&file, as: replica)
        return file.isOnDisk
    }

    /// A second name for the same file.
    func alias(from: Replica, to: Replica) throws(SystemError) {
        do throws(SystemError) {
            try alias(from: from, to: to, in: objects)
        } catch {
            guard error.code == ENOENT, let disk else { throw error }
            try alias(from: from, to: to, in: disk.objects)
        }
    }

    private func alias(from: Replica, to: Replica, in objects: Int32) throws(SystemError) {
        let source = Self.name(from)
        let target = Self.name(to)
        if linkat(objects, source, objects, target, 0) == 0 { return }
        if errno == ENOENT {
            Self.makeSessionDirectory(to.object.session, in: objects)
            if linkat(objects, source, objects, target, 0) == 0 { return }
        }
        if errno == EEXIST {
            _ = unlinkat(objects, target, 0)
            if linkat(objects, source, objects, target, 0) == 0 { return }
        }
        throw SystemError("link", source, code: errno)
    }

    /// - Returns: whether something large went to the trash, to be emptied off the loop.
    func remove(_ replica: Replica) -> Bool {
        // In this order: a file on its way to disk looks for its name in memory last.
        let isLarge = remove(replica, from: objects, to: trash)
        guard let disk else { return isLarge }
        return remove(replica, from: disk.objects, to: disk.trash) || isLarge
    }

    private func remove(_ replica: Replica, from objects: Int32, to trash: Int32) -> Bool {
        let name = Self.name(replica)
        var status = stat()
        guard fstatat(objects, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return false }
        if status.isDirectory { return removeTree(replica, from: objects, to: trash) }
        // Giving back the memory of a large file takes milliseconds; its name goes at once.
        if status.sizeBytes > 4 << 20, renameat(objects, name, trash, trashName()) == 0 { return true }
        _ = unlinkat(objects, name, 0)
        return false
    }

    /// Removes every object of a session at once, as far as names go; empty the trash off the loop.
    func forget(_ session: SessionID) -> Bool {
        let isInMemory = discard("\(session.rawValue)", from: objects)
        guard let disk else { return isInMemory }
        return renameat(disk.objects, "\(session.rawValue)", disk.trash, trashName()) == 0 || isInMemory
    }

    /// Moves a tree to the trash.
    func discard(_ name: String, from directory: Int32) -> Bool {
        let isOnDisk = directory == disk?.tasks || directory == disk?.staging
        return renameat(directory, name, isOnDisk ? disk?.trash ?? trash : trash, trashName()) == 0
    }

    func emptyTrash() {
        Self.empty(trash)
        if let disk { Self.empty(disk.trash) }
    }

    private static func empty(_ trash: Int32) {
        guard let list = fdopendir(rain_openat(trash, ".", O_RDONLY | O_DIRECTORY, 0)) else { return }
        defer { closedir(list) }
        while let entry = readdir(list) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { _ = rain_remove_tree(trash, name) }
        }
    }

    func trashName() -> String { "\(monotonicNanoseconds())-\(UInt32.random(in: 0...UInt32.max))" }
}

/// A file of the store that is being made; dropping it removes it.
struct NewFile: ~Copyable, Sendable {
    let descriptor: Descriptor
    let name: String
    fileprivate let directory: Int32
    let isOnDisk: Bool
    /// It was moved away.
    fileprivate(set) var isKept = false
    init(_ descriptor: consuming Descriptor, name: String, directory: Int32, isOnDisk: Bool) {
        self.descriptor = descriptor
        self.name = name
        self.directory = directory
        self.isOnDisk = isOnDisk
    }
    deinit { if !isKept { _ = unlinkat(directory, name, 0) } }
}
