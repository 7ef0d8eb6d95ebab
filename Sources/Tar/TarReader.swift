/// Reads a directory's stream in pieces of any size, and takes nothing but `TarForm`: what it lets through is a tree, each member once,
/// parents first, no path and no link leads out, and writing it again gives the same bytes.
package struct TarReader: Sendable {
    package enum Item {
        case entry(TarEntry)
        /// Some bytes of the file that was the last entry.
        case bytes(UnsafeRawBufferPointer)
    }
    private enum State: Equatable {
        /// In the blocks before an entry's bytes.
        case header
        case extended(left: Int)
        case bytes(left: UInt64, padding: Int)
        case padding(left: Int)
        case end(left: Int)
        case done
    }

    /// Bytes that were read.
    package private(set) var offset: UInt64 = 0
    private var state = State.header
    /// The blocks of the entry so far.
    private var blocks: [UInt8] = []
    /// Where in them its last block starts.
    private var blockStart = 0
    private var records = Records()
    private var entryCount = 0
    /// The directories that the last entry is in, with it if it is one; the first is the top.
    private var open: [OpenDirectory] = []

    private struct Records: Sendable {
        var path: [UInt8]?
        var target: [UInt8]?
        var size: UInt64?
    }
    private struct OpenDirectory: Sendable {
        var path: [UInt8]
        var lastName: [UInt8]
    }
    /// Room for a path, a target and a size.
    private static let recordBytesMax = 2 * TarLimits.pathBytesMax + 512

    package init() {}

    package var isDone: Bool { state == .done }

    /// Takes what it needs off the front of `input`.
    ///
    /// - Returns: `nil` when all of it is taken. Bytes are valid as long as `input` is.
    package mutating func next(_ input: inout UnsafeRawBufferPointer) throws(TarError) -> Item? {
        while !input.isEmpty {
            switch state {
            case .header:
                take(TarForm.blockBytes - (blocks.count - blockStart), from: &input)
                guard blocks.count - blockStart == TarForm.blockBytes else { return nil }
                if let entry = try header() { return .entry(entry) }
            case .extended(let left):
                let count = take(left, from: &input)
                state = .extended(left: left - count)
                guard count == left else { return nil }
                try readRecords()
                blockStart = blocks.count
                state = .header
            case .bytes(let left, let padding):
                let count = Int(min(left, UInt64(input.count)))
                let piece = UnsafeRawBufferPointer(rebasing: input[..<count])
                advance(count, &input)
                state = left > UInt64(count) ? .bytes(left: left - UInt64(count), padding: padding) : afterBytes(padding)
                return .bytes(piece)
            case .padding(let left), .end(let left):
                let count = min(left, input.count)
                guard input[..<count].allSatisfy({ $0 == 0 }) else { throw .damaged(atByte: offset, "there is something where zeros belong") }
                advance(count, &input)
                if case .end = state {
                    state = left > count ? .end(left: left - count) : .done
                } else {
                    state = left > count ? .padding(left: left - count) : .header
                }
            case .done: throw .tooLong(atByte: offset)
            }
        }
        return nil
    }

    /// Passes over what is left of a file's bytes, for who looks at the entries alone: what comes next is at `offset`.
    package mutating func skipBytes() {
        guard case .bytes(let left, let padding) = state else { return }
        // No stream is so long; the sum must not trap before that is found out.
        offset = offset.addingReportingOverflow(left).overflow ? .max : offset + left
        state = afterBytes(padding)
    }

    /// Nothing comes any more.
    package func finish() throws(TarError) { if state != .done { throw .cutOff(atByte: offset) } }

    private func afterBytes(_ padding: Int) -> State { padding == 0 ? .header : .padding(left: padding) }

    @discardableResult private mutating func take(_ wanted: Int, from input: inout UnsafeRawBufferPointer) -> Int {
        let count = min(wanted, input.count)
        blocks += input[..<count]
        advance(count, &input)
        return count
    }
    private mutating func advance(_ count: Int, _ input: inout UnsafeRawBufferPointer) {
        offset += UInt64(count)
        input = UnsafeRawBufferPointer(rebasing: input[count...])
    }

    /// A block is complete.
    private mutating func header() throws(TarError) -> TarEntry? {
        let block = blocks[blockStart...]
        let start = offset - UInt64(TarForm.blockBytes)
        if block.allSatisfy({ $0 == 0 }) {
            guard blockStart == 0 else { throw .damaged(atByte: start, "it ends before the entry that was announced") }
            guard !open.isEmpty else { throw .otherForm(".", "it is empty; the directory itself, './', comes first") }
            blocks = []
            state = .end(left: TarForm.endBytes - TarForm.blockBytes)
            return nil
        }
        guard let size = Self.octal(field(124, 12)) else { throw .damaged(atByte: start, "an entry's size is no octal number") }
        let type = block[blockStart + 156]
        if type == UInt8(ascii: "x"), blockStart == 0 {
            guard size > 0, size <= UInt64(Self.recordBytesMax) else { throw .damaged(atByte: start, "an extended header has \(size) bytes") }
            state = .extended(left: Int(size) + TarForm.padding(size))
            blockStart = blocks.count
            return nil
        }
        let entry = try entry(type, size, start)
        var canonical: [UInt8] = []
        TarForm.appendHeader(of: entry, to: &canonical)
        guard canonical == blocks else { throw .otherForm(entry.name, Self.difference(blocks, canonical)) }
        if let problem = entry.problem { throw problem }
        try place(entry)
        blocks = []
        blockStart = 0
        records = Records()
        state = entry.sizeBytes > 0 ? .bytes(left: entry.sizeBytes, padding: TarForm.padding(entry.sizeBytes)) : .header
        return entry
    }

    private func entry(_ type: UInt8, _ size: UInt64, _ start: UInt64) throws(TarError) -> TarEntry {
        var name = records.path ?? field(0, 100)
        let text = String(decoding: name, as: UTF8.self)
        let isNamedDirectory = name.last == slash
        guard name.starts(with: [dot, slash]) else {
            throw .otherForm(text, "names begin with './'")
        }
        name.removeFirst(2)
        if isNamedDirectory, !name.isEmpty { name.removeLast() }
        switch type {
        case UInt8(ascii: "5"): return TarEntry(path: name, kind: .directory)
        case UInt8(ascii: "0"):
            return TarEntry(path: name, kind: .file(sizeBytes: records.size ?? size, isExecutable: blocks[blockStart + 104] == UInt8(ascii: "7")))
        case UInt8(ascii: "2"): return TarEntry(path: name, kind: .link(target: records.target ?? field(157, 100)))
        default: throw .unknownKind(text, type: type == 0 ? UInt8(ascii: "0") : type)
        }
    }

    /// Each entry belongs into a directory that came before, after those with lesser names.
    private mutating func place(_ entry: TarEntry) throws(TarError) {
        entryCount += 1
        guard entryCount <= TarLimits.entryCountMax else { throw .tooManyEntries }
        if entry.path.isEmpty {
            guard open.isEmpty else { throw .otherForm(entry.name, "the directory itself comes twice") }
            open.append(OpenDirectory(path: [], lastName: []))
            return
        }
        guard !open.isEmpty else { throw .otherForm(entry.name, "the directory itself, './', comes first") }
        let cut = entry.path.lastIndex(of: slash)
        let parent = cut.map { entry.path[..<$0] } ?? []
        let name = cut.map { entry.path[($0 + 1)...] } ?? entry.path[...]
        while let last = open.last, last.path.count > parent.count || !last.path.elementsEqual(parent) {
            guard open.count > 1 else { throw .otherForm(entry.name, "its directory does not come before it") }
            open.removeLast()
        }
        guard open[open.count - 1].lastName.lexicographicallyPrecedes(name) else {
            throw .otherForm(entry.name, "entries of a directory are sorted by the bytes of their names, each name once")
        }
        open[open.count - 1].lastName = Array(name)
        if entry.kind == .directory { open.append(OpenDirectory(path: entry.path, lastName: [])) }
    }

    /// `length key=value\n` again and again. Only what the canonical form has; whether it is in that form is seen when the entry is complete.
    private mutating func readRecords() throws(TarError) {
        let start = offset - UInt64(blocks.count - blockStart)
        // Without the padding.
        guard let size = Self.octal(Array(blocks[124..<136])) else { throw .damaged(atByte: start, "an extended header without a size") }
        var rest = blocks[blockStart..<blockStart + Int(size)]
        while !rest.isEmpty {
            guard let space = rest.firstIndex(of: UInt8(ascii: " ")), let length = Int(String(decoding: rest[..<space], as: UTF8.self)),
                length > space - rest.startIndex + 1, length <= rest.count, rest[rest.startIndex + length - 1] == UInt8(ascii: "\n"),
                let equals = rest[space...].firstIndex(of: UInt8(ascii: "=")), equals < rest.startIndex + length
            else { throw .damaged(atByte: start, "a malformed extended header") }
            let value = Array(rest[(equals + 1)..<(rest.startIndex + length - 1)])
            switch String(decoding: rest[(space + 1)..<equals], as: UTF8.self) {
            case "path": records.path = value
            case "linkpath": records.target = value
            case "size": records.size = UInt64(String(decoding: value, as: UTF8.self))
            case let key: throw .otherForm(String(decoding: records.path ?? [], as: UTF8.self), "it has an extended header '\(key)'")
            }
            rest = rest[(rest.startIndex + length)...]
        }
    }

    /// Up to its first NUL.
    private func field(_ start: Int, _ size: Int) -> [UInt8] {
        Array(blocks[(blockStart + start)..<(blockStart + start + size)].prefix { $0 != 0 })
    }

    private static func octal(_ text: [UInt8]) -> UInt64? {
        let digits = text.prefix { $0 != 0 }
        guard !digits.isEmpty, digits.count <= 11, digits.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "7") }) else { return nil }
        return digits.reduce(0) { $0 << 3 | UInt64($1 - UInt8(ascii: "0")) }
    }

    private static func difference(_ given: [UInt8], _ canonical: [UInt8]) -> String {
        guard given.count == canonical.count else { return "its headers have \(given.count) bytes instead of \(canonical.count)" }
        guard let position = given.indices.first(where: { given[$0] != canonical[$0] }) else { return "" }
        let fields: [(Int, String)] = [
            (100, "name"), (108, "mode (0755 for directories, links and executables, else 0644)"), (116, "owner (0)"), (124, "group (0)"), (136, "size"),
            (148, "time (0)"), (156, "checksum"), (157, "type"), (257, "link"), (265, "format (POSIX)"), (297, "owner's name (none)"),
            (329, "group's name (none)"), (345, "device (0)"), (512, "prefix (none)"),
        ]
        return "another \(fields.first { position % 512 < $0.0 }?.1 ?? "header") than in that form"
    }
}
