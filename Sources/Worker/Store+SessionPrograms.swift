import CLinux
import Glibc
import TaskModel
import WorkerCore

/// Programs that sessions brought along: copies that can be executed, beside the session's objects, with which they go.
extension Store {
    /// ST_NOEXEC, which is in the headers for GNU sources alone.
    private static let noExecution: UInt = 8

    /// - Parameter program: the object. Its files are not for execution: their modes, and their file system, may say so.
    /// - Returns: the path to start.
    func placeProgram(_ key: SessionProgram, _ program: CarriedProgram) throws(SystemError) -> String {
        var failure: SystemError?
        let onDisk = disk.map { [($0.objects, $0.path)] } ?? []
        for (objects, path) in program.isOnDisk && !onDisk.isEmpty ? onDisk : [(objects, path)] + onDisk {
            guard Self.runsPrograms(objects) else {
                failure = failure ?? SystemError("run programs below (it is mounted noexec)", path, code: EACCES)
                continue
            }
            do throws(SystemError) {
                try place(program.object, key, in: objects)
                return "\(path)/objects/\(key.directory)/\(key.source.path.isEmpty ? key.name : key.source.path)"
            } catch {
                _ = rain_remove_tree(objects, key.directory)
                // Where memory has no room the disk may have some.
                guard error.code == ENOSPC else { throw error }
                failure = error
            }
        }
        throw failure ?? SystemError("make a program's directory", path, code: ENOENT)
    }

    /// Whether programs can be executed from its memory.
    var runsProgramsInMemory: Bool { Self.runsPrograms(objects) }

    private static func runsPrograms(_ directory: Int32) -> Bool {
        var status = statvfs()
        return fstatvfs(directory, &status) == 0 && status.f_flag & noExecution == 0
    }

    private func place(_ program: LocalInput, _ key: SessionProgram, in objects: Int32) throws(SystemError) {
        _ = rain_mkdirat(objects, "\(key.source.object.session.rawValue)", 0o700)
        _ = rain_remove_tree(objects, key.directory)
        try check(rain_mkdirat(objects, key.directory, 0o755), "make directory", key.directory)
        if case .inline(let bytes) = program.value {
            let file = try Descriptor.open("\(key.directory)/\(key.name)", in: objects, O_WRONLY | O_CREAT | O_EXCL, mode: 0o555)
            return try file.writeAll(bytes)
        }
        // Spilled meanwhile it lies elsewhere: a tree that goes while it is copied is found there the second time.
        do throws(SystemError) { try copy(program.replica, key, in: objects) } catch {
            guard error.code == ENOENT else { throw error }
            _ = rain_remove_tree(objects, key.directory)
            try check(rain_mkdirat(objects, key.directory, 0o755), "make directory", key.directory)
            try copy(program.replica, key, in: objects)
        }
    }

    private func copy(_ replica: Replica, _ key: SessionProgram, in objects: Int32) throws(SystemError) {
        let source = try open(replica)
        if try source.status().isDirectory {
            let target = try Descriptor.open(key.directory, in: objects, O_RDONLY | O_DIRECTORY)
            var index = TarIndex()
            do throws(TreeError) { try copyTree(source.raw, into: target.raw, by: .copy, index: &index) } catch { throw error.systemError }
            return
        }
        let file = try Descriptor.open("\(key.directory)/\(key.name)", in: objects, O_WRONLY | O_CREAT | O_EXCL, mode: 0o555)
        let copied = rain_copy(source.raw, file.raw, nil)
        guard copied >= 0 else { throw SystemError("copy program", key.name, code: Int32(truncatingIfNeeded: 0 &- copied)) }
    }
}

/// A program of a session, under the name of its subworker.
struct SessionProgram: Hashable, Sendable {
    let source: ProgramSource
    let name: String

    /// Below `objects`; no object has such a name.
    var directory: String { "\(source.object.session.rawValue)/program-\(source.object.index)-\(name)" }
}
