package enum TransportError: Error, Equatable, Sendable, CustomStringConvertible {
    case addressInUse(address: String)
    case cannotBind(address: String, reason: String)
    /// The host's name has no IPv4 address.
    case unknownHost(String, reason: String)
    /// A call of libzmq failed that never should.
    case zeroMQ(call: String, reason: String)
    case noStateDirectory
    case file(path: String, action: String, reason: String)
    case missingAccessFile(path: String)
    case malformedAccessFile(path: String, line: Int, reason: String)
    case malformedServerKey(path: String)
    /// The access file was not made from this server key.
    case foreignAccessFile(path: String, keyPath: String)
    case noRandomness

    package var description: String {
        switch self {
        case .addressInUse(let address):
            "address \(address) is in use: another server runs there; stop it or choose another port"
        case .cannotBind(let address, let reason): "cannot listen on \(address): \(reason)"
        case .unknownHost(let host, let reason): "cannot find the address of host \(host): \(reason)"
        case .zeroMQ(let call, let reason): "\(call) failed: \(reason)"
        case .noStateDirectory: "neither XDG_STATE_HOME nor HOME is set: say where the state of Rain is kept"
        case .file(let path, let action, let reason): "cannot \(action) \(path): \(reason)"
        case .missingAccessFile(let path):
            "no access file \(path): start the server on this machine first, or copy access.toml from the server's machine to that place"
        case .malformedAccessFile(let path, let line, let reason):
            "\(path):\(line): \(reason); copy access.toml from the server's machine again, or remove it there and restart the server"
        case .malformedServerKey(let path):
            "\(path) is not a server key: remove it and access.toml beside it, start the server again, and copy the new access.toml to its workers"
        case .foreignAccessFile(let path, let keyPath):
            "\(path) belongs to another server than the key \(keyPath): move it away, or use another state directory for this server"
        case .noRandomness: "libsodium cannot start: the system gives no random numbers"
        }
    }
}
