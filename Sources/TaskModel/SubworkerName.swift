/// What a subworker may be called: the name is the first part of task types, and of file names.
package enum SubworkerName {
    private static let bytesMax = 100

    /// What is wrong with a name and what to do; `nil` for a good one.
    package static func problem(with name: String) -> String? {
        let isGood = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."): true
            default: false
            }
        }
        if isGood, !name.isEmpty, name.utf8.count <= bytesMax, name.utf8.first != UInt8(ascii: ".") { return nil }
        return "\"\(name.prefix(bytesMax))\" can't be the name of a subworker: it has letters, digits, '_', '-' and '.', at most \(bytesMax), "
            + "since task types are NAME/METHOD"
    }
}
