/// How the ends of a Link judge each other. Both are told the time; neither reads a clock.
package enum LinkTiming {
    /// An end that sent nothing for so long shows life.
    package static let heartbeatMilliseconds: UInt64 = 1000
    /// An end that heard nothing for so long gives the other up. Nine heartbeats: a machine that swaps is slow, not gone; with the
    /// time until the next judgement it is still below ten seconds.
    package static let silenceMillisecondsMax: UInt64 = 9000
    /// A worker whose connection is gone has so long to come back on another before it is given up. A process that died never does, and
    /// its tasks should not wait; one that lives is told of the loss by its own kernel and connects again within milliseconds.
    package static let returnMillisecondsMax: UInt64 = 2000
    /// A worker that a restarted server knows from before has so long to say hello. It looks for the server every second, and a hello that
    /// met the old one's end is said again after `greetingMillisecondsMax`.
    package static let restartMillisecondsMax: UInt64 = 10_000
    /// From its hello on such a worker has so long to say what it runs and holds, of which nobody else knows until then. It says all of it at
    /// once: a million objects are a second's work. One that shows life and never gets to the end would keep what it holds from everybody.
    package static let handoverMillisecondsMax: UInt64 = 30_000
    /// For so long a restarted server gives nothing away unless all workers are back: one of them may have begun what is not in the journal,
    /// whose end was lost. Most are back within a second.
    package static let gatherMillisecondsMax: UInt64 = 2000
    /// A hello that got no answer is said again on a new connection.
    package static let greetingMillisecondsMax: UInt64 = 3000
}
