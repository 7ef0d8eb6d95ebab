import CLinux
import Glibc
import TaskModel
import Testing
import WorkerCore

@testable import Worker

struct StoreTests {
    private func replica(_ index: UInt32, session: UInt32 = 1) -> Replica {
        Replica(object: ObjectID(session: SessionID(session), index: index), generation: Generation(epoch: ServerEpoch(1), number: 2))
    }
    private func withStore(_ body: (Store, String) throws -> Void) throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        try body(try Store(path: directory + "/store", kind: "test"), directory)
    }

    @Test func `what is written is there, read-only, under its name`() throws {
        try withStore { store, _ in
            try store.write([1, 2, 3], as: replica(5))
            let file = try store.open(replica(5))
            #expect(try file.read(count: 10) == [1, 2, 3])
            #expect(try file.status().st_mode & 0o777 == 0o444)
            #expect(names(in: store.path + "/objects/1") == ["5-1-2"])
            #expect(names(in: store.path + "/staging").isEmpty)
        }
    }

    @Test func `an alias is the same file, and outlives the first name`() throws {
        try withStore { store, _ in
            try store.write([7], as: replica(1))
            try store.alias(from: replica(1), to: replica(2, session: 2))
            _ = store.remove(replica(1))
            #expect(try store.open(replica(2, session: 2)).read(count: 4) == [7])
            #expect(throws: SystemError.self) { _ = try store.open(replica(1)) }
            #expect(throws: SystemError.self) { try store.alias(from: replica(1), to: replica(3)) }
        }
    }

    private func withTwoTiers(_ body: (Store, String) throws -> Void) throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        try body(try Store(path: directory + "/store", kind: "test", memoryBytes: 1 << 20, disk: directory + "/disk"), directory)
    }

    @Test func `a spilled object is opened on disk, and who has it open keeps it`() throws {
        try withTwoTiers { store, directory in
            try store.write([1, 2, 3], as: replica(5))
            let before = try store.open(replica(5))
            try store.spill(replica(5))
            #expect(try store.open(replica(5)).read(count: 10) == [1, 2, 3] && before.read(count: 10) == [1, 2, 3])
            #expect(try store.open(replica(5)).status().st_mode & 0o777 == 0o444)
            #expect(store.path(replica(5)) == directory + "/disk/objects/1/5-1-2")
            #expect(names(in: directory + "/store/objects/1").isEmpty && names(in: directory + "/disk/staging").isEmpty)
            try store.spill(replica(5))
            try store.alias(from: replica(5), to: replica(6))
            #expect(try store.open(replica(6)).read(count: 10) == [1, 2, 3])
            _ = store.remove(replica(5))
            #expect(throws: SystemError.self) { _ = try store.open(replica(5)) }
            #expect(names(in: directory + "/disk/objects/1") == ["6-1-2"])
            #expect(store.forget(SessionID(1)))
            #expect(names(in: directory + "/disk/objects").isEmpty)
            store.emptyTrash()
            #expect(names(in: directory + "/disk/trash").isEmpty)
        }
    }

    @Test func `what is not there can't be spilled, and leaves nothing`() throws {
        try withTwoTiers { store, directory in
            try store.spill(replica(1))
            #expect(names(in: directory + "/disk/objects").isEmpty && names(in: directory + "/disk/staging").isEmpty)
            store.removeAll()
            #expect(access(directory + "/disk", F_OK) != 0 && access(directory + "/store", F_OK) != 0)
        }
        try withStore { store, _ in
            #expect(throws: SystemError("spill to disk", code: ENOSPC)) { try store.spill(replica(1)) }
        }
    }

    @Test func `a session is forgotten at once, and its trash can be emptied`() throws {
        try withStore { store, _ in
            for index in 0..<5 { try store.write([0], as: replica(UInt32(index))) }
            try store.write([0], as: replica(1, session: 2))
            #expect(store.forget(SessionID(1)))
            #expect(names(in: store.path + "/objects") == ["2"])
            store.emptyTrash()
            #expect(names(in: store.path + "/trash").isEmpty)
        }
    }

    @Test func `an output is accepted when nobody writes to it any more`() throws {
        try withStore { store, _ in
            let bytes = [UInt8](repeating: 1, count: 5000)
            let writer = try Descriptor.open("out", in: store.staging, O_RDWR | O_CREAT, mode: 0o644)
            try writer.writeAll(bytes)
            #expect(throws: AcceptanceError.stillWritten) { try store.accept("out", in: store.staging, as: replica(1), mayCopyLong: false) }
            _ = consume writer
            #expect(try store.accept("out", in: store.staging, as: replica(1), mayCopyLong: false) == .stored(sizeBytes: 5000))
            #expect(try store.open(replica(1)).read(count: 6000) == bytes)
            #expect(names(in: store.path + "/staging").isEmpty)
        }
    }

    @Test func `a map that can be written to counts as a writer`() throws {
        try withStore { store, _ in
            let memory: UnsafeMutableRawPointer?
            do {
                let file = try Descriptor.open("out", in: store.staging, O_RDWR | O_CREAT, mode: 0o644)
                try file.writeAll([UInt8](repeating: 1, count: 5000))
                memory = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.raw, 0)
            }
            #expect(throws: AcceptanceError.stillWritten) { try store.accept("out", in: store.staging, as: replica(1), mayCopyLong: false) }
            munmap(memory, 4096)
            #expect(try store.accept("out", in: store.staging, as: replica(1), mayCopyLong: false) == .stored(sizeBytes: 5000))
        }
    }

    @Test func `a small output becomes bytes, and a link a copy`() throws {
        try withStore { store, directory in
            try write("small", to: store.path + "/staging/small")
            #expect(try store.accept("small", in: store.staging, as: replica(1), mayCopyLong: false) == .inline(Array("small".utf8)))
            let text = String(repeating: "z", count: 9000)
            try write(text, to: directory + "/elsewhere")
            symlink(directory + "/elsewhere", store.path + "/staging/link")
            #expect(try store.accept("link", in: store.staging, as: replica(2), mayCopyLong: false) == .stored(sizeBytes: 9000))
            link(directory + "/elsewhere", store.path + "/staging/second")
            #expect(try store.accept("second", in: store.staging, as: replica(3), mayCopyLong: false) == .stored(sizeBytes: 9000))
            var status = stat()
            #expect(stat(directory + "/elsewhere", &status) == 0 && status.st_mode & 0o777 == 0o644)
        }
    }

    @Test func `what is no file is refused`() throws {
        try withStore { store, _ in
            _ = rain_mkdirat(store.staging, "directory", 0o755)
            mkfifo(store.path + "/staging/pipe", 0o644)
            symlink("nowhere", store.path + "/staging/dangling")
            #expect(throws: AcceptanceError.directory) { try store.accept("directory", in: store.staging, as: replica(1), mayCopyLong: false) }
            #expect(throws: AcceptanceError.notAFile) { try store.accept("pipe", in: store.staging, as: replica(1), mayCopyLong: false) }
            #expect(throws: AcceptanceError.missing) { try store.accept("dangling", in: store.staging, as: replica(1), mayCopyLong: false) }
            #expect(throws: AcceptanceError.missing) { try store.accept("nothing", in: store.staging, as: replica(1), mayCopyLong: false) }
        }
    }

    @Test func `a full store is told as such`() throws {
        try withStore { store, _ in
            let error = store.taskError(SystemError("write", code: ENOSPC), doing: "it failed")
            #expect(error.cause == .resource && error.message.contains("it failed: the store of the worker is full"))
        }
    }

    @Test func `a deep tree with closed directories is removed`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        var path = directory + "/tree"
        for _ in 0..<300 {
            mkdir(path, 0o755)
            path += "/d"
        }
        try write("x", to: directory + "/tree/d/d/file")
        chmod(directory + "/tree/d", 0)
        #expect(rain_remove_tree(AT_FDCWD, directory + "/tree") == 0)
        #expect(names(in: directory).isEmpty)
    }

    @Test func `the files of a dead worker are removed, those of a living one are not`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        let dead = "rain-\(getuid())-\(getpid())-1"
        let living = Store.name(ofProcess: getpid())
        for name in [dead, living, "rain-other"] { mkdir("\(directory)/\(name)", 0o700) }
        Store.removeAbandoned(in: [directory, directory + "/missing"])
        #expect(names(in: directory) == [living, "rain-other"].sorted())
    }
}
