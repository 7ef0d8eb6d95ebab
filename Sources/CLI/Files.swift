import Glibc

/// A file descriptor with one owner; dropping it closes it.
struct Descriptor: ~Copyable, Sendable {
    let raw: Int32
    init(_ raw: Int32) { self.raw = raw }
    deinit { _ = close(raw) }
}

func errorText(_ code: Int32) -> String {
    String(cString: strerror(code))
}

/// A file's bytes; `nil` when there is no such file.
func readFile(_ path: String) throws(CLIError) -> [UInt8]? {
    let raw = path == "-" ? dup(0) : open(path, O_RDONLY | O_CLOEXEC)
    if raw < 0, errno == ENOENT { return nil }
    guard raw >= 0 else { throw .system(call: "open", about: path, code: errno) }
    let descriptor = Descriptor(raw)
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = read(descriptor.raw, &buffer, buffer.count)
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw .system(call: "read", about: path, code: errno) }
        if count == 0 { return bytes }
        bytes += buffer[..<count]
    }
}

/// A file that appears under its name only when it is complete. A device or a pipe that is there already is written to as it is.
struct NewFile: ~Copyable {
    private let path: String
    /// Also where `path` is no file.
    private let partPath: String
    private let descriptor: Descriptor
    private var isComplete: Bool

    init(_ path: String, mode: mode_t) throws(CLIError) {
        let place = try Self.place(path)
        let partPath = place.isSpecial ? place.path : "\(place.path).part\(getpid())"
        let raw = open(partPath, O_WRONLY | O_CLOEXEC | (place.isSpecial ? 0 : O_CREAT | O_TRUNC), mode)
        guard raw >= 0 else { throw .system(call: "open", about: path, code: errno) }
        self.path = place.path
        self.partPath = partPath
        descriptor = Descriptor(raw)
        isComplete = place.isSpecial
    }

    /// Says at once what would be an error later.
    static func check(_ path: String) throws(CLIError) {
        let place = try place(path)
        let slash = place.path.lastIndex(of: "/")
        let parent = slash.map { $0 == place.path.startIndex ? "/" : String(place.path[..<$0]) } ?? "."
        let isWritable = place.isSpecial ? access(place.path, W_OK) == 0 : access(parent, W_OK | X_OK) == 0
        guard isWritable else { throw .system(call: "open", about: path, code: errno) }
    }

    /// Where it really is, so that a symbolic link stays one.
    private static func place(_ path: String) throws(CLIError) -> (path: String, isSpecial: Bool) {
        var status = stat()
        guard stat(path, &status) == 0 else { return (path, false) }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: throw .system(call: "open", about: path, code: EISDIR)
        case S_IFREG:
            guard let resolved = realpath(path, nil) else { return (path, false) }
            defer { free(resolved) }
            return (String(cString: resolved), false)
        default: return (path, true)
        }
    }

    func write(_ bytes: [UInt8]) throws(CLIError) {
        try writeAll(bytes, to: descriptor.raw, path: path)
    }

    consuming func finish() throws(CLIError) {
        guard !isComplete else { return }
        guard rename(partPath, path) == 0 else { throw .system(call: "rename", about: path, code: errno) }
        isComplete = true
    }

    deinit { if !isComplete { unlink(partPath) } }
}

func writeAll(_ bytes: [UInt8], to raw: Int32, path: String) throws(CLIError) {
    var written = 0
    while written < bytes.count {
        let count = bytes.withUnsafeBytes { Glibc.write(raw, $0.baseAddress! + written, bytes.count - written) }
        if count < 0, errno == EINTR { continue }
        guard count >= 0 else { throw .system(call: "write", about: path, code: errno) }
        written += count
    }
}

/// Makes a directory with those above it.
func makeDirectories(_ path: String, mode: mode_t = 0o700) throws(CLIError) {
    var made = path.hasPrefix("/") ? "" : "."
    for part in path.split(separator: "/") {
        made += "/\(part)"
        if mkdir(made, mode) != 0, errno != EEXIST { throw .system(call: "mkdir", about: made, code: errno) }
    }
}

/// The last lines of a text file, of the part that begins at an offset; empty when it can't be read.
func tail(_ path: String, from start: Int, lineCount: Int = 20) -> String {
    guard let bytes = try? readFile(path) else { return "" }
    return String(decoding: bytes.dropFirst(start), as: UTF8.self).split(separator: "\n").suffix(lineCount).joined(separator: "\n")
}

/// A path made absolute, because a daemon keeps no working directory.
func absolute(_ path: String) throws(CLIError) -> String {
    if path.hasPrefix("/") { return path }
    guard let directory = getcwd(nil, 0) else { throw .system(call: "getcwd", about: path, code: errno) }
    defer { free(directory) }
    return "\(String(cString: directory))/\(path)"
}

/// Best effort: there is nowhere to say that stderr can't be written.
func printError(_ text: String) {
    try? writeAll(Array("\(text)\n".utf8), to: STDERR_FILENO, path: "stderr")
}

func logFile(directory: String, role: RunRecord.Role) -> String { "\(directory)/\(role.rawValue).log" }

/// From now on what this process and its children print goes to a log file.
func writeLog(to directory: String, role: RunRecord.Role) throws(CLIError) {
    try makeDirectories(directory)
    let path = logFile(directory: directory, role: role)
    let raw = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
    guard raw >= 0 else { throw .system(call: "open", about: path, code: errno) }
    let log = Descriptor(raw)
    for standard in [STDOUT_FILENO, STDERR_FILENO] where dup2(log.raw, standard) < 0 {
        throw .system(call: "dup2", about: path, code: errno)
    }
}
