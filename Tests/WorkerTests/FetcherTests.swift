import Glibc
import Link
import Synchronization
import TaskModel
import Testing
import Transport
import WorkerCore

@testable import Worker

@Suite(.serialized) struct FetcherTests {
    @Test func `an object is fetched from its holder`() throws {
        let planes = try Planes()
        for size in [0, 1, 4096, 4097, 65_535, 65_536, 65_537, 5_000_000] {
            let replica = replica(UInt32(size))
            try planes.holder.write(bytes(size), as: replica)
            switch try planes.fetch(replica, sizeBytes: size) {
            case .inline(let received): #expect(size <= 4096 && received == bytes(size))
            case .stored:
                #expect(size > 4096)
                #expect(try planes.harness.store.open(replica).read(count: size + 1) == bytes(size))
            case .failed(let error): Issue.record("\(error.message)")
            }
        }
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `large ones are fetched a few at a time`() throws {
        let planes = try Planes()
        let wire = try FaultyWire(to: planes.server.port, .none)
        for index in 0..<30 {
            try planes.holder.write(bytes(100_000 + index), as: replica(UInt32(index)))
            planes.begin(replica(UInt32(index)), sizeBytes: 100_000 + index, ports: [wire.port], token: UInt64(index))
        }
        for index in 0..<30 { #expect(try planes.end(of: UInt64(index)) == .stored(sizeBytes: UInt64(100_000 + index))) }
        #expect(planes.harness.counters.pullRequests.load(ordering: .relaxed) == 30)
        #expect(wire.connectionCount <= 8 && wire.connectionCountMax <= 4, "\(wire.connectionCount), \(wire.connectionCountMax)")
    }

    @Test func `an endpoint without a host is on the server's machine`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(9000), as: replica(1))
        planes.harness.shell.perform(
            .fetch(FetchToken(1), InputAssignment(replica: replica(1), sizeBytes: 9000, source: .fetch([Endpoint(host: "", port: planes.server.port)]))))
        #expect(try planes.end(of: 1) == .stored(sizeBytes: 9000))
    }

    @Test func `a part that nobody asked for is no object, whatever its size is said to be`() throws {
        let planes = try Planes()
        let (listener, port) = try listen()
        let pool = BlockingPool(threadCount: 1)
        defer { pool.close() }
        pool.run {
            let listener = Descriptor(listener)
            let connection = Descriptor(accept(listener.raw, nil, nil))
            var buffer = [UInt8](repeating: 0, count: 4096)
            _ = read(connection.raw, &buffer, buffer.count)
            try? connection.writeAll(Array("HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n".utf8))
            _ = read(connection.raw, &buffer, buffer.count)
        }
        let source = InputSource.fetch([Endpoint(host: "127.0.0.1", port: port)])
        planes.harness.shell.perform(.fetch(FetchToken(1), InputAssignment(replica: replica(1), sizeBytes: 0, isDirectory: true, source: source)))
        planes.harness.shell.finishRound()
        #expect(try planes.message(of: planes.end(of: 1)).contains("instead of bytes from 0 of 0"))
    }

    @Test func `twenty thousand small objects are not twenty thousand requests`() throws {
        let planes = try Planes()
        for index in 0..<20_000 { try planes.holder.write([UInt8](repeating: UInt8(index % 251), count: 1024), as: replica(UInt32(index))) }
        for index in 0..<20_000 { planes.begin(replica(UInt32(index)), sizeBytes: 1024, token: UInt64(index)) }
        var received: [UInt64: [UInt8]] = [:]
        while received.count < 20_000 {
            let (token, result) = try planes.harness.wait { if case .fetched(let token, let result) = $0 { (token, result) } else { nil } }
            guard case .inline(let bytes) = result else { throw Harness.Unexpected() }
            received[token.rawValue] = bytes
        }
        for index in 0..<20_000 where received[UInt64(index)] != [UInt8](repeating: UInt8(index % 251), count: 1024) {
            Issue.record("object \(index)")
        }
        #expect(planes.harness.counters.pullRequests.load(ordering: .relaxed) <= 24)
        #expect(planes.served.servedRequests.load(ordering: .relaxed) <= 24)
        #expect(planes.harness.counters.pulledBytes.load(ordering: .relaxed) > 20_000 * 1024)
    }

    // MARK: Other holders

    @Test(arguments: [9000, 90_000]) func `the next holder is tried, and the error names them all`(size: Int) throws {
        let planes = try Planes()
        try planes.holder.write(bytes(size), as: replica(1))
        #expect(try planes.fetch(replica(1), sizeBytes: size, ports: [1, planes.server.port]) == .stored(sizeBytes: UInt64(size)))
        let result = try planes.fetch(replica(2), sizeBytes: size, ports: [1, planes.server.port])
        guard case .failed(let error) = result else { throw Harness.Unexpected() }
        let missing = size > 65_536 ? "answered 404" : "doesn't have it"
        #expect(error.cause == .setup)
        #expect(error.message.contains("127.0.0.1:1 can't be reached") && error.message.contains(":\(planes.server.port) \(missing)"), "\(error.message)")
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `one of many that a holder doesn't have comes from another, the rest from the first`() throws {
        let planes = try Planes()
        let other = try Planes()
        for index in 0..<200 { try (index == 77 ? other : planes).holder.write(bytes(5000 + index), as: replica(UInt32(index))) }
        for index in 0..<200 {
            planes.begin(replica(UInt32(index)), sizeBytes: 5000 + index, ports: [planes.server.port, other.server.port], token: UInt64(index))
        }
        for index in 0..<200 { #expect(try planes.end(of: UInt64(index)) == .stored(sizeBytes: UInt64(5000 + index))) }
        #expect(planes.harness.counters.pullRequests.load(ordering: .relaxed) <= 3)
        #expect(planes.harness.counters.peerCount == 2)
    }

    @Test func `nobody waits in the queue of a holder that can't be reached`() throws {
        let planes = try Planes()
        for index in 0..<300 { try planes.holder.write(bytes(9000), as: replica(UInt32(index))) }
        for index in 0..<300 { planes.begin(replica(UInt32(index)), sizeBytes: 9000, ports: [1, planes.server.port], token: UInt64(index)) }
        for index in 0..<300 { #expect(try planes.end(of: UInt64(index)) == .stored(sizeBytes: 9000)) }
        #expect(planes.harness.counters.pullRequests.load(ordering: .relaxed) <= 6)
    }

    @Test(arguments: [9000, 90_000]) func `another size than announced is an error`(size: Int) throws {
        let planes = try Planes()
        try planes.holder.write(bytes(size), as: replica(1))
        for wrong in [size - 1, size + 1] {
            let message = try planes.message(of: planes.fetch(replica(1), sizeBytes: wrong))
            #expect(message.contains("\(wrong)"), "\(message)")
        }
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    // MARK: Faults

    @Test func `a bit that changed on the way is found, and another holder is asked`() throws {
        let planes = try Planes()
        let digest = Checksum.of(bytes(300_000))
        try planes.holder.write(bytes(300_000), as: replica(1))
        let wire = try FaultyWire(to: planes.server.port, .flip(at: 150_000))
        let message = try planes.message(of: planes.fetch(replica(1), sizeBytes: 300_000, ports: [wire.port]))
        #expect(message.contains("object 3.o1 could not be fetched: 127.0.0.1:\(wire.port) sent 300000 bytes whose checksum is"), "\(message)")
        #expect(message.contains("should be \(digest)"), "\(message)")
        #expect(planes.harness.stagedFiles.isEmpty)
        #expect(try planes.fetch(replica(1), sizeBytes: 300_000, ports: [wire.port, planes.server.port]) == .stored(sizeBytes: 300_000))
        #expect(try planes.harness.store.open(replica(1)).read(count: 300_001) == bytes(300_000))
    }

    @Test func `a bit that changed in one of many is found, and that one comes from another holder`() throws {
        let planes = try Planes()
        for index in 0..<100 { try planes.holder.write(bytes(3000), as: replica(UInt32(index))) }
        let wire = try FaultyWire(to: planes.server.port, .flip(at: 100_000), .none)
        for index in 0..<100 { planes.begin(replica(UInt32(index)), sizeBytes: 3000, ports: [wire.port, planes.server.port], token: UInt64(index)) }
        for index in 0..<100 { #expect(try planes.end(of: UInt64(index)) == .inline(bytes(3000))) }
        #expect(planes.harness.counters.failedPulls.load(ordering: .relaxed) == 1)
        #expect(planes.harness.counters.pullRequests.load(ordering: .relaxed) == 3)
        // With nobody else to ask, the error says all of it.
        let bad = try FaultyWire(to: planes.server.port, .flip(at: 1500))
        let message = try planes.message(of: planes.fetch(replica(5), sizeBytes: 3000, ports: [bad.port]))
        #expect(message.contains("object 3.o5") && message.contains(":\(bad.port) sent a row for object 5 whose checksum is"), "\(message)")
    }

    @Test func `a transfer that breaks goes on with another holder, from where it was`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(300_000), as: replica(1))
        let wire = try FaultyWire(to: planes.server.port, .cut(after: 200_000))
        #expect(try planes.fetch(replica(1), sizeBytes: 300_000, ports: [wire.port, planes.server.port]) == .stored(sizeBytes: 300_000))
        #expect(try planes.harness.store.open(replica(1)).read(count: 300_001) == bytes(300_000))
        #expect(planes.harness.counters.resumedPulls.load(ordering: .relaxed) == 1)
        #expect(planes.harness.counters.pulledBytes.load(ordering: .relaxed) == 300_000, "nothing came twice")
    }

    @Test func `it goes on with the same holder when that is back`() throws {
        let planes = try Planes(limits: FetchLimits(roundPauseMilliseconds: 20))
        try planes.holder.write(bytes(300_000), as: replica(1))
        let wire = try FaultyWire(to: planes.server.port, .cut(after: 200_000), .none)
        #expect(try planes.fetch(replica(1), sizeBytes: 300_000, ports: [wire.port]) == .stored(sizeBytes: 300_000))
        #expect(planes.harness.counters.pulledBytes.load(ordering: .relaxed) == 300_000)
    }

    @Test func `a holder that breaks off again and again is tried a bounded number of times`() throws {
        let planes = try Planes(limits: FetchLimits(progressBytes: 100_000, roundPauseMilliseconds: 1))
        try planes.holder.write(bytes(3_000_000), as: replica(1))
        // It gets forward by enough each time, and so arrives.
        let slow = try FaultyWire(to: planes.server.port, .cut(after: 500_000))
        #expect(try planes.fetch(replica(1), sizeBytes: 3_000_000, ports: [slow.port]) == .stored(sizeBytes: 3_000_000))
        let stuck = try FaultyWire(to: planes.server.port, .cut(after: 5000))
        let message = try planes.message(of: planes.fetch(replica(1), sizeBytes: 3_000_000, ports: [stuck.port]))
        #expect(message.contains("closed the connection before the end") && stuck.connectionCount == 2, "\(message), \(stuck.connectionCount)")
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `what a liar began is not blamed on the one who went on`() throws {
        let planes = try Planes()
        try planes.holder.write(bytes(300_000), as: replica(1))
        let liar = try FaultyWire(to: planes.server.port, .flipAndCut(at: 100_000, after: 200_000))
        #expect(try planes.fetch(replica(1), sizeBytes: 300_000, ports: [liar.port, planes.server.port]) == .stored(sizeBytes: 300_000))
        #expect(try planes.harness.store.open(replica(1)).read(count: 300_001) == bytes(300_000))
    }

    @Test(arguments: [3000, 90_000]) func `a holder that accepts and says nothing is given up`(size: Int) throws {
        let planes = try Planes(limits: FetchLimits(silenceMilliseconds: 200))
        for index in 0..<20 { try planes.holder.write(bytes(size), as: replica(UInt32(index))) }
        let wire = try FaultyWire(to: planes.server.port, .silent)
        let message = try planes.message(of: planes.fetch(replica(1), sizeBytes: size, ports: [wire.port]))
        #expect(message.contains("sent nothing for 0.2 s"), "\(message)")
        let started = monotonicNanoseconds()
        for index in 0..<20 { planes.begin(replica(UInt32(index)), sizeBytes: size, ports: [wire.port, planes.server.port], token: UInt64(index)) }
        for index in 0..<20 {
            if case .failed(let error) = try planes.end(of: UInt64(index)) { Issue.record("\(error.message)") }
        }
        // Small ones fail together; of large ones four are tried at a time.
        #expect(monotonicNanoseconds() - started < 5_000_000_000)
    }
}
