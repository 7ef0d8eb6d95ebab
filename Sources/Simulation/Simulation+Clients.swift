import Link
import ServerCore
import TaskModel

/// Clients: what they ask for, what they hear, and whether it is true.
extension Simulation {
    func handleAtClient(_ event: Event) throws(Violation) {
        trace.add(now)
        switch event {
        case .clientStep(let index): try takeStep(index)
        case .clientLease(let index):
            if isServerDown { return queue.add(event, at: serverDownUntil + random.milliseconds(0...1000)) }
            guard let session = clients[index].session, clients[index].lease == nil, !clients[index].isVanished, !clients[index].isLeasePending
            else { return }
            try request(.lease, index) { .openLease($0, session, resumeToken: "t") }
        case .clientLeaseLost(let index, let lease, let epoch):
            // A server that died has forgotten the connection.
            guard let session = clients[index].session, epoch == server.epoch, !isServerDown else { return }
            try reach(event) { () throws(Violation) in try self.send(.leaseLost(session, lease: lease, isClean: false)) }
        case .clientVanishes(let index):
            guard !clients[index].isDone else { return }
            write("client \(index) vanishes")
            clients[index].isVanished = true
            guard let lease = clients[index].lease else { return }
            clients[index].lease = nil
            queue.add(.clientLeaseLost(index, lease: lease, epoch: server.epoch), at: now + random.milliseconds(0...50))
        case .clientWithdraws(let index, let old):
            guard clients[index].request == old, !clients[index].isVanished, !requests[Int(old.rawValue) - 1].isAnswered else { return }
            try reach(event) { () throws(Violation) in
                try self.send(.withdraw(old))
                try self.takeStep(index)
            }
        default: preconditionFailure("no event of a client")
        }
    }

    /// A frozen server takes nothing: what is for it waits.
    private func reach(_ event: Event, _ body: () throws(Violation) -> Void) throws(Violation) {
        if serverFrozenUntil > now { queue.add(event, at: serverFrozenUntil) } else { try body() }
    }

    private func request(_ step: VirtualClient.Step, _ index: Int, _ event: (RequestID) -> ServerEvent) throws(Violation) {
        if case .lease = step { clients[index].isLeasePending = true }
        let id = makeRequest(client: index, step)
        // A lease that is resumed is no step of the script.
        if clients[index].step == step { clients[index].request = id }
        write("client \(index) asks \(id.rawValue): \(step)")
        try send(event(id))
    }

    private func takeStep(_ index: Int) throws(Violation) {
        guard !clients[index].isDone, !clients[index].isVanished, let step = clients[index].step else { return }
        // The freeze may end before its time, with the server.
        if serverFrozenUntil > now { return queue.add(.clientStep(index), at: min(serverFrozenUntil, now + 100_000_000)) }
        if isServerDown { return queue.add(.clientStep(index), at: serverDownUntil + random.milliseconds(0...1000)) }
        let session = clients[index].session ?? SessionID(0)
        switch step {
        case .open:
            let options = SessionOptions(
                onError: clients[index].plan.onError, graceMilliseconds: clients[index].plan.graceMilliseconds, resumeToken: "t")
            try request(step, index) { .openSession($0, options) }
        case .lease:
            if clients[index].isLeasePending || clients[index].lease != nil { return advance(index) }
            try request(step, index) { .openLease($0, session, resumeToken: "t") }
        case .submit(let number):
            let submit = clients[index].plan.graph.submits[number]
            try request(step, index) { .submit($0, session, submit) }
        case .keep(let ranges): try request(step, index) { .setKept($0, session, ObjectSelection(ranges: ranges), isKept: true) }
        case .unkeep(let ranges): try request(step, index) { .setKept($0, session, ObjectSelection(ranges: ranges), isKept: false) }
        case .cancel(let ranges):
            for range in ranges { clients[index].cancelled.formUnion(range) }
            try request(step, index) { .cancel($0, session, .ranges(ranges)) }
        case .wait:
            try request(step, index) { .wait($0, session, .all) }
            if clients[index].plan.withdraws, let request = clients[index].request, random.chance(40) {
                queue.add(.clientWithdraws(index, request), at: now + random.milliseconds(1...200))
            }
        case .locate:
            let count = UInt32(clients[index].plan.graph.values.count)
            try request(step, index) { .locate($0, session, ObjectSelection(ranges: [0..<count])) }
        case .taskInfo: try request(step, index) { .taskInfo($0, session, .all) }
        case .close:
            clients[index].hasClosed = true
            try request(step, index) { .closeSession($0, session) }
        }
    }

    private func advance(_ index: Int) {
        clients[index].position += 1
        if clients[index].step == nil {
            clients[index].isDone = true
        } else {
            queue.add(.clientStep(index), at: now + random.microseconds(10...(random.chance(20) ? 200_000 : 2_000)))
        }
    }

    // MARK: Answers

    func deliver(_ reply: ServerReply, to id: RequestID) throws(Violation) {
        let number = Int(id.rawValue) - 1
        guard !requests[number].isAnswered else { throw Violation(.answeredTwice, "request \(id.rawValue): \(requests[number].step)") }
        requests[number].isAnswered = true
        let index = requests[number].client
        if index < 0 {
            if case .status(let status) = reply { self.status = status }
            return
        }
        let step = requests[number].step
        if case .sessionOpened(let session, _) = reply {
            guard journal.hasOpened(session) else { throw Violation(.toldBeforeCommit, "session \(session) is open") }
            clients[index].session = session
            clientOfSession[session] = index
            for (object, producer) in clients[index].plan.graph.producers.enumerated() where producer == nil {
                let replica = Replica(object: ObjectID(session: session, index: UInt32(object)), generation: .uploaded)
                ledger[replica] = Content(value: clients[index].plan.graph.values[object], run: 0)
            }
        }
        if case .lease = step { clients[index].isLeasePending = false }
        if clients[index].isVanished {
            // Whoever writes to its connection finds it gone.
            if case .lease(let lease) = reply { queue.add(.clientLeaseLost(index, lease: lease, epoch: server.epoch), at: now + 1_000_000) }
            return
        }
        if case .lease(let lease) = reply {
            clients[index].lease = lease
            clients[index].heard = clients[index].heard.map { _ in nil }
        }
        guard clients[index].request == id else { return }  // Withdrawn, or a resumed lease.
        clients[index].request = nil
        if case .refused(let error) = reply { return try refused(error, step, index) }
        try check(reply, step, index)
        advance(index)
    }

    private func refused(_ error: RequestError, _ step: VirtualClient.Step, _ index: Int) throws(Violation) {
        switch error.code {
        case .journal where isDiskFull || journal.isFull:
            clients[index].isDone = true
        case .sessionFailed:
            guard let failure = error.failure, clients[index].plan.onError == .failSession || hasLostCopies else {
                throw Violation(.wrongAnswer, "client \(index): \(error.message)")
            }
            try checkExcuse(failure, index)
            clients[index].position = clients[index].steps.count - 1
            queue.add(.clientStep(index), at: now + random.microseconds(10...2000))
        case .unknownSession where step == .close && counts["server crashes"] != nil:
            advance(index)  // It was closed, and the answer was lost.
        case .objectDropped:
            guard case .keep = step else { throw Violation(.wrongAnswer, "client \(index), \(step): \(error.message)") }
            advance(index)
        default: throw Violation(.wrongAnswer, "client \(index), \(step): \(error.code.rawValue): \(error.message)")
        }
    }

    private func check(_ reply: ServerReply, _ step: VirtualClient.Step, _ index: Int) throws(Violation) {
        switch (step, reply) {
        case (.open, .sessionOpened), (.lease, .lease), (.keep, .done), (.unkeep, .done), (.wait, .waited), (.close, .done): break
        case (.cancel(let ranges), .done):
            _ = ranges
        case (.submit(let number), .submitted(let receipt)):
            guard let session = clients[index].session, journal.submitCount(session) > number else {
                throw Violation(.toldBeforeCommit, "submit \(number) of client \(index)")
            }
            if var first = clients[index].receipts[number] {
                first.isRepeated = true
                guard first == receipt else { throw Violation(.wrongAnswer, "client \(index): a repeated submit is answered otherwise") }
            } else {
                clients[index].receipts[number] = receipt
            }
        case (.locate, .located(let locations)): try check(locations, index)
        case (.taskInfo, .taskInfos(let infos)): try check(infos, index)
        default: throw Violation(.wrongAnswer, "client \(index), \(step): \(reply)")
        }
    }

    private func check(_ locations: [ObjectLocation], _ index: Int) throws(Violation) {
        let graph = clients[index].plan.graph
        guard locations.count == graph.values.count, let session = clients[index].session else {
            throw Violation(.wrongAnswer, "client \(index): \(locations.count) locations")
        }
        for (object, location) in locations.enumerated() {
            let producer = graph.producers[object]
            switch location {
            case .inline(let bytes, _, let isDirectory):
                guard !isDirectory, let content = Content(bytes), content.value == graph.values[object] else {
                    throw Violation(.wrongValue, "client \(index): object \(object)")
                }
            case .blob(_, _, _, let isDirectory):
                if producer != nil || isDirectory != graph.isDirectory[object] {
                    throw Violation(.wrongAnswer, "client \(index): object \(object) is no such upload")
                }
            case .remote(let replica, let endpoints, _, _, let isDirectory):
                guard replica.object == ObjectID(session: session, index: UInt32(object)), isDirectory == graph.isDirectory[object] else {
                    throw Violation(.wrongAnswer, "client \(index): object \(object) is said to be \(replica)")
                }
                for endpoint in endpoints {
                    guard let holder = workers.first(where: { $0.endpoint == endpoint }), let content = holder.store[replica],
                        let file = holder.store.file(of: replica), !holder.store.isDamaged(file)
                    else { continue }
                    try check(content, is: replica, graph, at: "client \(index)")
                }
            case .dropped: count("dropped objects")
            case .failed(let number, let failure):
                guard number == UInt32(object), producer != nil else { throw Violation(.wrongAnswer, "client \(index): object \(object)") }
                try checkExcuse(failure, index)
            case .cancelled: if producer == nil { throw Violation(.wrongAnswer, "client \(index): upload \(object) is cancelled") }
            }
        }
    }

    private func check(_ infos: [TaskInfo], _ index: Int) throws(Violation) {
        let client = clients[index]
        guard infos.count == client.plan.graph.inputs.count else { throw Violation(.wrongAnswer, "client \(index): \(infos.count) tasks") }
        for (task, info) in infos.enumerated() {
            let outcome: VirtualClient.Heard
            switch info.state {
            case .finished: outcome = .finished
            case .cancelled: outcome = .cancelled
            case .failed:
                guard let failure = info.failure else { throw Violation(.wrongAnswer, "client \(index): task \(task) failed without an error") }
                outcome = .failed(failure)
            case .waiting, .ready, .assigned, .running:
                // It is run again for an output that was lost; what was told of it stays true.
                guard hasLostCopies, client.known[task] == .finished || client.lease == nil else {
                    throw Violation(.wrongAnswer, "client \(index): task \(task) is \(info.state.name) after the wait")
                }
                outcome = .finished
            }
            if client.lease != nil, client.heard[task] != outcome, !isRemade(client.heard[task], outcome) {
                throw Violation(client.heard[task] == nil ? .untold : .wrongOutcome, "client \(index): task \(task) is \(info.state.name)")
            }
            try check(outcome, of: task, infos, client)
        }
    }

    /// Whether the graph and what happened allow it.
    private func check(_ outcome: VirtualClient.Heard, of task: Int, _ infos: [TaskInfo], _ client: VirtualClient) throws(Violation) {
        let graph = client.plan.graph
        let producers = graph.inputs[task].compactMap { graph.producers[Int($0)] }
        switch outcome {
        case .finished:
            count("finished tasks")
            guard !graph.failing[task], producers.allSatisfy({ hasFinished(infos[Int($0)]) || hasOnceFinished(client, $0) }) else {
                throw Violation(.wrongOutcome, "client \(client.index): task \(task) finished")
            }
            try checkRuns(of: task, client)
        case .cancelled:
            count("cancelled tasks")
            guard client.cancelled.contains(UInt32(task)) || producers.contains(where: { infos[Int($0)].state == .cancelled }) else {
                throw Violation(.wrongOutcome, "client \(client.index): task \(task) was cancelled by nobody")
            }
        case .failed(let failure):
            count("failed tasks")
            if failure.error.cause == .dependency {
                func isObstacle(_ ancestor: Int) -> Bool {
                    // Cancelled as it was to make its outputs again.
                    graph.templates[graph.templateOf[ancestor]].rerun == .never || [.failed, .cancelled].contains(infos[ancestor].state)
                }
                guard producers.contains(where: { infos[Int($0)].state == .failed }) || (hasLostCopies && graph.hasAncestor(task, where: isObstacle)) else {
                    throw Violation(.wrongOutcome, "client \(client.index): no ancestor of task \(task) failed")
                }
            } else {
                try checkExcuse(failure, client.index)
            }
        }
    }

    /// A task that finished has run; more than once only if something was lost on the way.
    private func checkRuns(of task: Int, _ client: VirtualClient) throws(Violation) {
        guard let session = client.session else { return }
        let runs = beginCounts[TaskID(session: session, index: UInt32(task))] ?? 0
        let isExcused = hasLostCopies || counts["failed fetches"] ?? 0 > 0 || isDiskFull || counts["server crashes"] != nil
        guard runs == 1 || (runs > 1 && isExcused) else {
            throw Violation(.ranTwice, "client \(client.index): \(runs) attempts of task \(task), which finished, have begun")
        }
    }

    private func hasOnceFinished(_ client: VirtualClient, _ task: UInt32) -> Bool {
        guard let session = client.session else { return false }
        return hasLostCopies && journal.hasFinished(TaskID(session: session, index: task))
    }

    /// A task that had finished ran again for a lost output, and failed this time or was cancelled.
    private func isRemade(_ told: VirtualClient.Heard?, _ outcome: VirtualClient.Heard) -> Bool {
        outcome != .finished && told == .finished && hasLostCopies
    }

    /// Finished, or on its way to finish once more.
    private func hasFinished(_ info: TaskInfo) -> Bool { info.state != .failed && info.state != .cancelled }

    private func checkExcuse(_ failure: TaskFailure, _ index: Int) throws(Violation) {
        guard let session = clients[index].session else { return }
        let graph = clients[index].plan.graph
        let task = Int(failure.task)
        let mayRunOnce = graph.templates[graph.templateOf[task]].rerun == .never
        // Seven tries to fetch an input take longer than any fault, unless faults overlap; an object that is made again meanwhile
        // shortens the wait between two of them.
        let isCutOff = dataPartitionCount > 1 || (dataPartitionCount == 1 && lostWorkerCount > 0) || isRoomLimited
        let isExcused =
            switch failure.error.cause {
            case .user: graph.failing[task]
            case .contract: blamedTasks.contains(TaskID(session: session, index: failure.task))
            case .dependency: true  // Held against its ancestors by whoever has the whole graph.
            case .crash: crashedTasks.contains(TaskID(session: session, index: failure.task))
            case .workerLost where failure.error.message.contains("workers were lost while they ran"):
                // Its own doing, or that of another task beside it, or of faults.
                lostWorkerCount >= 3
            case .workerLost: isCutOff || (hasLostCopies && (mayRunOnce || graph.descendsFromOnce(task) || hasFailedSince(task, session, graph)))
            case .setup: hasFutileCrash
            case .preempted: mayRunOnce
            // A program that finds no room begins once more on disk, unless it must not.
            case .resource: isRoomLimited || (mayRunOnce && plan.stores.contains { $0.memoryBytes != nil })
            case .outOfMemory, .timeout: false
            }
        guard isExcused else { throw Violation(.wrongOutcome, "client \(index): task \(task) failed: \(failure.error.cause) \(failure.error.message)") }
    }

    /// A task that had finished, and whose outputs went, may have failed when it ran again, and with it what needs it.
    private func hasFailedSince(_ task: Int, _ session: SessionID, _ graph: RandomGraph) -> Bool {
        func hasFailed(_ task: Int) -> Bool {
            let id = TaskID(session: session, index: UInt32(task))
            guard journal.hasFinished(id) else { return false }
            return crashedTasks.contains(id) || blamedTasks.contains(id) || (lostWorkerCount >= 3 && journal.hasFailed(id))
        }
        return hasFailed(task) || graph.hasAncestor(task, where: hasFailed)
    }

    // MARK: The lease

    func hear(_ line: LeaseLine, _ index: Int) throws(Violation) {
        guard clients[index].failure == nil else {
            switch line {
            // A lease that is taken up again tells the failure once more.
            case .closed, .sessionFailed: return
            default: throw Violation(.wrongAnswer, "client \(index) hears \(line) after the failure of its session")
            }
        }
        switch line {
        case .finished(let ranges): for range in ranges { for task in range { try hear(.finished, of: task, index) } }
        case .cancelled(let ranges): for range in ranges { for task in range { try hear(.cancelled, of: task, index) } }
        case .failed(let task, let failure):
            try hear(.failed(failure), of: task, index)
        case .sessionFailed(_, let failure):
            try checkExcuse(failure, index)
            clients[index].failure = failure
        case .progress(let list):
            for each in list where clients[index].heard[Int(each.task)] != nil {
                throw Violation(.wrongAnswer, "client \(index) hears how far task \(each.task) is, which has ended")
            }
        case .hint: count("hints")
        case .closed(let reason):
            guard clients[index].hasClosed || isDiskFull else { throw Violation(.wrongAnswer, "session of client \(index) is closed: \(reason)") }
        }
    }

    private func hear(_ outcome: VirtualClient.Heard, of task: UInt32, _ index: Int) throws(Violation) {
        let place = Int(task)
        if clients[index].heard[place] != nil { throw Violation(.toldTwice, "client \(index), task \(task)") }
        if let known = clients[index].known[place], known != outcome, !isRemade(known, outcome) {
            throw Violation(.wrongOutcome, "client \(index): task \(task) was \(known), now \(outcome)")
        }
        clients[index].heard[place] = outcome
        clients[index].known[place] = outcome
        guard let session = clients[index].session else { return }
        let id = TaskID(session: session, index: task)
        switch outcome {
        case .finished: if !journal.hasFinished(id) { throw Violation(.toldBeforeCommit, "task \(id) finished") }
        case .failed(let failure):
            if failure.error.cause != .dependency, !journal.hasFailed(id) { throw Violation(.toldBeforeCommit, "task \(id) failed") }
        case .cancelled: break
        }
    }
}
