import Link
import ServerCore
import TaskModel
import WorkerCore

/// What tasks see and make.
extension Simulation {
    func graph(of session: SessionID) throws(Violation) -> RandomGraph {
        guard let client = clientOfSession[session] else { throw Violation(.wrongAnswer, "nobody opened session \(session)") }
        return clients[client].plan.graph
    }

    /// Its first instruction runs: from now on it may have changed the world.
    func begin(_ job: JobRequest, _ inputFiles: [Int?], _ worker: VirtualWorker) throws(Violation) {
        let place = worker.index << 32 | worker.life
        if let other = ranOn[job.attempt], other != place {
            throw Violation(.ranTwice, "\(job.attempt) on workers \(other >> 32) and \(worker.index)")
        }
        if takenBack.contains(job.attempt) { throw Violation(.ranTwice, "\(job.attempt) begins after it was given back") }
        let graph = try graph(of: job.attempt.task.session)
        let mayRunOnce = graph.templates[graph.templateOf[Int(job.attempt.task.index)]].rerun == .never
        if ranOn[job.attempt] != nil, mayRunOnce { throw Violation(.ranTwice, "\(job.attempt) begins again, which must not run twice") }
        if ranOn[job.attempt] == nil {
            beginCounts[job.attempt.task, default: 0] += 1
            let begunBefore = beginCounts[job.attempt.task]! - 1
            if begunBefore > retryCounts[job.attempt.task] ?? 0, mayRunOnce {
                throw Violation(.ranTwice, "\(job.attempt), which must not run twice")
            }
            // A worker that is cut off has not heard that the server was restarted and forgot what had not begun.
            let knowsServer = worker.heardEpoch == server.epoch
            if journal.isDone(job.attempt.task), !hasLostWorker, counts["failed fetches"] == nil, knowsServer {
                throw Violation(.ranAgain, "\(job.attempt) begins after its task has finished")
            }
        }
        ranOn[job.attempt] = place
        let template = graph.templates[graph.templateOf[Int(job.attempt.task.index)]]
        let isAnywhere = template.runner == "builtin" || template.runner == "s"
        let isNamed = worker.offers.contains(String(template.offer))
        let isOfFamily = worker.offers.contains("ffi/") && template.runner == "ffi"
        if isOfFamily, !isNamed { count("functions of libraries that nobody named") }
        guard isAnywhere || isNamed || isOfFamily else {
            throw Violation(.brokenContract, "\(job.attempt) of type \(template.type) begins on worker \(worker.index), which does not offer that")
        }
        if template.constants.contains(where: { graph.isLarge[Int($0)] }) { count("tasks with large constants") }
        write("worker \(worker.index) begins \(job.attempt)")
        for input in job.inputs where input.value == .stored && !inputFiles.contains(where: worker.store.isDamaged) {
            guard worker.store[input.replica] != nil else {
                throw Violation(.brokenContract, "worker \(worker.index): \(job.attempt) begins without \(input.replica)")
            }
        }
        mayWrite(job, worker)
    }

    /// Its last instruction: the outputs follow from the inputs.
    func run(
        _ job: JobRequest, _ inputFiles: [Int?], _ worker: VirtualWorker, remembered: [Replica: Content]
    ) throws(Violation) -> (CallAnswer.Result, made: [(Replica, Content)]) {
        let graph = try graph(of: job.attempt.task.session)
        let task = Int(job.attempt.task.index)
        count("runs")
        guard job.inputs.map(\.replica.object.index) == graph.inputs[task] else {
            throw Violation(.wrongValue, "\(job.attempt) got other inputs than its own")
        }
        let isMisled =
            inputFiles.contains(where: worker.store.isDamaged) || job.inputs.contains { $0.value == .cached && remembered[$0.replica] == .garbage }
        if isMisled { mislead(job.attempt) }
        if isMisled, random.chance(25) { return (.failed(TaskError(.user, "task \(task) can make nothing of what it reads")), []) }
        let inputs = isMisled ? job.inputs.map { _ in Content.garbage } : try read(job, inputFiles, graph, worker, remembered)
        if graph.failing[task] { return (.failed(TaskError(.user, "task \(task) says no")), []) }
        runCount += 1
        var outputs: [LocalOutput] = []
        var made: [(Replica, Content)] = []
        for (position, object) in graph.outputs[task].enumerated() {
            let replica = Replica(object: ObjectID(session: job.attempt.task.session, index: object), generation: job.attempt.generation)
            let isDirectory = graph.isDirectory[Int(object)]
            if isDirectory { count("directories made") }
            if let same = graph.sameAsInput[Int(object)] {
                if isDirectory { count("directories passed on") }
                ledger[replica] = inputs[same]
                outputs.append(LocalOutput(isDirectory: isDirectory, value: .sameAsInput(UInt16(same))))
                continue
            }
            let content = Content(value: RandomGraph.value(task: UInt32(task), position: position, inputs: inputs.map(\.value)), run: runCount)
            ledger[replica] = content
            if graph.isLarge[Int(object)] {
                made.append((replica, content))
                outputs.append(LocalOutput(isDirectory: isDirectory, value: .stored(sizeBytes: VirtualStore.fileBytes)))
            } else {
                outputs.append(LocalOutput(value: .inline(content.bytes)))
            }
        }
        return (.outputs(outputs), made)
    }

    private func read(
        _ job: JobRequest, _ inputFiles: [Int?], _ graph: RandomGraph, _ worker: VirtualWorker, _ remembered: [Replica: Content]
    ) throws(Violation) -> [Content] {
        var contents: [Content] = []
        for (input, file) in zip(job.inputs, inputFiles) {
            guard input.isDirectory == graph.isDirectory[Int(input.replica.object.index)] else {
                throw Violation(.wrongValue, "\(job.attempt) is told that \(input.replica) is a \(input.isDirectory ? "directory" : "file")")
            }
            let content: Content?
            switch input.value {
            case .inline(let bytes): content = Content(bytes)
            // One that may have been written to goes under who has it open.
            case .stored: content = worker.store[input.replica] ?? (file.map(worker.store.isSuspect) == true ? ledger[input.replica] : nil)
            case .cached: content = remembered[input.replica]
            }
            guard let content else { throw Violation(.wrongValue, "\(job.attempt) finds nothing under \(input.replica)") }
            try check(content, is: input.replica, graph, at: "\(job.attempt)")
            contents.append(content)
        }
        return contents
    }

    /// The value must be the graph's, and the bytes those of the run that made this very generation.
    func check(_ content: Content, is replica: Replica, _ graph: RandomGraph, at place: String) throws(Violation) {
        guard content.value == graph.values[Int(replica.object.index)] else {
            throw Violation(.wrongValue, "\(replica) has another object's bytes at \(place)")
        }
        guard ledger[replica] == content else { throw Violation(.wrongValue, "\(replica) has the bytes of another run at \(place)") }
    }
}
