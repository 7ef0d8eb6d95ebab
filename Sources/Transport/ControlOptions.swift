import CZeroMQ

/// What both ends of the control plane set the same. The numbers that the Link's own timing stands on are there.
enum ControlOptions {
    /// A Link batch has at most 256 KiB, one large message more; what is over this is an attack or a bug, and ends the connection.
    static let messageBytesMax: Int64 = 16 << 20

    static func setCommon(_ socket: borrowing ZMQSocket) throws(TransportError) {
        try socket.set(ZMQ_MAXMSGSIZE, wide: messageBytesMax)
        try socket.set(ZMQ_IPV6, 0)
        // The Link has its own heartbeats, which also show that the peer's core still turns.
        try socket.set(ZMQ_HEARTBEAT_IVL, 0)
        // A peer that connects and does not speak ZMTP is cut off, so that it holds no descriptor.
        try socket.set(ZMQ_HANDSHAKE_IVL, 5000)
        // For the dead machine behind a firewall; the Link notices all else sooner.
        try socket.set(ZMQ_TCP_KEEPALIVE, 1)
        try socket.set(ZMQ_TCP_KEEPALIVE_IDLE, 30)
        try socket.set(ZMQ_TCP_KEEPALIVE_INTVL, 5)
        try socket.set(ZMQ_TCP_KEEPALIVE_CNT, 4)
    }
}
