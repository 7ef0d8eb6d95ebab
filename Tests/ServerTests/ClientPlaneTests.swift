import Glibc
import Journal
import ServerCore
import TaskModel
import Testing
import Transport

@testable import Server

private let hello = """
    {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}}
    {"object": {"data": "hello ", "label": "greeting", "content_type": "text"}}
    {"object": {"data64": "d29ybGQ="}}
    {"template": {"type": "builtin/concat", "outputs": [{"label": "out", "keep": true}]}}
    [0, [0, 1], null]

    """

/// Opens a detached session.
private func openSession(_ client: TestClient, _ options: String = #"{"detached": true}"#) throws -> (path: String, resume: String) {
    let answer = client.call("POST", "/api/v1/sessions", options)
    try #require(answer.status == 201, "\(answer.text)")
    return ("/api/v1/sessions/\(try #require(number("session", in: answer.text)))", try #require(string("resume", in: answer.text)))
}

@Suite struct ClientPlaneTests {
    let server: TestServer
    let client: TestClient
    init() throws {
        server = try TestServer()
        client = server.connect()
    }

    // MARK: The frame

    @Test func `it says when it is ready`() throws {
        let descriptor = open(server.directory.path + "/ready", O_RDONLY)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 500)
        let count = read(descriptor, &bytes, 500)
        try #require(count > 0)
        let expected =
            #"{"ready": true, "host": "127.0.0.1", "port": \#(server.server.port), "control_port": \#(server.server.controlPort), "pid": \#(getpid()), "epoch": 1}"#
            + "\n"
        #expect(String(decoding: bytes[..<count], as: UTF8.self) == expected)
    }

    @Test func `a request without the token is told where it is`() {
        let without = client.call("GET", "/api/v1/status", nil as String?, withToken: false)
        #expect(without.status == 401 && without.has("access.toml") && without.headers["www-authenticate"] != nil)
        let wrong = client.call("GET", "/api/v1/status", nil as String?, headers: ["Authorization: Bearer nonsense"], withToken: false)
        #expect(wrong.status == 401 && wrong.has("not that of this server"))
    }

    @Test func `the description needs no token and is that of the documents`() throws {
        let answer = client.call("GET", "/api/openapi.json", nil as String?, withToken: false)
        #expect(answer.status == 200 && answer.headers["content-type"] == "application/json" && answer.headers["date"]?.hasSuffix("GMT") == true)
        let here = try #require(realpath(#filePath, nil).map { String(cString: $0) })
        let path = here.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 } + "/docs/openapi.json"
        let descriptor = open(path, O_RDONLY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = read(descriptor, &bytes, bytes.count)
        #expect(answer.body == Array(bytes[..<count]), "run scripts/generate-openapi")
    }

    @Test(arguments: [
        ("GET", "/", 404), ("GET", "/api/v1/nothing", 404), ("POST", "/api/v1/status", 405), ("GET", "/api/v1/sessions/1/submit", 405),
        ("PATCH", "/api/v1/sessions", 405),
        ("GET", "/api/v1/sessions/x", 400), ("GET", "/api/v1/sessions/-1", 400), ("GET", "/api/v1/sessions/4294967296", 400),
        ("GET", "/api/v1/sessions/77", 404),
        ("GET", "/api/v1/sessions/77/objects/0/content", 404), ("GET", "/api/v1/sessions/77/objects/4294967295/content", 404),
        ("GET", "/api/v1/sessions/1/lease", 400),
        ("GET", "/api/v1/sessions/77/lease?resume=x", 404), ("DELETE", "/api/v1/sessions/77", 404), ("PUT", "/api/v1/blobs/xyz", 400),
        ("GET", "/objects/1/0/0-0", 401),
        ("GET", "/objects/1/0/1-1", 404), ("GET", "/objects/1/0/0-0?expires=99999999999&mac=00", 401), ("GET", "/api/v1/sessions/77/lease?resume=%zz", 400),
    ]) func `other requests are refused as JSON`(method: String, path: String, status: Int) {
        let answer = client.call(method, path, nil as String?)
        #expect(answer.status == status && answer.has("{\"error\":{\"code\":\""), "\(answer.status) \(answer.text)")
        // The connection goes on.
        #expect(client.call("GET", "/api/v1/status", nil as String?).status == 200)
    }

    @Test func `junk ends its connection and nothing else`() {
        for junk in [
            "\r\n\r\n\u{0}", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST /api/v1/sessions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "GET http://[ HTTP/1.1\r\n\r\n", "GET ? HTTP/1.1\r\n\r\n",
        ] {
            let other = server.connect()
            other.send(Array(junk.utf8))
            _ = other.receive()
        }
        #expect(client.call("GET", "/api/v1/status", nil as String?).status == 200)
    }

    // MARK: Sessions

    @Test func `a session is opened, listed and closed`() throws {
        let session = try openSession(
            client,
            #"{"name": "mine \"1\"", "detached": true, "on_error": "fail_descendants", "grace_ms": 0, "subworkers": [{"name": "c", "command": ["x", "y"], "env": ["A=b", "B=\u0301"]}]}"#
        )
        let status = client.call("GET", session.path, nil as String?)
        #expect(status.status == 200 && status.has(#""name":"mine \"1\"""#) && status.has(#""state":"open""#) && status.has(#""lease":false"#))
        #expect(status.has(#""detached":true"#))
        let age = Int(time(nil)) - (number("opened", in: status.text) ?? 0)
        #expect((0...60).contains(age))
        #expect(client.call("GET", "/api/v1/sessions", nil as String?).has(#"{"sessions":[{"session":1,"#))
        let whole = client.call("GET", "/api/v1/status", nil as String?)
        #expect(whole.has(#""version":"test""#) && whole.has(#""epoch":1"#) && whole.has(#""workers":[]"#) && number("pid", in: whole.text) == Int(getpid()))
        #expect(client.call("DELETE", session.path, nil as String?).status == 200)
        #expect(client.call("GET", session.path, nil as String?).status == 404)
        #expect(client.call("DELETE", session.path, nil as String?).status == 404)
    }

    @Test func `an empty body opens a session with the defaults`() throws {
        #expect(client.call("POST", "/api/v1/sessions", nil as String?).status == 201)
    }

    @Test(arguments: [
        "{", "[]", "5", #"{"nam": "x"}"#, #"{"name": 5}"#, #"{"on_error": "shrug"}"#, #"{"grace_ms": -1}"#, #"{"grace_ms": 4294967296}"#, #"{"detached": 1}"#,
        #"{"subworkers": {}}"#, #"{"subworkers": [{"name": "a"}]}"#, #"{"subworkers": [{"name": "a/b", "command": ["x"]}]}"#,
        #"{"subworkers": [{"name": "builtin", "command": ["x"]}]}"#, #"{"subworkers": [{"name": "a", "command": []}]}"#,
        #"{"subworkers": [{"name": "a", "command": ["x\u0000"]}]}"#, #"{"subworkers": [{"name": "a", "command": ["x"], "env": ["=b"]}]}"#, #"{"name": "a"} x"#,
    ]) func `wrong options are refused`(body: String) {
        let answer = client.call("POST", "/api/v1/sessions", body)
        #expect(answer.status == 400 && answer.has("bad_request"), "\(answer.text)")
    }

    @Test(arguments: [".hidden", "..", "a b", "a\\n", "é", "", String(repeating: "a", count: 101)])
    func `a subworker's name is one that a file may have`(name: String) {
        let answer = client.call("POST", "/api/v1/sessions", #"{"subworkers": [{"name": "\#(name)", "command": ["x"]}]}"#)
        #expect(answer.status == 400 && answer.has("can't be the name of a subworker"), "\(answer.text)")
    }

    @Test func `very many subworkers are refused, and hold up nobody`() {
        let one = { (number: Int) in #"{"name": "s\#(number)", "command": ["x"]}"# }
        let many = client.call("POST", "/api/v1/sessions", #"{"subworkers": [\#((0..<1001).map(one).joined(separator: ","))]}"#)
        #expect(many.status == 413 && many.has("at most 1000 subworkers"), "\(many.text)")
        #expect(client.call("POST", "/api/v1/sessions", #"{"subworkers": [\#((0..<1000).map(one).joined(separator: ","))]}"#).status == 201)
        // As many as a body holds: with a search among all names before it for each, it took minutes.
        let most = (0..<150_000).map(one).joined(separator: ",")
        #expect(client.call("POST", "/api/v1/sessions", #"{"subworkers": [\#(most)]}"#).status == 413)
    }

    // MARK: Submits

    @Test func `a submit is taken once and answered again`() throws {
        let session = try openSession(client)
        let first = client.call("POST", session.path + "/submit", hello)
        #expect(first.text == #"{"first_template":0,"first_task":0,"first_object":0,"tasks":1,"objects":3,"repeated":false}"# + "\n")
        let again = client.call("POST", session.path + "/submit", hello)
        #expect(again.status == 200 && again.has(#""repeated":true"#))
        let other = client.call("POST", session.path + "/submit", hello.replacing("world", with: "wurld").replacing("hello", with: "hullo"))
        #expect(other.status == 409 && other.has("submit_conflict"), "\(other.text)")
        // Without a submit line: the next free ids, with templates of before.
        let next = client.call("POST", session.path + "/submit", "[0,[2],null]\n")
        #expect(next.has(#""first_task":1,"first_object":3,"tasks":1,"objects":1"#), "\(next.text)")
        let twice = client.call("POST", session.path + "/submit", "[0,[2],null]\n")
        #expect(twice.has(#""first_task":2"#) && twice.has(#""repeated":false"#), "\(twice.text)")
        #expect(client.call("GET", session.path, nil as String?).has(#""tasks":3,"objects":5"#))
    }

    @Test func `a chunked body is taken as it comes`() throws {
        let session = try openSession(client)
        client.sendHead("POST", session.path + "/submit", ["Transfer-Encoding: chunked"])
        for byte in hello.utf8 { client.send(Array("1\r\n".utf8) + [byte] + Array("\r\n".utf8)) }
        client.send(Array("0\r\n\r\n".utf8))
        let answer = client.receive()
        #expect(answer.status == 200 && answer.has(#""tasks":1"#), "\(answer.text)")
    }

    @Test func `half a submit is no submit`() throws {
        let session = try openSession(client)
        let body = Array(hello.utf8)
        for (headers, send) in [
            (["Content-Length: \(body.count)"], Array(body[..<(body.count - 20)])),
            (["Transfer-Encoding: chunked"], Array("\(String(body.count, radix: 16))\r\n".utf8) + body + Array("\r\n".utf8)),
        ] {
            let dying = server.connect()
            dying.sendHead("POST", session.path + "/submit", headers)
            dying.send(send)
            dying.close()
        }
        // The requests above end some time; a new connection's request is read after them.
        for _ in 0..<20 { _ = server.connect().call("GET", "/api/v1/status", nil as String?) }
        #expect(client.call("GET", session.path, nil as String?).has(#""tasks":0,"objects":0"#))
    }

    @Test func `a wrong submit changes nothing and says where it is wrong`() throws {
        let session = try openSession(client)
        let answer = client.call("POST", session.path + "/submit", hello + "[0,[99],null]\n")
        #expect(answer.status == 400 && answer.has("line 6") && answer.has("object 99"), "\(answer.text)")
        #expect(client.call("GET", session.path, nil as String?).has(#""tasks":0,"objects":0"#))
        let closed = client.call("POST", "/api/v1/sessions/99/submit", hello)
        #expect(closed.status == 404 && closed.has("unknown_session"))
    }

    @Test func `100-continue is answered before the body is sent`() throws {
        let session = try openSession(client)
        client.sendHead("POST", session.path + "/submit", ["Content-Length: \(hello.utf8.count)", "Expect: 100-continue"])
        #expect(client.receiveHead().status == 100)
        client.send(Array(hello.utf8))
        #expect(client.receive().status == 200)
    }

    // MARK: Waiting

    @Test func `a wait ends with its time`() throws {
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        #expect(client.call("POST", session.path + "/wait", #"{"all": true, "timeout_ms": 20}"#).text == "{\"done\":false}\n")
        #expect(client.call("POST", session.path + "/wait", #"{"tasks": [[0, 0]]}"#).text == "{\"done\":true}\n")
        let results = client.call("POST", session.path + "/results", #"{"objects": [[2, 1]], "timeout_ms": 20}"#)
        #expect(results.status == 409 && results.has("timeout"))
    }

    @Test(arguments: [
        #"{}"#, #"{"all": false}"#, #"{"all": true, "tasks": []}"#, #"{"tasks": [[0]]}"#, #"{"tasks": [[0, 1, 2]]}"#, #"{"tasks": [0, 1]}"#,
        #"{"tasks": [[0, 1.5]]}"#, #"{"tasks": [[0, 1e0]]}"#, #"{"tasks": [], "x": 1}"#,
    ])
    func `wrong selections are refused`(body: String) throws {
        let session = try openSession(client)
        let answer = client.call("POST", session.path + "/wait", body)
        #expect(answer.status == 400, "\(answer.text)")
    }

    @Test func `ranges beyond the session are unknown, never a trap`() throws {
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        for range in ["[0, 4294967295]", "[4294967295, 4294967295]", "[4294967295, 0]", "[1, 1]", "[0, 2]"] {
            for call in ["wait", "cancel", "info"] {
                #expect(client.call("POST", session.path + "/" + call, "{\"tasks\": [\(range)]}").status == 404, "\(call) \(range)")
            }
        }
        for range in ["[0, 4294967295]", "[4294967295, 4294967295]", "[3, 1]", "[0, 4]"] {
            for call in ["results", "keep", "unkeep", "info"] {
                #expect(client.call("POST", session.path + "/" + call, "{\"objects\": [\(range)]}").status == 404, "\(call) \(range)")
            }
        }
    }

    @Test func `cancelled tasks have their outcome at once`() throws {
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        #expect(client.call("POST", session.path + "/cancel", #"{"all": true}"#).status == 200)
        #expect(client.call("POST", session.path + "/wait", #"{"all": true}"#).status == 200)
        let info = client.call("POST", session.path + "/info", #"{"tasks": [[0, 1]], "objects": [[0, 3]]}"#)
        #expect(info.has(#"{"task":0,"name":"builtin/concat","type":"builtin/concat","state":"cancelled""#), "\(info.text)")
        #expect(
            info.has(#"{"object":0,"label":"greeting","state":"finished","kept":true,"directory":false,"content_type":"text","size":6,"attributes":{}}"#),
            "\(info.text)")
        #expect(client.call("GET", session.path + "/objects/2/content", nil as String?).status == 409)
        // By state, of all tasks too.
        for (question, isTold) in [
            (#"{"states": ["cancelled", "failed"]}"#, true), (#"{"tasks": [[0, 1]], "states": ["failed"]}"#, false), (#"{"states": []}"#, false),
            (#"{"limit": 1}"#, true), (#"{"consequences": false}"#, true),
        ] {
            let answer = client.call("POST", session.path + "/info", question)
            #expect(answer.status == 200 && answer.has(#""state":"cancelled""#) == isTold, "\(question): \(answer.text)")
        }
        for (question, reason) in [
            (#"{"states": ["lost"]}"#, "a state is one of waiting, ready"), (#"{"states": "failed"}"#, "an array"), (#"{"limit": 0}"#, "from 1 to 1000000"),
            (#"{"limit": 1000001}"#, "from 1 to 1000000"), (#"{"consequences": 1}"#, "body is wrong"), (#"{"state": ["failed"]}"#, "consequences, limit"),
        ] {
            let answer = client.call("POST", session.path + "/info", question)
            #expect(answer.status == 400 && answer.has(reason), "\(question): \(answer.text)")
        }
    }

    // MARK: Leases

    @Test func `a lease tells what happens, and another takes it over`() throws {
        let session = try openSession(client, "{}")
        let lease = server.connect()
        lease.sendHead("GET", session.path + "/lease?resume=\(session.resume)", [])
        #expect(lease.receiveHead().headers["content-type"] == "application/x-ndjson")
        #expect(lease.receiveChunk().map { String(decoding: $0, as: UTF8.self) } == "{\"lease\":1}\n")
        _ = client.call("POST", session.path + "/submit", hello)
        _ = client.call("POST", session.path + "/cancel", #"{"all": true}"#)
        #expect(lease.receiveChunk().map { String(decoding: $0, as: UTF8.self) } == "{\"cancelled\":[[0,1]]}\n")
        let wrong = client.call("GET", session.path + "/lease?resume=nonsense", nil as String?)
        #expect(wrong.status == 401 && wrong.has("bad_resume_token"))
        // A second holder: the first is ended, and the second hears what was before.
        let second = server.connect()
        second.sendHead("GET", session.path + "/lease?resume=\(session.resume)", [])
        _ = second.receiveHead()
        #expect(second.receiveChunk().map { String(decoding: $0, as: UTF8.self) } == "{\"lease\":2}\n")
        #expect(second.receiveChunk().map { String(decoding: $0, as: UTF8.self) } == "{\"cancelled\":[[0,1]]}\n")
        #expect(lease.receiveChunk() == nil)
        #expect(client.call("DELETE", session.path, nil as String?).status == 200)
        #expect(second.receiveChunk().map { String(decoding: $0, as: UTF8.self) } == "{\"closed\":\"closed by its client\"}\n")
        #expect(second.receiveChunk() == nil)
    }

    @Test func `a session without grace ends with its lease`() throws {
        let session = try openSession(client, #"{"grace_ms": 0}"#)
        let lease = server.connect()
        lease.sendHead("GET", session.path + "/lease?resume=\(session.resume)", [])
        try #require(lease.receiveHead().status == 200)
        _ = lease.receiveChunk()
        lease.close()
        var isGone = false
        for _ in 0..<200 where !isGone { isGone = server.connect().call("GET", session.path, nil as String?).status == 404 }
        #expect(isGone)
    }

    @Test func `a wait whose client is gone is forgotten`() throws {
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        for _ in 0..<20 {
            let waiting = server.connect()
            waiting.sendHead("POST", session.path + "/wait", ["Content-Length: 13"])
            waiting.send(Array(#"{"all": true}"#.utf8))
            waiting.close()
        }
        #expect(client.call("POST", session.path + "/wait", #"{"all": true, "timeout_ms": 10}"#).status == 200)
    }

    // MARK: Objects

    @Test func `an object's bytes are served whole and in parts`() throws {
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        let content = session.path + "/objects/0/content"
        let whole = client.call("GET", content, nil as String?)
        #expect(whole.status == 200 && whole.text == "hello " && whole.headers["content-type"] == "text/plain; charset=utf-8")
        #expect(whole.headers["rain-content-type"] == "text" && whole.headers["accept-ranges"] == "bytes")
        let tag = try #require(whole.headers["etag"])
        for (range, text, header) in [
            ("bytes=1-2", "el", "bytes 1-2/6"), ("bytes=4-", "o ", "bytes 4-5/6"), ("bytes=-2", "o ", "bytes 4-5/6"), ("bytes=0-99", "hello ", "bytes 0-5/6"),
        ] {
            let part = client.call("GET", content, nil as String?, headers: ["Range: \(range)"])
            #expect(part.status == 206 && part.text == text && part.headers["content-range"] == header && part.headers["etag"] == tag, "\(range)")
        }
        let outside = client.call("GET", content, nil as String?, headers: ["Range: bytes=6-"])
        #expect(outside.status == 416 && outside.headers["content-range"] == "bytes */6")
        #expect(client.call("GET", content, nil as String?, headers: ["Range: bytes=1-2", "If-Range: \"other\""]).status == 200)
        #expect(client.call("GET", content, nil as String?, headers: ["Range: bytes=1-2", "If-Range: \(tag)"]).status == 206)
        let head = client.call("HEAD", content, nil as String?)
        #expect(head.status == 200 && head.headers["content-length"] == "6" && head.headers["etag"] == tag)
        #expect(client.call("GET", session.path + "/objects/3/content", nil as String?).status == 404)
    }

    @Test func `results come in bulk, both ways`() throws {
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        _ = client.call("POST", session.path + "/cancel", #"{"all": true}"#)
        let json = client.call("POST", session.path + "/results", #"{"objects": [[0, 3], [1, 1]]}"#)
        #expect(
            json.text
                == #"{"objects":[{"object":0,"status":"ok","data64":"aGVsbG8g","content_type":"text","size":6,"directory":false},{"object":1,"status":"ok","data64":"d29ybGQ=","content_type":"","size":5,"directory":false},{"object":2,"status":"cancelled"},{"object":1,"status":"ok","data64":"d29ybGQ=","content_type":"","size":5,"directory":false}]}"#
                + "\n")
        let rows = client.call("POST", session.path + "/results", #"{"objects": [[0, 1], [2, 1]]}"#, headers: ["Accept: application/x-rain-rows"])
        #expect(rows.headers["content-type"] == "application/x-rain-rows")
        let first: [UInt8] = [0, 0, 0, 0, 0, 0, 4, 0, 6, 0, 0, 0, 0, 0, 0, 0] + Array("texthello ".utf8)
        #expect(rows.body == first + [2, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    // MARK: Blobs

    @Test func `a blob is uploaded, named by a submit, and served`() throws {
        let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let name = hexText(SHA256.hash(bytes))
        #expect(client.call("HEAD", "/api/v1/blobs/\(name)", nil as String?).status == 404)
        let wrong = client.call("PUT", "/api/v1/blobs/\(name)", Array(bytes.dropLast()))
        #expect(wrong.status == 400 && wrong.has("wrong_hash"))
        #expect(client.call("HEAD", "/api/v1/blobs/\(name)", nil as String?).status == 404)
        let put = client.call("PUT", "/api/v1/blobs/\(name)", bytes)
        #expect(put.status == 201 && put.has(#""size":3000000"#), "\(put.text)")
        #expect(client.call("PUT", "/api/v1/blobs/\(name)", bytes).status == 200)
        #expect(client.call("HEAD", "/api/v1/blobs/\(name)", nil as String?).headers["content-length"] == "3000000")

        let session = try openSession(client)
        let submit = client.call("POST", session.path + "/submit", "{\"object\":{\"blob\":\"\(name.uppercased())\",\"content_type\":\"mime/image/png\"}}\n")
        #expect(submit.status == 200, "\(submit.text)")
        let whole = client.call("GET", session.path + "/objects/0/content", nil as String?)
        #expect(whole.status == 200 && whole.body == bytes && whole.headers["content-type"] == "image/png" && whole.headers["etag"] == "\"\(name)\"")
        let part = client.call("GET", session.path + "/objects/0/content", nil as String?, headers: ["Range: bytes=999999-2000000"])
        #expect(part.status == 206 && part.body == Array(bytes[999_999...2_000_000]))
        let bulk = client.call("POST", session.path + "/results", #"{"objects": [[0, 1]]}"#)
        #expect(bulk.has(#""status":"large","content_type":"mime/image/png","size":3000000"#))
    }

    @Test func `many uploads at once are all there`() async throws {
        let port = server.server.port
        let token = server.server.clientToken
        await withTaskGroup(of: Int.self) { group in
            for index in 0..<32 {
                group.addTask {
                    let bytes = Array("blob \(index % 16)".utf8)
                    return TestClient(port: port, token: token).call("PUT", "/api/v1/blobs/\(hexText(SHA256.hash(bytes)))", bytes).status
                }
            }
            for await status in group { #expect(status == 200 || status == 201) }
        }
        for index in 0..<16 {
            #expect(client.call("HEAD", "/api/v1/blobs/\(hexText(SHA256.hash(Array("blob \(index)".utf8))))", nil as String?).status == 200)
        }
    }

    @Test func `an upload that breaks off leaves nothing`() throws {
        let bytes = [UInt8](repeating: 7, count: 2 << 20)
        let dying = server.connect()
        dying.sendHead("PUT", "/api/v1/blobs/\(hexText(SHA256.hash(bytes)))", ["Content-Length: \(bytes.count)"])
        dying.send(Array(bytes[..<(1 << 20)]))
        dying.close()
        var names: [String] = ["?"]
        for _ in 0..<200 where !names.isEmpty {
            _ = client.call("GET", "/api/v1/status", nil as String?)
            names = []
            let stream = try #require(opendir(server.directory.path + "/work/depot"))
            while let entry = readdir(stream) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                if name != "." && name != ".." { names.append(name) }
            }
            closedir(stream)
        }
        #expect(names.isEmpty)
    }

    // MARK: The end

    @Test func `stopping answers who waits and keeps the journal`() throws {
        let directory = TemporaryDirectory()
        var options = ServerOptions(workDirectory: directory.path + "/w", stateDirectory: directory.path + "/s")
        (options.port, options.controlPort) = (0, 0)
        let running = try RunningServer(options)
        let client = TestClient(port: running.port, token: running.clientToken)
        let session = try openSession(client)
        _ = client.call("POST", session.path + "/submit", hello)
        let waiting = TestClient(port: running.port, token: running.clientToken)
        waiting.sendHead("POST", session.path + "/wait", ["Content-Length: 13"])
        waiting.send(Array(#"{"all": true}"#.utf8))
        _ = client.call("GET", "/api/v1/status", nil as String?)
        let clock = ContinuousClock()
        var code: Int32 = -1
        let time = try clock.measure {
            running.stop()
            code = try running.waitUntilStopped()
        }
        #expect(code == 0)
        #expect(time < .seconds(1))
        let answer = waiting.receive()
        // The answer may be cut off by the end of the server.
        #expect(answer.status == 503 || answer.status == 0)
        let kinds = try Journal.readAll(directory.path + "/w/journal.sqlite").map(\.record)
        #expect(kinds.contains { if case .sessionOpened = $0 { true } else { false } })
        #expect(kinds.contains { if case .submitted(_, let submit, _) = $0 { submit.rows.rowCount == 1 && submit.uploads.count == 2 } else { false } })
    }

    @Test func `a port that is taken is named with its option`() throws {
        let directory = TemporaryDirectory()
        var options = ServerOptions(workDirectory: directory.path + "/w", stateDirectory: directory.path + "/s")
        (options.port, options.controlPort) = (server.server.port, 0)
        let port = try #require(throws: ServerError.self) { try RunningServer(options) }
        #expect(port.description.contains("port \(server.server.port)") && port.description.contains("--port"))
        (options.port, options.controlPort) = (0, server.server.controlPort)
        options.workDirectory += "2"
        let control = try #require(throws: ServerError.self) { try RunningServer(options) }
        #expect(control.description.contains("--control-port"))
        options.workDirectory = server.directory.path + "/work"
        let journal = try #require(throws: ServerError.self) { try RunningServer(options) }
        #expect(journal.description.contains("running server (pid \(getpid()))"))
    }
}
