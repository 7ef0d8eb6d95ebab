import ServerCore
import Synchronization
import TaskModel

/// What the HTTP threads know of open sessions: how many outputs each template has, so that a submit is scanned without the core.
final class SessionDirectory: Sendable {
    private let outputCounts = Mutex<[SessionID: ContiguousArray<UInt32>]>([:])

    func open(_ session: SessionID) { outputCounts.withLock { $0[session] = [] } }
    func restore(_ sessions: [OpenSession]) {
        outputCounts.withLock { counts in
            for session in sessions { counts[session.session] = session.outputCounts }
        }
    }
    func close(_ session: SessionID) { outputCounts.withLock { $0[session] = nil } }

    /// - Returns: `nil` for a session that isn't open.
    func outputCounts(of session: SessionID) -> ContiguousArray<UInt32>? { outputCounts.withLock { $0[session] } }

    /// The core has taken a submit with these templates.
    func add(_ counts: ContiguousArray<UInt32>, from firstTemplate: UInt32, to session: SessionID) {
        outputCounts.withLock { sessions in
            // A repeated submit says nothing new, and a closed session needs nothing.
            guard sessions[session]?.count == Int(firstTemplate) else { return }
            sessions[session]?.append(contentsOf: counts)
        }
    }
}
