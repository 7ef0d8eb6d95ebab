import CLinux
import Glibc

/// How much memory the stores of this machine's workers take together when nobody says: half of what there is, of the machine or of
/// the control group, whichever is less; the other half is for the tasks.
package func defaultStoreMemory() -> UInt64 {
    let machine = UInt64(max(0, sysconf(Int32(_SC_PHYS_PAGES)))).multipliedReportingOverflow(by: UInt64(max(0, sysconf(Int32(_SC_PAGESIZE))))).partialValue
    var smallest = machine
    // Version 2 of control groups, then version 1.
    for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
        guard let file = try? Descriptor.open(path, O_RDONLY), let text = try? file.read(count: 64),
            let limit = UInt64(String(decoding: text, as: UTF8.self).filter { !$0.isWhitespace })
        else { continue }
        smallest = min(smallest, limit)
    }
    return smallest / 2
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
