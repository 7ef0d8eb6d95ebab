import CZeroMQ
import Glibc

/// One connection of a worker, named by libzmq anew for each: a worker that comes back has another.
package struct PeerRoute: Hashable, Sendable {
    package let bytes: [UInt8]
    package init(bytes: [UInt8]) { self.bytes = bytes }
}

/// What the control plane brought to the server.
package enum ControlServerEvent: Equatable, Sendable {
    /// `address` is the numeric one that the peer's connection comes from, for a hello that names none.
    case message(PeerRoute, [UInt8], address: String)
    /// The connection ended, or what came is no message of ours. It may come without any message before, or not at all when a
    /// network swallows the end: the Link's silence decides then.
    case gone(PeerRoute, reason: String)
    /// Somebody without a right key was turned away; for the log.
    case refused(address: String)
}

/// The server's end of the control plane: a ROUTER behind CURVE that lets in the keys of the access file alone.
///
/// Belongs to one thread, which calls `wait` often: it is there that new workers are let in.
package struct ControlServerSocket: ~Copyable {
    /// Where it listens: numeric address, and the real port when any was asked for.
    package let host: String
    package let port: UInt16
    private let router: ZMQSocket
    private let zap: ZAPHandler
    private let monitor: ZMQMonitor
    private let list: PollList
    /// Something may be here that the descriptors don't tell of: from a send to the `receive` that gives nothing.
    private var mustLook = true
    /// The connection behind each descriptor that libzmq has open; without a route until its first message.
    private var connections: [Int32: PeerRoute?] = [:]
    /// Found out on the way to something else; given before anything new.
    private var pending: [ControlServerEvent] = []

    /// - Parameter port: 0 takes any free one.
    package init(host: String, port: UInt16, access: ServerAccess) throws(TransportError) {
        let address = try numericAddress(of: host)
        let context = try ZMQContext()
        let zap = try ZAPHandler(context, allowed: [access.access.workerPublicKey])
        let router = try ZMQSocket.open(context, type: ZMQ_ROUTER)
        try ControlOptions.setCommon(router)
        // A send to a peer that is gone must say so: by default it vanishes.
        try router.set(ZMQ_ROUTER_MANDATORY, 1)
        // A peer that takes another's routing id must not get its messages.
        try router.set(ZMQ_ROUTER_HANDOVER, 0)
        try router.set(ZMQ_BACKLOG, 1024)
        try router.set(ZMQ_CURVE_SERVER, 1)
        try router.set(ZMQ_CURVE_SECRETKEY, access.secretKey.bytes)
        try router.set(ZMQ_ZAP_DOMAIN, ZAPHandler.domain)
        let monitor = try router.monitor(ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED)
        let asked = "tcp://\(address):\(port == 0 ? "*" : String(port))"
        if zmq_bind(router.raw, asked) != 0 {
            let code = zmq_errno()
            if code == EADDRINUSE { throw .addressInUse(address: "\(host):\(port)") }
            throw .cannotBind(address: "\(host):\(port)", reason: String(cString: zmq_strerror(code)))
        }
        let bound = try Self.boundPort(router)
        self.init(host: address, port: bound, router: router, zap: zap, monitor: monitor)
    }

    private init(host: String, port: UInt16, router: consuming ZMQSocket, zap: consuming ZAPHandler, monitor: consuming ZMQMonitor) {
        self.host = host
        self.port = port
        self.router = router
        self.zap = zap
        self.monitor = monitor
        list = PollList()
    }

    /// Waits until something came or the time is over, and lets in who may come in. May return early with nothing.
    ///
    /// - Parameters:
    ///   - descriptors: plain ones that wake it when readable, at most 64.
    ///   - timeout: `nil` waits for ever.
    package mutating func wait(for descriptors: [Int32] = [], timeout: Duration?) throws(TransportError) -> Readiness {
        let ready = try list.wait(
            sockets: (router.descriptor, monitor.socket.descriptor, zap.socket.descriptor), descriptors: descriptors,
            timeout: pending.isEmpty && !mustLook ? timeout : .zero)
        if ready.sockets & 0b100 != 0 {
            for address in try zap.answer() { pending.append(.refused(address: address)) }
        }
        if ready.sockets & 0b011 != 0 || !pending.isEmpty { mustLook = true }
        return Readiness(socket: mustLook, descriptors: ready.descriptors)
    }

    /// The next thing that came; `nil` when there is none for now.
    ///
    /// What a peer said before its connection ended comes before its end: a worker's goodbye is its last word.
    package mutating func receive() throws(TransportError) -> ControlServerEvent? {
        while true {
            if let message = try receiveMessage() { return message }
            if let event = takePending() { return event }
            try watchConnections()
            // Messages are queued before the end of their connection is told, so they are looked for again.
            if pending.isEmpty {
                mustLook = false
                return nil
            }
        }
    }

    private mutating func receiveMessage() throws(TransportError) -> ControlServerEvent? {
        guard try router.receivePart() else { return nil }
        let route = PeerRoute(bytes: router.bytes)
        guard router.hasMoreParts, try router.receivePart() else { return .gone(route, reason: "it sent a message without a body") }
        if router.hasMoreParts {
            try router.skipParts()
            return .gone(route, reason: "it sent a message of several parts")
        }
        let bytes = router.bytes
        try note(route, on: router.sourceDescriptor)
        return .message(route, bytes, address: router.peerAddress)
    }

    /// - Returns: `false` when the connection is gone; a `gone` for it comes or has come.
    package mutating func send(_ bytes: [UInt8], to route: PeerRoute) throws(TransportError) -> Bool {
        mustLook = true
        guard try router.sendPart(route.bytes, isLast: false) == 0 else { return false }
        return try router.sendPart(bytes, isLast: true) == 0
    }

    /// Remembers which connection a route is, so that its end can be told.
    private mutating func note(_ route: PeerRoute, on descriptor: Int32) throws(TransportError) {
        guard descriptor >= 0 else { return }
        if case .some(.some(route)) = connections[descriptor] { return }
        // The number may have been another connection's a moment ago: what happened to that one is in the monitor already,
        // because libzmq reports an end before it closes the descriptor.
        try watchConnections()
        guard let known = connections[descriptor] else {
            pending.append(.gone(route, reason: "its connection ended"))
            return
        }
        if let other = known, other != route { pending.append(.gone(other, reason: "its connection ended")) }
        connections[descriptor] = .some(route)
    }

    private mutating func watchConnections() throws(TransportError) {
        while let event = try monitor.next() {
            if case .some(.some(let route)) = connections.removeValue(forKey: event.value) {
                pending.append(.gone(route, reason: "its connection ended"))
            }
            if event.kind == ZMQ_EVENT_ACCEPTED { connections[event.value] = .some(nil) }
        }
    }

    private mutating func takePending() -> ControlServerEvent? {
        pending.isEmpty ? nil : pending.removeFirst()
    }

    private static func boundPort(_ socket: borrowing ZMQSocket) throws(TransportError) -> UInt16 {
        var text = [CChar](repeating: 0, count: 256)
        var count = text.count
        guard zmq_getsockopt(socket.raw, ZMQ_LAST_ENDPOINT, &text, &count) == 0 else { throw lastFailure("zmq_getsockopt(ZMQ_LAST_ENDPOINT)") }
        let endpoint = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard let colon = endpoint.lastIndex(of: ":"), let port = UInt16(endpoint[endpoint.index(after: colon)...]) else {
            throw .zeroMQ(call: "zmq_getsockopt(ZMQ_LAST_ENDPOINT)", reason: "it says \(endpoint)")
        }
        return port
    }
}
