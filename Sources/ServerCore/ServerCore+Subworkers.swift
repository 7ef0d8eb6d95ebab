import Link
import TaskModel

/// Subworkers that a client brings along for the length of its session.
extension ServerCore {
    static let subworkerCountMax = 1000
    /// A control message has to carry what is said of each.
    private static let subworkerTextBytesMax = 64 << 10
    private static let reservedNames = ["builtin", "ffi", "py"]

    func checkSubworkers(of submit: Submit, firstObject: UInt32, in session: Session) throws(RequestError) {
        guard !submit.subworkers.isEmpty else { return }
        guard session.subworkers.count + submit.subworkers.count <= Self.subworkerCountMax else {
            throw RequestError(.tooLarge, "a session brings at most \(Self.subworkerCountMax) subworkers along")
        }
        for (position, declared) in submit.subworkers.enumerated() {
            try checkName(declared.name, in: session)
            if submit.subworkers[..<position].contains(where: { $0.name == declared.name }) {
                throw RequestError(.badSubmit, "subworker \"\(declared.name)\" is declared twice")
            }
            try check(declared, submit, firstObject, session)
        }
    }

    private func checkName(_ name: String, in session: Session) throws(RequestError) {
        if let problem = SubworkerName.problem(with: name) { throw RequestError(.badSubmit, problem) }
        if Self.reservedNames.contains(name) {
            throw RequestError(.badSubmit, "subworker \"\(name)\": Rain's own tasks are of that name; choose another")
        }
        if session.subworkers.contains(where: { $0.name == name }) || session.options.subworkers.contains(where: { $0.name == name }) {
            throw RequestError(.badSubmit, "subworker \"\(name)\": the session has one of that name already; choose another")
        }
        if let worker = presentWorkers.lazy.compactMap({ workers[$0] }).first(where: { $0.description.subworkers.contains(name) }) {
            throw RequestError(
                .badSubmit,
                "subworker \"\(name)\": \(worker.id) on \(worker.description.hostName) has one of that name for every session; choose another")
        }
        // What is there keeps its meaning: those tasks were for a subworker of some worker.
        if let template = session.templates.firstIndex(where: { $0.runner == name }) {
            throw RequestError(
                .badSubmit, "subworker \"\(name)\": template \(template) of an earlier submit uses the name; declare it before its first task")
        }
    }

    private func check(_ declared: DeclaredSubworker, _ submit: Submit, _ firstObject: UInt32, _ session: Session) throws(RequestError) {
        let (name, program) = (declared.name, declared.program)
        guard isUpload(program.object, submit, firstObject, session) else {
            throw RequestError(.unknownObject, "subworker \"\(name)\": its program, object \(program.object), is not an object that the client gave")
        }
        let isDirectory =
            program.object < firstObject
            ? session.isDirectory(program.object)
            : submit.upload(at: program.object - firstObject)?.isDirectory ?? false
        if isDirectory {
            guard program.path.isPathInside else {
                throw RequestError(
                    .badSubmit,
                    "subworker \"\(name)\": object \(program.object) is a directory, so `path` says where the program is in it, such as "
                        + "\"bin/\(name)\"")
            }
        } else if !program.path.isEmpty {
            throw RequestError(
                .badSubmit, "subworker \"\(name)\": object \(program.object) is a file, so there is nothing at the path \"\(program.path)\" in it")
        }
        let texts = program.arguments + program.environment + [program.path]
        if texts.contains(where: { $0.utf8.contains(0) }) {
            throw RequestError(.badSubmit, "subworker \"\(name)\": path, arguments and environment can't hold the character 0")
        }
        if texts.reduce(0, { $0 + $1.utf8.count + 16 }) > Self.subworkerTextBytesMax {
            throw RequestError(.tooLarge, "subworker \"\(name)\": arguments and environment take more than \(Self.subworkerTextBytesMax) bytes")
        }
        if let wrong = program.environment.first(where: { $0.utf8.first == UInt8(ascii: "=") || !$0.utf8.contains(UInt8(ascii: "=")) }) {
            throw RequestError(.badSubmit, "subworker \"\(name)\": env has \"\(wrong)\", but each is NAME=value")
        }
    }
}

extension Session {
    /// Templates whose tasks are calls of subworkers that the session brought along learn what these are.
    mutating func findPrograms(fromTemplate first: Int) {
        for template in first..<templates.count {
            guard let declared = subworkers.first(where: { $0.name == templates[template].runner }) else { continue }
            templates[template].program = declared.program
        }
    }
}
