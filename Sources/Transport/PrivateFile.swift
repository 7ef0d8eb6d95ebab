import Glibc

/// Small files that only their owner may read, written whole or not at all.
package enum PrivateFile {
    struct Content {
        var text: String
        var warnings: [String]
    }
    /// More is no file of ours.
    private static let sizeBytesMax = 64 * 1024

    /// - Returns: `nil` when there is none.
    static func read(_ path: String) throws(TransportError) -> Content? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw failure(path, "open")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(path, "read") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .file(path: path, action: "read", reason: "it is no regular file") }
        guard status.st_size <= sizeBytesMax else { throw .file(path: path, action: "read", reason: "it has over \(sizeBytesMax) bytes") }
        var bytes = [UInt8](repeating: 0, count: sizeBytesMax)
        var count = 0
        while count < bytes.count {
            let got = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            if got == 0 { break }
            if got < 0 {
                if errno == EINTR { continue }
                throw failure(path, "read")
            }
            count += got
        }
        var warnings: [String] = []
        if status.st_mode & 0o077 != 0 {
            let mode = String(status.st_mode & 0o777, radix: 8)
            warnings.append("\(path) can be read by others (mode \(mode)): chmod 600 \(path)")
        }
        return Content(text: String(decoding: bytes.prefix(count), as: UTF8.self), warnings: warnings)
    }

    /// Makes the file unless there is one already; whoever comes second leaves the first one's.
    static func createOnce(_ path: String, with text: String) throws(TransportError) {
        let temporary = try writeBeside(path, text)
        defer { unlink(temporary) }
        // A link, not a rename: it fails when the name is taken, so two servers that start at once agree on one key.
        guard link(temporary, path) == 0 || errno == EEXIST else { throw failure(path, "make") }
        try syncDirectory(of: path)
    }

    static func replace(_ path: String, with text: String) throws(TransportError) {
        let temporary = try writeBeside(path, text)
        guard rename(temporary, path) == 0 else {
            let error = failure(path, "write")
            unlink(temporary)
            throw error
        }
        try syncDirectory(of: path)
    }

    /// Makes the directory and what is missing above it, for the owner alone, so that it outlives a power failure.
    package static func makeDirectory(_ path: String) throws(TransportError) {
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFDIR else { throw .file(path: path, action: "use", reason: "it is no directory") }
            return
        }
        guard errno == ENOENT else { throw failure(path, "use") }
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex { try makeDirectory(String(path[..<slash])) }
        if mkdir(path, 0o700) == 0 { return try syncDirectory(of: path) }
        guard errno == EEXIST else { throw failure(path, "make the directory") }
        guard stat(path, &status) == 0 else { throw failure(path, "use") }
        guard status.st_mode & S_IFMT == S_IFDIR else { throw .file(path: path, action: "use", reason: "it is no directory") }
    }

    private static func writeBeside(_ path: String, _ text: String) throws(TransportError) -> String {
        let temporary = try path + "." + hexText(randomBytes(8))
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(temporary, "make") }
        let bytes = Array(text.utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + written, $0.count - written) }
            if count < 0 {
                if errno == EINTR { continue }
                let error = failure(temporary, "write")
                close(descriptor)
                unlink(temporary)
                throw error
            }
            written += count
        }
        let isSynced = fsync(descriptor) == 0
        let error = failure(temporary, "write")
        close(descriptor)
        guard isSynced else {
            unlink(temporary)
            throw error
        }
        return temporary
    }

    private static func syncDirectory(of path: String) throws(TransportError) {
        let directory = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        // One that the user may write to and not read; nobody can sync it then.
        if descriptor < 0, errno == EACCES { return }
        guard descriptor >= 0 else { throw failure(directory, "open") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw failure(directory, "write") }
    }

    private static func failure(_ path: String, _ action: String) -> TransportError {
        .file(path: path, action: action, reason: String(cString: strerror(errno)))
    }
}
