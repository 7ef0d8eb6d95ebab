import CLinux
import Glibc
import Tar
import TaskModel
import WorkerCore

/// The built-in tasks that make directories, take them apart, and bring them from and to the machine's own file systems.
extension WorkerShell {
    /// `builtin/make_directory`: the inputs at the paths of the arguments.
    func makeDirectory(_ token: JobToken, _ request: JobRequest) throws(TaskError) {
        let paths = try paths(request)
        let replica = output(request, 0)
        runBlocking(token, reading: request.inputs) { [store] flag throws(TaskError) in
            do throws(TreeError) {
                let size = request.inputs.reduce(UInt64(0)) { $0 &+ $1.sizeBytes }
                let tree = try store.makeTree(sizeBytes: request.isOnDisk ? size : 0, onDisk: request.isOnDisk)
                let isOnDisk = tree.isOnDisk
                for (position, path) in paths.enumerated() {
                    try store.put(request.inputs[position], at: path, position: position, in: tree.root.raw, stop: flag)
                }
                for path in Self.parents(of: paths) { _ = path.withPath { fchmodat(tree.root.raw, $0, 0o555, 0) } }
                let index = try TarIndex(of: tree.root.raw, stop: flag)
                try store.moveIn(tree, as: replica)
                return [LocalOutput(isDirectory: true, value: .stored(sizeBytes: index.sizeBytes, isOnDisk: isOnDisk))]
            } catch { throw store.taskError(error, doing: "builtin/make_directory failed") }
        }
    }

    private func paths(_ request: JobRequest) throws(TaskError) -> [String] {
        let type = "builtin/make_directory"
        guard let list = try arguments(request, of: type)["paths"]?.array, case let paths = list.compactMap(\.string), paths.count == list.count else {
            throw TaskError(.setup, "\(type) needs the arguments {\"paths\": [\"a/b\", …]}, a path for each input")
        }
        guard paths.count == request.inputs.count else {
            throw TaskError(.setup, "\(type) has \(request.inputs.count) inputs but \(paths.count) paths: give one for each")
        }
        var positions: [String: Int] = [:]
        for (position, path) in paths.enumerated() {
            guard ProgramLayout.isInside(path), path.utf8.count <= TarLimits.pathBytesMax else {
                throw TaskError(.setup, "\(type): input \(position) can't have the path '\(path)': give it one that is relative, without `..`")
            }
            if let other = positions.updateValue(position, forKey: path) {
                throw TaskError(.setup, "\(type): inputs \(other) and \(position) both have the path '\(path)': give them different ones")
            }
        }
        for (position, path) in paths.enumerated() {
            for end in path.indices where path[end] == "/" {
                guard let other = positions[String(path[..<end])] else { continue }
                throw TaskError(.setup, "\(type): input \(position) has the path '\(path)', which lies inside of input \(other), '\(paths[other])'")
            }
        }
        return paths
    }

    /// The directories that no input brings.
    private static func parents(of paths: [String]) -> Set<[UInt8]> {
        var parents: Set<[UInt8]> = []
        for path in paths {
            let bytes = Array(path.utf8)
            for end in bytes.indices where bytes[end] == UInt8(ascii: "/") { parents.insert(Array(bytes[..<end])) }
        }
        return parents
    }

    /// `builtin/slice_directory`: a file of a directory, or with `/` at the end of the path a directory in it.
    func sliceDirectory(_ token: JobToken, _ request: JobRequest, _ template: TaskTemplate) throws(TaskError) {
        let type = "builtin/slice_directory"
        guard var path = try arguments(request, of: type)["path"]?.string else { throw TaskError(.setup, "\(type) needs the arguments {\"path\": \"a/b\"}") }
        let wantsDirectory = path.hasSuffix("/")
        if wantsDirectory { path.removeLast() }
        guard ProgramLayout.isInside(path) else {
            throw TaskError(.setup, "\(type): '\(path)' can't be a path in a directory: give one that is relative, without `..`")
        }
        guard template.outputs[0].isDirectory == wantsDirectory else {
            throw TaskError(
                .setup,
                wantsDirectory
                    ? "\(type): the path '\(path)/' means a directory, but the output is declared as a file"
                    : "\(type): the path '\(path)' means a file, but the output is declared as a directory: end the path with '/'")
        }
        let (input, replica) = (request.inputs[0], output(request, 0))
        runBlocking(token, reading: request.inputs) { [store, path] flag throws(TaskError) in
            let what = "\(type) of '\(path)'"
            do throws(TreeError) {
                let root = try store.openInput(input)
                let result = rain_open_inside(root.raw, path, O_RDONLY | O_NONBLOCK, true)
                guard result >= 0 else { throw .system(SystemError("open", path, code: 0 &- result)) }
                let part = Descriptor(result)
                var status = stat()
                guard fstat(part.raw, &status) == 0 else { throw .system(SystemError("fstat", path, code: errno)) }
                if status.isDirectory != wantsDirectory {
                    throw .system(SystemError("open", path, code: wantsDirectory ? ENOTDIR : EISDIR))
                }
                if wantsDirectory {
                    let value = try store.copyIn(tree: part.raw, as: replica, onDisk: request.isOnDisk, by: .link, stop: flag)
                    return [LocalOutput(isDirectory: true, value: value)]
                }
                return [LocalOutput(value: try store.linkIn(part, sizeBytes: status.sizeBytes, as: replica, onDisk: request.isOnDisk, stop: flag))]
            } catch {
                if case .system(let error) = error {
                    switch error.code {
                    case ENOENT: throw TaskError(.user, "\(what): there is no such file or directory in input 0")
                    case ENOTDIR: throw TaskError(.user, "\(what): it is no directory in input 0, or its parents are none")
                    case EISDIR: throw TaskError(.user, "\(what): it is a directory in input 0: end the path with '/'")
                    case EXDEV, ELOOP: throw TaskError(.user, "\(what): a symbolic link on the way leads out of input 0 or in circles")
                    case _: break
                    }
                }
                throw store.taskError(error, doing: "\(what) failed")
            }
        }
    }

    /// `builtin/load` with an output that is a directory.
    func loadDirectory(_ token: JobToken, _ request: JobRequest) throws(TaskError) {
        let path = try path(request, of: "builtin/load")
        let replica = output(request, 0)
        runBlocking(token) { [store, hostName] flag throws(TaskError) in
            do throws(TreeError) {
                let result = rain_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)
                guard result >= 0 else { throw .system(SystemError("open", path, code: 0 &- result)) }
                let source = Descriptor(result)
                return [LocalOutput(isDirectory: true, value: try store.copyIn(tree: source.raw, as: replica, onDisk: request.isOnDisk, stop: flag))]
            } catch {
                if case .system(let error) = error {
                    switch error.code {
                    case ENOENT: throw TaskError(.user, "builtin/load: there is no directory \(path) on host \(hostName)")
                    case ENOTDIR: throw TaskError(.user, "builtin/load: \(path) is a file on host \(hostName), but the output is declared as a directory")
                    case EACCES: throw TaskError(.user, "builtin/load: the worker may not read \(error.subject) of \(path) on host \(hostName)")
                    case _: break
                    }
                }
                throw store.taskError(error, doing: "builtin/load of \(path) failed")
            }
        }
    }

    /// `builtin/store` of a directory: it appears as a whole, with its files durable, or not at all. What has the path already stays.
    func storeDirectory(_ token: JobToken, _ request: JobRequest, to path: String, temporary: String) {
        let input = request.inputs[0]
        runBlocking(token, reading: request.inputs) { [store, hostName] flag throws(TaskError) in
            // Its error is not to be taken for one of the path.
            let number: Int32
            do throws(TreeError) { number = try store.openInput(input).take() } catch {
                throw store.taskError(error, doing: "builtin/store of \(path): its input, object \(input.replica.object), can't be read on host \(hostName)")
            }
            let source = Descriptor(number)
            do throws(TreeError) {
                var status = stat()
                if lstat(path, &status) == 0 {
                    // A task that runs again after its worker was lost finds what it stored.
                    guard status.isDirectory, try Store.isSameTree(source.raw, as: path, stop: flag) else {
                        throw .system(SystemError("make", path, code: EEXIST))
                    }
                    return []
                }
                _ = rain_remove_tree(AT_FDCWD, temporary)
                do throws(TreeError) {
                    var result = rain_mkdirat(AT_FDCWD, temporary, 0o755)
                    guard result == 0 else { throw .system(SystemError("make directory", temporary, code: 0 &- result)) }
                    result = rain_openat(AT_FDCWD, temporary, O_RDONLY | O_DIRECTORY, 0)
                    guard result >= 0 else { throw .system(SystemError("open", temporary, code: 0 &- result)) }
                    let target = Descriptor(result)
                    var index = TarIndex()
                    try copyTree(source.raw, into: target.raw, by: .writableCopy, index: &index, stop: flag)
                    result = rain_sync_file_system(target.raw)
                    guard result == 0 else { throw .system(SystemError("sync", path, code: 0 &- result)) }
                    result = rain_rename_new(AT_FDCWD, temporary, AT_FDCWD, path)
                    // Some file systems can't promise to replace nothing; an empty directory is all that this could replace.
                    if result == -EINVAL { result = rename(temporary, path) == 0 ? 0 : 0 &- errno }
                    guard result == 0 else { throw .system(SystemError("rename to", path, code: 0 &- result)) }
                } catch {
                    _ = rain_remove_tree(AT_FDCWD, temporary)
                    throw error
                }
                do throws(SystemError) { try syncDirectory(of: path) } catch { throw .system(error) }
                return []
            } catch {
                if case .system(let error) = error {
                    switch error.code {
                    case EEXIST, ENOTEMPTY:
                        throw TaskError(.user, "builtin/store: \(path) exists on host \(hostName) and is not the same directory: remove it, or store elsewhere")
                    case ENOENT, ENOTDIR: throw TaskError(.user, "builtin/store: there is no directory for \(path) on host \(hostName): make it first")
                    case EACCES, EROFS, EPERM: throw TaskError(.user, "builtin/store: the worker may not write \(path) on host \(hostName)")
                    case ENOSPC, EDQUOT: throw TaskError(.resource, "builtin/store: the disk of \(path) on host \(hostName) is full")
                    case _: break
                    }
                }
                throw TaskError(.user, "builtin/store of \(path) failed: \(error.complaint ?? "\(error.systemError)")")
            }
        }
    }
}

extension Store {
    func taskError(_ error: TreeError, doing what: String) -> TaskError {
        if let complaint = error.complaint { return TaskError(.user, "\(what): \(complaint)") }
        return taskError(error.systemError, doing: what)
    }

    /// An input directory, open.
    fileprivate func openInput(_ input: LocalInput) throws(TreeError) -> Descriptor {
        do throws(SystemError) { return try openWhole(input.replica) } catch { throw .system(error) }
    }

    /// Puts an input into a tree that is being made; files and directories of the store get a second name.
    fileprivate func put(_ input: LocalInput, at path: String, position: Int, in root: Int32, stop: StopFlag) throws(TreeError) {
        do throws(SystemError) {
            try PreparedProgram.makeParents(of: path, in: root)
            if case .inline(let bytes) = input.value {
                return try Descriptor.open(path, in: root, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o444).writeAll(bytes)
            }
            let source = try openWhole(input.replica)
            guard input.isDirectory else {
                if rain_link_unnamed(source.raw, root, path) == 0 { return }
                let copy = try Descriptor.open(path, in: root, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: 0o444)
                let copied = rain_copy(source.raw, copy.raw, stop.word)
                guard copied >= 0 else { throw SystemError("copy", path, code: Int32(truncatingIfNeeded: 0 &- copied)) }
                return
            }
            try check(rain_mkdirat(root, path, 0o755), "make directory", path)
            var index = TarIndex()
            do throws(TreeError) {
                try copyTree(source.raw, into: root, at: Array(path.utf8), by: .link, index: &index, stop: stop)
            } catch { throw error.systemError }
            _ = fchmodat(root, path, 0o555, 0)
        } catch { throw .system(error) }
    }

    /// A file of a directory of the store as an object of its own: small ones are read, others get a second name.
    fileprivate func linkIn(
        _ file: borrowing Descriptor, sizeBytes: UInt64, as replica: Replica, onDisk: Bool, stop: StopFlag
    ) throws(TreeError) -> LocalOutput.Value {
        do throws(SystemError) {
            if sizeBytes > UInt64(ControlLimits.inlineBytesMax) {
                for onDisk in disk == nil ? [false] : [false, true] {
                    let name = newName()
                    guard rain_link_unnamed(file.raw, staging(onDisk: onDisk), name) == 0 else { continue }
                    do throws(SystemError) { try moveIn(name, from: staging(onDisk: onDisk), as: replica, onDisk: onDisk) } catch {
                        _ = unlinkat(staging(onDisk: onDisk), name, 0)
                        throw error
                    }
                    return .stored(sizeBytes: sizeBytes, isOnDisk: onDisk)
                }
            }
            return try copyIn(file, sizeBytes: sizeBytes, as: replica, onDisk: onDisk, stop: stop)
        } catch { throw .system(error) }
    }

    /// Whether a directory somewhere has the same names, kinds and bytes.
    fileprivate static func isSameTree(_ root: Int32, as path: String, stop: StopFlag) throws(TreeError) -> Bool {
        let result = rain_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0)
        guard result >= 0 else { throw .system(SystemError("open", path, code: 0 &- result)) }
        let other = Descriptor(result)
        let ours = try TarIndex(of: root, stop: stop)
        let theirs: TarIndex
        // Whatever can't be an object is not the same.
        do throws(TreeError) { theirs = try TarIndex(of: other.raw, stop: stop) } catch { return false }
        guard ours.count == theirs.count else { return false }
        for position in 0..<ours.count {
            let entry = ours[position]
            guard entry == theirs[position] else { return false }
            guard case .file = entry.kind else { continue }
            if stop.isSet { throw .stopped }
            let first = try open(entry, in: root)
            let second = try open(entry, in: other.raw)
            var offset: Int64 = 0
            while offset < entry.sizeBytes {
                do throws(SystemError) {
                    let piece = try first.read(at: offset, count: 1 << 20)
                    guard try piece == second.read(at: offset, count: 1 << 20), !piece.isEmpty else { return false }
                    offset += Int64(piece.count)
                } catch { throw .system(error) }
            }
        }
        return true
    }

    private static func open(_ entry: TarEntry, in root: Int32) throws(TreeError) -> Descriptor {
        let result = entry.path.withPath { rain_openat(root, $0, O_RDONLY | O_NOFOLLOW, 0) }
        guard result >= 0 else { throw .system(SystemError("open", entry.name, code: 0 &- result)) }
        return Descriptor(result)
    }
}
