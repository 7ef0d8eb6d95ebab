import Simulation
import Testing

/// A few runs; `scripts/simulate` runs thousands of them in release.
@Suite struct SimulationTests {
    @Test(arguments: [UInt64(1)...20, 21...40, 41...60]) func `every task has one outcome and nothing is left`(seeds: ClosedRange<UInt64>) {
        for seed in seeds {
            let report = Simulation(plan: Plan(seed: seed)).run()
            #expect(report.violation == nil, "replay with scripts/simulate \(seed)")
        }
    }

    @Test func `a run is a function of its seed`() {
        func hash(_ seed: UInt64) -> UInt64 { Simulation(plan: Plan(seed: seed)).run().traceHash }
        #expect(hash(42) == hash(42))
        #expect(hash(42) != hash(43))
    }

    @Test func `the runs try what they are for`() {
        var counts: [String: Int] = [:]
        for seed in UInt64(100)...160 { counts.merge(Simulation(plan: Plan(seed: seed)).run().counts) { $0 + $1 } }
        for name in ["faults", "fetches", "finished tasks", "failed tasks", "cancelled tasks", "lost frames", "subworker crashes", "workers lost"] {
            #expect(counts[name] ?? 0 > 0, "no \(name)")
        }
    }

    @Test func `a reduction leaves out what it names and nothing else`() throws {
        let (seed, reduction) = try #require(Reduction.parse("7,tasks=3,without-faults=0"))
        let whole = Plan(seed: seed)
        let reduced = Plan(seed: seed, reduction: reduction)
        #expect(reduced.cpus == whole.cpus)
        #expect(reduced.faults.count == max(0, whole.faults.count - 1))
        for (small, large) in zip(reduced.clients, whole.clients) {
            #expect(small.graph.inputs == Array(large.graph.inputs.prefix(3)))
        }
        #expect(Reduction.parse("seven") == nil)
        #expect(Reduction.parse("7,tasks=many") == nil)
    }
}
