import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// The C library asks for room, the shell passes that on and hands out directories.
@Suite(.serialized) struct ReserveTests {
    private static let id = SubworkerID(4)

    /// A call that makes 1 MiB runs, with a credit of 64 KiB, and has asked for room.
    private func asking() throws -> (harness: Harness, request: JobRequest, file: UInt32) {
        let harness = try Harness(memoryBytes: 1 << 20)
        harness.shell.perform(.startSubworker(Self.id, try Bag.command))
        _ = try harness.wait { if case .subworkerRegistered(Self.id, _) = $0 { true } else { nil } }
        let request = harness.request(harness.define("bag/large", outputs: ["b"]))
        harness.shell.perform(.call(Self.id, [CallRequest(slot: 2, job: request)]))
        harness.shell.finishRound()
        let (slot, file, size) = try harness.wait { event in
            if case .reserve(Self.id, let slot, let file, let size) = event { (slot, file, size) } else { nil }
        }
        #expect(slot == 2 && size == 1 << 20)
        return (harness, request, file)
    }

    private func answer(_ harness: Harness, _ file: UInt32, sizeBytes: UInt64 = 1 << 20, _ grant: Grant) throws -> CallAnswer.Result {
        harness.shell.perform(.grant(Self.id, file: file, sizeBytes: sizeBytes, heldBytes: 0, grant))
        harness.shell.finishRound()
        return try harness.wait { if case .callsAnswered(Self.id, let answers) = $0 { answers[0].result } else { nil } }
    }

    @Test(arguments: [Grant.memory, .disk]) func `an output is made where room was granted, and taken from there`(grant: Grant) throws {
        let (harness, request, file) = try asking()
        let isOnDisk = grant == .disk
        #expect(try answer(harness, file, grant) == .outputs([LocalOutput(value: .stored(sizeBytes: 1 << 20, isOnDisk: isOnDisk))]))
        let replica = harness.shell.output(request, 0)
        #expect(harness.store.path(replica).hasPrefix(harness.directory + (isOnDisk ? "/disk/" : "/store/")))
        #expect(try harness.store.open(replica).read(count: 2) == Array("xx".utf8))
        harness.shell.perform(.stopSubworker(Self.id, isKilled: true))
        _ = try harness.wait { if case .subworkerEnded(Self.id, _, _, _) = $0 { true } else { nil } }
        #expect(names(in: harness.directory + "/disk/staging").isEmpty && harness.stagedFiles.isEmpty)
    }

    @Test func `what is refused fails the task with the reason, and the subworker goes on`() throws {
        let (harness, _, file) = try asking()
        guard case .failed(let error) = try answer(harness, file, .refused(reason: "not today")) else { throw Harness.Unexpected() }
        #expect(error.message.contains("not today"), "\(error.message)")
        let size = harness.request(harness.define("bag/size", outputs: ["n"]), inputs: [try harness.input("xyz")])
        harness.shell.perform(.call(Self.id, [CallRequest(slot: 0, job: size)]))
        harness.shell.finishRound()
        let result = try harness.wait { if case .callsAnswered(Self.id, let answers) = $0 { answers[0].result } else { nil } }
        #expect(result == .outputs([LocalOutput(value: .inline(Array("3".utf8)))]))
    }

    @Test func `what the disk has no room for is refused with both limits`() throws {
        let (harness, _, file) = try asking()
        guard case .failed(let error) = try answer(harness, file, sizeBytes: 1 << 60, .disk) else { throw Harness.Unexpected() }
        #expect(error.message.contains("(--store-memory)") && error.message.contains("are missing there"), "\(error.message)")
    }
}
