/// Something that must not happen.
package struct Violation: Error, Equatable, Sendable, CustomStringConvertible {
    /// The same for failures of one cause, so that a shorter run can be told to fail in the same way.
    package let kind: Kind
    package let facts: String

    package enum Kind: String, Sendable {
        case hang = "nothing goes on"
        case workerInvariant = "an invariant of a worker"
        case toldTwice = "an outcome is told twice"
        case untold = "an outcome is not told"
        case wrongOutcome = "a wrong outcome"
        case wrongValue = "a wrong value"
        case wrongAnswer = "a wrong answer"
        case answeredTwice = "a request is answered twice"
        case toldBeforeCommit = "told before the commit"
        case acknowledgedBeforeCommit = "acknowledged before the commit"
        case ranTwice = "an attempt ran on two workers"
        case ranAgain = "a task ran after its outcome"
        case notRestored = "something is not restored"
        case brokenContract = "a core breaks its contract with its shell"
        case leak = "something is left"
    }

    package init(_ kind: Kind, _ facts: String) {
        self.kind = kind
        self.facts = facts
    }
    package var description: String { "\(kind.rawValue): \(facts)" }
}
