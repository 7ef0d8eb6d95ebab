import TaskModel
import Testing
import Wire

/// `reserve` and its answer, against Cap'n Proto's own program.
struct ReserveCodecTests {
    @Test func `a reserve is read`() throws {
        let bytes = try CapnpTool.encode(
            "(reserve = (slot = 3, id = 7, sizeBytes = 18446744073709551615))", schema: CapnpTool.subworker, type: "ToWorker", segmentSizeWords: nil)
        var codec = SubworkerCodec()
        var messages: [FromSubworker] = []
        let result: Result<Int, WireError> = bytes.withUnsafeBytes { buffer in
            do throws(WireError) { return .success(try codec.decode(buffer, into: &messages)) } catch { return .failure(error) }
        }
        #expect(try result.get() == bytes.count)
        #expect(messages == [.reserve(SubworkerReserve(slot: 3, file: 7, sizeBytes: .max))])
    }

    private func asText(_ message: ToSubworker) throws -> String {
        var codec = SubworkerCodec()
        var bytes: [UInt8] = []
        try codec.encode(message, into: &bytes)
        return try CapnpTool.decode(bytes, schema: CapnpTool.subworker, type: "ToSubworker")
    }

    @Test func `an answer is written, and the credit`() throws {
        #expect(try asText(.granted(file: 7, directory: "/d/s1")) == "(descriptorCount = 0, granted = (id = 7, directory = \"/d/s1\"))\n")
        #expect(try asText(.granted(file: 7, directory: "")) == "(descriptorCount = 0, granted = (id = 7, directory = \"\"))\n")
        #expect(try asText(.notGranted(file: 1, reason: "full")) == "(descriptorCount = 0, granted = (id = 1, refused = \"full\"))\n")
        let welcome = SubworkerWelcome(workerName: "w", stagingDirectory: "/s", inlineBytesMax: 1, creditBytes: 5)
        #expect(try asText(.welcome(welcome)).contains("creditBytes = 5"))
    }
}
