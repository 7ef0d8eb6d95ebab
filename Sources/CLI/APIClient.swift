import FoundationEssentials
import Glibc
import Transport

/// The calls of the client plane (docs/rest-api.md) that the command line makes.
struct APIClient {
    let host: String
    let port: UInt16
    let accessPath: String
    /// Nobody said where the server is, and none is known.
    private let isGuess: Bool
    private let token: String

    init(_ options: ServerAddressOptions) throws(CLIError) {
        let started = try RunDirectory().started().map(\.record).first { $0.role == .server && $0.port != nil }
        let address = options.server ?? HostAndPort(host: started?.host ?? "localhost", port: started?.port)
        host = address.host
        port = address.port ?? 7210
        isGuess = options.server == nil && started == nil
        do {
            accessPath = try options.access ?? AccessFile.path(inStateDirectory: stateDirectory())
            token = try AccessFile.load(path: accessPath).clientToken
        } catch let error as TransportError {
            throw .transport(error)
        } catch let error as CLIError {
            throw error
        } catch {
            throw .malformed(what: "an access file", path: options.access ?? "access.toml", reason: "\(error)")
        }
    }

    var url: String { "http://\(host.contains(":") ? "[\(host)]" : host):\(port)" }

    /// How long a server may be silent; `RAIN_PATIENCE` in seconds says otherwise.
    static let patienceSeconds: Double = {
        guard let text = getenv("RAIN_PATIENCE"), let seconds = Double(String(cString: text)), seconds >= 0.1, seconds <= 1e6 else { return 30 }
        return seconds
    }()

    /// A connection on which every answer has its bound: see `HTTPConnection.mayTakeLong` for those that wait for something.
    func connect(timeoutSeconds: Double = patienceSeconds) throws(CLIError) -> HTTPConnection {
        do throws(CLIError) {
            return try HTTPConnection(host: host, port: port, timeoutSeconds: timeoutSeconds, isServerAlive: { answers(timeoutSeconds: timeoutSeconds) })
        } catch {
            if isGuess, case .noServer(let address, let reason) = error { throw .noneStarted(address, reason: reason) }
            throw error
        }
    }

    /// Whether the server says anything, to a request that takes it no time.
    func answers(timeoutSeconds: Double = patienceSeconds) -> Bool {
        guard var probe = try? HTTPConnection(host: host, port: port, timeoutSeconds: timeoutSeconds) else { return false }
        return (try? probe.request("GET", "/api/v1/sessions", headers: headers)) != nil
    }

    var headers: [(String, String)] { [("Authorization", "Bearer \(token)")] }

    /// One request and its whole answer, which must be a success.
    ///
    /// - Parameter mayTakeLong: it waits for tasks or processes.
    func call(
        _ connection: inout HTTPConnection, _ method: String, _ path: String, body: [UInt8]? = nil, mayTakeLong: Bool = false
    ) throws(CLIError) -> [UInt8] {
        connection.mayTakeLong = mayTakeLong
        defer { connection.mayTakeLong = false }
        let head = try connection.request(method, "/api/v1\(path)", headers: headers, body: body)
        let answer = try connection.readBody()
        try check(head, answer)
        return answer
    }

    /// Turns an answer that is no success into an error.
    func check(_ head: HTTPHead, _ body: [UInt8]) throws(CLIError) {
        guard head.status / 100 != 2 else { return }
        guard let answer = try? JSONDecoder().decode(ErrorAnswer.self, from: Data(body)) else {
            throw .refused(status: head.status, message: String(decoding: body.prefix(400), as: UTF8.self), accessPath: accessPath)
        }
        if let failure = answer.error.failure { throw .taskFailed(failure.text) }
        throw .refused(status: head.status, message: answer.error.message, accessPath: accessPath)
    }

    func decode<Answer: Decodable>(_ type: Answer.Type, _ body: [UInt8]) throws(CLIError) -> Answer {
        do {
            return try JSONDecoder().decode(type, from: Data(body))
        } catch {
            throw .badAnswer(url, reason: "\(error)")
        }
    }
}

func encodeJSON(_ value: some Encodable) throws(CLIError) -> [UInt8] {
    do {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        return Array(try encoder.encode(value))
    } catch {
        throw .malformed(what: "JSON", path: "a request", reason: "\(error)")
    }
}

struct ErrorAnswer: Decodable {
    struct Detail: Decodable {
        var code: String
        var message: String
        var failure: FailureAnswer?
    }
    var error: Detail
}

/// Why a task failed, as the server tells it.
struct FailureAnswer: Decodable {
    var task: UInt32?
    var name: String?
    var type: String?
    var origin: String?
    var cause: String?
    var message: String?
    var detail: String?
    var debug: String?
    var host: String?

    private enum CodingKeys: String, CodingKey { case task, name, type, origin, cause, message, detail, debug, host }

    /// All of it for people, the message first.
    var text: String {
        var lines = ["task \(task.map(String.init) ?? "?") \"\(name ?? type ?? "")\" failed (\(cause ?? "unknown cause")): \(message ?? "no message")"]
        if let detail, !detail.isEmpty { lines.append(detail.trimmedEnd) }
        if let debug, !debug.isEmpty { lines.append("debug lines:\n\(debug.trimmedEnd)") }
        if let type { lines.append("type: \(type)") }
        if let host, !host.isEmpty { lines.append("host: \(host)") }
        if let origin, !origin.isEmpty { lines.append("made at: \(origin)") }
        return lines.joined(separator: "\n")
    }
}

struct StatusAnswer: Decodable {
    struct Worker: Decodable {
        var worker: String
        var host: String
        var pid: Int32
        var cpus: Int
        var running: Int
        var queued: Int
        var objects: Int
        var store: String?
        /// `nil` when it did not answer.
        var transfers: Transfers?
    }
    struct Transfers: Decodable {
        var pulledBytes: UInt64
        var servedBytes: UInt64

        enum CodingKeys: String, CodingKey {
            case pulledBytes = "pulled_bytes"
            case servedBytes = "served_bytes"
        }
    }
    /// Through the server.
    struct Traffic: Decodable {
        var uploadedBytes: UInt64
        var fromWorkersBytes: UInt64
        var toWorkersBytes: UInt64
        var toClientsBytes: UInt64

        enum CodingKeys: String, CodingKey {
            case uploadedBytes = "uploaded_bytes"
            case fromWorkersBytes = "from_workers_bytes"
            case toWorkersBytes = "to_workers_bytes"
            case toClientsBytes = "to_clients_bytes"
        }
    }
    var version: String
    var epoch: Int
    var host: String
    var pid: Int32
    /// Where workers join.
    var controlPort: UInt16
    var uptimeSeconds: Double
    var workers: [Worker]
    var sessions: [SessionAnswer]
    var transfers: Traffic

    private enum CodingKeys: String, CodingKey {
        case version, epoch, host, pid, workers, sessions, transfers
        case controlPort = "control_port"
        case uptimeSeconds = "uptime_s"
    }
}

struct OpenedAnswer: Decodable {
    var session: UInt32
    var resume: String
}

struct SubmittedAnswer: Decodable {
    var firstObject: UInt32
    var tasks: UInt32
    var objects: UInt32

    private enum CodingKeys: String, CodingKey {
        case tasks, objects
        case firstObject = "first_object"
    }
}

extension String {
    var trimmedEnd: String {
        String(reversed().drop { $0.isWhitespace }.reversed())
    }
}
