import Glibc
import Testing

@testable import rain

@Suite struct NewFileTests {
    private let directory: String

    init() throws {
        var template = Array("/tmp/rain-new-file-XXXXXX".utf8CString)
        directory = String(cString: try #require(mkdtemp(&template)))
    }

    private func write(_ text: String, to name: String) throws(CLIError) {
        let file = try NewFile("\(directory)/\(name)", mode: 0o600)
        try file.write(Array(text.utf8))
        try file.finish()
    }

    private func text(_ name: String) throws -> String { String(decoding: try #require(try readFile("\(directory)/\(name)")), as: UTF8.self) }

    private func remove() {
        for name in ["a", "link", "pipe", "pipe.part\(getpid())"] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }

    @Test func `a file is there when it is complete`() throws {
        defer { remove() }
        try write("one", to: "a")
        do {
            let broken = try NewFile("\(directory)/a", mode: 0o600)
            try broken.write(Array("two".utf8))
        }
        #expect(try text("a") == "one")
        try write("three", to: "a")
        #expect(try text("a") == "three")
    }

    @Test func `a symbolic link stays one`() throws {
        defer { remove() }
        try write("one", to: "a")
        #expect(symlink("a", "\(directory)/link") == 0)
        try write("two", to: "link")
        #expect(try text("a") == "two")
        var status = stat()
        #expect(lstat("\(directory)/link", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
    }

    @Test func `a pipe is written to and stays one`() throws {
        defer { remove() }
        #expect(mkfifo("\(directory)/pipe", 0o600) == 0)
        let reader = Descriptor(open("\(directory)/pipe", O_RDWR | O_NONBLOCK))
        try write("hello", to: "pipe")
        var buffer = [UInt8](repeating: 0, count: 16)
        #expect(read(reader.raw, &buffer, 16) == 5)
        var status = stat()
        #expect(stat("\(directory)/pipe", &status) == 0 && status.st_mode & S_IFMT == S_IFIFO)
    }

    @Test func `what can't be written is said before`() {
        defer { remove() }
        #expect(throws: CLIError.system(call: "open", about: directory, code: EISDIR)) { try NewFile.check(directory) }
        let missing = "\(directory)/none/x"
        #expect(throws: CLIError.system(call: "open", about: missing, code: ENOENT)) { try NewFile.check(missing) }
        #expect(throws: CLIError.system(call: "open", about: missing, code: ENOENT)) { _ = try NewFile(missing, mode: 0o600) }
        #expect(throws: Never.self) { try NewFile.check("\(directory)/x") }
        #expect(throws: Never.self) { try NewFile.check("x") }
    }
}
