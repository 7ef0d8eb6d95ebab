import CLinux
import Glibc
import Tar

/// A directory of the store that is being made; dropping it removes it.
struct NewTree: ~Copyable, Sendable {
    let root: Descriptor
    let name: String
    /// That it is in.
    let directory: Int32
    let isOnDisk: Bool
    /// It was moved away.
    var isKept = false
    init(_ root: consuming Descriptor, name: String, directory: Int32, isOnDisk: Bool) {
        self.isOnDisk = isOnDisk
        self.root = root
        self.name = name
        self.directory = directory
    }
    deinit { if !isKept { _ = rain_remove_tree(directory, name) } }
}

/// How files of a tree come to be in another.
enum TreeTransfer {
    /// Read-only, and its own.
    case copy
    /// Its own, for a program that may change it.
    case writableCopy
    /// A second name of the same file, where that is possible; for trees of the store.
    case link
}

/// Puts what is in a tree into another directory, which has no such names yet.
///
/// - Parameters:
///   - target: an open directory, and a path below it that exists; empty for itself. Its own mode stays.
///   - index: counts what is put there, by its paths in `target`.
///   - isWrittenOut: copies are known to be at their disk when this returns.
func copyTree(
    _ root: Int32, into target: Int32, at prefix: [UInt8] = [], by transfer: TreeTransfer, index: inout TarIndex, isWrittenOut: Bool = false,
    stop: StopFlag? = nil
) throws(TreeError) {
    let start = prefix.isEmpty ? [] : prefix + [UInt8(ascii: "/")]
    func fail(_ call: String, _ item: TreeItem, _ code: Int32) -> TreeError { .system(SystemError(call, item.text, code: code)) }
    var counted = index
    try walkTree(
        root, stop: stop,
        visit: { item throws(TreeError) in
            let path = start + item.path
            let entry: TarEntry
            if item.status.isDirectory {
                let result = path.withPath { rain_mkdirat(target, $0, 0o755) }
                guard result == 0 else { throw fail("make directory", item, 0 &- result) }
                entry = TarEntry(path: path, kind: .directory)
            } else if item.status.isLink {
                let leads = try item.target()
                guard path.withPath({ path in leads.withPath { symlinkat($0, target, path) } }) == 0 else { throw fail("make link", item, errno) }
                entry = TarEntry(path: path, kind: .link(target: leads))
            } else if item.status.isRegular {
                let size = try place(item, at: path, in: target, by: transfer, isWrittenOut: isWrittenOut, stop: stop)
                entry = TarEntry(path: path, kind: .file(sizeBytes: size, isExecutable: item.isExecutable))
            } else {
                throw .notAFile(item.text)
            }
            do throws(TarError) { try counted.append(entry) } catch { throw .tar(error) }
        },
        leave: { path throws(TreeError) in
            guard transfer != .writableCopy else { return }
            _ = (start + path).withPath { fchmodat(target, $0, 0o555, 0) }
        })
    index = counted
}

/// - Returns: its size.
private func place(
    _ item: TreeItem, at path: [UInt8], in target: Int32, by transfer: TreeTransfer, isWrittenOut: Bool, stop: StopFlag?
) throws(TreeError) -> UInt64 {
    if transfer == .link {
        if path.withPath({ path in item.name.withPath { linkat(item.directory, $0, target, path, 0) } }) == 0 { return item.status.sizeBytes }
        guard errno == EXDEV || errno == EMLINK || errno == EPERM else { throw .system(SystemError("link", item.text, code: errno)) }
    }
    let mode: UInt32 = (transfer == .writableCopy ? 0o644 : 0o444) | (item.isExecutable ? 0o111 : 0)
    let result = path.withPath { rain_openat(target, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode) }
    guard result >= 0 else { throw .system(SystemError("make", item.text, code: 0 &- result)) }
    let copy = Descriptor(result)
    let source = try item.open()
    let copied = rain_copy(source.raw, copy.raw, stop?.word)
    if copied == -Int64(ECANCELED) { throw .stopped }
    guard copied >= 0 else { throw .system(SystemError("copy", item.text, code: Int32(truncatingIfNeeded: 0 &- copied))) }
    guard isWrittenOut else { return UInt64(copied) }
    let written = rain_write_out(copy.raw, stop?.word)
    if written == -ECANCELED { throw .stopped }
    guard written == 0 else { throw .system(SystemError("copy", item.text, code: 0 &- written)) }
    return UInt64(copied)
}
