import Synchronization

/// Bytes of objects that have passed through this server since its start. What workers hand each other is not among them; values of up to
/// `ControlLimits.inlineBytesMax` travel with the messages about them and are not counted.
final class ObjectTraffic: Sendable {
    /// From clients into the depot.
    let uploadedBytes = Atomic<UInt64>(0)
    /// Read from the data ports of workers, on behalf of clients.
    let fromWorkersBytes = Atomic<UInt64>(0)
    /// Of the depot, to workers.
    let toWorkersBytes = Atomic<UInt64>(0)
    let toClientsBytes = Atomic<UInt64>(0)

    func write(to writer: inout JSONWriter) {
        writer.object { writer in
            writer.key("uploaded_bytes")
            writer.integer(uploadedBytes.load(ordering: .relaxed))
            writer.key("from_workers_bytes")
            writer.integer(fromWorkersBytes.load(ordering: .relaxed))
            writer.key("to_workers_bytes")
            writer.integer(toWorkersBytes.load(ordering: .relaxed))
            writer.key("to_clients_bytes")
            writer.integer(toClientsBytes.load(ordering: .relaxed))
        }
    }
}
