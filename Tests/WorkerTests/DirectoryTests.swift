import CLinux
import Glibc
import Tar
import TaskModel
import Testing
import WorkerCore

@testable import Worker

private func tree(_ index: UInt32, session: UInt32 = 1) -> Replica {
    Replica(object: ObjectID(session: SessionID(session), index: index), generation: Generation(epoch: ServerEpoch(1), number: 2))
}

/// What GNU tar makes of a directory, as `TarForm` has it.
let tarCommand =
    "tar --sort=name --format=posix --pax-option=exthdr.name=pax,delete=atime,delete=ctime --owner=0 --group=0 --numeric-owner --mtime=@0 "
    + "--mode=u=rwX,go=rX,a-st --hard-dereference -b1"

/// Runs a shell command in a directory.
func runShell(_ command: String, in directory: String) throws {
    defer { unlink(directory + ".log") }
    guard system("cd '\(directory)' && { \(command); } >'\(directory).log' 2>&1") == 0 else {
        throw SystemError(command, (try? text(of: directory + ".log")) ?? "", code: EINVAL)
    }
}

/// Everything that is hard on names and kinds.
private let oddTree = """
    mkdir -p empty deep/$(printf 'd/%.0s' $(seq 60)) "with space" && printf x >a && printf y >"a b" && chmod 755 a && : >zero &&
    head -c 100000 /dev/urandom >large && printf n >"$(printf 'new\\nline')" && printf u >ünï && printf r >"$(printf 'raw\\377\\376')" &&
    mkdir sub && ln -s ../a sub/up && ln -s sub/up down && ln -s nowhere dangling && printf f >deep/$(printf 'd/%.0s' $(seq 60))/bottom &&
    mkdir -p "$(printf 'n%.0s' $(seq 200))" && printf l >"$(printf 'n%.0s' $(seq 200))/$(printf 'm%.0s' $(seq 200))" &&
    ln -s "$(printf 'n%.0s' $(seq 200))" far && ln large twice && chmod 4711 zero && mkdir locked && printf q >locked/in && chmod 500 locked
    """

@Suite(.serialized) struct DirectoryTests {
    private func withStore(hasDisk: Bool = false, _ body: (Store, String) throws -> Void) throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        let store = try Store(
            path: directory + "/store", kind: "test", memoryBytes: hasDisk ? 1 << 30 : nil, disk: hasDisk ? directory + "/disk" : nil)
        try body(store, directory)
    }
    private func make(_ path: String, _ script: String) throws -> Descriptor {
        try makeDirectories(path)
        try runShell(script, in: path)
        return try Descriptor.open(path, O_RDONLY | O_DIRECTORY)
    }
    private func size(_ value: LocalOutput.Value) throws -> UInt64 {
        guard case .stored(let size, _) = value else { throw Harness.Unexpected() }
        return size
    }
    private func stream(_ store: Store, _ replica: Replica) throws -> [UInt8] { try store.stream(replica, root: try store.open(replica)).readAll() }
    private func unpack(_ bytes: [UInt8], into store: Store, as replica: Replica, piece: Int = 10_000) throws {
        var unpacker = TarUnpacker(into: try store.makeTree(sizeBytes: UInt64(bytes.count)))
        for start in stride(from: 0, to: bytes.count, by: piece) {
            try bytes[start..<min(start + piece, bytes.count)].withUnsafeBytes { try unpacker.append($0) }
        }
        try store.moveIn(try unpacker.finish(), as: replica)
    }
    private func listing(_ path: String) throws -> String {
        try runShell("find . -printf '%p %y %m %l\\n' | LC_ALL=C sort >\(path).list", in: path)
        return try text(of: path + ".list")
    }

    @Test func `a directory's stream is what GNU tar makes, and gives the same tree`() throws {
        try withStore { store, directory in
            let source = try make(directory + "/source", oddTree)
            try runShell("LC_ALL=C \(tarCommand) -C source -cf expected.tar .", in: directory)
            let expected = try Descriptor.open(directory + "/expected.tar", O_RDONLY)
            let bytes = try expected.read(count: Int(expected.status().sizeBytes))
            #expect(try size(store.copyIn(tree: source.raw, as: tree(1))) == UInt64(bytes.count))
            #expect(try stream(store, tree(1)) == bytes)
            try unpack(bytes, into: store, as: tree(2))
            #expect(try stream(store, tree(2)) == bytes)
            #expect(try listing(store.path(tree(1))) == listing(store.path(tree(2))))
            // Two files that were one are two now.
            try runShell("diff -r --no-dereference \(store.path(tree(1))) \(store.path(tree(2)))", in: directory)
            #expect(names(in: store.path + "/staging").isEmpty)
        }
    }

    @Test(arguments: [1, 100, 512, 1000, 70_000]) func `any part of a stream can be read`(piece: Int) throws {
        try withStore { store, directory in
            let source = try make(directory + "/source", oddTree)
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            let stream = try store.stream(tree(1), root: try store.open(tree(1)))
            let all = try stream.readAll()
            var offset = 0
            while offset < all.count {
                var part = [UInt8](repeating: 0xee, count: piece)
                let count = try part.withUnsafeMutableBytes { (buffer) throws(SystemError) in try stream.read(at: UInt64(offset), into: buffer) }
                guard count == min(piece, all.count - offset), all[offset..<offset + count].elementsEqual(part.prefix(count)) else {
                    Issue.record("\(count) bytes at \(offset) are others")
                    break
                }
                offset += piece == 1 ? 97 : count
            }
        }
    }

    @Test func `files are read-only, executables stay so, and directories can't be written`() throws {
        try withStore { store, directory in
            try makeDirectories(directory + "/store/tasks/t")
            try runShell(
                "mkdir out out/sub && printf x >out/sub/f && printf y >out/run && chmod 640 out/sub/f && chmod 711 out/run && umask 0",
                in: directory + "/store/tasks/t")
            let task = try Descriptor.open(directory + "/store/tasks/t", O_RDONLY | O_DIRECTORY)
            _ = try store.acceptTree("out", in: task.raw, as: tree(1))
            #expect(names(in: directory + "/store/tasks/t").isEmpty)
            let list = try listing(store.path(tree(1)))
            #expect(list == ". d 555 \n./run f 555 \n./sub d 555 \n./sub/f f 444 \n")
        }
    }

    @Test func `what is no part of a directory object is refused by name`() throws {
        try withStore { store, directory in
            try makeDirectories(directory + "/store/tasks/t")
            let task = try Descriptor.open(directory + "/store/tasks/t", O_RDONLY | O_DIRECTORY)
            func refusal(_ script: String) throws -> AcceptanceError? {
                try runShell("mkdir out && cd out && \(script)", in: directory + "/store/tasks/t")
                do throws(AcceptanceError) {
                    _ = try store.acceptTree("out", in: task.raw, as: tree(1))
                    return nil
                } catch { return error }
            }
            #expect(try refusal("mkdir sub && mkfifo sub/pipe") == .tree(.notAFile("sub/pipe")))
            #expect(try refusal("ln -s /etc/passwd it") == .tree(.tar(.linkLeadsOut("it", target: "/etc/passwd"))))
            #expect(try refusal("mkdir sub && ln -s ../../x sub/it") == .tree(.tar(.linkLeadsOut("sub/it", target: "../../x"))))
            #expect(try refusal("mkdir sub && ln -s sub/.. it") == .tree(.tar(.linkLeadsOut("it", target: "sub/.."))))
            #expect(names(in: store.path + "/staging").isEmpty && !store.isTree(tree(1)))
            #expect(throws: AcceptanceError.missing) { try store.acceptTree("none", in: task.raw, as: tree(1)) }
            try runShell("printf x >file", in: directory + "/store/tasks/t")
            #expect(throws: AcceptanceError.notADirectory) { try store.acceptTree("file", in: task.raw, as: tree(1)) }
        }
    }

    @Test func `a file that is still open for writing keeps its directory from being accepted`() throws {
        try withStore { store, directory in
            try makeDirectories(directory + "/store/tasks/t/out/sub")
            let task = try Descriptor.open(directory + "/store/tasks/t", O_RDONLY | O_DIRECTORY)
            let writer = try Descriptor.open(directory + "/store/tasks/t/out/sub/f", O_WRONLY | O_CREAT, mode: 0o644)
            #expect(throws: AcceptanceError.tree(.stillWritten("sub/f"))) { try store.acceptTree("out", in: task.raw, as: tree(1)) }
            try writer.writeAll([1])
            #expect(!store.isTree(tree(1)))
        }
    }

    @Test func `a file with another name elsewhere is copied`() throws {
        try withStore { store, directory in
            try makeDirectories(directory + "/store/tasks/t/out")
            try runShell("printf x >mine && ln mine out/theirs && chmod 755 mine", in: directory + "/store/tasks/t")
            let task = try Descriptor.open(directory + "/store/tasks/t", O_RDONLY | O_DIRECTORY)
            _ = try store.acceptTree("out", in: task.raw, as: tree(1))
            try runShell("printf changed >mine", in: directory + "/store/tasks/t")
            #expect(try text(of: store.path(tree(1)) + "/theirs") == "x")
            #expect(try listing(store.path(tree(1))).contains("theirs f 555"))
        }
    }

    @Test func `a link to a directory elsewhere is copied, and that one stays`() throws {
        try withStore { store, directory in
            try makeDirectories(directory + "/store/tasks/t/real/deep")
            try makeDirectories(directory + "/elsewhere/dir")
            try runShell("printf x >dir/f", in: directory + "/elsewhere")
            try runShell("ln -s \(directory)/elsewhere/dir out && ln -s \(directory)/elsewhere way", in: directory + "/store/tasks/t")
            let task = try Descriptor.open(directory + "/store/tasks/t", O_RDONLY | O_DIRECTORY)
            for (path, number) in [("out", UInt32(1)), ("way/dir", 2)] {
                _ = try store.acceptTree(path, in: task.raw, as: tree(number))
                #expect(try text(of: store.path(tree(number)) + "/f") == "x" && text(of: directory + "/elsewhere/dir/f") == "x")
            }
            // Files on such a way are copied too.
            #expect(try store.accept("way/dir/f", in: task.raw, as: tree(3), mayCopyLong: true) == .inline([UInt8(ascii: "x")]))
            #expect(try text(of: directory + "/elsewhere/dir/f") == "x")
        }
    }

    @Test func `a second name has the same files, and outlives the first`() throws {
        try withStore(hasDisk: true) { store, directory in
            let source = try make(directory + "/source", oddTree)
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            let bytes = try stream(store, tree(1))
            #expect(throws: SystemError.self) { try store.alias(from: tree(1), to: tree(2)) }
            try store.aliasTree(from: tree(1), to: tree(2))
            var status = (stat(), stat())
            _ = (lstat(store.path(tree(1)) + "/large", &status.0), lstat(store.path(tree(2)) + "/large", &status.1))
            #expect(status.0.st_ino == status.1.st_ino)
            #expect(store.remove(tree(1)))
            #expect(try stream(store, tree(2)) == bytes && !store.isTree(tree(1)))
            try store.spill(tree(2))
            try store.aliasTree(from: tree(2), to: tree(3))
            #expect(store.path(tree(3)).hasPrefix(directory + "/disk"))
            #expect(try stream(store, tree(3)) == bytes)
        }
    }

    @Test func `a spilled directory is the same on disk, also for who reads its stream`() throws {
        try withStore(hasDisk: true) { store, directory in
            let source = try make(directory + "/source", oddTree)
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            let reader = try store.stream(tree(1), root: try store.open(tree(1)))
            let bytes = try reader.readAll()
            let halfway = try store.stream(tree(1), root: try store.open(tree(1)))
            try store.spill(tree(1))
            #expect(names(in: directory + "/store/trash").isEmpty, "its memory is free")
            #expect(store.path(tree(1)) == directory + "/disk/objects/1/1-1-2")
            #expect(try halfway.readAll() == bytes && stream(store, tree(1)) == bytes)
            #expect(names(in: directory + "/store/objects/1").isEmpty && names(in: directory + "/disk/staging").isEmpty)
            try store.spill(tree(1))
            #expect(store.remove(tree(1)) && !store.isTree(tree(1)))
            #expect(throws: SystemError.self) { _ = try store.open(tree(1)) }
        }
    }

    @Test func `a directory that was dropped on its way to disk is gone`() throws {
        try withStore(hasDisk: true) { store, directory in
            let source = try make(directory + "/source", "printf x >f")
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            let here = try store.open(tree(1))
            _ = store.remove(tree(1))
            #expect(try store.spillTree(tree(1), here.raw, to: store.disk!, stop: nil))
            #expect(!store.isTree(tree(1)))
        }
    }

    @Test func `a directory without room in memory is made on disk`() throws {
        try withStore(hasDisk: true) { store, directory in
            for (size, onDisk, expected) in [(UInt64(1) << 60, false, true), (10, true, true), (10, false, false)] {
                let tree = try store.makeTree(sizeBytes: size, onDisk: onDisk)
                #expect(tree.isOnDisk == expected)
            }
            #expect(names(in: directory + "/disk/staging").isEmpty && names(in: directory + "/store/staging").isEmpty)
        }
    }

    @Test func `a replica that comes again replaces the one that is there`() throws {
        try withStore { store, directory in
            let source = try make(directory + "/source", "printf x >f && mkdir d")
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            #expect(try text(of: store.path(tree(1)) + "/f") == "x")
        }
    }

    /// Streams that would reach out of the tree if anything in them were believed.
    @Test func `a hostile stream leaves nothing behind`() throws {
        try withStore { store, directory in
            func entry(_ path: String, _ kind: TarEntry.Kind) -> TarEntry { TarEntry(path: Array(path.utf8), kind: kind) }
            func link(_ path: String, _ target: String) -> TarEntry { entry(path, .link(target: Array(target.utf8))) }
            let file = { (path: String) in entry(path, .file(sizeBytes: 1, isExecutable: false)) }
            let top = entry("", .directory)
            let hostile: [[TarEntry]] = [
                [top, file("../escaped")], [top, file("/dev/shm/escaped")], [top, link("a", "/"), file("a/escaped")],
                [top, link("a", ".."), file("a/escaped")], [top, entry("a", .directory), link("a", ".."), file("a/escaped")],
                [top, file("a"), file("a")], [top, file("a/../../escaped")], [file("a")],
                [top, entry("a", .directory), link("a/b", ".."), link("c", "a/b/.."), file("c/escaped")],
            ]
            for entries in hostile {
                var bytes: [UInt8] = []
                for entry in entries {
                    TarForm.appendHeader(of: entry, to: &bytes)
                    if entry.sizeBytes > 0 { bytes += [1] + [UInt8](repeating: 0, count: 511) }
                }
                bytes += [UInt8](repeating: 0, count: 1024)
                #expect(throws: TreeError.self) { try unpack(bytes, into: store, as: tree(9)) }
                #expect(throws: TreeError.self) { try unpack(Array(bytes.dropLast(1024)), into: store, as: tree(9)) }
            }
            #expect(names(in: store.path + "/staging").isEmpty && names(in: store.path + "/objects").isEmpty)
            #expect(names(in: directory) == ["store"])
        }
    }

    @Test func `thousands of files are one object`() throws {
        try withStore { store, directory in
            let source = try make(directory + "/source", "for d in $(seq 30); do mkdir $d; for f in $(seq 60); do echo $d-$f >$d/$f; done; done")
            _ = try store.copyIn(tree: source.raw, as: tree(1))
            let bytes = try stream(store, tree(1))
            try unpack(bytes, into: store, as: tree(2), piece: 1 << 18)
            #expect(try text(of: store.path(tree(2)) + "/27/13") == "27-13\n")
            #expect(try stream(store, tree(2)) == bytes)
            #expect(store.remove(tree(1)))
            store.emptyTrash()
            #expect(names(in: store.path + "/trash").isEmpty)
        }
    }
}
