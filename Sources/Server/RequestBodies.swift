import HTTPTypes
import ServerCore
import TaskModel

/// Bodies of JSON calls, read strictly: a key that is unknown, missing or of the wrong kind is an error that names it.
enum RequestBodies {
    struct Waiting {
        var tasks: TaskSelection
        var timeoutMilliseconds: UInt64?
    }
    struct Results {
        var objects: ObjectSelection
        var timeoutMilliseconds: UInt64?
    }
    struct Info {
        var tasks: TaskSelection?
        var filter = TaskFilter()
        var objects: ObjectSelection?
    }

    static func sessionOptions(_ bytes: [UInt8]) throws(HTTPFailure) -> SessionOptions {
        var options = SessionOptions()
        if bytes.isEmpty { return options }
        try read(bytes) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "name": options.name = try cursor.string(text)
            case "on_error":
                switch try cursor.string(text) {
                case "fail_session": options.onError = .failSession
                case "fail_descendants": options.onError = .failDescendants
                default: throw cursor.error("on_error is \"fail_session\" or \"fail_descendants\"")
                }
            case "grace_ms": options.graceMilliseconds = try cursor.uint32(text)
            case "detached": options.isDetached = try cursor.bool(text)
            case "subworkers":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in
                    options.subworkers.append(try subworker(&cursor, text))
                }
            default: throw cursor.unknownKey(key, known: "name, on_error, grace_ms, detached and subworkers")
            }
        }
        var names: Set<String> = []
        for subworker in options.subworkers {
            guard names.insert(subworker.name).inserted else {
                throw HTTPFailure(.conflict, "subworker_conflict", "two subworkers have the name \"\(subworker.name)\"")
            }
        }
        return options
    }

    private static func subworker(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> SubworkerCommand {
        var subworker = SubworkerCommand(name: "", arguments: [])
        try cursor.members(text) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "name": subworker.name = try cursor.string(text)
            case "command":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in subworker.arguments.append(try argument(&cursor, text)) }
            case "env":
                try cursor.elements(text) { (cursor, text) throws(JSONError) in
                    let variable = try argument(&cursor, text)
                    guard variable.utf8.dropFirst().contains(UInt8(ascii: "=")), variable.utf8.first != UInt8(ascii: "=") else {
                        throw cursor.error("an environment variable is written NAME=value")
                    }
                    subworker.environment.append(variable)
                }
            default: throw cursor.unknownKey(key, known: "name, command and env")
            }
        }
        if let problem = SubworkerName.problem(with: subworker.name) { throw cursor.error(problem) }
        guard subworker.name != "builtin" else { throw cursor.error("a subworker has another name than \"builtin\"") }
        guard !subworker.arguments.isEmpty else { throw cursor.error("the subworker \"\(subworker.name)\" has no command") }
        return subworker
    }

    private static func argument(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> String {
        let value = try cursor.string(text)
        guard !value.isEmpty, !value.utf8.contains(0) else { throw cursor.error("a part of a command or its environment is empty or has a NUL") }
        return value
    }

    static func waiting(_ bytes: [UInt8]) throws(HTTPFailure) -> Waiting {
        var timeout: UInt64?
        let tasks = try selectedTasks(bytes, known: "tasks, all and timeout_ms") { (cursor, text, key) throws(JSONError) in
            guard key == "timeout_ms" else { return false }
            timeout = try cursor.integer(text)
            return true
        }
        return Waiting(tasks: tasks, timeoutMilliseconds: timeout)
    }

    /// For `cancel`.
    static func tasks(_ bytes: [UInt8]) throws(HTTPFailure) -> TaskSelection {
        try selectedTasks(bytes, known: "tasks and all") { (_, _, _) throws(JSONError) in false }
    }

    private static func selectedTasks(
        _ bytes: [UInt8], known: String, _ other: (inout JSONCursor, Span<UInt8>, String) throws(JSONError) -> Bool
    ) throws(HTTPFailure) -> TaskSelection {
        var ranges: [Range<UInt32>]?
        var isAll = false
        try read(bytes) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "tasks": ranges = try Self.ranges(&cursor, text)
            case "all":
                isAll = try cursor.bool(text)
                if !isAll { throw cursor.error("all is true, or left out") }
            default: if try !other(&cursor, text, key) { throw cursor.unknownKey(key, known: known) }
            }
        }
        switch (ranges, isAll) {
        case (let ranges?, false): return .ranges(ranges)
        case (nil, true): return .all
        case (.some, true): throw .badRequest("the body says both tasks and all")
        case (nil, false): throw .badRequest("the body says neither \"tasks\": [[first, count], …] nor \"all\": true")
        }
    }

    static func results(_ bytes: [UInt8]) throws(HTTPFailure) -> Results {
        var ranges: [Range<UInt32>]?
        var timeout: UInt64?
        try read(bytes) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "objects": ranges = try Self.ranges(&cursor, text)
            case "timeout_ms": timeout = try cursor.integer(text)
            default: throw cursor.unknownKey(key, known: "objects and timeout_ms")
            }
        }
        guard let ranges else { throw .badRequest("the body has no \"objects\": [[first, count], …]") }
        return Results(objects: ObjectSelection(ranges: ranges), timeoutMilliseconds: timeout)
    }

    /// For `keep` and `unkeep`.
    static func objects(_ bytes: [UInt8]) throws(HTTPFailure) -> ObjectSelection {
        var ranges: [Range<UInt32>]?
        try read(bytes) { (cursor, text, key) throws(JSONError) in
            guard key == "objects" else { throw cursor.unknownKey(key, known: "objects") }
            ranges = try Self.ranges(&cursor, text)
        }
        guard let ranges else { throw .badRequest("the body has no \"objects\": [[first, count], …]") }
        return ObjectSelection(ranges: ranges)
    }

    static func info(_ bytes: [UInt8]) throws(HTTPFailure) -> Info {
        var info = Info()
        var states: [TaskState]?
        var hasConsequences: Bool?
        var limit: UInt32?
        try read(bytes) { (cursor, text, key) throws(JSONError) in
            switch key {
            case "tasks": info.tasks = .ranges(try Self.ranges(&cursor, text))
            case "objects": info.objects = ObjectSelection(ranges: try Self.ranges(&cursor, text))
            case "states":
                states = []
                try cursor.elements(text) { (cursor, text) throws(JSONError) in states?.append(try Self.taskState(&cursor, text)) }
            case "consequences": hasConsequences = try cursor.bool(text)
            case "limit":
                limit = try cursor.uint32(text)
                guard (1...1_000_000).contains(limit!) else { throw cursor.error("limit is a number from 1 to 1000000") }
            default: throw cursor.unknownKey(key, known: "tasks, states, consequences, limit and objects")
            }
        }
        if let states { info.filter = TaskFilter(states: states) }
        if let hasConsequences { info.filter.hasConsequences = hasConsequences }
        if let limit { info.filter.limit = limit }
        if info.tasks == nil, states != nil || hasConsequences != nil || limit != nil { info.tasks = .all }
        return info
    }

    private static func taskState(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> TaskState {
        let name = try cursor.string(text)
        guard let state = TaskState.allCases.first(where: { $0.name == name }) else {
            throw cursor.error("a state is one of \(TaskState.allCases.map(\.name).joined(separator: ", "))")
        }
        return state
    }

    private static func ranges(_ cursor: inout JSONCursor, _ text: Span<UInt8>) throws(JSONError) -> [Range<UInt32>] {
        var ranges: [Range<UInt32>] = []
        try cursor.elements(text) { (cursor, text) throws(JSONError) in
            try cursor.expect(UInt8(ascii: "["), text)
            let first = try cursor.uint32(text)
            try cursor.expect(UInt8(ascii: ","), text)
            let (end, overflow) = first.addingReportingOverflow(try cursor.uint32(text))
            try cursor.expect(UInt8(ascii: "]"), text)
            // No session reaches the last id, so a range beyond all ids is answered as any other that is too long.
            ranges.append(first..<(overflow ? .max : end))
        }
        return ranges
    }

    private static func read(
        _ bytes: [UInt8], _ body: (inout JSONCursor, Span<UInt8>, String) throws(JSONError) -> Void
    ) throws(HTTPFailure) {
        do throws(JSONError) {
            var cursor = JSONCursor()
            try cursor.members(bytes.span, body)
            try cursor.expectEnd(bytes.span)
        } catch {
            throw .badRequest("the body is wrong at byte \(error.offset): \(error.what)")
        }
    }
}
