import ServerCore
import TaskModel

/// Everything that a run is given: cluster, clients with their work, and faults. All of it follows from the seed; a reduction leaves
/// parts out without changing the others.
package struct Plan: Sendable {
    package var seed: UInt64
    package var cpus: [UInt32]
    /// What each worker offers: a subworker, and libraries of one that all have, by name or whichever (`ffi/`). One that is large enough for
    /// every task offers all.
    var offers: [[String]]
    package var clients: [ClientPlan]
    package var faults: [Fault]
    /// How fast things are in this run.
    var commitMicroseconds: ClosedRange<Int>
    var networkMicroseconds: ClosedRange<Int>
    var taskMicrosecondsMax: Int
    var crashPercent: Int
    /// Of tasks that write to a file that they were to read.
    var damagePercent: Int
    /// Whether the server dies soon after that was found for the first time.
    var hasDeathAfterDamage: Bool
    /// By worker.
    var stores: [StorePlan]
    /// By worker, whether it never gets to the end of a handover, so that it has to be given up.
    var neverHandsOver: [Bool]

    struct StorePlan: Sendable {
        /// `nil` without a limit.
        var memoryBytes: UInt64?
        var diskBytes: UInt64?
        var spillFailurePercent: Int
        /// Whether the server is told that a new process of the worker follows one that is gone.
        var hasPlace: Bool
        /// What an outcome may carry, so that small outputs become files; `nil`: as ever.
        var resultBytesMax: Int?
        /// Nothing can be executed from its memory.
        var isNoExec = false
    }

    package struct ClientPlan: Sendable {
        package var graph: RandomGraph
        var onError: OnError
        var startMilliseconds: UInt64
        var graceMilliseconds: UInt32
        /// Closes without waiting for its tasks.
        var closesEarly: Bool
        /// Goes away for good in the middle, without a word.
        var vanishesAfterMilliseconds: UInt64?
        var cancels: Bool
        var keeps: Bool
        var repeatsSubmits: Bool
        var withdraws: Bool
    }

    package struct Fault: Sendable {
        package var atMilliseconds: UInt64
        package var kind: Kind
        package init(atMilliseconds: UInt64, kind: Kind) {
            self.atMilliseconds = atMilliseconds
            self.kind = kind
        }
        package enum Kind: Sendable {
            case breakConnection(worker: Int)
            /// Nothing passes upward, downward or both until then; TCP holds it back.
            case partition(worker: Int, up: Bool, down: Bool, milliseconds: UInt64)
            case dataPartition(worker: Int, milliseconds: UInt64)
            case crashWorker(worker: Int, restartMilliseconds: UInt64)
            case freezeWorker(worker: Int, milliseconds: UInt64)
            case freezeServer(milliseconds: UInt64)
            case crashServer(restartMilliseconds: UInt64)
            case crashSubworker(worker: Int)
            case breakLease(client: Int, resumeMilliseconds: UInt64)
            /// A batch of an epoch or incarnation that is over arrives on a connection of today.
            case ghost(worker: Int)
            case slowDisk(milliseconds: UInt64)
            case fullDisk
        }
    }

    /// Whether the outcome of every task follows from its graph, whatever happens to workers.
    package var isPlain: Bool {
        crashPercent == 0 && damagePercent == 0 && stores.allSatisfy { $0.memoryBytes == nil || $0.diskBytes == nil }
            && clients.allSatisfy { client in
                client.onError == .failDescendants && !client.closesEarly && !client.cancels && client.vanishesAfterMilliseconds == nil
                    && client.graph.templates.allSatisfy { $0.rerun != .never }
            }
    }

    package init(seed: UInt64, reduction: Reduction = Reduction()) {
        var random = SeededGenerator(seed: seed, part: 1)
        self.seed = seed
        cpus = (0..<(1 + random.below(5))).map { _ in UInt32(1 + random.below(4)) }
        let isQuiet = random.chance(15)
        commitMicroseconds = random.chance(50) ? 100...2_000 : 1_000...60_000
        networkMicroseconds = random.chance(60) ? 20...500 : 500...40_000
        taskMicrosecondsMax = [50, 2_000, 40_000, 400_000][random.below(4)]
        crashPercent = isQuiet ? 0 : [0, 0, 1, 4][random.below(4)]
        var storeRandom = SeededGenerator(seed: seed, part: 3)
        stores = cpus.map { _ in Self.store(&storeRandom) }
        var offerRandom = SeededGenerator(seed: seed, part: 4)
        offers = Self.offers(&offerRandom, cpus)
        var damageRandom = SeededGenerator(seed: seed, part: 5)
        damagePercent = isQuiet || damageRandom.chance(65) ? 0 : [3, 10, 30][damageRandom.below(3)]
        hasDeathAfterDamage = damageRandom.chance(30)
        var resultRandom = SeededGenerator(seed: seed, part: 6)
        // Room for what two outputs have besides their bytes.
        if resultRandom.chance(15) { for worker in stores.indices { stores[worker].resultBytesMax = 240 + resultRandom.below(40) } }
        for worker in stores.indices where resultRandom.chance(10) { stores[worker].isNoExec = true }
        // Only the next process of a worker knows what the one before ran, so each must be known to follow it.
        let killerPercent = !isQuiet && offerRandom.chance(12) ? 5 : 0
        if killerPercent > 0 { for worker in stores.indices { stores[worker].hasPlace = true } }
        var handoverRandom = SeededGenerator(seed: seed, part: 7)
        let isSilencePossible = !isQuiet && handoverRandom.chance(15)
        neverHandsOver = cpus.map { _ in isSilencePossible && handoverRandom.chance(50) }
        clients = []
        let clientCount = 1 + random.below(3)
        for client in 0..<clientCount {
            clients.append(Self.client(seed, UInt64(client), cpusMax: cpus.max() ?? 1, killerPercent: killerPercent, tasksMax: reduction.tasksMax))
        }
        faults = []
        let faultCount = isQuiet ? 0 : random.below(7)
        for fault in 0..<faultCount {
            var own = SeededGenerator(seed: seed, part: 200 + UInt64(fault))
            faults.append(Self.fault(&own, workerCount: cpus.count, clientCount: clientCount))
        }
        faults = faults.indices.filter { !reduction.withoutFaults.contains($0) }.map { faults[$0] }
        for client in clients.indices where reduction.withoutClients.contains(client) { clients[client].startMilliseconds = .max }
    }

    private static func offers(_ random: inout SeededGenerator, _ cpus: [UInt32]) -> [[String]] {
        let all = random.chance(50) ? ["c", "ffi/d", "ffi/e"] : ["c", "ffi/"]
        let some = [["c"], ["ffi/d"], [], ["ffi/d", "c"], ["ffi/"], ["ffi/e", "ffi/"]]
        var offers = cpus.map { _ in random.chance(60) ? all : some[random.below(some.count)] }
        if let largest = cpus.indices.max(by: { cpus[$0] < cpus[$1] }) { offers[largest] = all }
        return offers
    }

    private static func store(_ random: inout SeededGenerator) -> StorePlan {
        let memoryBytes: UInt64? = random.chance(45) ? nil : [25_000, 60_000, 120_000, 400_000][random.below(4)]
        let diskBytes: UInt64? = random.chance(80) ? nil : [15_000, 60_000, 200_000][random.below(3)]
        return StorePlan(
            memoryBytes: memoryBytes, diskBytes: diskBytes, spillFailurePercent: [0, 0, 10, 60][random.below(4)], hasPlace: random.chance(50))
    }

    private static func client(_ seed: UInt64, _ number: UInt64, cpusMax: UInt32, killerPercent: Int, tasksMax: Int) -> ClientPlan {
        var random = SeededGenerator(seed: seed, part: 100 + number)
        var shape = RandomGraph.Shape()
        shape.taskCount = random.chance(5) ? 150 : 1 + random.below(40)
        shape.submitCount = random.chance(30) ? 2 + random.below(2) : 1
        shape.failurePercent = [0, 0, 3, 10][random.below(4)]
        shape.cpusMax = cpusMax
        shape.neverPercent = random.chance(30) ? 25 : 0
        shape.arrayPercent = random.chance(50) ? 15 : 0
        shape.largePercent = [10, 30, 70][random.below(3)]
        shape.killerPercent = killerPercent
        shape.directoryPercent = random.chance(40) ? 20 : 0
        shape.samePercent = random.chance(70) ? 8 : 35
        let isPlain = random.chance(40)
        return ClientPlan(
            graph: RandomGraph(random: &random, shape: shape, tasksMax: tasksMax), onError: random.chance(60) ? .failDescendants : .failSession,
            startMilliseconds: UInt64(random.below(300)), graceMilliseconds: 5000, closesEarly: !isPlain && random.chance(10),
            vanishesAfterMilliseconds: !isPlain && random.chance(8) ? UInt64(random.below(1500)) : nil, cancels: !isPlain && random.chance(25),
            keeps: !isPlain && random.chance(40), repeatsSubmits: !isPlain && random.chance(30), withdraws: !isPlain && random.chance(25))
    }

    private static func fault(_ random: inout SeededGenerator, workerCount: Int, clientCount: Int) -> Fault {
        let worker = random.below(workerCount)
        let at = UInt64(random.chance(70) ? random.below(800) : random.below(15_000))
        let long = UInt64(random.chance(70) ? 20 + random.below(4000) : 9000 + random.below(8000))
        let direction = random.below(3)
        let kind: Fault.Kind
        switch random.below(100) {
        case 0..<17: kind = .breakConnection(worker: worker)
        case 17..<27: kind = .partition(worker: worker, up: direction != 1, down: direction != 2, milliseconds: long)
        case 27..<32: kind = .dataPartition(worker: worker, milliseconds: long)
        case 32..<44: kind = .crashWorker(worker: worker, restartMilliseconds: UInt64(20 + random.below(3000)))
        case 44..<53: kind = .freezeWorker(worker: worker, milliseconds: long)
        case 53..<58: kind = .freezeServer(milliseconds: long)
        case 58..<73: kind = .crashServer(restartMilliseconds: long)
        case 73..<79: kind = .crashSubworker(worker: worker)
        case 79..<86: kind = .breakLease(client: random.below(clientCount), resumeMilliseconds: UInt64(random.below(3000)))
        case 86..<93: kind = .ghost(worker: worker)
        case 93..<98: kind = .slowDisk(milliseconds: UInt64(100 + random.below(3000)))
        default: kind = .fullDisk
        }
        return Fault(atMilliseconds: at, kind: kind)
    }
}

/// What is left out of a plan, to find the shortest that still fails; written as `SEED[,tasks=N][,without-faults=1+3][,without-clients=0]`.
package struct Reduction: Equatable, Sendable {
    /// Of each client.
    package var tasksMax: Int = .max
    package var withoutFaults: [Int] = []
    package var withoutClients: [Int] = []
    package init() {}

    package static func parse(_ text: String) -> (seed: UInt64, reduction: Reduction)? {
        let parts = text.split(separator: ",")
        guard let first = parts.first, let seed = UInt64(first) else { return nil }
        var reduction = Reduction()
        for part in parts.dropFirst() {
            let pair = part.split(separator: "=")
            guard pair.count == 2 else { return nil }
            let numbers = pair[1].split(separator: "+").compactMap { Int($0) }
            guard let number = numbers.first else { return nil }
            switch pair[0] {
            case "tasks": reduction.tasksMax = number
            case "without-faults": reduction.withoutFaults = numbers
            case "without-clients": reduction.withoutClients = numbers
            default: return nil
            }
        }
        return (seed, reduction)
    }
}
