import CLinux
import Glibc
import Journal
import Logging
import NIOCore
import ServerCore
import Synchronization
import TaskModel
import Transport

/// Runs a server until SIGTERM or SIGINT.
///
/// - Returns: the exit code.
package func runServer(_ options: ServerOptions) throws -> Int32 {
    let stopSignals = [SIGTERM, SIGINT]
    let descriptor = rain_signal_pipe(stopSignals, stopSignals.count)
    guard descriptor >= 0 else { throw ServerError.system(call: "rain_signal_pipe", reason: String(cString: strerror(-descriptor))) }
    // A client that goes while we write to it is an error of that write, not the end of the server.
    signal(SIGPIPE, SIG_IGN)
    // A limit on file sizes is an error of the journal or the depot, as a full disk is.
    signal(SIGXFSZ, SIG_IGN)
    let server = try RunningServer(options, stopDescriptor: descriptor)
    return try server.waitUntilStopped()
}

/// A server in this process.
package final class RunningServer: Sendable {
    package let host: String
    package let port: UInt16
    package let controlPort: UInt16
    package let epoch: ServerEpoch
    package let clientToken: String

    private let inbox: ReactorInbox
    private let journal: Journal
    private let depot: Depot
    private let http: HTTPServer
    private let httpTask: Task<Void, Never>
    private let reactor: ReactorThread
    private let logger: Logger

    /// Starts a server; both its ports accept when this returns.
    ///
    /// - Parameter stopDescriptor: becomes readable when it shall stop.
    package init(_ options: ServerOptions, stopDescriptor: Int32? = nil) throws(ServerError) {
        let started = Instant.now
        let logger = StderrLogHandler.makeLogger("rain.server")
        self.logger = logger
        let access = try Self.loadAccess(options, logger)
        let inbox = try ReactorInbox()
        self.inbox = inbox
        try makePrivateDirectory(options.workDirectory)
        journal = try Self.openJournal(options, inbox, logger)
        epoch = journal.epoch
        clientToken = access.access.clientToken
        depot = try Depot(directory: options.workDirectory + "/depot", logger: logger)
        let dataSecret = Self.dataSecret(access, journal)
        var core = ServerCore(
            epoch: journal.epoch, firstSession: journal.firstSession, firstWorker: journal.firstWorker, dataSecret: dataSecret,
            depotEndpoint: Endpoint(host: "", port: options.port))
        let sessions = SessionDirectory()
        try Self.restore(&core, sessions, depot, journal, logger)
        let control = try Self.openControl(options, access)
        (host, controlPort) = (control.host, control.port)
        http = HTTPServer(logger: logger)
        let traffic = ObjectTraffic()
        let plane = ClientPlane(
            inbox: inbox, depot: depot, sessions: sessions, holders: HolderClient(loop: http.loop, dataSecret: dataSecret, traffic: traffic),
            traffic: traffic, token: Array(access.access.clientToken.utf8), dataSecret: dataSecret,
            about: ServerDescription(version: options.version, host: Self.hostName(), pid: getpid(), controlPort: control.port, started: started),
            logger: logger)
        (port, httpTask) = try http.start(host: host, port: options.port, plane: plane)
        // Only now, for port 0: nobody was told before.
        core.depotEndpoint.port = port
        reactor = try ReactorThread(
            Reactor(
                core: core, socket: control, inbox: inbox, journal: journal, depot: depot, sessions: sessions, logger: logger,
                stopDescriptor: stopDescriptor))
        let depot = depot
        _ = http.loop.scheduleRepeatedTask(initialDelay: .seconds(10), delay: .seconds(10)) { _ in depot.sweep() }
        logger.info("listening on \(host): clients at port \(port), workers at port \(controlPort), epoch \(epoch.rawValue)")
        try sayReady(options)
    }

    /// What earlier starts left open goes on: before anybody can ask for it.
    private static func restore(
        _ core: inout ServerCore, _ sessions: SessionDirectory, _ depot: Depot, _ journal: Journal, _ logger: Logger
    ) throws(ServerError) {
        let began = Instant.now
        var recordCount = 0
        do throws(JournalError) {
            let reader = try journal.earlierRecords()
            while let stored = try reader.next() {
                do throws(RestoreError) {
                    try core.restore(stored.record)
                } catch {
                    throw .corrupt(path: journal.path, reason: "record \(stored.number) of epoch \(stored.epoch.rawValue): \(error)")
                }
                recordCount += 1
            }
        } catch { throw .journal(error) }
        let open = core.openSessions
        sessions.restore(open)
        for hash in depot.claim(core.blobsInUse) {
            logger.warning("the upload \(hash) is missing in \(depot.directory): what needs it will fail; put it back there, or submit it again")
        }
        if !open.isEmpty {
            let milliseconds = Instant.now.since(began) / 1_000_000
            logger.info("\(open.count) sessions of earlier starts go on, from \(recordCount) records read in \(milliseconds) ms")
        }
    }

    /// Of one journal, so that who holds it after a restart needs no new one: the server's own and that of the file, for servers that share a key.
    private static func dataSecret(_ access: ServerAccess, _ journal: Journal) -> [UInt8] {
        access.secretKey.derived(for: "rain data plane 1, journal \(journal.identity)").bytes
    }

    private static func loadAccess(_ options: ServerOptions, _ logger: Logger) throws(ServerError) -> ServerAccess {
        do throws(TransportError) {
            let access = try AccessFile.loadOrCreate(stateDirectory: options.stateDirectory)
            for warning in access.access.warnings { logger.warning("\(warning)") }
            return access
        } catch { throw .transport(error) }
    }

    private static func openJournal(_ options: ServerOptions, _ inbox: ReactorInbox, _ logger: Logger) throws(ServerError) -> Journal {
        do throws(JournalError) {
            return try Journal(path: options.workDirectory + "/journal.sqlite") { event in
                switch event {
                case .committed(let number): inbox.post(.event(.committed(through: number)))
                case .failed(let reason): inbox.post(.event(.journalFailed(reason: reason)))
                case .pruningFailed(let reason): logger.warning("closed sessions stay in the journal, which grows until the next start: \(reason)")
                }
            }
        } catch { throw .journal(error) }
    }

    private static func openControl(_ options: ServerOptions, _ access: ServerAccess) throws(ServerError) -> ControlServerSocket {
        do throws(TransportError) {
            return try ControlServerSocket(host: options.host, port: options.controlPort, access: access)
        } catch {
            if case .addressInUse = error {
                throw .portInUse(host: options.host, port: options.controlPort, plane: "workers", option: "--control-port")
            }
            throw .transport(error)
        }
    }

    private static func hostName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        guard gethostname(&name, name.count - 1) == 0 else { return "localhost" }
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private func sayReady(_ options: ServerOptions) throws(ServerError) {
        var writer = JSONWriter()
        writer.raw("{\"ready\": true, \"host\": ")
        writer.string(host)
        writer.raw(", \"port\": ")
        writer.integer(port)
        writer.raw(", \"control_port\": ")
        writer.integer(controlPort)
        writer.raw(", \"pid\": ")
        writer.integer(getpid())
        writer.raw(", \"epoch\": ")
        writer.integer(epoch.rawValue)
        writer.raw("}\n")
        if let path = options.readyFile { try Self.write(writer.bytes, toFile: path) }
        if let descriptor = options.readyDescriptor {
            let line = writer.bytes
            let count = Glibc.write(descriptor, line, line.count)
            // Whoever started the server may have gone meanwhile; that stops nobody else from using it.
            if count != line.count { logger.warning("cannot say on descriptor \(descriptor) that the server is ready: \(lastErrorText())") }
            close(descriptor)
        }
    }

    private static func write(_ bytes: [UInt8], toFile path: String) throws(ServerError) {
        let temporary = "\(path).\(getpid())"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw .ready(target: path, reason: lastErrorText()) }
        let count = Glibc.write(descriptor, bytes, bytes.count)
        close(descriptor)
        guard count == bytes.count, rename(temporary, path) == 0 else {
            let reason = lastErrorText()
            unlink(temporary)
            throw .ready(target: path, reason: reason)
        }
    }

    /// Tells it to stop.
    package func stop() { inbox.post(.stop) }

    /// Waits for its end, then closes everything; call it once.
    package func waitUntilStopped() throws(ServerError) -> Int32 {
        let error = reactor.join()
        logger.info("stopping")
        journal.close()
        http.stopListening()
        httpTask.cancel()
        http.stop()
        depot.stop()
        if let error { throw .transport(error) }
        return 0
    }
}

/// The thread whose main function holds the reactor, and so the core, as a local variable.
private final class ReactorThread: Sendable {
    private let thread: pthread_t
    private let outcome: Outcome

    private final class Outcome: Sendable {
        let error = Mutex<TransportError?>(nil)
    }

    /// Carries the reactor over to its thread, which takes it out.
    private final class Cargo {
        var reactor: Reactor?
        let outcome: Outcome
        init(_ reactor: consuming Reactor, _ outcome: Outcome) {
            self.reactor = consume reactor
            self.outcome = outcome
        }

        func run() {
            guard let reactor = reactor.take() else { return }
            do throws(TransportError) { try reactor.run() } catch { outcome.error.withLock { $0 = error } }
        }
    }

    init(_ reactor: consuming Reactor) throws(ServerError) {
        outcome = Outcome()
        let cargo = Unmanaged.passRetained(Cargo(reactor, outcome))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { context in
                rain_set_name("reactor")
                // The one reference that was made above.
                if let context { Unmanaged<Cargo>.fromOpaque(context).takeRetainedValue().run() }
                return nil
            }, cargo.toOpaque())
        guard code == 0 else {
            cargo.release()
            throw .system(call: "pthread_create", reason: String(cString: strerror(code)))
        }
        self.thread = thread
    }

    func join() -> TransportError? {
        pthread_join(thread, nil)
        return outcome.error.withLock { $0 }
    }
}
