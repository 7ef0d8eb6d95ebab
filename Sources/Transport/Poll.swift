import Glibc

/// What a wait found ready.
package struct Readiness: Equatable, Sendable {
    /// Call `receive` until it gives nothing, which may be at once.
    package var socket: Bool
    /// By position in the list of descriptors: readable, at its end, or broken.
    package var descriptors: UInt64
    package init(socket: Bool, descriptors: UInt64) {
        self.socket = socket
        self.descriptors = descriptors
    }
    package func isReady(_ position: Int) -> Bool { descriptors & (1 << UInt64(position)) != 0 }
}

/// The list that `poll` looks at: first the descriptors of our sockets, then plain ones.
///
/// `zmq_poll` asks the kernel twice, and each socket once or twice more, whatever happened. The descriptor of a socket alone says that
/// something came since it was last read until it was empty; it does not say that something is left. Who reads less than all, or has sent
/// meanwhile (sending takes in what came, too), must look again before it waits.
struct PollList: ~Copyable {
    /// More would not fit into `Readiness`; a shell with more of them polls an epoll descriptor here.
    static let descriptorCountMax = 64
    private let items: UnsafeMutablePointer<pollfd>

    init() { items = .allocate(capacity: 3 + Self.descriptorCountMax) }
    deinit { items.deallocate() }

    /// - Parameter sockets: `ZMQSocket.descriptor` of each; -1 for none.
    /// - Returns: bits of the sockets that something came to, and of the ready descriptors.
    func wait(
        sockets: (Int32, Int32, Int32), descriptors: [Int32], timeout: Duration?
    ) throws(TransportError) -> (sockets: UInt64, descriptors: UInt64) {
        precondition(descriptors.count <= Self.descriptorCountMax)
        var count = 0
        func add(_ descriptor: Int32) {
            items[count] = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            count += 1
        }
        add(sockets.0)
        add(sockets.1)
        add(sockets.2)
        let socketCount = count
        for descriptor in descriptors { add(descriptor) }
        if poll(items, UInt(count), milliseconds(timeout)) < 0 {
            guard errno == EINTR else { throw .zeroMQ(call: "poll", reason: String(cString: strerror(errno))) }
            return (0, 0)
        }
        var ready: (sockets: UInt64, descriptors: UInt64) = (0, 0)
        for index in 0..<count where items[index].revents != 0 {
            if index < socketCount { ready.sockets |= 1 << UInt64(index) } else { ready.descriptors |= 1 << UInt64(index - socketCount) }
        }
        return ready
    }

    /// Rounded up, so that what was waited for has come; `nil` waits for ever.
    private func milliseconds(_ timeout: Duration?) -> Int32 {
        guard let timeout else { return -1 }
        let (seconds, attoseconds) = timeout.components
        if seconds < 0 || attoseconds < 0 { return 0 }
        let whole = min(seconds, 1_000_000) * 1000
        return Int32(whole + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
