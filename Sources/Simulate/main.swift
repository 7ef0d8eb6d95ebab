import Simulation

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Runs the simulation: `rain-simulate FIRST-LAST` prints a line for each seed, `rain-simulate SPEC [--trace]` runs one and says what happened.
/// A violation ends the process with status 1; a core that traps ends it with a signal after its message. `scripts/simulate` drives it.

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

let arguments = CommandLine.arguments.dropFirst().filter { !$0.hasPrefix("--") }
let isTraced = CommandLine.arguments.contains("--trace")
guard arguments.count == 1, let argument = arguments.first else {
    fail("usage: rain-simulate FIRST-LAST | SEED[,tasks=N][,without-faults=0+1][,without-clients=0] [--trace]")
}
let bounds = argument.split(separator: "-")
if bounds.count == 2, let first = UInt64(bounds[0]), let last = UInt64(bounds[1]), first <= last {
    runRange(first, last)
} else if let (seed, reduction) = Reduction.parse(argument) {
    runOne(seed, reduction, isTraced: isTraced)
} else {
    fail("\(argument) is neither a range of seeds nor a run")
}
