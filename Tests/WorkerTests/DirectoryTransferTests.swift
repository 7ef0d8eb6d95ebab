import CLinux
import Glibc
import Synchronization
import Synchronization
import Tar
import TaskModel
import Testing
import Transport
import WorkerCore

@testable import Worker

/// Directories on the data plane.
@Suite(.serialized) struct DirectoryTransferTests {
    /// A directory at the holder, and its stream.
    private func make(_ planes: Planes, _ index: UInt32, _ script: String) throws -> [UInt8] {
        let path = planes.directory + "/source-\(index)"
        try makeDirectories(path)
        try runShell(script, in: path)
        let source = try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
        _ = try planes.holder.copyIn(tree: source.raw, as: replica(index))
        return try planes.holder.stream(replica(index), root: planes.holder.open(replica(index))).readAll()
    }
    private let script = "mkdir -p a/b empty && printf x >a/b/f && chmod 755 a/b/f && head -c 700000 /dev/urandom >large && ln -s a/b way && : >zero"

    private func fetch(_ planes: Planes, _ index: UInt32, sizeBytes: Int, ports: [UInt16]? = nil) throws -> FetchResult {
        let endpoints = (ports ?? [planes.server.port]).map { Endpoint(host: "127.0.0.1", port: $0) }
        planes.harness.shell.perform(
            .fetch(
                FetchToken(UInt64(index)),
                InputAssignment(replica: replica(index), sizeBytes: UInt64(sizeBytes), isDirectory: true, source: .fetch(endpoints))))
        return try planes.end(of: UInt64(index))
    }
    private func stream(_ planes: Planes, _ index: UInt32) throws -> [UInt8] {
        let store = planes.harness.store
        return try store.stream(replica(index), root: store.open(replica(index))).readAll()
    }

    @Test func `a directory comes as its stream, with a checksum that is summed on the way`() throws {
        let planes = try Planes()
        let bytes = try make(planes, 1, script)
        #expect(try fetch(planes, 1, sizeBytes: bytes.count) == .stored(sizeBytes: UInt64(bytes.count)))
        #expect(try stream(planes, 1) == bytes)
        #expect(planes.checksums.known(replica(1)) == Checksum.of(bytes) && planes.checksums.computedCount.load(ordering: .relaxed) == 0)
        #expect(planes.harness.shell.fetcher.holder.checksums.known(replica(1)) == Checksum.of(bytes))
        #expect(planes.harness.stagedFiles.isEmpty)
        let small = try make(planes, 2, "true")
        #expect(small.count == 1536)
        #expect(try fetch(planes, 2, sizeBytes: 1536) == .stored(sizeBytes: 1536))
        #expect(planes.harness.store.isTree(replica(2)))
    }

    @Test func `any range of a directory's stream is served`() throws {
        let planes = try Planes()
        let bytes = try make(planes, 1, script)
        let head = try get(planes.server.port, signed(replica(1)), method: "HEAD")
        #expect(head.status == 200 && head.head.contains("content-length: \(bytes.count)\r\n") && head.head.contains("application/x-tar"))
        for (range, part) in [("0-0", bytes[..<1]), ("500-1500", bytes[500...1500]), ("300000-", bytes[300_000...]), ("-2000", bytes.suffix(2000))] {
            let answer = try get(planes.server.port, signed(replica(1)), headers: "Range: bytes=\(range)\r\n")
            #expect(answer.status == 206 && answer.body == Array(part), "\(range)")
        }
        let checked = try get(planes.server.port, signed(replica(1)), headers: "Range: bytes=100-\r\nrain-checksum: xxh3-128\r\n")
        #expect(checked.head.contains("rain-checksum: \(Checksum.of(bytes))") && checked.body == Array(bytes[100...]))
        #expect(try get(planes.server.port, signed(replica(1)), headers: "Range: bytes=\(bytes.count)-\r\n").status == 416)
        #expect(try get(planes.server.port, signed(replica(1))).body == bytes)
    }

    @Test func `a transfer that breaks goes on in the middle of a file`() throws {
        let planes = try Planes(limits: FetchLimits(roundPauseMilliseconds: 20))
        let bytes = try make(planes, 1, script)
        let wire = try FaultyWire(to: planes.server.port, .cut(after: 400_000), .none)
        #expect(try fetch(planes, 1, sizeBytes: bytes.count, ports: [wire.port]) == .stored(sizeBytes: UInt64(bytes.count)))
        #expect(try stream(planes, 1) == bytes)
        #expect(planes.harness.counters.pulledBytes.load(ordering: .relaxed) == UInt64(bytes.count), "nothing came twice")
    }

    @Test func `a bit that changed on the way is found, and nothing of it stays`() throws {
        let planes = try Planes()
        let bytes = try make(planes, 1, script)
        let wire = try FaultyWire(to: planes.server.port, .flip(at: 300_000))
        let result = try fetch(planes, 1, sizeBytes: bytes.count, ports: [wire.port])
        guard case .failed(let error) = result else { throw Harness.Unexpected() }
        #expect(error.message.contains("checksum") || error.message.contains("tar stream"), "\(error.message)")
        #expect(!planes.harness.store.isTree(replica(1)) && planes.harness.stagedFiles.isEmpty)
    }

    @Test func `after a holder that sends nonsense the next one begins anew`() throws {
        let planes = try Planes()
        let bytes = try make(planes, 1, script)
        // In the headers of the first entries, behind those of HTTP.
        let wire = try FaultyWire(to: planes.server.port, .flip(at: 1500))
        #expect(
            try fetch(planes, 1, sizeBytes: bytes.count, ports: [wire.port, planes.server.port]) == .stored(sizeBytes: UInt64(bytes.count)))
        #expect(try stream(planes, 1) == bytes)
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `what has no room in memory is unpacked on disk`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        let store = try Store(path: directory + "/store", kind: "test", memoryBytes: 1 << 20, disk: directory + "/disk")
        try makeDirectories(directory + "/source")
        try runShell("mkdir a && head -c 100000 /dev/urandom >a/f", in: directory + "/source")
        let source = try Descriptor.open(directory + "/source", O_RDONLY | O_DIRECTORY)
        _ = try store.copyIn(tree: source.raw, as: replica(1))
        let bytes = try store.stream(replica(1), root: store.open(replica(1))).readAll()
        var input = InputAssignment(replica: replica(2), sizeBytes: 1 << 60, isDirectory: true, source: .held)
        #expect(try finish(PartialObject(input, store: store), bytes) == nil, "the size is another")
        input.sizeBytes = UInt64(bytes.count)
        #expect(try finish(PartialObject(input, store: store), bytes) == .stored(sizeBytes: input.sizeBytes))
        var partial = try PartialTree(sizeBytes: 1 << 60, store: store)
        let failure = bytes.withUnsafeBytes { partial.append($0) }
        #expect(failure?.text == nil)
        let isOnDisk = try partial.finish(as: replica(3)).get()
        #expect(isOnDisk)
        #expect(store.path(replica(3)).hasPrefix(directory + "/disk/"))
    }
    private func finish(_ partial: PartialObject, _ bytes: [UInt8]) throws -> FetchResult? {
        if let failure = bytes.withUnsafeBytes({ partial.append($0, from: "here") }) { throw failure }
        return try? partial.finish(said: Checksum.of(bytes)).get().result
    }

    @Test func `what somebody has written to is not given away`() throws {
        let planes = try Planes()
        let bytes = try make(planes, 1, "mkdir a && head -c 100000 /dev/urandom >a/f")
        let large = [UInt8](repeating: 7, count: 300_000)
        try planes.holder.write(large, as: replica(2))
        try planes.holder.write(Array(large.prefix(5000)), as: replica(3))
        for path in ["\(planes.holder.path(replica(1)))/a/f", planes.holder.path(replica(2)), planes.holder.path(replica(3))] {
            try runShell("chmod u+w \(path) && printf more | dd of=\(path) conv=notrunc", in: planes.directory)
        }
        for (index, size) in [(UInt32(1), bytes.count), (2, 300_000), (3, 5000)] {
            let result = index == 1 ? try fetch(planes, index, sizeBytes: size) : try planes.fetch(replica(index), sizeBytes: size)
            guard case .failed = result else {
                Issue.record("\(result)")
                continue
            }
            #expect(try planes.harness.wait { if case .foundDamaged(let replicas) = $0 { replicas } else { nil } } == [replica(index)])
        }
    }

    @Test func `bytes that are no directory are not unpacked`() throws {
        let planes = try Planes()
        try planes.holder.write([UInt8](repeating: 7, count: 5000), as: replica(1))
        guard case .failed(let error) = try fetch(planes, 1, sizeBytes: 5000) else { throw Harness.Unexpected() }
        #expect(error.message.contains("sent what is no directory: the tar stream is damaged"), "\(error.message)")
        let bytes = try make(planes, 2, "printf x >f")
        guard case .failed(let short) = try fetch(planes, 2, sizeBytes: bytes.count + 512) else { throw Harness.Unexpected() }
        #expect(short.message.contains("\(bytes.count)"), "\(short.message)")
        #expect(planes.harness.stagedFiles.isEmpty)
    }

    @Test func `a directory is a row of many when it is small`() throws {
        let planes = try Planes()
        let bytes = try make(planes, 1, "printf x >f")
        let body = ObjectList.body([replica(1).entry])
        let answer = try get(
            planes.server.port, ObjectList.signedTarget(body, expires: unixSeconds() + 60, secret: Planes.secret), method: "POST", body: body)
        var reader = ObjectRowReader(bytesMax: 1 << 20)
        reader.append(try unchunked(answer.body))
        #expect(try reader.next() == ObjectRow(object: 1, status: .ok, isDirectory: true, sizeBytes: UInt64(bytes.count), bytes: bytes))
    }
}
