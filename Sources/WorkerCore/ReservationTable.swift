/// Memory for files of one subworker's calls, by the process's numbers for the files.
///
/// A process may have very many, and ask for them and give them back in any order: each costs the same.
struct ReservationTable: Sendable {
    /// In no order that means anything.
    private(set) var rows: ContiguousArray<Reservation> = []
    private var rowOfFile: [UInt32: Int] = [:]

    var count: Int { rows.count }
    var isEmpty: Bool { rows.isEmpty }

    subscript(file: UInt32) -> Reservation? { rowOfFile[file].map { rows[$0] } }

    /// Takes the place of what the file had.
    mutating func put(_ reservation: Reservation) {
        if let row = rowOfFile[reservation.file] {
            rows[row] = reservation
        } else {
            rowOfFile[reservation.file] = rows.count
            rows.append(reservation)
        }
    }

    mutating func remove(_ file: UInt32) {
        guard let row = rowOfFile.removeValue(forKey: file) else { return }
        let last = rows.removeLast()
        guard last.file != file else { return }
        rows[row] = last
        rowOfFile[last.file] = row
    }

    /// The call in the slot has ended.
    ///
    /// - Returns: what was held for it, in bytes.
    mutating func removeAll(ofSlot slot: UInt8) -> UInt64 {
        var bytes: UInt64 = 0
        var row = 0
        while row < rows.count {
            guard rows[row].slot == slot else {
                row += 1
                continue
            }
            bytes += rows[row].heldBytes
            remove(rows[row].file)
        }
        return bytes
    }
}
