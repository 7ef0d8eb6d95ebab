import Link
import NIOCore
import ServerCore
import TaskModel

extension ClientPlane {
    private static let answerBytesMax = 4096
    /// A worker that is stopped, or cut off, must not hold up those who ask for all of them.
    private static let patience = TimeAmount.seconds(1)

    /// What each worker says that it has moved, as JSON; without those that don't answer.
    func transfers(of workers: [WorkerStatus]) async -> [WorkerID: [UInt8]] {
        await withTaskGroup(of: (WorkerID, [UInt8]?).self) { group in
            for worker in workers {
                let (id, endpoint) = (worker.worker, worker.description.dataEndpoint)
                group.addTask { (id, try? await transfers(at: endpoint)) }
            }
            var found: [WorkerID: [UInt8]] = [:]
            for await (id, text) in group { found[id] = text }
            return found
        }
    }

    private func transfers(at endpoint: Endpoint) async throws(HolderError) -> [UInt8] {
        let connection = try await holders.connect(to: endpoint, patience: Self.patience)
        let timer = holders.loop.scheduleTask(in: Self.patience) { connection.close() }
        defer {
            timer.cancel()
            connection.close()
        }
        let text = try await connection.getText(holders.statusTarget, bytesMax: Self.answerBytesMax)
        // It becomes part of our own answer, so it must be one object of JSON.
        do throws(JSONError) {
            var cursor = JSONCursor()
            try cursor.members(text.span) { (cursor, text, _) throws(JSONError) in let _: UInt64 = try cursor.integer(text, max: .max) }
            try cursor.expectEnd(text.span)
        } catch { throw .broken(endpoint, reason: "its status can't be read: \(error.what)") }
        return text.last == UInt8(ascii: "\n") ? Array(text.dropLast()) : text
    }
}
