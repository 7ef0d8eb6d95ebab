import Glibc

/// A time in which the server does not answer: it is tried again, since it may be started again.
struct Outage {
    private let secondsMax: Int
    private let began = monotonicMilliseconds()
    private var pauseMilliseconds: Int64 = 20
    private var isTold = false

    /// More than some thirty years are as good as for ever.
    init(secondsMax: Int) { self.secondsMax = min(secondsMax, 1_000_000_000) }

    /// Waits before the next try.
    ///
    /// - Throws: `error`, when there is no time for another one, or when it is none that passes.
    mutating func wait(after error: CLIError) throws(CLIError) {
        let lasted = monotonicMilliseconds() - began
        guard error.mayPass, lasted < Int64(secondsMax) * 1000 else { throw error }
        if lasted > 2000, !isTold {
            isTold = true
            printError("\(error); trying again for \(Int64(secondsMax) - lasted / 1000) s")
        }
        usleep(UInt32(pauseMilliseconds * 1000))
        pauseMilliseconds = min(pauseMilliseconds * 2, 1000)
    }
}

extension CLIError {
    /// A server that is started again would make good of it.
    var mayPass: Bool {
        switch self {
        case .noServer, .noneStarted, .connectionLost, .silent, .refused(status: 503, _, _): true
        case .system, .transport, .malformed, .alreadyRunning, .notStarted, .interrupted, .didNotStop, .unknownHost, .badAnswer, .refused, .taskFailed,
            .noSuchLabel, .ambiguousLabel, .ambiguousObject, .noSuchObject, .notText, .notKept, .notDone, .notAllFinished, .outputCut, .controlPort,
            .clientPort, .notControlPort, .badSubworker:
            false
        }
    }
}
