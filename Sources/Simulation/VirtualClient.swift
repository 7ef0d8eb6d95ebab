import ServerCore
import TaskModel

/// A client with a script: one step after the other, each when the one before was answered.
struct VirtualClient {
    enum Step: Equatable {
        case open
        case lease
        case submit(Int)
        case keep([Range<UInt32>])
        case unkeep([Range<UInt32>])
        case cancel([Range<UInt32>])
        case wait
        case locate
        case taskInfo
        case close
    }
    enum Heard: Equatable {
        case finished, cancelled
        case failed(TaskFailure)
    }

    let index: Int
    let plan: Plan.ClientPlan
    var steps: [Step]
    var position = 0
    var session: SessionID?
    /// The request of the present step.
    var request: RequestID?
    var receipts: [SubmitReceipt?]
    var lease: UInt64?
    /// By task, over the present lease; `nil` before it was told.
    var heard: [Heard?]
    /// The same over all leases.
    var known: [Heard?]
    var failure: TaskFailure?
    var isDone = false
    var isVanished = false
    var hasClosed = false
    var isLeasePending = false
    var cancelled: Set<UInt32> = []

    init(index: Int, plan: Plan.ClientPlan, random: inout SeededGenerator) {
        self.index = index
        self.plan = plan
        receipts = plan.graph.submits.map { _ in nil }
        heard = plan.graph.inputs.map { _ in nil }
        known = heard
        isDone = plan.startMilliseconds == .max
        steps = [.open, .lease]
        let graph = plan.graph
        let objectCount = UInt32(graph.values.count)
        func someObjects(_ random: inout SeededGenerator, below end: UInt32) -> [Range<UInt32>] {
            (0..<(1 + random.below(3))).map { _ in
                let first = UInt32(random.below(Int(end)))
                return first..<min(end, first + 1 + UInt32(random.below(4)))
            }
        }
        for submit in graph.submits.indices {
            steps.append(.submit(submit))
            if plan.repeatsSubmits, random.chance(60) { steps.append(.submit(random.below(submit + 1))) }
        }
        if plan.closesEarly {
            steps.append(.close)
            return
        }
        if plan.keeps { steps.append(.keep(someObjects(&random, below: objectCount))) }
        if plan.cancels, !graph.inputs.isEmpty { steps.append(.cancel(someObjects(&random, below: UInt32(graph.inputs.count)))) }
        // Some ask for objects before they exist.
        if random.chance(30) { steps.append(.locate) }
        steps += [.wait, .locate, .taskInfo]
        if plan.keeps { steps += [.unkeep(someObjects(&random, below: objectCount)), .locate] }
        steps.append(.close)
    }

    var step: Step? { position < steps.count ? steps[position] : nil }
}
