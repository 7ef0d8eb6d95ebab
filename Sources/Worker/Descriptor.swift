import CLinux
import Glibc

/// A file descriptor with one owner; dropping it closes it.
struct Descriptor: ~Copyable, Sendable {
    let raw: Int32
    init(_ raw: Int32) { self.raw = raw }
    /// Gives up ownership.
    consuming func take() -> Int32 {
        let number = raw
        discard self
        return number
    }
    deinit { _ = Glibc.close(raw) }

    /// Opens with `O_CLOEXEC`, below a directory.
    static func open(_ path: String, in directory: Int32 = AT_FDCWD, _ flags: Int32, mode: UInt32 = 0) throws(SystemError) -> Descriptor {
        Descriptor(try check(rain_openat(directory, path, flags, mode), "open", path))
    }

    func status() throws(SystemError) -> stat {
        var status = stat()
        guard fstat(raw, &status) == 0 else { throw SystemError("fstat", code: errno) }
        return status
    }

    func writeAll(_ bytes: UnsafeRawBufferPointer) throws(SystemError) {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            let count = write(raw, base, rest.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw SystemError("write", code: errno)
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
        }
    }
    func writeAll(_ bytes: [UInt8]) throws(SystemError) {
        var failure: SystemError?
        bytes.withUnsafeBytes { buffer in
            do throws(SystemError) { try writeAll(buffer) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// Up to `count` bytes from `offset`; fewer at the end of the file.
    func read(at offset: Int64 = 0, count: Int) throws(SystemError) -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let got = pread(raw, buffer.baseAddress! + filled, count - filled, off_t(offset) + filled)
                if got < 0 && errno == EINTR { continue }
                if got < 0 { failure = errno }
                if got <= 0 { break }
                filled += got
            }
        }
        guard failure == 0 else { throw SystemError("read", code: failure) }
        return bytes
    }

    /// The last bytes of a log as text, and how many came before them.
    func tail(bytesMax: Int) -> String {
        guard let size = try? status().st_size, size > 0 else { return "" }
        let start = max(0, Int64(size) - Int64(bytesMax))
        guard let bytes = try? read(at: start, count: Int(Int64(size) - start)) else { return "" }
        let text = String(decoding: bytes, as: UTF8.self)
        return start == 0 ? text : "[the first \(start) bytes are left out]\n" + text
    }
}

extension stat {
    var isRegular: Bool { st_mode & S_IFMT == S_IFREG }
    var isDirectory: Bool { st_mode & S_IFMT == S_IFDIR }
    var isLink: Bool { st_mode & S_IFMT == S_IFLNK }
    var sizeBytes: UInt64 { UInt64(max(0, st_size)) }
}

/// Makes sure that 0, 1 and 2 are open: else the next file that is opened would become a standard descriptor of every process started.
func holdStandardDescriptors() {
    while case let descriptor = rain_openat(AT_FDCWD, "/dev/null", O_RDWR, 0), descriptor >= 0 {
        if descriptor > 2 {
            _ = close(descriptor)
            return
        }
        _ = rain_set_close_on_exec(descriptor, false)
    }
}
