import Link
import ServerCore
import TaskModel
import Wire

/// The kinds of records, as they are numbered in the file: a number never changes its meaning.
enum RecordKind: UInt8, CaseIterable {
    case epochBegan = 0, sessionOpened, sessionClosed, submitted, keptChanged, cancelRequested, workerJoined, workerLost
    case finished, failed, cancelled, assigned, started
    case runAgain, lost
    case retried
    case charged
}

extension JournalRecord {
    var kind: RecordKind {
        switch self {
        case .epochBegan: .epochBegan
        case .sessionOpened: .sessionOpened
        case .sessionClosed: .sessionClosed
        case .submitted: .submitted
        case .keptChanged: .keptChanged
        case .cancelRequested: .cancelRequested
        case .workerJoined: .workerJoined
        case .workerLost: .workerLost
        case .finished: .finished
        case .failed: .failed
        case .cancelled: .cancelled
        case .assigned: .assigned
        case .started: .started
        case .runAgain: .runAgain
        case .lost: .lost
        case .retried: .retried
        case .charged: .charged
        }
    }

    /// Of which session it tells, if of one.
    var session: SessionID? {
        switch self {
        case .epochBegan, .workerJoined, .workerLost: nil
        case .sessionOpened(let session, _), .sessionClosed(let session, _), .submitted(let session, _, _),
            .keptChanged(let session, _, _), .cancelRequested(let session, _), .runAgain(let session, _, _):
            session
        case .finished(let attempt, _, _), .failed(let attempt, _, _), .assigned(let attempt, _), .started(let attempt),
            .retried(let attempt, _), .charged(let attempt, _, _):
            attempt.task.session
        case .cancelled(let task): task.session
        case .lost(let object, _, _): object.session
        }
    }

    /// Kind and content.
    func encode(to writer: inout ByteWriter) {
        writer.uint8(kind.rawValue)
        switch self {
        case .epochBegan(let epoch): writer.varint(epoch.rawValue)
        case .sessionOpened(let session, let options):
            writer.varint(session.rawValue)
            writer.encode(options)
        case .sessionClosed(let session, let reason):
            writer.varint(session.rawValue)
            writer.string(reason)
        case .submitted(let session, let submit, let receipt):
            writer.varint(session.rawValue)
            writer.encode(receipt)
            writer.encode(submit)
        case .keptChanged(let session, let selection, let isKept):
            writer.varint(session.rawValue)
            writer.encode(selection.ranges)
            writer.bool(isKept)
        case .cancelRequested(let session, let selection):
            writer.varint(session.rawValue)
            switch selection {
            case .all: writer.optional([Range<UInt32>]?.none) { $0.encode($1) }
            case .ranges(let ranges): writer.optional(ranges) { $0.encode($1) }
            }
        case .workerJoined(let worker, let incarnation, let place, let description):
            writer.varint(worker.rawValue)
            writer.uint64(incarnation)
            writer.uint64(place)
            writer.encode(description)
        case .workerLost(let worker, let reason):
            writer.varint(worker.rawValue)
            writer.string(reason)
        case .finished(let attempt, let worker, let finished):
            writer.encode(attempt)
            writer.varint(worker.rawValue)
            writer.encode(finished)
        case .failed(let attempt, let worker, let error):
            writer.encode(attempt)
            writer.optional(worker) { $0.varint($1.rawValue) }
            writer.encode(error)
        case .cancelled(let task):
            writer.varint(task.session.rawValue)
            writer.varint(task.index)
        case .assigned(let attempt, let worker):
            writer.encode(attempt)
            writer.varint(worker.rawValue)
        case .started(let attempt): writer.encode(attempt)
        case .runAgain(let session, let tasks, let objects):
            writer.varint(session.rawValue)
            writer.encode(tasks)
            writer.encode(objects)
        case .retried(let attempt, let worker):
            writer.encode(attempt)
            writer.varint(worker.rawValue)
        case .charged(let attempt, let worker, let how):
            writer.encode(attempt)
            writer.varint(worker.rawValue)
            writer.string(how)
        case .lost(let object, let obstacle, let error):
            writer.varint(object.session.rawValue)
            writer.varint(object.index)
            writer.varint(obstacle)
            writer.encode(error)
        }
    }

    init(from reader: inout ByteReader) throws(WireError) {
        let number = try reader.uint8()
        guard let kind = RecordKind(rawValue: number) else { throw .unexpected(kind: "record \(number)") }
        switch kind {
        case .epochBegan: self = .epochBegan(ServerEpoch(try reader.varint32()))
        case .sessionOpened: self = .sessionOpened(try reader.sessionID(), try reader.sessionOptions())
        case .sessionClosed: self = .sessionClosed(try reader.sessionID(), reason: try reader.string())
        case .submitted:
            let session = try reader.sessionID()
            let receipt = try reader.submitReceipt()
            self = .submitted(session, try reader.submit(), receipt)
        case .keptChanged:
            self = .keptChanged(try reader.sessionID(), ObjectSelection(ranges: try reader.ranges()), isKept: try reader.bool())
        case .cancelRequested:
            let session = try reader.sessionID()
            let ranges = try reader.optional { (reader) throws(WireError) in try reader.ranges() }
            self = .cancelRequested(session, ranges.map { .ranges($0) } ?? .all)
        case .workerJoined:
            self = .workerJoined(
                try reader.workerID(), incarnation: try reader.uint64(), place: try reader.uint64(), try reader.workerDescription())
        case .workerLost: self = .workerLost(try reader.workerID(), reason: try reader.string())
        case .finished: self = .finished(try reader.attempt(), try reader.workerID(), try reader.finishedAttempt())
        case .failed:
            let attempt = try reader.attempt()
            let worker = try reader.optional { (reader) throws(WireError) in try reader.workerID() }
            self = .failed(attempt, worker, try reader.taskError())
        case .cancelled: self = .cancelled(TaskID(session: try reader.sessionID(), index: try reader.varint32()))
        case .assigned: self = .assigned(try reader.attempt(), try reader.workerID())
        case .started: self = .started(try reader.attempt())
        case .runAgain: self = .runAgain(try reader.sessionID(), tasks: try reader.ranges(), objects: try reader.ranges())
        case .retried: self = .retried(try reader.attempt(), try reader.workerID())
        case .charged: self = .charged(try reader.attempt(), try reader.workerID(), how: try reader.string())
        case .lost:
            let object = ObjectID(session: try reader.sessionID(), index: try reader.varint32())
            self = .lost(object, obstacle: try reader.varint32(), try reader.taskError())
        }
    }
}
