import CLinux
import Glibc
import Tar

/// Why a tree of files can't be a directory object.
enum TreeError: Error, Equatable, Sendable {
    /// It has no form as a stream.
    case tar(TarError)
    case notAFile(String)
    case stillWritten(String)
    case stopped
    case system(SystemError)
}

/// Something in a tree that is walked through.
struct TreeItem {
    /// Below the root.
    let path: [UInt8]
    let name: [UInt8]
    /// Open, of the directory that it is in.
    let directory: Int32
    let status: stat

    var text: String { String(decoding: path, as: UTF8.self) }
    var isExecutable: Bool { status.st_mode & 0o111 != 0 }

    /// Where a link leads.
    func target() throws(TreeError) -> [UInt8] {
        var failure: Int32 = 0
        let target = [UInt8](unsafeUninitializedCapacity: Int(PATH_MAX)) { buffer, count in
            let size = name.withPath { readlinkat(directory, $0, buffer.withMemoryRebound(to: CChar.self) { $0.baseAddress! }, Int(PATH_MAX)) }
            if size < 0 { failure = errno }
            count = max(0, size)
        }
        guard failure == 0 else { throw .system(SystemError("read link", text, code: failure)) }
        return target
    }

    /// Opened for reading.
    func open() throws(TreeError) -> Descriptor {
        let result = name.withPath { rain_openat(directory, $0, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0) }
        guard result >= 0 else { throw .system(SystemError("open", text, code: 0 &- result)) }
        return Descriptor(result)
    }
}

/// Goes through a tree in the order of its stream. Links are met, not followed.
///
/// - Parameters:
///   - root: an open directory.
///   - visit: gets each member, a directory before what is in it.
///   - leave: gets each directory when all of it was visited, but not the root.
func walkTree(
    _ root: Int32, stop: StopFlag?, visit: (TreeItem) throws(TreeError) -> Void, leave: (_ path: [UInt8]) throws(TreeError) -> Void = { _ in }
) throws(TreeError) {
    struct Frame {
        let path: [UInt8]
        var names: [[UInt8]]
        var next = 0
    }
    // One directory is open at a time, so that no depth runs out of descriptors.
    var current: Int32 = -1
    defer { if current >= 0 { _ = close(current) } }
    func enter(_ path: [UInt8]) throws(TreeError) {
        if current >= 0 { _ = close(current) }
        current =
            path.isEmpty ? rain_openat(root, ".", O_RDONLY | O_DIRECTORY, 0) : path.withPath { rain_openat(root, $0, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0) }
        if current < 0 { throw .system(SystemError("open directory", String(decoding: path, as: UTF8.self), code: 0 &- current)) }
    }
    try enter([])
    var frames = [Frame(path: [], names: try sortedNames(in: current))]
    var count = 0
    while let top = frames.indices.last {
        if let stop, stop.isSet { throw .stopped }
        guard frames[top].next < frames[top].names.count else {
            let path = frames.removeLast().path
            if let parent = frames.last {
                try enter(parent.path)
                try leave(path)
            }
            continue
        }
        let name = frames[top].names[frames[top].next]
        frames[top].next += 1
        let path = frames[top].path.isEmpty ? name : frames[top].path + [UInt8(ascii: "/")] + name
        var status = stat()
        guard name.withPath({ fstatat(current, $0, &status, AT_SYMLINK_NOFOLLOW) }) == 0 else {
            throw .system(SystemError("look at", String(decoding: path, as: UTF8.self), code: errno))
        }
        count += 1
        if count >= TarLimits.entryCountMax { throw .tar(.tooManyEntries) }
        if path.count > TarLimits.pathBytesMax { throw .tar(.pathTooLong(String(decoding: path, as: UTF8.self))) }
        try visit(TreeItem(path: path, name: name, directory: current, status: status))
        if status.isDirectory {
            try enter(path)
            frames.append(Frame(path: path, names: try sortedNames(in: current)))
        }
    }
}

private func sortedNames(in directory: Int32) throws(TreeError) -> [[UInt8]] {
    let copy = rain_openat(directory, ".", O_RDONLY | O_DIRECTORY, 0)
    guard copy >= 0, let list = fdopendir(copy) else { throw .system(SystemError("read directory", code: errno)) }
    defer { closedir(list) }
    var names: [[UInt8]] = []
    while true {
        errno = 0
        guard let entry = readdir(list) else { break }
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
        if name != [UInt8(ascii: ".")] && name != [UInt8(ascii: "."), UInt8(ascii: ".")] { names.append(name) }
    }
    guard errno == 0 else { throw .system(SystemError("read directory", code: errno)) }
    return names.sorted { $0.lexicographicallyPrecedes($1) }
}

extension [UInt8] {
    /// As a C string: file names are bytes, not always text.
    func withPath<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
        (self + [0]).withUnsafeBufferPointer { $0.withMemoryRebound(to: CChar.self) { body($0.baseAddress!) } }
    }
}
