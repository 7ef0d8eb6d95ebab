import ServerCore
import TaskModel

@testable import Server

private let blob = BlobHash(bytes: Array(repeating: 0xAB, count: 32))

func scan(_ body: UnsafeRawBufferPointer, cutEvery step: Int, earlier: ContiguousArray<UInt32>) -> SubmitScanner.Result? {
    var scanner = SubmitScanner(earlierOutputCounts: earlier) { $0 == blob ? 100_000 : nil }
    do {
        var start = 0
        while start < body.count {
            let end = min(start + step, body.count)
            try scanner.consume(UnsafeRawBufferPointer(rebasing: body[start..<end]).assumingMemoryBound(to: UInt8.self).span)
            start = end
        }
        return try scanner.finish()
    } catch {
        if error.message.isEmpty { fatalError("a refusal that says nothing") }
        return nil
    }
}

/// A submit reads the same however its bytes arrive. The first byte says in which pieces.
func fuzzSubmit(_ bytes: UnsafeRawBufferPointer) {
    guard let first = bytes.first else { return }
    let body = UnsafeRawBufferPointer(rebasing: bytes.dropFirst())
    let earlier: ContiguousArray<UInt32> = first & 1 == 1 ? [1, 0, 3] : []
    let whole = scan(body, cutEvery: max(body.count, 1), earlier: earlier)
    let pieces = scan(body, cutEvery: Int(first >> 1) + 1, earlier: earlier)
    guard whole?.submit == pieces?.submit, whole?.outputCounts == pieces?.outputCounts else {
        fatalError("a submit depends on how it arrives")
    }
    guard let rows = whole?.submit.rows else { return }
    guard rows.count.count == rows.rowCount, rows.inputEnd.count == rows.rowCount, rows.argumentsEnd.count == rows.rowCount,
        Int(rows.inputEnd.last ?? 0) == rows.inputs.count, Int(rows.argumentsEnd.last ?? 0) == rows.arguments.count
    else { fatalError("columns of different lengths") }
}

/// Bodies of the JSON calls. The first byte says of which.
func fuzzBodies(_ bytes: UnsafeRawBufferPointer) {
    guard let first = bytes.first else { return }
    let body = Array(bytes.dropFirst())
    do {
        switch first % 7 {
        case 0: _ = try RequestBodies.sessionOptions(body)
        case 1: _ = try RequestBodies.waiting(body)
        case 2: _ = try RequestBodies.tasks(body)
        case 3: _ = try RequestBodies.results(body)
        case 4: _ = try RequestBodies.objects(body)
        case 5: _ = try RequestBodies.info(body)
        default: _ = ByteRange(String(decoding: body, as: UTF8.self), sizeBytes: UInt64(first))
        }
    } catch {
        // A refusal is an answer in JSON, whatever it quotes.
        let answer = error.json()
        var cursor = JSONCursor()
        guard (try? cursor.skipValue(answer.span)) != nil, (try? cursor.expectEnd(answer.span)) != nil else {
            fatalError("an error that is no JSON: \(String(decoding: answer, as: UTF8.self))")
        }
    }
}
