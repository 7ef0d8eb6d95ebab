/// A client's unit of lifetime; given by the server, never reused within one journal.
package struct SessionID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { "\(rawValue)" }
}

/// A task: its session and its dense index there, given by the client.
package struct TaskID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let session: SessionID
    package let index: UInt32
    package init(session: SessionID, index: UInt32) {
        self.session = session
        self.index = index
    }
    package func hash(into hasher: inout Hasher) { hasher.combine(packed) }
    package func _rawHashValue(seed: Int) -> Int { hashOfID(packed, seed: seed) }
    package var packed: UInt64 { UInt64(session.rawValue) << 32 | UInt64(index) }
    package static func < (a: Self, b: Self) -> Bool { (a.session, a.index) < (b.session, b.index) }
    package var description: String { "\(session).t\(index)" }
}

/// A data object: its session and its dense index there. Tasks and objects are counted apart.
package struct ObjectID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let session: SessionID
    package let index: UInt32
    package init(session: SessionID, index: UInt32) {
        self.session = session
        self.index = index
    }
    package func hash(into hasher: inout Hasher) { hasher.combine(packed) }
    package func _rawHashValue(seed: Int) -> Int { hashOfID(packed, seed: seed) }
    package var packed: UInt64 { UInt64(session.rawValue) << 32 | UInt64(index) }
    package static func < (a: Self, b: Self) -> Bool { (a.session, a.index) < (b.session, b.index) }
    package var description: String { "\(session).o\(index)" }
}

/// What many tasks of a session share: the session and a dense index there.
package struct TemplateID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let session: SessionID
    package let index: UInt32
    package init(session: SessionID, index: UInt32) {
        self.session = session
        self.index = index
    }
    package func hash(into hasher: inout Hasher) { hasher.combine(packed) }
    package func _rawHashValue(seed: Int) -> Int { hashOfID(packed, seed: seed) }
    package var packed: UInt64 { UInt64(session.rawValue) << 32 | UInt64(index) }
    package static func < (a: Self, b: Self) -> Bool { (a.session, a.index) < (b.session, b.index) }
    package var description: String { "\(session).k\(index)" }
}

/// A worker, from its first hello to its loss; given by the server, never reused.
package struct WorkerID: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { "w\(rawValue)" }
}

/// The number of a server's start on its journal, counted from 1.
package struct ServerEpoch: Hashable, Comparable, Sendable, CustomStringConvertible {
    package let rawValue: UInt32
    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    package var description: String { "e\(rawValue)" }
}

/// One run of a task on one worker. The number grows by one with each run of the task, over all epochs.
package struct AttemptID: Hashable, Sendable, CustomStringConvertible {
    package let task: TaskID
    package let epoch: ServerEpoch
    package let number: UInt32
    package init(task: TaskID, epoch: ServerEpoch, number: UInt32) {
        self.task = task
        self.epoch = epoch
        self.number = number
    }
    package func hash(into hasher: inout Hasher) {
        hasher.combine(task)
        hasher.combine(generation)
    }
    package func _rawHashValue(seed: Int) -> Int { hashOfID(task.packed, generation.packed, seed: seed) }
    package var generation: Generation { Generation(epoch: epoch, number: number) }
    package var description: String { "\(task)#\(epoch)-\(number)" }
}

/// Which attempt of the producing task made an object's bytes; `uploaded` for a client's own.
///
/// Replicas, locations, checksums, drops and ETags carry it, and no transfer mixes two.
package struct Generation: Hashable, Sendable, CustomStringConvertible {
    package let epoch: ServerEpoch
    package let number: UInt32
    package init(epoch: ServerEpoch, number: UInt32) {
        self.epoch = epoch
        self.number = number
    }
    package func hash(into hasher: inout Hasher) { hasher.combine(packed) }
    package var packed: UInt64 { UInt64(epoch.rawValue) << 32 | UInt64(number) }
    package static let uploaded = Generation(epoch: ServerEpoch(0), number: 0)
    package var description: String { "\(epoch.rawValue)-\(number)" }
}

/// SHA-256 of what a client uploaded; its name in the depot.
package struct BlobHash: Hashable, Sendable, CustomStringConvertible {
    /// 32 bytes.
    package let bytes: [UInt8]
    /// - Returns: `nil` unless there are 32 bytes.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 32 else { return nil }
        self.bytes = bytes
    }
    /// - Returns: `nil` unless `hex` is 64 hexadecimal digits.
    package init?(hex: some StringProtocol) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(32)
        var high: UInt8?
        for character in hex.utf8 {
            let digit: UInt8
            switch character {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = character - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = character - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = character - UInt8(ascii: "A") + 10
            default: return nil
            }
            if let first = high {
                bytes.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        guard high == nil else { return nil }
        self.init(bytes: bytes)
    }
    package var description: String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        text.reserveCapacity(64)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}

/// A moment on the monotonic clock, given to the cores by their shell.
package struct Instant: Hashable, Comparable, Sendable {
    package let nanoseconds: UInt64
    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    package static func < (a: Self, b: Self) -> Bool { a.nanoseconds < b.nanoseconds }
    package func advanced(byMilliseconds milliseconds: UInt64) -> Instant {
        Instant(nanoseconds: nanoseconds &+ milliseconds &* 1_000_000)
    }
    /// Nanoseconds since `earlier`; 0 when that is later.
    package func since(_ earlier: Instant) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0
    }
}

/// The hash of an id, as sets and dictionaries of the standard library ask for it.
///
/// They would compute SipHash, which was a seventh of a worker's time for a task that does nothing. It is there against keys that somebody
/// chooses to collide; these ids are given by the server. The table's own seed stays in: without it a table that is copied into a smaller
/// one in its own order takes quadratic time.
@inline(__always)
package func hashOfID(_ a: UInt64, _ b: UInt64 = 0, seed: Int) -> Int {
    var x = (a ^ UInt64(truncatingIfNeeded: seed)) &* 0x9E37_79B9_7F4A_7C15
    x = (x ^ (x >> 32) ^ b) &* 0xD6E8_FEB8_6659_FD93
    x ^= x >> 32
    x = x &* 0xD6E8_FEB8_6659_FD93
    return Int(truncatingIfNeeded: x ^ (x >> 29))
}
