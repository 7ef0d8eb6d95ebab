import Glibc
import HTTPTypes
import HummingbirdCore
import NIOCore
import ServerCore
import TaskModel
import Transport

extension ClientPlane {
    func openSession(_ call: Call) async throws(HTTPFailure) -> Response {
        var options = try RequestBodies.sessionOptions(await body(call))
        do throws(TransportError) {
            options.resumeToken = hexText(try randomBytes(16))
        } catch {
            throw HTTPFailure(.internalServerError, "internal_error", error.description)
        }
        options.openedUnixSeconds = unixSeconds()
        let wanted = options
        guard case .sessionOpened(let session, let token) = try await reply(call, { .openSession($0, wanted) }) else { throw Self.mismatch(.done) }
        return Self.json(status: .created) { writer in
            writer.object { writer in
                writer.key("session")
                writer.integer(session.rawValue)
                writer.key("resume")
                writer.string(token)
            }
        }
    }

    func closeSession(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        guard case .done = try await reply(call, { .closeSession($0, session) }) else { throw Self.mismatch(.done) }
        return Self.json { $0.raw("{}") }
    }

    func sessionStatus(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        guard case .sessionStatus(let status) = try await reply(call, { .sessionStatus($0, session) }) else { throw Self.mismatch(.done) }
        return Self.json { $0.session(status) }
    }

    func listSessions(_ call: Call) async throws(HTTPFailure) -> Response {
        guard case .status(let status) = try await reply(call, { .status($0) }) else { throw Self.mismatch(.done) }
        return Self.json { writer in
            writer.object { writer in
                writer.key("sessions")
                writer.array(status.sessions) { $0.session($1) }
            }
        }
    }

    func status(_ call: Call) async throws(HTTPFailure) -> Response {
        guard case .status(let status) = try await reply(call, { .status($0) }) else { throw Self.mismatch(.done) }
        var moved: [WorkerID: [UInt8]]?
        switch try call.parameter("transfers") {
        case nil, "false": break
        case "true", "": moved = await transfers(of: status.workers)
        case let other?: throw .badRequest("transfers is true or false, not \"\(other.prefix(32))\"")
        }
        return Self.json { writer in
            writer.object { writer in
                writer.key("version")
                writer.string(about.version)
                writer.key("epoch")
                writer.integer(status.epoch.rawValue)
                writer.key("host")
                writer.string(about.host)
                writer.key("pid")
                writer.integer(about.pid)
                writer.key("control_port")
                writer.integer(about.controlPort)
                writer.key("uptime_s")
                writer.decimal(Instant.now.since(about.started) / 1_000_000, decimals: 3)
                writer.key("workers")
                writer.array(status.workers) { writer, worker in writer.worker(worker, transfers: moved.map { $0[worker.worker] ?? Array("null".utf8) }) }
                writer.key("sessions")
                writer.array(status.sessions) { $0.session($1) }
                writer.key("transfers")
                traffic.write(to: &writer)
            }
        }
    }

    // MARK: Tasks and objects

    func wait(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        let wanted = try RequestBodies.waiting(await body(call))
        let reply = try await ask(call, canWithdraw: true, timeoutMilliseconds: wanted.timeoutMilliseconds) { .wait($0, session, wanted.tasks) }
        return Self.json { $0.raw(reply == nil ? "{\"done\":false}" : "{\"done\":true}") }
    }

    func cancel(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        let tasks = try RequestBodies.tasks(await body(call))
        // Not taken back when the client goes: it has asked, and the tasks shall stop.
        _ = try await reply(call) { .cancel($0, session, tasks) }
        return Self.json { $0.raw("{}") }
    }

    func setKept(_ call: Call, _ session: SessionID, _ isKept: Bool) async throws(HTTPFailure) -> Response {
        let objects = try RequestBodies.objects(await body(call))
        _ = try await reply(call) { .setKept($0, session, objects, isKept: isKept) }
        return Self.json { $0.raw("{}") }
    }

    func info(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        let wanted = try RequestBodies.info(await body(call))
        var tasks: [TaskInfo] = []
        var objects: [ObjectInfo] = []
        if let selection = wanted.tasks {
            guard case .taskInfos(let infos) = try await reply(call, { .taskInfo($0, session, selection, wanted.filter) }) else {
                throw Self.mismatch(.done)
            }
            tasks = infos
        }
        if let selection = wanted.objects {
            guard case .objectInfos(let infos) = try await reply(call, { .objectInfo($0, session, selection) }) else { throw Self.mismatch(.done) }
            objects = infos
        }
        if wanted.tasks == nil && wanted.objects == nil { _ = try await reply(call) { .sessionStatus($0, session) } }
        return Self.json { writer in
            writer.object { writer in
                writer.key("tasks")
                writer.array(tasks) { $0.task($1) }
                writer.key("objects")
                writer.array(objects) { $0.object($1) }
            }
        }
    }

    // MARK: Submit

    func submit(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        guard let earlier = sessions.outputCounts(of: session) else {
            // The core knows whether it is closed or never was.
            _ = try await reply(call) { .sessionStatus($0, session) }
            throw HTTPFailure(RequestError(.sessionClosed, "session \(session) is closing"))
        }
        let pins = BlobPins(depot)
        defer { pins.end() }
        let result = try await scan(call, earlier, pins)
        try await checkDirectories(of: result.submit)
        guard case .submitted(let receipt) = try await reply(call, { .submit($0, session, result.submit) }) else { throw Self.mismatch(.done) }
        if !receipt.isRepeated {
            sessions.add(result.outputCounts, from: receipt.firstTemplate, to: session)
        }
        return Self.json { $0.receipt(receipt) }
    }

    private func scan(_ call: Call, _ earlier: ContiguousArray<UInt32>, _ pins: BlobPins) async throws(HTTPFailure) -> SubmitScanner.Result {
        var scanner = SubmitScanner(earlierOutputCounts: earlier) { pins.size(of: $0) }
        var byteCount: UInt64 = 0
        do {
            for try await buffer in call.request.body {
                byteCount += UInt64(buffer.readableBytes)
                do throws(RequestError) { try scanner.consume(buffer.readableBytesUInt8Span) } catch { throw HTTPFailure(error) }
            }
        } catch let error as HTTPFailure {
            throw error
        } catch {
            throw .clientGone
        }
        // All or nothing: what a dying client has sent may end between two lines.
        if call.watch.isGone || call.request.headers[.contentLength].map({ $0 != String(byteCount) }) == true { throw .clientGone }
        do throws(RequestError) { return try scanner.finish() } catch { throw HTTPFailure(error) }
    }

    // MARK: Lease

    func lease(_ call: Call, _ session: SessionID) async throws(HTTPFailure) -> Response {
        guard let token = try call.parameter("resume") else {
            throw .badRequest("the lease is asked for with ?resume=TOKEN, which the session's opening answered")
        }
        let mailbox = LeaseMailbox()
        let request = inbox.nextRequest()
        let answer = await withCheckedContinuation { continuation in
            inbox.post(.lease(request, .openLease(request, session, resumeToken: token), mailbox, continuation))
        }
        switch answer {
        case .reply(.lease(let lease)): return streamLease(call, session, lease, mailbox)
        case .reply(.refused(let error)): throw HTTPFailure(error)
        case .reply(let reply): throw Self.mismatch(reply)
        case .withdrawn, .stopping: throw .stopping
        }
    }

    private func streamLease(_ call: Call, _ session: SessionID, _ lease: UInt64, _ mailbox: LeaseMailbox) -> Response {
        let inbox = inbox
        // A client whose machine vanished acknowledges nothing: its connection ends when a beat is that old. It is no error when the
        // socket has no such option; TCP then takes minutes to find out.
        _ = call.channel.setOption(.socket(SocketOptionLevel(IPPROTO_TCP), SocketOptionName(TCP_USER_TIMEOUT)), value: 30_000)
        // Nothing tells a client that leaves from one that dies; a client that means to leave closes its session.
        let token = call.watch.onEnd {
            inbox.post(.event(.leaseLost(session, lease: lease, isClean: false)))
            mailbox.lose()
        }
        let body = ResponseBody { writer in
            let beat = call.loop.scheduleRepeatedTask(initialDelay: .seconds(10), delay: .seconds(10)) { _ in mailbox.beat() }
            defer { beat.cancel() }
            try await writer.write(ByteBuffer(string: "{\"lease\":\(lease)}\n"))
            while true {
                switch await mailbox.next() {
                case .lines(let lines):
                    var text = JSONWriter()
                    for line in lines { text.line(line) }
                    try await writer.write(ByteBuffer(bytes: text.bytes))
                case .beat: try await writer.write(ByteBuffer(string: "\n"))
                case .ended:
                    call.watch.forget(token)
                    try await writer.finish(nil)
                    return
                case .lost: throw ChannelError.inputClosed
                }
            }
        }
        return Response(status: .ok, headers: [.contentType: "application/x-ndjson", .cacheControl: "no-store"], body: body)
    }
}

/// The blobs that a submit names, kept in the depot until the core has it or has refused it.
final class BlobPins {
    private let depot: Depot
    private var hashes: [BlobHash] = []

    init(_ depot: Depot) { self.depot = depot }

    func size(of hash: BlobHash) -> UInt64? {
        guard let size = depot.pin(hash) else { return nil }
        hashes.append(hash)
        return size
    }

    func end() {
        depot.unpin(hashes)
        hashes = []
    }
}
