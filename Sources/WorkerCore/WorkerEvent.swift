import Link
import TaskModel

/// Something that happened to the worker, handed to `WorkerCore.handle`. Answers carry the token of the effect they answer.
package enum WorkerEvent: Equatable, Sendable {
    /// From the control plane.
    case frame(ServerToWorkerFrame)
    /// The control connection is new (first start, or reopened by the shell): say hello.
    case connected

    // Subworkers. After `startSubworker` comes at most one `subworkerRegistered` and exactly one `subworkerEnded`.
    case subworkerRegistered(SubworkerID, SubworkerCapabilities)
    /// Calls that came back, in the order of arrival. Their output files are accepted already.
    case callsAnswered(SubworkerID, ContiguousArray<CallAnswer>)
    /// The answer to `recall`: the slots that were taken back before they began; the others will be answered.
    case recalled(SubworkerID, slots: SlotSet)
    /// The process is gone and reaped: why, with signal and the tail of its log; which unanswered calls its control page showed as
    /// running, or as those that made it crash; without a page, all of them; and which others had begun: their results are lost, or
    /// they ran beside the one that crashed.
    case subworkerEnded(SubworkerID, evidence: TaskError, running: SlotSet, begun: SlotSet = SlotSet())
    /// A running call is about to make an output file of this size, or to let one grow to it; answered by `grant`. 0: it does not make it.
    case reserve(SubworkerID, slot: UInt8, file: UInt32, sizeBytes: UInt64)
    /// How far running calls are.
    case progress(SubworkerID, ContiguousArray<CallProgress>)

    /// At most one for each `measureMemory`: what the process has for itself, files that it has mapped not counted.
    case memoryMeasured(SubworkerID, bytes: UInt64)

    /// Exactly one for each `runJob`: its process group is gone and its outputs are accepted.
    case jobEnded(JobToken, JobResult)
    /// Exactly one for each `fetch`: the replica is a file of the store (or these bytes), or can't be had.
    case fetched(FetchToken, FetchResult)
    /// Exactly one for each `alias`; `nil` when it succeeded.
    case aliased(AliasToken, TaskError?)

    /// Exactly one for each `write`.
    case written(WriteToken, WriteResult)

    /// What ends with the next event has written to these files of the store, which it was to read only: they are not the objects any more.
    case damaged([Replica])
    /// The same when nobody knows who wrote to them.
    case foundDamaged([Replica])

    /// Exactly one for each `spill`; `false` when the file had to stay in memory.
    case spilled(Replica, isDone: Bool)

    /// Exactly one for each `emptyTrash`.
    case trashEmptied

    /// Judges time-outs; sent when `WorkerCore.nextTick` has come.
    case tick
}

/// A subworker process, numbered by the core, never reused.
package struct SubworkerID: Hashable, Comparable, Sendable {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}
package struct JobToken: Hashable, Sendable {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}
package struct FetchToken: Hashable, Sendable {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}
package struct AliasToken: Hashable, Sendable {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}
package struct WriteToken: Hashable, Sendable {
    package let rawValue: UInt64
    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
}

/// Call slots of one subworker, by bit; there are 64.
package struct SlotSet: Equatable, Sendable {
    package var bits: UInt64
    package init(bits: UInt64 = 0) { self.bits = bits }
    package func contains(_ slot: UInt8) -> Bool { bits & (1 << UInt64(slot)) != 0 }
    package mutating func insert(_ slot: UInt8) { bits |= 1 << UInt64(slot) }
    package mutating func remove(_ slot: UInt8) { bits &= ~(1 << UInt64(slot)) }
    package var isEmpty: Bool { bits == 0 }
}

package struct SubworkerCapabilities: Equatable, Sendable {
    package var hasControlPage: Bool
    package var threads: UInt16
    package var hasCaching: Bool
    /// Names of its tasks; one that is empty takes any.
    package var tasks: [String]
    package init(hasControlPage: Bool, threads: UInt16 = 1, hasCaching: Bool, tasks: [String]) {
        self.hasControlPage = hasControlPage
        self.threads = threads
        self.hasCaching = hasCaching
        self.tasks = tasks
    }
}

package struct CallProgress: Equatable, Sendable {
    package var slot: UInt8
    package var progress: Progress
    package init(slot: UInt8, progress: Progress) {
        self.slot = slot
        self.progress = progress
    }
}

package struct CallAnswer: Equatable, Sendable {
    package var slot: UInt8
    package var durationNanoseconds: UInt64
    package var debug: String
    package var attributes: [UInt8]
    package var result: Result
    package enum Result: Equatable, Sendable {
        case outputs([LocalOutput])
        case failed(TaskError)
        /// It failed as what it wrote without asking found no room. The error is for the case that it can't be tried again.
        case outOfRoom(TaskError)
        case cancelled
    }
    package init(slot: UInt8, durationNanoseconds: UInt64 = 0, debug: String = "", attributes: [UInt8] = [], result: Result) {
        self.slot = slot
        self.durationNanoseconds = durationNanoseconds
        self.debug = debug
        self.attributes = attributes
        self.result = result
    }
}

/// An output that the shell has accepted.
package struct LocalOutput: Equatable, Sendable {
    /// Empty: as declared.
    package var contentType: String
    package var attributes: [UInt8]
    package var isDirectory: Bool
    package var value: Value
    package enum Value: Equatable, Sendable {
        /// At most `ControlLimits.inlineBytesMax`.
        case inline([UInt8])
        /// A file or directory of the store, under the output's own name.
        case stored(sizeBytes: UInt64, isOnDisk: Bool = false)
        /// The same data as an input of the call, by position.
        case sameAsInput(UInt16)
    }
    package init(contentType: String = "", attributes: [UInt8] = [], isDirectory: Bool = false, value: Value) {
        self.contentType = contentType
        self.attributes = attributes
        self.isDirectory = isDirectory
        self.value = value
    }
}

package enum JobResult: Equatable, Sendable {
    case finished([LocalOutput], durationNanoseconds: UInt64, debug: String)
    case failed(TaskError)
    /// It failed as there was no room: in memory, or on disk where it was to work there. The error is for the case that it can't be tried again.
    case outOfRoom(TaskError)
    case cancelled
}

package enum WriteResult: Equatable, Sendable {
    /// - `isOnDisk`: of each file, in their order; else it lies in memory.
    case stored(isOnDisk: [Bool])
    /// Nothing of it is left.
    case failed(TaskError)
}

package enum FetchResult: Equatable, Sendable {
    case stored(sizeBytes: UInt64, isOnDisk: Bool = false)
    case inline([UInt8])
    case failed(TaskError)
}
