import ArgumentParser
import Glibc
import Testing

@testable import rain

/// Servers that speak first, or when asked, on a port of their own.
@Suite struct PortTests {
    @Test func `what answers at a port is told apart`() throws {
        let control = try Speaker([0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3], isFirst: true)
        #expect(PortProbe(host: "127.0.0.1", port: control.port) == .controlPlane)
        let clients = try Speaker("HTTP/1.1 401 Unauthorized\r\n\r\n{\"error\":{\"code\":\"unauthorized\",\"message\":\"no\"}}", isFirst: false)
        #expect(PortProbe(host: "127.0.0.1", port: clients.port) == .clientPlane)
        let web = try Speaker("HTTP/1.1 404 Not Found\r\n\r\nnothing", isFirst: false)
        #expect(PortProbe(host: "127.0.0.1", port: web.port) == .otherHTTP)
        let shell = try Speaker("SSH-2.0-OpenSSH_9.2\r\n", isFirst: true)
        #expect(PortProbe(host: "127.0.0.1", port: shell.port) == .other("SSH-2.0-OpenSSH_9.2"))
    }

    @Test func `where nobody listens nothing is found`() throws {
        // Bound, so that nobody else gets it meanwhile, but not listening.
        let bound = try BoundSocket()
        #expect(PortProbe(host: "127.0.0.1", port: bound.port) == .silence)
        #expect(throws: Never.self) { try checkControlPort("127.0.0.1", bound.port) }
        close(bound.raw)
    }

    @Test func `a worker is not sent to the port of clients`() throws {
        let clients = try Speaker("HTTP/1.1 401 Unauthorized\r\n\r\n{\"error\":{\"code\":\"unauthorized\"}}", isFirst: false)
        #expect(throws: CLIError.clientPort("127.0.0.1:\(clients.port)")) { try checkControlPort("127.0.0.1", clients.port) }
    }

    @Test(arguments: [true, false])
    func `a client at the port of workers is told so`(isReset: Bool) throws {
        let control = try Speaker([0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 3], isFirst: true, isReset: isReset)
        var connection = try HTTPConnection(host: "127.0.0.1", port: control.port)
        do throws(CLIError) {
            _ = try connection.request("GET", "/")
            Issue.record("it has answered")
        } catch {
            #expect(error == .controlPort("127.0.0.1:\(control.port)"))
        }
    }

    @Test func `each side has a port of its own`() {
        #expect(throws: ValidationError.self) { try checkPorts(clients: 7300, workers: 7300) }
        #expect(throws: Never.self) { try checkPorts(clients: 0, workers: 0) }
        #expect(throws: Never.self) { try checkPorts(clients: 7300, workers: 7301) }
    }
}

private struct BoundSocket {
    let raw: Int32
    let port: UInt16

    init() throws {
        let raw = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(raw, $0, size) == 0 && getsockname(raw, $0, &size) == 0 }
        }
        try #require(isBound)
        (self.raw, port) = (raw, UInt16(bigEndian: address.sin_port))
    }
}

/// Says one thing on every connection, as long as the tests run: at once, or when it was asked; then ends it, or breaks it.
private struct Speaker {
    let port: UInt16

    init(_ text: String, isFirst: Bool) throws { try self.init(Array(text.utf8), isFirst: isFirst) }

    init(_ bytes: [UInt8], isFirst: Bool, isReset: Bool = false) throws {
        let bound = try BoundSocket()
        try #require(listen(bound.raw, 8) == 0)
        port = bound.port
        Thread.start {
            while case let raw = accept(bound.raw, nil, nil), raw >= 0 {
                var buffer = [UInt8](repeating: 0, count: 4096)
                if !isFirst { _ = recv(raw, &buffer, buffer.count, 0) }
                _ = send(raw, bytes, bytes.count, Int32(MSG_NOSIGNAL))
                if isReset {
                    // What the other side has not read yet is lost with it.
                    var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
                    _ = recv(raw, &buffer, 1, Int32(MSG_PEEK))
                    setsockopt(raw, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
                } else if isFirst {
                    // Until the other side has read it.
                    shutdown(raw, Int32(SHUT_WR))
                    while recv(raw, &buffer, buffer.count, 0) > 0 {}
                }
                close(raw)
            }
        }
    }
}
