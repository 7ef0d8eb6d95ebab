import Link
import TaskModel

/// The fuzzer's bytes, read as a row of decisions; when they are used up every further one is 0.
struct Decisions {
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isEmpty: Bool { position >= bytes.count }
    mutating func byte() -> UInt8 {
        guard position < bytes.count else { return 0 }
        defer { position += 1 }
        return bytes[position]
    }
    mutating func below(_ bound: Int) -> Int { Int(byte()) % bound }
    mutating func bool() -> Bool { byte() & 1 == 1 }
    /// Mostly a small one, seldom any.
    mutating func uint32(below bound: Int = 8) -> UInt32 {
        let choice = byte()
        guard choice >= 250 else { return UInt32(Int(choice) % bound) }
        return choice == 255 ? .max : UInt32(byte()) << 24 | UInt32(byte()) << 16 | UInt32(byte())
    }
    mutating func uint64() -> UInt64 {
        let choice = byte()
        return choice == 255 ? .max : choice == 254 ? .max >> 1 : UInt64(choice)
    }
    mutating func data() -> [UInt8] {
        let count = below(12)
        return (0..<count).map { _ in byte() }
    }
    mutating func text() -> String { ["", "a", "out", "x/y", "wörter", "\0", "a/b/c"][below(7)] }
    mutating func list<Element>(_ countMax: Int = 3, _ make: (inout Decisions) -> Element) -> [Element] {
        let count = below(countMax + 1)
        return (0..<count).map { _ in make(&self) }
    }
    mutating func pick<Element>(_ elements: [Element]) -> Element? { elements.isEmpty ? nil : elements[below(elements.count)] }

    mutating func session() -> SessionID { SessionID(uint32(below: 4)) }
    mutating func epoch() -> ServerEpoch { ServerEpoch(byte() < 250 ? 1 : uint32()) }
    mutating func object() -> ObjectID { ObjectID(session: session(), index: uint32(below: 16)) }
    mutating func replica() -> Replica {
        Replica(object: object(), generation: bool() ? .uploaded : Generation(epoch: epoch(), number: uint32(below: 3)))
    }
    mutating func attempt(_ known: [AttemptID]) -> AttemptID {
        if byte() < 200, let one = pick(known) { return one }
        return AttemptID(task: TaskID(session: session(), index: uint32(below: 16)), epoch: epoch(), number: uint32(below: 3))
    }
    mutating func error() -> TaskError {
        TaskError(
            TaskError.Cause(rawValue: UInt8(below(10))) ?? .user, text(), detail: text(), exitCode: bool() ? 1 : nil, signal: bool() ? 9 : nil)
    }
    mutating func ranges() -> [Range<UInt32>] {
        list { decisions in
            let first = decisions.uint32(below: 16)
            let (end, isOver) = first.addingReportingOverflow(decisions.uint32(below: 16))
            return first..<(isOver ? .max : end)
        }
    }
    mutating func description() -> WorkerDescription {
        WorkerDescription(
            hostName: text(), processID: 1, cpus: uint32(below: 4), dataEndpoint: Endpoint(host: text(), port: UInt16(byte())), store: text(),
            subworkers: [["x"], ["s", "x"], ["s"], []][below(4)])
    }
}
