import Link
import TaskModel
import WorkerCore

/// A server that gives random work and takes it back, and holds the worker to its word: every attempt has exactly one end.
struct RandomServer {
    struct Known {
        var id: SessionID
        var templates: [TaskTemplate] = []
        var taskCount: UInt32 = 0
        var objectCount: UInt32 = 10
        /// What the worker was told of or has told of, and is not dropped.
        var held: [Replica] = []
        /// Assigned, without an end.
        var open: [AttemptID: [Replica]] = [:]
        var openOrder: [AttemptID] = []
        var ended: Set<AttemptID> = []
        var isClosing = false
    }

    var shell: RandomShell
    var link: ServerLink
    var epoch = ServerEpoch(1)
    var sessions: [Known] = []
    var nextSession: UInt32 = 1
    var toWorker: [ServerToWorkerFrame] = []
    var isConnected = false
    var unansweredRevokes: Set<AttemptID> = []

    init(seed: UInt64) throws {
        shell = RandomShell(seed: seed)
        link = ServerLink(incarnation: Harness.incarnation, worker: WorkerID(1), epoch: epoch, now: shell.now)
        try connect()
    }

    // MARK: The connection

    mutating func connect() throws {
        toWorker = []
        shell.toServer = []
        shell.wantsReconnect = false
        isConnected = false
        try shell.handle(.connected)
    }

    mutating func deliverToServer() throws {
        guard !shell.toServer.isEmpty else { return }
        var out: ContiguousArray<ServerToWorkerFrame> = []
        switch shell.toServer.removeFirst() {
        case .hello(let hello):
            link.greet(hello, dataSecret: [1], now: shell.now, into: &out)
            isConnected = true
        case .batch(let batch):
            switch link.receive(batch, now: shell.now) {
            case .nothing: break
            case .broken(let reason): throw Violation(reason)
            case .messages(let messages, let sequence):
                for message in messages { try hear(message) }
                link.take(through: sequence)
            }
        case .welcome, .refused, .goodbye: throw Violation("a worker does not say that")
        }
        toWorker += out
        flush()
    }

    mutating func flush() {
        guard isConnected else { return }
        var out: ContiguousArray<ServerToWorkerFrame> = []
        link.flush(now: shell.now, into: &out)
        link.heartbeat(now: shell.now, into: &out)
        toWorker += out
    }

    mutating func deliverToWorker() throws {
        guard !toWorker.isEmpty else { return }
        try shell.handle(.frame(toWorker.removeFirst()))
    }

    /// Another server takes over that knows nothing.
    mutating func replace() throws {
        epoch = ServerEpoch(epoch.rawValue + 1)
        link = ServerLink(incarnation: Harness.incarnation, worker: WorkerID(epoch.rawValue), epoch: epoch, now: shell.now)
        sessions = []
        nextSession = 1
        unansweredRevokes = []
        try connect()
        // Work under the old names comes while the old work is still there.
        openSession()
        for _ in 0..<8 { assign() }
    }

    // MARK: What the worker says

    private mutating func hear(_ message: WorkerMessage) throws {
        switch message {
        case .started(let id):
            if session(of: id).map({ sessions[$0].ended.contains(id) }) ?? true { throw Violation("\(id) starts after its end") }
        case .finished(let id, let finished):
            shell.count("finished")
            let outputs = try end(id)
            if finished.outputs.count != outputs.count { throw Violation("\(id) has \(finished.outputs.count) outputs") }
            if let index = session(of: id) { sessions[index].held += outputs }
        case .failed(let id, let error):
            shell.count("failed")
            if error.host != "n1" || error.message.isEmpty { throw Violation("\(id) failed without a word") }
            _ = try end(id)
        case .cancelled(let id):
            shell.count("cancelled")
            _ = try end(id)
        case .revoked(let id, let wasTakenBack):
            unansweredRevokes.remove(id)
            guard let index = session(of: id) else { return }
            if wasTakenBack {
                shell.count("taken back")
                if sessions[index].open[id] != nil { _ = try end(id) }
            }
        case .replicated(let replica):
            if session(of: replica.object.session) == nil { throw Violation("\(replica) of a session that is closed") }
        case .missing(let replica):
            shell.count("missing")
            // The server no longer counts it as held here.
            if let index = session(of: replica.object.session) { sessions[index].held.removeAll { $0 == replica } }
        case .progress(let list):
            for each in list where session(of: each.attempt).map({ sessions[$0].ended.contains(each.attempt) }) ?? true {
                throw Violation("progress of \(each.attempt) after its end")
            }
        case .knows, .runs, .holds, .handedOver: throw Violation("a handover to a server that did not ask for one")
        case .sessionClosed(let id):
            guard let index = session(of: id), sessions[index].isClosing else { throw Violation("\(id) is closed and nobody asked") }
            sessions.remove(at: index)
        }
    }

    private func session(of id: SessionID) -> Int? { sessions.firstIndex { $0.id == id } }
    private func session(of id: AttemptID) -> Int? { session(of: id.task.session) }

    private mutating func end(_ id: AttemptID) throws -> [Replica] {
        guard let index = session(of: id), let outputs = sessions[index].open.removeValue(forKey: id) else {
            throw Violation("\(id) has two ends, or none was asked for")
        }
        sessions[index].ended.insert(id)
        return outputs
    }

    // MARK: What it asks for

    mutating func act() throws {
        switch shell.random.below(100) {
        case 0..<3 where sessions.count < 3: openSession()
        case 3..<8: defineTemplate()
        case 8..<70: for _ in 0..<(1 + shell.random.below(shell.random.chance(10) ? 40 : 3)) { assign() }
        case 70..<76:
            if let id = anyAttempt() {
                unansweredRevokes.insert(id)
                link.enqueue(.revoke(id))
            }
        case 76..<82: if let id = anyAttempt() { link.enqueue(.cancel(id)) }
        case 82..<92: drop()
        case 92..<95: if shell.random.chance(30), let index = sessions.indices.randomElement(using: &shell.random) { close(index) }
        case 95..<97 where shell.random.chance(40): try connect()
        case 97..<98 where shell.random.chance(40):
            shell.count("new servers")
            try replace()
        default: break
        }
        flush()
    }

    private mutating func openSession() {
        sessions.append(Known(id: SessionID(nextSession)))
        let own = shell.random.chance(30) ? [SubworkerCommand(name: "a", arguments: ["own"])] : []
        link.enqueue(.session(SessionID(nextSession), subworkers: own))
        nextSession += 1
        for _ in 0..<3 { defineTemplate(in: sessions.count - 1) }
    }

    private mutating func anyOpenSession() -> Int? { shell.random.pick(sessions.indices.filter { !sessions[$0].isClosing }) }

    private mutating func defineTemplate() { if let index = anyOpenSession(), sessions[index].templates.count < 9 { defineTemplate(in: index) } }

    private mutating func defineTemplate(in index: Int) {
        var template = TaskTemplate(type: shell.random.pick(["builtin/run", "a/x", "a/y", "b/x", "b/x", "b/unknown", "c/x"])!)
        template.outputs = (0..<shell.random.below(3)).map { OutputSpec(label: "\($0)") }
        template.resources = Resources(cpus: UInt32(shell.random.chance(70) ? 1 : shell.random.below(6)))
        template.retryCountMax = UInt32(shell.random.below(4))
        template.threads = template.retryCountMax
        if shell.random.chance(20) { template.rerun = .never }
        if shell.random.chance(40) { template.constants = [UInt32(shell.random.below(2))] }
        if shell.random.chance(25) { template.program = SubworkerProgram(object: UInt32(8 + shell.random.below(2))) }
        let id = TemplateID(session: sessions[index].id, index: UInt32(sessions[index].templates.count))
        sessions[index].templates.append(template)
        link.enqueue(.template(id, template))
    }

    private mutating func assign() {
        guard let index = anyOpenSession() else { return }
        let known = sessions[index]
        let number = UInt32(shell.random.below(known.templates.count))
        let template = known.templates[Int(number)]
        var inputs = template.constants.map { constant in
            let replica = Replica(object: ObjectID(session: known.id, index: constant), generation: .uploaded)
            return InputAssignment(replica: replica, sizeBytes: 1, source: .inline([UInt8(constant)]))
        }
        for _ in 0..<shell.random.below(4) { inputs.append(input(index)) }
        if let program = template.program, !shell.random.chance(2) { inputs.append(Self.program(program, of: known.id)) }
        let id = AttemptID(task: TaskID(session: known.id, index: known.taskCount), epoch: epoch, number: 1)
        let first = sessions[index].objectCount
        let outputs = template.outputs.indices.map { Replica(object: ObjectID(session: known.id, index: first + UInt32($0)), generation: id.generation) }
        sessions[index].taskCount += 1
        sessions[index].objectCount += UInt32(outputs.count)
        sessions[index].open[id] = outputs
        sessions[index].openOrder.append(id)
        let assignment = Assignment(
            attempt: id, template: TemplateID(session: known.id, index: number), inputs: inputs, firstOutput: first)
        link.enqueue(.assign(assignment))
    }

    /// One of the two is small.
    private static func program(_ program: SubworkerProgram, of session: SessionID) -> InputAssignment {
        let replica = Replica(object: ObjectID(session: session, index: program.object), generation: .uploaded)
        return program.object == 8
            ? InputAssignment(replica: replica, sizeBytes: 1, source: .inline([8]))
            : InputAssignment(replica: replica, sizeBytes: 6000, source: .fetch([Endpoint(host: "depot", port: 1)]))
    }

    private mutating func input(_ index: Int) -> InputAssignment {
        let known = sessions[index]
        let uploaded = Replica(object: ObjectID(session: known.id, index: UInt32(2 + shell.random.below(6))), generation: .uploaded)
        switch shell.random.below(4) {
        case 0:
            if let replica = shell.random.pick(known.held) { return InputAssignment(replica: replica, source: .held) }
        case 1:
            if let id = shell.random.pick(known.openOrder.suffix(40).filter { !known.open[$0, default: []].isEmpty }) {
                return InputAssignment(replica: known.open[id]![shell.random.below(known.open[id]!.count)], source: .expect(id))
            }
        case 2: return InputAssignment(replica: uploaded, sizeBytes: 1, source: .inline([2]))
        default: break
        }
        return InputAssignment(replica: uploaded, sizeBytes: 6000, source: .fetch([Endpoint(host: "h", port: 1)]))
    }

    private mutating func anyAttempt() -> AttemptID? {
        guard let index = anyOpenSession() else { return nil }
        return shell.random.pick(Array(sessions[index].openOrder.suffix(30)))
    }

    private mutating func drop() {
        guard let index = anyOpenSession(), let replica = shell.random.pick(sessions[index].held) else { return }
        sessions[index].held.removeAll { $0 == replica }
        link.enqueue(.drop([replica, replica]))
    }

    private mutating func close(_ index: Int) {
        guard !sessions[index].isClosing else { return }
        sessions[index].isClosing = true
        link.enqueue(.closeSession(sessions[index].id))
    }

    // MARK: The run

    mutating func step() throws {
        if shell.wantsReconnect { try connect() }
        switch shell.random.below(4) {
        case 0: try deliverToServer()
        case 1: try deliverToWorker()
        default: try shell.step()
        }
    }

    mutating func run(steps: Int) throws {
        for _ in 0..<steps {
            if shell.random.chance(8) { try act() }
            try step()
        }
        shell.isCalm = true
        try settle { server in server.sessions.allSatisfy { $0.isClosing || $0.open.isEmpty } }
        for id in unansweredRevokes where session(of: id).map({ !sessions[$0].isClosing }) ?? false { throw Violation("the revoke of \(id) is not answered") }
        for index in sessions.indices { close(index) }
        flush()
        try settle { server in server.sessions.isEmpty }
        try settle { server in !server.shell.isBusy }
        if !shell.core.isEmpty { throw Violation("something is left in the core") }
        if !shell.files.isEmpty { throw Violation("\(shell.files.count) files are left: \(shell.files.map { "\($0)" }.sorted().prefix(5))") }
    }

    private mutating func settle(_ isSettled: (Self) -> Bool) throws {
        for _ in 0..<200_000 {
            if isSettled(self) && toWorker.isEmpty && shell.toServer.isEmpty { return }
            try step()
            flush()
        }
        let open = sessions.map { session in
            let example = session.openOrder.first { session.open[$0] != nil }
            return "\(session.id): \(session.isClosing ? "closing" : "open"), \(session.open.count) attempts, such as \(String(describing: example))"
        }
        throw Violation("it does not come to an end: \(open), the shell is \(shell.isBusy ? "busy" : "idle")")
    }
}

extension SplitMix: RandomNumberGenerator {}
