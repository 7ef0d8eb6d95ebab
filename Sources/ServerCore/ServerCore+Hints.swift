import Link
import Scheduling
import TaskModel

/// A reason for tasks to wait that goes away only when somebody does something: it is told, so that nobody waits in silence.
struct Hint: Equatable, Sendable {
    enum Cause: Equatable, Sendable {
        case noWorker
        /// By the part of a task type before the slash, or `ffi/LIBRARY`.
        case noSubworker(Substring)
        /// Of the workers that offer what the task needs.
        case tooFewCPUs(UInt32, Demand.Runner)
    }
    var cause: Cause
    var text: String
    var since: Instant
    /// 0 until it is told.
    var number: UInt32 = 0

    /// What passes by in a moment needs no word: workers that are being started, or that are on their way back.
    static let graceMilliseconds: UInt64 = 2000
}

extension Session {
    /// Who takes up the lease may not have heard: they are told once more, with the same numbers.
    mutating func repeatHints() {
        for hint in hints where hint.number > 0 { newLines.append(.hint(hint.number, hint.text)) }
    }
}

extension ServerCore {
    // What is looked at and named, at most: a session may have any number of templates.
    private static let templateLookMax = 200
    private static let hintCountMax = 8
    private static let namedWorkerMax = 5

    /// Judged with the time-outs. A hint is told once, when its cause has lasted for a while, and once more when that came back.
    mutating func updateHints(_ slot: Int, into effects: inout ContiguousArray<ServerEffect>) {
        sessions[slot]!.dropStale()
        let causes = causes(slot)
        if causes.isEmpty, sessions[slot]!.hints.isEmpty { return }
        var hints: ContiguousArray<Hint> = []
        for (cause, text) in causes {
            var hint = sessions[slot]!.hints.first { $0.cause == cause } ?? Hint(cause: cause, text: text, since: now)
            if hint.number == 0, now >= hint.since.advanced(byMilliseconds: Hint.graceMilliseconds) {
                sessions[slot]!.hintCount += 1
                hint.number = sessions[slot]!.hintCount
                hint.text = text
                sessions[slot]!.newLines.append(.hint(hint.number, text))
                effects.append(.note(.hint(sessions[slot]!.id, text)))
                touched.insert(slot)
            }
            hints.append(hint)
        }
        sessions[slot]!.hints = hints
    }

    /// Why tasks of the session wait, as of now; empty when they don't, or for what comes without anybody's doing.
    func causes(_ slot: Int) -> [(cause: Hint.Cause, text: String)] {
        guard sessions[slot]!.isOpen, away.isEmpty else { return [] }
        if scheduler.isEmpty {
            return sessions[slot]!.hasWaiting ? [(.noWorker, "tasks wait, since no worker is connected: start one with 'rain worker SERVER'")] : []
        }
        guard sessions[slot]!.hasMisfits else { return [] }
        var causes: [(cause: Hint.Cause, text: String)] = []
        for template in sessions[slot]!.misfitTemplates.prefix(Self.templateLookMax) {
            let demand = sessions[slot]!.demand(ofTemplate: Int(template))
            guard scheduler.fit(demand) == .nobody else { continue }
            let type = sessions[slot]!.templates[Int(template)].type
            let name = sessions[slot]!.templates[Int(template)].offer
            let isOffered = scheduler.fit(Demand(cpus: 0, runner: demand.runner)) != .nobody
            let cause: Hint.Cause = isOffered ? .tooFewCPUs(demand.cpus, demand.runner) : .noSubworker(name)
            if causes.contains(where: { $0.cause == cause }) { continue }
            causes.append((cause, isOffered ? tooFewCPUs(type, demand) : noSubworker(type, name)))
            if causes.count == Self.hintCountMax { break }
        }
        return causes
    }

    private func tooFewCPUs(_ type: String, _ demand: Demand) -> String {
        var largest: UInt32 = 0
        for worker in presentWorkers {
            guard let load = scheduler.loads[worker], scheduler.canTake(worker, Demand(cpus: 0, runner: demand.runner)) else { continue }
            largest = max(largest, load.cpus)
        }
        return "tasks of type \(type) wait for \(demand.cpus) CPUs, but the largest worker that could run them has \(largest): "
            + "lower the request or add a worker"
    }

    private func noSubworker(_ type: String, _ name: Substring) -> String {
        var offers: [String] = []
        for index in presentWorkers {
            guard offers.count < Self.namedWorkerMax, let worker = workers[index] else { break }
            let names = worker.description.subworkers.sorted().joined(separator: ", ")
            let offer = "\(worker.description.hostName) offers \(names.isEmpty ? "none" : names)"
            if !offers.contains(offer) { offers.append(offer) }
        }
        let rest = presentWorkers.count > Self.namedWorkerMax ? " (of \(presentWorkers.count) workers)" : ""
        let names = "\(offers.joined(separator: "; "))\(rest)"
        if name.hasPrefix("ffi/") {
            return "tasks of type \(type) wait, since no connected worker has declarations of library '\(name.dropFirst(4))': \(names). "
                + "Start a worker with '--ffi FILE', or declare the function in the tasks' config, which rain.cdll does in Python"
        }
        return "tasks of type \(type) wait, since no connected worker offers subworker '\(name)': \(names). "
            + "Start a worker with '--subworker \(name)=COMMAND' or [subworkers.\(name)] in its file, or give it to the session"
    }
}

extension Session {
    /// Whether a task could run, with a worker.
    var hasWaiting: Bool { hasReady(ready) || hasReady(misfits) || heldBack.contains { hasReady($0.queue) } }
    var hasMisfits: Bool { hasReady(misfits) }

    /// Cancelled tasks stay in queues until they are met.
    mutating func dropStale() {
        while let task = ready.first, tasks.state[Int(task)] != .ready { ready.removeFirst() }
        while let task = misfits.first, tasks.state[Int(task)] != .ready { misfits.removeFirst() }
    }

    private func hasReady(_ queue: ReadyQueue) -> Bool { queue.contains { tasks.state[Int($0)] == .ready } }
}
