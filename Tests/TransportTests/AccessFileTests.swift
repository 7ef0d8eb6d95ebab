import Glibc
import Testing
import Transport

/// A directory of its own for a test, gone with it.
final class TemporaryDirectory {
    let path: String
    init() throws {
        var template = Array("/tmp/rain-transport-test-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    deinit { system("rm -rf '\(path)'") }

    func write(_ name: String, _ text: String, mode: mode_t = 0o600) throws {
        let descriptor = open(path + "/" + name, O_WRONLY | O_CREAT | O_TRUNC, mode)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        try #require(Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count)
        try #require(fchmod(descriptor, mode) == 0)
    }
    func read(_ name: String) throws -> String {
        let descriptor = open(path + "/" + name, O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        try #require(count >= 0)
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
    func mode(_ name: String) -> mode_t {
        var status = stat()
        return stat(path + "/" + name, &status) == 0 ? status.st_mode & 0o777 : 0
    }
}

struct AccessFileTests {
    @Test func `a directory that is needed is made, or the error names what stands in its way`() throws {
        let directory = try TemporaryDirectory()
        try PrivateFile.makeDirectory(directory.path + "/deep/below")
        #expect(directory.mode("deep") == 0o700 && directory.mode("deep/below") == 0o700)
        try PrivateFile.makeDirectory(directory.path + "/deep/below")
        try directory.write("file", "")
        for path in [directory.path + "/file", directory.path + "/file/below"] {
            let error = try #require(throws: TransportError.self) { try PrivateFile.makeDirectory(path) }
            #expect(error.description.contains(directory.path + "/file"))
        }
    }

    @Test func `a first start makes key and access file for the owner alone`() throws {
        let directory = try TemporaryDirectory()
        let state = directory.path + "/deep/state"
        let access = try AccessFile.loadOrCreate(stateDirectory: state)
        #expect(directory.mode("deep/state") == 0o700)
        #expect(directory.mode("deep/state/server.key") == 0o600)
        #expect(directory.mode("deep/state/access.toml") == 0o600)
        #expect(access.access.serverPublicKey == access.secretKey.publicKey)
        #expect(access.access.workerPublicKey == access.access.workerSecretKey.publicKey)
        #expect(access.access.clientToken.utf8.count == 64)
        #expect(access.access.warnings == [])
        #expect(try AccessFile.load(path: AccessFile.path(inStateDirectory: state)) == access.access)
        // Nothing of the making is left.
        #expect(try listing(state) == ["access.toml", "server.key"])
    }

    @Test func `a later start finds the same`() throws {
        let directory = try TemporaryDirectory()
        let first = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        #expect(try AccessFile.loadOrCreate(stateDirectory: directory.path) == first)
        let other = try TemporaryDirectory()
        #expect(try AccessFile.loadOrCreate(stateDirectory: other.path) != first)
    }

    @Test func `a lost access file comes back as it was`() throws {
        let directory = try TemporaryDirectory()
        let first = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        let text = try directory.read("access.toml")
        #expect(unlink(directory.path + "/access.toml") == 0)
        #expect(try AccessFile.loadOrCreate(stateDirectory: directory.path) == first)
        #expect(try directory.read("access.toml") == text)
    }

    @Test func `servers that start at once agree`() async throws {
        let directory = try TemporaryDirectory()
        let path = directory.path
        let found = try await withThrowingTaskGroup(of: ServerAccess.self) { group in
            for _ in 0..<8 { group.addTask { try AccessFile.loadOrCreate(stateDirectory: path) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(found.count == 8)
        #expect(found.allSatisfy { $0 == found[0] })
        #expect(try listing(path) == ["access.toml", "server.key"])
    }

    @Test func `an access file of another server is not overwritten`() throws {
        let (mine, other) = (try TemporaryDirectory(), try TemporaryDirectory())
        _ = try AccessFile.loadOrCreate(stateDirectory: mine.path)
        _ = try AccessFile.loadOrCreate(stateDirectory: other.path)
        let foreign = try other.read("access.toml")
        try mine.write("access.toml", foreign)
        #expect(throws: TransportError.foreignAccessFile(path: mine.path + "/access.toml", keyPath: mine.path + "/server.key")) {
            try AccessFile.loadOrCreate(stateDirectory: mine.path)
        }
        #expect(try mine.read("access.toml") == foreign)
    }

    @Test func `worker keys and a token that were changed by hand are used`() throws {
        let directory = try TemporaryDirectory()
        let first = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        let text = try directory.read("access.toml")
        let changed = text.split(separator: "\n").map { $0.hasPrefix("token") ? "  token='mine'  # changed" : String($0) }
        try directory.write("access.toml", changed.joined(separator: "\n"))
        let second = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        #expect(second.access.clientToken == "mine")
        #expect(second.access.workerPublicKey == first.access.workerPublicKey)
    }

    @Test func `files that others can read are warned of`() throws {
        let directory = try TemporaryDirectory()
        _ = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        #expect(chmod(directory.path + "/access.toml", 0o644) == 0)
        #expect(chmod(directory.path + "/server.key", 0o640) == 0)
        let path = directory.path + "/access.toml"
        #expect(try AccessFile.load(path: path).warnings == ["\(path) can be read by others (mode 644): chmod 600 \(path)"])
        #expect(try AccessFile.loadOrCreate(stateDirectory: directory.path).access.warnings.count == 2)
    }

    @Test func `a missing access file says what to do`() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/access.toml"
        let error = #expect(throws: TransportError.missingAccessFile(path: path)) { try AccessFile.load(path: path) }
        #expect(error?.description.contains("copy access.toml from the server's machine") == true)
    }

    @Test func `a malformed access file is named with its line`() throws {
        let directory = try TemporaryDirectory()
        _ = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        let good = try directory.read("access.toml").split(separator: "\n", omittingEmptySubsequences: false).map { String($0) }
        func failure(_ change: (inout [String]) -> Void) throws -> (line: Int, reason: String) {
            var lines = good
            change(&lines)
            try directory.write("access.toml", lines.joined(separator: "\n"))
            let path = directory.path + "/access.toml"
            let error = #expect(throws: TransportError.self) { try AccessFile.load(path: path) }
            guard case .malformedAccessFile(path, let line, let reason) = error else { return (0, "\(String(describing: error))") }
            return (line, reason)
        }
        let token = try #require(good.firstIndex { $0.hasPrefix("token") })
        #expect(try failure { $0[token] = "token = unquoted" } == (token + 1, "expected key = \"value\""))
        #expect(try failure { $0[token] = "token = \"\"" } == (token + 1, "client.token is empty or has blanks"))
        #expect(try failure { $0[token] = "token = \"a b\"" } == (token + 1, "client.token is empty or has blanks"))
        #expect(try failure { $0[token] = "" } == (good.count, "client.token is missing"))
        #expect(try failure { $0[token] += "\n" + $0[token] } == (token + 2, "client.token is there twice"))
        #expect(try failure { $0[2] = "[server" } == (3, "a heading has no end"))
        #expect(try failure { $0[3] = "public_key = \"abc\"" } == (4, "server.public_key is not a key of 40 characters"))
        let other = try CurveKey.random()
        let secret = try #require(good.firstIndex { $0.hasPrefix("secret_key") })
        #expect(try failure { $0[secret] = "secret_key = \"\(other.z85)\"" } == (secret + 1, "the worker's two keys are no pair"))
        #expect(try failure { $0 = [] }.reason == "client.token is missing")
    }

    @Test func `a damaged server key is an error that says what to do`() throws {
        let directory = try TemporaryDirectory()
        _ = try AccessFile.loadOrCreate(stateDirectory: directory.path)
        for text in ["", "nonsense\n", String(repeating: "\u{1}", count: 40)] {
            try directory.write("server.key", text)
            #expect(throws: TransportError.malformedServerKey(path: directory.path + "/server.key")) {
                try AccessFile.loadOrCreate(stateDirectory: directory.path)
            }
        }
    }

    @Test func `what is no regular file is not read`() throws {
        let directory = try TemporaryDirectory()
        #expect(mkfifo(directory.path + "/access.toml", 0o600) == 0)
        #expect(throws: TransportError.self) { try AccessFile.load(path: directory.path + "/access.toml") }
        #expect(throws: TransportError.self) { try AccessFile.load(path: directory.path) }
        try directory.write("file", "")
        #expect(throws: TransportError.self) { try AccessFile.loadOrCreate(stateDirectory: directory.path + "/file") }
        #expect(throws: TransportError.self) { try AccessFile.loadOrCreate(stateDirectory: directory.path + "/file/below") }
    }

    private func listing(_ path: String) throws -> [String] {
        let directory = try #require(opendir(path))
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted()
    }
}
