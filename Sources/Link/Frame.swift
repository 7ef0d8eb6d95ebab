import TaskModel

/// One message of the control plane, either way: what the Link at one end sends to the Link at the other.
package enum Frame<Payload: Equatable & Sendable>: Equatable, Sendable {
    case hello(Hello)
    case welcome(Welcome)
    case refused(reason: String)
    case batch(Batch<Payload>)
    /// The last frame of a worker that ends on purpose: nothing runs there any more, and what it holds goes.
    case goodbye
}

/// The first frame of a worker.
package struct Hello: Equatable, Sendable {
    package var protocolVersion: UInt16
    /// Random, made when the worker's process starts: two processes on one machine are two incarnations.
    package var incarnation: UInt64
    /// Random, made by the parent that starts the worker's processes one after the other: a new incarnation of a place means that the
    /// one before is gone. 0 for a worker without a parent.
    package var place: UInt64
    /// The epoch that the worker last heard of; `nil` for a fresh one.
    package var knownEpoch: ServerEpoch?
    /// As which that server welcomed it. A worker that was given up is welcomed as another, and both count their batches from 1.
    package var knownWorker: WorkerID?
    /// The last numbered batch that the worker took as that.
    package var lastReceived: UInt64
    package var description: WorkerDescription
    /// The process of its place before it, when that ended before its time.
    package var predecessor: Predecessor?
    package init(
        protocolVersion: UInt16 = linkProtocolVersion, incarnation: UInt64, place: UInt64 = 0, knownEpoch: ServerEpoch?,
        knownWorker: WorkerID? = nil, lastReceived: UInt64, description: WorkerDescription, predecessor: Predecessor? = nil
    ) {
        self.protocolVersion = protocolVersion
        self.incarnation = incarnation
        self.place = place
        self.knownEpoch = knownEpoch
        self.knownWorker = knownWorker
        self.lastReceived = lastReceived
        self.description = description
        self.predecessor = predecessor
    }
}

/// A worker's process that its parent has seen end.
package struct Predecessor: Equatable, Sendable {
    /// How, for people: `signal 9 (SIGKILL)`.
    package var end: String
    /// What it ran then.
    package var running: [AttemptID]
    package init(end: String, running: [AttemptID]) {
        self.end = end
        self.running = running
    }
}

package let linkProtocolVersion: UInt16 = 3

/// What a worker says of itself.
package struct WorkerDescription: Equatable, Sendable {
    package var hostName: String
    package var processID: UInt32
    package var cpus: UInt32
    /// Where it serves objects. An empty host stands for the address that its control connection comes from.
    package var dataEndpoint: Endpoint
    /// Which memory tier its store uses, for people: `tmpfs /dev/shm`, `disk /work/…`.
    package var store: String
    /// Names of the subworkers that it offers to every session; `builtin` is always there, and not among them. Of C functions that it has
    /// declared also the libraries, `ffi/LIBRARY`; `ffi/` when any may be there.
    package var subworkers: [String]
    package init(hostName: String, processID: UInt32, cpus: UInt32, dataEndpoint: Endpoint, store: String, subworkers: [String] = []) {
        self.hostName = hostName
        self.processID = processID
        self.cpus = cpus
        self.dataEndpoint = dataEndpoint
        self.store = store
        self.subworkers = subworkers
    }

    /// - Parameter name: of a subworker, or `ffi/LIBRARY`.
    package func offers(_ name: Substring) -> Bool {
        subworkers.contains { $0 == name || ($0.hasSuffix("/") && name.hasPrefix($0)) }
    }
}

/// The server's answer to a hello.
package struct Welcome: Equatable, Sendable {
    package var epoch: ServerEpoch
    package var worker: WorkerID
    /// The last numbered batch that the server took from this incarnation; 0 for a new worker, which then forgets everything.
    package var lastReceived: UInt64
    /// Signs requests of the data plane; 32 bytes. Follows from the server's key and its journal, and so tells servers apart that count alike.
    package var dataSecret: [UInt8]
    /// The server was started again and knows this worker from before: the worker keeps what it has and hands it over.
    package var isRestored: Bool
    package init(epoch: ServerEpoch, worker: WorkerID, lastReceived: UInt64, dataSecret: [UInt8], isRestored: Bool = false) {
        self.epoch = epoch
        self.worker = worker
        self.lastReceived = lastReceived
        self.dataSecret = dataSecret
        self.isRestored = isRestored
    }
}

package struct Batch<Payload: Equatable & Sendable>: Equatable, Sendable {
    /// Of the server; a batch of another epoch is dropped.
    package var epoch: ServerEpoch
    /// Of the worker, either way; a batch of another incarnation is dropped.
    package var incarnation: UInt64
    /// Counted from 1 in each direction; 0 for one that only acknowledges or shows life.
    package var sequence: UInt64
    /// Cumulative: everything up to here has been taken for good (by the server: committed).
    package var acknowledged: UInt64
    package var payload: ContiguousArray<Payload>
    package init(
        epoch: ServerEpoch, incarnation: UInt64, sequence: UInt64, acknowledged: UInt64, payload: ContiguousArray<Payload> = []
    ) {
        self.epoch = epoch
        self.incarnation = incarnation
        self.sequence = sequence
        self.acknowledged = acknowledged
        self.payload = payload
    }
}

package typealias WorkerToServerFrame = Frame<WorkerMessage>
package typealias ServerToWorkerFrame = Frame<ServerMessage>
