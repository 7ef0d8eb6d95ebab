import ServerCore
import TaskModel
import Wire

/// The records of one group as they are stored: one after the other, each with the step from the number before, nearly always 1.
struct BatchBody {
    private(set) var types: Int64 = 0
    private(set) var sessions: ClosedRange<UInt32>?
    private var writer = ByteWriter()
    private var last: UInt64

    init(firstNumber: UInt64) { last = firstNumber }

    var isEmpty: Bool { writer.count == 0 }

    mutating func append(_ record: JournalRecord, number: UInt64) {
        types |= 1 << Int64(record.kind.rawValue)
        if let session = record.session?.rawValue {
            sessions = min(sessions?.lowerBound ?? session, session)...max(sessions?.upperBound ?? session, session)
        }
        writer.varint(number &- last)
        last = number
        record.encode(to: &writer)
    }

    /// Forgets the records and keeps the memory.
    mutating func restart(firstNumber: UInt64) {
        writer.removeAll()
        last = firstNumber
        types = 0
        sessions = nil
    }

    /// To be stored; call it once.
    mutating func sealed() -> [UInt8] {
        writer.seal()
        return writer.bytes
    }
}
