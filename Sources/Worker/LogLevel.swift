/// How much subworkers log, in the numbers of include/subworker.capnp.
package enum LogLevel: UInt8, CaseIterable, Sendable {
    case error = 1, warning, info, debug

    package var name: String {
        switch self {
        case .error: "error"
        case .warning: "warning"
        case .info: "info"
        case .debug: "debug"
        }
    }
    package init?(_ name: String) {
        guard let level = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = level
    }
}
