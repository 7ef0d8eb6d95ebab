import Glibc
import TaskModel

/// A call that a subworker is tried with, as its author writes it down: JSON such as
/// `{"method": "count", "inputs": ["a b c"], "outputs": ["n"], "expect": ["3"]}`.
package struct SampleCall: Equatable, Sendable {
    var method: String
    var config: [UInt8] = []
    var arguments: [UInt8] = []
    var constants: [[UInt8]] = []
    var inputs: [[UInt8]] = []
    var inputLabels: [String] = []
    var outputs: [OutputSpec] = []
    /// The outputs' bytes; `nil`: whatever it gives the first time.
    var expected: [[UInt8]]?
    /// Gives something else each time: outputs are not compared.
    var varies = false

    var values: [[UInt8]] { constants + inputs }

    private static let valueBytesMax = 256 << 20

    /// - Throws: what is wrong with the text, for its author.
    package init(json: String) throws(ConformanceFailure) {
        let value: JSONValue
        do throws(JSONError) { value = try JSONParser.parse(Array(json.utf8)) } catch {
            throw ConformanceFailure("this is not JSON (\(error)): \(json)")
        }
        guard case .object(let members) = value else { throw ConformanceFailure("a call is an object with a `method`, not \(json)") }
        let known = ["method", "config", "arguments", "constants", "inputs", "labels", "outputs", "expect", "varies"]
        for (name, _) in members where !known.contains(name) {
            throw ConformanceFailure("`\(name)` is nothing that a call has; there are \(known.joined(separator: ", "))")
        }
        guard let method = value["method"]?.string else { throw ConformanceFailure("a call needs a `method`: \(json)") }
        self.method = method
        if let config = value["config"], !config.isNull { self.config = Array(config.text.utf8) }
        if let arguments = value["arguments"], !arguments.isNull { self.arguments = Array(arguments.text.utf8) }
        constants = try Self.bytes(value["constants"], "constants")
        inputs = try Self.bytes(value["inputs"], "inputs")
        inputLabels = try Self.texts(value["labels"], "labels")
        if let count = value["outputs"]?.index {
            outputs = (0..<min(count, 10_000)).map { OutputSpec(label: "output\($0)") }
        } else {
            outputs = try Self.texts(value["outputs"], "outputs").map { OutputSpec(label: $0) }
        }
        if let expected = value["expect"] {
            self.expected = try Self.bytes(expected, "expect")
            guard self.expected?.count == outputs.count else { throw ConformanceFailure("`expect` needs a value for each of the \(outputs.count) `outputs`") }
        }
        if let varies = value["varies"] {
            guard let flag = varies.bool else { throw ConformanceFailure("`varies` is true or false") }
            self.varies = flag
        }
    }

    init(method: String) { self.method = method }

    /// Each is a text, `{"text": "x", "times": 1000}`, `{"hex": "00ff", "times": 1000}` or `{"file": "path"}`.
    private static func bytes(_ value: JSONValue?, _ name: String) throws(ConformanceFailure) -> [[UInt8]] {
        guard let value else { return [] }
        guard let list = value.array else { throw ConformanceFailure("`\(name)` is a list, not \(value.text)") }
        var result: [[UInt8]] = []
        for entry in list { result.append(try bytes(of: entry, name)) }
        return result
    }

    private static func bytes(of entry: JSONValue, _ name: String) throws(ConformanceFailure) -> [UInt8] {
        if let text = entry.string { return Array(text.utf8) }
        if let text = entry["text"]?.string { return try repeated(Array(text.utf8), entry["times"], name) }
        if let hex = entry["hex"]?.string {
            let digits = Array(hex.utf8)
            var bytes: [UInt8] = []
            for position in stride(from: 0, to: digits.count - 1, by: 2) {
                guard let byte = UInt8(String(decoding: digits[position...position + 1], as: UTF8.self), radix: 16) else { break }
                bytes.append(byte)
            }
            guard bytes.count * 2 == digits.count else { throw ConformanceFailure("\"\(hex)\" in `\(name)` is no even number of hexadecimal digits") }
            return try repeated(bytes, entry["times"], name)
        }
        if let path = entry["file"]?.string {
            do throws(SystemError) {
                let file = try Descriptor.open(path, 0)
                let size = try file.status().sizeBytes
                guard size <= Self.valueBytesMax else { throw SystemError("read", path, code: EFBIG) }
                return try file.read(count: Int(size))
            } catch { throw ConformanceFailure("a value in `\(name)`: \(error)") }
        }
        throw ConformanceFailure("a value in `\(name)` is a text, {\"text\", \"times\"}, {\"hex\", \"times\"} or {\"file\"}, not \(entry.text)")
    }

    private static func repeated(_ bytes: [UInt8], _ times: JSONValue?, _ name: String) throws(ConformanceFailure) -> [UInt8] {
        guard let times else { return bytes }
        guard let count = times.index, count <= Self.valueBytesMax, bytes.count * count <= Self.valueBytesMax else {
            throw ConformanceFailure("`times` of a value in `\(name)` is no number, or makes more than 256 MiB")
        }
        return Array(repeatElement(bytes, count: count).joined())
    }

    private static func texts(_ value: JSONValue?, _ name: String) throws(ConformanceFailure) -> [String] {
        guard let value else { return [] }
        guard let list = value.array, case let texts = list.compactMap(\.string), texts.count == list.count else {
            throw ConformanceFailure("`\(name)` is a list of texts, not \(value.text)")
        }
        return texts
    }
}

/// What a subworker did wrong, or what keeps it from being tried.
package struct ConformanceFailure: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
