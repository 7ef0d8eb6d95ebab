import Glibc
import TaskModel

/// A system call that failed.
package struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    package let call: String
    /// What it was about: a path, a program; may be empty.
    package let subject: String
    package let code: Int32
    package init(_ call: String, _ subject: String = "", code: Int32) {
        self.call = call
        self.subject = subject
        self.code = code
    }
    package var reason: String { errorText(code) }
    package var description: String { subject.isEmpty ? "\(call): \(reason)" : "\(call) \(subject): \(reason)" }
}

/// The system's words for an `errno`.
func errorText(_ code: Int32) -> String {
    var text = [CChar](repeating: 0, count: 256)
    guard strerror_r(code, &text, text.count) == 0 else { return "error \(code)" }
    return text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
}

/// The result of a call of `CLinux` that gives -errno on failure.
@discardableResult func check(_ result: Int32, _ call: String, _ subject: @autoclosure () -> String = "") throws(SystemError) -> Int32 {
    guard result >= 0 else { throw SystemError(call, subject(), code: 0 &- result) }
    return result
}

/// Nanoseconds on the monotonic clock.
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(bitPattern: Int64(time.tv_sec)) &* 1_000_000_000 &+ UInt64(bitPattern: Int64(time.tv_nsec))
}

func unixSeconds() -> UInt64 { UInt64(max(0, time(nil))) }

/// For the person who watches the log.
func writeNote(_ text: String) {
    let line = "rain worker: \(text.onOneLine)\n"
    _ = line.utf8.withContiguousStorageIfAvailable { write(2, $0.baseAddress, $0.count) }
}
