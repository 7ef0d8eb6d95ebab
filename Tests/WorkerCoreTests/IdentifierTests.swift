import TaskModel
import Testing

@Suite struct IdentifierTests {
    private static func replica(_ session: UInt32, _ index: UInt32, _ epoch: UInt32, _ number: UInt32) -> Replica {
        Replica(
            object: ObjectID(session: SessionID(session), index: index), generation: Generation(epoch: ServerEpoch(epoch), number: number))
    }

    /// As a server gives them: sessions and tasks are counted, numbers of attempts are small.
    private static let ids: [Replica] =
        (1...4).flatMap { session in (0..<1 << 14).map { replica(session, $0, 1, 1) } }
        + (1...8).flatMap { epoch in (1...8).flatMap { number in (0..<256).map { replica(9, $0, epoch, number) } } }

    @Test(arguments: [0, 1, -1, 0x1234_5678_9ABC, Int.min])
    func `hashes of dense ids spread over all places of a table`(seed: Int) {
        var filled = [Int](repeating: 0, count: 1 << 12)
        for id in Self.ids { filled[id._rawHashValue(seed: seed) & (filled.count - 1)] += 1 }
        // 20 in each on average; of random ones the fullest of 4,096 has about 40.
        #expect(filled.max()! < 50)
        #expect(Set(Self.ids.map { $0._rawHashValue(seed: seed) }).count == Self.ids.count)
    }

    @Test func `a table's seed changes the order of its ids`() {
        func order(_ seed: Int) -> [Int] {
            let places = Self.ids[..<1024].map { $0._rawHashValue(seed: seed) & 2047 }
            return places.indices.sorted { (places[$0], $0) < (places[$1], $1) }
        }
        #expect(order(1) != order(2))
    }

    @Test func `every part of an id counts`() {
        let replicas = [Self.replica(1, 2, 3, 4), Self.replica(2, 2, 3, 4), Self.replica(1, 3, 3, 4), Self.replica(1, 2, 4, 4), Self.replica(1, 2, 3, 5)]
        #expect(Set(replicas).count == 5)
        #expect(Set(replicas.map { $0._rawHashValue(seed: 7) }).count == 5)
        let attempts = replicas.map {
            AttemptID(
                task: TaskID(session: $0.object.session, index: $0.object.index), epoch: $0.generation.epoch, number: $0.generation.number)
        }
        #expect(Set(attempts.map { $0._rawHashValue(seed: 7) }).count == 5)
    }
}
