public import CSubworker

/// Makes Swift functions the tasks of a Rain worker: a program that ends in `Subworker.run` is one that a worker starts.
///
///     let subworker = Subworker()
///     subworker.task("hello", inputs: ["name"], outputs: ["greeting"]) { call in
///         try call.setOutput(0, "Hello, \(call.inputText(0))!\n")
///     }
///     exit(subworker.run())
///
/// A layer over the C library, whose header (csubworker.h) is the reference. It belongs to one thread; task bodies that say `threads` run at
/// once, each with a call of its own.
public final class Subworker {
    private var raw: OpaquePointer?
    /// Kept until the end: C holds pointers to them.
    private var bodies: [Body] = []

    final class Body: Sendable {
        let run: @Sendable (borrowing Call) throws -> Void
        init(_ run: @escaping @Sendable (borrowing Call) throws -> Void) { self.run = run }
    }

    /// - Parameter name: `nil` for the one under which the worker starts it.
    public init(name: String? = nil) {
        var options = csw_options()
        options.struct_size = MemoryLayout<csw_options>.size
        withOptionalCString("rain Subworker (Swift)") { library in
            withOptionalCString(name) { name in
                options.name = name
                options.library = library
                // A failure leaves `nil`, which `run` says.
                _ = csw_open(&options, &raw)
            }
        }
    }

    deinit { csw_close(raw) }

    /// Registers a function as the task `NAME/name`.
    ///
    /// - Parameters:
    ///   - name: empty takes every task that no other takes.
    ///   - documentation: one line, then more.
    ///   - inputs: labels; none takes any number of inputs.
    ///   - outputs: labels; none takes any number of outputs.
    ///   - threads: how many calls may run at once.
    ///   - body: sets every output. An error that it throws fails the task with its description; `Cancelled` ends it as cancelled.
    ///
    /// A wrong registration is an error of `run`.
    public func task(
        _ name: String, documentation: String = "", inputs: [String] = [], outputs: [String] = [], threads: Int = 1,
        _ body: @escaping @Sendable (borrowing Call) throws -> Void
    ) {
        guard let raw else { return }
        let kept = Body(body)
        bodies.append(kept)
        withCStrings(inputs) { inputs in
            withCStrings(outputs) { outputs in
                name.withCString { name in
                    documentation.withCString { documentation in
                        var type = csw_task_type()
                        type.struct_size = MemoryLayout<csw_task_type>.size
                        type.name = name
                        type.documentation = documentation
                        type.inputs = inputs.baseAddress
                        type.input_count = inputs.count
                        type.outputs = outputs.baseAddress
                        type.output_count = outputs.count
                        type.function = runBody
                        type.context = Unmanaged.passUnretained(kept).toOpaque()
                        type.threads = max(1, threads)
                        // It is remembered, and said by csw_run.
                        _ = csw_task(raw, &type)
                    }
                }
            }
        }
    }

    /// Runs calls until the worker goes away or says so.
    ///
    /// - Returns: the status with which the program shall exit: 1 after a failure, which it has written to standard error.
    public func run() -> Int32 {
        let mine = raw
        raw = nil  // It is released by then.
        return withExtendedLifetime(bodies) { csw_run(mine) }
    }
}

/// Throw it when `Call.isCancelled` says so.
public struct Cancelled: Error { public init() {} }

/// What a task fails with; any other error will do too.
public struct TaskFailure: Error, CustomStringConvertible {
    public let description: String
    public init(_ message: String) { description = message }
}

/// A function of the C library failed; the task that lets it through fails with its text.
public struct CallError: Error, CustomStringConvertible {
    public let status: csw_status
    public let description: String
}

private func runBody(_ raw: OpaquePointer?, _ context: UnsafeMutableRawPointer?) -> csw_status {
    guard let raw, let context else { return csw_status(CSW_EINVAL) }
    let body = Unmanaged<Subworker.Body>.fromOpaque(context).takeUnretainedValue()
    do {
        try body.run(Call(raw))
        return csw_status(CSW_OK)
    } catch is Cancelled {
        return csw_status(CSW_ECANCELLED)
    } catch let error as CallError {
        return error.status
    } catch {
        let text = String(describing: error)
        return text.withUTF8Bytes { csw_fail_text(raw, $0.baseAddress, $0.count, nil, 0) }
    }
}

// MARK: C strings

private func withOptionalCString<Result>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> Result) -> Result {
    guard let text else { return body(nil) }
    return text.withCString { body($0) }
}

private func withCStrings<Result>(_ texts: [String], _ body: (UnsafeBufferPointer<UnsafePointer<CChar>?>) -> Result) -> Result {
    let bytes = texts.map { Array($0.utf8CString) }
    func add(_ pointers: [UnsafePointer<CChar>?]) -> Result {
        guard pointers.count < bytes.count else { return pointers.withUnsafeBufferPointer(body) }
        return bytes[pointers.count].withUnsafeBufferPointer { add(pointers + [$0.baseAddress]) }
    }
    return add([])
}

extension String {
    /// The UTF-8 bytes as C wants them.
    func withUTF8Bytes<Result>(_ body: (UnsafeBufferPointer<CChar>) -> Result) -> Result {
        var copy = self
        return copy.withUTF8 { $0.withMemoryRebound(to: CChar.self, body) }
    }
}
