extension String {
    /// On one line, and without what would move a terminal's cursor: names that users give end up in logs, and a log's lines are its own.
    package var onOneLine: String {
        guard unicodeScalars.contains(where: \.isTrouble) else { return self }
        var line = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n": line += "\\n"
            case "\r": line += "\\r"
            case "\t": line += "\\t"
            case _ where scalar.isTrouble: line += "\\u{\(String(scalar.value, radix: 16))}"
            case _: line.unicodeScalars.append(scalar)
            }
        }
        return line
    }
}

extension Unicode.Scalar {
    /// Control characters, C1 among them, separators of lines and paragraphs, and what turns the direction of writing.
    fileprivate var isTrouble: Bool {
        switch value {
        case 0..<0x20, 0x7F..<0xA0, 0x2028, 0x2029, 0x202A...0x202E, 0x2066...0x2069: true
        case _: false
        }
    }
}
