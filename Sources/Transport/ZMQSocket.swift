import CZeroMQ
import Glibc

/// A context of libzmq with its one I/O thread. Every socket holds it, so it ends after the last of them.
final class ZMQContext {
    let raw: UnsafeMutableRawPointer

    init() throws(TransportError) {
        guard let raw = zmq_ctx_new() else { throw lastFailure("zmq_ctx_new") }
        self.raw = raw
    }

    // Cannot wait: every socket is closed by now, and none lingers.
    deinit { zmq_ctx_term(raw) }
}

/// A socket of libzmq, used by one thread.
struct ZMQSocket: ~Copyable {
    private let context: ZMQContext
    let raw: UnsafeMutableRawPointer
    /// Readable once something came after everything had been taken; see `PollList`.
    let descriptor: Int32
    /// The part that was received last, at a fixed place because libzmq keeps small ones inside.
    private let part: UnsafeMutablePointer<zmq_msg_t>

    static func open(_ context: ZMQContext, type: Int32) throws(TransportError) -> ZMQSocket {
        guard let raw = zmq_socket(context.raw, type) else { throw lastFailure("zmq_socket") }
        var descriptor: Int32 = -1
        var size = MemoryLayout<Int32>.size
        guard zmq_getsockopt(raw, ZMQ_FD, &descriptor, &size) == 0 else {
            let failure = lastFailure("zmq_getsockopt(ZMQ_FD)")
            zmq_close(raw)
            throw failure
        }
        let socket = ZMQSocket(context: context, raw: raw, descriptor: descriptor)
        // Nothing that we send is worth waiting for at the end: Link sends again what was not acknowledged.
        try socket.set(ZMQ_LINGER, 0)
        // The Link has its own credit; at libzmq's mark a ROUTER would drop and a DEALER would block.
        try socket.set(ZMQ_SNDHWM, 0)
        try socket.set(ZMQ_RCVHWM, 0)
        return socket
    }

    private init(context: ZMQContext, raw: UnsafeMutableRawPointer, descriptor: Int32) {
        self.context = context
        self.raw = raw
        self.descriptor = descriptor
        part = .allocate(capacity: 1)
        zmq_msg_init(part)
    }

    deinit {
        zmq_msg_close(part)
        part.deallocate()
        zmq_close(raw)
    }

    func set(_ option: Int32, _ value: Int32) throws(TransportError) {
        var value = value
        guard zmq_setsockopt(raw, option, &value, MemoryLayout<Int32>.size) == 0 else { throw lastFailure("zmq_setsockopt(\(option))") }
    }
    func set(_ option: Int32, wide value: Int64) throws(TransportError) {
        var value = value
        guard zmq_setsockopt(raw, option, &value, MemoryLayout<Int64>.size) == 0 else { throw lastFailure("zmq_setsockopt(\(option))") }
    }
    func set(_ option: Int32, _ value: [UInt8]) throws(TransportError) {
        guard zmq_setsockopt(raw, option, value, value.count) == 0 else { throw lastFailure("zmq_setsockopt(\(option))") }
    }

    /// Receives one part without waiting.
    ///
    /// - Returns: `false` when there is none.
    func receivePart() throws(TransportError) -> Bool {
        while zmq_msg_recv(part, raw, ZMQ_DONTWAIT) < 0 {
            let code = zmq_errno()
            if code == EAGAIN { return false }
            if code != EINTR { throw lastFailure("zmq_msg_recv") }
        }
        return true
    }
    var hasMoreParts: Bool { zmq_msg_more(part) != 0 }
    /// A copy of the part that was received last.
    var bytes: [UInt8] {
        let count = zmq_msg_size(part)
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            if count > 0, let base = buffer.baseAddress, let data = zmq_msg_data(part) { memcpy(base, data, count) }
            initialized = count
        }
    }
    /// The descriptor of the connection that the part came from; -1 when there is none.
    var sourceDescriptor: Int32 { zmq_msg_get(part, ZMQ_SRCFD) }
    /// The address that the part came from; empty when it is not known.
    var peerAddress: String { zmq_msg_gets(part, "Peer-Address").map { String(cString: $0) } ?? "" }

    func skipParts() throws(TransportError) {
        while hasMoreParts { guard try receivePart() else { return } }
    }

    /// Sends one part without waiting.
    ///
    /// - Returns: 0, or `EAGAIN` or `EHOSTUNREACH` when nobody is there to take it.
    func sendPart(_ bytes: [UInt8], isLast: Bool) throws(TransportError) -> Int32 {
        while zmq_send(raw, bytes, bytes.count, isLast ? ZMQ_DONTWAIT : ZMQ_DONTWAIT | ZMQ_SNDMORE) < 0 {
            switch zmq_errno() {
            case EINTR: continue
            case let code where code == EAGAIN || code == EHOSTUNREACH: return code
            default: throw lastFailure("zmq_send")
            }
        }
        return 0
    }

    /// What happens to the connections of this socket, as a socket of its own.
    func monitor(_ events: Int32) throws(TransportError) -> ZMQMonitor {
        let endpoint = "inproc://monitor-\(UInt(bitPattern: raw))"
        guard zmq_socket_monitor(raw, endpoint, events) == 0 else { throw lastFailure("zmq_socket_monitor") }
        let socket = try ZMQSocket.open(context, type: ZMQ_PAIR)
        guard zmq_connect(socket.raw, endpoint) == 0 else { throw lastFailure("zmq_connect(\(endpoint))") }
        return ZMQMonitor(socket: socket)
    }
}

struct ZMQMonitor: ~Copyable {
    struct Event {
        var kind: Int32
        /// A descriptor, an error number or a status, by kind.
        var value: Int32
    }
    let socket: ZMQSocket

    init(socket: consuming ZMQSocket) { self.socket = socket }

    func next() throws(TransportError) -> Event? {
        guard try socket.receivePart() else { return nil }
        let bytes = socket.bytes
        try socket.skipParts()
        guard bytes.count == 6 else { throw .zeroMQ(call: "zmq_socket_monitor", reason: "an event of \(bytes.count) bytes") }
        return bytes.withUnsafeBytes {
            Event(kind: Int32($0.loadUnaligned(as: UInt16.self)), value: $0.loadUnaligned(fromByteOffset: 2, as: Int32.self))
        }
    }
}

func lastFailure(_ call: String) -> TransportError {
    .zeroMQ(call: call, reason: String(cString: zmq_strerror(zmq_errno())))
}
