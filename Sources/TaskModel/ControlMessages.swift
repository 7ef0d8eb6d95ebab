/// What the server tells a worker. Many travel in one Link batch, in order.
package enum ServerMessage: Equatable, Sendable {
    /// Before the first task of a session.
    case session(SessionID, subworkers: [SubworkerCommand])
    /// Before the first task of a template.
    case template(TemplateID, TaskTemplate)
    case assign(Assignment)
    /// Take the attempt back unless it has begun; answered by `revoked`.
    case revoke(AttemptID)
    /// Stop the attempt, begun or not; answered by its outcome (`cancelled`, or the one that came first).
    case cancel(AttemptID)
    /// Forget these replicas; a repeated or unknown one is no error.
    case drop([Replica])
    /// Stop everything of the session and forget it; answered by `sessionClosed` when its last process is gone.
    case closeSession(SessionID)
    /// Values that are too many for the assignment that needs them; held from now on.
    case provide([InputAssignment])
}

/// What a worker tells the server.
package enum WorkerMessage: Equatable, Sendable {
    /// Telemetry: the attempt has begun.
    case started(AttemptID)
    case finished(AttemptID, FinishedAttempt)
    case failed(AttemptID, TaskError)
    case cancelled(AttemptID)
    /// The answer to `revoke`: whether it was taken back before it began.
    case revoked(AttemptID, wasTakenBack: Bool)
    /// The worker now has a replica that it fetched.
    case replicated(Replica)
    case sessionClosed(SessionID)
    /// The worker hasn't got a replica that it was told to fetch: no holder gave it.
    case missing(Replica)

    // The handover to a server that was started again: outcomes that the one before may not have taken, then these.
    /// There is something of the session.
    case knows(SessionID)
    /// The attempt has begun and has no outcome yet. Whatever else the worker was given has not begun and is forgotten.
    case runs(AttemptID)
    case holds([Replica])
    /// That was all.
    case handedOver

    /// Telemetry: how far running attempts are.
    case progress([AttemptProgress])
}

/// One object's bytes of one generation.
package struct Replica: Equatable, Hashable, Sendable {
    package var object: ObjectID
    package var generation: Generation
    package init(object: ObjectID, generation: Generation) {
        self.object = object
        self.generation = generation
    }
    package func _rawHashValue(seed: Int) -> Int { hashOfID(object.packed, generation.packed, seed: seed) }
}

/// A task given to a worker, perhaps before its inputs are there.
package struct Assignment: Equatable, Sendable {
    package var attempt: AttemptID
    package var template: TemplateID
    /// JSON text of the row.
    package var arguments: [UInt8]
    /// Constants of the template first, then the row's inputs.
    package var inputs: [InputAssignment]
    /// The task's outputs are this object and those that follow it, one for each output of the template.
    package var firstOutput: UInt32
    /// Position in a task array, 0 outside one.
    package var arrayIndex: UInt32
    /// Name of the row, empty for the template's.
    package var name: String
    /// How many workers were lost while they ran the task: it may be what ends them.
    package var lossCount: UInt16
    package init(
        attempt: AttemptID, template: TemplateID, arguments: [UInt8] = [], inputs: [InputAssignment] = [], firstOutput: UInt32,
        arrayIndex: UInt32 = 0, name: String = "", lossCount: UInt16 = 0
    ) {
        self.attempt = attempt
        self.template = template
        self.arguments = arguments
        self.inputs = inputs
        self.firstOutput = firstOutput
        self.arrayIndex = arrayIndex
        self.name = name
        self.lossCount = lossCount
    }
}

package struct InputAssignment: Equatable, Sendable {
    package var replica: Replica
    package var sizeBytes: UInt64
    package var contentType: String
    package var isDirectory: Bool
    /// JSON text of the user's attributes. Who holds the object knows them.
    package var attributes: [UInt8]
    package var source: InputSource
    package init(
        replica: Replica, sizeBytes: UInt64 = 0, contentType: String = "", isDirectory: Bool = false, attributes: [UInt8] = [], source: InputSource
    ) {
        self.replica = replica
        self.sizeBytes = sizeBytes
        self.contentType = contentType
        self.isDirectory = isDirectory
        self.attributes = attributes
        self.source = source
    }
}

package enum InputSource: Equatable, Sendable {
    /// The worker has it, or was told of it before on the same Link.
    case held
    /// At most `ControlLimits.inlineBytesMax` bytes.
    case inline([UInt8])
    /// An attempt that was given to the same worker earlier will make it.
    case expect(AttemptID)
    /// Any of these holders serves it.
    case fetch([Endpoint])
}

/// Where a holder serves objects over HTTP: numeric address and port.
package struct Endpoint: Equatable, Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16
    package init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }
    package var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

package struct FinishedAttempt: Equatable, Sendable {
    package var outputs: [FinishedOutput]
    package var startedUnixMicroseconds: UInt64
    package var durationNanoseconds: UInt64
    /// What the task wrote for debugging, one line each.
    package var debug: String
    /// JSON text of the attributes that the task gave itself.
    package var attributes: [UInt8]
    package init(
        outputs: [FinishedOutput] = [], startedUnixMicroseconds: UInt64 = 0, durationNanoseconds: UInt64 = 0, debug: String = "",
        attributes: [UInt8] = []
    ) {
        self.outputs = outputs
        self.startedUnixMicroseconds = startedUnixMicroseconds
        self.durationNanoseconds = durationNanoseconds
        self.debug = debug
        self.attributes = attributes
    }
}

package struct FinishedOutput: Equatable, Sendable {
    package var sizeBytes: UInt64
    /// As the task set it; empty when it did not.
    package var contentType: String
    package var isDirectory: Bool
    /// The bytes, when there are at most `ControlLimits.inlineBytesMax`; then the server serves them itself.
    package var inline: [UInt8]?
    /// JSON text of the user's attributes.
    package var attributes: [UInt8]
    package init(
        sizeBytes: UInt64, contentType: String = "", isDirectory: Bool = false, inline: [UInt8]? = nil, attributes: [UInt8] = []
    ) {
        self.sizeBytes = sizeBytes
        self.contentType = contentType
        self.isDirectory = isDirectory
        self.inline = inline
        self.attributes = attributes
    }
}

/// How a subworker of a name is started: for the life of a session, or of a worker that has it in its configuration.
package struct SubworkerCommand: Equatable, Hashable, Sendable {
    /// The part of a task type before the slash.
    package var name: String
    /// Program and arguments; the program is looked up in the PATH unless it has a slash.
    package var arguments: [String]
    /// `NAME=value`, added to the worker's own environment.
    package var environment: [String]
    /// An object instead of a path; the first of `arguments` is then its name for people.
    package var source: ProgramSource?
    /// How much more memory than after its first call a process may have before another takes its place; `nil`: the worker's own rule.
    package var memoryGrowthBytesMax: UInt64?
    /// How long a process without work is kept; `nil`: the worker's own rule.
    package var idleSecondsMax: UInt32?
    /// It takes `--threads n`, for a process that runs n calls at once, and has functions for which that is said by their template or here, by
    /// the method; `nil`: what runs at once is its own matter.
    package var threadsByMethod: [String: UInt32]?
    package init(name: String, arguments: [String], environment: [String] = [], source: ProgramSource? = nil) {
        self.name = name
        self.arguments = arguments
        self.environment = environment
        self.source = source
    }
}

package enum ControlLimits {
    /// Larger values don't ride on the control plane.
    package static let inlineBytesMax = 4096
    /// A batch is closed before it grows past this; a single larger message travels alone.
    package static let batchBytesMax = 256 * 1024
    /// Of an outcome: small outputs, attributes, texts. It travels in one message, of which none may have more than 16 MiB.
    package static let resultBytesMax = 12 << 20
    /// Of one text of an error.
    package static let errorTextBytesMax = 1 << 20
    /// An assignment with more inline bytes than this is preceded by `provide`.
    package static let assignmentInlineBytesMax = 64 * 1024
    /// Of an assignment without those bytes: content types, attributes and holders of its inputs. As with results, it is one message.
    package static let assignmentBytesMax = 12 << 20
    /// Of one `drop`.
    package static let dropCountMax = 8192
}
