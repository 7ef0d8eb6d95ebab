/// How long calls of one template take: a moving average over what subworkers report.
struct LearnedDuration: Sendable {
    /// Work of about so long may queue in one subworker: a wake-up across processes costs 15–60 µs, so this keeps it a small part,
    /// and a task that turns out to be long delays little.
    static let queueNanoseconds: UInt64 = 200_000

    private var average: UInt64?

    /// What a call is expected to take; one of an unknown template fills the queue of its subworker alone.
    var estimate: UInt64 { average ?? Self.queueNanoseconds + 1 }

    /// A quarter of the weight to each new one: follows a change within a few calls, and forgets a lone outlier.
    mutating func learn(_ nanoseconds: UInt64) {
        guard let known = average else {
            average = nanoseconds
            return
        }
        average = known - known / 4 + nanoseconds / 4
    }

    /// After a crash the template is a stranger again, so that nothing queues behind its next call.
    mutating func forget() { average = nil }
}
