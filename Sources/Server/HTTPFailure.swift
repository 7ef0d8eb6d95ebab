import Glibc
import HTTPTypes
import ServerCore

/// An answer of the client plane that is no success.
struct HTTPFailure: Error, Sendable {
    var status: HTTPResponse.Status
    /// Stable, for programs.
    var code: String
    /// For people: what, which, and what to do.
    var message: String
    var failure: TaskFailure?
    var headers: HTTPFields = [:]

    init(_ status: HTTPResponse.Status, _ code: String, _ message: String, failure: TaskFailure? = nil) {
        self.status = status
        self.code = code
        self.message = message
        self.failure = failure
    }

    init(_ error: RequestError) {
        let status: HTTPResponse.Status =
            switch error.code {
            case .badSubmit: .badRequest
            case .badToken: .unauthorized
            case .unknownSession, .unknownTask, .unknownObject, .unknownTemplate: .notFound
            case .sessionClosed, .sessionFailed, .conflict, .objectDropped, .notKept, .cancelled, .taskFailed: .conflict
            case .tooLarge: .contentTooLarge
            case .journal: .serviceUnavailable
            }
        self.init(status, error.code.rawValue, error.message, failure: error.failure)
    }

    static func badRequest(_ message: String) -> HTTPFailure { HTTPFailure(.badRequest, "bad_request", message) }

    static let stopping = HTTPFailure(.serviceUnavailable, "server_stopping", "the server is stopping: start it again and repeat the request")

    /// The client isn't there to read it.
    static let clientGone = HTTPFailure(.badRequest, "client_gone", "the connection was closed before the request was complete")

    /// A call of the disk failed.
    static func disk(_ action: String, _ code: Int32) -> HTTPFailure {
        let reason = String(cString: strerror(code))
        if code == ENOSPC || code == EDQUOT {
            return HTTPFailure(.init(code: 507), "disk_full", "cannot \(action): \(reason); free some space at the server")
        }
        return HTTPFailure(.internalServerError, "disk_error", "cannot \(action): \(reason)")
    }

    func json() -> [UInt8] {
        var writer = JSONWriter()
        writer.raw("{\"error\":{\"code\":")
        writer.string(code)
        writer.raw(",\"message\":")
        writer.string(message)
        if let failure {
            writer.raw(",\"failure\":")
            writer.failure(failure)
        }
        writer.raw("}}\n")
        return writer.bytes
    }
}
