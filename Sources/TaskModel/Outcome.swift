/// How a task ended. Every task has exactly one.
package enum Outcome: Equatable, Sendable {
    case finished
    case failed(TaskError)
    case cancelled
}

/// Why a task failed, with everything that a person needs to mend it.
package struct TaskError: Error, Equatable, Sendable {
    package enum Cause: UInt8, Sendable {
        /// The code said no: an exit code, an exception, an error of a C function.
        case user = 0
        /// The process died under the task.
        case crash = 1
        case workerLost = 2
        case outOfMemory = 3
        case timeout = 4
        case preempted = 5
        /// The task could not be started: unknown type, missing program, an input that can't be had.
        case setup = 6
        /// An ancestor failed, so this one was never run.
        case dependency = 7
        /// The machine refused: disk or memory of the store is full.
        case resource = 8
        /// The code broke the contract: a missing output, a wrong number of results.
        case contract = 9
    }
    package var cause: Cause
    /// One line where possible: what went wrong and what to do.
    package var message: String
    /// Traceback, stderr or the tail of a log; may be empty.
    package var detail: String
    /// What the task wrote for debugging, one line each.
    package var debug: String
    /// Of a program; `nil` when it has none.
    package var exitCode: Int32?
    /// That ended the process; `nil` when none did.
    package var signal: Int32?
    /// The host that ran it; filled in by the worker.
    package var host: String = ""
    package init(
        _ cause: Cause, _ message: String, detail: String = "", debug: String = "", exitCode: Int32? = nil, signal: Int32? = nil
    ) {
        self.cause = cause
        self.message = message
        self.detail = detail
        self.debug = debug
        self.exitCode = exitCode
        self.signal = signal
    }

    /// Cuts texts that are longer.
    package mutating func limitTexts(bytesMax: Int) {
        Self.limit(&message, bytesMax)
        Self.limit(&detail, bytesMax)
        Self.limit(&debug, bytesMax)
    }

    private static func limit(_ text: inout String, _ bytesMax: Int) {
        guard text.utf8.count > bytesMax else { return }
        text = String(decoding: text.utf8.prefix(bytesMax), as: UTF8.self) + " … (cut: it has \(text.utf8.count) bytes)"
    }
}
