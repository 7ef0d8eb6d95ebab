import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// A subworker over the C scaffold, built once for all tests.
enum Bag {
    static let built: Result<String, SystemError> = {
        let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
        let target = "/dev/shm/rain-test-bag-\(getpid())"
        let command = "cc -std=c11 -O1 -I\(root)/include \(root)/CSubworker/*.c \(root)/Tests/WorkerTests/Fixtures/bag.c -o \(target) -lpthread"
        atexit { unlink("/dev/shm/rain-test-bag-\(getpid())") }
        return system(command) == 0 ? .success(target) : .failure(SystemError("cc", command, code: EINVAL))
    }()
    static var command: SubworkerCommand { get throws { SubworkerCommand(name: "bag", arguments: [try built.get()]) } }
}

@Suite(.serialized) struct SubworkerTests {
    private static let id = SubworkerID(4)

    private func started(_ command: SubworkerCommand? = nil) throws -> Harness {
        let harness = try Harness()
        harness.shell.perform(.startSubworker(Self.id, try command ?? Bag.command))
        return harness
    }
    private func registered() throws -> (Harness, SubworkerCapabilities) {
        let harness = try started()
        let capabilities = try harness.wait { if case .subworkerRegistered(Self.id, let capabilities) = $0 { capabilities } else { nil } }
        return (harness, capabilities)
    }
    private func ended(_ harness: Harness) throws -> (TaskError, SlotSet) {
        try harness.wait { if case .subworkerEnded(Self.id, let evidence, let running, _) = $0 { (evidence, running) } else { nil } }
    }
    private func shell(_ text: String) -> SubworkerCommand { SubworkerCommand(name: "odd", arguments: ["sh", "-c", text]) }
    /// The answer of one slot.
    private func answer(_ harness: Harness, slot: UInt8) throws -> CallAnswer {
        try harness.wait { event in
            guard case .callsAnswered(Self.id, let answers) = event else { return nil }
            return answers.first { $0.slot == slot }
        }
    }
    private func call(_ harness: Harness, _ request: JobRequest, slot: UInt8 = 0) throws -> CallAnswer.Result {
        harness.shell.perform(.call(Self.id, [CallRequest(slot: slot, job: request)]))
        harness.shell.finishRound()
        return try answer(harness, slot: slot).result
    }

    @Test func `a subworker registers what it can do`() throws {
        let (harness, capabilities) = try registered()
        #expect(capabilities.tasks == ["size", "large", "same", "fail", "crash", "slow"])
        #expect(capabilities.hasControlPage && capabilities.threads >= 1)
        harness.shell.perform(.stopSubworker(Self.id, isKilled: false))
        harness.shell.finishRound()
        #expect(try ended(harness).0.exitCode == 0)
        #expect(harness.stagedFiles.isEmpty && harness.taskDirectories.isEmpty)
    }

    @Test func `a subworker that can't be started leaves nothing`() throws {
        let harness = try started(SubworkerCommand(name: "odd", arguments: ["/no/such/program"]))
        let (evidence, running) = try ended(harness)
        #expect(evidence.cause == .setup && evidence.message.contains("/no/such/program") && running == SlotSet())
        #expect(harness.stagedFiles.isEmpty && harness.taskDirectories.isEmpty && names(in: harness.directory + "/log/subworkers").isEmpty)
    }

    @Test func `inputs come as bytes or as a file, outputs go back as either`() throws {
        let (harness, _) = try registered()
        let size = harness.define("bag/size", outputs: ["n"])
        for count in [0, 10, 5000, 40_000, 3_000_000] {
            let request = harness.request(size, inputs: [try harness.input(String(repeating: "i", count: count))])
            #expect(try call(harness, request) == .outputs([LocalOutput(value: .inline(Array("\(count)".utf8)))]))
        }
        let large = harness.request(harness.define("bag/large", outputs: ["b"]))
        #expect(try call(harness, large) == .outputs([LocalOutput(value: .stored(sizeBytes: 1 << 20))]))
        #expect(try harness.store.open(harness.shell.output(large, 0)).read(count: 2) == Array("xx".utf8))
        let same = harness.request(harness.define("bag/same", outputs: ["b"]), inputs: [try harness.input("x")])
        #expect(try call(harness, same) == .outputs([LocalOutput(value: .sameAsInput(0))]))
    }

    @Test func `many inputs travel with one call`() throws {
        let (harness, _) = try registered()
        let template = harness.define("bag/size", outputs: ["n"])
        let input = try harness.input(String(repeating: "i", count: 100_000))
        let request = harness.request(template, inputs: (0..<600).map { _ in input })
        #expect(try call(harness, request) == .outputs([LocalOutput(value: .inline(Array("100000".utf8)))]))
    }

    @Test func `calls of one message are all answered`() throws {
        let (harness, _) = try registered()
        let template = harness.define("bag/size", outputs: ["n"])
        let input = try harness.input(String(repeating: "i", count: 50_000))
        for _ in 0..<5 {
            let requests = (0..<60).map { CallRequest(slot: UInt8($0), job: harness.request(template, inputs: (0..<9).map { _ in input })) }
            harness.shell.perform(.call(Self.id, ContiguousArray(requests)))
            harness.shell.finishRound()
            var slots: Set<UInt8> = []
            while slots.count < 60 {
                slots.formUnion(try harness.wait { if case .callsAnswered(Self.id, let answers) = $0 { answers.map(\.slot) } else { nil } })
            }
        }
    }

    @Test func `an error has its text and debug lines`() throws {
        let (harness, _) = try registered()
        guard case .failed(let error) = try call(harness, harness.request(harness.define("bag/fail", outputs: ["n"]))) else { throw Harness.Unexpected() }
        #expect(error.cause == .user && error.message == "no luck today" && error.debug.contains("about to fail"))
    }

    @Test func `a crash has its signal and the end of the log, and charges what ran`() throws {
        let (harness, _) = try registered()
        let crash = harness.request(harness.define("bag/crash", outputs: ["n"]))
        let size = harness.request(harness.define("bag/size", outputs: ["n"]), inputs: [try harness.input("x")])
        harness.shell.perform(.call(Self.id, [CallRequest(slot: 9, job: crash), CallRequest(slot: 10, job: size)]))
        harness.shell.finishRound()
        let (evidence, running) = try ended(harness)
        #expect(evidence.cause == .crash && evidence.signal == SIGSEGV)
        #expect(evidence.message.contains("SIGSEGV") && evidence.detail.contains("last words"))
        #expect(running == SlotSet(bits: 1 << 9))
    }

    @Test func `the call that made the process crash is charged, and not those beside it`() throws {
        let (harness, _) = try registered()
        let process = try #require(harness.shell.subworkers[Self.id])
        let slow = harness.define("bag/slow", outputs: ["n"])
        kill(process.pid, SIGSTOP)  // It begins none of them: the test writes their states.
        harness.shell.perform(.call(Self.id, ContiguousArray((0..<4).map { CallRequest(slot: $0, job: harness.request(slow)) })))
        harness.shell.finishRound()
        let words = try #require(rain_map_shared(process.page.descriptor.raw, ControlPage.sizeBytes)).bindMemory(to: UInt32.self, capacity: 1024)
        words[0] = 77  // No state at all, which only a broken subworker writes.
        words[16] = ControlPage.State.done.rawValue
        #expect(process.unansweredCalls() == (SlotSet(bits: 0b0001), SlotSet(bits: 0b0010)))
        for (slot, state) in [ControlPage.State.running, .atFault, .done, .queued].enumerated() { words[slot * 16] = state.rawValue }
        harness.shell.perform(.stopSubworker(Self.id, isKilled: true))
        let (running, begun) = try harness.wait {
            if case .subworkerEnded(Self.id, _, let running, let begun) = $0 { (running, begun) } else { nil }
        }
        #expect(running == SlotSet(bits: 0b0010) && begun == SlotSet(bits: 0b0101))
        munmap(words, ControlPage.sizeBytes)
    }

    @Test func `what has not begun is taken back, and its slot can be used again`() throws {
        let (harness, _) = try registered()
        let slow = harness.define("bag/slow", outputs: ["n"])
        harness.shell.perform(.call(Self.id, ContiguousArray((0..<3).map { CallRequest(slot: $0, job: harness.request(slow)) })))
        harness.shell.finishRound()
        let first = try #require(harness.shell.subworkers[Self.id])
        #expect(eventually { first.page.state(0) == .running })
        harness.shell.perform(.recall(Self.id, slots: SlotSet(bits: 0b111)))
        let taken = try harness.wait { if case .recalled(Self.id, let slots) = $0 { slots } else { nil } }
        #expect(taken == SlotSet(bits: 0b110))
        let size = harness.define("bag/size", outputs: ["n"])
        harness.shell.perform(.call(Self.id, [CallRequest(slot: 1, job: harness.request(size, inputs: [try harness.input("xyz")]))]))
        harness.shell.finishRound()
        #expect(try answer(harness, slot: 0).result == .outputs([LocalOutput(value: .inline(Array("slow".utf8)))]))
        #expect(try answer(harness, slot: 1).result == .outputs([LocalOutput(value: .inline(Array("3".utf8)))]))
    }

    @Test func `one that ends before it registers shows its log`() throws {
        let (evidence, running) = try ended(started(shell("echo no module named x >&2; exit 3")))
        #expect(evidence.cause == .setup && evidence.exitCode == 3 && running.isEmpty)
        #expect(evidence.message.contains("before it registered") && evidence.detail == "no module named x\n")
        #expect(evidence.message.contains("`rain subworker check COMMAND`"))
    }

    @Test func `one that can't be started is named`() throws {
        let (evidence, _) = try ended(started(SubworkerCommand(name: "odd", arguments: ["no-such-program"])))
        #expect(evidence.cause == .setup && evidence.message.contains("'odd'") && evidence.message.contains("'no-such-program' was not found"))
        #expect(try ended(started(SubworkerCommand(name: "odd", arguments: []))).0.message.contains("no command"))
    }

    @Test func `one that talks nonsense is ended`() throws {
        let (evidence, _) = try ended(started(shell("head -c 100000 /dev/urandom >&3; sleep 1000")))
        #expect(evidence.cause == .contract && evidence.message.contains("no message"))
    }

    @Test func `one that closes its socket is ended`() throws {
        let harness = try started(shell("exec 3>&-; sleep 1000 & echo $! >&2; wait"))
        let (evidence, _) = try ended(harness)
        #expect(evidence.signal == SIGKILL)
        let child = try #require(pid_t(evidence.detail.dropLast()))
        #expect(eventually { !isAlive(child) })
    }

    @Test func `another name is refused`() throws {
        let command = SubworkerCommand(name: "odd", arguments: ["sh", "-c", "RAIN_SUBWORKER_NAME=wrong exec \(try Bag.built.get())"])
        let (evidence, _) = try ended(started(command))
        #expect(evidence.cause == .setup && evidence.message.contains("'wrong'") && evidence.message.contains("'odd'"), "\(evidence.message)")
    }

    @Test func `another version is refused with both numbers`() throws {
        // One segment of nine words: a `register` with the version 9 and nothing else.
        var message = [UInt8](repeating: 0, count: 80)
        message[4] = 9
        (message[12], message[14]) = (2, 1)
        (message[36], message[38]) = (1, 4)
        message[40] = 9
        let bytes = message.map { "\\0" + ($0 < 8 ? "0\($0)" : "1\($0 - 8)") }.joined()
        let (evidence, _) = try ended(started(shell("printf '\(bytes)' >&3; cat <&3 >&2")))
        #expect(
            evidence.cause == .setup && evidence.message.contains("speaks version 1 ") && evidence.message.contains("speaks version 9:"),
            "\(evidence.message)")
        #expect(evidence.detail.contains("build subworker 'odd' with the library of this version"), "it was told, too: \(evidence.detail)")
    }

    @Test func `a killed one goes with its group`() throws {
        let harness = try started(shell("sleep 1000 & echo $! >&2; wait"))
        let log = harness.directory + "/log/subworkers/odd-4.log"
        #expect(eventually { ((try? text(of: log)) ?? "").hasSuffix("\n") })
        let child = try #require(pid_t(try text(of: log).dropLast()))
        harness.shell.perform(.stopSubworker(Self.id, isKilled: true))
        #expect(try ended(harness).0.signal == SIGKILL)
        #expect(eventually { !isAlive(child) })
    }
}
