import ArgumentParser

/// `4G`, `500M`, `1.5GiB` or a number of bytes. The units are powers of 1024.
struct ByteCount: ExpressibleByArgument, Equatable {
    var bytes: UInt64

    init?(argument: String) {
        let digits = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let units = ["": 1.0, "B": 1, "K": 1024, "M": 1_048_576, "G": 1_073_741_824, "T": 1_099_511_627_776]
        var unit = argument.dropFirst(digits.count).uppercased()
        if unit.count > 1, unit.hasSuffix("B") { unit.removeLast() }
        if unit.count > 1, unit.hasSuffix("I") { unit.removeLast() }
        guard let factor = units[unit], let number = Double(digits), let bytes = UInt64(exactly: (number * factor).rounded()) else { return nil }
        self.bytes = bytes
    }
}
