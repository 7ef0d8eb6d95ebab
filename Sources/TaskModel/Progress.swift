/// How far a running task is, as its own code says.
package struct Progress: Equatable, Sendable {
    package static let whole: UInt32 = 1_000_000
    package static let textBytesMax = 1024
    /// At most `whole`.
    package let millionths: UInt32
    /// One line, of at most `textBytesMax`; empty when there is nothing to say.
    package let text: String

    /// What is too much, or too long, is cut.
    package init(millionths: UInt32, text: String = "") {
        self.millionths = min(millionths, Self.whole)
        self.text = text.utf8.count <= Self.textBytesMax ? text : Self.cut(text)
    }

    /// Not in the middle of a character.
    private static func cut(_ text: String) -> String {
        var bytes = Array(text.utf8.prefix(textBytesMax + 1))
        repeat {} while bytes.removeLast() & 0xC0 == 0x80
        return String(decoding: bytes, as: UTF8.self)
    }
}

package struct AttemptProgress: Equatable, Sendable {
    package var attempt: AttemptID
    package var progress: Progress
    package init(attempt: AttemptID, progress: Progress) {
        self.attempt = attempt
        self.progress = progress
    }
}
