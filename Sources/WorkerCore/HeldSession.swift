import TaskModel

/// A session that has sent something here.
struct HeldSession: TableRow {
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
    /// Of processes that end with it, as their programs do.
    var pools: ContiguousArray<PoolHandle> = []
    /// Attempts that a process works on.
    var activeCount = 0
    var closing: Closing = .no
    /// So that a repeated `revoke` gets the same answer.
    var takenBack: Set<AttemptID> = []

    init(id: SessionID, commands: [SubworkerCommand]) {
        self.id = id
        self.commands = commands
    }

    mutating func vacate() {
        commands = []
        templateByIndex = [:]
        templates = []
        pools = []
        takenBack = []
    }
}

/// A template as the worker uses it: what it needs per task is worked out once.
struct HeldTemplate: TableRow {
    let id: TemplateID
    private(set) var template: TaskTemplate
    let session: SessionHandle
    private(set) var method: String
    /// Whether its program travels with the session, as the last input.
    let hasProgram: Bool
    /// Where its ready attempts wait; `nil` when they can't run here.
    let lane: LaneHandle?
    /// Why no attempt of it can run here.
    private(set) var problem: TaskError?
    var learned = LearnedDuration()
    /// The registration of its subworkers that it was last checked against; 0 for none.
    var checkedRegistration: UInt32 = 0
    var registrationProblem: TaskError?
    /// What a job of it is expected to put into the store: the most that one did; all there is when one found no room.
    var outputBytesExpected: UInt64 = 0

    init(id: TemplateID, template: TaskTemplate, session: SessionHandle, lane: LaneHandle?, problem: TaskError?) {
        self.id = id
        self.template = template
        self.session = session
        method = String(template.method)
        hasProgram = template.program != nil
        self.lane = lane
        self.problem = problem
    }

    mutating func vacate() {
        template = TaskTemplate(type: "")
        method = ""
        problem = nil
        registrationProblem = nil
    }

    var cpus: UInt32 { template.resources.cpus }
    var constantCount: Int { template.constants.count }
    var outputCount: Int { template.outputs.count }
}
