import Logging
import NIOCore
import NIOPosix
import Synchronization
import TaskModel
import Testing
import Transport

@testable import Server

@Suite struct RemoteBytesTests {
    private let text = Array("hello, world".utf8)
    private var head: String { "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nrain-checksum: \(Checksum.of(text))\r\n\r\n" }

    /// What was passed on, and the error at its end.
    private func pass(_ endpoints: [Endpoint], then more: [[Endpoint]] = [], _ range: Range<UInt64> = 0..<12) async throws -> (String, (any Error)?) {
        let left = Mutex(more)
        let locator = RemoteBytes.Locator(
            isForgotten: { false }, endpoints: { left.withLock { $0.isEmpty ? [] : $0.removeFirst() } })
        let client = HolderClient(loop: MultiThreadedEventLoopGroup.singleton.next(), dataSecret: [7], traffic: ObjectTraffic())
        let replica = Replica(object: ObjectID(session: SessionID(3), index: 4), generation: Generation(epoch: ServerEpoch(5), number: 6))
        let remote = RemoteBytes(replica, sizeBytes: 12, at: endpoints, client, locator, Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        let passed = Mutex("")
        do {
            try await remote.open(range)
            try await remote.pass(range) { buffer in passed.withLock { $0 += String(buffer: buffer) } }
        } catch {
            return (passed.withLock { $0 }, error)
        }
        return (passed.withLock { $0 }, nil)
    }

    @Test func `bytes are passed on and checked`() async throws {
        let holder = try FakeHolder(answers: [head + "hello, world"])
        let (passed, error) = try await pass([holder.endpoint])
        #expect(passed == "hello, world" && error == nil)
    }

    @Test func `a client never gets all of an answer that is wrong`() async throws {
        let holder = try FakeHolder(answers: [head + "hello, worlD"])
        let (passed, error) = try await pass([holder.endpoint])
        #expect(passed.count < 12)
        guard case .spoiled(holder.endpoint, _, Checksum.of(Array("hello, worlD".utf8)), Checksum.of(text))? = error as? HolderError else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    @Test func `another worker goes on where one broke off`() async throws {
        let first = try FakeHolder(answers: [head + "hello"])
        // The first one again, which is gone; then one that is found.
        let second = try FakeHolder(answers: ["HTTP/1.1 206 Partial Content\r\nContent-Length: 7\r\n\r\n, world"])
        let (passed, error) = try await pass([first.endpoint], then: [[second.endpoint]])
        #expect(passed == "hello, world" && error == nil, "\(String(describing: error))")
    }

    @Test func `what another worker adds is checked with the rest`() async throws {
        let first = try FakeHolder(answers: [head + "hello"])
        let second = try FakeHolder(answers: ["HTTP/1.1 206 Partial Content\r\nContent-Length: 7\r\n\r\n, World"])
        let (passed, error) = try await pass([first.endpoint], then: [[second.endpoint]])
        #expect(passed.count < 12 && error is HolderError)
    }

    @Test func `when it was made again meanwhile the answer breaks off`() async throws {
        let holder = try FakeHolder(answers: [head + "hello"])
        let (passed, error) = try await pass([holder.endpoint])
        #expect(passed.count < 12 && error is HolderError)
    }

    @Test func `the next holder is asked, and a part has no checksum`() async throws {
        let gone = try FakeHolder(answers: ["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"])
        let holder = try FakeHolder(answers: ["HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nworld"])
        let (passed, error) = try await pass([gone.endpoint, holder.endpoint], 7..<12)
        #expect(passed == "world" && error == nil, "\(String(describing: error))")
    }

    @Test func `a whole object without a checksum is refused`() async throws {
        let holder = try FakeHolder(answers: ["HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world"])
        let (passed, error) = try await pass([holder.endpoint])
        #expect(passed.isEmpty && error is HolderError)
    }
}
