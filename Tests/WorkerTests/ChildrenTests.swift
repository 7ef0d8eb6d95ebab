import CLinux
import Glibc
import TaskModel
import Testing

@testable import Worker

/// Children of this process, among those that other tests start beside it.
@Suite struct ChildrenTests {
    private func found(_ list: (UnsafeMutablePointer<pid_t>?, Int) -> Int64) -> [pid_t] {
        [pid_t](unsafeUninitializedCapacity: 10_000) { buffer, count in count = Int(max(0, list(buffer.baseAddress, buffer.count))) }
    }

    @Test func `a kernel that keeps no list of children is asked for each process's parent`() throws {
        let directory = try temporaryDirectory()
        defer { _ = rain_remove_tree(AT_FDCWD, directory) }
        // A name that looks like the fields behind it.
        let program = directory + "/x) S 1 ("
        #expect(symlink("/bin/cat", program) == 0)
        var ends: [Int32] = [-1, -1]
        try check(rain_pipe(&ends, true), "pipe")
        let input = Descriptor(ends[0])
        let held = Descriptor(ends[1])
        let null = try Descriptor.open("/dev/null", O_RDWR)
        let pid = try ProgramEnvironment([]).spawn(program, ["cat"], directory: -1, standard: (input.raw, null.raw, null.raw), inherited: [])
        #expect(found(rain_children_by_parent).contains(pid))
        #expect(!found(rain_children_by_parent).contains(getpid()) && !found(rain_children_by_parent).contains(1))
        #expect(rain_children_by_parent(nil, 0) == 0)
        _ = held.take()
        close(ends[1])
        #expect(waitpid(pid, nil, 0) == pid)
        #expect(!found(rain_children_by_parent).contains(pid))
    }
}
