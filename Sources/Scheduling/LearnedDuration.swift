/// A running mean of how long the tasks of one template take; recent ones count more.
package struct LearnedDuration: Equatable, Sendable {
    /// 0 while unknown.
    private var meanNanoseconds: UInt64 = 0
    package init() {}

    package mutating func learn(_ nanoseconds: UInt64) {
        let sample = max(nanoseconds, Scheduler.leastNanoseconds)
        meanNanoseconds = meanNanoseconds == 0 ? sample : meanNanoseconds - meanNanoseconds / 8 + sample / 8
    }

    package var expectedNanoseconds: UInt64 { meanNanoseconds == 0 ? Scheduler.unknownNanoseconds : meanNanoseconds }
}
