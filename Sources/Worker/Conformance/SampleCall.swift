import Glibc
import TaskModel

/// A call that a subworker is tried with, as its author writes it down: JSON such as
/// `{"method": "count", "inputs": ["a b c"], "outputs": ["n"], "expect": ["3"]}`.
package struct SampleCall: Equatable, Sendable {
    var method: String
    var config: [UInt8] = []
    var arguments: [UInt8] = []
    var constants: [SampleValue] = []
    var inputs: [SampleValue] = []
    var inputLabels: [String] = []
    var outputs: [OutputSpec] = []
    /// What the outputs are; `nil`: whatever it gives the first time.
    var expected: [SampleValue]?
    /// Gives something else each time: outputs are not compared.
    var varies = false

    var values: [SampleValue] { constants + inputs }
    var takesDirectory: Bool { values.contains(where: \.isDirectory) }
    var givesDirectory: Bool { outputs.contains(where: \.isDirectory) }
    package var hasDirectory: Bool { takesDirectory || givesDirectory }

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
        constants = try Self.values(value["constants"], "constants")
        inputs = try Self.values(value["inputs"], "inputs")
        inputLabels = try Self.texts(value["labels"], "labels")
        outputs = try Self.outputs(value["outputs"])
        if let expected = value["expect"] {
            let values = try Self.values(expected, "expect")
            guard values.count == outputs.count else { throw ConformanceFailure("`expect` needs a value for each of the \(outputs.count) `outputs`") }
            for (position, value) in values.enumerated() where value.isDirectory != outputs[position].isDirectory {
                throw ConformanceFailure("`expect` and `outputs` differ in whether output \(position) is a directory")
            }
            self.expected = values
        }
        if let varies = value["varies"] {
            guard let flag = varies.bool else { throw ConformanceFailure("`varies` is true or false") }
            self.varies = flag
        }
    }

    init(method: String) { self.method = method }

    /// A number, or a list of labels and of `{"directory": "label"}`.
    private static func outputs(_ value: JSONValue?) throws(ConformanceFailure) -> [OutputSpec] {
        guard let value else { return [] }
        if let count = value.index { return (0..<min(count, 10_000)).map { OutputSpec(label: "output\($0)") } }
        guard let list = value.array else { throw ConformanceFailure("`outputs` is a number or a list, not \(value.text)") }
        var specs: [OutputSpec] = []
        for entry in list {
            let directory = entry["directory"]?.string
            guard let label = directory ?? entry.string else {
                throw ConformanceFailure("one of `outputs` is a text or {\"directory\": \"label\"}, not \(entry.text)")
            }
            specs.append(OutputSpec(label: label, isDirectory: directory != nil))
        }
        return specs
    }

    /// Each is bytes, or `{"directory": {"name": bytes, "below/name": bytes}}`.
    private static func values(_ value: JSONValue?, _ name: String) throws(ConformanceFailure) -> [SampleValue] {
        guard let value else { return [] }
        guard let list = value.array else { throw ConformanceFailure("`\(name)` is a list, not \(value.text)") }
        var result: [SampleValue] = []
        for entry in list {
            guard let directory = entry["directory"] else {
                result.append(.bytes(try bytes(of: entry, name)))
                continue
            }
            guard case .object(let members) = directory else {
                throw ConformanceFailure("`directory` of a value in `\(name)` has names and what is in them, as in {\"a\": \"text\"}, not \(directory.text)")
            }
            var tree: [String: [UInt8]] = [:]
            for (path, content) in members {
                let parts = path.split(separator: "/", omittingEmptySubsequences: false)
                guard parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." && !$0.utf8.contains(0) && $0.utf8.count <= 255 }) else {
                    throw ConformanceFailure("\"\(path)\" in `\(name)` is no path in a directory")
                }
                tree[path] = try bytes(of: content, name)
            }
            guard SampleValue.hasPlaces(tree) else { throw ConformanceFailure("a directory in `\(name)` has a file where another needs a directory") }
            result.append(.directory(tree))
        }
        return result
    }

    /// A text, `{"text": "x", "times": 1000}`, `{"hex": "00ff", "times": 1000}` or `{"file": "path"}`.

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
        throw ConformanceFailure(
            "a value in `\(name)` is a text, {\"text\", \"times\"}, {\"hex\", \"times\"}, {\"file\"} or {\"directory\"}, not \(entry.text)")
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

/// What a data object of a call has in it.
enum SampleValue: Hashable, Sendable {
    case bytes([UInt8])
    /// Files by their path. One that has none in it is there too, as "name/"; where a link leads follows its path.
    case directory([String: [UInt8]])

    var isDirectory: Bool { if case .directory = self { true } else { false } }
    /// What an input says of its size: of a directory that is the length of its stream, which is not made here.
    var sizeBytes: UInt64 {
        switch self {
        case .bytes(let bytes): UInt64(bytes.count)
        case .directory(let files): files.values.reduce(1024) { $0 + 512 + UInt64($1.count) }
        }
    }

    var preview: String {
        switch self {
        case .bytes(let bytes): return bytes.count <= 60 ? JSONValue.string(String(decoding: bytes, as: UTF8.self)).text : "\(bytes.count) bytes"
        case .directory(let files):
            let names = files.keys.sorted()
            let shown = names.prefix(8).map { "\($0): \(SampleValue.bytes(files[$0]!).preview)" }.joined(separator: ", ")
            return "a directory with \(names.isEmpty ? "nothing" : shown)\(names.count > 8 ? " and \(names.count - 8) more" : "")"
        }
    }

    /// Whether no file lies where another one needs a directory.
    fileprivate static func hasPlaces(_ files: [String: [UInt8]]) -> Bool {
        files.keys.allSatisfy { path in
            path.indices.allSatisfy { path[$0] != "/" || files[String(path[..<$0])] == nil }
        }
    }
}

/// What a subworker did wrong, or what keeps it from being tried.
package struct ConformanceFailure: Error, Equatable, Sendable, CustomStringConvertible {
    package let description: String
    package init(_ description: String) { self.description = description }
}
