import CLinux
import Glibc

/// How much memory the stores of this machine's workers take together when nobody says: half of what there is, of the machine or of
/// the control group, whichever is less; the other half is for the tasks.
package func defaultStoreMemory() -> UInt64 { usableMemory() / 2 }

/// How much memory a subworker may take beyond what it has after its first call: an eighth of the machine's, and a GiB at least.
func defaultMemoryGrowth() -> UInt64 { max(1 << 30, usableMemory() / 8) }

/// The machine's memory, or what its control group leaves this process of it.
private func usableMemory() -> UInt64 {
    let machine = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))).multipliedReportingOverflow(by: UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))).partialValue
    var smallest = machine
    // Version 2 of control groups, then version 1.
    for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
        guard let file = try? Descriptor.open(path, O_RDONLY), let text = try? file.read(count: 64),
            let limit = UInt64(String(decoding: text, as: UTF8.self).filter { !$0.isWhitespace })
        else { continue }
        smallest = min(smallest, limit)
    }
    return smallest
}

extension Store {
    /// How full memory and disk are, where their limits come from, and what to do about it.
    ///
    /// - Parameter bytes: what there was no room for; `nil` when that is not known.
    func fullness(forBytes bytes: UInt64? = nil) -> String {
        let free = Self.room(of: directory)
        var parts: [String] = []
        if let memoryBytes {
            if isMounted {
                let used = byteText(memoryBytes - min(free, memoryBytes))
                parts.append("of the memory for objects, \(byteText(memoryBytes)) (--store-memory), \(used) are in use")
            } else {
                parts.append("memory for objects is limited to \(byteText(memoryBytes)) (--store-memory), and \(path) has \(byteText(free)) free")
            }
        }
        let place = disk?.path ?? path
        if memoryBytes == nil || disk != nil {
            let free = disk.map { Self.room(of: $0.objects) } ?? free
            let missing = bytes.map { $0 > free ? ": \(byteText($0 - free)) are missing there" : "" } ?? ""
            parts.append("the disk of \(place) (--work-dir) has \(byteText(free)) free\(missing)")
        }
        return parts.joined(separator: "; ") + ". Drop objects, close sessions, or give the worker more memory or a larger disk"
    }

    /// Whether so many bytes could be written there now.
    func hasRoom(for bytes: UInt64, onDisk: Bool) -> Bool {
        let directory = onDisk ? disk?.objects ?? directory : directory
        return Self.room(of: directory) >= bytes
    }

    /// Bytes that are free on the file system of a directory.
    private static func room(of directory: Int32) -> UInt64 {
        var room = statvfs()
        guard fstatvfs(directory, &room) == 0 else { return 0 }
        return UInt64(room.f_bavail).multipliedReportingOverflow(by: UInt64(room.f_frsize)).partialValue
    }
}

/// `11.7 GiB`, for people.
func byteText(_ bytes: UInt64) -> String {
    var value = Double(bytes)
    var unit = "B"
    for next in ["KiB", "MiB", "GiB", "TiB"] where value >= 1024 {
        value /= 1024
        unit = next
    }
    let tenths = UInt64((value * 10).rounded())
    return tenths % 10 == 0 ? "\(tenths / 10) \(unit)" : "\(tenths / 10).\(tenths % 10) \(unit)"
}
