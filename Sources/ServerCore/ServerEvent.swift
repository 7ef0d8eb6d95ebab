import Link
import TaskModel

/// Something that happened to the server, handed to `ServerCore.handle`.
package enum ServerEvent: Equatable, Sendable {
    // Clients. Each carries a request number and is answered by exactly one `ServerEffect.reply` with it, now or later.
    case openSession(RequestID, SessionOptions)
    /// A client holds the session's lease from now on; replaces an earlier lease. Answered by `.lease`, then `leaseLines` follow.
    case openLease(RequestID, SessionID, resumeToken: String)
    case submit(RequestID, SessionID, Submit)
    /// Answered when all of them have their outcome, or the session has failed.
    case wait(RequestID, SessionID, TaskSelection)
    /// Answered when all of them exist, or can never exist.
    case locate(RequestID, SessionID, ObjectSelection)
    case taskInfo(RequestID, SessionID, TaskSelection, TaskFilter = TaskFilter())
    case objectInfo(RequestID, SessionID, ObjectSelection)
    case setKept(RequestID, SessionID, ObjectSelection, isKept: Bool)
    /// Answered when the tasks have their outcomes.
    case cancel(RequestID, SessionID, TaskSelection)
    /// Answered when nothing of the session runs any more on any worker.
    case closeSession(RequestID, SessionID)
    case sessionStatus(RequestID, SessionID)
    case status(RequestID)
    /// The client gave up waiting for this answer; a `wait`, `locate` or `cancel` is forgotten and never answered.
    case withdraw(RequestID)
    /// The connection of a lease broke, or was closed by the client.
    case leaseLost(SessionID, lease: UInt64, isClean: Bool)

    // Workers. A peer is one connection (routing id) of the control plane, numbered by the shell, never reused.
    case frame(PeerID, WorkerToServerFrame)
    /// The shell could not decode what the peer sent, or its connection is gone.
    case peerGone(PeerID, reason: String)

    /// Journal records up to this number are on disk.
    case committed(through: UInt64)
    /// Records can't be written (disk full, I/O error); every held answer becomes this error.
    case journalFailed(reason: String)
    /// Judges time-outs; sent after a drain, every 250 ms.
    case tick
    /// A tick is overdue, as there is always something that has arrived and was not looked at: nobody is judged by what may be among it.
    case overdue
}

/// One connection of the control plane; numbered by the shell, never reused.
package struct PeerID: Hashable, Sendable {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// One request of a client; numbered by the shell, never reused.
package struct RequestID: Hashable, Sendable {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

package struct SessionOptions: Equatable, Sendable {
    package var name: String
    package var onError: OnError
    /// How long the session lives on after its lease broke.
    package var graceMilliseconds: UInt32
    /// Needs no lease.
    package var isDetached: Bool
    package var subworkers: [SubworkerCommand]
    /// A secret that the shell drew; whoever has it may resume the lease.
    package var resumeToken: String
    /// When it was opened, by the shell's clock; for people.
    package var openedUnixSeconds: UInt64
    package init(
        name: String = "", onError: OnError = .failSession, graceMilliseconds: UInt32 = 5000, isDetached: Bool = false,
        subworkers: [SubworkerCommand] = [], resumeToken: String = "", openedUnixSeconds: UInt64 = 0
    ) {
        self.name = name
        self.onError = onError
        self.graceMilliseconds = graceMilliseconds
        self.isDetached = isDetached
        self.subworkers = subworkers
        self.resumeToken = resumeToken
        self.openedUnixSeconds = openedUnixSeconds
    }
}

package enum OnError: UInt8, Equatable, Sendable {
    /// The first failed task fails the session: everything else of it is stopped and its objects go.
    case failSession = 0
    /// Only what depends on a failed task fails.
    case failDescendants = 1
}

/// Tasks of one session: all of them, or ranges of indices in any order.
package enum TaskSelection: Equatable, Sendable {
    case all
    case ranges([Range<UInt32>])
}

/// Which of the selected tasks are told of: a question about a million has an answer of a few.
package struct TaskFilter: Equatable, Sendable {
    /// A bit for each state's number.
    private var states: UInt8 = .max
    /// Tasks that failed because what they need did.
    package var hasConsequences = true
    /// So many at most, the first of the selection.
    package var limit: UInt32 = .max

    package init() {}
    /// - Parameter states: only tasks in one of them.
    package init(states: [TaskState]) { self.states = states.reduce(0) { $0 | 1 << $1.rawValue } }

    func takes(_ state: TaskState) -> Bool { states >> state.rawValue & 1 == 1 }
    /// Whether it leaves any out.
    var isOpen: Bool { self == TaskFilter() }
}

/// Objects of one session by ranges of indices; the answer has them in the same order.
package struct ObjectSelection: Equatable, Sendable {
    package var ranges: [Range<UInt32>]
    package init(ranges: [Range<UInt32>]) { self.ranges = ranges }
}

/// A submit as columns, scanned from NDJSON on the HTTP thread.
package struct Submit: Equatable, Sendable {
    /// Ids of the first template, task and object, given by the client; `nil` takes the session's next ones.
    package var firstTemplate: UInt32?
    package var firstTask: UInt32?
    package var firstObject: UInt32?
    /// XXH3-128 of the body: a repeated submit with the same ids and hash is answered as the first was.
    package var hashLow: UInt64 = 0
    package var hashHigh: UInt64 = 0
    package var templates: [TaskTemplate] = []
    package var uploads: [Upload] = []
    /// Subworkers whose programs are objects of the session, of this submit or an earlier one.
    package var subworkers: [DeclaredSubworker] = []
    package var rows = Rows()
    package init() {}

    /// An object whose bytes the client gives.
    package struct Upload: Equatable, Sendable {
        /// Number of the object in this submit, counted over uploads and outputs in the order of the lines.
        package var offset: UInt32
        package var label: String
        package var contentType: String
        package var isDirectory: Bool
        package var isKept: Bool
        package var attributes: [UInt8]
        package var value: Value
        package enum Value: Equatable, Sendable {
            /// At most `ControlLimits.inlineBytesMax`.
            case inline([UInt8])
            /// In the depot, durable.
            case blob(BlobHash, sizeBytes: UInt64)
        }
        package init(
            offset: UInt32, label: String = "", contentType: String = "", isDirectory: Bool = false, isKept: Bool = false,
            attributes: [UInt8] = [], value: Value
        ) {
            self.offset = offset
            self.label = label
            self.contentType = contentType
            self.isDirectory = isDirectory
            self.isKept = isKept
            self.attributes = attributes
            self.value = value
        }
    }

    /// One element per row in each column; the two flat columns are cut by their ends.
    package struct Rows: Equatable, Sendable {
        /// Index of the template in its session.
        package var template: ContiguousArray<UInt32> = []
        /// Number of tasks that the row stands for, at least 1.
        package var count: ContiguousArray<UInt32> = []
        /// Offset in this submit of the row's first output. A row of `count` tasks has count × outputs of them.
        package var firstOutputOffset: ContiguousArray<UInt32> = []
        package var inputEnd: ContiguousArray<UInt32> = []
        /// Indices of objects in their session.
        package var inputs: ContiguousArray<UInt32> = []
        package var argumentsEnd: ContiguousArray<UInt64> = []
        package var arguments: [UInt8] = []
        /// Rows that say more than most do, by rising row.
        package var options: [(row: UInt32, options: RowOptions)] = []
        package init() {}
        package var rowCount: Int { template.count }
        func inputRange(_ row: Int) -> Range<Int> { (row == 0 ? 0 : Int(inputEnd[row - 1]))..<Int(inputEnd[row]) }
        func argumentRange(_ row: Int) -> Range<Int> { (row == 0 ? 0 : Int(argumentsEnd[row - 1]))..<Int(argumentsEnd[row]) }
        /// Whether the columns fit together, which those of a damaged journal may not.
        var isWhole: Bool {
            guard count.count == rowCount, firstOutputOffset.count == rowCount, inputEnd.count == rowCount, argumentsEnd.count == rowCount,
                inputEnd.last.map({ Int($0) }) ?? 0 == inputs.count, argumentsEnd.last ?? 0 == UInt64(arguments.count)
            else { return false }
            for row in inputEnd.indices.dropFirst() where inputEnd[row] < inputEnd[row - 1] || argumentsEnd[row] < argumentsEnd[row - 1] { return false }
            return zip(options, options.dropFirst()).allSatisfy { $0.row < $1.row } && options.last.map { Int($0.row) } ?? -1 < rowCount
        }
        package static func == (a: Self, b: Self) -> Bool {
            a.template == b.template && a.count == b.count && a.firstOutputOffset == b.firstOutputOffset && a.inputEnd == b.inputEnd
                && a.inputs == b.inputs && a.argumentsEnd == b.argumentsEnd && a.arguments == b.arguments
                && a.options.elementsEqual(b.options) { $0.row == $1.row && $0.options == $1.options }
        }
    }

    package struct RowOptions: Equatable, Sendable {
        package var name: String = ""
        /// Positions of outputs to keep, beside those that the template keeps.
        package var keep: [UInt16] = []
        package init(name: String = "", keep: [UInt16] = []) {
            self.name = name
            self.keep = keep
        }
    }
}
