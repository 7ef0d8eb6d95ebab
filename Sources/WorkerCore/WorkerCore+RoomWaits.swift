import Link
import TaskModel

/// Calls that found no room for what they write without asking: in their working directory, or into a directory that they make.
///
/// That is mostly the fault of what ran beside them, and they can't be told to work on disk, as programs are. So such a call begins once more,
/// uncharged, when what was running has ended, its files are gone, and what can go to disk has gone; one at a time, so that they don't take it from each other.
extension WorkerCore {
    /// What runs beside it may run for hours: then it tries its luck.
    static let roomWaitMillisecondsMax: UInt64 = 60_000

    var roomWaitDeadline: Instant? { roomWaits.isEmpty ? nil : roomWaitSince.advanced(byMilliseconds: Self.roomWaitMillisecondsMax) }

    mutating func callOutOfRoom(_ attempt: AttemptHandle, sequence: UInt64, _ error: TaskError, into effects: inout ContiguousArray<WorkerEffect>) {
        guard storeMemoryBytes != nil, !attempts[attempt].hasFoundNoRoom, templates[attempts[attempt].template].template.rerun != .never else {
            return settle(attempt, .failed(error))
        }
        attempts[attempt].hasBegun = true
        refuseRevoke(attempt)
        guard interrupt(attempt) else { return }
        attempts[attempt].handle(.foundNoRoom)
        var others: ContiguousArray<AttemptHandle> = []
        for index in attempts.indices { if let other = attempts.handle(at: index), takesMemory(other) { others.append(other) } }
        if roomWaits.isEmpty { roomWaitSince = now }
        roomWaits.append(RoomWait(attempt: attempt, sequence: sequence, others: others))
        makeMuchRoom(into: &effects)
    }

    /// Whether it may be writing to memory that nobody counts.
    private func takesMemory(_ attempt: AttemptHandle) -> Bool {
        guard attempts.contains(attempt) else { return false }
        switch attempts[attempt].state {
        case .calling: return true
        case .running: return !attempts[attempt].isOnDisk && templates[attempts[attempt].template].template.type == "builtin/run"
        case .waiting, .ready, .awaitingRoom, .finishing: return false
        }
    }

    mutating func trashEmptied() {
        // One that has gone meanwhile may have asked for it.
        if roomWaits.first?.removal == .begun { roomWaits[0].removal = .done }
    }

    /// The next one has its turn when nothing stands in its way any more.
    mutating func endRoomWaits(into effects: inout ContiguousArray<WorkerEffect>) {
        while var first = roomWaits.first {
            if attempts.contains(first.attempt), attempts[first.attempt].state == .awaitingRoom {
                first.others.removeAll { !takesMemory($0) }
                let areOver = first.others.isEmpty && objects.spillingBytes == 0 && roomTaker.map { !attempts.contains($0) } ?? true
                if areOver, first.removal == .waiting {
                    first.removal = .begun
                    effects.append(.emptyTrash)
                }
                guard first.removal == .done || roomWaitDeadline.map({ now >= $0 }) ?? false else {
                    roomWaits[0] = first
                    return
                }
                roomTaker = first.attempt
                queue(first.attempt, sequence: first.sequence, inFront: true)
            }
            roomWaits.removeFirst()
            roomWaitSince = now
        }
    }
}
