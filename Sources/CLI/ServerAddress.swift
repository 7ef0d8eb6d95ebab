import ArgumentParser

/// `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
struct HostAndPort: Equatable, ExpressibleByArgument {
    var host: String
    var port: UInt16?

    init(host: String, port: UInt16?) {
        self.host = host
        self.port = port
    }

    init?(argument: String) {
        var rest = argument[...]
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
        } else {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            // Several colons without brackets are an IPv6 address without a port.
            let isBare = rest[end...].filter { $0 == ":" }.count > 1
            host = isBare ? argument : String(rest[..<end])
            rest = isBare ? "" : rest[end...]
        }
        guard !host.isEmpty else { return nil }
        if rest.isEmpty { return }
        guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else { return nil }
        port = number
    }

    static func == (one: Self, other: Self) -> Bool { one.host == other.host && one.port == other.port }
}

/// The options of every command that speaks to a running server.
struct ServerAddressOptions: ParsableArguments {
    @Option(
        name: .long, help: ArgumentHelp("The server; default: the one that `rain start` started, else localhost:7210.", valueName: "host[:port]"),
        transform: parsed(ValueForm.server))
    var server: HostAndPort? = nil
    @Option(name: .long, help: ArgumentHelp("The server's access file; default: access.toml in the state directory.", valueName: "file"))
    var access: String?
}
