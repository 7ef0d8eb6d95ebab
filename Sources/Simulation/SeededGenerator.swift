/// SplitMix64: the same numbers for the same seed in every process.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }

    /// A generator of its own for one part of a run, so that leaving another part out does not change what it draws.
    package init(seed: UInt64, part: UInt64) {
        var mixed = SeededGenerator(seed: seed &* 0x9E37_79B9_7F4A_7C15 ^ part &* 0xD6E8_FEB8_6659_FD93)
        state = mixed.next()
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    package mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    package mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
    package mutating func microseconds(_ range: ClosedRange<Int>) -> UInt64 {
        UInt64(range.lowerBound + below(range.upperBound - range.lowerBound + 1)) * 1000
    }
    package mutating func milliseconds(_ range: ClosedRange<Int>) -> UInt64 { microseconds(range) * 1000 }
}
