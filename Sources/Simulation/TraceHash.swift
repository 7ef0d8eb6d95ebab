/// FNV-1a over everything that happened: two runs with equal hashes were the same run.
struct TraceHash: Sendable {
    private(set) var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ number: UInt64) {
        var rest = number
        repeat {
            value = (value ^ (rest & 0xFF)) &* 0x0100_0000_01B3
            rest >>= 8
        } while rest != 0
    }
    mutating func add(_ number: some BinaryInteger) { add(UInt64(truncatingIfNeeded: number)) }
}
