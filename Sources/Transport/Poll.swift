import CZeroMQ
import Glibc

/// What a wait found ready.
package struct Readiness: Equatable, Sendable {
    /// Call `receive` until it gives nothing.
    package var socket: Bool
    /// By position in the list of descriptors: readable, at its end, or broken.
    package var descriptors: UInt64
    package init(socket: Bool, descriptors: UInt64) {
        self.socket = socket
        self.descriptors = descriptors
    }
    package func isReady(_ position: Int) -> Bool { descriptors & (1 << UInt64(position)) != 0 }
}

/// The list that `zmq_poll` looks at: first our sockets, then plain descriptors.
struct PollList: ~Copyable {
    /// More would not fit into `Readiness`; a shell with more of them polls an epoll descriptor here.
    static let descriptorCountMax = 64
    private let items: UnsafeMutablePointer<zmq_pollitem_t>

    init() { items = .allocate(capacity: 3 + Self.descriptorCountMax) }
    deinit { items.deallocate() }

    /// - Returns: bits of the ready sockets, and of the ready descriptors.
    func wait(
        sockets: (UnsafeMutableRawPointer, UnsafeMutableRawPointer, UnsafeMutableRawPointer?), descriptors: [Int32], timeout: Duration?
    ) throws(TransportError) -> (sockets: UInt64, descriptors: UInt64) {
        precondition(descriptors.count <= Self.descriptorCountMax)
        var count = 0
        func add(_ socket: UnsafeMutableRawPointer?, _ descriptor: Int32) {
            items[count] = zmq_pollitem_t(socket: socket, fd: descriptor, events: Int16(ZMQ_POLLIN), revents: 0)
            count += 1
        }
        add(sockets.0, -1)
        add(sockets.1, -1)
        if let third = sockets.2 { add(third, -1) }
        let socketCount = count
        for descriptor in descriptors { add(nil, descriptor) }
        if zmq_poll(items, Int32(count), milliseconds(timeout)) < 0 {
            guard zmq_errno() == EINTR else { throw lastFailure("zmq_poll") }
            return (0, 0)
        }
        var ready: (sockets: UInt64, descriptors: UInt64) = (0, 0)
        for index in 0..<count where items[index].revents != 0 {
            if index < socketCount { ready.sockets |= 1 << UInt64(index) } else { ready.descriptors |= 1 << UInt64(index - socketCount) }
        }
        return ready
    }

    /// Rounded up, so that what was waited for has come; `nil` waits for ever.
    private func milliseconds(_ timeout: Duration?) -> Int {
        guard let timeout else { return -1 }
        let (seconds, attoseconds) = timeout.components
        if seconds < 0 || attoseconds < 0 { return 0 }
        let whole = min(seconds, 1_000_000) * 1000
        return Int(whole + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
