import Glibc
import Testing

@testable import rain

/// A server of one connection: reads a request's head, answers with given bytes, closes.
private struct OneAnswer {
    let port: UInt16

    init(_ pieces: [String]) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 && listen(descriptor, 1) == 0 && getsockname(descriptor, $0, &length) == 0
            }
        }
        try #require(isListening)
        port = UInt16(bigEndian: address.sin_port)
        Thread.start {
            let connection = accept(descriptor, nil, nil)
            var request = [UInt8](repeating: 0, count: 4096)
            _ = recv(connection, &request, request.count, 0)
            for piece in pieces { _ = send(connection, piece, piece.utf8.count, Int32(MSG_NOSIGNAL)) }
            shutdown(connection, Int32(SHUT_WR))
            close(connection)
            close(descriptor)
        }
    }
}

enum Thread {
    static func start(_ body: @escaping @Sendable () -> Void) {
        final class Box { let body: () -> Void; init(_ body: @escaping () -> Void) { self.body = body } }
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            {
                Unmanaged<Box>.fromOpaque($0!).takeRetainedValue().body()
                return nil
            }, Unmanaged.passRetained(Box(body)).toOpaque())
        pthread_detach(thread)
    }
}

@Suite struct HTTPConnectionTests {
    @Test(
        arguments: [
            (["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"], "hello"),
            (["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "llo"], "hello"),
            (["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"], "hello"),
            (["HTTP/1.1 200 OK\r\nTransfer-Enc", "oding: chunked\r\n\r\n3\r", "\nhel\r\n2\r\nl", "o\r\n0\r\nTrailer: x\r\n\r\n"], "hello"),
            (["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhel", "lo"], "hello"),
            (["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"], ""),
        ] as [([String], String)])
    func `a body is read however it comes`(pieces: [String], expected: String) throws {
        var connection = try HTTPConnection(host: "127.0.0.1", port: OneAnswer(pieces).port, timeoutSeconds: 5)
        let head = try connection.request("GET", "/")
        #expect(head.status == 200)
        #expect(String(decoding: try connection.readBody(), as: UTF8.self) == expected)
    }

    @Test(arguments: [
        [""], ["SSH-2.0-OpenSSH\r\n"], ["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"], ["HTTP/1.1 abc\r\n\r\n"],
        ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"], ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"],
        ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n"],
    ])
    func `what is no answer is an error`(pieces: [String]) throws {
        let port = try OneAnswer(pieces).port
        #expect(throws: CLIError.self) {
            var connection = try HTTPConnection(host: "127.0.0.1", port: port, timeoutSeconds: 5)
            _ = try connection.request("GET", "/")
            _ = try connection.readBody()
        }
    }

    @Test func `a port where nobody listens is named`() throws {
        #expect(throws: CLIError.noServer("127.0.0.1:1", reason: "Connection refused")) {
            _ = try HTTPConnection(host: "127.0.0.1", port: 1)
        }
    }
}
