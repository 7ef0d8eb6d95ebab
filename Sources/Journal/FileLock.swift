import Glibc

/// The right to be the only process that uses a file, held through a lock file beside it; the kernel gives it back when the process dies.
struct FileLock: ~Copyable {
    private let descriptor: Int32

    /// - Parameter path: of what is protected; `.lock` is added for the lock file, which stays and holds the owner's pid.
    init(protecting path: String) throws(JournalError) {
        let descriptor = open(path + ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .cannotOpen(path: path + ".lock", reason: String(cString: strerror(errno))) }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let code = errno
            defer { close(descriptor) }
            guard code == EWOULDBLOCK else { throw .cannotOpen(path: path + ".lock", reason: String(cString: strerror(code))) }
            throw .inUse(path: path, pid: Self.owner(descriptor))
        }
        self.descriptor = descriptor
        let pid = "\(getpid())\n"
        // For people only: a lock file that can't be written still locks.
        if ftruncate(descriptor, 0) == 0 { _ = pwrite(descriptor, pid, pid.utf8.count, 0) }
    }

    private static func owner(_ descriptor: Int32) -> Int32? {
        var text = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &text, text.count, 0)
        guard count > 0 else { return nil }
        return Int32(String(decoding: text[..<count].prefix { $0 != 0x0A }, as: UTF8.self))
    }

    deinit { close(descriptor) }
}
