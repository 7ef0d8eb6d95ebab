import CLinux
import Glibc

/// A signal that ends a check before its time: what it has started and made is cleared away all the same.
package final class ConformanceInterrupt {
    let descriptor: Int32
    /// Which one it was.
    package private(set) var signal: Int32 = 0

    /// - Parameter signals: kept from this process from now on; its children get them.
    package init(_ signals: [Int32]) throws(ConformanceFailure) {
        let result = rain_signal_descriptor(signals, signals.count)
        guard result >= 0 else { throw ConformanceFailure("signals can't be watched: \(errorText(0 &- result))") }
        descriptor = result
    }
    deinit { _ = close(descriptor) }

    var isSet: Bool {
        if signal == 0 { signal = rain_next_signal(descriptor) }
        return signal != 0
    }

    static let failure = ConformanceFailure("it was interrupted")
}
