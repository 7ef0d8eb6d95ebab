import Scheduling
import TaskModel

/// What a template or a row may hold: a control message has to carry each of them.
enum SubmitLimits {
    static let textBytesMax = 1 << 20
    static let nameBytesMax = 4096
    /// Tasks, and objects, of one session: about 10 GB of the server's memory, so that one line can't take all of it.
    static let sessionCountMax: UInt64 = 100_000_000
    /// Positions of inputs are 16 bits wide on the subworker plane.
    static let inputCountMax = 60_000
    static let constantCountMax = 5_000
}

extension Submit {
    /// What the client gave as this object of the submit; `nil` for an output. Once it is known that they are numbered in order.
    func upload(at offset: UInt32) -> Upload? {
        var (low, high) = (0, uploads.count)
        while low < high {
            let middle = (low + high) / 2
            if uploads[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return low < uploads.count && uploads[low].offset == offset ? uploads[low] : nil
    }
}

extension ServerCore {
    mutating func submit(
        _ request: RequestID, _ id: SessionID, _ submit: Submit, into effects: inout ContiguousArray<ServerEffect>
    ) {
        guard let slot = findOpenSession(id, for: request, into: &effects) else { return }
        let first = (
            template: submit.firstTemplate ?? UInt32(sessions[slot]!.templates.count), task: submit.firstTask ?? sessions[slot]!.tasks.count,
            object: submit.firstObject ?? sessions[slot]!.objects.count
        )
        if let taken = takenBefore(slot, submit, first) {
            switch taken {
            case .same(var receipt):
                receipt.isRepeated = true
                reply(request, .submitted(receipt), into: &effects)
            case .different(let message): refuse(request, .conflict, message, into: &effects)
            }
            return
        }
        let size: SubmitSize
        do throws(RequestError) {
            size = try check(submit, first, in: sessions[slot]!)
        } catch {
            return reply(request, .refused(error), into: &effects)
        }
        let receipt = SubmitReceipt(
            firstTemplate: first.template, firstTask: first.task, firstObject: first.object, taskCount: size.tasks, objectCount: size.objects)
        append(.submitted(id, submit, receipt), into: &effects)
        noteSubmitted(submit, receipt, in: slot)
        for upload in submit.uploads { if case .blob(let hash, _) = upload.value { emit(.claimBlob(hash), into: &effects) } }
        reply(request, .submitted(receipt), into: &effects)
        let rows = sessions[slot]!.tasks.rowCount
        if case .activate? = gate.afterCommit(.activate(id, throughRow: rows)) { activate(slot, throughRow: rows) }
    }

    /// Tasks that need what will never be have failed at once: what a restarted server finds depends on the order of the records alone.
    mutating func noteSubmitted(_ submit: Submit, _ receipt: SubmitReceipt, in slot: Int) {
        let firstRow = sessions[slot]!.tasks.rowCount
        take(submit, receipt, into: slot)
        sessions[slot]!.submits.append(.init(receipt: receipt, hashLow: submit.hashLow, hashHigh: submit.hashHigh))
        for row in firstRow..<sessions[slot]!.tasks.rowCount where sessions[slot]!.tasks.rowMissing[Int(row)] > 0 {
            if let input = lostInput(slot, row: row) { loseRow(slot, row: row, because: input) }
        }
    }

    private enum Taken {
        case same(SubmitReceipt)
        case different(String)
    }

    /// Whether the ids are the next free ones (`nil`), or those of an earlier submit.
    private func takenBefore(_ slot: Int, _ submit: Submit, _ first: (template: UInt32, task: UInt32, object: UInt32)) -> Taken? {
        let next = (UInt32(sessions[slot]!.templates.count), sessions[slot]!.tasks.count, sessions[slot]!.objects.count)
        let isExplicit = submit.firstTemplate != nil || submit.firstTask != nil || submit.firstObject != nil
        if isExplicit {
            // An empty submit doesn't move the ids, so equal ids alone don't tell a repeated submit from the next one.
            for position in sessions[slot]!.submits.indices.reversed() {
                let taken = sessions[slot]!.submits[position]
                let ids = (taken.receipt.firstTemplate, taken.receipt.firstTask, taken.receipt.firstObject)
                if ids == first, taken.hashLow == submit.hashLow, taken.hashHigh == submit.hashHigh { return .same(taken.receipt) }
                // Ids only rise: those before are lower still.
                if ids.0 < first.template || ids.1 < first.task || ids.2 < first.object { break }
            }
        }
        if (first.template, first.task, first.object) == next { return nil }
        return .different(
            "the submit starts at template \(first.template), task \(first.task), object \(first.object), but the session's next are "
                + "\(next.0), \(next.1), \(next.2), and no earlier submit was the same: submits must follow one another")
    }

    struct SubmitSize: Equatable {
        var tasks: UInt32
        var objects: UInt32
    }

    /// Everything that can be wrong with a submit, before anything is changed.
    func check(
        _ submit: Submit, _ first: (template: UInt32, task: UInt32, object: UInt32), in session: Session
    ) throws(RequestError) -> SubmitSize {
        let size = try checkRows(submit, first, in: session)
        for (offset, template) in submit.templates.enumerated() {
            try check(template, number: UInt64(first.template) + UInt64(offset), submit, first.object, session)
        }
        try checkSubworkers(of: submit, firstObject: first.object, in: session)
        for upload in submit.uploads
        where upload.label.utf8.count + upload.contentType.utf8.count > SubmitLimits.nameBytesMax || upload.attributes.count > SubmitLimits.textBytesMax {
            throw RequestError(.tooLarge, "object \(UInt64(first.object) + UInt64(upload.offset)): its label, content type or attributes are too long")
        }
        for option in submit.rows.options {
            guard option.options.name.utf8.count <= SubmitLimits.nameBytesMax else {
                throw RequestError(.tooLarge, "row \(option.row): a name of more than \(SubmitLimits.nameBytesMax) bytes")
            }
            let outputs = outputs(submit.rows.template[Int(option.row)], submit, first.template, session)
            for position in option.options.keep where Int(position) >= outputs.count {
                throw RequestError(.badSubmit, "row \(option.row): keep names output \(position), but its template has \(outputs.count)")
            }
        }
        return size
    }

    /// The rows, and how the uploads stand between them.
    private func checkRows(
        _ submit: Submit, _ first: (template: UInt32, task: UInt32, object: UInt32), in session: Session
    ) throws(RequestError) -> SubmitSize {
        let templateCount = UInt64(first.template) + UInt64(submit.templates.count)
        let rows = submit.rows
        var objectCount = UInt64(submit.uploads.count)
        var taskCount: UInt64 = 0
        var inputUseCount = session.tasks.inputUseCount
        // Uploads and outputs share the ids of objects; the scanner numbered them as the lines came.
        var producedBelow: UInt64 = 0
        var uploadIndex = 0
        // A row without outputs has the offset of whatever comes after it, so only what is below belongs before it.
        func skipUploads(below end: UInt64) {
            while producedBelow < end, uploadIndex < submit.uploads.count, UInt64(submit.uploads[uploadIndex].offset) == producedBelow {
                producedBelow += 1
                uploadIndex += 1
            }
        }
        for rowIndex in 0..<rows.rowCount {
            let template = rows.template[rowIndex]
            guard UInt64(template) < templateCount else {
                throw RequestError(.unknownTemplate, "row \(rowIndex): there is no template \(template); the session has \(templateCount) with this submit")
            }
            let outputs = outputs(template, submit, first.template, session)
            guard outputs.count <= 65_535 else {
                throw RequestError(.badSubmit, "template \(template) has \(outputs.count) outputs, more than 65535: give a directory, or fewer that hold more")
            }
            guard rows.count[rowIndex] >= 1 else { throw RequestError(.badSubmit, "row \(rowIndex): a count of 0") }
            skipUploads(below: UInt64(rows.firstOutputOffset[rowIndex]))
            guard UInt64(rows.firstOutputOffset[rowIndex]) == producedBelow else {
                throw RequestError(.badSubmit, "row \(rowIndex): its outputs are numbered from \(rows.firstOutputOffset[rowIndex]) instead of \(producedBelow)")
            }
            let (inputs, arguments) = (rows.inputRange(rowIndex), rows.argumentRange(rowIndex))
            guard inputs.count <= SubmitLimits.inputCountMax, arguments.count <= SubmitLimits.textBytesMax else {
                throw RequestError(
                    .tooLarge,
                    "row \(rowIndex): more than \(SubmitLimits.inputCountMax) inputs, or arguments of more than "
                        + "\(SubmitLimits.textBytesMax) bytes: give large values as objects")
            }
            for input in rows.inputs[inputs] {
                try check(input: input, ofRow: rowIndex, below: UInt64(first.object) + producedBelow, first.object, session)
            }
            let added = UInt64(rows.count[rowIndex]) * UInt64(outputs.count)
            producedBelow += added
            objectCount += added
            taskCount += UInt64(rows.count[rowIndex])
            inputUseCount += UInt64(rows.count[rowIndex]) * UInt64(inputs.count)
        }
        skipUploads(below: .max)
        guard uploadIndex == submit.uploads.count else { throw RequestError(.badSubmit, "the objects of the submit are not numbered in order") }
        guard UInt64(first.object) + objectCount <= SubmitLimits.sessionCountMax, UInt64(first.task) + taskCount <= SubmitLimits.sessionCountMax,
            inputUseCount < UInt64(UInt32.max)
        else {
            throw RequestError(
                .tooLarge, "a session holds at most 100 million tasks and as many objects, and 4 billion inputs of all its tasks: open another one")
        }
        return SubmitSize(tasks: UInt32(taskCount), objects: UInt32(objectCount))
    }

    private func outputs(_ template: UInt32, _ submit: Submit, _ firstTemplate: UInt32, _ session: Session) -> [OutputSpec] {
        template < firstTemplate ? session.templates[Int(template)].outputs : submit.templates[Int(template - firstTemplate)].outputs
    }

    private func check(
        input: UInt32, ofRow row: Int, below end: UInt64, _ firstObject: UInt32, _ session: Session
    ) throws(RequestError) {
        guard UInt64(input) < end else {
            throw RequestError(.unknownObject, "row \(row): its input \(input) is not made by an earlier line; objects end at \(end) here")
        }
        guard input < firstObject else { return }
        if session.objects.state[Int(input)] == .dropped {
            throw RequestError(.objectDropped, "row \(row): object \(input) is gone, since it was not kept: keep it before it is made")
        }
    }

    private func check(
        _ template: TaskTemplate, number: UInt64, _ submit: Submit, _ firstObject: UInt32, _ session: Session
    ) throws(RequestError) {
        if template.runner.isEmpty || template.method.isEmpty {
            throw RequestError(.badSubmit, "template \(number): its type is \"\(template.type)\", but a type has the form RUNNER/METHOD")
        }
        if template.constants.count > SubmitLimits.constantCountMax || template.inputLabels.count > SubmitLimits.inputCountMax
            || template.resources.cpus > 1_000_000
        {
            throw RequestError(
                .badSubmit,
                "template \(number): more than \(SubmitLimits.constantCountMax) constants, \(SubmitLimits.inputCountMax) labels or a million cpus")
        }
        let texts =
            template.config.count + template.attributes.count + template.origin.utf8.count + template.name.utf8.count + template.type.utf8.count
            + (template.inputLabels + template.outputs.flatMap { [$0.label, $0.contentType] }).reduce(0) { $0 + $1.utf8.count }
        if texts > SubmitLimits.textBytesMax {
            throw RequestError(.tooLarge, "template \(number): its texts have more than \(SubmitLimits.textBytesMax) bytes: give large values as objects")
        }
        for constant in template.constants {
            guard isUpload(constant, submit, firstObject, session) else {
                throw RequestError(.unknownObject, "template \(number): constant \(constant) is not an object that the client gave")
            }
        }
    }

    func isUpload(_ object: UInt32, _ submit: Submit, _ firstObject: UInt32, _ session: Session) -> Bool {
        object < firstObject
            ? object < session.objects.count && session.objects.producer[Int(object)] == ObjectTable.uploaded
            : submit.upload(at: object - firstObject) != nil
    }

    /// Appends the checked submit to the session's columns.
    private mutating func take(_ submit: Submit, _ receipt: SubmitReceipt, into slot: Int) {
        sessions[slot]!.subworkers.append(contentsOf: submit.subworkers)
        let firstTemplate = sessions[slot]!.templates.count
        sessions[slot]!.templates.append(contentsOf: submit.templates)
        if !sessions[slot]!.subworkers.isEmpty { sessions[slot]!.findPrograms(fromTemplate: firstTemplate) }
        for template in firstTemplate..<sessions[slot]!.templates.count {
            let runner = runner(of: sessions[slot]!.templates[template], sessions[slot]!.options)
            sessions[slot]!.needs.append(Session.Need(runner: runner))
        }
        sessions[slot]!.durations.append(contentsOf: repeatElement(LearnedDuration(), count: submit.templates.count))
        let rows = submit.rows
        var uploadIndex = 0
        var optionIndex = 0
        for rowIndex in 0..<rows.rowCount {
            let firstOutput = receipt.firstObject + rows.firstOutputOffset[rowIndex]
            while uploadIndex < submit.uploads.count, submit.uploads[uploadIndex].offset < rows.firstOutputOffset[rowIndex] {
                take(submit.uploads[uploadIndex], into: slot)
                uploadIndex += 1
            }
            var options = Submit.RowOptions()
            if optionIndex < rows.options.count, Int(rows.options[optionIndex].row) == rowIndex {
                options = rows.options[optionIndex].options
                optionIndex += 1
            }
            takeRow(
                slot, template: rows.template[rowIndex], count: rows.count[rowIndex], firstOutput: firstOutput,
                inputs: rows.inputs[rows.inputRange(rowIndex)], arguments: rows.arguments[rows.argumentRange(rowIndex)], options: options)
        }
        while uploadIndex < submit.uploads.count {
            take(submit.uploads[uploadIndex], into: slot)
            uploadIndex += 1
        }
    }

    private mutating func takeRow(
        _ slot: Int, template: UInt32, count: UInt32, firstOutput: UInt32, inputs: ArraySlice<UInt32>,
        arguments: ArraySlice<UInt8>, options: Submit.RowOptions
    ) {
        let row = sessions[slot]!.tasks.rowCount
        let firstTask = sessions[slot]!.tasks.count
        sessions[slot]!.tasks.appendRow(
            template: template, firstOutput: firstOutput, taskCount: count, inputs: inputs, arguments: arguments)
        if !options.name.isEmpty { sessions[slot]!.tasks.rowNames[row] = options.name }
        let outputs = sessions[slot]!.templates[Int(template)].outputs
        for task in firstTask..<firstTask + count {
            let first = Int(sessions[slot]!.objects.count)
            sessions[slot]!.objects.append(count: outputs.count, producer: task)
            for position in outputs.indices where outputs[position].isKept { sessions[slot]!.objects.isKept[first + position] = true }
            for position in options.keep { sessions[slot]!.objects.isKept[first + Int(position)] = true }
        }
        var missing: UInt32 = 0
        for input in inputs {
            let index = Int(input)
            sessions[slot]!.objects.needCount[index] += count
            switch sessions[slot]!.objects.state[index] {
            case .unfinished, .lost:
                // A lost one is found when the row is activated: its tasks then fail.
                missing += 1
                sessions[slot]!.objects.addEdge(object: input, row: row)
            case .finished, .dropped:
                // It may be lost, and then the row lacks it.
                if sessions[slot]!.objects.producer[index] != ObjectTable.uploaded { sessions[slot]!.objects.addEdge(object: input, row: row) }
            }
        }
        sessions[slot]!.tasks.rowMissing[Int(row)] = missing
    }

    private mutating func take(_ upload: Submit.Upload, into slot: Int) {
        let object = sessions[slot]!.objects.count
        let index = Int(object)
        sessions[slot]!.objects.append(count: 1, producer: ObjectTable.uploaded)
        sessions[slot]!.objects.state[index] = .finished
        // A constant stays for later submits of its session, whether the client keeps it or not.
        sessions[slot]!.objects.isKept[index] = true
        sessions[slot]!.objects.given[object] = (upload.label, upload.contentType, upload.isDirectory)
        if !upload.attributes.isEmpty { sessions[slot]!.objects.attributes[object] = upload.attributes }
        switch upload.value {
        case .inline(let bytes):
            sessions[slot]!.objects.inline[index] = bytes
            sessions[slot]!.objects.hasInline[index] = true
            sessions[slot]!.objects.sizeBytes[index] = UInt64(bytes.count)
        case .blob(let hash, let sizeBytes):
            sessions[slot]!.objects.blobs[object] = (hash, sizeBytes)
            sessions[slot]!.objects.sizeBytes[index] = sizeBytes
            blobUses[hash, default: 0] += 1
        }
    }

    /// The rows are committed: those that lack nothing can run.
    mutating func activate(_ slot: Int, throughRow end: UInt32) {
        guard sessions[slot]!.isOpen else { return }
        let start = sessions[slot]!.activeRowCount
        guard start < end else { return }
        touched.insert(slot)
        sessions[slot]!.activeRowCount = end
        for row in start..<end {
            if sessions[slot]!.tasks.rowMissing[Int(row)] == 0 { makeReady(slot, row: row) }
        }
    }

    private func lostInput(_ slot: Int, row: UInt32) -> UInt32? {
        for position in sessions[slot]!.tasks.inputRange(ofRow: row) {
            let input = sessions[slot]!.tasks.inputs[position]
            if sessions[slot]!.objects.state[Int(input)] == .lost { return input }
        }
        return nil
    }

    mutating func makeReady(_ slot: Int, row: UInt32) {
        guard !isRestoring else { return }
        var first: UInt32?
        let tasks = sessions[slot]!.tasks.tasks(ofRow: row)
        for task in tasks {
            if sessions[slot]!.tasks.state[Int(task)] == .waiting, !sessions[slot]!.postponed.contains(task) {
                sessions[slot]!.tasks.state[Int(task)] = .ready
                if first == nil { first = task }
            } else if let begin = first {
                sessions[slot]!.ready.append(begin..<task)
                first = nil
            }
        }
        if let first { sessions[slot]!.ready.append(first..<tasks.upperBound) }
        placeable.insert(slot)
    }
}
