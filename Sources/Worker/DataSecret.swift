import Synchronization

/// The key that signs requests of the data plane in the server's epoch; set by the loop, read by the threads of the data plane.
final class DataSecret: Sendable {
    private let bytes = Mutex<[UInt8]>([])
    func set(_ secret: [UInt8]) { bytes.withLock { $0 = secret } }
    /// `nil` before the first welcome.
    var current: [UInt8]? { bytes.withLock { $0.isEmpty ? nil : $0 } }
}
