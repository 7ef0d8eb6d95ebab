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

/// A holder, and a harness that fetches from it.
final class Planes {
    static let secret = [UInt8](repeating: 7, count: 32)
    let harness: Harness
    let holder: Store
    /// What the holder gave.
    let served = TransferCounters()
    let checksums = ChecksumTable()
    let server: DataServer
    let directory: String
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    init(limits: FetchLimits = FetchLimits(), connections: DataServerLimits = DataServerLimits()) throws {
        harness = try Harness(limits: limits)
        harness.secret.set(Planes.secret)
        directory = try temporaryDirectory()
        holder = try Store(path: directory + "/holder", kind: "test")
        server = try DataServer(
            host: "127.0.0.1",
            holder: LocalHolder(store: holder, secret: harness.secret, checksums: checksums, counters: served) { [mailbox = harness.mailbox] replica in
                mailbox.post(.event(.foundDamaged([replica])))
            }, group: group, limits: connections)
    }
    deinit {
        server.close()
        try? group.syncShutdownGracefully()
        _ = rain_remove_tree(AT_FDCWD, directory)
    }

    /// Begins with the loop's next turn.
    func begin(_ replica: Replica, sizeBytes: Int, ports: [UInt16]? = nil, token: UInt64) {
        let endpoints = (ports ?? [server.port]).map { Endpoint(host: "127.0.0.1", port: $0) }
        harness.shell.perform(
            .fetch(FetchToken(token), InputAssignment(replica: replica, sizeBytes: UInt64(sizeBytes), source: .fetch(endpoints))))
    }
    func end(of token: UInt64) throws -> FetchResult {
        try harness.wait { if case .fetched(FetchToken(token), let result) = $0 { result } else { nil } }
    }
    func fetch(_ replica: Replica, sizeBytes: Int, ports: [UInt16]? = nil) throws -> FetchResult {
        begin(replica, sizeBytes: sizeBytes, ports: ports, token: UInt64(sizeBytes) + 1)
        return try end(of: UInt64(sizeBytes) + 1)
    }
    func message(of result: FetchResult) throws -> String {
        guard case .failed(let error) = result else { throw Harness.Unexpected() }
        return error.message
    }
}

func replica(_ index: UInt32) -> Replica {
    Replica(object: ObjectID(session: SessionID(3), index: index), generation: Generation(epoch: ServerEpoch(2), number: 1))
}
func bytes(_ count: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) } }

struct Answer {
    var status: Int
    /// In small letters.
    var head: String
    var body: [UInt8]
}
/// One request by itself.
func get(_ port: UInt16, _ target: String, headers: String = "", method: String = "GET", body: [UInt8] = []) throws -> Answer {
    let socket = try connect(to: port)
    let length = body.isEmpty ? "" : "Content-Length: \(body.count)\r\n"
    try socket.writeAll(Array("\(method) \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(length)\(headers)\r\n".utf8) + body)
    var received: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while case let count = read(socket.raw, &buffer, buffer.count), count > 0 { received += buffer[..<count] }
    guard let end = received.firstRange(of: [13, 10, 13, 10])?.lowerBound else { throw Harness.Unexpected() }
    let head = String(decoding: received[..<end], as: UTF8.self)
    return Answer(status: Int(head.split(separator: " ")[1]) ?? 0, head: head.lowercased() + "\r\n", body: Array(received[(end + 4)...]))
}
func unchunked(_ body: [UInt8]) throws -> [UInt8] {
    var rest = body[...]
    var out: [UInt8] = []
    while let end = rest.firstRange(of: [13, 10])?.lowerBound {
        guard let count = Int(String(decoding: rest[..<end], as: UTF8.self), radix: 16) else { throw Harness.Unexpected() }
        if count == 0 { return out }
        out += rest[(end + 2)..<(end + 2 + count)]
        rest = rest[(end + 4 + count)...]
    }
    throw Harness.Unexpected()
}
func signed(_ replica: Replica, expires: UInt64 = unixSeconds() + 60, secret: [UInt8] = Planes.secret) -> String {
    DataTicket.signedPath(replica.path, expires: expires, secret: secret)
}
