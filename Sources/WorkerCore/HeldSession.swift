import TaskModel

/// A session that has sent something here.
struct HeldSession: Sendable {
    enum Closing: Equatable, Sendable {
        case no
        /// Answered by `sessionClosed` when its last process is gone.
        case asked
        /// The server that knew it is gone, and nobody waits for an answer.
        case forgotten
    }

    let id: SessionID
    /// Its own subworkers; they come before the worker's.
    var commands: [SubworkerCommand]
    var templateByIndex: [UInt32: TemplateHandle] = [:]
    var templates: ContiguousArray<TemplateHandle> = []
    /// Attempts that a process works on.
    var activeCount = 0
    var closing: Closing = .no
    /// So that a repeated `revoke` gets the same answer.
    var takenBack: Set<AttemptID> = []

    init(id: SessionID, commands: [SubworkerCommand]) {
        self.id = id
        self.commands = commands
    }
}

/// A template as the worker uses it: what it needs per task is worked out once.
struct HeldTemplate: Sendable {
    let id: TemplateID
    let template: TaskTemplate
    let session: SessionHandle
    let method: String
    /// Where its ready attempts wait; `nil` when they can't run here.
    let lane: LaneHandle?
    /// Why no attempt of it can run here.
    let problem: TaskError?
    var learned = LearnedDuration()
    /// The registration of its subworkers that it was last checked against; 0 for none.
    var checkedRegistration: UInt32 = 0
    var registrationProblem: TaskError?

    var cpus: UInt32 { template.resources.cpus }
    var constantCount: Int { template.constants.count }
    var outputCount: Int { template.outputs.count }
}
