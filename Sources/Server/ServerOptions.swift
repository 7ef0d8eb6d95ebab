/// How a server is started.
package struct ServerOptions: Sendable {
    /// Where clients and workers connect: a name or numeric IPv4 address of this machine, `*` for all.
    package var host = "127.0.0.1"
    /// Of the client plane; 0 takes any free one.
    package var port: UInt16 = 7210
    /// Of the control plane; 0 takes any free one.
    package var controlPort: UInt16 = 7211
    /// Journal and depot are kept here; belongs to one server at a time.
    package var workDirectory: String
    /// Key and access file are kept here, made when missing.
    package var stateDirectory: String
    /// Gets one line of JSON when both ports accept.
    package var readyFile: String?
    /// Gets the same line and is closed; a pipe to whoever started the server.
    package var readyDescriptor: Int32?
    /// What `rain --version` says, for the status.
    package var version = ""

    package init(workDirectory: String, stateDirectory: String) {
        self.workDirectory = workDirectory
        self.stateDirectory = stateDirectory
    }
}
