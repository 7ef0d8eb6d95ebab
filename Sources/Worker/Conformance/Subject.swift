import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

/// A subworker that is tried: its process, and a worker's end of everything that it shares with one.
final class Subject {
    let page: ControlPage
    let stagingDirectory: String
    /// Another place for outputs, which a granted `reserve` may name.
    let otherDirectory: String
    private let staging: Descriptor
    private let other: Descriptor
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
    private let interrupt: ConformanceInterrupt?
    private var inputCount = 0
    /// What a `reserve` is answered; `nil` for a directory.
    var refusal: String?
    /// Which directory that is.
    var grantsOther = false
    private(set) var reserveCount = 0
    /// Outputs that came in the other directory.
    private(set) var elsewhereCount = 0
    /// What it told of its calls' progress, in order.
    private(set) var progress: [SubworkerProgress] = []

    init(_ options: ConformanceOptions) throws(ConformanceFailure) {
        nanosecondsMax = options.timeoutNanoseconds
        interrupt = options.interrupt
        if let interrupt, interrupt.isSet { throw ConformanceInterrupt.failure }
        var place = ""
        do throws(SystemError) {
            place = try Self.makeDirectory()
            directory = place
            let work = try Self.makeDirectory("work", in: directory)
            staging = try Self.makeDirectory("staging", in: directory)
            stagingDirectory = directory + "/staging"
            other = try Self.makeDirectory("other", in: directory)
            otherDirectory = directory + "/other"
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
        defer { for descriptor in descriptors { _ = close(descriptor) } }
        try send(try encode(message, descriptorCount: descriptors.count), descriptors: descriptors, pieceBytes: pieceBytes)
    }

    func encode(_ message: ToSubworker, descriptorCount: Int = 0) throws(ConformanceFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        do throws(WireError) { try codec.encode(message, descriptorCount: UInt16(descriptorCount), into: &bytes) } catch {
            throw ConformanceFailure("a message can't be written: \(error)")
        }
        return bytes
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
        let events = try poll(socket, Int16(POLLIN | (forWriting ? POLLOUT : 0)), milliseconds: Int32(clamping: (deadline - now) / 1_000_000 + 1))
        if events & Int16(POLLIN) != 0 { try read(endIsFailure: forWriting) }
    }

    /// Waits for something of the subject, or for an interrupt.
    private func poll(_ descriptor: Int32, _ events: Int16, milliseconds: Int32) throws(ConformanceFailure) -> Int16 {
        var items = [pollfd(fd: descriptor, events: events, revents: 0), pollfd(fd: interrupt?.descriptor ?? -1, events: Int16(POLLIN), revents: 0)]
        _ = Glibc.poll(&items, 2, milliseconds)
        if items[1].revents != 0, let interrupt, interrupt.isSet { throw ConformanceInterrupt.failure }
        return items[0].revents
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
                    try send(.granted(file: reserve.file, directory: grantsOther ? otherDirectory : stagingDirectory))
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
        guard try poll(process.raw, Int16(POLLIN), milliseconds: Int32(clamping: nanosecondsMax / 1_000_000)) != 0 else {
            throw ConformanceFailure("its process did not end within \(limit)")
        }
        // What it leaves in its group, while the number is still its own.
        kill(-pid, SIGKILL)
        var ended = rain_ended()
        guard rain_reap(pid, &ended) == 1 else { throw ConformanceFailure("how its process ended is not known") }
        end = ended
        return ended
    }

    // MARK: Outputs

    private static let outputBytesMax: UInt64 = 1 << 30

    /// What an output is, which must be as the protocol wants it. A file or directory is taken away.
    ///
    /// - Parameters:
    ///   - spec: what the template says of it.
    ///   - values: of the call's constants and inputs.
    func value(
        of output: SubworkerOutput, _ position: Int, spec: OutputSpec, values: [SampleValue], inlineBytesMax: Int
    ) throws(ConformanceFailure) -> SampleValue {
        if case .sameAsInput(let input) = output.value {
            guard Int(input) < values.count else { throw ConformanceFailure("output \(position) is said to be input \(input); there are \(values.count)") }
            guard values[Int(input)].isDirectory == spec.isDirectory else {
                throw ConformanceFailure("output \(position) is said to be input \(input); only one of them is a directory")
            }
            return values[Int(input)]
        }
        guard output.isDirectory == spec.isDirectory else {
            throw ConformanceFailure(
                spec.isDirectory
                    ? "output \(position) is declared as a directory; its value does not say `isDirectory`"
                    : "output \(position) is declared as a file; its value says `isDirectory`")
        }
        switch output.value {
        case .inline(let bytes):
            guard !spec.isDirectory else { throw ConformanceFailure("output \(position) is declared as a directory and came as bytes, not as a path") }
            guard bytes.count <= inlineBytesMax else {
                throw ConformanceFailure("output \(position) has \(bytes.count) bytes inline; the welcome allows \(inlineBytesMax)")
            }
            return .bytes(bytes)
        case .path(let path):
            let isElsewhere = grantsOther && path.hasPrefix(otherDirectory + "/")
            let place = isElsewhere ? otherDirectory : stagingDirectory
            let name = String(path.dropFirst(place.count + 1))
            guard path.hasPrefix(place + "/"), !name.isEmpty, !name.contains("/"), name != "..", name != "." else {
                throw ConformanceFailure("output \(position) is '\(path)', which does not lie in the staging directory \(place)")
            }
            if isElsewhere { elsewhereCount += 1 }
            return spec.isDirectory
                ? .directory(try takeDirectory(name, in: isElsewhere ? other.raw : staging.raw, "output \(position), '\(path)'"))
                : .bytes(try takeFile(name, in: isElsewhere ? other.raw : staging.raw, path, position))
        case .sameAsInput: preconditionFailure("met above")
        }
    }

    private func takeFile(_ name: String, in place: Int32, _ path: String, _ position: Int) throws(ConformanceFailure) -> [UInt8] {
        do throws(SystemError) {
            let file = try Descriptor.open(name, in: place, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            let status = try file.status()
            guard status.isRegular else { throw SystemError("is no regular file:", path, code: EINVAL) }
            guard rain_has_no_writer(file.raw) != 0 else { throw SystemError("is still open or mapped for writing:", path, code: ETXTBSY) }
            guard status.sizeBytes <= Self.outputBytesMax else { throw SystemError("has \(status.sizeBytes) bytes:", path, code: EFBIG) }
            let bytes = try file.read(count: Int(status.sizeBytes))
            _ = unlinkat(place, name, 0)
            return bytes
        } catch { throw ConformanceFailure("output \(position): \(error)") }
    }

    private func takeDirectory(_ name: String, in place: Int32, _ title: String) throws(ConformanceFailure) -> [String: [UInt8]] {
        // As a worker does: what its maker has made unreadable is no harm.
        _ = fchmodat(place, name, 0o700, AT_SYMLINK_NOFOLLOW)
        let root = rain_openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)
        guard root >= 0 else { throw ConformanceFailure("\(title), is no directory: \(errorText(0 &- root))") }
        let directory = Descriptor(root)
        var files: [String: [UInt8]] = [:]
        var sizeBytes: UInt64 = 0
        do throws(TreeError) {
            try walkTree(
                directory.raw, stop: nil,
                visit: { item throws(TreeError) in
                    if item.path.count > item.name.count { files[item.text.prefixPath + "/"] = nil }
                    if item.status.isDirectory {
                        _ = item.name.withPath { fchmodat(item.directory, $0, 0o700, 0) }
                        files[item.text + "/"] = []
                    } else if item.status.isLink {
                        files["\(item.text) -> \(String(decoding: try item.target(), as: UTF8.self))"] = []
                    } else {
                        guard item.status.isRegular else { throw .notAFile(item.text) }
                        let file = try item.open()
                        guard rain_has_no_writer(file.raw) != 0 else { throw .stillWritten(item.text) }
                        sizeBytes += item.status.sizeBytes
                        do throws(SystemError) {
                            guard sizeBytes <= Self.outputBytesMax else { throw SystemError("has \(sizeBytes) bytes:", item.text, code: EFBIG) }
                            files[item.text] = try file.read(count: Int(item.status.sizeBytes))
                        } catch { throw .system(error) }
                    }
                })
        } catch {
            if case .system(let error) = error { throw ConformanceFailure("\(title): \(error)") }
            throw ConformanceFailure("\(title), can't be an object: \(error.complaint ?? "it was stopped")")
        }
        _ = rain_remove_tree(place, name)
        return files
    }

    // MARK: Inputs

    /// The path of a new read-only file or directory.
    func makeInput(_ value: SampleValue) throws(ConformanceFailure) -> String {
        inputCount += 1
        let path = "\(directory)/input\(inputCount)"
        do throws(SystemError) {
            switch value {
            case .bytes(let bytes): try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o444).writeAll(bytes)
            case .directory(let files):
                try check(rain_mkdirat(AT_FDCWD, path, 0o700), "make directory", path)
                var made = Set([path])
                for (name, bytes) in files {
                    var parent = path
                    for part in name.split(separator: "/").dropLast() {
                        parent += "/" + part
                        if made.insert(parent).inserted { try check(rain_mkdirat(AT_FDCWD, parent, 0o700), "make directory", parent) }
                    }
                    try Descriptor.open("\(path)/\(name)", O_WRONLY | O_CREAT | O_EXCL, mode: 0o444).writeAll(bytes)
                }
                for directory in made { guard chmod(directory, 0o555) == 0 else { throw SystemError("chmod", directory, code: errno) } }
            }
        } catch { throw ConformanceFailure("an input can't be written: \(error)") }
        return path
    }

    /// Takes an input away: it is valid until the call is answered.
    ///
    /// - Returns: whether it is as it was made.
    func removeInput(_ path: String, _ value: SampleValue) -> Bool {
        let name = String(path.dropFirst(directory.count + 1))
        let place = rain_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0)
        guard place >= 0 else { return false }
        defer { _ = close(place) }
        switch value {
        case .bytes(let bytes):
            let now = try? takeFile(name, in: place, path, 0)
            return now == bytes
        case .directory(let files):
            let now = try? takeDirectory(name, in: place, path)
            _ = rain_remove_tree(place, name)
            return now == files
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
            guard monotonicNanoseconds() < deadline, interrupt?.isSet != true else { return false }
            usleep(1000)
        }
        return true
    }
}

extension String {
    /// All but its last part.
    fileprivate var prefixPath: String { lastIndex(of: "/").map { String(self[..<$0]) } ?? "" }
}
