import CSubworker

/// One run of a task; valid until its body returns. Positions count from 0; inputs begin with the template's constants.
public struct Call: ~Copyable {
    private let raw: OpaquePointer
    init(_ raw: OpaquePointer) { self.raw = raw }

    // MARK: Facts

    /// `count` for the task type `words/count`.
    public var method: String { String(cString: csw_call_method(raw)) }
    /// What people call the task.
    public var name: String { String(cString: csw_call_name(raw)) }
    /// JSON text that calls of one template share; empty when the client gave none.
    public var config: String { text(csw_call_config(raw)) }
    /// JSON text of this call; empty when the client gave none.
    public var arguments: String { text(csw_call_arguments(raw)) }
    /// Position in a task array, else 0.
    public var arrayIndex: Int { Int(csw_call_array_index(raw)) }
    /// Whether the task should stop soon: then throw `Cancelled`. One load.
    public var isCancelled: Bool { csw_cancelled(raw) }
    public var inputCount: Int { csw_input_count(raw) }
    public var outputCount: Int { csw_output_count(raw) }

    private func text(_ bytes: csw_bytes) -> String { String(decoding: UnsafeRawBufferPointer(start: bytes.data, count: bytes.size), as: UTF8.self) }

    private func check(_ status: csw_status) throws(CallError) {
        guard status != CSW_OK else { return }
        let message = String(cString: csw_call_message(raw))
        throw CallError(status: status, description: message.isEmpty ? String(cString: csw_status_text(status)) : message)
    }

    // MARK: Words on the way

    /// Adds a line to the task's debug text, which the client sees.
    public func debug(_ line: String) { _ = line.withUTF8Bytes { csw_debug_text(raw, $0.baseAddress, $0.count) } }

    /// Tells how far the task is, from 0 to 1; as often as you like.
    public func setProgress(_ fraction: Double, _ text: String = "") throws(CallError) { try check(text.withCString { csw_progress(raw, fraction, $0) }) }

    /// Attributes that the client reads from the finished task.
    public func setAttributes(json: String) throws(CallError) { try check(json.withUTF8Bytes { csw_set_attributes(raw, $0.baseAddress, $0.count) }) }

    // MARK: Inputs

    /// The bytes of an input, without a copy: mapped or in the message, and gone when the body returns.
    public func withInput<Result>(_ position: Int, _ body: (UnsafeRawBufferPointer) throws -> Result) throws -> Result {
        var bytes = csw_bytes()
        try check(csw_input_bytes(raw, position, &bytes))
        return try body(UnsafeRawBufferPointer(start: bytes.data, count: bytes.size))
    }
    /// A copy of the bytes of an input.
    public func input(_ position: Int) throws -> [UInt8] { try withInput(position) { Array($0) } }
    /// An input as UTF-8 text.
    public func inputText(_ position: Int) throws -> String { try withInput(position) { String(decoding: $0, as: UTF8.self) } }
    /// A path at which an input can be read while the call lasts; of a directory too.
    public func inputPath(_ position: Int) throws(CallError) -> String {
        var path: UnsafePointer<CChar>?
        try check(csw_input_path(raw, position, &path))
        return path.map { String(cString: $0) } ?? ""
    }
    public func inputLabel(_ position: Int) -> String { String(cString: csw_input_label(raw, position)) }
    public func inputContentType(_ position: Int) -> String { String(cString: csw_input_content_type(raw, position)) }
    public func inputIsDirectory(_ position: Int) -> Bool { csw_input_is_directory(raw, position) }

    // MARK: Outputs

    public func setOutput(_ position: Int, _ text: String) throws(CallError) {
        try check(text.withUTF8Bytes { csw_output_bytes(raw, position, $0.baseAddress, $0.count) })
    }
    public func setOutput(_ position: Int, _ bytes: [UInt8]) throws(CallError) {
        try check(bytes.withUnsafeBytes { csw_output_bytes(raw, position, $0.baseAddress, $0.count) })
    }
    /// Makes an output in place: a large one is the object's own memory, so nothing is copied afterwards.
    public func makeOutput(_ position: Int, sizeBytes: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
        var memory: UnsafeMutableRawPointer?
        try check(csw_output_buffer(raw, position, sizeBytes, &memory))
        try body(UnsafeMutableRawBufferPointer(start: memory, count: sizeBytes))
    }
    /// A file or directory, which is moved away.
    public func setOutput(_ position: Int, path: String) throws(CallError) { try check(csw_output_path(raw, position, path)) }
    /// The same data as an input; nothing is copied.
    public func setOutput(_ position: Int, sameAsInput input: Int) throws(CallError) { try check(csw_output_same_as_input(raw, position, input)) }
    public func setContentType(_ position: Int, _ type: String) throws(CallError) { try check(csw_output_set_content_type(raw, position, type)) }
    /// A fresh path for a file or directory that becomes an output.
    public func stagingPath() throws(CallError) -> String {
        var path: UnsafePointer<CChar>?
        try check(csw_staging_path(raw, &path))
        return path.map { String(cString: $0) } ?? ""
    }
}
