import CLinux
import Glibc

/// What answers at a port, found out by a connection of its own: for messages about ports that were mixed up.
enum PortProbe: Equatable {
    /// It begins as a peer of the control plane does, before it is asked.
    case controlPlane
    /// The client plane of a Rain server.
    case clientPlane
    /// HTTP, but not Rain's.
    case otherHTTP
    /// Something else, and how it begins.
    case other(String)
    /// Nobody listens there, or nothing came in time.
    case silence

    /// A peer on another continent answers within that time; and nobody waits long for a message.
    private static let patienceMilliseconds = 700

    init(host: String, port: UInt16) {
        self = (try? Self.probe(host, port)) ?? .silence
    }

    private static func probe(_ host: String, _ port: UInt16) throws(CLIError) -> PortProbe {
        let socket = try connectedSocket(host: host, port: port, timeoutMilliseconds: patienceMilliseconds)
        // Who speaks first is no HTTP server. That takes a moment only where it is one, which is then asked.
        var begin = receive(socket, milliseconds: 200)
        if begin.isEmpty {
            let request = "GET /api/v1/status HTTP/1.1\r\nHost: \(host)\r\nConnection: close\r\n\r\n"
            guard request.utf8.withContiguousStorageIfAvailable({ send(socket.raw, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }) == request.utf8.count
            else { return .silence }
            begin = receive(socket, milliseconds: Int32(patienceMilliseconds))
        }
        guard let first = begin.first else { return .silence }
        if first == 0xFF { return .controlPlane }
        let text = String(decoding: begin, as: UTF8.self)
        // Without a token it refuses, and how it does so is its own way.
        if text.hasPrefix("HTTP/1.") { return text.contains(#"{"error":{"code":""#) ? .clientPlane : .otherHTTP }
        return .other(shown(String(text.prefix(40)).trimmed))
    }

    private static func receive(_ socket: borrowing Descriptor, milliseconds: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        let deadline = monotonicMilliseconds() + Int64(milliseconds)
        while bytes.count < 4096 {
            var polled = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            let left = deadline - monotonicMilliseconds()
            guard left > 0 else { break }
            let ready = poll(&polled, 1, Int32(left))
            if ready < 0, errno == EINTR { continue }
            guard ready > 0 else { break }
            let count = recv(socket.raw, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            bytes += buffer[..<count]
            // The first byte tells it from everything but other HTTP servers, which are read to the end.
            if bytes.first == 0xFF { break }
            if !bytes.starts(with: Array("HTTP/1.".utf8).prefix(bytes.count)) { break }
        }
        return bytes
    }
}

/// A worker that is given another port than that of the control plane would try for ever.
func checkControlPort(_ host: String, _ port: UInt16) throws(CLIError) {
    let address = host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    switch PortProbe(host: host, port: port) {
    case .controlPlane, .silence: return
    case .clientPlane: throw .clientPort(address)
    case .otherHTTP: throw .notControlPort(address, found: "a web server that is not Rain's")
    case .other(let text): throw .notControlPort(address, found: "something that begins with \"\(text)\"")
    }
}
