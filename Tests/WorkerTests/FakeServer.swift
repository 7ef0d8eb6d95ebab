import Link
import TaskModel
import Transport
import Wire

@testable import Worker

/// The server's end of the control plane, as far as a worker needs it.
final class FakeServer {
    static let secret = [UInt8](repeating: 9, count: 32)
    let stateDirectory: String
    var port: UInt16 { socket.port }
    private(set) var hellos: [Hello] = []
    private(set) var messages: [WorkerMessage] = []
    private(set) var goodbyeCount = 0
    private var socket: ControlServerSocket
    private var codec = ControlCodec()
    private var link: ServerLink?
    private var route: PeerRoute?
    private let epoch = ServerEpoch(1)

    init(stateDirectory: String, port: UInt16 = 0) throws {
        self.stateDirectory = stateDirectory
        socket = try ControlServerSocket(host: "127.0.0.1", port: port, access: try AccessFile.loadOrCreate(stateDirectory: stateDirectory))
    }

    var accessFile: String { AccessFile.path(inStateDirectory: stateDirectory) }

    func send(_ messages: ServerMessage...) throws {
        for message in messages { link?.enqueue(message) }
        try flush()
    }

    /// Turns until it holds or the time is over.
    func wait(seconds: Double = 20, _ condition: () throws -> Bool) throws -> Bool {
        let end = monotonicNanoseconds() + UInt64(seconds * 1e9)
        while monotonicNanoseconds() < end {
            if try condition() { return true }
            _ = try socket.wait(timeout: .milliseconds(5))
            while let event = try socket.receive() {
                guard case .message(let route, let bytes, _) = event else { continue }
                try take(try codec.decodeFromWorker(bytes), from: route)
            }
            try flush()
        }
        return false
    }

    private func take(_ frame: WorkerToServerFrame, from route: PeerRoute) throws {
        let now = Instant(nanoseconds: monotonicNanoseconds())
        switch frame {
        case .hello(let hello):
            hellos.append(hello)
            self.route = route
            if link?.incarnation != hello.incarnation {
                link = ServerLink(incarnation: hello.incarnation, worker: WorkerID(UInt32(hellos.count)), epoch: epoch, now: now)
            }
            var out: ContiguousArray<ServerToWorkerFrame> = []
            link?.greet(hello, dataSecret: Self.secret, now: now, into: &out)
            for frame in out { _ = try socket.send(try codec.encode(frame), to: route) }
        case .batch(let batch):
            if case .messages(let messages, let sequence)? = link?.receive(batch, now: now) {
                self.messages += messages
                link?.take(through: sequence)
            }
        case .goodbye: goodbyeCount += 1
        case .welcome, .refused: break
        }
    }

    private func flush() throws {
        guard let route else { return }
        var out: ContiguousArray<ServerToWorkerFrame> = []
        link?.flush(now: Instant(nanoseconds: monotonicNanoseconds()), into: &out)
        for frame in out { _ = try socket.send(try codec.encode(frame), to: route) }
    }
}
