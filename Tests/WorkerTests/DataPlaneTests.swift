import CLinux
import Glibc
import Link
import NIOCore
import NIOPosix
import TaskModel
import Testing
import Transport
import WorkerCore

@testable import Worker

@Suite(.serialized) struct DataPlaneTests {
    private static let secret = [UInt8](repeating: 7, count: 32)

    /// A holder, and a harness that fetches from it.
    private final class Planes {
        let harness: Harness
        let holder: Store
        let server: DataServer
        let directory: String
        private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        init() throws {
            harness = try Harness()
            harness.secret.set(DataPlaneTests.secret)
            directory = try temporaryDirectory()
            holder = try Store(path: directory + "/holder", kind: "test")
            server = try DataServer(host: "127.0.0.1", store: holder, secret: harness.secret, group: group)
        }
        deinit {
            server.close()
            try? group.syncShutdownGracefully()
            _ = rain_remove_tree(AT_FDCWD, directory)
        }
        func fetch(_ replica: Replica, sizeBytes: Int, ports: [UInt16]? = nil) throws -> FetchResult {
            let endpoints = (ports ?? [server.port]).map { Endpoint(host: "127.0.0.1", port: $0) }
            let token = FetchToken(UInt64(sizeBytes) + 1)
            harness.shell.perform(.fetch(token, InputAssignment(replica: replica, sizeBytes: UInt64(sizeBytes), source: .fetch(endpoints))))
            return try harness.wait { if case .fetched(token, let result) = $0 { result } else { nil } }
        }
    }

    private func replica(_ index: UInt32) -> Replica {
        Replica(object: ObjectID(session: SessionID(3), index: index), generation: Generation(epoch: ServerEpoch(2), number: 1))
    }
    private func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) } }

    @Test func `an object is fetched from its holder`() throws {
        let planes = try Planes()
        for size in [0, 1, 4096, 4097, 5_000_000] {
            let replica = replica(UInt32(size))
            try planes.holder.write(bytes(size), as: replica)
            switch try planes.fetch(replica, sizeBytes: size) {
            case .inline(let received): #expect(size <= 4096 && received == bytes(size))
            case .stored(let count, _):
                #expect(size > 4096 && count == UInt64(size))
                #expect(try planes.harness.store.open(replica).read(count: size + 1) == bytes(size))
            case .failed(let error): Issue.record("\(error.message)")
            }
        }
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `many are fetched, a few at a time`() throws {
        let planes = try Planes()
        for index in 0..<30 { try planes.holder.write(bytes(10_000 + index), as: replica(UInt32(index))) }
        for index in 0..<30 {
            planes.harness.shell.perform(
                .fetch(
                    FetchToken(UInt64(index)),
                    InputAssignment(
                        replica: replica(UInt32(index)), sizeBytes: UInt64(10_000 + index),
                        // An endpoint without a host is on the server's machine.
                        source: .fetch([Endpoint(host: "", port: planes.server.port)]))))
        }
        for index in 0..<30 {
            let result = try planes.harness.wait { if case .fetched(FetchToken(UInt64(index)), let result) = $0 { result } else { nil } }
            #expect(result == .stored(sizeBytes: UInt64(10_000 + index)))
        }
    }

    @Test func `the next holder is tried, and the error names them all`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(9000), as: replica(1))
        #expect(try planes.fetch(replica(1), sizeBytes: 9000, ports: [1, planes.server.port]) == .stored(sizeBytes: 9000))
        guard case .failed(let error) = try planes.fetch(replica(2), sizeBytes: 9000, ports: [1, planes.server.port]) else { throw Harness.Unexpected() }
        #expect(error.cause == .setup)
        #expect(error.message.contains("127.0.0.1:1 can't be reached") && error.message.contains(":\(planes.server.port) answered 404"), "\(error.message)")
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `another size than announced is an error`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(9000), as: replica(1))
        for size in [8999, 9001] {
            guard case .failed(let error) = try planes.fetch(replica(1), sizeBytes: size) else { throw Harness.Unexpected() }
            #expect(error.message.contains("\(size)"), "\(error.message)")
        }
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    /// Passes one connection on to a port, with one bit of the last byte changed.
    private func startSpoiler(before port: UInt16) throws -> UInt16 {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isListening = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) == 0 && listen(listener, 1) == 0 && getsockname(listener, $0, &length) == 0
            }
        }
        try #require(isListening)
        let target = (signed(replica(1)), port)
        let answer = try get(target.1, target.0, headers: "rain-checksum: xxh3-128\r\n")
        let sent = Array(answer.whole.dropLast()) + [answer.whole.last! ^ 1]
        BlockingPool(threadCount: 1).run {
            let connection = Descriptor(accept(listener, nil, nil))
            _ = close(listener)
            var request = [UInt8](repeating: 0, count: 4096)
            _ = recv(connection.raw, &request, request.count, 0)
            try? connection.writeAll(sent)
        }
        return UInt16(bigEndian: address.sin_port)
    }

    @Test func `a bit that changed on the way is found, and another holder is asked`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(300_000), as: replica(1))
        let spoiled = try startSpoiler(before: planes.server.port)
        guard case .failed(let error) = try planes.fetch(replica(1), sizeBytes: 300_000, ports: [spoiled]) else { throw Harness.Unexpected() }
        #expect(error.message.contains("checksum"), "\(error.message)")
        #expect(planes.harness.stagedFiles.isEmpty)
        let again = try startSpoiler(before: planes.server.port)
        #expect(try planes.fetch(replica(1), sizeBytes: 300_000, ports: [again, planes.server.port]) == .stored(sizeBytes: 300_000))
        #expect(try planes.harness.store.open(replica(1)).read(count: 300_001) == bytes(300_000))
    }

    @Test func `a checksum is sent where it is asked for`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(5000), as: replica(1))
        let checksum = Checksum()
        bytes(5000).withUnsafeBytes { checksum.update($0) }
        let answer = try get(planes.server.port, signed(replica(1)), headers: "rain-checksum: xxh3-128\r\n")
        #expect(answer.status == 200 && answer.body == bytes(5000) && answer.head.contains("rain-checksum: \(checksum.text)\r\n"))
        #expect(!(try get(planes.server.port, signed(replica(1)))).head.contains("rain-checksum"))
        let empty = Checksum()
        #expect(empty.text == "99aa06d3014798d86001c324468d497f", "the value of the specification for no bytes")
    }

    // MARK: The holder, by plain requests

    private struct Answer {
        var status: Int
        var head: String
        var body: [UInt8]
        var whole: [UInt8]
    }
    private func get(_ port: UInt16, _ target: String, headers: String = "", method: String = "GET") throws -> Answer {
        let socket = Descriptor(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket.raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        guard connected == 0 else { throw SystemError("connect", code: errno) }
        try socket.writeAll(Array("\(method) \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(headers)\r\n".utf8))
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while case let count = read(socket.raw, &buffer, buffer.count), count > 0 { received += buffer[..<count] }
        guard let end = received.indices.first(where: { received[$0...].starts(with: [13, 10, 13, 10]) }) else { throw Harness.Unexpected() }
        let head = String(decoding: received[..<end], as: UTF8.self)
        return Answer(status: Int(head.split(separator: " ")[1]) ?? 0, head: head.lowercased(), body: Array(received[(end + 4)...]), whole: received)
    }
    private func signed(_ replica: Replica, expires: UInt64 = unixSeconds() + 60, secret: [UInt8] = DataPlaneTests.secret) -> String {
        let path = DataTicket.path(
            session: replica.object.session.rawValue, index: replica.object.index, epoch: replica.generation.epoch.rawValue, number: replica.generation.number)
        return DataTicket.signedPath(path, expires: expires, secret: secret)
    }

    @Test(arguments: [
        ("bytes=0-0", 0..<1), ("bytes=10-19", 10..<20), ("bytes=4990-", 4990..<5000), ("bytes=-5", 4995..<5000), ("bytes=4999-99999", 4999..<5000),
        ("bytes=-99999", 0..<5000),
    ]) func `a range is served`(header: String, range: Range<Int>) throws {
        let planes = try Planes()
        try planes.holder.write(bytes(5000), as: replica(1))
        let answer = try get(planes.server.port, signed(replica(1)), headers: "Range: \(header)\r\n")
        #expect(answer.status == 206 && answer.body == Array(bytes(5000)[range]))
        #expect(answer.head.contains("content-range: bytes \(range.lowerBound)-\(range.upperBound - 1)/5000"))
    }

    @Test func `ranges that can't be are refused or left aside`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(5000), as: replica(1))
        let beyond = try get(planes.server.port, signed(replica(1)), headers: "Range: bytes=5000-\r\n")
        #expect(beyond.status == 416 && beyond.head.contains("content-range: bytes */5000"))
        for header in ["bytes=5-2", "lines=1-2", "bytes=0-1,3-4", "bytes=x-", "bytes=99999999999999999999-"] {
            #expect(try get(planes.server.port, signed(replica(1)), headers: "Range: \(header)\r\n").status == 200)
        }
        let head = try get(planes.server.port, signed(replica(1)), method: "HEAD")
        #expect(head.status == 200 && head.body.isEmpty && head.head.contains("content-length: 5000"))
    }

    @Test func `without a good ticket nothing is served`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(5000), as: replica(1))
        let good = signed(replica(1))
        #expect(try get(planes.server.port, good).status == 200)
        let bad = [
            String(good.prefix { $0 != "?" }), good.replacing("expires=", with: "expires=1"), signed(replica(1), secret: [1]),
            signed(replica(1), expires: unixSeconds() - 1), String(good.dropLast()), good.replacing("/3/1/", with: "/3/2/"),
            good.replacing("/3/1/", with: "/+3/1/") + "x",
        ]
        for target in bad { #expect(try get(planes.server.port, target).status == 403, "\(target)") }
        for target in ["/", "/objects/../../etc/passwd", "/objects/3/1/2", "/objects/a/1/2-1", "/objects/99999999999/1/2-1", "/objects/3/1/2-1-1"] {
            #expect(try get(planes.server.port, target).status == 404, "\(target)")
        }
        #expect(try get(planes.server.port, signed(replica(2))).status == 404)
        #expect(try get(planes.server.port, good, method: "DELETE").status == 405)
    }
}
