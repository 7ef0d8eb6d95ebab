import TaskModel
import Transport

/// What a request asks for; pure, for tests.
struct ObjectRequest: Equatable, Sendable {
    var replica: Replica
    /// What was signed.
    var path: String
    var ticket: Ticket

    /// The part of a target that says who may.
    struct Ticket: Equatable, Sendable {
        var expires: UInt64 = 0
        var mac = ""

        init(query: Substring) {
            for pair in query.split(separator: "&") {
                if pair.hasPrefix("expires="), let seconds = UInt64(pair.dropFirst(8)) { expires = seconds }
                if pair.hasPrefix("mac=") { mac = String(pair.dropFirst(4)) }
            }
        }
    }

    /// - Returns: `nil` when the target is none of an object.
    init?(target: String) {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts[0].hasPrefix("/objects/"), let entry = ObjectList.Entry(parts[0].dropFirst(9)) else { return nil }
        replica = Replica(entry)
        // The canonical spelling, so that "01" and "1" are one object with one signature.
        path = replica.path
        ticket = Ticket(query: parts.count == 2 ? parts[1] : "")
    }
}

extension Replica {
    init(_ entry: ObjectList.Entry) {
        self.init(
            object: ObjectID(session: SessionID(entry.session), index: entry.index),
            generation: Generation(epoch: ServerEpoch(entry.epoch), number: entry.number))
    }
    var entry: ObjectList.Entry {
        ObjectList.Entry(session: object.session.rawValue, index: object.index, epoch: generation.epoch.rawValue, number: generation.number)
    }
    /// At a holder.
    var path: String {
        DataTicket.path(session: object.session.rawValue, index: object.index, epoch: generation.epoch.rawValue, number: generation.number)
    }
}

/// Which bytes of `sizeBytes` a Range header means.
enum ByteRange: Equatable, Sendable {
    case all
    case part(Range<UInt64>)
    /// Answered with 416.
    case unsatisfiable

    init(header: String?, sizeBytes: UInt64) {
        // Another unit, several ranges, or nonsense: RFC 9110 lets a server ignore the header.
        guard let header, header.hasPrefix("bytes=") else {
            self = .all
            return
        }
        let ends = header.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false).map { $0.filter { $0 != " " } }
        guard ends.count == 2, !header.contains(",") else {
            self = .all
            return
        }
        if ends[0].isEmpty {
            guard let count = UInt64(ends[1]) else {
                self = .all
                return
            }
            self = count == 0 || sizeBytes == 0 ? .unsatisfiable : .part(sizeBytes - min(count, sizeBytes)..<sizeBytes)
            return
        }
        guard let first = UInt64(ends[0]), ends[1].isEmpty || UInt64(ends[1]) != nil else {
            self = .all
            return
        }
        let last = UInt64(ends[1]) ?? .max
        if last < first {
            self = .all
        } else if first >= sizeBytes {
            self = .unsatisfiable
        } else {
            self = .part(first..<min(last, sizeBytes - 1) + 1)
        }
    }
}
