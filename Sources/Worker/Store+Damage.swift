import CLinux
import Glibc
import Synchronization
import TaskModel
import WorkerCore

/// Objects that tasks write to, though they were given to be read. An ordinary user has to change a mode for that, root does it by mistake.
///
/// With mounts of its own a worker gives tasks their inputs out of one where nothing can be changed. Without, and for the files of programs,
/// which are second names in directories where programs work, it looks afterwards: whatever is written to gets a time of last change with
/// other nanoseconds than `mark`. A file that is written to may be one of a directory, too, of which nobody keeps a list: that is looked at
/// before it is copied, served or given another name, and after each task that has read it.
extension Store {
    /// Of the time of last change of what is in the store; its seconds are true.
    static let mark = Int32.random(in: 1..<1_000_000_000)
    /// Members of a directory that are marked and looked at: a few hundred microseconds.
    private static let treeBudget: UInt32 = 256

    static func viewPath(_ path: String) -> String { path + "/readonly" }

    /// - Returns: the directory, open; -1 where it can't be made.
    static func makeView(of path: String) -> Int32 {
        let view = viewPath(path)
        guard rain_mkdirat(AT_FDCWD, view, 0o700) >= 0, rain_mount_view(path + "/objects", view) >= 0 else { return -1 }
        return max(-1, rain_openat(AT_FDCWD, view, O_RDONLY | O_DIRECTORY, 0))
    }

    /// Whether the file system keeps nanoseconds: some round them.
    static func keepsMarks(_ directory: Int32) -> Bool {
        let name = "mark"
        guard let file = try? Descriptor.open(name, in: directory, O_RDWR | O_CREAT | O_EXCL, mode: 0o600) else { return false }
        defer { _ = unlinkat(directory, name, 0) }
        return rain_mark(directory, name, mark) == 0 && (try? file.status())?.st_mtim.tv_nsec == Int(mark)
    }

    /// Whether what is opened by `openForTask`, or named by `path`, can't be changed by anybody.
    var isProtected: Bool { view >= 0 && (disk == nil || diskView >= 0) }

    func markTree(_ root: Int32, onDisk: Bool) {
        guard onDisk ? disk?.keepsMarks ?? keepsMarks : keepsMarks else { return }
        // One that can't be marked is told as changed by the first task that reads it.
        withName { _ = rain_tree_marks(root, Self.mark, true, Self.treeBudget, $0) }
    }

    /// Whether somebody has written to a file of the store, on a file system that keeps marks.
    func isWrittenTo(_ status: stat) -> Bool { note(status.st_mtim.tv_nsec != Int(Self.mark)) }

    /// The same of a directory: which of its members shows it.
    func damage(toTree root: Int32) -> String? {
        withName { changed in
            guard note(rain_tree_marks(root, Self.mark, false, Self.treeBudget, changed) != 1) else { return nil }
            let member = String(cString: changed)
            return member.isEmpty || member == "." ? "something was added to it or removed" : "'\(member)' in it was changed"
        }
    }

    private func note(_ isDamaged: Bool) -> Bool {
        if isDamaged { hasSeenDamage.store(true, ordering: .relaxed) }
        return isDamaged
    }

    /// An object that is about to be copied or to get another name, by which it would look whole.
    func openWhole(_ replica: Replica) throws(SystemError) -> Descriptor {
        let found = try find(replica)
        if found.keepsMarks {
            let status = try found.file.status()
            if status.isDirectory ? damage(toTree: found.file.raw) != nil : isWrittenTo(status) {
                throw SystemError("pass on what a task has written to,", Self.name(replica), code: ESTALE)
            }
        }
        return found.file
    }

    /// Those of a task's inputs that are not what they were.
    func damaged(among inputs: [LocalInput]) -> [Replica] {
        inputs.compactMap { $0.value == .stored && damage(to: $0) != nil ? $0.replica : nil }
    }

    /// What shows that somebody has written to a file or directory of the store; `nil` when it is as it was, or gone.
    func damage(to input: LocalInput) -> String? {
        let name = Self.name(input.replica)
        var status = stat()
        var (directory, isMarked) = (objects, keepsMarks)
        if fstatat(objects, name, &status, AT_SYMLINK_NOFOLLOW) != 0 {
            guard let disk, fstatat(disk.objects, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
            (directory, isMarked) = (disk.objects, disk.keepsMarks)
        }
        if status.isDirectory {
            guard isMarked, let root = try? Descriptor.open(name, in: directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) else { return nil }
            return damage(toTree: root.raw)
        }
        // Whoever runs it may set its mode for that; but nobody is to write to it the next time.
        if status.st_mode & 0o222 != 0 { _ = fchmodat(directory, name, status.st_mode & 0o555, 0) }
        if note(status.sizeBytes != input.sizeBytes) { return "its size is \(status.sizeBytes) bytes now and was \(input.sizeBytes)" }
        return isMarked && isWrittenTo(status) ? "its time of last change is another" : nil
    }

    private func withName<Result>(_ body: (UnsafeMutablePointer<CChar>) -> Result) -> Result {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { name in
            name[0] = 0
            return body(name.baseAddress!)
        }
    }
}
