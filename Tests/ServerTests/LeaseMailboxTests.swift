import ServerCore
import TaskModel
import Testing

@testable import Server

@Suite struct LeaseMailboxTests {
    private func lines(_ mailbox: LeaseMailbox) async -> [LeaseLine] {
        guard case .lines(let lines) = await mailbox.next() else { return [] }
        return lines
    }

    private func progress(_ task: UInt32, _ millionths: UInt32?) -> TaskProgress {
        TaskProgress(task: task, progress: millionths.map { Progress(millionths: $0) })
    }

    @Test func `of each task's progress the newest waits, before the outcomes`() async {
        let mailbox = LeaseMailbox()
        for millionths in 0..<1000 as Range<UInt32> { mailbox.put([.progress([progress(7, millionths), progress(3, 5)])]) }
        mailbox.put([.finished([1..<2]), .progress([progress(3, nil)])])
        mailbox.put([.finished([2..<4])])
        #expect(await lines(mailbox) == [.progress([progress(7, 999), progress(3, nil)]), .finished([1..<4])])
        mailbox.put([.progress([progress(3, 1)])])
        #expect(await lines(mailbox) == [.progress([progress(3, 1)])], "what was taken is forgotten")
        mailbox.put([.cancelled([5..<6])])
        #expect(await lines(mailbox) == [.cancelled([5..<6])])
    }
}
