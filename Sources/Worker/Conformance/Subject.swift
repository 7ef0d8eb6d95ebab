import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

/// A subworker that is tried: its process, and a worker's end of everything that it shares with one.
final class Subject {
    let page: ControlPage
    let stagingDirectory: String
    private let staging: Descriptor
    private let log: Descriptor
    private let pid: pid_t
    private var socket: Int32
    private var codec = SubworkerCodec()
    private var received: [UInt8] = []
    private var waiting: [FromSubworker] = []
    private var end: rain_ended?
    private let nanosecondsMax: UInt64
    private var limit: String {
        nanosecondsMax % 1_000_000_000 == 0 ? "\(nanosecondsMax / 1_000_000_000) s" : "\(Double(nanosecondsMax) / 1e9) s"
    }
    private let directory: String
    /// What a `reserve` is answered; `nil` for a directory.
    var refusal: String?
    private(set) var reserveCount = 0
    /// What it told of its calls' progress, in order.
    private(set) var progress: [SubworkerProgress] = []

    init(_ options: ConformanceOptions) throws(ConformanceFailure) {
        nanosecondsMax = options.timeoutNanoseconds
        var place = ""
        do throws(SystemError) {
            place = try Self.makeDirectory()
            directory = place
            let work = try Self.makeDirectory("work", in: directory)
            staging = try Self.makeDirectory("staging", in: directory)
            stagingDirectory = directory + "/staging"
            log = try Descriptor.open(directory + "/log", O_RDWR | O_CREAT | O_APPEND, mode: 0o600)
            page = try ControlPage()
            let null = try Descriptor.open("/dev/null", O_RDWR)
            var ends: (Int32, Int32) = (-1, -1)
            let made = withUnsafeMutablePointer(to: &ends) {
                $0.withMemoryRebound(to: Int32.self, capacity: 2) { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, $0) }
            }
            guard made == 0 else { throw SystemError("socketpair", code: errno) }
            let ours = Descriptor(ends.0)
            let theirs = Descriptor(ends.1)
            pid = try ProgramEnvironment([]).spawn(
                options.command[0], options.command,
                additions: ["RAIN_SUBWORKER_SOCKET=3", "RAIN_SUBWORKER_NAME=\(options.name)", "RAIN_CONTROL_PAGE=4"], directory: work.raw,
                standard: (null.raw, log.raw, log.raw), inherited: [theirs.raw, 3, page.descriptor.raw, 4])
            socket = ours.take()
        } catch {
            if !place.isEmpty { _ = rain_remove_tree(AT_FDCWD, place) }
            throw ConformanceFailure("it can't be started: \(error)")
        }
    }

    deinit {
        closeSocket()
        if end == nil {
            kill(-pid, SIGKILL)
            while waitpid(pid, nil, 0) < 0 && errno == EINTR {}
        }
        _ = rain_remove_tree(AT_FDCWD, directory)
    }

    private static func makeDirectory() throws(SystemError) -> String {
        var path = Array(((getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp") + "/rain-check-XXXXXX").utf8CString)
        guard mkdtemp(&path) != nil else { throw SystemError("mkdtemp", code: errno) }
        return path.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }

    private static func makeDirectory(_ name: String, in parent: String) throws(SystemError) -> Descriptor {
        try check(rain_mkdirat(AT_FDCWD, parent + "/" + name, 0o700), "make directory", name)
        return try Descriptor.open(parent + "/" + name, O_RDONLY | O_DIRECTORY)
    }

    /// The end of what it wrote to its log.
    var logTail: String { log.tail(bytesMax: 4096) }

    // MARK: Out

    /// Sends a message.
    ///
    /// - Parameters:
    ///   - descriptors: sent with its first byte, and closed.
    ///   - pieceBytes: at most so much in one write.
    func send(_ message: ToSubworker, descriptors: [Int32] = [], pieceBytes: Int = .max) throws(ConformanceFailure) {
        var bytes: [UInt8] = []
        defer { for descriptor in descriptors { _ = close(descriptor) } }
        do throws(WireError) { try codec.encode(message, descriptorCount: UInt16(descriptors.count), into: &bytes) } catch {
            throw ConformanceFailure("a message can't be written: \(error)")
        }
        try send(bytes, descriptors: descriptors, pieceBytes: pieceBytes)
    }

    func send(_ bytes: [UInt8], descriptors: [Int32] = [], pieceBytes: Int = .max) throws(ConformanceFailure) {
        let deadline = monotonicNanoseconds() &+ nanosecondsMax
        var sent = 0
        while sent < bytes.count {
            let count = min(bytes.count - sent, pieceBytes)
            let result = bytes.withUnsafeBytes { bytes in
                descriptors.withUnsafeBufferPointer { rain_send(socket, bytes.baseAddress! + sent, count, $0.baseAddress, sent == 0 ? $0.count : 0) }
            }
            if result > 0 {
                sent += Int(result)
                continue
            }
            guard result == -Int64(EAGAIN) else { throw ConformanceFailure("it closed its socket while a message was sent to it\(ending())") }
            // What it says meanwhile is taken in: it may not read on before.
            try wait(until: deadline, forWriting: true, "it did not read a message of \(bytes.count) bytes")
        }
    }

    /// It will read the end of the stream; what it still says can be heard.
    func closeOutgoing() { _ = shutdown(socket, Int32(SHUT_WR)) }

    func closeSocket() {
        guard socket >= 0 else { return }
        _ = close(socket)
        socket = -1
    }

    // MARK: In

    private func wait(until deadline: UInt64, forWriting: Bool, _ failure: String) throws(ConformanceFailure) {
        let now = monotonicNanoseconds()
        guard now < deadline else { throw ConformanceFailure("\(failure) within \(limit)") }
        var item = pollfd(fd: socket, events: Int16(POLLIN | (forWriting ? POLLOUT : 0)), revents: 0)
        _ = poll(&item, 1, Int32(clamping: (deadline - now) / 1_000_000 + 1))
        if item.revents & Int16(POLLIN) != 0 { try read(endIsFailure: forWriting) }
    }

    /// - Returns: whether the stream goes on.
    @discardableResult private func read(endIsFailure: Bool) throws(ConformanceFailure) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var dropped: UInt32 = 0
        let result = buffer.withUnsafeMutableBytes { rain_receive(socket, $0.baseAddress, $0.count, &dropped) }
        if result == -Int64(EAGAIN) { return true }
        guard dropped == 0 else { throw ConformanceFailure("it sent descriptors, which a worker does not take") }
        guard result > 0 else {
            if endIsFailure { throw ConformanceFailure("it closed its socket\(ending())") }
            return false
        }
        received += buffer[..<Int(result)]
        do throws(WireError) {
            received.removeFirst(try decode())
        } catch { throw ConformanceFailure("it sent what is no message: \(error)") }
        return true
    }

    private func decode() throws(WireError) -> Int {
        var failure: WireError?
        let consumed = received.withUnsafeBytes { bytes in
            do throws(WireError) { return try codec.decode(bytes, into: &waiting) } catch {
                failure = error
                return 0
            }
        }
        if let failure { throw failure }
        return consumed
    }

    /// The next message; a `reserve` is answered on the way, progress is noted.
    func next(_ what: String) throws(ConformanceFailure) -> FromSubworker {
        let deadline = monotonicNanoseconds() &+ nanosecondsMax
        while true {
            while !waiting.isEmpty {
                let message = waiting.removeFirst()
                if case .progress(let list) = message {
                    progress += list
                    continue
                }
                guard case .reserve(let reserve) = message else { return message }
                reserveCount += 1
                if reserve.sizeBytes == 0 { continue }
                if let refusal {
                    try send(.notGranted(file: reserve.file, reason: refusal))
                } else {
                    try send(.granted(file: reserve.file, directory: stagingDirectory))
                }
            }
            try wait(until: deadline, forWriting: false, "no \(what) came")
            if waiting.isEmpty, try !read(endIsFailure: false) { throw ConformanceFailure("it closed its socket instead of sending \(what)\(ending())") }
        }
    }

    /// How it ended, and what its log says.
    private func ending() -> String {
        guard let ended = try? waitForEnd() else { return "" }
        let how = ended.signal != 0 ? "signal \(ended.signal) (\(signalName(ended.signal)))" : "exit code \(ended.exit_code)"
        let tail = logTail
        return " and ended with \(how)" + (tail.isEmpty ? "" : "; its log says:\n\(tail)")
    }

    // MARK: End

    /// Waits until its process has ended.
    func waitForEnd() throws(ConformanceFailure) -> rain_ended {
        if let end { return end }
        let process: Descriptor
        do throws(SystemError) { process = Descriptor(try check(rain_pidfd_open(pid), "pidfd_open")) } catch {
            throw ConformanceFailure("its process can't be watched: \(error)")
        }
        var item = pollfd(fd: process.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&item, 1, Int32(clamping: nanosecondsMax / 1_000_000)) == 1 else { throw ConformanceFailure("its process did not end within \(limit)") }
        // What it leaves in its group, while the number is still its own.
        kill(-pid, SIGKILL)
        var ended = rain_ended()
        guard rain_reap(pid, &ended) == 1 else { throw ConformanceFailure("how its process ended is not known") }
        end = ended
        return ended
    }

    // MARK: Outputs

    private static let outputBytesMax: UInt64 = 1 << 30

    /// The bytes of an output, which must be as the protocol wants it.
    ///
    /// - Parameter values: of the call's constants and inputs.
    func bytes(of output: SubworkerOutput, _ position: Int, values: [[UInt8]]) throws(ConformanceFailure) -> [UInt8] {
        switch output.value {
        case .inline(let bytes):
            guard bytes.count <= ConformanceOptions.inlineBytesMax else {
                throw ConformanceFailure("output \(position) has \(bytes.count) bytes inline; the welcome allows \(ConformanceOptions.inlineBytesMax)")
            }
            return bytes
        case .sameAsInput(let input):
            guard Int(input) < values.count else { throw ConformanceFailure("output \(position) is said to be input \(input); there are \(values.count)") }
            return values[Int(input)]
        case .path(let path):
            let prefix = stagingDirectory + "/"
            let name = String(path.dropFirst(prefix.count))
            guard path.hasPrefix(prefix), !name.isEmpty, !name.contains("/"), name != "..", name != "." else {
                throw ConformanceFailure("output \(position) is '\(path)', which does not lie in the staging directory \(stagingDirectory)")
            }
            do throws(SystemError) {
                let file = try Descriptor.open(name, in: staging.raw, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
                let status = try file.status()
                guard status.isRegular else { throw SystemError("is no regular file:", path, code: EINVAL) }
                guard rain_has_no_writer(file.raw) != 0 else { throw SystemError("is still open or mapped for writing:", path, code: ETXTBSY) }
                guard status.sizeBytes <= Self.outputBytesMax else { throw SystemError("has \(status.sizeBytes) bytes:", path, code: EFBIG) }
                let bytes = try file.read(count: Int(status.sizeBytes))
                _ = unlinkat(staging.raw, name, 0)
                return bytes
            } catch { throw ConformanceFailure("output \(position): \(error)") }
        }
    }

    // MARK: Inputs

    /// A read-only file with these bytes.
    func makeInput(_ bytes: [UInt8], named name: String) throws(ConformanceFailure) -> String {
        let path = "\(directory)/\(name)"
        do throws(SystemError) {
            _ = unlink(path)
            let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o444)
            try file.writeAll(bytes)
        } catch { throw ConformanceFailure("an input can't be written: \(error)") }
        return path
    }

    private static let directoryText = Array("a file in a directory\n".utf8)

    /// A read-only directory with one file in it and one below it.
    func makeDirectoryInput(named name: String) throws(ConformanceFailure) -> String {
        let path = "\(directory)/\(name)"
        do throws(SystemError) {
            for made in [path, path + "/below"] { try check(rain_mkdirat(AT_FDCWD, made, 0o700), "make directory", made) }
            for file in ["/file", "/below/file"] {
                try Descriptor.open(path + file, O_WRONLY | O_CREAT | O_EXCL, mode: 0o444).writeAll(Self.directoryText)
            }
            for made in [path + "/below", path] { guard chmod(made, 0o555) == 0 else { throw SystemError("chmod", made, code: errno) } }
        } catch { throw ConformanceFailure("an input can't be written: \(error)") }
        return path
    }

    /// Whether a directory of `makeDirectoryInput` is as it was made.
    func isUnchanged(_ path: String) -> Bool {
        ["/file", "/below/file"].allSatisfy { file in
            guard let opened = try? Descriptor.open(path + file, O_RDONLY), let bytes = try? opened.read(count: 1024) else { return false }
            return bytes == Self.directoryText
        }
    }

    // MARK: What can be seen of it

    func openDescriptorCount() throws(ConformanceFailure) -> Int {
        guard let entries = opendir("/proc/\(pid)/fd") else { throw ConformanceFailure("its descriptors can't be counted: \(errorText(errno))") }
        defer { closedir(entries) }
        var count = 0
        while readdir(entries) != nil { count += 1 }
        return count
    }

    /// Waits until a queued call has begun: the page is memory whose changes nobody announces, so it is looked at every millisecond.
    func waitForStart(slot: Int) -> Bool {
        let deadline = monotonicNanoseconds() &+ nanosecondsMax
        while page.state(slot) == .queued {
            guard monotonicNanoseconds() < deadline else { return false }
            usleep(1000)
        }
        return true
    }
}
