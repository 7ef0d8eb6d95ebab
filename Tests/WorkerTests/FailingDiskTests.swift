import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// Spilling to disks that are full or broken: what is in memory stays there.
@Suite(.serialized) struct FailingDiskTests {
    /// A directory with `disk`, a file system that a command mounts there.
    private final class Disk {
        let directory: String
        let store: Store
        init?(_ command: String) throws {
            directory = try temporaryDirectory()
            mkdir(directory + "/disk", 0o700)
            guard system("cd \(directory) && (\(command)) 2>/dev/null") == 0 else {
                _ = system("umount -l \(directory)/backing 2>/dev/null")
                _ = rain_remove_tree(AT_FDCWD, directory)
                return nil
            }
            store = try Store(path: directory + "/store", kind: "test", memoryBytes: 1 << 30, disk: directory + "/disk/rain")
        }
        deinit {
            _ = system("umount -l \(directory)/disk; umount -l \(directory)/backing 2>/dev/null")
            _ = rain_remove_tree(AT_FDCWD, directory)
        }
        var isEmpty: Bool { names(in: directory + "/disk/rain/objects").isEmpty && names(in: directory + "/disk/rain/staging").isEmpty }
    }
    private static let full = "mount -t tmpfs -o size=4m rain-test disk"
    /// A disk whose own storage ends long before it says: writes are taken, and fail when they are to last.
    private static let broken = """
        mkdir backing && mount -t tmpfs -o size=8m rain-test backing && truncate -s 64m backing/image && mkfs.ext4 -q -O ^has_journal backing/image \
        && mount -o loop backing/image disk
        """
    private static let mayMount = (try? Disk(full)) != nil
    private static let hasLoop = (try? Disk(broken)) != nil

    private let replica = Replica(object: ObjectID(session: SessionID(1), index: 5), generation: Generation(epoch: ServerEpoch(1), number: 2))
    private let bytes = [UInt8](repeating: 7, count: 20 << 20)

    /// - Parameter call: what fails: before anything is written, or after all of it.
    private func check(_ disk: Disk, fails call: String) throws {
        try disk.store.write(bytes, as: replica)
        let error = #expect(throws: SystemError.self) { try disk.store.spill(replica) }
        #expect(error?.call == call && [ENOSPC, EIO].contains(error?.code), "\(String(describing: error))")
        #expect(disk.isEmpty && disk.store.path(replica).hasPrefix(disk.directory + "/store/"))
        #expect(try disk.store.open(replica).read(count: bytes.count + 1) == bytes)
    }

    @Test(.enabled(if: mayMount, "no file system can be mounted here"))
    func `a disk without room takes nothing, and says so before anything is written`() throws {
        let disk = try #require(try Disk(Self.full))
        try check(disk, fails: "reserve 20971520 bytes in")
        let small = Replica(object: ObjectID(session: SessionID(1), index: 6), generation: replica.generation)
        try disk.store.write([UInt8](repeating: 1, count: 1 << 20), as: small)
        try disk.store.spill(small)
        #expect(names(in: disk.directory + "/disk/rain/objects/1") == ["6-1-2"], "what fits still goes")
    }

    @Test(.enabled(if: hasLoop, "no loop device can be used here"))
    func `a disk that fails midway takes nothing, and what it was to take is still in memory`() throws {
        try check(try #require(try Disk(Self.broken)), fails: "spill")
    }

    @Test(.enabled(if: hasLoop, "no loop device can be used here"))
    func `the same with a directory`() throws {
        let disk = try #require(try Disk(Self.broken))
        let tree = try tree(of: bytes, in: disk)
        let error = #expect(throws: SystemError.self) { try disk.store.spill(tree) }
        #expect([ENOSPC, EIO].contains(error?.code), "\(String(describing: error))")
        #expect(disk.isEmpty && disk.store.path(tree).hasPrefix(disk.directory + "/store/"))
        let file = try Descriptor.open(disk.store.path(tree) + "/file", O_RDONLY)
        #expect(try file.read(count: bytes.count + 1) == bytes)
    }

    @Test(.enabled(if: hasLoop, "no loop device can be used here"))
    func `what others write to the disk is not waited for, and fails for them alone`() throws {
        let disk = try #require(try Disk(Self.broken))
        try #require(system("head -c 20m /dev/urandom > \(disk.directory)/disk/others") == 0)
        let small = [UInt8](repeating: 5, count: 100_000)
        try disk.store.write(small, as: replica)
        let tree = try tree(of: small, in: disk)
        for replica in [replica, tree] {
            #expect(try disk.store.spill(replica))
            #expect(disk.store.path(replica).hasPrefix(disk.directory + "/disk/"))
        }
        let others = try Descriptor.open(disk.directory + "/disk/others", O_RDWR)
        #expect(fdatasync(others.raw) != 0, "it was still to be written, and could not be")
    }

    private func tree(of bytes: [UInt8], in disk: Disk) throws -> Replica {
        let replica = Replica(object: ObjectID(session: SessionID(1), index: 9), generation: replica.generation)
        let path = disk.directory + "/source"
        mkdir(path, 0o700)
        try Descriptor.open(path + "/file", O_WRONLY | O_CREAT, mode: 0o600).writeAll(bytes)
        let root = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
        _ = try disk.store.copyIn(tree: root.raw, as: replica)
        return replica
    }

    @Test(.enabled(if: mayMount, "no file system can be mounted here"))
    func `a program that was to work on a full disk works in memory`() throws {
        let disk = try #require(try Disk(Self.full))
        _ = system("cd \(disk.directory)/disk && head -c 8m /dev/zero > filler 2>/dev/null")
        let plan = try ProgramPlan(config: Array(#"{"command": ["true"], "inputs": [{"path": "in"}]}"#.utf8))
        let layout = try ProgramLayout(plan, template: TaskTemplate(type: "builtin/run"), inputCount: 1, arguments: [])
        let input = LocalInput(replica: replica, sizeBytes: 4000, value: .inline(Array(bytes.prefix(4000))))
        let job = JobRequest(
            attempt: AttemptID(task: TaskID(session: SessionID(1), index: 0), epoch: ServerEpoch(1), number: 1),
            template: TemplateID(session: SessionID(1), index: 0), inputs: [input], firstOutput: 1, isOnDisk: true)
        let prepared = try PreparedProgram.prepare(layout, plan: plan, job: job, store: disk.store, stop: nil)
        #expect(!prepared.isOnDisk && names(in: disk.directory + "/store/tasks/\(prepared.directory.name)") == ["in"])
        #expect(names(in: disk.directory + "/disk/rain/tasks").isEmpty)
        #expect(!prepared.remove(from: disk.store))
    }

    @Test func `what fails for lack of room names both places, their limits and what to do`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        let store = try Store(path: directory + "/store", kind: "test", memoryBytes: 1 << 20, disk: directory + "/disk")
        let text = store.fullness(forBytes: 1 << 60)
        for part in ["limited to 1 MiB (--store-memory)", "the disk of \(directory)/disk (--work-dir) has", "are missing there", "Drop objects"] {
            #expect(text.contains(part), "\(text)")
        }
        #expect(!store.hasRoom(for: 1 << 60, onDisk: true) && store.hasRoom(for: 1, onDisk: true))
        let error = store.taskError(SystemError("write", code: EDQUOT), doing: "it failed")
        #expect(error.cause == .resource && error.message.hasPrefix("it failed: the store of the worker is full: memory"))
    }
}
