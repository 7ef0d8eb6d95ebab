import TaskModel

/// Where what running tasks make goes: into memory while there is room or room can be made, else to disk.
///
/// An eighth of the limit is never promised: it is for what nobody asks for, such as small outputs and the working files of programs.
extension WorkerCore {
    private var reservableBytes: UInt64? { storeMemoryBytes.map { $0 - $0 / 8 } }

    mutating func reserve(
        _ id: SubworkerID, slot: UInt8, file: UInt32, sizeBytes: UInt64, into effects: inout ContiguousArray<WorkerEffect>
    ) {
        guard let handle = subworkerByID[id] else { return }  // What a process said before it died, heard after.
        let known = subworkers[handle].reservations[file]
        if sizeBytes == 0 {
            guard let known else { return }
            reservedBytes -= known.heldBytes
            subworkers[handle].reservations.remove(file)
            return
        }
        func refuse(_ reason: String) { effects.append(.grant(id, file: file, sizeBytes: sizeBytes, heldBytes: 0, .refused(reason: reason))) }
        guard subworkers[handle].inFlight.contains(slot) else { return refuse("file \(file) belongs to a call that is not running (slot \(slot))") }
        // All of it lies on one file system: that is what counts.
        guard storeMemoryBytes != nil else {
            effects.append(.grant(id, file: file, sizeBytes: sizeBytes, heldBytes: 0, .memory))
            return
        }
        var asking = known ?? Reservation(file: file, slot: slot)
        asking.askedBytes = sizeBytes
        if let known {
            guard known.slot == slot else { return refuse("file \(file) belongs to another call") }
            guard known.askedBytes == nil else { return refuse("file \(file) waits for room already") }
        } else {
            guard subworkers[handle].reservations.count < reservationCountMax else {
                return refuse("a subworker may make \(reservationCountMax) large files at a time: finish some first")
            }
        }
        subworkers[handle].reservations.put(asking)
        waitingReservations.pushBack(WaitingReservation(subworker: handle, file: file))
    }

    /// In the order in which they asked. One that waits holds up the others, but never for long: it waits only for files on their way to disk.
    mutating func grantReservations(into effects: inout ContiguousArray<WorkerEffect>) {
        while let waiting = waitingReservations.first {
            guard subworkers.contains(waiting.subworker),
                var reservation = subworkers[waiting.subworker].reservations[waiting.file], let asked = reservation.askedBytes
            else {
                waitingReservations.popFront()  // Its call has ended, or it was given up.
                continue
            }
            let held = reservation.heldBytes
            let grant: Grant
            // There was no space for what was granted: those who don't ask have taken it.
            if held == asked {
                grant = .disk
            } else {
                switch room(for: asked, insteadOf: held) {
                case .here: grant = .memory
                case .elsewhere: grant = .disk
                case .after(let bytes):
                    if makeRoom(bytes, into: &effects) { return }
                    grant = .disk
                }
            }
            waitingReservations.popFront()
            let kept = grant == .memory ? asked : 0
            reservedBytes = reservedBytes - held + kept
            (reservation.heldBytes, reservation.askedBytes) = (kept, nil)
            subworkers[waiting.subworker].reservations.put(reservation)
            effects.append(.grant(subworkers[waiting.subworker].id, file: waiting.file, sizeBytes: asked, heldBytes: held, grant))
        }
    }

    private enum Room {
        case here
        /// When so many bytes have gone to disk.
        case after(bytes: UInt64)
        case elsewhere
    }

    private func room(for bytes: UInt64, insteadOf held: UInt64 = 0) -> Room {
        guard let limit = reservableBytes else { return .here }
        guard bytes <= limit else { return .elsewhere }
        let others = objects.memoryBytes.addingReportingOverflow(reservedBytes - held + programBytes)
        guard !others.overflow else { return .elsewhere }
        return others.partialValue <= limit - bytes ? .here : .after(bytes: others.partialValue - (limit - bytes))
    }

    // MARK: Programs of sessions

    /// A program that a session brought along is copied once, and its room is taken until the session closes. Nothing brings that back before, so
    /// all of them together may have a quarter of the memory.
    mutating func placeProgram(_ object: LocalInput, of pool: PoolHandle) -> CarriedProgram {
        if pools[pool].isProgramOnDisk == nil {
            let fits = fitsMemory(program: object.sizeBytes)
            pools[pool].isProgramOnDisk = !fits
            if fits {
                pools[pool].programBytes = object.sizeBytes
                // Without a limit it may claim any size, see `ObjectTable`.
                programBytes &+= object.sizeBytes
            }
        }
        return CarriedProgram(object, isOnDisk: pools[pool].isProgramOnDisk ?? false)
    }

    private func fitsMemory(program bytes: UInt64) -> Bool {
        guard runsProgramsInMemory else { return false }
        guard let limit = storeMemoryBytes else { return true }
        guard bytes <= limit / 4, programBytes <= limit / 4 - bytes, case .here = room(for: bytes) else { return false }
        return true
    }

    // MARK: Jobs

    /// A program can't be told where to go while it runs, so where it works is decided from what its like made.
    mutating func placeOutputs(of attempt: AttemptHandle) {
        guard storeMemoryBytes != nil else { return }
        let expected = templates[attempts[attempt].template].outputBytesExpected
        if !attempts[attempt].isOnDisk, case .here = room(for: expected) {
            attempts[attempt].reservedBytes = expected
            reservedBytes += expected
        } else {
            attempts[attempt].isOnDisk = true
        }
    }

    mutating func learnOutputs(of attempt: AttemptHandle, _ outputs: [LocalOutput]) {
        var bytes: UInt64 = 0
        for output in outputs { if case .stored(let size, _) = output.value { bytes = max(bytes, bytes &+ size) } }
        let template = attempts[attempt].template
        templates[template].outputBytesExpected = max(templates[template].outputBytesExpected, bytes)
    }

    /// The job failed because there was no room. In memory that is nobody's fault: it begins once more, on disk, and so do those that follow it.
    mutating func outOfRoom(_ attempt: AttemptHandle, _ error: TaskError) {
        let template = attempts[attempt].template
        templates[template].outputBytesExpected = .max
        guard storeMemoryBytes != nil, !attempts[attempt].isOnDisk, templates[template].template.rerun != .never else {
            return settle(attempt, .failed(error))
        }
        attempts[attempt].isOnDisk = true
        attempts[attempt].hasBegun = true
        requeue(attempt, sequence: takeSequence(), inFront: false)
    }
}
