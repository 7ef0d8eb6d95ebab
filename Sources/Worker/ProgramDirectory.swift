import CLinux
import Glibc

/// The working directory of a program, empty when it is made, and the file that gets its standard error. Dropping it closes both; `remove`
/// removes the directory.
final class ProgramDirectory: Sendable {
    /// Below `tasks`.
    let name: String
    /// It and the program's standard streams lie on disk.
    let isOnDisk: Bool
    let descriptor: Descriptor
    /// Read and written; gone with its last descriptor.
    let error: Descriptor

    /// A page of memory, for the last words of a program.
    private static let errorBytesKept: Int64 = 4096

    init(in store: Store, onDisk: Bool) throws(SystemError) {
        let name = store.newName()
        let tasks = store.tasks(onDisk: onDisk)
        try check(rain_mkdirat(tasks, name, 0o700), "make directory", name)
        do throws(SystemError) {
            let descriptor = try Descriptor.open(name, in: tasks, O_RDONLY | O_DIRECTORY)
            let error = try store.makeUnnamed(onDisk: onDisk)
            // So that a program which finds no room can say so.
            if store.disk != nil, !onDisk { try check(rain_fallocate_ahead(error.raw, Self.errorBytesKept), "reserve room for standard error") }
            self.descriptor = descriptor
            self.error = error
        } catch {
            _ = unlinkat(tasks, name, AT_REMOVEDIR)
            throw error
        }
        self.name = name
        isOnDisk = onDisk
    }

    /// - Returns: whether the trash has to be emptied.
    func remove(from store: Store) -> Bool {
        let tasks = store.tasks(onDisk: isOnDisk)
        if unlinkat(tasks, name, AT_REMOVEDIR) == 0 { return false }
        return store.discard(name, from: tasks)
    }
}
