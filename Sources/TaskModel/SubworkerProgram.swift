/// A subworker's program that is an object of the session: every worker can start it.
package struct SubworkerProgram: Equatable, Sendable {
    /// A file, or a directory that it is in.
    package var object: UInt32
    /// Where it is in the directory; empty for a file.
    package var path: String
    package var arguments: [String]
    /// `NAME=value`, added to the worker's own environment.
    package var environment: [String]
    package init(object: UInt32, path: String = "", arguments: [String] = [], environment: [String] = []) {
        self.object = object
        self.path = path
        self.arguments = arguments
        self.environment = environment
    }
}

/// A subworker that a client brings along: tasks of type `NAME/…` in its session are calls of it from then on.
package struct DeclaredSubworker: Equatable, Sendable {
    package var name: String
    package var program: SubworkerProgram
    package init(name: String, program: SubworkerProgram) {
        self.name = name
        self.program = program
    }
}

/// Where the program of a subworker comes from that has no path of its own on the worker.
package struct ProgramSource: Equatable, Hashable, Sendable {
    package var object: ObjectID
    /// In the directory that the object is; empty for a file.
    package var path: String
    package init(object: ObjectID, path: String = "") {
        self.object = object
        self.path = path
    }
}
