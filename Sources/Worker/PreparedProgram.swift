import CLinux
import Glibc
import Synchronization
import TaskModel
import WorkerCore

/// A job that ended before its program began.
struct JobFailure: Error, Sendable {
    /// `nil`: it was told to stop.
    let error: TaskError?
    var isOutOfRoom = false

    var result: JobResult { error.map { isOutOfRoom ? .outOfRoom($0) : .failed($0) } ?? .cancelled }
}

/// A program's directory with its inputs in place, and its open files. Dropping it closes them; `remove` removes the directory.
final class PreparedProgram: Sendable {
    let layout: ProgramLayout
    let directory: ProgramDirectory
    /// What becomes its standard input; -1 for nothing.
    private let input: Atomic<Int32>
    /// What becomes its standard output; -1 for nothing.
    private let output: Atomic<Int32>
    /// Of its standard output in `staging`, when that is an output without a path.
    let outputName: String?

    /// Makes the directory, links or copies the inputs, opens what becomes the standard descriptors.
    ///
    /// - Parameters:
    ///   - spare: an empty directory in memory, for a job that is not on disk; `nil` to make one.
    ///   - stop: looked at in long copies.
    static func prepare(
        _ layout: ProgramLayout, plan: ProgramPlan, job: JobRequest, spare: ProgramDirectory? = nil, store: Store, stop: StopFlag?
    ) throws(JobFailure) -> PreparedProgram {
        do throws(SystemError) {
            let directory = if let spare, !job.isOnDisk { spare } else { try ProgramDirectory(in: store, onDisk: job.isOnDisk) }
            do throws(SystemError) {
                let root = directory.descriptor.raw
                for (position, path) in layout.inputPaths.enumerated() {
                    guard let path else { continue }
                    try place(
                        job.inputs[position], at: path, isWritable: layout.inputIsWritable[position], in: root, onDisk: job.isOnDisk, store: store, stop: stop)
                }
                for path in layout.outputPaths { if let path { try makeParents(of: path, in: root) } }
                return try PreparedProgram(layout, plan, job, directory: directory, store: store)
            } catch {
                _ = rain_remove_tree(store.tasks(onDisk: directory.isOnDisk), directory.name)
                throw error
            }
        } catch {
            if error.code == ECANCELED { throw JobFailure(error: nil) }
            let isOutOfRoom = error.code == ENOSPC || error.code == EDQUOT
            if isOutOfRoom && job.isOnDisk {
                // The little that most programs need may still fit into memory.
                var job = job
                job.isOnDisk = false
                return try prepare(layout, plan: plan, job: job, store: store, stop: stop)
            }
            throw JobFailure(
                error: store.taskError(error, doing: "\(plan.title) could not get its directory"), isOutOfRoom: isOutOfRoom)
        }
    }

    private init(_ layout: ProgramLayout, _ plan: ProgramPlan, _ job: JobRequest, directory: ProgramDirectory, store: Store) throws(SystemError) {
        self.layout = layout
        self.directory = directory
        var input: Int32 = -1
        if let stdin = plan.stdin { input = try Self.open(job.inputs[stdin], store: store).take() }
        var output: Int32 = -1
        var outputName: String?
        if let stdout = plan.stdout {
            do throws(SystemError) {
                if let path = layout.outputPaths[stdout] {
                    output = try Descriptor.open(path, in: directory.descriptor.raw, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644).take()
                } else {
                    let name = store.newName()
                    output = try store.openNew(name, onDisk: job.isOnDisk).take()
                    outputName = name
                }
            } catch {
                if input >= 0 { _ = close(input) }
                throw error
            }
        }
        self.outputName = outputName
        self.input = Atomic(input)
        self.output = Atomic(output)
    }
    deinit { closeStandard() }

    /// Its directory and its standard streams lie on disk.
    var isOnDisk: Bool { directory.isOnDisk }
    /// Descriptors for the program; -1 where it gets none of its own.
    var standard: (input: Int32, output: Int32) { (input.load(ordering: .relaxed), output.load(ordering: .relaxed)) }
    /// Once the program has them. A writer that is left would keep the output from being accepted.
    func closeStandard() {
        for descriptor in [input.exchange(-1, ordering: .relaxed), output.exchange(-1, ordering: .relaxed)] where descriptor >= 0 { _ = close(descriptor) }
    }

    /// What is mapped read-only is a second name of the store's own file: nobody but root can open that for writing.
    private static func place(
        _ input: LocalInput, at path: String, isWritable: Bool, in directory: Int32, onDisk: Bool, store: Store, stop: StopFlag?
    ) throws(SystemError) {
        try makeParents(of: path, in: directory)
        switch input.value {
        case .inline(let bytes):
            let file = try Descriptor.open(path, in: directory, O_WRONLY | O_CREAT | O_EXCL, mode: isWritable ? 0o644 : 0o444)
            try file.writeAll(bytes)
        case .stored where input.isDirectory && isWritable:
            try check(rain_mkdirat(directory, path, 0o755), "make directory", path)
            let source = try store.open(input.replica)
            let copy = try Descriptor.open(path, in: directory, O_RDONLY | O_DIRECTORY)
            var index = TarIndex()
            do throws(TreeError) {
                try copyTree(source.raw, into: copy.raw, by: .writableCopy, index: &index, stop: stop)
            } catch { throw error.systemError }
        case .stored where isWritable:
            let source = try store.open(input.replica)
            let copy = try Descriptor.open(path, in: directory, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
            let copied = rain_copy(source.raw, copy.raw, stop?.word)
            guard copied >= 0 else { throw SystemError("copy", path, code: Int32(truncatingIfNeeded: 0 &- copied)) }
        case .stored, .cached:
            let objects = onDisk ? store.disk?.objects ?? store.objects : store.objects
            if linkat(objects, Store.name(input.replica), directory, path, 0) == 0 { return }
            guard errno == EXDEV || errno == EMLINK || errno == EPERM || errno == ENOENT && store.disk != nil else {
                throw SystemError("link input", path, code: errno)
            }
            guard symlinkat(store.path(input.replica), directory, path) == 0 else { throw SystemError("link input", path, code: errno) }
        }
    }

    static func makeParents(of path: String, in directory: Int32) throws(SystemError) {
        guard path.utf8.contains(UInt8(ascii: "/")) else { return }
        var parent = ""
        for part in path.pathParts.dropLast() {
            parent += parent.isEmpty ? part : "/" + part
            let result = rain_mkdirat(directory, parent, 0o755)
            if result < 0, result != -EEXIST { throw SystemError("make directory", parent, code: 0 &- result) }
        }
    }

    /// An input as an open file.
    private static func open(_ input: LocalInput, store: Store) throws(SystemError) -> Descriptor {
        guard case .inline(let bytes) = input.value else { return try store.openForTask(input.replica) }
        let file = Descriptor(try check(rain_memfd("rain-input"), "memfd_create"))
        try file.writeAll(bytes)
        guard lseek(file.raw, 0, SEEK_SET) == 0 else { throw SystemError("lseek", code: errno) }
        return file
    }

    /// - Returns: whether the trash has to be emptied.
    func remove(from store: Store) -> Bool {
        if let outputName { _ = unlinkat(store.staging(onDisk: isOnDisk), outputName, 0) }
        // A path with parents may lead through a link to somebody else's files: what has such a path goes with the directory.
        for path in layout.inputPaths + layout.outputPaths {
            if let path, !path.utf8.contains(UInt8(ascii: "/")) { _ = unlinkat(directory.descriptor.raw, path, 0) }
        }
        return directory.remove(from: store)
    }
}
