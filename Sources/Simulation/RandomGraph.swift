import ServerCore
import TaskModel

/// A random session's work in one or more submits, with what each task must see and make.
///
/// An object's value is a number mixed from its inputs' values; on the way it is followed by the number of the run that made it,
/// so that bytes of two generations of one object can be told apart.
package struct RandomGraph: Sendable {
    package private(set) var submits: [Submit] = []
    package private(set) var templates: [TaskTemplate] = []
    /// By task: objects that it gets, its template's constants first.
    package private(set) var inputs: [[UInt32]] = []
    package private(set) var outputs: [Range<UInt32>] = []
    package private(set) var templateOf: [Int] = []
    package private(set) var failing: [Bool] = []
    /// Whether it ends the worker that runs it.
    package private(set) var killing: [Bool] = []
    /// By object.
    package private(set) var values: [UInt64] = []
    package private(set) var isLarge: [Bool] = []
    package private(set) var isDirectory: [Bool] = []
    package private(set) var isKept: [Bool] = []
    package private(set) var producers: [UInt32?] = []
    /// The position of the input whose bytes an output has.
    package private(set) var sameAsInput: [Int?] = []

    package struct Shape: Sendable {
        package var taskCount = 20
        package var submitCount = 1
        package var failurePercent = 0
        /// Of tasks that end the worker that runs them.
        package var killerPercent = 0
        package var cpusMax: UInt32 = 2
        /// Of templates that must not run twice.
        package var neverPercent = 0
        /// Of rows that are task arrays.
        package var arrayPercent = 0
        package var largePercent = 30
        /// Of outputs, and of what clients upload.
        package var directoryPercent = 0
        /// Of outputs that are the same as an input.
        package var samePercent = 8
        package init() {}
    }

    package init(random: inout SeededGenerator, shape: Shape, tasksMax: Int = .max) {
        let taskCount = min(shape.taskCount, tasksMax)
        var draft = Draft()
        addTemplates(&random, shape, &draft)
        var submitStart = 0
        for submit in 0..<shape.submitCount {
            let end = submit == shape.submitCount - 1 ? shape.taskCount : shape.taskCount * (submit + 1) / shape.submitCount
            draft.firstOfSubmit = UInt32(values.count)
            while submitStart < min(end, taskCount) {
                if random.chance(10) {
                    let isSmall = random.chance(70)
                    addUpload(&random, &draft, isSmall: isSmall, isDirectory: !isSmall && random.chance(shape.directoryPercent))
                }
                submitStart += addRow(&random, shape, &draft, rest: min(end, taskCount) - submitStart)
            }
            finish(&draft)
        }
    }

    private struct Draft {
        var submit = Submit()
        /// Of the submit that is being written.
        var firstTask: UInt32 = 0
        var firstOfSubmit: UInt32 = 0
        var firstObject: UInt32 = 0
    }

    private mutating func addTemplates(_ random: inout SeededGenerator, _ shape: Shape, _ draft: inout Draft) {
        for _ in 0..<(1 + random.below(3)) {
            let isSmall = !random.chance(30)
            addUpload(&random, &draft, isSmall: isSmall, isDirectory: !isSmall && random.chance(shape.directoryPercent))
        }
        let constants = UInt32(values.count)
        var types = ["builtin/concat", "c/f", "c/g", "ffi/d/f", "ffi/e/f"]
        if random.chance(40) { types.append(declareSubworker(&random, &draft)) }
        for type in types {
            for cpus in [UInt32(1), 2] {
                var template = TaskTemplate(type: type)
                template.resources = Resources(cpus: random.chance(5) ? 0 : min(cpus, shape.cpusMax))
                template.outputs = (0..<(cpus == 1 ? 1 : 2)).map { OutputSpec(label: "o\($0)", isDirectory: random.chance(shape.directoryPercent)) }
                template.retryCountMax = UInt32(random.below(3))
                template.threads = 2 * (cpus - 1)
                if random.chance(shape.neverPercent) { template.rerun = .never }
                templates.append(template)
            }
        }
        for template in templates.indices where random.chance(40) {
            templates[template].constants = random.chance(20) ? Array(0..<constants) : [UInt32(random.below(Int(constants)))]
        }
        draft.submit.templates = templates
    }

    /// A program that the session brings along; any object's bytes will do.
    ///
    /// - Returns: the type of its tasks.
    private mutating func declareSubworker(_ random: inout SeededGenerator, _ draft: inout Draft) -> String {
        if isDirectory[values.count - 1] || random.chance(50) { addUpload(&random, &draft, isSmall: false) }
        let object = UInt32(values.count - 1)
        draft.submit.subworkers = [DeclaredSubworker(name: "s", program: SubworkerProgram(object: object))]
        return "s/f"
    }

    private mutating func addUpload(_ random: inout SeededGenerator, _ draft: inout Draft, isSmall: Bool, isDirectory: Bool = false) {
        let value = random.next()
        let offset = UInt32(values.count) - draft.firstObject
        let blob = BlobHash(bytes: Self.bytes(value) + [UInt8](repeating: 7, count: 24))
        if isSmall {
            draft.submit.uploads.append(.init(offset: offset, value: .inline(Self.bytes(value))))
        } else if let blob {
            draft.submit.uploads.append(.init(offset: offset, isDirectory: isDirectory, value: .blob(blob, sizeBytes: 10_000)))
        }
        addObject(value, producer: nil, isLarge: !isSmall, isDirectory: isDirectory, isKept: true, sameAs: nil)
    }

    private mutating func addObject(
        _ value: UInt64, producer: UInt32?, isLarge large: Bool, isDirectory directory: Bool, isKept kept: Bool, sameAs position: Int?
    ) {
        values.append(value)
        producers.append(producer)
        isLarge.append(large)
        isDirectory.append(directory)
        isKept.append(kept)
        sameAsInput.append(position)
    }

    /// An earlier object: of an earlier submit only one that is surely still there.
    private func pick(_ random: inout SeededGenerator, _ draft: Draft) -> UInt32 {
        while true {
            // Neighbours more often than others: chains and not only bushes.
            let span = random.chance(50) ? min(6, values.count) : values.count
            let object = values.count - 1 - random.below(span)
            if object >= Int(draft.firstOfSubmit) || isKept[object] { return UInt32(object) }
            if isKept[0], random.chance(20) { return 0 }
        }
    }

    private mutating func addRow(_ random: inout SeededGenerator, _ shape: Shape, _ draft: inout Draft, rest: Int) -> Int {
        let template = random.below(templates.count)
        let count = random.chance(shape.arrayPercent) ? min(rest, 1 + random.below(4)) : 1
        let mine = (0..<random.below(4)).map { _ in pick(&random, draft) }
        let row = UInt32(draft.submit.rows.rowCount)
        draft.submit.rows.template.append(UInt32(template))
        draft.submit.rows.count.append(UInt32(count))
        draft.submit.rows.firstOutputOffset.append(UInt32(values.count) - draft.firstObject)
        draft.submit.rows.inputs.append(contentsOf: mine)
        draft.submit.rows.inputEnd.append(UInt32(draft.submit.rows.inputs.count))
        draft.submit.rows.argumentsEnd.append(0)
        let isKept = random.chance(30)
        if isKept { draft.submit.rows.options.append((row, Submit.RowOptions(keep: [0]))) }
        let all = templates[template].constants + mine
        for _ in 0..<count { addTask(&random, shape, template: template, all, isKept: isKept) }
        return count
    }

    private mutating func addTask(_ random: inout SeededGenerator, _ shape: Shape, template: Int, _ all: [UInt32], isKept: Bool) {
        let task = UInt32(inputs.count)
        let first = UInt32(values.count)
        for position in templates[template].outputs.indices {
            let directory = templates[template].outputs[position].isDirectory
            let large = random.chance(shape.largePercent) || directory
            let alike = all.indices.filter { isDirectory[Int(all[$0])] == directory }
            let same = !alike.isEmpty && random.chance(shape.samePercent) ? alike[random.below(alike.count)] : nil
            let value = same.map { values[Int(all[$0])] } ?? Self.value(task: task, position: position, inputs: all.map { values[Int($0)] })
            addObject(value, producer: task, isLarge: large, isDirectory: directory, isKept: isKept && position == 0, sameAs: same)
        }
        templateOf.append(template)
        inputs.append(all)
        outputs.append(first..<UInt32(values.count))
        failing.append(random.chance(shape.failurePercent))
        killing.append(shape.killerPercent > 0 && random.chance(shape.killerPercent))
    }

    private mutating func finish(_ draft: inout Draft) {
        draft.submit.firstTask = draft.firstTask
        draft.submit.firstObject = draft.firstObject
        draft.submit.firstTemplate = submits.isEmpty ? 0 : UInt32(templates.count)
        draft.submit.hashLow = UInt64(submits.count)
        submits.append(draft.submit)
        draft = Draft()
        draft.firstTask = UInt32(inputs.count)
        draft.firstObject = UInt32(values.count)
    }

    /// Whether the task that makes the object makes a file for it.
    func isFile(_ object: UInt32) -> Bool { isLarge[Int(object)] && sameAsInput[Int(object)] == nil }

    /// Whether an ancestor of the task must not run twice, so that its outputs can be lost for good.
    package func descendsFromOnce(_ task: Int) -> Bool { hasAncestor(task) { templates[templateOf[$0]].rerun == .never } }

    package func hasAncestor(_ task: Int, where isIt: (Int) -> Bool) -> Bool {
        var isSeen = [Bool](repeating: false, count: inputs.count)
        var worklist = [task]
        while let next = worklist.popLast() {
            for case .some(let producer) in inputs[next].map({ producers[Int($0)] }) where !isSeen[Int(producer)] {
                if isIt(Int(producer)) { return true }
                isSeen[Int(producer)] = true
                worklist.append(Int(producer))
            }
        }
        return false
    }

    package static func value(task: UInt32, position: Int, inputs: [UInt64]) -> UInt64 {
        inputs.reduce(UInt64(task) &* 31 &+ UInt64(position) &+ 1) { ($0 ^ $1) &* 0x0100_0000_01B3 }
    }

    package static func bytes(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) } }
}
