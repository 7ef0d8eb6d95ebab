/// What many tasks share: what runs, the names of its inputs and outputs, its resources and policies, where it was written.
package struct TaskTemplate: Equatable, Sendable {
    /// `builtin/concat`, `py/call`, `wordcount/count`: what runs the task, a slash, the task's name there.
    package var type: String
    /// Shown to people, the default name of its tasks; `/` makes a hierarchy. Empty for the type.
    package var name: String = ""
    /// JSON text for the code that runs the task; the server doesn't read it.
    package var config: [UInt8] = []
    /// Labels of the row's inputs, by position; a row may have more inputs than labels.
    package var inputLabels: [String] = []
    /// Objects that are the first inputs of every task of the template (functions, environments); cached by subworkers.
    package var constants: [UInt32] = []
    /// How its subworker is started when the session brought that along; set by the server. The program's object is then the last input
    /// of every task, after those that its code gets.
    package var program: SubworkerProgram?
    package var outputs: [OutputSpec] = []
    package var resources = Resources()
    package var rerun: RerunPolicy = .onLoss
    /// How often a task is run again after a crash or an error of its own.
    package var retryCountMax: UInt32 = 0
    /// How many calls of it may run at once in one process of its subworker, when that leaves it to the task; 0: not said, one.
    package var threads: UInt32 = 0
    /// File, line and function where the client made the task; may have several lines.
    package var origin: String = ""
    /// JSON text of the user's own attributes.
    package var attributes: [UInt8] = []

    package init(type: String) { self.type = type }

    /// The part of the type before the slash: the subworker that runs it, or `builtin`.
    package var runner: Substring { type.prefix { $0 != "/" } }
    /// The part of the type after the slash: the task's name in its subworker.
    package var method: Substring { type.drop { $0 != "/" }.dropFirst() }
    /// What a person calls the task.
    package var title: String { name.isEmpty ? type : name }
}

package struct OutputSpec: Equatable, Sendable {
    package var label: String
    package var contentType: String
    package var isDirectory: Bool
    /// Whether the client wants the output to stay until it says otherwise, for every task of the template.
    package var isKept: Bool
    package init(label: String, contentType: String = "", isDirectory: Bool = false, isKept: Bool = false) {
        self.label = label
        self.contentType = contentType
        self.isDirectory = isDirectory
        self.isKept = isKept
    }
}

/// What a task occupies while it runs.
package struct Resources: Equatable, Hashable, Sendable {
    /// Whole CPUs; 0 for a task that only waits.
    package var cpus: UInt32 = 1
    package init(cpus: UInt32 = 1) { self.cpus = cpus }
}

/// Whether a task may run again when its worker is lost.
package enum RerunPolicy: UInt8, Equatable, Sendable {
    /// Also when it had finished, for an output that is needed again.
    case onLoss = 0
    case always = 1
    /// Not once it may have begun: it changes the world.
    case never = 2
}
