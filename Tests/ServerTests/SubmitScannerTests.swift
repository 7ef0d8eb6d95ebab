import ServerCore
import TaskModel
import Testing

@testable import Server

private let blob = BlobHash(bytes: Array(repeating: 0xAB, count: 32))!

/// Scans a body in pieces that end at these places.
private func scan(_ body: [UInt8], cuts: [Int] = [], earlier: ContiguousArray<UInt32> = []) throws(RequestError) -> SubmitScanner.Result {
    var scanner = SubmitScanner(earlierOutputCounts: earlier) { $0 == blob ? 123 : nil }
    var start = 0
    for cut in cuts + [body.count] {
        try scanner.consume(body.span.extracting(start..<cut))
        start = cut
    }
    return try scanner.finish()
}

private func message(_ body: String, earlier: ContiguousArray<UInt32> = []) -> String? {
    do {
        _ = try scan(Array(body.utf8), earlier: earlier)
        return nil
    } catch {
        return "\(error.code.rawValue): \(error.message)"
    }
}

private let fullBody = """
    {"submit": {"first_template": 1, "first_task": 10, "first_object": 20}}
    {"object": {"data": "h\\u00e9llo ", "label": "greeting", "content_type": "text", "keep": true, "attributes": {"a": [1, 2]}}}
    {"object": {"data64": "d29ybGQ="}}

    {"object": {"blob": "\(blob)", "directory": true}}
    {"template": {"type": "builtin/concat", "outputs": ["x", {"label": "out", "keep": true, "content_type": "json", "directory": false}], "inputs": ["a"], "constants": [20], "cpus": 0, "rerun": "never", "retries": 2, "threads": 8, "origin": "f.py:1", "attributes": {}, "name": "n", "config": {"k": null}}}
    [1, [20, 21, 22], null]
      [ 1 , [ 23 ] , {"s": "a,]}\\"[" , "n": -1.5e3} , {"name": "row", "keep": [0, 1], "count": 3} ]\u{20}
    [0,[],"x"]
    [1,[30],[[]],{"count":1}]
    """

@Suite struct SubmitScannerTests {
    @Test func `a submit becomes columns`() throws {
        let result = try scan(Array(fullBody.utf8), earlier: [1])
        let submit = result.submit
        #expect(submit.firstTemplate == 1 && submit.firstTask == 10 && submit.firstObject == 20)
        #expect(result.outputCounts == [2])
        #expect(submit.uploads.count == 3)
        #expect(
            submit.uploads[0]
                == .init(
                    offset: 0, label: "greeting", contentType: "text", isKept: true, attributes: Array("{\"a\": [1, 2]}".utf8),
                    value: .inline(Array("héllo ".utf8))))
        #expect(submit.uploads[1] == .init(offset: 1, value: .inline(Array("world".utf8))))
        #expect(submit.uploads[2] == .init(offset: 2, isDirectory: true, value: .blob(blob, sizeBytes: 123)))
        var template = TaskTemplate(type: "builtin/concat")
        template.outputs = [OutputSpec(label: "x"), OutputSpec(label: "out", contentType: "json", isKept: true)]
        template.inputLabels = ["a"]
        template.constants = [20]
        template.resources.cpus = 0
        template.rerun = .never
        template.retryCountMax = 2
        template.threads = 8
        template.origin = "f.py:1"
        template.attributes = Array("{}".utf8)
        template.name = "n"
        template.config = Array("{\"k\": null}".utf8)
        #expect(submit.templates == [template])
        let rows = submit.rows
        #expect(rows.template == [1, 1, 0, 1] && rows.count == [1, 3, 1, 1] && rows.firstOutputOffset == [3, 5, 11, 12])
        #expect(rows.inputEnd == [3, 4, 4, 5] && rows.inputs == [20, 21, 22, 23, 30])
        let arguments = ["null", "{\"s\": \"a,]}\\\"[\" , \"n\": -1.5e3}", "\"x\"", "[[]]"]
        #expect(rows.arguments == Array(arguments.joined().utf8))
        #expect(rows.argumentsEnd.map { Int($0) } == arguments.indices.map { arguments[...$0].joined().utf8.count })
        #expect(rows.options.count == 1 && rows.options[0].row == 1 && rows.options[0].options == .init(name: "row", keep: [0, 1]))
    }

    @Test func `a subworker becomes one of its submit, with its program of this line or an earlier one`() throws {
        let body = """
            {"submit": {"first_template": 0, "first_task": 0, "first_object": 4}}
            {"object": {"data": "#!/bin/sh"}}
            {"subworker": {"name": "w", "program": 4, "path": "bin/w", "arguments": ["-v", ""], "env": ["A=b"]}}
            {"subworker": {"program": 2, "name": "x"}}
            """
        #expect(
            try scan(Array(body.utf8)).submit.subworkers == [
                DeclaredSubworker(name: "w", program: SubworkerProgram(object: 4, path: "bin/w", arguments: ["-v", ""], environment: ["A=b"])),
                DeclaredSubworker(name: "x", program: SubworkerProgram(object: 2)),
            ])
    }

    @Test(arguments: [
        ("{\"subworker\": {\"name\": \"w\"}}", "its program"), ("{\"subworker\": {\"program\": 0}}", "has a name"),
        ("{\"subworker\": {\"name\": \"w\", \"program\": 0, \"command\": []}}", "name, program, path, arguments and env"),
        ("{\"subworker\": {\"name\": \"w\", \"program\": \"p\"}}", "column"), ("{\"subworker\": []}", "column"),
        ("{\"subworker\": {\"name\": \"w\", \"program\": 0}}\n{\"submit\": {}}", "must be the first"),
    ])
    func `a subworker that is none is named`(body: String, part: String) {
        #expect(message(body)?.contains(part) == true, "\(message(body) ?? "taken")")
    }

    @Test func `a body may be cut anywhere`() throws {
        let body = Array(fullBody.utf8)
        let whole = try scan(body, earlier: [1]).submit
        for cut in 0...body.count { #expect(try scan(body, cuts: [cut], earlier: [1]).submit == whole, "cut at \(cut)") }
        #expect(try scan(body, cuts: Array(1..<body.count), earlier: [1]).submit == whole)
        #expect(try scan(body + [0x0A], earlier: [1]).submit.rows == whole.rows)
    }

    @Test func `other bytes have another hash`() throws {
        let one = try scan(Array("[0,[],null]".utf8), earlier: [0]).submit
        let two = try scan(Array("[0,[],null]\n".utf8), earlier: [0]).submit
        #expect(one.rows == two.rows && (one.hashLow, one.hashHigh) != (two.hashLow, two.hashHigh))
    }

    @Test func `an empty body is an empty submit`() throws {
        let submit = try scan([]).submit
        #expect(submit.rows.rowCount == 0 && submit.firstTemplate == nil)
    }

    @Test func `templates without a submit line are pinned to the next free ids`() throws {
        let submit = try scan(Array("{\"template\":{\"type\":\"a/b\"}}\n[2,[],null]".utf8), earlier: [1, 1]).submit
        #expect(submit.firstTemplate == 2 && submit.firstTask == nil)
        #expect(try scan(Array("[1,[],null]".utf8), earlier: [1, 1]).submit.firstTemplate == nil)
    }

    @Test(arguments: [
        ("5", "line 1, column 1"), ("[0,[],null]", "no template 0: there is none yet"), ("[1,[],null]", "the last one is 0"), ("[0,[]]", "',' should be"),
        ("[0,[],null", "where ']' should be"), ("[0,[],null]x", "the end"), ("[0,[1.5],null]", "fraction"), ("[0,[-1],null]", "whole number"),
        ("[0,[4294967296],null]", "larger than 4294967295"), ("[0,{},null]", "an array"), ("[0,[],nil]", "neither string"), ("[\"0\",[],null]", "whole number"),
        ("[0,[],null,{\"count\":0}]", "at least one task"), ("[0,[],null,{\"count\":10000001}]", "larger than"), ("[0,[],null,{\"keep\":[1]}]", "no output 1"),
        ("[0,[],null,{\"nam\":1}]", "unknown key \"nam\""), ("[0,[],null,{\"name\":1}]", "a string"),
        ("[0,[],null,{\"name\":\"a\",\"name\":\"b\"}]", "comes twice"),
        ("[0,[],null,5]", "an object"), ("{}", "empty object"), ("{\"what\":1}", "unknown key \"what\""), ("{\"object\":{}}", "one of data"),
        ("{\"object\":{\"data\":\"a\",\"data64\":\"\"}}", "not 2"), ("{\"object\":{\"data\":1}}", "a string"), ("{\"object\":{\"data64\":\"*\"}}", "base64"),
        ("{\"object\":{\"blob\":\"xy\"}}", "64 hexadecimal"), ("{\"object\":{\"data\":\"\",\"attributes\":[]}}", "attributes are an object"),
        ("{\"object\":{\"data\":\"\",\"keep\":1}}", "true or false"), ("{\"object\":{\"data\":\"\"},\"x\":1}", "one key"),
        ("{\"template\":{\"type\":\"concat\"}}", "RUNNER/METHOD"), ("{\"template\":{}}", "RUNNER/METHOD"),
        ("{\"template\":{\"type\":\"a/\"}}", "RUNNER/METHOD"),
        ("{\"template\":{\"type\":\"a/b\",\"cpus\":-1}}", "whole number"), ("{\"template\":{\"type\":\"a/b\",\"cpus\":65536}}", "larger than"),
        ("{\"template\":{\"type\":\"a/b\",\"rerun\":\"maybe\"}}", "rerun is one of"), ("{\"template\":{\"type\":\"a/b\",\"outputs\":[1]}}", "an object"),
        ("{\"template\":{\"type\":\"a/b\",\"typ\":1}}", "unknown key \"typ\""), ("{\"template\":{\"type\":\"a/b\"},\"template\":{}}", "comes twice"),
        ("[0,[],null]\n{\"submit\":{\"first_template\":0,\"first_task\":0,\"first_object\":0}}", "line 2"),
        ("{\"submit\":{\"first_task\":0}}", "all of"), ("{\"submit\":{\"first_template\":2,\"first_task\":0,\"first_object\":0}}", "next free one is 1"),
        ("{\"submit\":{\"first_template\":0,\"first_task\":0,\"first_object\":0}}\n[0,[],null]", "there is none yet"),
        ("{\"submit\":{\"first_template\":1,\"first_task\":0,\"first_object\":7}}\n[0,[7],null]", "object 7 is not made"),
        ("\n\n[0,[],\u{1}]", "line 3"),
    ]) func `a wrong line is an error that says where and what`(body: String, part: String) throws {
        let earlier: ContiguousArray<UInt32> = part.contains("none yet") && !body.contains("submit") ? [] : [1]
        let text = try #require(message(body, earlier: earlier))
        #expect(text.hasPrefix("bad_submit: line ") && text.contains(part), "\(text)")
    }

    @Test func `a blob that is not here is named`() {
        let other = String(repeating: "cd", count: 32)
        #expect(message("{\"object\":{\"blob\":\"\(other)\"}}")?.contains("PUT it to /api/v1/blobs/\(other) first") == true)
    }

    @Test func `ids beyond 32 bits are an error`() {
        let lines = String(repeating: "[0,[],null,{\"count\":10000000}]\n", count: 430)
        #expect(message(lines, earlier: [1])?.contains("line 430") == true)
        #expect(
            message("{\"submit\":{\"first_template\":1,\"first_task\":4294967295,\"first_object\":0}}\n[0,[],1]", earlier: [1])?.contains("more than ids")
                == true)
    }

    @Test func `every prefix of a body is an error or a submit, never a trap`() {
        let body = Array(fullBody.utf8)
        for end in 0..<body.count { _ = try? scan(Array(body[..<end]), earlier: [1]) }
    }

    @Test func `mutated bodies are an error or a submit, never a trap`() {
        let body = Array(fullBody.utf8)
        var state: UInt64 = 42
        func random(_ below: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(below))
        }
        let pieces: [[UInt8]] = ["\"", "{", "}", "[", "]", ",", "99999999999", "-", "\\u", "\n"].map { Array($0.utf8) } + [[0xFF], [0]]
        for _ in 0..<3000 {
            var mutated = body
            for _ in 0...random(3) {
                let place = random(mutated.count)
                mutated.replaceSubrange(place..<min(place + random(3), mutated.count), with: pieces[random(pieces.count)])
            }
            _ = try? scan(mutated, cuts: [random(mutated.count)], earlier: [1])
        }
    }

    @Test func `100,000 rows are scanned`() throws {
        var body = Array("{\"template\":{\"type\":\"py/call\",\"outputs\":[\"o\"]}}\n".utf8)
        for row in 0..<100_000 { body += Array("[0,[\(max(row, 1) - 1),\(row / 2)],{\"args\":[\(row),\"abc\"]}]\n".utf8) }
        let clock = ContinuousClock()
        var count = 0
        let time = try clock.measure { count = try scan(body, cuts: Array(stride(from: 65_536, to: body.count, by: 65_536))).submit.rows.rowCount }
        #expect(count == 100_000)
        print("scanned 100,000 rows of \(body.count) bytes in \(time)")
    }
}
