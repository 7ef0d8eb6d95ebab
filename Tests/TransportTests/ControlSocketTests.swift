import Glibc
import Testing
import Transport

/// Real sockets on loopback. Every wait ends by what it waits for; the limit is there for a failure only.
@Suite(.serialized) struct ControlSocketTests {
    private static let limit = Duration.seconds(20)

    private func access() throws -> ServerAccess {
        let directory = try TemporaryDirectory()
        return try AccessFile.loadOrCreate(stateDirectory: directory.path)
    }

    /// Turns both ends until the worker's or the server's events satisfy `isDone`.
    private func turn(
        _ server: inout ControlServerSocket, _ worker: inout ControlWorkerSocket, until isDone: (Seen) -> Bool
    ) throws -> Seen {
        let end = ContinuousClock.now + Self.limit
        var seen = Seen()
        while !isDone(seen) {
            try #require(ContinuousClock.now < end, "\(seen)")
            _ = try server.wait(timeout: .milliseconds(2))
            while let event = try server.receive() { seen.server.append(event) }
            _ = try worker.wait(timeout: .milliseconds(2))
            while let event = try worker.receive() { seen.worker.append(event) }
        }
        return seen
    }
    private struct Seen {
        var server: [ControlServerEvent] = []
        var worker: [ControlWorkerEvent] = []
        var messages: [[UInt8]] {
            server.compactMap { if case .message(_, let bytes, _) = $0 { bytes } else { nil } }
        }
        var route: PeerRoute? {
            for case .message(let route, _, _) in server { return route }
            return nil
        }
    }

    @Test func `messages go both ways, with the address of the peer`() throws {
        let access = try access()
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        #expect(server.port != 0)
        #expect(server.host == "127.0.0.1")
        var worker = try ControlWorkerSocket(host: "localhost", port: server.port, access: access.access)
        #expect(try turn(&server, &worker) { $0.worker.contains(.connected) }.worker == [.connected])
        let large = (0..<256 * 1024).map { UInt8(truncatingIfNeeded: $0) }
        #expect(try worker.send(Array("hello".utf8)))
        #expect(try worker.send([]))
        #expect(try worker.send(large))
        let seen = try turn(&server, &worker) { $0.messages.count == 3 }
        #expect(seen.messages == [Array("hello".utf8), [], large])
        let route = try #require(seen.route)
        for case .message(let from, _, let address) in seen.server {
            #expect(from == route)
            #expect(address == "127.0.0.1")
        }
        #expect(try server.send(large, to: route))
        #expect(try server.send([1], to: route))
        #expect(try turn(&server, &worker) { $0.worker.count == 2 }.worker == [.message(large), .message([1])])
    }

    @Test func `a worker whose key is not allowed is refused and told so`() throws {
        let (access, other) = (try access(), try self.access())
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        var stranger = access.access
        stranger.workerPublicKey = other.access.workerPublicKey
        stranger.workerSecretKey = other.access.workerSecretKey
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: server.port, access: stranger)
        let seen = try turn(&server, &worker) { !$0.worker.isEmpty && !$0.server.isEmpty }
        #expect(seen.worker.first == .refused)
        #expect(seen.server.first == .refused(address: "127.0.0.1"))
        #expect(!seen.worker.contains(.connected))
        #expect(try !worker.send([1]))
    }

    @Test func `a worker with another server's key gets no handshake`() throws {
        let (access, other) = (try access(), try self.access())
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        var mistaken = access.access
        mistaken.serverPublicKey = other.access.serverPublicKey
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: server.port, access: mistaken)
        let seen = try turn(&server, &worker) { !$0.worker.isEmpty }
        #expect(seen.worker.first == .handshakeFailed)
        #expect(seen.server.isEmpty)
    }

    @Test func `the end of a worker is told at once`() throws {
        let access = try access()
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: server.port, access: access.access)
        _ = try turn(&server, &worker) { $0.worker.contains(.connected) }
        #expect(try worker.send([1]))
        let route = try #require(try turn(&server, &worker) { $0.route != nil }.route)
        try worker.reopen()
        let seen = try turn(&server, &worker) { $0.worker.contains(.connected) && !$0.server.isEmpty }
        #expect(seen.server == [.gone(route, reason: "its connection ended")])
        #expect(try !server.send([1], to: route))
        #expect(try worker.send([2]))
        let again = try #require(try turn(&server, &worker) { $0.route != nil }.route)
        #expect(again != route)
        #expect(try server.send([3], to: again))
        #expect(try turn(&server, &worker) { !$0.worker.isEmpty }.worker == [.message([3])])
    }

    @Test func `a server that comes back is found, and gets nothing that was meant for the first`() throws {
        let access = try access()
        var first = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        let port = first.port
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: port, access: access.access)
        _ = try turn(&first, &worker) { $0.worker.contains(.connected) }
        for number in 0..<100 as Range<UInt8> { #expect(try worker.send([number])) }
        _ = consume first
        let end = ContinuousClock.now + Self.limit
        var events: [ControlWorkerEvent] = []
        while !events.contains(.unreachable) {
            try #require(ContinuousClock.now < end)
            _ = try worker.wait(timeout: .seconds(1))
            while let event = try worker.receive() { events.append(event) }
        }
        #expect(events == [.disconnected, .unreachable])
        #expect(try !worker.send([101]))
        var second = try ControlServerSocket(host: "127.0.0.1", port: port, access: access)
        let back = try turn(&second, &worker) { $0.worker.contains(.connected) }
        #expect(back.server.isEmpty)
        #expect(try worker.send([102]))
        #expect(try turn(&second, &worker) { !$0.messages.isEmpty }.messages == [[102]])
    }

    @Test func `an address in use is named`() throws {
        let access = try access()
        let server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        #expect(throws: TransportError.addressInUse(address: "127.0.0.1:\(server.port)")) {
            _ = try ControlServerSocket(host: "127.0.0.1", port: server.port, access: access).port
        }
    }

    @Test func `a host that is not there is named`() throws {
        let access = try access()
        #expect {
            _ = try ControlServerSocket(host: "192.0.2.1", port: 0, access: access).port
        } throws: { error in
            if case TransportError.cannotBind(let address, _) = error { address == "192.0.2.1:0" } else { false }
        }
        #expect {
            var worker = try ControlWorkerSocket(host: "no-such-host.invalid", port: 1, access: access.access)
            _ = try worker.receive()
        } throws: { error in
            if case TransportError.unknownHost("no-such-host.invalid", _) = error { true } else { false }
        }
    }

    @Test func `plain descriptors wake the wait`() throws {
        let access = try access()
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer { for end in ends { close(end) } }
        var spare: [Int32] = [0, 0]
        #expect(pipe(&spare) == 0)
        defer { for end in spare { close(end) } }
        // What has not been looked at once is never waited for.
        #expect(try server.wait(for: [spare[0], ends[0]], timeout: nil) == Readiness(socket: true, descriptors: 0))
        #expect(try server.receive() == nil)
        #expect(try server.wait(for: [spare[0], ends[0]], timeout: .zero) == Readiness(socket: false, descriptors: 0))
        #expect(write(ends[1], [1], 1) == 1)
        let ready = try server.wait(for: [spare[0], ends[0]], timeout: Self.limit)
        #expect(!ready.isReady(0))
        #expect(ready.isReady(1))
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: server.port, access: access.access)
        #expect(try worker.wait(for: [ends[0]], timeout: nil).isReady(0))
    }

    @Test func `nothing that came while something was sent is slept over, and nothing to do is slept through`() throws {
        let access = try access()
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: server.port, access: access.access)
        _ = try turn(&server, &worker) { $0.worker.contains(.connected) }
        #expect(try worker.send([0]))
        let route = try #require(try turn(&server, &worker) { $0.route != nil }.route)
        for number in 1..<200 as Range<UInt8> {
            // Each sends before it takes: libzmq may take in the other's message by that.
            #expect(try server.send([number], to: route))
            #expect(try worker.send([number]))
            var taken: (server: [[UInt8]], worker: [ControlWorkerEvent]) = ([], [])
            while taken.server.isEmpty {
                #expect(try server.wait(timeout: Self.limit).socket)
                while let event = try server.receive() { if case .message(_, let bytes, _) = event { taken.server.append(bytes) } }
            }
            while taken.worker.isEmpty {
                #expect(try worker.wait(timeout: Self.limit).socket)
                while let event = try worker.receive() { taken.worker.append(event) }
            }
            #expect(taken.server == [[number]])
            #expect(taken.worker == [.message([number])])
        }
        let start = ContinuousClock.now
        #expect(try server.wait(timeout: .milliseconds(30)) == Readiness(socket: false, descriptors: 0))
        #expect(try worker.wait(timeout: .milliseconds(30)) == Readiness(socket: false, descriptors: 0))
        #expect(ContinuousClock.now - start >= .milliseconds(60))
    }

    @Test func `garbage on the port does no harm`() throws {
        let access = try access()
        var server = try ControlServerSocket(host: "127.0.0.1", port: 0, access: access)
        let raw = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(raw) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = server.port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
        }
        #expect(connected == 0)
        let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n" + String(repeating: "x", count: 1000)
        #expect(write(raw, request, request.utf8.count) == request.utf8.count)
        var worker = try ControlWorkerSocket(host: "127.0.0.1", port: server.port, access: access.access)
        _ = try turn(&server, &worker) { $0.worker.contains(.connected) }
        #expect(try worker.send([1]))
        let seen = try turn(&server, &worker) { !$0.messages.isEmpty }
        #expect(seen.server.count == 1)
    }
}
