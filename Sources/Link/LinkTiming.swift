/// How the ends of a Link judge each other. Both are told the time; neither reads a clock.
package enum LinkTiming {
    /// An end that sent nothing for so long shows life.
    package static let heartbeatMilliseconds: UInt64 = 1000
    /// An end that heard nothing for so long gives the other up. Ten heartbeats: a machine that swaps is slow, not gone.
    package static let silenceMillisecondsMax: UInt64 = 10_000
    /// A hello that got no answer is said again on a new connection.
    package static let greetingMillisecondsMax: UInt64 = 3000
}
