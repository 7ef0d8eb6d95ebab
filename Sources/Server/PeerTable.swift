import ServerCore
import Transport

/// Numbers the connections of the control plane for the core.
struct PeerTable {
    private enum Peer {
        case open(PeerID)
        /// The core has done with it; what it still sends is dropped until libzmq says that it is gone.
        case closed
    }
    private var peerOfRoute: [PeerRoute: Peer] = [:]
    private var routeOfPeer: [PeerID: PeerRoute] = [:]
    private var lastPeer: UInt64 = 0

    /// - Returns: `nil` for one that was closed.
    mutating func peer(_ route: PeerRoute) -> PeerID? {
        switch peerOfRoute[route] {
        case .open(let peer): return peer
        case .closed: return nil
        case nil:
            lastPeer += 1
            let peer = PeerID(lastPeer)
            peerOfRoute[route] = .open(peer)
            routeOfPeer[peer] = route
            return peer
        }
    }

    func route(_ peer: PeerID) -> PeerRoute? { routeOfPeer[peer] }

    mutating func close(_ peer: PeerID) {
        if let route = routeOfPeer.removeValue(forKey: peer) { peerOfRoute[route] = .closed }
    }

    /// The connection ended.
    /// - Returns: the peer that the core still knows.
    mutating func remove(_ route: PeerRoute) -> PeerID? {
        guard case .open(let peer)? = peerOfRoute.removeValue(forKey: route) else { return nil }
        routeOfPeer[peer] = nil
        return peer
    }
}
