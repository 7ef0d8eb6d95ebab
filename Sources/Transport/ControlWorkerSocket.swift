import CZeroMQ
import Glibc

/// What the control plane brought to a worker.
package enum ControlWorkerEvent: Equatable, Sendable {
    /// A new connection stands: say hello. What was sent before and not received is lost.
    case connected
    case message([UInt8])
    /// The connection ended; libzmq tries again.
    case disconnected
    /// The server does not know this worker's key. It will not be tried again: copy `access.toml` from the server's machine.
    case refused
    /// There is somebody, but it does not end the handshake: a server with another key, or no Rain server at all. Told once until
    /// a connection stands. It is tried again.
    case handshakeFailed
    /// Nobody listens there; told once until a connection stands. It is tried again.
    case unreachable
}

/// A worker's end of the control plane: a DEALER that connects to one server and comes back when the connection breaks.
package struct ControlWorkerSocket: ~Copyable {
    private let context: ZMQContext
    private let host: String
    private let port: UInt16
    private let access: Access
    private let list: PollList
    private var dealer: ZMQSocket
    private var monitor: ZMQMonitor
    /// Something may be here that the descriptors don't tell of: from a send to the `receive` that gives nothing.
    private var mustLook = true
    private var isConnected = false
    private var isUnreachableTold = false
    private var isHandshakeFailureTold = false

    /// Begins to connect; `receive` tells how it went.
    ///
    /// - Throws: `unknownHost`.
    package init(host: String, port: UInt16, access: Access) throws(TransportError) {
        let context = try ZMQContext()
        let dealer = try Self.makeDealer(context, access: access, reconnectMilliseconds: Self.reconnectMillisecondsMin)
        let monitor = try dealer.monitor(Self.monitoredEvents)
        try Self.connect(dealer, to: numericAddress(of: host), port)
        self.init(context: context, host: host, port: port, access: access, dealer: dealer, monitor: monitor)
    }

    private init(
        context: ZMQContext, host: String, port: UInt16, access: Access, dealer: consuming ZMQSocket, monitor: consuming ZMQMonitor
    ) {
        self.context = context
        self.host = host
        self.port = port
        self.access = access
        self.dealer = dealer
        self.monitor = monitor
        list = PollList()
    }

    /// Drops the connection with all that is on its way, and begins a new one; the host's name is looked up again.
    package mutating func reopen() throws(TransportError) {
        try reopen(reconnectMilliseconds: Self.reconnectMillisecondsMin)
        isUnreachableTold = false
        isHandshakeFailureTold = false
    }

    private mutating func reopen(reconnectMilliseconds: Int32) throws(TransportError) {
        let dealer = try Self.makeDealer(context, access: access, reconnectMilliseconds: reconnectMilliseconds)
        let monitor = try dealer.monitor(Self.monitoredEvents)
        try Self.connect(dealer, to: numericAddress(of: host), port)
        self.dealer = dealer
        self.monitor = monitor
        mustLook = true
        isConnected = false
    }

    /// Waits until something came or the time is over. May return early with nothing.
    ///
    /// - Parameters:
    ///   - descriptors: plain ones that wake it when readable, at most 64.
    ///   - timeout: `nil` waits for ever.
    package mutating func wait(for descriptors: [Int32] = [], timeout: Duration?) throws(TransportError) -> Readiness {
        let ready = try list.wait(
            sockets: (dealer.descriptor, monitor.socket.descriptor, -1), descriptors: descriptors, timeout: mustLook ? .zero : timeout)
        if ready.sockets != 0 { mustLook = true }
        return Readiness(socket: mustLook, descriptors: ready.descriptors)
    }

    /// The next thing that came; `nil` when there is none for now.
    package mutating func receive() throws(TransportError) -> ControlWorkerEvent? {
        while let event = try monitor.next() {
            if let told = try meaning(of: event) { return told }
        }
        while try dealer.receivePart() {
            if !dealer.hasMoreParts { return .message(dealer.bytes) }
            // A server of ours sends single parts only, and nobody else has its key: skipped, and the Link sees the gap.
            try dealer.skipParts()
        }
        mustLook = false
        return nil
    }

    /// - Returns: `false` when there is no connection now; the bytes are dropped.
    package mutating func send(_ bytes: [UInt8]) throws(TransportError) -> Bool {
        mustLook = true
        return try dealer.sendPart(bytes, isLast: true) == 0
    }

    /// As `send`, before this end is closed for good: closing then waits a moment until it is on its way.
    package mutating func sendLast(_ bytes: [UInt8]) throws(TransportError) -> Bool {
        try dealer.set(ZMQ_LINGER, Self.farewellMilliseconds)
        return try send(bytes)
    }

    /// A peer that takes nothing for so long learns of the end by itself.
    private static let farewellMilliseconds: Int32 = 200

    private mutating func meaning(of event: ZMQMonitor.Event) throws(TransportError) -> ControlWorkerEvent? {
        switch event.kind {
        case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
            isConnected = true
            isUnreachableTold = false
            isHandshakeFailureTold = false
            return .connected
        case ZMQ_EVENT_DISCONNECTED:
            // libzmq also says it of a connection that never got through its handshake.
            defer { isConnected = false }
            return isConnected ? .disconnected : nil
        case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH: return .refused
        case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL, ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            if isHandshakeFailureTold { return nil }
            isHandshakeFailureTold = true
            // libzmq lengthens its interval only while nobody listens; else it would shake hands 130 times a second.
            try reopen(reconnectMilliseconds: Self.reconnectMillisecondsMax)
            isUnreachableTold = true
            return .handshakeFailed
        case ZMQ_EVENT_CONNECT_RETRIED:
            if isUnreachableTold { return nil }
            isUnreachableTold = true
            return .unreachable
        default: return nil
        }
    }

    private static let monitoredEvents =
        ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL
        | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_CONNECT_RETRIED

    private static let reconnectMillisecondsMin: Int32 = 5
    private static let reconnectMillisecondsMax: Int32 = 1000

    private static func makeDealer(
        _ context: ZMQContext, access: Access, reconnectMilliseconds: Int32
    ) throws(TransportError) -> ZMQSocket {
        let dealer = try ZMQSocket.open(context, type: ZMQ_DEALER)
        try ControlOptions.setCommon(dealer)
        // Only to a connection that stands, and never on to the next: a successor must not get what was meant for its forerunner.
        try dealer.set(ZMQ_IMMEDIATE, 1)
        try dealer.set(ZMQ_RECONNECT_IVL, reconnectMilliseconds)
        try dealer.set(ZMQ_RECONNECT_IVL_MAX, reconnectMillisecondsMax)
        try dealer.set(ZMQ_CONNECT_TIMEOUT, 5000)
        try dealer.set(ZMQ_CURVE_SERVERKEY, access.serverPublicKey.bytes)
        try dealer.set(ZMQ_CURVE_PUBLICKEY, access.workerPublicKey.bytes)
        try dealer.set(ZMQ_CURVE_SECRETKEY, access.workerSecretKey.bytes)
        return dealer
    }

    private static func connect(_ dealer: borrowing ZMQSocket, to address: String, _ port: UInt16) throws(TransportError) {
        guard zmq_connect(dealer.raw, "tcp://\(address):\(port)") == 0 else { throw lastFailure("zmq_connect(\(address):\(port))") }
    }
}
