import CLinux
import Glibc
import Tar

/// Makes a tree of the store from its stream, which comes in pieces. Nothing in the stream is trusted: see `TarReader`, which lets through
/// only paths whose parents were made here as directories.
struct TarUnpacker: ~Copyable, Sendable {
    private(set) var tree: NewTree
    private var reader = TarReader()
    /// The directories that the last entry is in.
    private var open: [[UInt8]] = []
    private var file: Descriptor?

    init(into tree: consuming NewTree) { self.tree = tree }

    mutating func append(_ bytes: UnsafeRawBufferPointer) throws(TreeError) {
        var rest = bytes
        while true {
            let item: TarReader.Item?
            do throws(TarError) { item = try reader.next(&rest) } catch { throw .tar(error) }
            switch item {
            case nil: return
            case .entry(let entry): try make(entry)
            case .bytes(let part): do throws(SystemError) { try file?.writeAll(part) } catch { throw .system(error) }
            }
        }
    }

    private mutating func make(_ entry: TarEntry) throws(TreeError) {
        file = nil
        while let last = open.last, !(entry.path.count > last.count && entry.path[last.count] == UInt8(ascii: "/") && entry.path.starts(with: last)) {
            leave(last)
            open.removeLast()
        }
        let root = tree.root.raw
        switch entry.kind {
        case .directory:
            if entry.path.isEmpty { return }
            let result = entry.path.withPath { rain_mkdirat(root, $0, 0o755) }
            guard result == 0 else { throw .system(SystemError("make directory", entry.name, code: 0 &- result)) }
            open.append(entry.path)
        case .file(let sizeBytes, let isExecutable):
            let result = entry.path.withPath { rain_openat(root, $0, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, isExecutable ? 0o555 : 0o444) }
            guard result >= 0 else { throw .system(SystemError("make", entry.name, code: 0 &- result)) }
            if sizeBytes > 0 { file = Descriptor(result) } else { _ = close(result) }
        case .link(let target):
            guard entry.path.withPath({ path in target.withPath { symlinkat($0, root, path) } }) == 0 else {
                throw .system(SystemError("make link", entry.name, code: errno))
            }
        }
    }

    private func leave(_ path: [UInt8]) { _ = path.withPath { fchmodat(tree.root.raw, $0, 0o555, 0) } }

    /// - Returns: the whole tree.
    consuming func finish() throws(TreeError) -> NewTree {
        do throws(TarError) { try reader.finish() } catch { throw .tar(error) }
        for path in open { leave(path) }
        return tree
    }
}
