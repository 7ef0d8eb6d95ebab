extension String {
    /// The parts between slashes, as the system sees them. By bytes: to Swift a slash with a combining mark behind it is another character.
    package var pathParts: [String] {
        utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { String(Substring($0)) }
    }

    /// Whether it is a path that stays below the directory that it starts in: no part is empty, `.` or `..`.
    package var isPathInside: Bool { isPathInside(partBytesMax: .max) }

    /// The same, and no part is longer.
    package func isPathInside(partBytesMax: Int) -> Bool {
        pathParts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= partBytesMax }
    }
}
