import Glibc
import Logging
import NIOCore
import Synchronization
import TaskModel
import Testing
import Transport

@testable import Server

/// What clients have uploaded, and how it goes.
@Suite struct DepotTests {
    private let directory: String
    init() throws {
        var path = Array("/tmp/rain-depot-XXXXXX".utf8CString)
        _ = try #require(mkdtemp(&path))
        directory = path.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    }
    /// Called while the depot's directory is written.
    private final class Meanwhile: Sendable {
        let action = Mutex<(@Sendable () -> Void)?>(nil)
        func run() { action.withLock { $0 }?() }
    }
    private func withDepot(_ meanwhile: Meanwhile = Meanwhile(), _ body: (Depot) async throws -> Void) async throws {
        let depot = try Depot(directory: directory + "/depot", logger: Logger(label: "test")) { descriptor in
            meanwhile.run()
            return fsync(descriptor)
        }
        defer {
            depot.stop()
            for name in names { unlink("\(directory)/depot/\(name)") }
            rmdir(directory + "/depot")
            rmdir(directory)
        }
        try await body(depot)
    }
    private var names: [String] {
        guard let list = opendir(directory + "/depot") else { return [] }
        defer { closedir(list) }
        var names: [String] = []
        while let entry = readdir(list) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }
    /// The SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    private let hash = BlobHash(hex: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")!
    private func upload(to depot: Depot) async throws {
        let upload = try await depot.beginUpload()
        try upload.write([ByteBuffer(string: "abc")])
        try await depot.finish(upload, as: hash)
    }
    private let muchLater = Instant(nanoseconds: Instant.now.nanoseconds + 3_600_000_000_000)

    @Test func `what nobody needs goes, what somebody needs stays`() async throws {
        try await withDepot { depot in
            try await upload(to: depot)
            depot.removeUnneeded(now: .now)
            #expect(depot.pin(hash) == 3, "its submit may be on its way")
            depot.removeUnneeded(now: muchLater)
            depot.unpin([hash])
            depot.claim(hash)
            depot.removeUnneeded(now: muchLater)
            #expect(names == [hash.description] && depot.size(of: hash) == 3)
            depot.release(hash)
            depot.removeUnneeded(now: muchLater)
            #expect(names.isEmpty && depot.size(of: hash) == nil)
        }
    }

    @Test func `a blob that is uploaded once more is not taken away while the disk is slow`() async throws {
        let meanwhile = Meanwhile()
        try await withDepot(meanwhile) { depot in
            try await upload(to: depot)
            meanwhile.action.withLock { $0 = { [muchLater] in depot.removeUnneeded(now: muchLater) } }
            try await upload(to: depot)
            #expect(names == [hash.description] && depot.size(of: hash) == 3)
            meanwhile.action.withLock { $0 = nil }
            depot.removeUnneeded(now: muchLater)
            #expect(names.isEmpty && depot.size(of: hash) == nil, "only as long as it took")
        }
    }

    @Test func `what a server that was killed had begun to remove goes when the next one starts`() async throws {
        try await withDepot { depot in
            try await upload(to: depot)
            #expect(rename(depot.path(of: hash), directory + "/depot/upload-removed-7") == 0)
            let next = try Depot(directory: directory + "/depot", logger: Logger(label: "test"))
            next.stop()
            #expect(names.isEmpty)
        }
    }
}
