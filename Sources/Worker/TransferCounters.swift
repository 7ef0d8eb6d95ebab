import Synchronization
import TaskModel

/// What the data plane of this worker has moved since its start. Adds itself up from any thread.
final class TransferCounters: Sendable {
    /// Bytes of objects that came, those of transfers that failed among them.
    let pulledBytes = Atomic<UInt64>(0)
    /// Objects that came in full.
    let pulledObjects = Atomic<UInt64>(0)
    let pullRequests = Atomic<UInt64>(0)
    /// Tries that failed: another holder was asked, or none was left.
    let failedPulls = Atomic<UInt64>(0)
    /// Transfers that went on where another had broken off.
    let resumedPulls = Atomic<UInt64>(0)
    let servedBytes = Atomic<UInt64>(0)
    let servedRequests = Atomic<UInt64>(0)
    private let peerSet = Mutex<Set<Endpoint>>([])

    func add(_ peer: Endpoint) { _ = peerSet.withLock { $0.insert(peer) } }
    /// How many other holders objects came from.
    var peerCount: Int { peerSet.withLock { $0.count } }

    /// One object of JSON.
    var text: String {
        JSONValue.object([
            ("pulled_bytes", number(pulledBytes)), ("pulled_objects", number(pulledObjects)), ("pull_requests", number(pullRequests)),
            ("failed_pulls", number(failedPulls)), ("resumed_pulls", number(resumedPulls)), ("peers", .number(Double(peerCount))),
            ("served_bytes", number(servedBytes)), ("served_requests", number(servedRequests)),
        ]).text
    }
    private func number(_ counter: borrowing Atomic<UInt64>) -> JSONValue { .number(Double(counter.load(ordering: .relaxed))) }
}
