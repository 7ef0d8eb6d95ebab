import CZeroMQ
import Glibc

/// Answers libzmq's question whether a client key may come in (ZeroMQ RFC 27). Without it, any key may.
struct ZAPHandler: ~Copyable {
    /// libzmq asks here, within the context.
    private static let endpoint = "inproc://zeromq.zap.01"
    /// libzmq takes a domain that is not empty as the wish to be asked.
    static let domain = Array("rain".utf8)
    private let allowed: [CurveKey]
    let socket: ZMQSocket

    init(_ context: ZMQContext, allowed: [CurveKey]) throws(TransportError) {
        self.allowed = allowed
        let socket = try ZMQSocket.open(context, type: ZMQ_REP)
        guard zmq_bind(socket.raw, Self.endpoint) == 0 else { throw lastFailure("zmq_bind(\(Self.endpoint))") }
        self.socket = socket
    }

    /// Answers everything that was asked.
    ///
    /// - Returns: the addresses of those that were refused.
    func answer() throws(TransportError) -> [String] {
        var refused: [String] = []
        while try socket.receivePart() {
            var parts = [socket.bytes]
            while socket.hasMoreParts, try socket.receivePart() { parts.append(socket.bytes) }
            // Version, request, domain, address, routing id, mechanism, the mechanism's credentials: here the public key.
            let isCurve = parts.count == 7 && parts[0] == Array("1.0".utf8) && parts[5] == Array("CURVE".utf8)
            let isAllowed = isCurve && allowed.contains { isEqualInConstantTime($0.bytes, parts[6]) }
            if !isAllowed { refused.append(parts.count > 3 ? String(decoding: parts[3], as: UTF8.self) : "") }
            let answer: [[UInt8]] = [
                Array("1.0".utf8), parts.count > 1 ? parts[1] : [], Array((isAllowed ? "200" : "400").utf8),
                Array((isAllowed ? "OK" : "this key is not allowed").utf8), [], [],
            ]
            for (index, part) in answer.enumerated() {
                let code = try socket.sendPart(part, isLast: index == answer.count - 1)
                guard code == 0 else { throw .zeroMQ(call: "zmq_send(\(Self.endpoint))", reason: String(cString: strerror(code))) }
            }
        }
        return refused
    }
}
