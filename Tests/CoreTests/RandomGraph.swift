import ServerCore
import TaskModel

/// A random submit, with what each task must see and make: an object's value is a number mixed from its inputs' values.
struct RandomGraph {
    var submit = Submit()
    var inputs: [[UInt32]] = []
    var outputs: [Range<UInt32>] = []
    var templateOf: [Int] = []
    var values: [UInt64] = []
    var failing: Set<UInt32> = []
    var isLarge: Set<UInt32> = []
    private var producers: [UInt32?] = []

    init(random: inout SeededGenerator, taskCount: Int, failurePercent: Int) {
        let types = ["builtin/concat", "c/f", "c/g", "d/f"]
        for type in types {
            for cpus in [UInt32(1), 2] {
                var template = TaskTemplate(type: type)
                template.resources = Resources(cpus: cpus)
                template.outputs = (0..<(cpus == 1 ? 1 : 2)).map { OutputSpec(label: "o\($0)") }
                submit.templates.append(template)
            }
        }
        for _ in 0..<(1 + random.below(3)) { addUpload(&random) }
        for template in submit.templates.indices where random.chance(40) { submit.templates[template].constants = [0] }
        for task in 0..<taskCount {
            if random.chance(10) { addUpload(&random) }
            addTask(UInt32(task), &random)
            if random.chance(failurePercent) { failing.insert(UInt32(task)) }
        }
    }

    private mutating func addUpload(_ random: inout SeededGenerator) {
        let value = random.next()
        submit.uploads.append(.init(offset: UInt32(values.count), value: .inline(Self.bytes(value))))
        values.append(value)
        producers.append(nil)
    }

    private mutating func addTask(_ task: UInt32, _ random: inout SeededGenerator) {
        let template = random.below(submit.templates.count)
        let mine = (0..<random.below(4)).map { _ in UInt32(random.below(values.count)) }
        submit.rows.template.append(UInt32(template))
        submit.rows.count.append(1)
        submit.rows.firstOutputOffset.append(UInt32(values.count))
        submit.rows.inputs.append(contentsOf: mine)
        submit.rows.inputEnd.append(UInt32(submit.rows.inputs.count))
        submit.rows.argumentsEnd.append(0)
        let first = UInt32(values.count)
        let all = submit.templates[template].constants + mine
        for position in submit.templates[template].outputs.indices {
            if random.chance(30) { isLarge.insert(UInt32(values.count)) }
            values.append(Self.value(task: task, position: position, inputs: all.map { values[Int($0)] }))
            producers.append(task)
        }
        if random.chance(30) { submit.rows.options.append((task, Submit.RowOptions(keep: [0]))) }
        templateOf.append(template)
        inputs.append(all)
        outputs.append(first..<UInt32(values.count))
    }

    static func value(task: UInt32, position: Int, inputs: [UInt64]) -> UInt64 {
        inputs.reduce(UInt64(task) &* 31 &+ UInt64(position) &+ 1) { ($0 ^ $1) &* 0x0100_0000_01B3 }
    }

    static func bytes(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) } }

    /// What must become of each task: `true` when it finishes.
    func expectedToFinish() -> [Bool] {
        var finishes: [Bool] = []
        for task in inputs.indices {
            let inputsExist = inputs[task].allSatisfy { object in producers[Int(object)].map { finishes[Int($0)] } ?? true }
            finishes.append(inputsExist && !failing.contains(UInt32(task)))
        }
        return finishes
    }
}
