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

    @Test func `workers that die cost nothing but time`() {
        var lostCount = 0
        var againCount = 0
        for seed in UInt64(1000)...1024 {
            var plan = Plan(seed: seed)
            plan.faults = []
            let undisturbed = Simulation(plan: plan).run()
            for death in UInt64(0)...(seed % 4) {
                let at = (seed * 7919 + death * 104_729) % 600
                let worker = Int((seed + death) % UInt64(plan.cpus.count))
                plan.faults.append(Plan.Fault(atMilliseconds: at, kind: .crashWorker(worker: worker, restartMilliseconds: 30 + 100 * death)))
            }
            let disturbed = Simulation(plan: plan).run()
            #expect(undisturbed.violation == nil && disturbed.violation == nil, "seed \(seed): \(disturbed.violation.map { "\($0)" } ?? "")")
            lostCount += disturbed.counts["workers lost"] ?? 0
            againCount += max(0, (disturbed.counts["runs"] ?? 0) - (undisturbed.counts["runs"] ?? 0))
            // Where each task may run again, and nobody leaves early or cancels, the outcomes are the same.
            guard plan.isPlain else { continue }
            for outcome in ["finished tasks", "failed tasks"] {
                #expect(disturbed.counts[outcome] == undisturbed.counts[outcome], "seed \(seed): \(outcome)")
            }
        }
        #expect(lostCount > 20 && againCount > 10, "hardly anything was lost: \(lostCount) workers, \(againCount) runs")
    }

    @Test func `a run is a function of its seed`() {
        func hash(_ seed: UInt64) -> UInt64 { Simulation(plan: Plan(seed: seed)).run().traceHash }
        #expect(hash(42) == hash(42))
        #expect(hash(42) != hash(43))
    }

    @Test func `the runs try what they are for`() {
        var counts: [String: Int] = [:]
        for seed in UInt64(100)...160 { counts.merge(Simulation(plan: Plan(seed: seed)).run().counts) { $0 + $1 } }
        for name in [
            "faults", "fetches", "finished tasks", "failed tasks", "cancelled tasks", "lost frames", "subworker crashes", "workers lost",
            "tasks taken back", "tasks not taken back", "files spilled", "files not spilled", "outputs sent to disk", "fetches to disk",
            "outputs without room", "answers that come twice", "programs started", "subworkers worn out", "small outputs that became files",
            "programs in memory", "programs on disk", "files written to", "damaged inputs found", "directories made", "directories fetched",
            "directories passed on", "handovers withheld", "functions of libraries that nobody named",
            "tasks with large constants",
        ] {
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
