import Link
import Wire

/// Frames of either side: values that come back as they are, or an error.
func fuzzControl(_ bytes: UnsafeRawBufferPointer) {
    let bytes = Array(bytes)
    var codec = ControlCodec()
    if let frame = try? codec.decodeFromServer(bytes) {
        // What came in may be written shorter than we do, so it may be too large to be written again.
        if let again = try? codec.encode(frame) {
            guard let second = try? codec.decodeFromServer(again), second == frame else { fatalError("a frame of a server changes on its way") }
        }
    }
    if let frame = try? codec.decodeFromWorker(bytes), let again = try? codec.encode(frame) {
        guard let second = try? codec.decodeFromWorker(again), second == frame else { fatalError("a frame of a worker changes on its way") }
    }
}

/// What a subworker sends: whole at once, and cut in two.
func fuzzSubworkerPlane(_ bytes: UnsafeRawBufferPointer) {
    var codec = SubworkerCodec()
    var whole: [FromSubworker] = []
    let consumed = try? codec.decode(bytes, into: &whole)
    let cut = bytes.count / 2
    var parts: [FromSubworker] = []
    guard let first = try? codec.decode(UnsafeRawBufferPointer(rebasing: bytes[..<cut]), into: &parts) else { return }
    let second = try? codec.decode(UnsafeRawBufferPointer(rebasing: bytes[first...]), into: &parts)
    guard whole == parts, consumed == second.map({ first + $0 }) else { fatalError("messages depend on how they arrive") }
}
