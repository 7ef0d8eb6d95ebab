import CCapnp
import TaskModel

/// A growing array of plain C structs at an address that C can be given, kept from message to message.
struct Column<Element: BitwiseCopyable>: ~Copyable {
    private(set) var base: UnsafeMutablePointer<Element>
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int = 64) {
        self.capacity = capacity
        base = .allocate(capacity: capacity)
    }
    deinit { base.deallocate() }

    mutating func removeAll() { count = 0 }

    @inline(__always) mutating func append(_ element: Element) {
        if count == capacity { grow(by: 1) }
        (base + count).initialize(to: element)
        count += 1
    }
    mutating func append(contentsOf elements: UnsafeBufferPointer<Element>) {
        guard let source = elements.baseAddress else { return }
        if count + elements.count > capacity { grow(by: elements.count) }
        (base + count).initialize(from: source, count: elements.count)
        count += elements.count
    }

    private mutating func grow(by extra: Int) {
        capacity = max(capacity * 2, count + extra)
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: capacity)
        larger.initialize(from: base, count: count)
        base.deallocate()
        base = larger
    }
}

/// The text and data of a message that is being built, gathered into one run of bytes.
struct BytesColumn: ~Copyable {
    private var column = Column<UInt8>(capacity: 4096)
    /// Bytes that were not taken any more because there were too many: the message can't be built.
    private(set) var refusedBytes = 0
    let limit: Int

    init(limit: Int) { self.limit = limit }

    var base: UnsafePointer<UInt8> { UnsafePointer(column.base) }
    /// What all of it would take.
    var wantedBytes: Int { column.count + refusedBytes }

    mutating func removeAll() {
        column.removeAll()
        refusedBytes = 0
    }

    mutating func add(_ data: [UInt8]) -> cc_bytes {
        if data.isEmpty { return cc_bytes(offset: 0, length: 0) }
        return data.withUnsafeBufferPointer { add($0) }
    }
    mutating func add(_ text: String) -> cc_bytes {
        if text.isEmpty { return cc_bytes(offset: 0, length: 0) }
        var text = text
        return text.withUTF8 { add($0) }
    }
    private mutating func add(_ data: UnsafeBufferPointer<UInt8>) -> cc_bytes {
        // The limit is far below 4 GiB, so positions fit.
        guard column.count + data.count <= limit else {
            refusedBytes += data.count
            return cc_bytes(offset: 0, length: 0)
        }
        let offset = column.count
        column.append(contentsOf: data)
        return cc_bytes(offset: UInt32(offset), length: UInt32(data.count))
    }
}

/// The work area of libcapnp, and what a message is copied through.
struct CapnpWork: ~Copyable {
    let raw: OpaquePointer

    init() {
        guard let raw = ccapnp_open() else { fatalError("no memory for a work area of libcapnp") }
        self.raw = raw
    }
    deinit { ccapnp_close(raw) }

    /// What the last encode built, as the end of `output`.
    func take(_ size: Int, into output: inout [UInt8]) {
        if output.isEmpty {
            output = [UInt8](unsafeUninitializedCapacity: size) { buffer, initialized in
                if let base = buffer.baseAddress { ccapnp_take(raw, base) }
                initialized = size
            }
        } else {
            output.append(contentsOf: repeatElement(0, count: size))
            output.withUnsafeMutableBufferPointer { ccapnp_take(raw, $0.baseAddress! + $0.count - size) }
        }
    }

    func check(_ error: UnsafePointer<CChar>?) throws(WireError) {
        if let error { throw .malformed(String(cString: error)) }
    }
}

/// Reads parts of the bytes of a message.
struct BytesReader {
    let base: UnsafePointer<UInt8>

    @inline(__always) func text(_ part: cc_bytes) -> String {
        part.length == 0 ? "" : String(decoding: UnsafeBufferPointer(start: base + Int(part.offset), count: Int(part.length)), as: UTF8.self)
    }
    @inline(__always) func data(_ part: cc_bytes) -> [UInt8] {
        part.length == 0 ? [] : Array(UnsafeBufferPointer(start: base + Int(part.offset), count: Int(part.length)))
    }
}

extension cc_range {
    /// Makes an array of the elements that the range speaks of; an empty one costs nothing.
    @inline(__always) func map<Source, Element, Failure: Error>(
        _ column: UnsafePointer<Source>?, _ make: (UnsafePointer<Source>) throws(Failure) -> Element
    ) throws(Failure) -> [Element] {
        guard count > 0, let column else { return [] }
        var elements: [Element] = []
        elements.reserveCapacity(Int(count))
        for position in Int(first)..<Int(first) + Int(count) { elements.append(try make(column + position)) }
        return elements
    }
}

extension cc_id {
    init(_ attempt: AttemptID) {
        self.init(
            session: attempt.task.session.rawValue, index: attempt.task.index, epoch: attempt.epoch.rawValue, number: attempt.number)
    }
    init(_ replica: Replica) {
        self.init(
            session: replica.object.session.rawValue, index: replica.object.index, epoch: replica.generation.epoch.rawValue,
            number: replica.generation.number)
    }
    var attempt: AttemptID {
        AttemptID(task: TaskID(session: SessionID(session), index: index), epoch: ServerEpoch(epoch), number: number)
    }
    var replica: Replica {
        Replica(
            object: ObjectID(session: SessionID(session), index: index), generation: Generation(epoch: ServerEpoch(epoch), number: number))
    }
}

extension cc_range {
    init(from first: Int, to end: Int) { self.init(first: UInt32(first), count: UInt32(end - first)) }
}
