import Link
import ServerCore
import TaskModel
import WorkerCore

/// A server and workers that do nothing but decide: no network, disk or process, and every effect is answered at once. What it takes is what
/// the cores take, so it shows whether a task costs as much among a million as among a thousand.
package final class Workload {
    package enum Shape: String, CaseIterable, Sendable {
        /// Rows without inputs, 10,000 in a submit.
        case rows
        /// One row of that many tasks.
        case array
        /// A submit for each task.
        case singles
        /// Each task needs the one before.
        case chain
        /// Each second task needs the one before it.
        case pairs
        /// Trees of eight inputs a task.
        case tree
        /// Sessions of ten tasks, all open at the same time.
        case sessions
        /// Of a hundred workers.
        case workers
        /// The worker that holds an input is cut off now and then, so that tasks are tried again.
        case misses

        package static func named(_ name: String) -> Shape? { allCases.first { $0.rawValue == name } }
    }

    private let shape: Shape
    private let taskCount: Int
    private var now = Instant(nanoseconds: 1_000_000_000)
    private var server = ServerCore(
        epoch: ServerEpoch(1), dataSecret: [UInt8](repeating: 1, count: 32), depotEndpoint: Endpoint(host: "", port: 7210))
    private var workers: ContiguousArray<Machine> = []
    private var appended: UInt64 = 0
    private var requestCount: UInt64 = 0
    private var answers: ContiguousArray<ServerReply> = []
    private var toWorkers: ContiguousArray<(worker: Int, frame: ServerToWorkerFrame)> = []
    private var toServer: ContiguousArray<(worker: Int, frame: WorkerToServerFrame)> = []
    private var random = SeededGenerator(seed: 1)
    package private(set) var finishedCount = 0

    private struct Machine {
        var core: WorkerCore
        /// Calls without an answer, by subworker.
        var calls: ContiguousArray<(id: SubworkerID, slot: UInt8, outputs: Int)> = []
        var events: ContiguousArray<WorkerEvent> = []
        var outputCounts: ContiguousArray<Int> = []
    }

    package init(_ shape: Shape, taskCount: Int) {
        self.shape = shape
        self.taskCount = taskCount
        for index in 0..<(shape == .workers ? 100 : 2) {
            let description = WorkerDescription(
                hostName: "host\(index)", processID: 1, cpus: 2, dataEndpoint: Endpoint(host: "host\(index)", port: 1), store: "none")
            workers.append(
                Machine(
                    core: WorkerCore(
                        description: description, incarnation: UInt64(index + 1), subworkers: [SubworkerCommand(name: "c", arguments: ["c"])])))
        }
    }

    /// Runs all tasks to their end and closes the sessions.
    package func run() {
        for worker in workers.indices { tell(.connected, worker) }
        settle()
        let sessionCount = shape == .sessions ? max(1, taskCount / 10) : 1
        var waits: ContiguousArray<RequestID> = []
        for number in 0..<sessionCount {
            let session = openSession()
            submitAll(to: session, taskCount: shape == .sessions ? min(10, taskCount - 10 * number) : taskCount)
            waits.append(ask { .wait($0, session, .all) })
        }
        work { $0.answers[Int(waits.last!.rawValue) - 1] == .waited }
        for wait in waits { precondition(answers[Int(wait.rawValue) - 1] == .waited, "tasks are left") }
        for number in 0..<sessionCount {
            let session = SessionID(UInt32(number + 1))
            _ = ask { .closeSession($0, session) }
        }
        settle()
        precondition(finishedCount == taskCount, "\(finishedCount) of \(taskCount) tasks finished")
    }

    // MARK: The client

    private func ask(_ event: (RequestID) -> ServerEvent) -> RequestID {
        requestCount += 1
        answers.append(.done)
        let request = RequestID(requestCount)
        send(event(request))
        return request
    }

    private func openSession() -> SessionID {
        let request = ask { .openSession($0, SessionOptions(isDetached: true, resumeToken: "t")) }
        guard case .sessionOpened(let session, _) = answers[Int(request.rawValue) - 1] else { preconditionFailure("no session") }
        _ = ask { .openLease($0, session, resumeToken: "t") }
        return session
    }

    private func submitAll(to session: SessionID, taskCount: Int) {
        var template = TaskTemplate(type: "c/f")
        template.outputs = [OutputSpec(label: "out")]
        var submit = Submit()
        submit.templates = [template]
        var first = 0
        var number: UInt64 = 0
        func flush(_ next: Int) -> Submit {
            submit.firstTemplate = number == 0 ? 0 : 1
            submit.firstTask = UInt32(first)
            submit.firstObject = UInt32(first)
            submit.hashLow = number
            number += 1
            let full = submit
            submit = Submit()
            first = next
            return full
        }
        let rowsEach = shape == .singles ? 1 : 10_000
        var task = 0
        while task < taskCount {
            let count = shape == .array ? taskCount : 1
            submit.rows.template.append(0)
            submit.rows.count.append(UInt32(count))
            submit.rows.firstOutputOffset.append(UInt32(task - first))
            for input in inputs(of: task) { submit.rows.inputs.append(UInt32(input)) }
            submit.rows.inputEnd.append(UInt32(submit.rows.inputs.count))
            submit.rows.argumentsEnd.append(0)
            task += count
            if submit.rows.rowCount == rowsEach || task == taskCount {
                let full = flush(task)
                // What is used by a later submit must still be there.
                let request = ask { .submit($0, session, full) }
                guard case .submitted = answers[Int(request.rawValue) - 1] else { preconditionFailure("\(answers[Int(request.rawValue) - 1])") }
                if shape == .singles { work { _ in true } }
            }
        }
    }

    /// Objects are numbered as the tasks that make them. None reaches into another submit.
    private func inputs(of task: Int) -> [Int] {
        let place = task % 10_000
        switch shape {
        case .rows, .array, .singles, .sessions, .workers: return []
        case .chain: return place == 0 ? [] : [task - 1]
        case .pairs, .misses: return place % 2 == 0 ? [] : [task - 1]
        // In a block of 9 the last one needs the eight before it.
        case .tree: return place % 9 == 8 ? Array(task - 8..<task) : []
        }
    }

    // MARK: What happens

    private func send(_ event: ServerEvent) {
        var effects: ContiguousArray<ServerEffect> = []
        server.handle(event, now: now, into: &effects)
        var isDurable = false
        for effect in effects {
            switch effect {
            case .append(let number, let record, let durable):
                appended = number
                isDurable = isDurable || durable
                if case .finished = record { finishedCount += 1 }
            case .reply(let request, let reply): answers[Int(request.rawValue) - 1] = reply
            case .send(let peer, let frame): toWorkers.append((Int(peer.rawValue), frame))
            case .leaseLines, .endLease, .closePeer, .claimBlob, .releaseBlob, .note: break
            }
        }
        if isDurable { send(.committed(through: appended)) }
    }

    private func tell(_ event: WorkerEvent, _ worker: Int) {
        var effects: ContiguousArray<WorkerEffect> = []
        workers[worker].core.handle(event, now: now, into: &effects)
        for effect in effects {
            switch effect {
            case .send(let frame): toServer.append((worker, frame))
            case .startSubworker(let id, _, _):
                workers[worker].events.append(
                    .subworkerRegistered(id, SubworkerCapabilities(hasControlPage: true, hasCaching: true, tasks: ["f"])))
            case .call(let id, let calls): for call in calls { workers[worker].calls.append((id, call.slot, 1)) }
            case .recall(let id, _): workers[worker].events.append(.recalled(id, slots: SlotSet()))
            case .fetch(let token, _):
                let isMissed = shape == .misses && random.chance(10)
                workers[worker].events.append(.fetched(token, isMissed ? .failed(TaskError(.setup, "cut off")) : .inline([1])))
            case .stopSubworker(let id, _):
                workers[worker].events.append(.subworkerEnded(id, evidence: TaskError(.crash, "ended"), running: SlotSet()))
            default: break
            }
        }
    }

    /// Everything that needs no time happens.
    private func settle() {
        while true {
            var frames: ContiguousArray<(worker: Int, frame: WorkerToServerFrame)> = []
            swap(&frames, &toServer)
            for (worker, frame) in frames { send(.frame(PeerID(UInt64(worker)), frame)) }
            var answers: ContiguousArray<(worker: Int, frame: ServerToWorkerFrame)> = []
            swap(&answers, &toWorkers)
            for (worker, frame) in answers { tell(.frame(frame), worker) }
            var isQuiet = frames.isEmpty && answers.isEmpty
            for worker in workers.indices where !workers[worker].events.isEmpty {
                isQuiet = false
                var events: ContiguousArray<WorkerEvent> = []
                swap(&events, &workers[worker].events)
                for event in events { tell(event, worker) }
            }
            if isQuiet { return }
        }
    }

    /// Calls are answered until it is over, each worker's all at once.
    private func work(until isOver: (Workload) -> Bool) {
        settle()
        while true {
            now = Instant(nanoseconds: now.nanoseconds + 20_000)
            var isIdle = true
            for worker in workers.indices where !workers[worker].calls.isEmpty {
                isIdle = false
                var calls: ContiguousArray<(id: SubworkerID, slot: UInt8, outputs: Int)> = []
                swap(&calls, &workers[worker].calls)
                var start = 0
                while start < calls.count {
                    var answers: ContiguousArray<CallAnswer> = []
                    let id = calls[start].id
                    while start < calls.count, calls[start].id == id {
                        answers.append(
                            CallAnswer(slot: calls[start].slot, durationNanoseconds: 1000, result: .outputs([LocalOutput(value: output)])))
                        start += 1
                    }
                    tell(.callsAnswered(id, answers), worker)
                }
            }
            settle()
            if isIdle {
                if isOver(self) { return }
                // What is left waits for time alone.
                now = now.advanced(byMilliseconds: 250)
                send(.tick)
                for worker in workers.indices { tell(.tick, worker) }
                settle()
            }
        }
    }

    /// Of a size that does not ride along where transfers are tried.
    private var output: LocalOutput.Value { shape == .misses ? .stored(sizeBytes: 100_000) : .inline([1, 2, 3, 4]) }
}
