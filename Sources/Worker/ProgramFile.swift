import Glibc

/// What the first bytes of a file say of how it is run.
package enum ProgramFile: Equatable {
    /// `#!`, and the program that reads it.
    case script(interpreter: String)
    case elf(machine: UInt16)
    case other

    /// `nil` when it can't be read.
    package init?(path: String) {
        guard let file = try? Descriptor.open(path, O_RDONLY), let bytes = try? file.read(count: 256) else { return nil }
        self.init(bytes)
    }

    init(_ bytes: [UInt8]) {
        if bytes.starts(with: "#!".utf8) {
            let line = bytes.dropFirst(2).prefix { $0 != UInt8(ascii: "\n") }
            let words = line.split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
            self = .script(interpreter: String(decoding: words.first ?? [], as: UTF8.self))
        } else if bytes.starts(with: [0x7F] + Array("ELF".utf8)), bytes.count >= 20 {
            // Byte 5 says in which order the others are.
            self = .elf(machine: bytes[5] == 2 ? UInt16(bytes[18]) << 8 | UInt16(bytes[19]) : UInt16(bytes[19]) << 8 | UInt16(bytes[18]))
        } else {
            self = .other
        }
    }

    private static let machines: [UInt16: String] = [
        3: "i386", 21: "ppc64le", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64",
    ]

    /// Why the kernel finds something missing though the file is there.
    package func complaint(host: String) -> String {
        switch self {
        case .script(let interpreter) where interpreter.isEmpty: "its first line, #!, names no program"
        case .script(let interpreter): "its first line names '\(interpreter)', which can't be run on host \(host)"
        case .elf:
            foreignMachine(host: host).map { "it \($0)" }
                ?? "host \(host) lacks the loader that it was linked for: build it for this system, or statically"
        case .other: "it is neither an ELF program nor a script that begins with #!"
        }
    }

    /// Says that it is for another kind of machine, when it is.
    package func foreignMachine(host: String) -> String? {
        guard case .elf(let machine) = self, let own = Self.ownMachine, let name = Self.machines[machine], name != own else { return nil }
        return "is built for \(name), and host \(host) is \(own): build it for that"
    }

    private static var ownMachine: String? {
        var names = utsname()
        guard uname(&names) == 0 else { return nil }
        return withUnsafeBytes(of: &names.machine) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
