import Glibc
import Journal
import Transport

/// Why a server doesn't start, or stops; the message says what to do.
package enum ServerError: Error, Sendable, CustomStringConvertible {
    case portInUse(host: String, port: UInt16, plane: String, option: String)
    case cannotListen(host: String, port: UInt16, reason: String)
    case directory(path: String, action: String, reason: String)
    case ready(target: String, reason: String)
    case journal(JournalError)
    case transport(TransportError)
    case system(call: String, reason: String)

    package var description: String {
        switch self {
        case .portInUse(let host, let port, let plane, let option):
            "port \(port) on \(host), for \(plane), is in use: stop what listens there (another server? try rain stop), or give another \(option) (0 takes any free one)"
        case .cannotListen(let host, let port, let reason): "cannot listen on \(host):\(port): \(reason)"
        case .directory(let path, let action, let reason): "cannot \(action) \(path): \(reason); free or repair it, or give another --work-dir"
        case .ready(let target, let reason): "cannot say on \(target) that the server is ready: \(reason)"
        case .journal(let error): error.description
        case .transport(let error): error.description
        case .system(let call, let reason): "\(call) failed: \(reason)"
        }
    }

    static func lastSystem(_ call: String) -> ServerError { .system(call: call, reason: lastErrorText()) }
}

/// What `errno` says now.
func lastErrorText() -> String { String(cString: strerror(errno)) }

/// Makes a directory and what is missing above it, for the user alone.
func makePrivateDirectory(_ path: String) throws(ServerError) {
    do throws(TransportError) { try PrivateFile.makeDirectory(path) } catch {
        guard case .file(let path, let action, let reason) = error else { throw .transport(error) }
        throw .directory(path: path, action: action, reason: reason)
    }
}
