import Glibc

/// The `capnp` program: the other implementation that ours is held against.
enum CapnpTool {
    /// The root of the repository, from where this file lies in it.
    static let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
    static let control = root + "/Sources/Wire/control.capnp"
    static let subworker = root + "/include/subworker.capnp"

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// The message as text.
    static func decode(_ bytes: [UInt8], schema: String, type: String) throws -> String {
        String(decoding: try pipe(bytes, "capnp decode --short '\(schema)' \(type)"), as: UTF8.self)
    }
    /// The text as a message, in as many segments as the tool likes.
    static func encode(_ text: String, schema: String, type: String, segmentSizeWords: Int? = nil) throws -> [UInt8] {
        let segments = segmentSizeWords.map { "--segment-size=\($0)" } ?? ""
        return try pipe(Array(text.utf8), "capnp encode \(segments) '\(schema)' \(type)")
    }

    static func pipe(_ input: [UInt8], _ command: String) throws -> [UInt8] {
        var template = Array("/tmp/rain-wire-test-XXXXXX".utf8CString)
        let descriptor = mkstemp(&template)
        guard descriptor >= 0 else { throw Failure(description: "mkstemp: \(String(cString: strerror(errno)))") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer {
            close(descriptor)
            unlink(path)
        }
        guard write(descriptor, input, input.count) == input.count else { throw Failure(description: "write to \(path)") }
        guard let stream = popen("\(command) < '\(path)' 2>&1", "r") else { throw Failure(description: "popen: \(command)") }
        var output: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while case let count = fread(&buffer, 1, buffer.count, stream), count > 0 { output += buffer.prefix(count) }
        let status = pclose(stream)
        guard status == 0 else { throw Failure(description: "\(command): \(String(decoding: output, as: UTF8.self))") }
        return output
    }
}
