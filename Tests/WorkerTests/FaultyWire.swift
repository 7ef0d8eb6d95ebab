import Glibc
import Synchronization

@testable import Worker

/// Stands between a fetcher and a holder, and does to the answers what networks and machines do.
final class FaultyWire: Sendable {
    enum Fault: Sendable {
        case none
        /// One bit of the byte at this place of what the holder sends over the connection.
        case flip(at: Int)
        /// The connection ends after so many bytes of the holder's.
        case cut(after: Int)
        case flipAndCut(at: Int, after: Int)
        /// It takes the request and says nothing.
        case silent

        var flipped: Int? {
            switch self {
            case .flip(let place), .flipAndCut(let place, _): place
            case .none, .cut, .silent: nil
            }
        }
        var bytesMax: Int {
            switch self {
            case .cut(let count), .flipAndCut(_, let count): count
            case .none, .flip, .silent: .max
            }
        }
    }
    let port: UInt16
    private let listener: Int32
    private let target: UInt16
    private let faults: [Fault]
    private let pool = BlockingPool(threadCount: 12)
    private struct Count {
        var connections = 0
        var open = 0
        var openMax = 0
    }
    private let count = Mutex(Count())

    /// - Parameter faults: of one connection after the other; the last is that of all further ones.
    init(to target: UInt16, _ faults: Fault...) throws {
        self.target = target
        self.faults = faults
        let (listener, port) = try listen()
        (self.listener, self.port) = (listener, port)
        let (pool, faults, count) = (pool, faults, CountBox(self))
        pool.run {
            var number = 0
            while case let connection = accept(listener, nil, nil), connection >= 0 {
                let fault = faults[min(number, faults.count - 1)]
                number += 1
                pool.run {
                    count.change(by: 1)
                    Self.serve(Descriptor(connection), target, fault)
                    count.change(by: -1)
                }
            }
            _ = close(listener)
        }
    }
    /// Ends the thread's wait; it closes the listener, which nobody else may have the number of before.
    deinit { shutdown(listener, Int32(SHUT_RDWR)) }

    var connectionCount: Int { count.withLock { $0.connections } }
    /// At the same time.
    var connectionCountMax: Int { count.withLock { $0.openMax } }

    /// So that the threads don't keep the wire alive, which closes the listener.
    private final class CountBox: Sendable {
        private struct Weak: @unchecked Sendable {
            weak var wire: FaultyWire?  // Read only.
        }
        private let weakWire: Mutex<Weak>
        init(_ wire: FaultyWire) { weakWire = Mutex(Weak(wire: wire)) }
        func change(by difference: Int) {
            weakWire.withLock { $0.wire }?.count.withLock { count in
                if difference > 0 { count.connections += 1 }
                count.open += difference
                count.openMax = max(count.openMax, count.open)
            }
        }
    }

    private static func serve(_ client: consuming Descriptor, _ target: UInt16, _ fault: Fault) {
        guard let holder = try? connect(to: target) else { return }
        var buffer = [UInt8](repeating: 0, count: 16384)
        var passed = 0
        while passed < fault.bytesMax {
            var items = [pollfd(fd: client.raw, events: Int16(POLLIN), revents: 0), pollfd(fd: holder.raw, events: Int16(POLLIN), revents: 0)]
            guard poll(&items, 2, 20_000) > 0 else { return }
            if items[0].revents != 0 {
                let count = read(client.raw, &buffer, buffer.count)
                guard count > 0 else { return }
                if case .silent = fault { continue }
                guard (try? holder.writeAll(Array(buffer[..<count]))) != nil else { return }
            }
            if items[1].revents != 0 {
                let count = read(holder.raw, &buffer, min(buffer.count, fault.bytesMax - passed))
                guard count > 0 else { return }
                if let place = fault.flipped, passed <= place, place < passed + count { buffer[place - passed] ^= 4 }
                guard (try? client.writeAll(Array(buffer[..<count]))) != nil else { return }
                passed += count
            }
        }
    }
}

private func localAddress(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    return address
}

func connect(to port: UInt16) throws -> Descriptor {
    let socket = Descriptor(socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0))
    var address = localAddress(port)
    let code = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket.raw, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    guard code == 0 else { throw SystemError("connect", code: errno) }
    return socket
}

func listen() throws -> (listener: Int32, port: UInt16) {
    let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = localAddress(0)
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isListening = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(listener, $0, length) == 0 && listen(listener, 20) == 0 && getsockname(listener, $0, &length) == 0
        }
    }
    guard isListening else { throw SystemError("listen", code: errno) }
    return (listener, UInt16(bigEndian: address.sin_port))
}
