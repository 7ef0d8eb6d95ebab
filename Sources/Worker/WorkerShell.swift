import CLinux
import Glibc
import Link
import TaskModel
import Transport
import Wire
import WorkerCore

/// What carries out the core's effects: processes, the store, transfers. It decides nothing.
///
/// Belongs to the loop's thread. What it learns becomes `events`, which the loop gives to the core.
final class WorkerShell {
    let options: WorkerOptions
    let hostName: String
    let store: Store
    let mailbox: Mailbox
    let pool: BlockingPool
    /// One thread: programs that wait for their directory don't wait behind a disk.
    let spillPool = BlockingPool(threadCount: 1)
    /// Long copies to disk end early: nobody wants them any more.
    private let isEnding = StopFlag()
    let fetcher: Fetcher
    let epoll: Int32
    let nullDevice: Int32
    /// Whether every child of this process is the worker's, orphans included.
    let isReaper: Bool
    /// For the parent; `nil` without one.
    let record: RunRecord?

    var events: ContiguousArray<WorkerEvent> = []
    var timers = Timers()
    var codec = SubworkerCodec()
    var templates: [TemplateID: TemplateEntry] = [:]
    var jobs: [JobToken: Job] = [:]
    var subworkers: [SubworkerID: SubworkerProcess] = [:]
    var sessionPrograms: [SessionProgram: ProgramPlace] = [:]
    /// Those with answers that are still worked on.
    var endedSubworkers: [SubworkerID: EndedSubworker] = [:]
    /// Every process that was started and not reaped.
    var owners: [pid_t: ProcessOwner] = [:]
    /// Programs that ended and left others in their group.
    var lingering: Set<JobToken> = []
    /// Directories that are to be removed.
    var endedPrograms: ContiguousArray<PreparedProgram> = []
    /// In memory, made ahead.
    var spareDirectories: ContiguousArray<ProgramDirectory> = []
    /// Since `tidyPrograms`.
    var startedProgramCount = 0
    /// Subworkers with something to send, in the order in which it came up.
    var unsent: ContiguousArray<SubworkerID> = []
    /// Orphans of these are killed.
    var sweeps: [Sweep] = []
    var isTrashBeingEmptied = false
    var isWatchingLogs = false
    /// Oldest first.
    var endedLogs: ContiguousArray<String> = []
    var hasNewTrash = false
    /// How often the core has asked for it to go.
    private var askedTrashCount = 0
    private var hasNewFetches = false
    /// What sockets give is read here first.
    let receiveBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 * 1024, alignment: 16)
    private let environments = EnvironmentCache()

    init(
        options: WorkerOptions, hostName: String, store: Store, mailbox: Mailbox, fetcher: Fetcher, isReaper: Bool = true, record: RunRecord? = nil
    ) throws(SystemError) {
        self.options = options
        self.hostName = hostName
        self.store = store
        self.mailbox = mailbox
        self.fetcher = fetcher
        self.isReaper = isReaper
        self.record = record
        pool = BlockingPool()
        epoll = try check(rain_epoll(), "epoll_create")
        nullDevice = try check(rain_openat(AT_FDCWD, "/dev/null", O_RDWR, 0), "open", "/dev/null")
    }

    deinit {
        receiveBuffer.deallocate()
        _ = close(epoll)
        _ = close(nullDevice)
    }

    func entry(_ id: TemplateID) -> TemplateEntry? { templates[id] }

    func environment(_ additions: [String]) -> ProgramEnvironment { environments.environment(additions) }

    // MARK: Effects

    /// Those of the store; `send`, `reconnect`, `welcomed` and `refused` are the loop's.
    func perform(_ effect: WorkerEffect) {
        switch effect {
        case .send, .reconnect, .welcomed, .refused: break
        case .defineTemplate(let id, let template): templates[id] = TemplateEntry(template)
        case .forgetSession(let session): forget(session)
        case .startSubworker(let id, let command, let program): startSubworker(id, command, program: program)
        case .call(let id, let calls): call(id, calls)
        case .recall(let id, let slots): recall(id, slots)
        case .dropCached(let id, let replicas): dropCached(id, replicas)
        case .cancelCall(let id, let slot): cancelCall(id, slot)
        case .measureMemory(let id): measureMemory(id)
        case .stopSubworker(let id, let isKilled): stopSubworker(id, isKilled: isKilled)
        case .grant(let id, let file, let sizeBytes, let heldBytes, let grant): self.grant(id, file, sizeBytes, heldBytes, grant)
        case .runJob(let token, let request):
            record?.begin(request.attempt, job: token)
            runJob(token, request)
        case .stopJob(let token): stopJob(token)
        case .fetch(let token, let input):
            fetcher.fetch(token, input)
            hasNewFetches = true
        case .alias(let token, let from, let to):
            do throws(SystemError) {
                try store.alias(from: from, to: to)
                events.append(.aliased(token, nil))
            } catch {
                guard error.code != EPERM || !store.isTree(from) else { return aliasDirectory(token, from, to) }
                events.append(.aliased(token, store.taskError(error, doing: "object \(to.object) could not be made")))
            }
        case .write(let token, let files): write(token, files)
        case .spill(let replica):
            spillPool.run { [store, mailbox, isEnding] in
                do throws(SystemError) {
                    let isDone = try store.spill(replica, stop: isEnding)
                    if !isDone { mailbox.post(.event(.foundDamaged([replica]))) }
                    mailbox.post(.event(.spilled(replica, isDone: isDone)))
                } catch {
                    if !isEnding.isSet { writeNote("object \(replica.object) can't be moved from memory to disk: \(error)") }
                    mailbox.post(.event(.spilled(replica, isDone: false)))
                }
            }
        case .remove(let replicas):
            for replica in replicas where store.remove(replica) { hasNewTrash = true }
            fetcher.holder.checksums.remove(replicas)
        case .emptyTrash:
            hasNewTrash = true
            askedTrashCount += 1
        case .note(let text): writeNote(text)
        }
    }

    /// Each of its files gets a second name: not for the loop.
    private func aliasDirectory(_ token: AliasToken, _ from: Replica, _ to: Replica) {
        pool.run { [store, mailbox] in
            var failure: TaskError?
            do throws(TreeError) { try store.aliasTree(from: from, to: to) } catch {
                let error = error.systemError
                if error.code == ESTALE { mailbox.post(.event(.foundDamaged([from]))) }
                failure = store.taskError(error, doing: "object \(to.object) could not be made")
            }
            mailbox.post(.event(.aliased(token, failure)))
        }
    }

    /// There may be tens of thousands: not for the loop.
    private func write(_ token: WriteToken, _ files: [FileToWrite]) {
        pool.run { [store, mailbox] in
            var isOnDisk: [Bool] = []
            do throws(SystemError) {
                for file in files { isOnDisk.append(try store.write(file.bytes, as: file.replica)) }
                mailbox.post(.event(.written(token, .stored(isOnDisk: isOnDisk))))
            } catch {
                for file in files.prefix(isOnDisk.count) { _ = store.remove(file.replica) }
                let what =
                    "object \(files[isOnDisk.count].replica.object), one of \(files.count) small outputs that are too much for one message, could not be stored"
                mailbox.post(.event(.written(token, .failed(store.taskError(error, doing: what)))))
            }
        }
    }

    private func forget(_ session: SessionID) {
        templates = templates.filter { $0.key.session != session }
        for subworker in subworkers.values { subworker.forgetTemplates(of: session) }
        forgetPrograms(of: session)
        if store.forget(session) { hasNewTrash = true }
        fetcher.holder.checksums.remove(session)
        sweepOrphans(Sweep(session: session))
    }

    /// The end of a round: one write for each subworker, one job for what is in the trash, fetches that go together.
    func finishRound() {
        if hasNewFetches {
            hasNewFetches = false
            fetcher.start()
        }
        var ids: ContiguousArray<SubworkerID> = []
        swap(&ids, &unsent)
        for id in ids { if let subworker = subworkers[id] { flush(subworker) } }
        tidyPrograms()
        if hasNewTrash && !isTrashBeingEmptied {
            hasNewTrash = false
            isTrashBeingEmptied = true
            let askedCount = askedTrashCount
            askedTrashCount = 0
            pool.run { [store, mailbox] in
                store.emptyTrash()
                mailbox.post(.trashEmptied(askedCount: askedCount))
            }
        }
    }

    // MARK: What happened

    func receive(_ message: LoopMessage) {
        switch message {
        case .event(.jobEnded(let token, let result)): endJob(token, result)
        case .event(let event): events.append(event)
        case .prepared(let token, let result): programPrepared(token, result)
        case .answered(let id, let answer): directoriesAccepted(id, answer)
        case .programPlaced(let key, let result): programPlaced(key, result)
        case .trashEmptied(let askedCount):
            isTrashBeingEmptied = false
            for _ in 0..<askedCount { events.append(.trashEmptied) }
        }
    }

    func timerFired(_ kind: Timers.Kind) {
        switch kind {
        case .sleepOver(let token): sleepOver(token)
        case .groupDue(let token): programGroupIsOverdue(token)
        case .sweepAgain: sweepAgain()
        case .endSubworker(let id): endSubworker(id)
        case .trimLogs: trimLogs()
        case .reopen: break
        }
    }

    /// Takes every child that has ended.
    func reapChildren() {
        if isReaper {
            while case let pid = rain_ended_child(-1), pid > 0 { reap(pid) }
        } else {
            for pid in Array(owners.keys) where rain_ended_child(pid) > 0 { reap(pid) }
        }
        if !lingering.isEmpty { checkLingering() }
    }

    private func reap(_ pid: pid_t) {
        let owner = owners.removeValue(forKey: pid)
        // What it leaves in its group, as long as no other process can have the number.
        if owner != nil { kill(-pid, SIGKILL) }
        var ended = rain_ended()
        guard rain_reap(pid, &ended) == 1 else { return }
        switch owner {
        case .program(let token): programEnded(token, ended)
        case .subworker(let id): subworkerProcessEnded(id, ended)
        case nil: break  // An orphan that was given to us.
        }
    }

    /// Kills everything that this process started. Nothing may be used afterwards.
    func shutDown() {
        for job in jobs.values { job.stop() }
        if isReaper {
            endAllChildren(within: 5_000_000_000)
        } else {
            for pid in owners.keys {
                kill(-pid, SIGKILL)
                while waitpid(pid, nil, 0) < 0 && errno == EINTR {}
            }
        }
        isEnding.set()
        pool.close()
        spillPool.close()
    }
}

enum ProcessOwner {
    case program(JobToken)
    case subworker(SubworkerID)
}

/// A template of the session's, and what the shell works out of it once.
final class TemplateEntry {
    let template: TaskTemplate
    private var planned: Result<(plan: ProgramPlan, environment: ProgramEnvironment), TaskError>?
    init(_ template: TaskTemplate) { self.template = template }

    /// For a template of type `builtin/run`.
    func program(_ cache: (_ additions: [String]) -> ProgramEnvironment) throws(TaskError) -> (plan: ProgramPlan, environment: ProgramEnvironment) {
        if let planned { return try planned.get() }
        do throws(TaskError) {
            let plan = try ProgramPlan(config: template.config)
            let found = (plan, cache(plan.environment))
            planned = .success(found)
            return found
        } catch {
            planned = .failure(error)
            throw error
        }
    }
}

/// One environment for each set of additions, most of them empty.
final class EnvironmentCache {
    private var known: [[String]: ProgramEnvironment] = [:]
    func environment(_ additions: [String]) -> ProgramEnvironment {
        if let found = known[additions] { return found }
        // A client that makes up a new environment for every template must not fill the memory.
        if known.count > 256 { known.removeAll() }
        let made = ProgramEnvironment(additions)
        known[additions] = made
        return made
    }
}
