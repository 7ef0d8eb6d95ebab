import Glibc

/// The start of an answer.
struct HTTPHead: Equatable {
    var status: Int
    var contentLength: UInt64?
    var isChunked = false
}

/// A blocking HTTP/1.1 connection to a server, one request at a time.
///
/// The command line sends a handful of requests and waits for each, so this needs no event loop; an event loop and TLS would
/// cost more start-up time than all the requests together.
struct HTTPConnection: ~Copyable {
    let address: String
    private let host: String
    private let port: UInt16
    private let socket: Descriptor
    private var received: [UInt8] = []
    private var position = 0
    private var body = Body.none
    /// It has answered as a server of clients does.
    private var isAnswered = false
    private let timeoutSeconds: Double
    /// Whether the server answers others.
    private let isServerAlive: () -> Bool
    /// What is asked for may take any time, as long as the server answers others. Else an answer that pauses for long is an error.
    var mayTakeLong = false

    private enum Body {
        case none
        case counted(left: UInt64)
        case chunked
        case untilClose
    }

    /// Connects.
    /// - Parameter timeoutSeconds: how long the server may pause, when it is to take something in too; 0 waits for ever.
    init(host: String, port: UInt16, timeoutSeconds: Double = 0, isServerAlive: @escaping () -> Bool = { false }) throws(CLIError) {
        address = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        (self.host, self.port, self.timeoutSeconds, self.isServerAlive) = (host, port, timeoutSeconds, isServerAlive)
        let milliseconds = Int(timeoutSeconds * 1000)
        socket = try connectedSocket(host: host, port: port, timeoutMilliseconds: milliseconds)
        var limit = timeval(tv_sec: milliseconds / 1000, tv_usec: milliseconds % 1000 * 1000)
        setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var on: Int32 = 1
        setsockopt(socket.raw, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    /// For `poll`; to be read by this connection alone.
    var rawDescriptor: Int32 { socket.raw }
    /// Whether bytes are waiting that `poll` can't see.
    var hasBuffered: Bool { position < received.count }

    /// Sends a request with its body and reads the head of the answer; `nextPart` then gives the body.
    mutating func request(_ method: String, _ path: String, headers: [(String, String)] = [], body: [UInt8]? = nil) throws(CLIError) -> HTTPHead {
        try send(method, path, headers: headers, body: body)
        return try readHead()
    }

    /// Sends a request without waiting for its answer, which `readHead` then takes.
    mutating func send(_ method: String, _ path: String, headers: [(String, String)] = [], body: [UInt8]? = nil) throws(CLIError) {
        var text = "\(method) \(path) HTTP/1.1\r\nHost: \(address)\r\n"
        for (name, value) in headers { text += "\(name): \(value)\r\n" }
        if let body { text += "Content-Length: \(body.count)\r\n" }
        text += "\r\n"
        let isWritten = try write(Array(text.utf8))
        // A server that refuses early closes while we still send: then its answer says why.
        if isWritten, let body { _ = try write(body) }
    }

    mutating func readHead() throws(CLIError) -> HTTPHead {
        while true {
            let line = try readStatusLine()
            let words = line.split(separator: " ", maxSplits: 2)
            guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]) else {
                throw .badAnswer(address, reason: "it begins with \"\(line.prefix(60))\"")
            }
            var head = HTTPHead(status: status)
            while true {
                let field = try readLine()
                if field.isEmpty { break }
                guard let colon = field.firstIndex(of: ":") else { continue }
                let value = field[field.index(after: colon)...].drop { $0 == " " }
                switch field[..<colon].lowercased() {
                case "content-length": head.contentLength = UInt64(value)
                case "transfer-encoding": head.isChunked = value.lowercased().hasSuffix("chunked")
                default: break  // No other header concerns the command line.
                }
            }
            isAnswered = true
            if status / 100 == 1 { continue }
            if head.isChunked {
                body = .chunked
            } else if let length = head.contentLength {
                body = .counted(left: length)
            } else {
                body = status == 204 ? .none : .untilClose
            }
            return head
        }
    }

    /// The next bytes of the body as they come, `nil` at its end.
    mutating func nextPart() throws(CLIError) -> [UInt8]? {
        switch body {
        case .none:
            return nil
        case .counted(let left):
            guard left > 0 else {
                body = .none
                return nil
            }
            let part = try take(upTo: Int(min(left, 1 << 30)))
            body = .counted(left: left - UInt64(part.count))
            return part
        case .untilClose:
            if position == received.count, try fill() == 0 {
                body = .none
                return nil
            }
            return try take(upTo: .max)
        case .chunked:
            let line = try readLine()
            guard let size = Int(line.prefix { $0.isHexDigit }, radix: 16) else {
                throw .badAnswer(address, reason: "a chunk of the size \"\(line.prefix(20))\"")
            }
            var part: [UInt8] = []
            while part.count < size { part += try take(upTo: size - part.count) }
            guard size > 0 else {
                while try !readLine().isEmpty {}
                body = .none
                return nil
            }
            _ = try readLine()
            return part
        }
    }

    mutating func readBody() throws(CLIError) -> [UInt8] {
        var all: [UInt8] = []
        while let part = try nextPart() { all += part }
        return all
    }

    /// A peer of the control plane speaks first, and hangs up on a request: that is another port than it should be, not a broken one.
    private mutating func readStatusLine() throws(CLIError) -> String {
        do throws(CLIError) {
            if position == received.count, try fill() > 0, received[position] == 0xFF { throw .controlPort(address) }
            return try readLine()
        } catch {
            if case .connectionLost = error, !isAnswered, PortProbe(host: host, port: port) == .controlPlane { throw .controlPort(address) }
            throw error
        }
    }

    private mutating func readLine() throws(CLIError) -> String {
        while true {
            if let end = received[position...].firstIndex(of: UInt8(ascii: "\n")) {
                var line = received[position..<end]
                if line.last == UInt8(ascii: "\r") { line.removeLast() }
                position = end + 1
                return String(decoding: line, as: UTF8.self)
            }
            guard received.count - position < 65_536 else { throw .badAnswer(address, reason: "a header line over 64 KiB") }
            if try fill() == 0 { throw .connectionLost(address, reason: "it ended early") }
        }
    }

    private mutating func take(upTo count: Int) throws(CLIError) -> [UInt8] {
        if position == received.count, try fill() == 0 { throw .connectionLost(address, reason: "it ended early") }
        let end = count < received.count - position ? position + count : received.count
        defer { position = end }
        return Array(received[position..<end])
    }

    /// Reads what is there into the buffer; 0 at the end of the stream.
    private mutating func fill() throws(CLIError) -> Int {
        received.removeSubrange(..<position)
        position = 0
        let old = received.count
        received.append(contentsOf: repeatElement(0, count: 65_536))
        while true {
            let count = received.withUnsafeMutableBytes { recv(socket.raw, $0.baseAddress! + old, 65_536, 0) }
            let code = errno
            if count < 0, code == EINTR { continue }
            received.removeSubrange((old + max(count, 0))...)
            if count >= 0 { return count }
            guard code == EAGAIN else { throw .connectionLost(address, reason: errorText(code)) }
            try paused()
            received.append(contentsOf: repeatElement(0, count: 65_536))
        }
    }

    /// Nothing went to or fro for as long as it may.
    private func paused() throws(CLIError) {
        guard mayTakeLong, isServerAlive() else { throw .silent(address, seconds: timeoutSeconds) }
    }

    /// Writes all; `false` when the server no longer takes anything (its answer may still be read).
    private func write(_ bytes: [UInt8]) throws(CLIError) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(socket.raw, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL)) }
            let code = errno
            if count >= 0 {
                sent += count
            } else if code == EPIPE || code == ECONNRESET {
                return false
            } else if code == EAGAIN {
                try paused()
            } else if code != EINTR {
                throw .connectionLost(address, reason: errorText(code))
            }
        }
        return true
    }
}

/// Connects to the first address of a host that takes it.
/// - Parameter timeoutMilliseconds: for each of its addresses; 0 for as long as the kernel tries.
func connectedSocket(host: String, port: UInt16, timeoutMilliseconds: Int = 0) throws(CLIError) -> Descriptor {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = AI_ADDRCONFIG
    var found: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &found)
    guard code == 0 else { throw .unknownHost(host, reason: String(cString: gai_strerror(code))) }
    defer { freeaddrinfo(found) }

    var reason = "no address"
    var candidate = found
    while let info = candidate?.pointee {
        candidate = info.ai_next
        let raw = Glibc.socket(info.ai_family, info.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), info.ai_protocol)
        guard raw >= 0 else {
            reason = errorText(errno)
            continue
        }
        let descriptor = Descriptor(raw)
        // Linux holds `connect` to it, too.
        var limit = timeval(tv_sec: timeoutMilliseconds / 1000, tv_usec: timeoutMilliseconds % 1000 * 1000)
        setsockopt(raw, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        guard connect(raw, info.ai_addr, info.ai_addrlen) == 0 else {
            reason = errno == EINPROGRESS ? "no answer" : errorText(errno)
            continue
        }
        return descriptor
    }
    throw .noServer(host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)", reason: reason)
}
