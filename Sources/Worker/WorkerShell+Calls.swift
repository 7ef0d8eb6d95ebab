import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

/// What goes to subworkers.
extension WorkerShell {
    /// Stored inputs up to here are sent as bytes: below it a copy is cheaper than a descriptor and a map.
    private static let inlineInputBytesMax: UInt64 = 32 * 1024
    /// The kernel takes 253 with one message.
    private static let descriptorCountMax = 250
    private static let messageBytesMax = 1 << 20

    func call(_ id: SubworkerID, _ requests: ContiguousArray<CallRequest>) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }  // Its end is on the way, and answers for these.
        var templates: [SubworkerTemplate] = []
        var calls: [SubworkerCall] = []
        var descriptors: [Int32] = []
        var bytes = 0
        var refused: ContiguousArray<CallAnswer> = []
        for request in requests {
            let job = request.job
            guard let entry = entry(job.template), Int(request.slot) < ControlPage.slotCount, subworker.calls[Int(request.slot)] == nil else {
                refused.append(
                    CallAnswer(
                        slot: request.slot, result: .failed(TaskError(.setup, "the worker was not told of template \(job.template), or its slot is taken"))))
                continue
            }
            let size = 256 + job.arguments.count + job.inputs.reduce(0) { $0 + 96 + ($1.inlineSize(max: Self.inlineInputBytesMax)) }
            let descriptorCount = subworker.takesDescriptors ? job.inputs.count { $0.value == .stored } : 0
            if !calls.isEmpty, bytes + size > Self.messageBytesMax || descriptors.count + descriptorCount > Self.descriptorCountMax {
                send(templates, calls, descriptors, to: subworker)
                (templates, calls, descriptors, bytes) = ([], [], [], 0)
            }
            let before = descriptors.count
            do throws(TaskError) {
                var inputs: [SubworkerInput] = []
                inputs.reserveCapacity(job.inputs.count)
                try checkDirectories(job.inputs)
                for input in job.inputs { inputs.append(try place(input, for: subworker, descriptors: &descriptors)) }
                let (number, isNew) = subworker.number(of: job.template)
                if isNew { templates.append(Self.template(entry.template, number)) }
                subworker.calls[Int(request.slot)] = SubworkerProcess.Call(
                    attempt: job.attempt, template: entry, firstOutput: job.firstOutput, inputCount: job.inputs.count,
                    exposed: exposedInputs(of: job, inlineBytesMax: Self.inlineInputBytesMax))
                record?.begin(job.attempt, block: subworker.block, slot: Int(request.slot))
                let ticket = subworker.page.queue(Int(request.slot))
                calls.append(
                    SubworkerCall(
                        slot: request.slot, template: number, attempt: job.attempt, arguments: job.arguments, inputs: inputs,
                        arrayIndex: job.arrayIndex, ticket: ticket))
                bytes += size
            } catch {
                for descriptor in descriptors[before...] { _ = close(descriptor) }
                descriptors.removeLast(descriptors.count - before)
                refused.append(CallAnswer(slot: request.slot, result: .failed(error)))
            }
        }
        send(templates, calls, descriptors, to: subworker)
        if !refused.isEmpty { events.append(.callsAnswered(id, refused)) }
    }

    private func place(_ input: LocalInput, for subworker: SubworkerProcess, descriptors: inout [Int32]) throws(TaskError) -> SubworkerInput {
        let location: SubworkerInput.Location
        switch input.value {
        case .inline where input.isDirectory:
            throw TaskError(.setup, "input object \(input.replica.object) is a directory, but came as bytes")
        case .inline(let bytes): location = .inline(bytes)
        case .cached: location = .cached
        case .stored where input.isDirectory: location = .path(store.path(input.replica))
        case .stored:
            do throws(SystemError) {
                if input.sizeBytes <= Self.inlineInputBytesMax {
                    location = .inline(try store.open(input.replica).read(count: Int(input.sizeBytes)))
                } else if subworker.takesDescriptors, descriptors.count < Self.descriptorCountMax {
                    descriptors.append(try store.openForTask(input.replica).take())
                    location = .descriptor(UInt16(descriptors.count - 1))
                } else {
                    location = .path(store.path(input.replica))
                }
            } catch {
                throw store.taskError(error, doing: "input object \(input.replica.object) could not be opened")
            }
        }
        return SubworkerInput(
            replica: input.replica, sizeBytes: input.sizeBytes, contentType: input.contentType, isDirectory: input.isDirectory, isKept: input.isKept,
            attributes: input.attributes, location: location)
    }

    private static func template(_ template: TaskTemplate, _ number: UInt32) -> SubworkerTemplate {
        SubworkerTemplate(
            id: number, method: String(template.method), name: template.title, config: template.config, inputLabels: template.inputLabels,
            outputs: template.outputs, attributes: template.attributes, constantCount: UInt16(clamping: template.constants.count))
    }

    private func send(_ templates: [SubworkerTemplate], _ calls: [SubworkerCall], _ descriptors: [Int32], to subworker: SubworkerProcess) {
        if !templates.isEmpty { send(.templates(templates), to: subworker) }
        if !calls.isEmpty { send(.calls(calls), descriptors, to: subworker) }
    }

    func send(_ message: ToSubworker, _ descriptors: [Int32] = [], to subworker: SubworkerProcess) {
        do throws(WireError) {
            try subworker.append(message, descriptors: descriptors, with: &codec)
        } catch {
            condemn(subworker, TaskError(.setup, "a message for subworker '\(subworker.command.name)' can't be written: \(error)"))
            return
        }
        if !subworker.isUnsent {
            subworker.isUnsent = true
            unsent.append(subworker.id)
        }
    }

    /// Writes what waits, as far as the socket takes it.
    func flush(_ subworker: SubworkerProcess) {
        subworker.isUnsent = false
        guard subworker.isSocketOpen else { return }
        while !subworker.outgoing.isEmpty {
            let result = subworker.outgoing[0].send(to: subworker.socket)
            if result == -Int64(EAGAIN) || result == -Int64(ETOOMANYREFS) { break }
            guard result >= 0 else { break }  // It has ended, or is ending: that comes as an event of its own.
            if subworker.outgoing[0].isSent { subworker.outgoing.removeFirst() }
        }
        let isBlocked = !subworker.outgoing.isEmpty
        if isBlocked != subworker.isWatchedForWriting {
            subworker.isWatchedForWriting = isBlocked
            _ = rain_epoll_watch(epoll, subworker.socket, LoopToken.subworker(subworker.id), isBlocked)
        }
    }

    func recall(_ id: SubworkerID, _ slots: SlotSet) {
        var taken = SlotSet()
        if let subworker = subworkers[id], subworker.usesPage {
            for slot in 0..<ControlPage.slotCount where slots.contains(UInt8(slot)) && subworker.calls[slot] != nil {
                guard subworker.page.recall(slot) else { continue }
                subworker.calls[slot] = nil
                record?.end(block: subworker.block, slot: slot)
                taken.insert(UInt8(slot))
            }
        }
        events.append(.recalled(id, slots: taken))
    }

    /// By the page for a task that looks at it, and by a message for a subworker that reads while a call runs.
    func cancelCall(_ id: SubworkerID, _ slot: UInt8) {
        guard let subworker = subworkers[id], subworker.isSocketOpen, subworker.calls[Int(slot)] != nil else { return }
        if subworker.usesPage { subworker.page.cancel(Int(slot)) }
        send(.cancel([slot]), to: subworker)
    }

    func dropCached(_ id: SubworkerID, _ replicas: [Replica]) {
        guard let subworker = subworkers[id], subworker.isSocketOpen else { return }
        send(.dropCached(replicas), to: subworker)
    }
}

extension SubworkerProcess.Segment {
    var isSent: Bool { sentBytes == bytes.count }

    /// Sends as much as the socket takes; the descriptors go with the first byte and are closed then.
    ///
    /// - Returns: bytes sent, or -errno.
    mutating func send(to socket: Int32) -> Int64 {
        let result = bytes.withUnsafeBytes { bytes in
            descriptors.withUnsafeBufferPointer { descriptors in
                rain_send(socket, bytes.baseAddress! + sentBytes, bytes.count - sentBytes, descriptors.baseAddress, descriptors.count)
            }
        }
        if result > 0 {
            sentBytes += Int(result)
            for descriptor in descriptors { _ = close(descriptor) }
            descriptors = []
        }
        return result
    }
}

extension LocalInput {
    /// Bytes that it adds to a message.
    fileprivate func inlineSize(max: UInt64) -> Int {
        switch value {
        case .inline(let bytes): bytes.count
        case .stored: sizeBytes <= max ? Int(sizeBytes) : 0
        case .cached: 0
        }
    }
}
