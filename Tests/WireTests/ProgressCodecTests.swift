import TaskModel
import Testing
import Wire

/// Progress, debug text and log level of the subworker plane, against Cap'n Proto's own program.
struct ProgressCodecTests {
    private func decode(_ text: String, segmentSizeWords: Int? = nil) throws -> [FromSubworker] {
        let bytes = try CapnpTool.encode(text, schema: CapnpTool.subworker, type: "ToWorker", segmentSizeWords: segmentSizeWords)
        var codec = SubworkerCodec()
        var messages: [FromSubworker] = []
        let result: Result<Int, WireError> = bytes.withUnsafeBytes { buffer in
            do throws(WireError) { return .success(try codec.decode(buffer, into: &messages)) } catch { return .failure(error) }
        }
        #expect(try result.get() == bytes.count)
        return messages
    }

    @Test(arguments: [nil, 1]) func `progress is read`(segmentSizeWords: Int?) throws {
        let messages = try decode(
            "(progress = [(slot = 3, millionths = 250000, text = \"reading\"), (slot = 4294967295, millionths = 4294967295), ()])",
            segmentSizeWords: segmentSizeWords)
        #expect(
            messages == [
                .progress([
                    SubworkerProgress(slot: 3, progress: Progress(millionths: 250_000, text: "reading")),
                    SubworkerProgress(slot: .max, progress: Progress(millionths: 1_000_000)),
                    SubworkerProgress(slot: 0, progress: Progress(millionths: 0)),
                ])
            ])
    }

    @Test func `a text that is too long is cut at the end of a character`() {
        let long = "a" + String(repeating: "é", count: 1000)
        #expect(Progress(millionths: 0, text: long).text == "a" + String(repeating: "é", count: 511))
        let exact = String(repeating: "é", count: 512)
        #expect(Progress(millionths: 0, text: exact).text == exact)
        #expect(Progress(millionths: 0, text: exact + "x").text == exact)
        #expect(Progress(millionths: 0, text: String(repeating: "𝄞", count: 300)).text == String(repeating: "𝄞", count: 256))
    }

    @Test func `a welcome says what is understood and logged`() throws {
        var codec = SubworkerCodec()
        var bytes: [UInt8] = []
        try codec.encode(.welcome(SubworkerWelcome(workerName: "w", stagingDirectory: "/s", inlineBytesMax: 1, logLevel: 4)), into: &bytes)
        let text = try CapnpTool.decode(bytes, schema: CapnpTool.subworker, type: "ToSubworker")
        #expect(text.contains("takesProgress = true, logLevel = 4)"))
    }

    @Test func `debug text that is too much is cut at a line's end and says so`() throws {
        let line = String(repeating: "x", count: 1023) + "\n"
        let text = line.dropLast() + "\\n"
        func debug(lines: Int) throws -> String? {
            guard
                case .results(let results)? = try decode("(results = [(debug = \"\(String(repeating: String(text), count: lines))\", cancelled = void)])").first
            else { return nil }
            return results[0].debug
        }
        #expect(try debug(lines: 1024) == String(repeating: line, count: 1024))
        #expect(try debug(lines: 1100) == String(repeating: line, count: 1024) + "(more debug lines than 1 MiB: the rest is left out)\n")
    }
}
