import Glibc

/// What a worker or a client needs to be let in: the content of `access.toml`.
package struct Access: Equatable, Sendable {
    package var serverPublicKey: CurveKey
    package var workerPublicKey: CurveKey
    package var workerSecretKey: CurveKey
    /// The bearer token of the client plane.
    package var clientToken: String
    /// For the log: files that others can read.
    package var warnings: [String] = []

    package init(serverPublicKey: CurveKey, workerPublicKey: CurveKey, workerSecretKey: CurveKey, clientToken: String) {
        self.serverPublicKey = serverPublicKey
        self.workerPublicKey = workerPublicKey
        self.workerSecretKey = workerSecretKey
        self.clientToken = clientToken
    }

    /// Everything follows from the server's secret, so that a lost `access.toml` comes back as it was and the copies on
    /// other machines stay good.
    init(serverSecret secret: CurveKey) {
        let worker = secret.derived(for: "rain worker key 1")
        self.init(
            serverPublicKey: secret.publicKey, workerPublicKey: worker.publicKey, workerSecretKey: worker,
            clientToken: hexText(secret.derived(for: "rain client token 1").bytes))
    }
}

/// What a server holds: its own secret, and what it gives to the others.
package struct ServerAccess: Equatable, Sendable {
    package var secretKey: CurveKey
    package var access: Access
    package init(secretKey: CurveKey, access: Access) {
        self.secretKey = secretKey
        self.access = access
    }
}

/// The two files that say who may speak to a server, in its state directory:
///
///     server.key    0600  the server's secret, 40 characters of Z85; it never leaves the server
///     access.toml   0600  copied to whoever may use it: the server's public key, the workers' key pair, the clients' token
package enum AccessFile {
    package static let keyName = "server.key"
    package static let accessName = "access.toml"

    /// `$XDG_STATE_HOME/rain`, else `~/.local/state/rain`.
    package static func defaultStateDirectory() throws(TransportError) -> String {
        // The specification (XDG Base Directory 0.8) says that a relative value is to be ignored.
        if let state = getenv("XDG_STATE_HOME").map({ String(cString: $0) }), state.hasPrefix("/") { return state + "/rain" }
        guard let home = getenv("HOME").map({ String(cString: $0) }), !home.isEmpty else { throw .noStateDirectory }
        return home + "/.local/state/rain"
    }

    package static func path(inStateDirectory directory: String) -> String { directory + "/" + accessName }

    /// For a server: makes the directory, the key and the access file where they are missing.
    ///
    /// Servers that start at once on the same directory get the same key. An access file that is there is used as it is,
    /// also when its worker keys or its token were changed by hand.
    package static func loadOrCreate(stateDirectory: String) throws(TransportError) -> ServerAccess {
        try PrivateFile.makeDirectory(stateDirectory)
        let keyPath = stateDirectory + "/" + keyName
        let accessPath = path(inStateDirectory: stateDirectory)
        var warnings: [String] = []

        let key: PrivateFile.Content
        if let found = try PrivateFile.read(keyPath) { key = found } else { key = try makeKey(keyPath) }
        warnings += key.warnings
        guard let secret = CurveKey(z85: trimmed(key.text)) else { throw .malformedServerKey(path: keyPath) }

        var access = Access(serverSecret: secret)
        if let file = try PrivateFile.read(accessPath) {
            let found = try AccessText.parse(file.text, path: accessPath)
            guard found.serverPublicKey == access.serverPublicKey else { throw .foreignAccessFile(path: accessPath, keyPath: keyPath) }
            access = found
            warnings += file.warnings
        } else {
            try PrivateFile.replace(accessPath, with: AccessText.text(of: access))
        }
        access.warnings = warnings
        return ServerAccess(secretKey: secret, access: access)
    }

    /// For a worker or a client.
    package static func load(path: String) throws(TransportError) -> Access {
        guard let file = try PrivateFile.read(path) else { throw .missingAccessFile(path: path) }
        var access = try AccessText.parse(file.text, path: path)
        access.warnings = file.warnings
        return access
    }

    private static func makeKey(_ path: String) throws(TransportError) -> PrivateFile.Content {
        try PrivateFile.createOnce(path, with: CurveKey.random().z85 + "\n")
        guard let content = try PrivateFile.read(path) else {
            throw .file(path: path, action: "read", reason: "it was removed right after it was made")
        }
        return content
    }

    private static func trimmed(_ text: String) -> String { String(text.split(whereSeparator: \.isWhitespace).first ?? "") }
}
