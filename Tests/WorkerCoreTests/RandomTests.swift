import Testing

@Suite struct RandomTests {
    @Test(arguments: 0..<40) func `every attempt has one end, and nothing is left`(seed: Int) throws {
        var server = try RandomServer(seed: UInt64(seed) &* 7919 &+ 1)
        do {
            try server.run(steps: 3000)
        } catch {
            Issue.record("seed \(seed): \(error)")
        }
    }

    @Test func `the random runs go everywhere`() throws {
        var counts: [String: Int] = [:]
        for seed in UInt64(100)..<110 {
            var server = try RandomServer(seed: seed &* 7919 &+ 1)
            try server.run(steps: 3000)
            counts.merge(server.shell.counts) { $0 + $1 }
        }
        for what in [
            "finished", "failed", "cancelled", "taken back", "recalled", "crashes", "cached inputs", "full", "spilled files", "new servers",
            "calls in a message", "programs started", "damaged files", "small outputs that became files",
        ] {
            #expect(counts[what, default: 0] > (what == "new servers" ? 0 : 10), "\(what): \(counts[what, default: 0])")
        }
    }
}
