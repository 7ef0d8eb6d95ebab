import Simulation

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Runs the simulation: `rain-simulate FIRST-LAST` prints a line for each seed, `rain-simulate SPEC [--trace]` runs one and says what happened.
/// A violation ends the process with status 1; a core that traps ends it with a signal after its message. `scripts/simulate` drives it.
///
/// `rain-simulate scale` measures what the cores take per task among few tasks and many.

/// Unbuffered, so that the last line before a trap is seen.
func say(_ line: String, to descriptor: Int32 = 1) {
    let bytes = Array((line + "\n").utf8)
    _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
}

func fail(_ message: String) -> Never {
    say(message, to: 2)
    exit(2)
}

func runRange(_ first: UInt64, _ last: UInt64) {
    for seed in first...last {
        say("seed \(seed)")
        let report = Simulation(plan: Plan(seed: seed)).run()
        if let violation = report.violation {
            say("violation \(violation)")
            exit(1)
        }
        let counts = report.counts.sorted { $0.key < $1.key }.map { "\($0.key.split(separator: " ").joined(separator: "_"))=\($0.value)" }
        say("hash \(String(report.traceHash, radix: 16)) events=\(report.eventCount) \(counts.joined(separator: " "))")
    }
}

func runOne(_ seed: UInt64, _ reduction: Reduction, isTraced: Bool) {
    let plan = Plan(seed: seed, reduction: reduction)
    let tasks = plan.clients.map(\.graph.inputs.count).max() ?? 0
    let whole = Plan(seed: seed)
    say("clients=\(whole.clients.count) tasks=\(tasks) faults=\(whole.faults.count)")
    let report = Simulation(plan: plan, log: isTraced ? { say($0) } : nil).run()
    say("hash \(String(report.traceHash, radix: 16)) events=\(report.eventCount)")
    if let violation = report.violation {
        say("violation \(violation)")
        exit(1)
    }
}

/// CPU time of this process.
func cpuNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A line for each shape of work: ns of CPU per task for each number of tasks. Small ones run several times.
func measure(_ shapes: [Workload.Shape], _ taskCounts: [Int]) {
    say((["shape"] + taskCounts.map { "\($0)" }).joined(separator: "\t"))
    for shape in shapes {
        var line = [shape.rawValue]
        for taskCount in taskCounts {
            let runs = max(1, 20_000 / taskCount)
            let start = cpuNanoseconds()
            for _ in 0..<runs {
                Workload(shape, taskCount: taskCount).run()
            }
            line.append("\((cpuNanoseconds() - start) / UInt64(runs * taskCount))")
        }
        say(line.joined(separator: "\t"))
    }
}

func measure(_ arguments: [String]) {
    var shapes: [Workload.Shape] = []
    var taskCounts: [Int] = []
    for argument in arguments {
        if let shape = Workload.Shape.named(argument) {
            shapes.append(shape)
        } else if let count = Int(argument), (1...10_000_000).contains(count) {
            taskCounts.append(count)
        } else {
            fail("\(argument) is neither a number of tasks nor one of: " + Workload.Shape.allCases.map(\.rawValue).joined(separator: ", "))
        }
    }
    measure(shapes.isEmpty ? Workload.Shape.allCases : shapes, taskCounts.isEmpty ? [1000, 10_000, 100_000, 1_000_000] : taskCounts)
}

if CommandLine.arguments.dropFirst().first == "scale" {
    measure(Array(CommandLine.arguments.dropFirst(2)))
    exit(0)
}

let arguments = CommandLine.arguments.dropFirst().filter { !$0.hasPrefix("--") }
let isTraced = CommandLine.arguments.contains("--trace")
guard arguments.count == 1, let argument = arguments.first else {
    fail("usage: rain-simulate FIRST-LAST | SEED[,tasks=N][,without-faults=0+1][,without-clients=0] [--trace] | scale [SHAPE …] [TASKS …]")
}
let bounds = argument.split(separator: "-")
if bounds.count == 2, let first = UInt64(bounds[0]), let last = UInt64(bounds[1]), first <= last {
    runRange(first, last)
} else if let (seed, reduction) = Reduction.parse(argument) {
    runOne(seed, reduction, isTraced: isTraced)
} else {
    fail("\(argument) is neither a range of seeds nor a run")
}
