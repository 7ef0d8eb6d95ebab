import CLinux
import Glibc
import Tar
import TaskModel

/// The stream of a directory object, made as it is read: any part of it, without a copy of the whole.
final class TarStream: @unchecked Sendable {
    // One reader at a time: it passes from thread to thread with the request that it answers.
    let index: TarIndex
    private var root: Int32
    /// Opens the tree again, which may have moved from memory to disk.
    private let reopen: @Sendable () throws(SystemError) -> Descriptor
    /// The member that was read last, its headers, and its file when that is open.
    private var position = -1
    private var header: [UInt8] = []
    private var file: Int32 = -1

    init(root: consuming Descriptor, index: TarIndex, reopen: @escaping @Sendable () throws(SystemError) -> Descriptor) {
        self.root = root.take()
        self.index = index
        self.reopen = reopen
    }
    deinit {
        _ = close(root)
        if file >= 0 { _ = close(file) }
    }

    var sizeBytes: UInt64 { index.sizeBytes }

    /// Fills the buffer from this byte of the stream on.
    ///
    /// - Returns: how many bytes; fewer than there is room for at the end alone.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        var filled = 0
        while filled < buffer.count, offset + UInt64(filled) < sizeBytes {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            filled += try readSome(at: offset + UInt64(filled), into: rest)
        }
        return filled
    }

    /// For one that is known to be small.
    func readAll() throws(SystemError) -> [UInt8] {
        var failure: SystemError?
        let bytes = [UInt8](unsafeUninitializedCapacity: Int(sizeBytes)) { buffer, count in
            do throws(SystemError) { count = try read(at: 0, into: UnsafeMutableRawBufferPointer(buffer)) } catch { failure = error }
        }
        if let failure { throw failure }
        return bytes
    }

    private func readSome(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(SystemError) -> Int {
        let wanted = index.position(at: offset)
        guard wanted < index.count else { return zeros(min(UInt64(buffer.count), sizeBytes - offset), into: buffer) }
        let entry = index[wanted]
        if wanted != position {
            if file >= 0 { _ = close(file) }
            (file, position, header) = (-1, wanted, [])
            TarForm.appendHeader(of: entry, to: &header)
        }
        let inside = offset - index.offset(of: wanted)
        if inside < UInt64(header.count) {
            let part = header[Int(inside)...].prefix(buffer.count)
            buffer.copyBytes(from: part)
            return part.count
        }
        let at = inside - UInt64(header.count)
        guard at < entry.sizeBytes else {
            return zeros(min(UInt64(buffer.count), UInt64(TarForm.padding(entry.sizeBytes)) - (at - entry.sizeBytes)), into: buffer)
        }
        if file < 0 { file = try open(entry) }
        while true {
            let count = pread(file, buffer.baseAddress, Int(min(UInt64(buffer.count), entry.sizeBytes - at)), off_t(at))
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw SystemError("read", entry.name, code: count < 0 ? errno : EIO) }
            return count
        }
    }

    private func zeros(_ count: UInt64, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        UnsafeMutableRawBufferPointer(rebasing: buffer[..<Int(count)]).initializeMemory(as: UInt8.self, repeating: 0)
        return Int(count)
    }

    private func open(_ entry: TarEntry) throws(SystemError) -> Int32 {
        let descriptor = entry.path.withPath { rain_openat(root, $0, O_RDONLY | O_NOFOLLOW, 0) }
        if descriptor >= 0 { return descriptor }
        guard descriptor == -ENOENT else { throw SystemError("open", entry.name, code: 0 &- descriptor) }
        let moved = try reopen().take()
        _ = close(root)
        root = moved
        return try check(entry.path.withPath { rain_openat(root, $0, O_RDONLY | O_NOFOLLOW, 0) }, "open", entry.name)
    }
}

extension Store {
    /// - Parameter root: the open directory of a replica.
    func stream(_ replica: Replica, root: consuming Descriptor) throws(SystemError) -> TarStream {
        let index: TarIndex
        do throws(TreeError) { index = try TarIndex(of: root.raw) } catch { throw error.systemError }
        return TarStream(root: root, index: index, reopen: { [self] () throws(SystemError) in try open(replica) })
    }
}
