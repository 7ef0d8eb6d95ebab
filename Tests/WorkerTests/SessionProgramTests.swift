import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

/// Where the programs that sessions bring along are copied to.
@Suite(.serialized) struct SessionProgramTests {
    /// A store with its memory and its disk in mounts of their own.
    private final class Place {
        let directory: String
        let store: Store
        init?(memory: String, disk: String) throws {
            directory = try temporaryDirectory()
            let mounts = "mkdir memory disk && mount -t tmpfs -o \(memory) rain-test memory && mount -t tmpfs -o \(disk) rain-test disk"
            guard system("cd \(directory) && (\(mounts)) 2>/dev/null") == 0 else {
                Self.remove(directory)
                return nil
            }
            store = try Store(path: directory + "/memory/store", kind: "test", memoryBytes: 1 << 20, disk: directory + "/disk/rain")
        }
        deinit { Self.remove(directory) }
        private static func remove(_ directory: String) {
            _ = system("umount -l \(directory)/memory \(directory)/disk 2>/dev/null")
            _ = rain_remove_tree(AT_FDCWD, directory)
        }
        var memory: String { directory + "/memory/store" }
        var disk: String { directory + "/disk/rain" }
    }
    private static let mayMount = (try? Place(memory: "size=1m", disk: "size=1m")) != nil

    private static let object = ObjectID(session: SessionID(3), index: 5)
    private let key = SessionProgram(source: ProgramSource(object: object), name: "words")
    /// Exits with 7, and is as large as one pleases.
    private func program(padding: Int = 0, onDisk: Bool = false) -> CarriedProgram {
        let bytes = Array("#!/bin/sh\nexit 7\n".utf8) + [UInt8](repeating: UInt8(ascii: "\n"), count: padding)
        let replica = Replica(object: Self.object, generation: .uploaded)
        return CarriedProgram(LocalInput(replica: replica, sizeBytes: UInt64(bytes.count), value: .inline(bytes)), isOnDisk: onDisk)
    }
    private func exitCode(_ path: String) -> Int32 { system(path) >> 8 & 0xFF }

    @Test func `a program that is copied when its session has gone goes, too`() throws {
        let harness = try Harness()
        let gates = [StopFlag(), StopFlag()]
        defer { for gate in gates { gate.set() } }
        for gate in gates { harness.shell.pool.run { while !gate.isSet { usleep(1000) } } }
        let command = SubworkerCommand(name: key.name, arguments: [key.name], source: key.source)
        harness.shell.perform(.startSubworker(SubworkerID(1), command, program: program()))
        harness.shell.perform(.stopSubworker(SubworkerID(1), isKilled: true))
        harness.shell.perform(.forgetSession(Self.object.session))
        // One thread goes on: the copy, then the tick.
        harness.shell.pool.run { [mailbox = harness.mailbox] in mailbox.post(.event(.tick)) }
        gates[0].set()
        _ = try harness.wait { if case .tick = $0 { true } else { nil } }
        #expect(names(in: harness.store.path + "/objects").isEmpty)
    }

    @Test(.enabled(if: mayMount, "no file system can be mounted here"))
    func `a program lies in memory, or on disk when that is said`() throws {
        let place = try #require(try Place(memory: "size=4m", disk: "size=4m"))
        #expect(place.store.runsProgramsInMemory)
        let path = try place.store.placeProgram(key, program())
        #expect(path == place.memory + "/objects/3/program-5-words/words" && exitCode(path) == 7)
        let other = try place.store.placeProgram(key, program(onDisk: true))
        #expect(other == place.disk + "/objects/3/program-5-words/words" && exitCode(other) == 7)
        #expect(place.store.forget(SessionID(3)))
        #expect(access(path, F_OK) != 0 && access(other, F_OK) != 0, "they go with their session")
    }

    @Test(.enabled(if: mayMount, "no file system can be mounted here"))
    func `a program is started from disk where nothing in memory can be`() throws {
        let place = try #require(try Place(memory: "size=4m,noexec", disk: "size=4m"))
        #expect(!place.store.runsProgramsInMemory)
        let path = try place.store.placeProgram(key, program())
        #expect(path.hasPrefix(place.disk + "/objects/") && exitCode(path) == 7)
        #expect(names(in: place.memory + "/objects").isEmpty)
    }

    @Test(.enabled(if: mayMount, "no file system can be mounted here"))
    func `a program for which memory has no room is started from disk, and leaves nothing in memory`() throws {
        let place = try #require(try Place(memory: "size=256k", disk: "size=4m"))
        let path = try place.store.placeProgram(key, program(padding: 400_000))
        #expect(path.hasPrefix(place.disk + "/objects/") && exitCode(path) == 7)
        #expect(names(in: place.memory + "/objects/3").isEmpty)
        #expect(place.store.hasRoom(for: 100_000, onDisk: false))
    }

    @Test(.enabled(if: mayMount, "no file system can be mounted here"))
    func `a program that can be started from nowhere says why`() throws {
        let place = try #require(try Place(memory: "size=4m,noexec", disk: "size=4m,noexec"))
        let error = #expect(throws: SystemError.self) { try place.store.placeProgram(key, program()) }
        #expect(error?.code == EACCES && "\(error!)".contains("run programs below (it is mounted noexec) \(place.memory)"), "\(String(describing: error))")
        let small = try #require(try Place(memory: "size=64k", disk: "size=64k"))
        let full = #expect(throws: SystemError.self) { try small.store.placeProgram(key, program(padding: 400_000)) }
        #expect(full?.code == ENOSPC)
        #expect(names(in: small.memory + "/objects/3").isEmpty && names(in: small.disk + "/objects/3").isEmpty)
    }
}
