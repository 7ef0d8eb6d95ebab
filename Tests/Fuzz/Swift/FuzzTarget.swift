/// What can be fuzzed, by the name that scripts/fuzz calls it.
enum FuzzTarget: String, CaseIterable {
    case control
    case subworkerPlane = "subworker-plane"
    case submit
    case bodies
    case tar
    case serverCore = "server-core"
    case workerCore = "worker-core"

    func run(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .control: fuzzControl(bytes)
        case .subworkerPlane: fuzzSubworkerPlane(bytes)
        case .submit: fuzzSubmit(bytes)
        case .bodies: fuzzBodies(bytes)
        case .tar: fuzzTar(bytes)
        case .serverCore: ServerCoreFuzzer.run(bytes)
        case .workerCore: WorkerCoreFuzzer.run(bytes)
        }
    }
}
