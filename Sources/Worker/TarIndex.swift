import Glibc
import Tar

/// What a tree has, in the order of its stream, and where each member is in that stream.
struct TarIndex: Sendable {
    private struct Row: Sendable {
        var offset: UInt64
        var sizeBytes: UInt64
        var textStart: Int
        var pathCount: UInt16
        var targetCount: UInt16
        var kind: Kind
    }
    private enum Kind: Sendable { case directory, file, executable, link }
    private var rows: ContiguousArray<Row> = []
    private var texts: [UInt8] = []
    private var end: UInt64 = 0
    /// Of all files together.
    private(set) var fileBytes: UInt64 = 0

    /// Starts with the root.
    init() {
        do { try append(TarEntry(path: [], kind: .directory)) } catch { preconditionFailure("the root fits") }
    }

    /// Of the whole stream: what the object is said to have.
    var sizeBytes: UInt64 { end + UInt64(TarForm.endBytes) }
    var count: Int { rows.count }

    mutating func append(_ entry: TarEntry) throws(TarError) {
        if let problem = entry.problem { throw problem }
        guard rows.count < TarLimits.entryCountMax else { throw .tooManyEntries }
        guard let length = TarForm.length(entry), case let (next, overflow) = end.addingReportingOverflow(length), !overflow, next < UInt64(Int64.max) / 2
        else {
            throw .otherForm(entry.name, "it is larger than a stream can be")
        }
        var row = Row(
            offset: end, sizeBytes: entry.sizeBytes, textStart: texts.count, pathCount: UInt16(entry.path.count), targetCount: 0, kind: .directory)
        texts += entry.path
        switch entry.kind {
        case .directory: break
        case .file(let size, let isExecutable):
            row.kind = isExecutable ? .executable : .file
            fileBytes += size
        case .link(let target):
            row.kind = .link
            row.targetCount = UInt16(target.count)
            texts += target
        }
        rows.append(row)
        end = next
    }

    subscript(position: Int) -> TarEntry {
        let row = rows[position]
        let middle = row.textStart + Int(row.pathCount)
        let kind: TarEntry.Kind =
            switch row.kind {
            case .directory: .directory
            case .file: .file(sizeBytes: row.sizeBytes, isExecutable: false)
            case .executable: .file(sizeBytes: row.sizeBytes, isExecutable: true)
            case .link: .link(target: Array(texts[middle..<(middle + Int(row.targetCount))]))
            }
        return TarEntry(path: Array(texts[row.textStart..<middle]), kind: kind)
    }

    /// Where a member's headers begin.
    func offset(of position: Int) -> UInt64 { rows[position].offset }

    /// The member whose part of the stream has this byte; `count` for the end of the stream.
    func position(at offset: UInt64) -> Int {
        if offset >= end { return rows.count }
        var (low, high) = (0, rows.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if rows[middle].offset <= offset { low = middle } else { high = middle }
        }
        return low
    }

    /// Of a tree as it is; nothing in it is changed.
    init(of root: Int32, stop: StopFlag? = nil) throws(TreeError) {
        self.init()
        var index = self
        try walkTree(root, stop: stop, visit: { item throws(TreeError) in try index.append(item) })
        self = index
    }

    /// - Throws: `notAFile` for what is no file, directory or link.
    mutating func append(_ item: TreeItem) throws(TreeError) {
        let kind: TarEntry.Kind
        if item.status.isDirectory {
            kind = .directory
        } else if item.status.isRegular {
            kind = .file(sizeBytes: item.status.sizeBytes, isExecutable: item.isExecutable)
        } else if item.status.isLink {
            kind = .link(target: try item.target())
        } else {
            throw .notAFile(item.text)
        }
        do throws(TarError) { try append(TarEntry(path: item.path, kind: kind)) } catch { throw .tar(error) }
    }
}
