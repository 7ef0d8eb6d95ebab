import Glibc

@testable import Server

/// A directory that goes with this value, with what is in it.
final class TemporaryDirectory {
    let path: String
    init() {
        var template = Array("/tmp/rain-server-XXXXXX".utf8CString)
        path = mkdtemp(&template).map { String(cString: $0) } ?? ""
        precondition(!path.isEmpty, "no temporary directory")
    }
    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                if name != "." && name != ".." { remove(path + "/" + name) }
            }
            closedir(stream)
        }
        if unlink(path) != 0 { rmdir(path) }
    }
}

/// A server of a test's own, on free ports; stopped with this value.
final class TestServer {
    let directory = TemporaryDirectory()
    let server: RunningServer
    init() throws {
        signal(SIGPIPE, SIG_IGN)
        var options = ServerOptions(workDirectory: directory.path + "/work", stateDirectory: directory.path + "/state")
        (options.port, options.controlPort, options.version) = (0, 0, "test")
        options.readyFile = directory.path + "/ready"
        server = try RunningServer(options)
    }
    deinit {
        server.stop()
        _ = try? server.waitUntilStopped()
    }
    func connect() -> TestClient { TestClient(port: server.port, token: server.clientToken) }
}

struct TestResponse {
    var status: Int
    var headers: [String: String]
    var body: [UInt8]
    var text: String { String(decoding: body, as: UTF8.self) }
    func has(_ part: String) -> Bool { text.contains(part) }
}

/// One connection that speaks HTTP/1.1 by hand; blocking, with a time-out of ten seconds on every read.
final class TestClient {
    private let descriptor: Int32
    private let token: String
    private var buffer: [UInt8] = []
    private var start = 0

    init(port: UInt16, token: String) {
        self.token = token
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var timeout = timeval(tv_sec: 10, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &timeout, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        precondition(code == 0, "no connection to port \(port): \(lastErrorText())")
    }
    deinit { Glibc.close(descriptor) }

    /// Breaks the connection as the death of a client does.
    func close() { shutdown(descriptor, Int32(SHUT_RDWR)) }

    func send(_ bytes: [UInt8]) {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress! + done, $0.count - done, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { return }
            done += count
        }
    }

    func sendHead(_ method: String, _ path: String, _ headers: [String], withToken: Bool = true) {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: test\r\n"
        if withToken { head += "Authorization: Bearer \(token)\r\n" }
        for header in headers { head += header + "\r\n" }
        send(Array((head + "\r\n").utf8))
    }

    func call(_ method: String, _ path: String, _ body: String? = nil, headers: [String] = [], withToken: Bool = true) -> TestResponse {
        call(method, path, body.map { Array($0.utf8) }, headers: headers, withToken: withToken)
    }

    func call(_ method: String, _ path: String, _ body: [UInt8]?, headers: [String] = [], withToken: Bool = true) -> TestResponse {
        sendHead(method, path, headers + (body.map { ["Content-Length: \($0.count)"] } ?? []), withToken: withToken)
        if let body { send(body) }
        return receive(isHead: method == "HEAD")
    }

    func receive(isHead: Bool = false) -> TestResponse {
        var response = receiveHead()
        if isHead { return response }
        if response.headers["transfer-encoding"] == "chunked" {
            while let chunk = receiveChunk() { response.body += chunk }
        } else {
            response.body = take(response.headers["content-length"].flatMap { Int($0) } ?? 0)
        }
        return response
    }

    func receiveHead() -> TestResponse {
        let line = takeLine().split(separator: " ")
        var response = TestResponse(status: line.count > 1 ? Int(line[1]) ?? 0 : 0, headers: [:], body: [])
        while case let header = takeLine(), !header.isEmpty {
            guard let colon = header.firstIndex(of: ":") else { continue }
            response.headers[header[..<colon].lowercased()] = String(header[header.index(after: colon)...].drop { $0 == " " })
        }
        return response
    }

    /// - Returns: `nil` at the end of the body, or of the connection.
    func receiveChunk() -> [UInt8]? {
        guard let count = Int(takeLine(), radix: 16) else { return nil }
        let bytes = take(count)
        _ = takeLine()
        return count == 0 ? nil : bytes
    }

    /// - Returns: whether the server has closed the connection.
    var isEnded: Bool { !fill() }

    private func take(_ count: Int) -> [UInt8] {
        while buffer.count - start < count { guard fill() else { break } }
        let end = min(start + count, buffer.count)
        defer { start = end }
        return Array(buffer[start..<end])
    }

    private func takeLine() -> String {
        while true {
            if let end = buffer[start...].firstIndex(of: 0x0A) {
                defer { start = end + 1 }
                return String(decoding: buffer[start..<end], as: UTF8.self).filter { $0 != "\r" && $0 != "\r\n" }
            }
            guard fill() else { return "" }
        }
    }

    private func fill() -> Bool {
        if start > 1 << 20 {
            buffer.removeFirst(start)
            start = 0
        }
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        guard count > 0 else { return false }
        buffer += bytes[..<count]
        return true
    }
}

/// The number behind a key of a JSON text, for tests.
func number(_ key: String, in text: String) -> Int? {
    guard let range = text.firstRange(of: "\"\(key)\":") else { return nil }
    return Int(text[range.upperBound...].prefix { $0.isNumber })
}

func string(_ key: String, in text: String) -> String? {
    guard let range = text.firstRange(of: "\"\(key)\":\"") else { return nil }
    return String(text[range.upperBound...].prefix { $0 != "\"" })
}
