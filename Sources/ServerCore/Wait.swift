import TaskModel

/// A held request: it is answered when its cursor has passed everything that it waits for.
struct Wait: Sendable {
    enum Kind: Sendable {
        /// All tasks have outcomes; answered by `waited`.
        case outcomes
        /// The same, answered by `done`.
        case cancellation
        /// All objects exist or never will; answered by `located`.
        case objects
    }
    let request: RequestID
    let kind: Kind
    let ranges: [Range<UInt32>]
    private var rangeIndex = 0
    private var next: UInt32 = 0

    init(request: RequestID, kind: Kind, ranges: [Range<UInt32>]) {
        self.request = request
        self.kind = kind
        self.ranges = ranges.filter { !$0.isEmpty }
        next = self.ranges.first?.lowerBound ?? 0
    }

    /// Objects are gone that were there: what was seen of them counts no more. Outcomes are never taken back.
    mutating func restart() {
        guard kind == .objects else { return }
        rangeIndex = 0
        next = ranges.first?.lowerBound ?? 0
    }

    /// Moves on over what is there; true when nothing is left to wait for. The cursor visits each index once, however often it
    /// is asked.
    mutating func isOver(tasks: borrowing TaskTable, objects: borrowing ObjectTable, away: ContiguousArray<Bool>) -> Bool {
        while rangeIndex < ranges.count {
            let range = ranges[rangeIndex]
            while next < range.upperBound {
                switch kind {
                case .outcomes: if !tasks.isHeard(next) { return false }
                case .cancellation: if !tasks.state[Int(next)].hasOutcome { return false }
                case .objects: if objects.state[Int(next)] == .unfinished || objects.isOutOfReach(next, away) { return false }
                }
                next += 1
            }
            rangeIndex += 1
            if rangeIndex < ranges.count { next = ranges[rangeIndex].lowerBound }
        }
        return true
    }
}
