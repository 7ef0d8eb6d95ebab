import CLinux
import Glibc
import TaskModel
import WorkerCore

/// The outputs of one program on their way into the store.
struct ProgramCollection: Sendable {
    let title: String
    let prepared: PreparedProgram
    let outputs: [OutputSpec]
    let replicas: [Replica]
    let store: Store

    enum Collected {
        case outputs([LocalOutput])
        case failed(TaskError)
        func jobResult(durationNanoseconds: UInt64) -> JobResult {
            switch self {
            case .outputs(let outputs): .finished(outputs, durationNanoseconds: durationNanoseconds, debug: "")
            case .failed(let error): .failed(error)
            }
        }
    }

    /// - Throws: `needsCopy` when a long copy would be needed and is not allowed; what was taken is taken then, and taken once.
    func collect(mayCopyLong: Bool) throws(AcceptanceError) -> Collected {
        if !mayCopyLong && needsLongCopy() { throw .needsCopy }
        var taken: [LocalOutput] = []
        var readBytes = 0
        for position in outputs.indices {
            let inlineBytesMax = Store.inlineBytesMax(after: readBytes)
            do throws(AcceptanceError) {
                let value =
                    if outputs[position].isDirectory {
                        try store.acceptTree(
                            prepared.layout.outputPaths[position] ?? "", in: prepared.directory.descriptor.raw, as: replicas[position],
                            onDisk: prepared.isOnDisk)
                    } else if let path = prepared.layout.outputPaths[position] {
                        try store.accept(
                            path, in: prepared.directory.descriptor.raw, as: replicas[position], onDisk: prepared.isOnDisk, inlineBytesMax: inlineBytesMax,
                            mayCopyLong: true)
                    } else {
                        try store.accept(
                            prepared.outputName ?? "", in: store.staging(onDisk: prepared.isOnDisk), as: replicas[position], onDisk: prepared.isOnDisk,
                            inlineBytesMax: inlineBytesMax, mayCopyLong: true)
                    }
                if case .inline(let bytes) = value { readBytes += bytes.count }
                taken.append(LocalOutput(isDirectory: outputs[position].isDirectory, value: value))
            } catch {
                for replica in replicas.prefix(position) { _ = store.remove(replica) }
                return .failed(taskError(error, position))
            }
        }
        return .outputs(taken)
    }

    /// Links and second names are copied; everything else is moved. In a directory each file is looked at.
    private func needsLongCopy() -> Bool {
        if outputs.contains(where: \.isDirectory) { return true }
        for path in prepared.layout.outputPaths {
            guard let path else { continue }
            var status = stat()
            guard fstatat(prepared.directory.descriptor.raw, path, &status, AT_SYMLINK_NOFOLLOW) == 0, status.isLink || status.st_nlink > 1 else { continue }
            if fstatat(prepared.directory.descriptor.raw, path, &status, 0) == 0, status.sizeBytes >= Store.longCopyBytes { return true }
        }
        return false
    }

    private func taskError(_ error: AcceptanceError, _ position: Int) -> TaskError {
        let path = prepared.layout.outputPaths[position] ?? "standard output"
        let label = outputs[position].label
        let name = "output \(position)\(label.isEmpty ? "" : " ('\(label)')")"
        return switch error {
        case .missing:
            TaskError(.contract, "\(title) ended well but made no \(outputs[position].isDirectory ? "directory" : "file") '\(path)' for \(name)")
        case .directory: TaskError(.contract, "\(title) made a directory '\(path)', but \(name) is declared as a file")
        case .notADirectory: TaskError(.contract, "\(title) made a file '\(path)', but \(name) is declared as a directory")
        case .tree(let error):
            TaskError(.contract, "\(title) made the directory '\(path)' for \(name), which can't be an object: \(error.complaint ?? "it was stopped")")
        case .notAFile: TaskError(.contract, "\(title) made '\(path)' for \(name), which is not a regular file")
        case .stillWritten: TaskError(.contract, "\(title) has ended, but another process still writes to '\(path)' of \(name)")
        case .needsCopy: TaskError(.contract, "\(title): '\(path)' of \(name) could not be copied")
        case .system(let error): store.taskError(error, doing: "\(title): \(name) ('\(path)') could not be taken")
        }
    }
}
