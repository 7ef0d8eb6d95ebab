import CLinux
import Glibc
import Link
import Synchronization
import TaskModel
import Testing
import Transport
import WorkerCore

@testable import Worker

@Suite(.serialized) struct DataPlaneTests {
    @Test func `a checksum is sent where it is asked for`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(5000), as: replica(1))
        let answer = try get(planes.server.port, signed(replica(1)), headers: "rain-checksum: xxh3-128\r\n")
        #expect(answer.status == 200 && answer.body == bytes(5000) && answer.head.contains("rain-checksum: \(Checksum.of(bytes(5000)))\r\n"))
        #expect(!(try get(planes.server.port, signed(replica(1)))).head.contains("rain-checksum"))
    }

    @Test func `the first bytes don't wait for the checksum, which follows them`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(300_000), as: replica(1))
        let digest = Checksum.of(bytes(300_000))
        let asked = "rain-checksum: xxh3-128\r\nte: trailers\r\n"
        let answer = try get(planes.server.port, signed(replica(1)), headers: asked)
        #expect(answer.status == 200 && answer.head.contains("transfer-encoding: chunked") && answer.head.contains("rain-size: 300000"))
        #expect(answer.body == Array("493e0\r\n".utf8) + bytes(300_000) + Array("\r\n0\r\nrain-checksum: \(digest)\r\n\r\n".utf8))
        // From then on it is known, also for a part, and for those who take no trailers.
        for headers in [asked, "rain-checksum: xxh3-128\r\n", asked + "range: bytes=100000-\r\n"] {
            let again = try get(planes.server.port, signed(replica(1)), headers: headers)
            #expect(again.head.contains("rain-checksum: \(digest)") && again.head.contains("content-length"))
        }
        #expect(planes.checksums.computedCount.load(ordering: .relaxed) == 1)
    }

    @Test(arguments: ["", "range: bytes=299999-\r\nte: trailers\r\n"]) func `a checksum that must come first is worked out first`(headers: String) throws {
        let planes = try Planes()
        try planes.holder.write(bytes(300_000), as: replica(1))
        let answer = try get(planes.server.port, signed(replica(1)), headers: headers + "rain-checksum: xxh3-128\r\n")
        #expect(answer.head.contains("rain-checksum: \(Checksum.of(bytes(300_000)))") && bytes(300_000).suffix(answer.body.count) == answer.body[...])
    }

    @Test func `checksums of what is gone are forgotten`() throws {
        let planes = try Planes()
        let table = ChecksumTable()
        for index in 1...3 { table.set(Checksum.of([]), of: replica(UInt32(index))) }
        table.remove([replica(1)])
        #expect(table.known(replica(1)) == nil && table.known(replica(2)) != nil)
        table.remove(replica(2).object.session)
        #expect(table.known(replica(2)) == nil && table.known(replica(3)) == nil)
        try planes.holder.write(bytes(300_000), as: replica(1))
        _ = try planes.fetch(replica(1), sizeBytes: 300_000)
        let known = planes.harness.shell.fetcher.holder.checksums
        #expect(known.known(replica(1)) == Checksum.of(bytes(300_000)), "what was checked on its way in need not be read again")
        planes.harness.shell.perform(.remove([replica(1)]))
        #expect(known.known(replica(1)) == nil)
    }

    // MARK: Connections

    /// Whether a connection ends without another byte.
    private func ends(_ socket: Int32) -> Bool {
        var item = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&item, 1, 10_000) == 1 else { return false }
        var byte: UInt8 = 0
        return read(socket, &byte, 1) <= 0
    }
    /// The whole answer to a request for 100 bytes.
    private func isAnswered(_ socket: Int32) -> Bool {
        var received: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = read(socket, &buffer, buffer.count), count > 0 {
            received += buffer[..<count]
            if let end = received.firstRange(of: [13, 10, 13, 10])?.upperBound, received.count - end == 100 { return true }
        }
        return false
    }
    private func request(_ replica: Replica) -> [UInt8] { Array("GET \(signed(replica)) HTTP/1.1\r\nHost: x\r\n\r\n".utf8) }

    @Test(arguments: ["", "GET /objects/1", "POST /objects HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n1/2"])
    func `who asks for nothing is not kept`(begin: String) throws {
        var limits = DataServerLimits()
        limits.strangerMilliseconds = 50
        let planes = try Planes(connections: limits)
        let socket = try connect(to: planes.server.port)
        try socket.writeAll(Array(begin.utf8))
        #expect(ends(socket.raw))
    }

    @Test func `a client that has shown a ticket may be idle for longer, and one that is slow to read is not idle`() throws {
        var limits = DataServerLimits()
        (limits.strangerMilliseconds, limits.idleMilliseconds) = (400, 1200)
        let planes = try Planes(connections: limits)
        try planes.holder.write(bytes(100), as: replica(1))
        try planes.holder.write(bytes(32 << 20), as: replica(2))
        let slow = try connect(to: planes.server.port)
        try slow.writeAll(request(replica(2)))
        let begin = monotonicNanoseconds()
        let known = try connect(to: planes.server.port)
        try known.writeAll(request(replica(1)))
        #expect(isAnswered(known.raw))
        let stranger = try connect(to: planes.server.port)
        #expect(ends(stranger.raw))
        #expect(ends(known.raw))
        #expect(monotonicNanoseconds() - begin >= 1_200_000_000, "not with the stranger")
        // By now it has been slow for longer than one may be idle.
        var received = 0
        var buffer = [UInt8](repeating: 0, count: 65536)
        while received < 32 << 20, case let count = read(slow.raw, &buffer, buffer.count), count > 0 { received += count }
        #expect(received >= 32 << 20)
    }

    @Test func `more connections than it has room for end at once`() throws {
        var limits = DataServerLimits()
        limits.connections = 2
        let planes = try Planes(connections: limits)
        try planes.holder.write(bytes(100), as: replica(1))
        do {
            let first = try connect(to: planes.server.port)
            let second = try connect(to: planes.server.port)
            for _ in 0..<2 {
                try first.writeAll(request(replica(1)))
                #expect(isAnswered(first.raw))
                try second.writeAll(request(replica(1)))
                #expect(isAnswered(second.raw))
            }
            let third = try connect(to: planes.server.port)
            #expect(ends(third.raw))
        }
        // When they are gone there is room again; the server hears of that in its own time.
        #expect(eventually { (try? get(planes.server.port, signed(replica(1))).status) == 200 })
    }

    // MARK: Many at once

    private func post(_ planes: Planes, _ replicas: [Replica]) throws -> Answer {
        let body = ObjectList.body(replicas.map(\.entry))
        return try get(
            planes.server.port, ObjectList.signedTarget(body, expires: unixSeconds() + 60, secret: Planes.secret), method: "POST", body: body)
    }

    @Test func `many small objects come in one answer`() throws {
        let planes = try Planes()
        for index: UInt32 in 0..<3 { try planes.holder.write(bytes(Int(index) * 50_000), as: replica(index)) }
        let answer = try post(planes, [2, 9, 0, 1].map { replica($0) })
        #expect(answer.status == 200 && answer.head.contains("content-type: application/x-rain-rows"))
        var reader = ObjectRowReader(bytesMax: 1 << 20)
        reader.append(try unchunked(answer.body))
        var rows: [ObjectRow] = []
        while let row = try reader.next() { rows.append(row) }
        #expect(
            rows == [
                ObjectRow(object: 2, status: .ok, sizeBytes: 100_000, bytes: bytes(100_000)), ObjectRow(object: 9, status: .dropped),
                ObjectRow(object: 0, status: .ok), ObjectRow(object: 1, status: .ok, sizeBytes: 50_000, bytes: bytes(50_000)),
            ])
        #expect(reader.isEmpty)
    }

    @Test func `what has no room in an answer is left out of it`() throws {
        let planes = try Planes()
        let large = Int(ObjectList.answerBytesMax)
        try planes.holder.write(bytes(large), as: replica(1))
        try planes.holder.write(bytes(1), as: replica(2))
        try planes.holder.write(bytes(0), as: replica(3))
        var reader = ObjectRowReader(bytesMax: ObjectList.answerBytesMax)
        reader.append(try unchunked(post(planes, [1, 2, 3].map { replica($0) }).body))
        #expect(try reader.next()?.bytes.count == large)
        #expect(try reader.next() == ObjectRow(object: 2, status: .large, sizeBytes: 1))
        #expect(try reader.next() == ObjectRow(object: 3, status: .ok))
    }

    @Test func `a list needs its own ticket, and must be well formed`() throws {
        let planes = try Planes()
        let body = ObjectList.body([replica(1).entry])
        let good = ObjectList.signedTarget(body, expires: unixSeconds() + 60, secret: Planes.secret)
        func status(_ target: String, _ body: [UInt8], method: String = "POST") throws -> Int {
            try get(planes.server.port, target, method: method, body: body).status
        }
        #expect(try status(good, body) == 200)
        #expect(try status(good, ObjectList.body([replica(2).entry])) == 403)
        #expect(try status("/objects", body) == 403)
        #expect(try status(ObjectList.signedTarget(body, expires: unixSeconds() - 1, secret: Planes.secret), body) == 403)
        #expect(try status(good, [], method: "GET") == 405)
        let rubbish = Array("3/1/2\n".utf8)
        #expect(try status(ObjectList.signedTarget(rubbish, expires: unixSeconds() + 60, secret: Planes.secret), rubbish) == 400)
        let long = [UInt8](repeating: 0x31, count: ObjectList.bytesMax + 1)
        #expect(try status(ObjectList.signedTarget(long, expires: unixSeconds() + 60, secret: Planes.secret), long) == 413)
    }

    @Test func `what the worker has moved is told to who has a ticket`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(300_000), as: replica(1))
        _ = try planes.fetch(replica(1), sizeBytes: 300_000)
        let target = DataTicket.signedPath("/status", expires: unixSeconds() + 60, secret: Planes.secret)
        #expect(eventually { planes.served.servedBytes.load(ordering: .relaxed) == 300_000 })
        let answer = try get(planes.server.port, target)
        let text = String(decoding: answer.body, as: UTF8.self)
        #expect(answer.status == 200 && text.contains("\"served_bytes\": 300000, \"served_requests\": 1"), "\(text)")
        #expect(planes.harness.counters.text.contains("\"pulled_bytes\": 300000, \"pulled_objects\": 1, \"pull_requests\": 1"))
        #expect(try get(planes.server.port, "/status").status == 403)
        #expect(try get(planes.server.port, target, method: "DELETE").status == 405)
    }

    @Test func `parts of a file of 5 GB are served`() throws {
        let planes = try Planes()
        let size: UInt64 = 5 << 30
        let name = planes.holder.path + "/staging/large"
        do {
            let file = try Descriptor.open(name, O_RDWR | O_CREAT, mode: 0o444)
            #expect(ftruncate(file.raw, off_t(size)) == 0 && pwrite(file.raw, "end", 3, off_t(size) - 3) == 3)
        }
        try planes.holder.moveIn("large", from: planes.holder.staging, as: replica(2), onDisk: false)
        let answer = try get(planes.server.port, signed(replica(2)), headers: "range: bytes=\(size - 5)-\r\n")
        #expect(answer.status == 206 && answer.body == [0, 0] + Array("end".utf8))
        #expect(answer.head.contains("content-range: bytes \(size - 5)-\(size - 1)/\(size)"))
    }

    // MARK: The holder, by plain requests

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
            good.replacing("/3/1/", with: "/03/1/") + "x",
        ]
        for target in bad { #expect(try get(planes.server.port, target).status == 403, "\(target)") }
        let nowhere = [
            "/", "/objects/../../etc/passwd", "/objects/3/1/2", "/objects/a/1/2-1", "/objects/99999999999/1/2-1", "/objects/3/1/2-1-1",
            "/objects/+3/1/2-1",
        ]
        for target in nowhere { #expect(try get(planes.server.port, target).status == 404, "\(target)") }
        #expect(try get(planes.server.port, signed(replica(2))).status == 404)
        #expect(try get(planes.server.port, good, method: "DELETE").status == 405)
    }
}
