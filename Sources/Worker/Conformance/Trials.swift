import CLinux
import Glibc
import TaskModel
import Wire
import WorkerCore

extension Trial {
    static let all: [Trial] = [
        Trial(title: "registers with version \(subworkerProtocolVersion), its name and methods that differ", isFirst: true, run: registers),
        Trial(title: "says why and ends when it is refused", run: isRefused),
        Trial(title: "ends when the worker speaks another version", run: meetsOtherVersion),
        Trial(title: "ends with exit code 0 on shutdown", run: shutsDown),
        Trial(title: "ends when the stream does", run: meetsEndOfStream),
        Trial(title: "answers a ping", run: answersPing),
        Trial(title: "answers a call with outputs as declared", isOfCall: true, run: answersCall),
        Trial(title: "understands messages that come in pieces", run: takesPieces),
        Trial(title: "understands messages of several segments", run: takesSegments),
        Trial(title: "takes inputs by path", run: takesPaths),
        Trial(title: "takes inputs by descriptor, if it says so", run: takesDescriptors),
        Trial(title: "remembers inputs, if it says so", run: remembers),
        Trial(title: "takes many calls one after the other", run: takesMany),
        Trial(title: "takes several calls at once, if it keeps the control page", run: takesQueue),
        Trial(title: "drops calls that were taken back", run: dropsRecalled),
        Trial(title: "tells a slot's new call from its old one", run: comparesTickets),
        Trial(title: "survives an input of 32 MiB", run: takesLargeInput),
        Trial(title: "survives a call with 1,000 inputs", run: takesManyInputs),
        Trial(title: "survives a call with 1,000 outputs", run: takesManyOutputs),
        Trial(title: "survives an input that is a directory", run: takesDirectory),
        Trial(title: "reads an input that is a directory", run: readsDirectory),
        Trial(title: "gives an output that is a directory", run: givesDirectory),
        Trial(title: "gives outputs as files where they are too large for a message", run: givesFiles),
        Trial(title: "asks for memory beyond its credit, and takes no for an answer", run: asksForMemory),
        Trial(title: "makes its files where it was granted memory", run: obeysGrant),
        Trial(title: "tells progress only where it is taken, and of its own calls", run: tellsProgress),
        Trial(title: "answers a method that it doesn't have with an error", run: refusesUnknownMethod),
        Trial(title: "says what failed, and goes on", run: reportsErrors),
        Trial(title: "stops a call that is cancelled", run: cancels),
        Trial(title: "ends when the worker goes while a call runs", run: meetsEndInCall),
        Trial(title: "takes no harm from what is no message", run: meetsGarbage),
        Trial(title: "takes no harm from calls that can't be", run: meetsBadCalls),
    ]

    // MARK: Life

    private static func registers(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let subject = try Subject(options)
        guard case .register(let registration) = try subject.next("register") else { throw ConformanceFailure("its first message is not `register`") }
        guard registration.protocolVersion == subworkerProtocolVersion else {
            throw ConformanceFailure("it speaks version \(registration.protocolVersion), this is version \(subworkerProtocolVersion)")
        }
        guard registration.name.isEmpty || registration.name == options.name else {
            throw ConformanceFailure("it calls itself '\(registration.name)'; RAIN_SUBWORKER_NAME is '\(options.name)' (--name)")
        }
        guard Set(registration.tasks.map(\.name)).count == registration.tasks.count else { throw ConformanceFailure("it registers a method twice") }
        guard registration.threads <= 1 || registration.hasControlPage else {
            throw ConformanceFailure("it says that \(registration.threads) calls may run at once, but not that it keeps the control page")
        }
        return nil
    }

    private static func isRefused(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let subject = try Subject(options)
        _ = try subject.next("register")
        let reason = "no subworker today, says the conformance check"
        try subject.send(.refused(reason: reason))
        subject.closeOutgoing()
        let ended = try subject.waitForEnd()
        guard ended.signal == 0, ended.exit_code != 0 else {
            throw ConformanceFailure("it ended with \(WelcomedSubject.how(ended)); one that was refused exits with a code that is not 0")
        }
        guard subject.logTail.contains(reason) else { throw ConformanceFailure("what it wrote does not contain the reason; it wrote: \(subject.logTail)") }
        return nil
    }

    private static func meetsOtherVersion(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let subject = try Subject(options)
        _ = try subject.next("register")
        try subject.send(
            .welcome(
                SubworkerWelcome(
                    protocolVersion: 9999, workerName: "future", stagingDirectory: subject.stagingDirectory,
                    inlineBytesMax: UInt32(ConformanceOptions.inlineBytesMax))))
        let ended = try subject.waitForEnd()
        guard ended.signal == 0, ended.exit_code != 0 else {
            throw ConformanceFailure("it ended with \(WelcomedSubject.how(ended)) after a welcome of version 9999, and not with a code that is not 0")
        }
        guard !subject.logTail.isEmpty else { throw ConformanceFailure("it did not say why it ended") }
        return nil
    }

    private static func shutsDown(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        try WelcomedSubject(options).shutDown()
        return nil
    }

    private static func meetsEndOfStream(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let run = try WelcomedSubject(options)
        run.subject.closeSocket()
        try expectNoSignal(run.subject, "when the stream ended")
        return nil
    }

    private static func answersPing(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let run = try WelcomedSubject(options)
        for number in [1, .max, 0x0102_0304_0506_0708] as [UInt64] { try run.ping(number) }
        try run.shutDown()
        return nil
    }

    private static func takesPieces(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let run = try WelcomedSubject(options)
        for size in [1, 3, 8, 13] { try run.subject.send(.ping(UInt64(size)), pieceBytes: size) }
        for size in [1, 3, 8, 13] as [UInt64] {
            guard try run.subject.next("pong") == .pong(size) else { throw ConformanceFailure("it did not answer a ping that came in pieces of \(size) bytes") }
        }
        guard let call = options.call else { return nil }
        let expected = try run.outputs(try run.run(call), of: call)
        try run.expect(call, expected, "sent byte by byte", pieceBytes: 1)
        try run.shutDown()
        return nil
    }

    /// The same message with its root in another segment: behind a far pointer, or behind a double one. One of several segments stays as it is.
    private static func inSegments(_ message: [UInt8], double: Bool) -> [UInt8] {
        guard message.prefix(4).allSatisfy({ $0 == 0 }) else { return message }
        func far(_ isDouble: Bool, word: UInt64, segment: UInt64) -> UInt64 { 2 | (isDouble ? 4 : 0) | word << 3 | segment << 32 }
        let content = message.dropFirst(8)  // Behind the count of one segment and its size.
        let root = content.prefix(8).enumerated().reduce(UInt64(0)) { $0 | UInt64($1.element) << (8 * UInt64($1.offset)) }
        let size = UInt64(content.count / 8)
        guard double else { return words(1 | 1 << 32, size, far(false, word: 0, segment: 1)) + content }
        // The landing pad: where the struct begins, and its pointer without an offset.
        let start = UInt64(truncatingIfNeeded: (Int64(Int32(truncatingIfNeeded: root)) >> 2) + 1)
        return words(2 | 1 << 32, 2 | size << 32, far(true, word: 0, segment: 1), far(false, word: start, segment: 2), root & ~0xFFFF_FFFF) + content
    }

    private static func takesSegments(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let run = try WelcomedSubject(options)
        for double in [false, true] {
            let how = double ? "with its root behind a double far pointer" : "with its root behind a far pointer"
            try run.subject.send(inSegments(try run.subject.encode(.ping(7)), double: double))
            guard try run.subject.next("answer to a ping \(how)") == .pong(7) else { throw ConformanceFailure("it did not answer a ping \(how)") }
        }
        guard let call = options.call else { return nil }
        let expected = try run.outputs(try run.run(call), of: call)
        for double in [false, true] {
            let bytes = try run.subject.encode(.calls([try run.makeCall(call, slot: 2)]))
            try run.subject.send(inSegments(bytes, double: double))
            try WelcomedSubject.compare(try run.outputs(try run.results(of: [2])[2]!, of: call), expected, call, "in a message of several segments")
        }
        try run.shutDown()
        return nil
    }

    // MARK: Calls

    private static func answersCall(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        let expected = try run.outputs(try run.run(call), of: call)
        try run.expect(call, expected, "called again")
        // A slot of its own choice.
        try run.expect(call, expected, "in slot 63", slot: 63)
        try run.ping()
        try run.shutDown()
        return nil
    }

    private static func takesPaths(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        guard !call.values.isEmpty else { return "the call has no inputs" }
        let run = try WelcomedSubject(options)
        let expected = try run.outputs(try run.run(call), of: call)
        var paths: [String] = []
        let inputs = try run.inputs(call) { (value) throws(ConformanceFailure) in
            paths.append(try run.subject.makeInput(value))
            return .path(paths.last!)
        }
        try run.expect(call, expected, "with inputs by path", inputs: inputs)
        for (path, value) in zip(paths, call.values.filter { !$0.isDirectory }) {
            guard run.subject.removeInput(path, value) else { throw ConformanceFailure("it changed a file that it was given to read") }
        }
        try run.ping()
        try run.shutDown()
        return nil
    }

    private static func takesDescriptors(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        guard run.registration.takesDescriptors else { return "it does not say `descriptors`" }
        guard call.values.contains(where: { !$0.isDirectory }) else { return "the call has no inputs" }
        guard call.values.count <= 100 else { return "the call has more inputs than a message can carry descriptors for" }
        let expected = try run.outputs(try run.run(call), of: call)
        for _ in 0..<3 {
            // Two calls in one message, and bytes of a ping behind them in the same write would be the next message's.
            var descriptors: [Int32] = []
            var calls: [SubworkerCall] = []
            let slots: [UInt8] = run.usesPage ? [0, 1] : [0]
            for slot in slots {
                let inputs = try run.inputs(call) { (value) throws(ConformanceFailure) in
                    descriptors.append(Glibc.open(try run.subject.makeInput(value), O_RDONLY | O_CLOEXEC))
                    return .descriptor(UInt16(descriptors.count - 1))
                }
                calls.append(try run.makeCall(call, slot: slot, inputs: inputs))
            }
            try run.send(calls, descriptors: descriptors)
            let results = try run.results(of: slots)
            for slot in slots { try WelcomedSubject.compare(try run.outputs(results[slot]!, of: call), expected, call, "with inputs by descriptor") }
        }
        let left = try run.subject.openDescriptorCount()
        for _ in 0..<20 {
            var descriptors: [Int32] = []
            let inputs = try run.inputs(call) { (value) throws(ConformanceFailure) in
                descriptors.append(Glibc.open(try run.subject.makeInput(value), O_RDONLY | O_CLOEXEC))
                return .descriptor(UInt16(descriptors.count - 1))
            }
            try run.expect(call, expected, "with inputs by descriptor", inputs: inputs, descriptors: descriptors)
        }
        guard try run.subject.openDescriptorCount() <= left + 2 else { throw ConformanceFailure("it does not close the descriptors that it is given") }
        try run.shutDown()
        return nil
    }

    private static func remembers(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        guard run.registration.hasCaching else { return "it does not say `caching`" }
        guard call.values.contains(where: { !$0.isDirectory }) else { return "the call has no inputs" }
        let expected = try run.outputs(try run.run(call), of: call)
        func marked(_ inputs: [SubworkerInput]) -> [SubworkerInput] {
            inputs.map { input in
                var input = input
                input.isKept = !input.isDirectory
                return input
            }
        }
        let kept = marked(try run.inputs(call))
        let cached = marked(try run.inputs(call) { _ throws(ConformanceFailure) in .cached })
        try run.expect(call, expected, "with inputs to be kept", inputs: kept)
        for _ in 0..<3 { try run.expect(call, expected, "with inputs that it keeps", inputs: cached) }
        try run.subject.send(.dropCached(kept.filter(\.isKept).map(\.replica)))
        try run.expect(call, expected, "with inputs that it kept, dropped, and is given again", inputs: kept)
        try run.expect(call, expected, "with inputs that it keeps again", inputs: cached)
        // Dropping what is not there is no error.
        try run.subject.send(.dropCached([run.replica(900), run.replica(0, generation: 7)]))
        try run.expect(call, expected, "with inputs that it keeps", inputs: cached)
        try run.shutDown()
        return nil
    }

    private static func takesMany(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        let expected = try run.outputs(try run.run(call), of: call)
        for count in 0..<100 { try run.expect(call, expected, "at call \(count)", slot: UInt8(count % 64)) }
        try run.shutDown()
        return nil
    }

    private static func takesQueue(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        guard run.usesPage else { return "it does not say `controlPage`" }
        let expected = try run.outputs(try run.run(call), of: call)
        for round in 0..<5 {
            let slots = (0..<60).map { UInt8($0) }
            var calls: [SubworkerCall] = []
            for slot in slots { calls.append(try run.makeCall(call, slot: slot)) }
            // In one message, and in many.
            if round % 2 == 0 { try run.send(calls) } else { for call in calls { try run.send([call]) } }
            let results = try run.results(of: slots)
            for slot in slots { try WelcomedSubject.compare(try run.outputs(results[slot]!, of: call), expected, call, "of 60 calls at once") }
        }
        try run.ping()
        try run.shutDown()
        return nil
    }

    private static func dropsRecalled(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        guard run.usesPage else { return "it does not say `controlPage`" }
        let expected = try run.outputs(try run.run(call), of: call)
        let taken = try run.makeCall(call, slot: 5)
        guard run.subject.page.recall(5) else { throw ConformanceFailure("it took a call that was not sent yet") }
        let other = try run.makeCall(call, slot: 6)
        try run.send([taken, other])
        let results = try run.results(of: [6])
        try WelcomedSubject.compare(try run.outputs(results[6]!, of: call), expected, call, "beside a call that was taken back")
        guard run.subject.page.state(5) == .recalled else { throw ConformanceFailure("it changed the state of a slot that was taken back") }
        try run.ping()
        run.subject.page.free(5)
        try run.expect(call, expected, "in a slot that was taken back", slot: 5)
        try run.shutDown()
        return nil
    }

    private static func comparesTickets(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        guard run.usesPage else { return "it does not say `controlPage`" }
        let expected = try run.outputs(try run.run(call), of: call)
        let old = try run.makeCall(call, slot: 9)
        guard run.subject.page.recall(9) else { throw ConformanceFailure("it took a call that was not sent yet") }
        let new = try run.makeCall(call, slot: 9)
        try run.send([old])
        try run.ping()
        try run.send([new])
        let results = try run.results(of: [9])
        try WelcomedSubject.compare(try run.outputs(results[9]!, of: call), expected, call, "in a slot that was used again")
        // The old call must not be answered too.
        try run.ping()
        try run.shutDown()
        return nil
    }

    // MARK: Sizes

    /// The call is answered, whatever with.
    private static func expectAnswer(_ run: WelcomedSubject, _ call: SampleCall, inputs: [SubworkerInput]? = nil) throws(ConformanceFailure) {
        let result = try run.run(call, inputs: inputs)
        if case .outputs(let outputs) = result.value, outputs.count != call.outputs.count {
            throw ConformanceFailure("it gave \(outputs.count) outputs where the template has \(call.outputs.count)")
        }
        try run.ping()
    }

    private static func takesLargeInput(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard var call = options.call else { return options.withoutCall }
        guard let first = call.inputs.firstIndex(where: { !$0.isDirectory }) else { return "the call has no inputs" }
        call.inputs[first] = .bytes([UInt8](repeating: 0x20, count: 32 << 20))
        call.varies = true
        let run = try WelcomedSubject(options)
        try expectAnswer(run, call)
        try run.shutDown()
        return nil
    }

    private static let someDirectory = SampleValue.directory(["file": Array("a file\n".utf8), "below/file": Array("another\n".utf8)])

    private static func takesDirectory(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        guard !call.inputs.isEmpty else { return "the call has no inputs" }
        let run = try WelcomedSubject(options)
        let expected = try run.outputs(try run.run(call), of: call)
        for position in call.constants.count..<call.values.count {
            // What the method makes of it is its own affair; a method of bytes says that it wants a file.
            let path = try run.subject.makeInput(someDirectory)
            var inputs = try run.inputs(call)
            inputs[position] = SubworkerInput(replica: run.replica(800 + position), sizeBytes: 4096, isDirectory: true, location: .path(path))
            var varied = call
            varied.varies = true
            try expectAnswer(run, varied, inputs: inputs)
            guard run.subject.removeInput(path, someDirectory) else { throw ConformanceFailure("it changed a directory that it was given to read") }
        }
        try run.expect(call, expected, "after a directory")
        try run.shutDown()
        return nil
    }

    private static func readsDirectory(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.directoryCall else { return "needs --directory" }
        guard call.takesDirectory else { return "no input of the call is a directory" }
        let run = try WelcomedSubject(options)
        let expected = try run.outputs(try run.run(call), of: call)
        for _ in 0..<3 {
            let inputs = try run.inputs(call)
            try run.expect(call, expected, "with other directories of the same files", inputs: inputs)
            for (input, value) in zip(inputs, call.values) {
                guard value.isDirectory, case .path(let path) = input.location else { continue }
                guard run.subject.removeInput(path, value) else { throw ConformanceFailure("it changed a directory that it was given to read") }
            }
        }
        try run.ping()
        try run.shutDown()
        return nil
    }

    private static func givesDirectory(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.directoryCall else { return "needs --directory" }
        guard call.givesDirectory else { return "no output of the call is a directory" }
        let run = try WelcomedSubject(options)
        let expected = try run.outputs(try run.run(call), of: call)
        for _ in 0..<3 {
            // The outputs of both are there at one time, where it may queue calls.
            let slots: [UInt8] = run.usesPage ? [4, 5] : [4]
            var calls: [SubworkerCall] = []
            for slot in slots { calls.append(try run.makeCall(call, slot: slot)) }
            try run.send(calls)
            let results = try run.results(of: slots)
            for slot in slots { try WelcomedSubject.compare(try run.outputs(results[slot]!, of: call), expected, call, "called again") }
        }
        try run.shutDown()
        return nil
    }

    private static func givesFiles(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options, inlineBytesMax: 1)
        let expected = try run.outputs(try run.run(call), of: call)
        guard expected.contains(where: { !$0.isDirectory && $0.sizeBytes > 1 }) else { return "its outputs have one byte at most" }
        try run.expect(call, expected, "with outputs as files")
        try run.shutDown()
        return nil
    }

    private static func takesManyInputs(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard var call = options.call else { return options.withoutCall }
        call.inputs += (0..<1000).map { .bytes(Array("input \($0)".utf8)) }
        call.varies = true
        let run = try WelcomedSubject(options)
        try expectAnswer(run, call)
        try run.shutDown()
        return nil
    }

    private static func takesManyOutputs(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard var call = options.call else { return options.withoutCall }
        call.outputs += (0..<1000).map { OutputSpec(label: "more\($0)") }
        call.varies = true
        let run = try WelcomedSubject(options)
        try expectAnswer(run, call)
        try run.shutDown()
        return nil
    }

    private static func asksForMemory(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        // Nothing larger goes inline, so that small outputs are files, too.
        let run = try WelcomedSubject(options, creditBytes: 1, inlineBytesMax: 1)
        let expected = try run.outputs(try run.run(call), of: call)
        guard run.subject.reserveCount > 0 else { return "its outputs are no files, or it never asks" }
        run.subject.refusal = "no room today"
        let result = try run.run(call)
        guard case .failed(let message, _) = result.value, message.contains("no room today") else {
            throw ConformanceFailure("it was refused memory, and its result is no error with the reason")
        }
        run.subject.refusal = nil
        try run.expect(call, expected, "after it was refused memory")
        try run.shutDown()
        return nil
    }

    private static func obeysGrant(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options, creditBytes: 1, inlineBytesMax: 1)
        run.subject.grantsOther = true
        let expected = try run.outputs(try run.run(call), of: call)
        guard run.subject.reserveCount > 0 else { return "its outputs are no files, or it never asks" }
        guard run.subject.elsewhereCount > 0 else { throw ConformanceFailure("it was granted another directory, and made no file there") }
        run.subject.grantsOther = false
        try run.expect(call, expected, "with memory granted in the staging directory")
        try run.shutDown()
        return nil
    }

    private static func tellsProgress(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let deaf = try WelcomedSubject(options, takesProgress: false)
        _ = try deaf.outputs(try deaf.run(call), of: call)
        try deaf.ping()
        guard deaf.subject.progress.isEmpty else { throw ConformanceFailure("it told progress to a worker whose welcome does not have `takesProgress`") }
        try deaf.shutDown()
        let run = try WelcomedSubject(options)
        _ = try run.outputs(try run.run(call, slot: 5), of: call)
        try run.ping()
        if let strange = run.subject.progress.first(where: { $0.slot != 5 }) {
            throw ConformanceFailure("it told progress of slot \(strange.slot); its only call was in slot 5")
        }
        try run.shutDown()
        return nil
    }

    // MARK: Errors

    private static func refusesUnknownMethod(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let run = try WelcomedSubject(options)
        let strange = SampleCall(method: "there-is-no-such-method")
        let result = try run.run(strange)
        guard case .failed(let message, _) = result.value else { throw ConformanceFailure("it did not answer with an error") }
        guard !message.isEmpty else { throw ConformanceFailure("its error has no message") }
        if let call = options.call { _ = try run.outputs(try run.run(call), of: call) }
        try run.shutDown()
        return nil
    }

    private static func reportsErrors(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let failing = options.failing else { return "needs --error" }
        let run = try WelcomedSubject(options)
        for _ in 0..<3 {
            let result = try run.run(failing)
            guard case .failed(let message, _) = result.value else { throw ConformanceFailure("\(failing.method) did not fail") }
            guard !message.isEmpty else { throw ConformanceFailure("the error of \(failing.method) has no message") }
            if let call = options.call { _ = try run.outputs(try run.run(call), of: call) }
        }
        try run.shutDown()
        return nil
    }

    private static func cancels(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let endless = options.endless else { return "needs --endless" }
        let run = try WelcomedSubject(options)
        try run.send([try run.makeCall(endless, slot: 3)])
        if run.usesPage {
            guard run.subject.waitForStart(slot: 3) else { throw ConformanceFailure("it did not begin the call") }
        }
        run.subject.page.cancel(3)
        try run.subject.send(.cancel([3]))
        let results = try run.results(of: [3])
        guard case .cancelled = results[3]!.value else { throw ConformanceFailure("\(endless.method) ended, but not as `cancelled`") }
        if let call = options.call { _ = try run.outputs(try run.run(call), of: call) }
        try run.shutDown()
        return nil
    }

    private static func meetsEndInCall(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        guard let call = options.call else { return options.withoutCall }
        let run = try WelcomedSubject(options)
        try run.send([try run.makeCall(call, slot: 0)])
        run.subject.closeSocket()
        try expectNoSignal(run.subject, "when the worker went while a call ran")
        return nil
    }

    // MARK: Malformed messages

    private static func expectNoSignal(_ subject: Subject, _ when: String) throws(ConformanceFailure) {
        let ended = try subject.waitForEnd()
        guard ended.signal == 0 else { throw ConformanceFailure("\(WelcomedSubject.how(ended)) ended it \(when)") }
    }

    private static func words(_ values: UInt64...) -> [UInt8] {
        values.flatMap { value in (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) } }
    }

    /// Each ends the connection, and must not end the process by a signal.
    private static func meetsGarbage(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let root: UInt64 = 0x0001_0002_0000_0000  // A struct of two words and a pointer right behind.
        let messages: [(what: String, bytes: [UInt8])] = [
            ("ones", [UInt8](repeating: 0xFF, count: 64)),
            ("text", Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)),
            ("four thousand million segments", words(0x0000_0001_FFFF_FFFE)),
            ("a segment of 32 GiB", words(0xFFFF_FFFF_0000_0000)),
            ("an empty segment", words(0)),
            ("a root that is a list", words(0x0000_0001_0000_0000, 0x0000_0000_0000_0001)),
            ("a root beyond its segment", words(0x0000_0001_0000_0000, 0x00FF_00FF_0000_0400)),
            ("a far pointer into nowhere", words(0x0000_0001_0000_0000, 0x0000_0007_0000_0002)),
            ("a far pointer to itself", words(0x0000_0001_0000_0000, 0x0000_0000_0000_0002)),
            ("an unknown kind of message", words(0x0000_0004_0000_0000, root, 0x00C8_0000, 0, 0)),
            ("a list of calls that is too long", words(0x0000_0004_0000_0000, root, 0x0003_0000, 0, 0xFFFF_FFFF_0000_0001)),
            ("a text without its end", words(0x0000_0005_0000_0000, root, 0x0001_0000, 0, 0x0000_0042_0000_0001, 0x4141_4141_4141_4141)),
            ("half a message", words(0x0000_0040_0000_0000, root)),
        ]
        for (what, bytes) in messages {
            let run = try WelcomedSubject(options)
            try run.subject.send(bytes)
            run.subject.closeOutgoing()
            do throws(ConformanceFailure) { try expectNoSignal(run.subject, "after \(what)") } catch {
                throw ConformanceFailure("after \(what): \(error)")
            }
        }
        return nil
    }

    /// Each is answered with an error, or ends the connection.
    private static func meetsBadCalls(_ options: ConformanceOptions) throws(ConformanceFailure) -> String? {
        let sample = options.call ?? SampleCall(method: "any")
        let attempt = AttemptID(task: TaskID(session: WelcomedSubject.session, index: 1), epoch: ServerEpoch(1), number: 1)
        let object = Replica(object: ObjectID(session: WelcomedSubject.session, index: 1), generation: Generation(epoch: ServerEpoch(1), number: 1))
        func input(_ location: SubworkerInput.Location, sizeBytes: UInt64 = 10) -> [SubworkerInput] {
            [SubworkerInput(replica: object, sizeBytes: sizeBytes, location: location)]
        }
        let calls: [(what: String, call: SubworkerCall)] = [
            ("a template that was never told", SubworkerCall(slot: 0, template: 77, attempt: attempt)),
            ("slot 200", SubworkerCall(slot: 200, template: 1, attempt: attempt)),
            ("a descriptor that did not come", SubworkerCall(slot: 0, template: 1, attempt: attempt, inputs: input(.descriptor(3)))),
            ("an input that was never kept", SubworkerCall(slot: 0, template: 1, attempt: attempt, inputs: input(.cached))),
            ("a path that is not there", SubworkerCall(slot: 0, template: 1, attempt: attempt, inputs: input(.path("/does/not/exist")))),
            ("arguments that are no JSON", SubworkerCall(slot: 0, template: 1, attempt: attempt, arguments: Array("{[".utf8))),
        ]
        for (what, call) in calls {
            let run = try WelcomedSubject(options)
            try run.subject.send(.templates([WelcomedSubject.template(sample, 1)]))
            if call.slot < 64 { _ = run.subject.page.queue(Int(call.slot)) }
            try run.send([call])
            run.subject.closeOutgoing()
            do throws(ConformanceFailure) { try expectNoSignal(run.subject, "after a call with \(what)") } catch {
                throw ConformanceFailure("after a call with \(what): \(error)")
            }
        }
        return nil
    }
}
