/// `access.toml` as text: the few lines of TOML that it needs, one `key = "value"` each under three headings.
enum AccessText {
    static func text(of access: Access) -> String {
        """
        # Whoever holds this file may use the server and run workers for it. Copy it to their machines, keep it private.

        [server]
        public_key = "\(access.serverPublicKey.z85)"

        [worker]
        public_key = "\(access.workerPublicKey.z85)"
        secret_key = "\(access.workerSecretKey.z85)"

        [client]
        token = "\(access.clientToken)"

        """
    }

    static func parse(_ text: String, path: String) throws(TransportError) -> Access {
        var values: [String: (value: String, line: Int)] = [:]
        var heading = ""
        var number = 0
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            let line = trimmed(line)
            if line.isEmpty || line.hasPrefix("#") { continue }
            if line.hasPrefix("[") {
                guard let end = line.firstIndex(of: "]"), isEnd(line[line.index(after: end)...]) else {
                    throw .malformedAccessFile(path: path, line: number, reason: "a heading has no end")
                }
                heading = String(trimmed(line[line.index(after: line.startIndex)..<end]))
                continue
            }
            guard let (key, value) = pair(line) else {
                throw .malformedAccessFile(path: path, line: number, reason: "expected key = \"value\"")
            }
            let name = heading + "." + key
            guard values[name] == nil else { throw .malformedAccessFile(path: path, line: number, reason: "\(name) is there twice") }
            values[name] = (value, number)
        }
        func found(_ name: String) throws(TransportError) -> (value: String, line: Int) {
            guard let found = values[name] else { throw .malformedAccessFile(path: path, line: number, reason: "\(name) is missing") }
            return found
        }
        func key(_ name: String) throws(TransportError) -> CurveKey {
            let (value, line) = try found(name)
            guard let key = CurveKey(z85: value) else {
                throw .malformedAccessFile(path: path, line: line, reason: "\(name) is not a key of 40 characters")
            }
            return key
        }
        let token = try found("client.token")
        // The token travels in an HTTP header.
        guard !token.value.isEmpty, token.value.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw .malformedAccessFile(path: path, line: token.line, reason: "client.token is empty or has blanks")
        }
        let access = Access(
            serverPublicKey: try key("server.public_key"), workerPublicKey: try key("worker.public_key"),
            workerSecretKey: try key("worker.secret_key"), clientToken: token.value)
        guard access.workerSecretKey.publicKey == access.workerPublicKey else {
            throw .malformedAccessFile(
                path: path, line: values["worker.secret_key"]?.line ?? number, reason: "the worker's two keys are no pair")
        }
        return access
    }

    /// A key and its quoted value, which has no escapes: neither keys nor tokens need one.
    private static func pair(_ line: Substring) -> (key: String, value: String)? {
        guard let equals = line.firstIndex(of: "=") else { return nil }
        let rest = trimmed(line[line.index(after: equals)...])
        guard let quote = rest.first, quote == "\"" || quote == "'" else { return nil }
        let body = rest.dropFirst()
        guard let end = body.firstIndex(of: quote), isEnd(body[body.index(after: end)...]) else { return nil }
        let value = body[..<end]
        if quote == "\"", value.contains("\\") { return nil }
        return (String(trimmed(line[..<equals])), String(value))
    }

    private static func isEnd(_ rest: Substring) -> Bool {
        let rest = trimmed(rest)
        return rest.isEmpty || rest.hasPrefix("#")
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let front = text.drop { $0.isWhitespace }
        guard let last = front.lastIndex(where: { !$0.isWhitespace }) else { return front.prefix(0) }
        return front[...last]
    }
}
