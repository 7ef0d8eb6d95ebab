import Link
import TaskModel
import Testing
import Wire

struct ControlCodecTests {
    @Test(arguments: 0..<ValueGenerator.frameKindCount) func `every frame of a server comes back as it was`(kind: Int) throws {
        var codec = ControlCodec()
        for seed in 0..<200 as Range<UInt64> {
            var generator = ValueGenerator(seed: seed)
            let frame = generator.serverFrame(kind)
            let bytes = try codec.encode(frame)
            #expect(try codec.decodeFromServer(bytes) == frame, "seed \(seed)")
        }
    }

    @Test(arguments: 0..<ValueGenerator.frameKindCount) func `every frame of a worker comes back as it was`(kind: Int) throws {
        var codec = ControlCodec()
        for seed in 0..<200 as Range<UInt64> {
            var generator = ValueGenerator(seed: seed)
            let frame = generator.workerFrame(kind)
            let bytes = try codec.encode(frame)
            #expect(try codec.decodeFromWorker(bytes) == frame, "seed \(seed)")
        }
    }

    /// With the frame around it.
    @Test(arguments: 0..<16) func `no message takes more bytes than Link counts for it`(kind: Int) throws {
        var codec = ControlCodec()
        for seed in 0..<200 as Range<UInt64> {
            var generator = ValueGenerator(seed: seed)
            let (toWorker, toServer) = (generator.serverMessage(kind), generator.workerMessage(kind))
            let sent = Batch(epoch: ServerEpoch(1), incarnation: 1, sequence: 1, acknowledged: 1, payload: [toWorker])
            #expect(try codec.encode(ServerToWorkerFrame.batch(sent)).count <= toWorker.estimatedBytes + 128, "seed \(seed): \(toWorker)")
            let answered = Batch(epoch: ServerEpoch(1), incarnation: 1, sequence: 1, acknowledged: 1, payload: [toServer])
            #expect(try codec.encode(WorkerToServerFrame.batch(answered)).count <= toServer.estimatedBytes + 128, "seed \(seed): \(toServer)")
        }
    }

    @Test func `the capnp tool reads what we write`() throws {
        var codec = ControlCodec()
        let attempt = AttemptID(task: TaskID(session: SessionID(3), index: 4), epoch: ServerEpoch(5), number: 6)
        let replica = Replica(
            object: ObjectID(session: SessionID(3), index: 9), generation: Generation(epoch: ServerEpoch(5), number: 1))
        let frame = ServerToWorkerFrame.batch(
            Batch(
                epoch: ServerEpoch(5), incarnation: 77, sequence: 2, acknowledged: 1,
                payload: [
                    .assign(
                        Assignment(
                            attempt: attempt, template: TemplateID(session: SessionID(3), index: 8), arguments: Array("[1]".utf8),
                            inputs: [
                                InputAssignment(
                                    replica: replica, sizeBytes: 10, contentType: "text", attributes: Array("{}".utf8),
                                    source: .fetch([Endpoint(host: "10.0.0.1", port: 99)]))
                            ], firstOutput: 12, arrayIndex: 0, name: "n")),
                    .closeSession(SessionID(4)),
                ]))
        let text = try CapnpTool.decode(try codec.encode(frame), schema: CapnpTool.control, type: "Frame")
        #expect(
            text == """
                (batch = (epoch = 5, incarnation = 77, sequence = 2, acknowledged = 1, toWorker = [(assign = (session = 3, task = 4, \
                epoch = 5, number = 6, template = 8, firstOutput = 12, arrayIndex = 0, arguments = "[1]", name = "n", inputs = [(session = 3, \
                object = 9, epoch = 5, number = 1, sizeBytes = 10, contentType = "text", isDirectory = false, fetch = [(host = "10.0.0.1", \
                port = 99)], attributes = "{}")], lossCount = 0)), (closeSession = 4)]))

                """)
    }

    @Test(arguments: [nil, 1]) func `we read what the capnp tool writes`(segmentSizeWords: Int?) throws {
        var codec = ControlCodec()
        let text = """
            (batch = (epoch = 5, incarnation = 77, sequence = 2, acknowledged = 1, toServer = [
              (failed = (attempt = (session = 1, task = 2, epoch = 3, number = 4), cause = crash, message = "m", detail = "d",
                debug = "b", signal = 11, hasSignal = true, host = "h")),
              (finished = (session = 1, task = 3, epoch = 3, number = 1, durationNanoseconds = 9,
                outputs = [(sizeBytes = 2, inline = "ab", contentType = "text"), (sizeBytes = 7, stored = void)]))]))
            """
        let bytes = try CapnpTool.encode(text, schema: CapnpTool.control, type: "Frame", segmentSizeWords: segmentSizeWords)
        var error = TaskError(.crash, "m", detail: "d", debug: "b", signal: 11)
        error.host = "h"
        func attempt(_ task: UInt32, _ number: UInt32) -> AttemptID {
            AttemptID(task: TaskID(session: SessionID(1), index: task), epoch: ServerEpoch(3), number: number)
        }
        let expected = WorkerToServerFrame.batch(
            Batch(
                epoch: ServerEpoch(5), incarnation: 77, sequence: 2, acknowledged: 1,
                payload: [
                    .failed(attempt(2, 4), error),
                    .finished(
                        attempt(3, 1),
                        FinishedAttempt(
                            outputs: [
                                FinishedOutput(sizeBytes: 2, contentType: "text", inline: Array("ab".utf8)), FinishedOutput(sizeBytes: 7),
                            ], durationNanoseconds: 9)),
                ]))
        #expect(try codec.decodeFromWorker(bytes) == expected)
    }

    @Test func `a batch for the other side is refused`() throws {
        var codec = ControlCodec()
        var generator = ValueGenerator(seed: 1)
        let bytes = try codec.encode(generator.serverFrame(ValueGenerator.frameKindCount - 1))
        #expect(throws: WireError.unexpected(kind: "batch for the other side")) { try codec.decodeFromWorker(bytes) }
    }

    @Test func `a frame cut off anywhere is an error`() throws {
        var codec = ControlCodec()
        for kind in 0..<ValueGenerator.frameKindCount {
            var generator = ValueGenerator(seed: 7)
            let bytes = try codec.encode(generator.workerFrame(kind))
            for count in 0..<bytes.count where count < 600 || count % 97 == 0 {
                #expect(throws: WireError.self) { try codec.decodeFromWorker(Array(bytes.prefix(count))) }
            }
        }
    }

    /// A changed message may still be one, so nothing is asked but that it ends and that the codec works on.
    @Test(arguments: 0..<8 as Range<UInt64>) func `a changed frame is no danger`(seed: UInt64) throws {
        var codec = ControlCodec()
        var generator = ValueGenerator(seed: seed)
        var refusedCount = 0
        for kind in 0..<ValueGenerator.frameKindCount {
            let frame = generator.serverFrame(kind)
            let good = try codec.encode(frame)
            for _ in 0..<500 {
                var bytes = good
                for _ in 0...generator.below(3) {
                    bytes[generator.below(bytes.count)] = UInt8(truncatingIfNeeded: generator.bits())
                }
                do { _ = try codec.decodeFromServer(bytes) } catch { refusedCount += 1 }
            }
            #expect(try codec.decodeFromServer(good) == frame)
        }
        #expect(refusedCount > 0)
    }

    @Test func `noise is an error`() {
        var codec = ControlCodec()
        var generator = ValueGenerator(seed: 3)
        for _ in 0..<2000 {
            let noise = generator.data()
            // A few of them are a message by chance: an empty struct is a hello.
            _ = try? codec.decodeFromServer(noise)
        }
        #expect(throws: WireError.self) { try codec.decodeFromServer([]) }
        #expect(throws: WireError.self) { try codec.decodeFromServer(Array("GET / HTTP/1.1\r\n".utf8)) }
    }

    @Test func `a frame that is too large is refused before it is built`() throws {
        var codec = ControlCodec()
        let frame = ServerToWorkerFrame.welcome(
            Welcome(
                epoch: ServerEpoch(1), worker: WorkerID(1), lastReceived: 0,
                dataSecret: [UInt8](repeating: 1, count: ControlCodec.messageBytesMax + 1)))
        #expect(throws: WireError.tooLarge(sizeBytes: 16_777_217, limitBytes: 16_777_216)) { try codec.encode(frame) }
        let small = ServerToWorkerFrame.refused(reason: "the next one works")
        #expect(try codec.decodeFromServer(try codec.encode(small)) == small)
    }

    @Test func `a large batch takes several segments and comes back`() throws {
        var codec = ControlCodec()
        let attempt = AttemptID(task: TaskID(session: SessionID(1), index: 1), epoch: ServerEpoch(1), number: 1)
        let messages = (0..<2000).map { number in
            WorkerMessage.finished(
                attempt, FinishedAttempt(outputs: [FinishedOutput(sizeBytes: 1, inline: [UInt8](repeating: UInt8(number % 256), count: 2000))]))
        }
        let frame = WorkerToServerFrame.batch(
            Batch(epoch: ServerEpoch(1), incarnation: 1, sequence: 1, acknowledged: 0, payload: ContiguousArray(messages)))
        let bytes = try codec.encode(frame)
        #expect(bytes[0] > 0)
        #expect(try codec.decodeFromWorker(bytes) == frame)
    }
}
