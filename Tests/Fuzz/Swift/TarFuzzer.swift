import Tar

/// A directory's stream in pieces: what the reader lets through can be in a directory, and written again it is the same bytes.
func fuzzTar(_ bytes: UnsafeRawBufferPointer) {
    guard let first = bytes.first else { return }
    let stream = UnsafeRawBufferPointer(rebasing: bytes[1...])
    let whole = read(stream, piece: stream.count)
    let pieces = read(stream, piece: max(1, Int(first) * 7))
    precondition(whole == pieces, "the pieces in which a stream comes make a difference")
    if let written = whole { precondition(stream.elementsEqual(written), "a stream was taken that is not in the form") }
}

/// - Returns: the stream as it is written again; `nil` when it is refused.
private func read(_ stream: UnsafeRawBufferPointer, piece: Int) -> [UInt8]? {
    var reader = TarReader()
    var written: [UInt8] = []
    var padding = 0
    var start = 0
    do throws(TarError) {
        while start < stream.count {
            var rest = UnsafeRawBufferPointer(rebasing: stream[start..<min(start + piece, stream.count)])
            start += piece
            while let item = try reader.next(&rest) {
                switch item {
                case .entry(let entry):
                    precondition(entry.problem == nil, "an entry that can't be in a directory")
                    written += repeatElement(0, count: padding)
                    TarForm.appendHeader(of: entry, to: &written)
                    padding = TarForm.padding(entry.sizeBytes)
                case .bytes(let part): written += part
                }
            }
        }
        try reader.finish()
    } catch { return nil }
    return written + [UInt8](repeating: 0, count: padding + TarForm.endBytes)
}
