import Glibc
import NIOCore
import NIOPosix
import Synchronization
import TaskModel
import Testing
import Transport

@testable import Server

/// A worker's data port that gives prepared answers, one for each request, and keeps what was asked.
final class FakeHolder: Sendable {
    let port: UInt16
    private let farewell: Int32

    convenience init(answers: [String], closes: Bool = true) throws { try self.init(bytes: answers.map { [UInt8]($0.utf8) }, closes: closes) }

    init(bytes answers: [[UInt8]], closes: Bool = true) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(listener, address, length) == 0 && listen(listener, 5) == 0 ? getsockname(listener, address, &length) : -1
            }
        }
        try #require(code == 0)
        port = UInt16(bigEndian: address.sin_port)
        var ends: [Int32] = [-1, -1]
        try #require(pipe(&ends) == 0)
        farewell = ends[1]
        var thread = pthread_t()
        let work = Unmanaged.passRetained(Work(listener, farewell: ends[0], answers, closes))
        pthread_create(
            &thread, nil,
            { context in
                if let context { Unmanaged<Work>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, work.toOpaque())
        pthread_detach(thread)
    }
    // The thread ends, unless somebody has connected: this may go before the thread has seen it.
    deinit { close(farewell) }

    var endpoint: Endpoint { Endpoint(host: "127.0.0.1", port: port) }

    private final class Work {
        let listener: Int32
        let answers: [[UInt8]]
        let closes: Bool
        let farewell: Int32
        init(_ listener: Int32, farewell: Int32, _ answers: [[UInt8]], _ closes: Bool) {
            self.listener = listener
            self.farewell = farewell
            self.answers = answers
            self.closes = closes
        }
        func run() {
            var items = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0), pollfd(fd: farewell, events: Int16(POLLIN), revents: 0)]
            while poll(&items, 2, -1) < 0 && errno == EINTR {}
            let connection = items[0].revents != 0 ? accept(listener, nil, nil) : -1
            // Further ones are refused, not left waiting.
            close(listener)
            close(farewell)
            guard connection >= 0 else { return }
            var bytes = [UInt8](repeating: 0, count: 4096)
            for answer in answers {
                var request = ""
                while !request.hasSuffix("\r\n\r\n") {
                    let count = recv(connection, &bytes, bytes.count, 0)
                    guard count > 0 else { break }
                    request += String(decoding: bytes[..<count], as: UTF8.self)
                }
                // What was asked can be part of the answer.
                let target = request.split(separator: " ").dropFirst().first.map(String.init) ?? ""
                let range = request.split(separator: "\r\n").first { $0.lowercased().hasPrefix("range:") }.map(String.init) ?? ""
                let bytes = answer.replacing(Array("TARGET".utf8), with: Array(target.utf8)).replacing(Array("RANGE".utf8), with: Array(range.utf8))
                _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            }
            if closes { close(connection) }
        }
    }
}

private let secret = [UInt8](repeating: 9, count: 32)
private let replica = Replica(object: ObjectID(session: SessionID(3), index: 4), generation: Generation(epoch: ServerEpoch(5), number: 6))

private func answer(_ status: String, _ body: String) -> String { "HTTP/1.1 \(status)\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)" }

@Suite struct HolderClientTests {
    let client = HolderClient(loop: MultiThreadedEventLoopGroup.singleton.next(), dataSecret: secret, traffic: ObjectTraffic())

    private func body(_ connection: HolderConnection) async throws -> String {
        var text = ""
        while let buffer = try await connection.next() { text += String(buffer: buffer) }
        return text
    }

    @Test func `requests carry a ticket that the worker can check`() throws {
        let target = client.target(replica)
        let parts = target.split(whereSeparator: { "?=&".contains($0) }).map(String.init)
        try #require(parts.count == 5 && parts[1] == "expires" && parts[3] == "mac")
        let expires = try #require(UInt64(parts[2]))
        #expect(parts[0] == "/objects/3/4/5-6")
        #expect(DataTicket.verify(path: parts[0], expires: expires, mac: parts[4], secret: secret, now: unixSeconds()) == .valid)
    }

    @Test func `one connection serves one request after the other`() async throws {
        let holder = try FakeHolder(answers: [
            answer("200 OK", "first"), answer("206 Partial Content", "ir"), answer("200 OK", ""),
        ])
        let connection = try await client.connect(to: holder.endpoint)
        #expect(try await connection.get("/x", range: nil).sizeBytes == 5)
        #expect(try await body(connection) == "first")
        #expect(try await connection.get("/x", range: 1...2).sizeBytes == 2)
        #expect(try await body(connection) == "ir")
        #expect(try await connection.get("/x", range: nil).sizeBytes == 0)
        #expect(try await body(connection) == "")
        connection.close()
    }

    @Test func `a range is asked for as such`() async throws {
        let holder = try FakeHolder(answers: ["HTTP/1.1 206 Partial Content\r\nContent-Length: 16\r\n\r\nRANGE"])
        let connection = try await client.connect(to: holder.endpoint)
        _ = try await connection.get("/x", range: 7...9)
        #expect(try await body(connection).lowercased() == "range: bytes=7-9")
        connection.close()
    }

    @Test(arguments: ["404 Not Found", "410 Gone", "401 Unauthorized", "500 Internal Server Error", "206 Partial Content"])
    func `another status is an error that names the worker`(status: String) async throws {
        let holder = try FakeHolder(answers: [answer(status, "x")])
        let connection = try await client.connect(to: holder.endpoint)
        let error = try await #require(throws: HolderError.self) { try await connection.get("/x", range: nil) }
        #expect(error.description.contains("127.0.0.1:\(holder.port)"))
        connection.close()
    }

    @Test func `a body that breaks off is an error`() async throws {
        let holder = try FakeHolder(answers: ["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"])
        let connection = try await client.connect(to: holder.endpoint)
        // The end may be seen with the head already, or only while the body is read.
        await #expect(throws: HolderError.self) {
            #expect(try await connection.get("/x", range: nil).sizeBytes == 100)
            _ = try await body(connection)
        }
        connection.close()
    }

    @Test(arguments: ["", "rubbish\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]) func `what is no answer is an error`(text: String) async throws {
        let holder = try FakeHolder(answers: [text])
        let connection = try await client.connect(to: holder.endpoint)
        await #expect(throws: HolderError.self) { try await connection.get("/x", range: nil) }
        connection.close()
    }

    @Test func `a port where nobody listens is an error`() async throws {
        let socket = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        // Bound and not listening: nobody else gets it either.
        let code = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(socket, $0, length) == 0 ? getsockname(socket, $0, &length) : -1 }
        }
        try #require(code == 0)
        let port = UInt16(bigEndian: address.sin_port)
        let error = try await #require(throws: HolderError.self) { try await client.connect(to: Endpoint(host: "127.0.0.1", port: port)) }
        guard case .unreachable = error else {
            Issue.record("\(error)")
            return
        }
    }

    // MARK: Checksums

    @Test func `all bytes are checked against what the worker says`() async throws {
        let digest = Checksum.of(Array("first".utf8))
        func holder(_ checksum: String) throws -> FakeHolder {
            try FakeHolder(answers: ["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\(checksum)\r\nfirst"])
        }
        let good = try holder("rain-checksum: \(digest)\r\n")
        let traffic = ObjectTraffic()
        let client = HolderClient(loop: MultiThreadedEventLoopGroup.singleton.next(), dataSecret: secret, traffic: traffic)
        #expect(try await client.connect(to: good.endpoint).getAll("/x", replica, sizeBytes: 5) == Array("first".utf8))
        #expect(traffic.fromWorkersBytes.load(ordering: .relaxed) == 5)
        let wrong = Checksum.of([])
        let bad = try holder("rain-checksum: \(wrong)\r\n")
        let error = try await #require(throws: HolderError.self) { try await client.connect(to: bad.endpoint).getAll("/x", replica, sizeBytes: 5) }
        let text = error.description
        #expect(text.contains("127.0.0.1:\(bad.port)") && text.contains("3.o4") && text.contains("\(digest)") && text.contains("\(wrong)"), "\(text)")
        for checksum in ["", "rain-checksum: none\r\n"] {
            let silent = try holder(checksum)
            await #expect(throws: HolderError.self) { try await client.connect(to: silent.endpoint).getAll("/x", replica, sizeBytes: 5) }
        }
        let other = try holder("rain-checksum: \(digest)\r\n")
        await #expect(throws: HolderError.self) { try await client.connect(to: other.endpoint).getAll("/x", replica, sizeBytes: 6) }
    }

    @Test func `many come as rows, and a spoiled or cut row is an error`() async throws {
        var rows: [UInt8] = []
        for index: UInt32 in 1...2 { ObjectRow(object: index, status: .ok, bytes: Array("abc".utf8)).append(to: &rows, hasChecksum: true) }
        func ask(_ rows: [UInt8]) async throws -> [UInt32] {
            let holder = try FakeHolder(bytes: [[UInt8]("HTTP/1.1 200 OK\r\nContent-Length: \(rows.count)\r\n\r\n".utf8) + rows])
            var found: [UInt32] = []
            try await client.connect(to: holder.endpoint).getMany("/x", [], bytesMax: 10) { found.append($0.object) }
            return found
        }
        #expect(try await ask(rows) == [1, 2])
        await #expect(throws: HolderError.self) { try await ask(rows.dropLast()) }
        await #expect(throws: HolderError.self) { try await ask(rows.dropLast() + [rows.last! ^ 1]) }
    }
}
