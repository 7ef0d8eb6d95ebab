import TaskModel

/// The bytes of an object in a run: its value, and which run made it.
struct Content: Equatable, Sendable {
    var value: UInt64
    /// 0 for a client's own.
    var run: UInt64

    var bytes: [UInt8] { RandomGraph.bytes(value) + RandomGraph.bytes(run) }

    init(value: UInt64, run: UInt64) {
        self.value = value
        self.run = run
    }

    /// What somebody makes of a file to which another wrote meanwhile.
    static let garbage = Content(value: 0xBAD, run: 0xBAD)

    /// - Returns: `nil` for bytes that nobody in a simulation makes.
    init?(_ bytes: [UInt8]) {
        guard bytes.count == 8 || bytes.count == 16 else { return nil }
        func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        value = number(bytes[0..<8])
        run = bytes.count == 16 ? number(bytes[8..<16]) : 0
    }
}
