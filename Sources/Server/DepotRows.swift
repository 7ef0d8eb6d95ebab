import NIOCore
import TaskModel
import Transport

/// The rows of a list of uploads that are not written yet.
struct DepotRows: Sendable {
    private static let pieceBytes = 256 << 10
    private let objects: [(object: UInt32, found: FoundObject?)]
    private let depot: Depot
    private var position = 0
    private var leftBytes = ObjectList.answerBytesMax

    init(_ objects: [(object: UInt32, found: FoundObject?)], _ depot: Depot) {
        self.objects = objects
        self.depot = depot
    }

    var isEmpty: Bool { position == objects.count }

    /// Reads files, so on a thread that may wait for the disk.
    func next() throws(HTTPFailure) -> (piece: [UInt8], objectBytes: UInt64, rest: DepotRows) {
        var rest = self
        var piece: [UInt8] = []
        while !rest.isEmpty, piece.count < Self.pieceBytes {
            let (object, found) = objects[rest.position]
            try rest.row(object, found).append(to: &piece, hasChecksum: true)
            rest.position += 1
        }
        return (piece, leftBytes - rest.leftBytes, rest)
    }

    private mutating func row(_ object: UInt32, _ found: FoundObject?) throws(HTTPFailure) -> ObjectRow {
        guard let found else { return ObjectRow(object: object, status: .dropped) }
        var row = ObjectRow(object: object, status: .ok, isDirectory: found.isDirectory, sizeBytes: found.sizeBytes)
        guard found.sizeBytes <= leftBytes else {
            row.status = .large
            return row
        }
        switch found.place {
        case .inline(let bytes): row.bytes = bytes
        case .blob(let hash): row.bytes = Array(try DepotFile(path: depot.path(of: hash)).read(at: 0, count: Int(found.sizeBytes)).readableBytesView)
        case .remote: return ObjectRow(object: object, status: .dropped)  // Not an upload: its worker gives it.
        }
        leftBytes -= found.sizeBytes
        return row
    }
}
