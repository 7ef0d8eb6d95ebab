/// Why a journal can't be opened, read or written; the message says what to do.
package enum JournalError: Error, Equatable, Sendable, CustomStringConvertible {
    /// `pid` is `nil` when the lock doesn't say.
    case inUse(path: String, pid: Int32?)
    case cannotOpen(path: String, reason: String)
    case notAJournal(path: String)
    case newerFormat(path: String, found: Int64, known: Int64)
    case olderFormat(path: String, found: Int64, known: Int64)
    case corrupt(path: String, reason: String)
    case diskFull(path: String)
    case io(path: String, reason: String)

    package var description: String {
        switch self {
        case .inUse(let path, let pid):
            "the journal \(path) belongs to a running server" + (pid.map { " (pid \($0))" } ?? "")
                + ": stop that one, or start this one with another --work-dir"
        case .cannotOpen(let path, let reason): "cannot open the journal \(path): \(reason)"
        case .notAJournal(let path): "\(path) is not a journal of Rain: move it away, or use another --work-dir"
        case .newerFormat(let path, let found, let known):
            "the journal \(path) has format \(found), but this version of Rain knows up to \(known): use a newer Rain, or another --work-dir"
        case .olderFormat(let path, let found, let known):
            "the journal \(path) has format \(found), but this version of Rain reads format \(known) only: move it away with what is beside it "
                + "(its sessions are lost then), use the Rain that wrote it, or another --work-dir"
        case .corrupt(let path, let reason):
            "the journal \(path) is damaged (\(reason)): restore it from a copy, or move it away with what is beside it and start again "
                + "(its sessions are lost then)"
        case .diskFull(let path): "no space is left for the journal \(path): free some on its disk, then start the server again; nothing is lost"
        case .io(let path, let reason): "cannot read or write the journal \(path): \(reason)"
        }
    }
}
