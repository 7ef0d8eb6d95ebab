import Glibc
import TaskModel
import Testing

@testable import Worker

/// A combining mark makes one character of itself and what stands before it; to the system both are bytes.
@Suite struct PathTests {
    @Test(arguments: ["..", "../x", "a/../x", "a//b", "/a", "a/", ".", "a/./b", "", "a/\u{301}/..", "../\u{301}x", "\u{301}/../x", "a\u{0}b"])
    func `a path that leaves its directory is found`(path: String) { #expect(!ProgramLayout.isInside(path)) }

    @Test(arguments: ["a", "a/b", "..a", "a/..b/c", "\u{301}/a", "a/\u{301}b", "..\u{301}", "…/é"])
    func `a path that stays is none of them`(path: String) { #expect(ProgramLayout.isInside(path)) }

    @Test func `parts of a path are those of the system`() {
        #expect("a/\u{301}b//c".pathParts == ["a", "\u{301}b", "", "c"])
        #expect("".pathParts == [""] && "/".pathParts == ["", ""])
    }

    @Test func `directories are made below a mark`() throws {
        let directory = try temporaryDirectory()
        defer { _ = system("rm -r \(directory)") }
        try makeDirectories(directory + "/\u{301}a/b")
        #expect(access(directory + "/\u{301}a/b", F_OK) == 0)
    }

    @Test func `a variable's value may begin with a mark`() throws {
        let harness = try Harness()
        let template = harness.define(
            "builtin/run", config: #"{"command": ["printf %s \"$HOME\""], "shell": true, "stdout": 0, "env": {"HOME": "\u0301x"}}"#, outputs: ["out"])
        #expect(try harness.outputs(of: harness.request(template)) == ["\u{301}x"])
    }
}
