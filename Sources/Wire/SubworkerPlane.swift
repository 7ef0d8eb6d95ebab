import TaskModel

/// What a subworker says to its worker: `ToWorker` of include/subworker.capnp.
package enum FromSubworker: Equatable, Sendable {
    case register(SubworkerRegistration)
    /// In the order in which the calls ended.
    case results([SubworkerResult])
    case pong(UInt64)
    /// Before an output file takes so many bytes; answered by `granted`.
    case reserve(SubworkerReserve)
    /// How far running calls are.
    case progress([SubworkerProgress])
}

package struct SubworkerProgress: Equatable, Sendable {
    /// As the subworker says; check it against the slots that are in use.
    package var slot: UInt32
    package var progress: Progress
    package init(slot: UInt32, progress: Progress) {
        self.slot = slot
        self.progress = progress
    }
}

package struct SubworkerReserve: Equatable, Sendable {
    /// As the subworker says; check it against the slots that are in use.
    package var slot: UInt32
    /// The subworker's number for the file.
    package var file: UInt32
    /// Of the whole file; 0: it is not made after all.
    package var sizeBytes: UInt64
    package init(slot: UInt32, file: UInt32, sizeBytes: UInt64) {
        self.slot = slot
        self.file = file
        self.sizeBytes = sizeBytes
    }
}

package struct SubworkerRegistration: Equatable, Sendable {
    package var protocolVersion: UInt16
    package var name: String
    package var tasks: [SubworkerTask] = []
    /// Takes inputs as descriptors; else it gets paths.
    package var takesDescriptors: Bool = false
    package var hasControlPage: Bool = false
    /// Calls that it runs at once; at least 1.
    package var threads: UInt16 = 1
    package var hasCaching: Bool = false
    /// What speaks, for logs: `csubworker 0.1.0`.
    package var library: String = ""
    package init(protocolVersion: UInt16, name: String) {
        self.protocolVersion = protocolVersion
        self.name = name
    }
}

package struct SubworkerTask: Equatable, Sendable {
    /// Empty: takes every task of the subworker.
    package var name: String
    package var documentation: String
    package var inputs: [String]
    package var outputs: [String]
    package init(name: String, documentation: String = "", inputs: [String] = [], outputs: [String] = []) {
        self.name = name
        self.documentation = documentation
        self.inputs = inputs
        self.outputs = outputs
    }
}

package struct SubworkerResult: Equatable, Sendable {
    /// More debug text is cut, and says so. The C library sends no more by itself.
    package static let debugBytesMax = (1 << 20) + 256
    /// As the subworker says; check it against the slots that are in use.
    package var slot: UInt32
    package var durationNanoseconds: UInt64
    package var debug: String
    package var attributes: [UInt8]
    package var value: Value
    package enum Value: Equatable, Sendable {
        case outputs([SubworkerOutput])
        case failed(message: String, detail: String)
        case cancelled
    }
    package init(slot: UInt32, durationNanoseconds: UInt64 = 0, debug: String = "", attributes: [UInt8] = [], value: Value) {
        self.slot = slot
        self.durationNanoseconds = durationNanoseconds
        self.debug = debug
        self.attributes = attributes
        self.value = value
    }
}

package struct SubworkerOutput: Equatable, Sendable {
    /// Empty: as declared.
    package var contentType: String
    package var attributes: [UInt8]
    package var isDirectory: Bool
    package var value: Value
    package enum Value: Equatable, Sendable {
        case inline([UInt8])
        /// As the subworker says: check that it is in the staging directory before touching it.
        case path(String)
        case sameAsInput(UInt16)
    }
    package init(contentType: String = "", attributes: [UInt8] = [], isDirectory: Bool = false, value: Value) {
        self.contentType = contentType
        self.attributes = attributes
        self.isDirectory = isDirectory
        self.value = value
    }
}

/// What a worker says to a subworker: `ToSubworker` of include/subworker.capnp.
package enum ToSubworker: Equatable, Sendable {
    case welcome(SubworkerWelcome)
    case refused(reason: String)
    case templates([SubworkerTemplate])
    case calls([SubworkerCall])
    case dropCached([Replica])
    /// Slots.
    case cancel([UInt8])
    case ping(UInt64)
    case shutdown
    /// The file is made in this directory.
    case granted(file: UInt32, directory: String)
    case notGranted(file: UInt32, reason: String)
}

package struct SubworkerWelcome: Equatable, Sendable {
    package var protocolVersion: UInt16
    package var workerName: String
    package var stagingDirectory: String
    package var inlineBytesMax: UInt32
    /// What the output files of one call may take together before it has to ask.
    package var creditBytes: UInt64
    /// Messages of progress are understood, which they always are.
    package var takesProgress: Bool
    /// What is worth a line in the log: 1 errors, 2 warnings, 3 information, 4 debugging; 0: not said.
    package var logLevel: UInt8
    package init(
        protocolVersion: UInt16 = subworkerProtocolVersion, workerName: String, stagingDirectory: String, inlineBytesMax: UInt32, creditBytes: UInt64 = 0,
        takesProgress: Bool = true, logLevel: UInt8 = 0
    ) {
        self.protocolVersion = protocolVersion
        self.workerName = workerName
        self.stagingDirectory = stagingDirectory
        self.inlineBytesMax = inlineBytesMax
        self.creditBytes = creditBytes
        self.takesProgress = takesProgress
        self.logLevel = logLevel
    }
}

/// `protocolVersion` of include/subworker.capnp; a test holds the two together.
package let subworkerProtocolVersion: UInt16 = 1

package struct SubworkerTemplate: Equatable, Sendable {
    /// The worker's number for it on this connection.
    package var id: UInt32
    package var method: String
    package var name: String
    package var config: [UInt8]
    package var inputLabels: [String]
    package var outputs: [OutputSpec]
    package var attributes: [UInt8]
    package var constantCount: UInt16
    package init(
        id: UInt32, method: String, name: String = "", config: [UInt8] = [], inputLabels: [String] = [], outputs: [OutputSpec] = [],
        attributes: [UInt8] = [], constantCount: UInt16 = 0
    ) {
        self.id = id
        self.method = method
        self.name = name
        self.config = config
        self.inputLabels = inputLabels
        self.outputs = outputs
        self.attributes = attributes
        self.constantCount = constantCount
    }
}

package struct SubworkerCall: Equatable, Sendable {
    package var slot: UInt8
    /// `SubworkerTemplate.id`.
    package var template: UInt32
    package var attempt: AttemptID
    package var arguments: [UInt8]
    package var inputs: [SubworkerInput]
    package var arrayIndex: UInt32
    /// Of the slot when the call was queued, as on the control page; 0 is not compared.
    package var ticket: UInt32
    package init(
        slot: UInt8, template: UInt32, attempt: AttemptID, arguments: [UInt8] = [], inputs: [SubworkerInput] = [], arrayIndex: UInt32 = 0,
        ticket: UInt32 = 0
    ) {
        self.slot = slot
        self.template = template
        self.attempt = attempt
        self.arguments = arguments
        self.inputs = inputs
        self.arrayIndex = arrayIndex
        self.ticket = ticket
    }
}

package struct SubworkerInput: Equatable, Sendable {
    package var replica: Replica
    package var sizeBytes: UInt64
    package var contentType: String
    package var isDirectory: Bool
    /// Ask the subworker to remember it under its replica.
    package var isKept: Bool
    package var attributes: [UInt8]
    package var location: Location
    package enum Location: Equatable, Sendable {
        case inline([UInt8])
        /// Position among the descriptors that travel with the message.
        case descriptor(UInt16)
        case path(String)
        case cached
    }
    package init(
        replica: Replica, sizeBytes: UInt64 = 0, contentType: String = "", isDirectory: Bool = false, isKept: Bool = false,
        attributes: [UInt8] = [], location: Location
    ) {
        self.replica = replica
        self.sizeBytes = sizeBytes
        self.contentType = contentType
        self.isDirectory = isDirectory
        self.isKept = isKept
        self.attributes = attributes
        self.location = location
    }
}
