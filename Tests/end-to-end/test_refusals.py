"""What nobody should send: each gets its error, everybody else is served, and nothing half-done remains."""

import contextlib
import hashlib
import hmac
import json
import os
import re
import resource
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
import zmq
from cluster import ROOT, ndjson, run_program, wait_for

CONCAT = {"template": {"type": "builtin/concat", "outputs": [{"label": "out", "keep": True}]}}
VALUE = {"object": {"data": "x"}}
MEGABYTE = 1 << 20


def memory_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) << 10


def descriptor_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def state(cluster):
    """What the server holds, as far as anybody can see it."""
    status = cluster.get("/api/v1/status")
    sessions = [(entry["session"], entry["tasks"], entry["objects"], entry["state"]) for entry in status["sessions"]]
    files = sorted(str(path) for path in cluster.work.rglob("depot/*"))
    workers = [(entry["worker"], entry["objects"]) for entry in status["workers"]]
    return sessions, files, workers


@contextlib.contextmanager
def undisturbed(cluster, megabytes=96):
    """After what is done inside, the same server serves, holds what it held, and has not grown by more."""
    before, pid = state(cluster), cluster.get("/api/v1/status")["pid"]
    descriptors, memory = descriptor_count(pid), memory_bytes(pid)
    yield
    assert cluster.get("/api/v1/status")["pid"] == pid
    wait_for(lambda: state(cluster) == before)
    # The connections that asked for the state are a few themselves.
    wait_for(lambda: descriptor_count(pid) <= descriptors + 4)
    assert memory_bytes(pid) - memory < megabytes * MEGABYTE


@pytest.fixture(scope="module")
def session(shared_cluster):
    """One session with a template of one output and two objects, which no refusal may change."""
    path = shared_cluster.session(name="refusals")
    shared_cluster.post(f"{path}/submit", ndjson(CONCAT, VALUE, [0, [0], None]))
    shared_cluster.post(f"{path}/wait", {"all": True})
    return path


def submit(cluster, session, body, *headers):
    arguments = [argument for header in headers for argument in ("--header", header)]
    output = cluster.curl(
        *("--request", "POST", "--data-binary", "@-", "--write-out", "\n%{http_code}", *arguments),
        f"{cluster.url}{session}/submit",
        input=body if isinstance(body, bytes) else body.encode(),
    )
    answer, _, status = output.rpartition(b"\n")
    return int(status), json.loads(answer)["error"]


# What is wrong, the status, and a word that tells what it is.
BAD_SUBMITS = {
    "unknown template": (ndjson([7, [], None]), 400, "7"),
    "template after its row": (ndjson([1, [], None], CONCAT), 400, "1"),
    "cycle": (ndjson(CONCAT, [1, [2], None]), 404, "input 2"),
    "forward reference": (ndjson(CONCAT, [1, [3], None], VALUE), 404, "input 3"),
    "id of nothing": (ndjson([0, [4_000_000_000], None]), 404, "4000000000"),
    "negative id": (ndjson([0, [-1], None]), 400, "whole number"),
    "fraction for an id": (ndjson([0, [0.5], None]), 400, "whole number"),
    "id too large": (ndjson([0, [1 << 40], None]), 400, "larger"),
    "taken ids": (ndjson({"submit": {"first_template": 0, "first_task": 0, "first_object": 0}}, CONCAT), 409, ""),
    "ids with a gap": (
        ndjson({"submit": {"first_template": 9, "first_task": 9, "first_object": 9}}, CONCAT),
        400,
        "next free",
    ),
    "submit line not first": (ndjson(VALUE, {"submit": {"first_task": 1}}), 400, "first"),
    "row of two": (ndjson([0, []]), 400, ""),
    "row of five": (ndjson([0, [], None, {}, 5]), 400, ""),
    "template without type": (ndjson({"template": {"outputs": []}}), 400, "type"),
    "type of no runner": (ndjson({"template": {"type": "concat"}}), 400, "concat"),
    "object without value": (ndjson({"object": {"label": "x"}}), 400, "data"),
    "object with two values": (ndjson({"object": {"data": "x", "data64": "eA=="}}), 400, "data"),
    "unknown blob": (ndjson({"object": {"blob": "ab" * 32}}), 400, "ab" * 4),
    "blob of no hash": (ndjson({"object": {"blob": "abc"}}), 400, "blob"),
    "object too large": (ndjson({"object": {"data": "x" * 5000}}), 400, "4096"),
    "bad base64": (ndjson({"object": {"data64": "???"}}), 400, "base64"),
    "unknown key": (ndjson({"template": {"type": "a/b", "color": "red"}}), 400, "color"),
    "unknown kind of line": (ndjson({"tesk": {}}), 400, "tesk"),
    "key twice": ('{"object": {"data": "a", "data": "b"}}\n', 400, "twice"),
    "inputs of wrong type": (ndjson([0, "0", None]), 400, "array"),
    "template of wrong type": (ndjson(["0", [], None]), 400, "whole number"),
    "options of wrong type": (ndjson([0, [], None, []]), 400, "object"),
    "constant that is not there": (ndjson({"template": {"type": "a/b", "constants": [77]}}), 404, "77"),
    "array of none": (ndjson([0, [0], None, {"count": 0}]), 400, "at least one"),
    "array of too many": (ndjson([0, [0], None, {"count": 4_000_000_000}]), 400, "larger"),
    "output that is not there": (ndjson([0, [0], None, {"keep": [1]}]), 400, "no output 1"),
    "cpus beyond reason": (ndjson({"template": {"type": "a/b", "cpus": 1 << 31}}), 400, "larger"),
    "no JSON": ("hello\n", 400, "line 1"),
    "half a line": ('[0, [0], {"a"', 400, "line 1"),
    "two values on a line": ("[0, [0], null] [0, [0], null]\n", 400, "line 1"),
    "nested beyond reason": ("[0, [0], " + "[" * 100_000 + "]" * 100_000 + "]\n", 400, "deep"),
    "invalid UTF-8": (b'[0, [0], "\xff\xfe"]\n', 400, "UTF-8"),
    "half a surrogate": ('{"object": {"data": "\\ud800"}}\n', 400, "surrogate"),
    "NUL": (b"\0\n", 400, "line 1"),
    "compressed": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", 400, "line 1"),
    "good lines before the bad one": (ndjson(CONCAT, VALUE, VALUE, [1, [2], None], [1, [99], None]), 404, "input 99"),
}


@pytest.mark.parametrize("what", BAD_SUBMITS)
def test_a_bad_submit_is_refused_whole(shared_cluster, session, what):
    body, expected, word = BAD_SUBMITS[what]
    with undisturbed(shared_cluster):
        status, error = submit(shared_cluster, session, body)
        assert status == expected, error
        assert word in error["message"], error


def test_another_body_for_the_same_ids_is_a_conflict(shared_cluster, session):
    head = {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}}
    path = shared_cluster.session(name="twice")
    body = ndjson(head, CONCAT, VALUE, [0, [0], None])
    assert not shared_cluster.post(f"{path}/submit", body)["repeated"]
    with undisturbed(shared_cluster):
        assert shared_cluster.post(f"{path}/submit", body)["repeated"]
        status, error = submit(shared_cluster, path, ndjson(head, CONCAT, VALUE, [0, [], None]))
        assert (status, error["code"]) == (409, "submit_conflict"), error
    shared_cluster.call("DELETE", path)


@pytest.mark.parametrize("path", ["999999", "99999999999", "-1", "x", "1%2f..", ""])
def test_a_session_that_is_not_there(shared_cluster, session, path):
    with undisturbed(shared_cluster):
        status, error = submit(shared_cluster, f"/api/v1/sessions/{path}", ndjson(CONCAT))
        assert status in (400, 404), error


def test_a_content_encoding_is_refused(shared_cluster, session):
    with undisturbed(shared_cluster):
        status, error = submit(shared_cluster, session, b"\x1f\x8b\x08", "Content-Encoding: gzip")
        assert status == 400, error
        assert "gzip" in error["message"]


# MARK: bytes on the client plane


def connect(cluster):
    connection = socket.create_connection(("127.0.0.1", cluster.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def answer(connection):
    """All that comes until the server closes or nothing comes for long."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(1 << 16):
            received += chunk
            head, separator, body = received.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            if separator and length and len(body) >= int(length.group(1)):
                break
    return received


def status_of(received):
    found = re.match(rb"HTTP/1\.1 (\d\d\d)", received)
    return int(found.group(1)) if found else None


def head(cluster, line, *headers):
    fields = ("Host: localhost", f"Authorization: Bearer {cluster.token}", *headers)
    return "\r\n".join([line, *fields, "", ""]).encode()


def test_a_line_of_a_gigabyte_is_refused_while_it_comes(shared_cluster, session):
    with undisturbed(shared_cluster, megabytes=200):
        connection = connect(shared_cluster)
        connection.sendall(head(shared_cluster, f"POST {session}/submit HTTP/1.1", "Content-Length: 1073741824"))
        connection.sendall(b'[0, [0], "')
        piece = b"a" * MEGABYTE
        for _ in range(100):
            connection.sendall(piece)
        # The answer doesn't wait for the rest. That is read and forgotten, so that a client which sends it all before
        # it reads learns why.
        received = answer(connection)
        assert status_of(received) == 413, received
        for _ in range(923):
            connection.sendall(piece)
        connection.close()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_submit_that_breaks_off_is_none(shared_cluster, session, framing):
    body = ndjson(CONCAT, VALUE, [1, [2], None]).encode()
    with undisturbed(shared_cluster):
        connection = connect(shared_cluster)
        if framing == "length":
            connection.sendall(head(shared_cluster, f"POST {session}/submit HTTP/1.1", "Content-Length: 1000") + body)
        else:
            connection.sendall(
                head(shared_cluster, f"POST {session}/submit HTTP/1.1", "Transfer-Encoding: chunked")
                + b"%x\r\n%s\r\n" % (len(body), body)
            )
        connection.close()
        time.sleep(0.1)


BAD_REQUESTS = {
    "garbage": (b"\x00\x01\x02garbage\r\n\r\n", {400, None}),
    "TLS": (bytes.fromhex("160301020001000001fc0303") + b"\0" * 500, {400, None}),
    "no version": (b"GET /api/v1/status\r\n\r\n", {400, None}),
    "version 9": (b"GET /api/v1/status HTTP/9.9\r\n\r\n", {400, 505, None}),
    "unknown method": (b"BREW /api/v1/status HTTP/1.1\r\nHost: a\r\n\r\n", {400, 401, 405, 501, None}),
    "two lengths": (
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        {400, 401, None},
    ),
    "length and chunks": (
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        {400, 401, None},
    ),
    "negative length": (b"POST /api/v1/sessions HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", {400, None}),
    "chunk of no size": (
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        {400, 401, None},
    ),
    "chunk of all sizes": (
        b"POST /api/v1/sessions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
        {400, 401, None},
    ),
    "NUL in a header": (b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", {400, 401, None}),
    "folded header": (b"GET /api/v1/status HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", {400, 401, None}),
}


@pytest.mark.parametrize("what", BAD_REQUESTS)
def test_bad_http_costs_its_own_connection(shared_cluster, session, what):
    request, expected = BAD_REQUESTS[what]
    with undisturbed(shared_cluster):
        connection = connect(shared_cluster)
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        assert status_of(answer(connection)) in expected
        connection.close()


@pytest.mark.parametrize("name", ["one header of 64 MB", "100,000 headers", "a path of 64 MB"])
def test_huge_headers_are_refused_while_they_come(shared_cluster, session, name):
    pieces = {
        "one header of 64 MB": (b"GET / HTTP/1.1\r\nX: ", b"a" * MEGABYTE, 64),
        "100,000 headers": (b"GET / HTTP/1.1\r\n", b"".join(b"X-%d: y\r\n" % i for i in range(1000)), 100),
        "a path of 64 MB": (b"GET /", b"a" * MEGABYTE, 64),
    }
    start, piece, count = pieces[name]
    with undisturbed(shared_cluster):
        connection = connect(shared_cluster)
        # It is answered and closed, whatever the client still sends.
        with contextlib.suppress(ConnectionError):
            connection.sendall(start)
            for _ in range(count):
                connection.sendall(piece)
            connection.sendall(b"\r\n\r\n")
        assert status_of(answer(connection)) in (400, 404, 414, 431, None)
        connection.close()


def test_chunks_of_one_byte_are_only_slow(shared_cluster, session):
    body = ndjson([0, [99_999], None]).encode()
    with undisturbed(shared_cluster):
        connection = connect(shared_cluster)
        chunks = b"".join(b"1;extension=%s\r\n%c\r\n" % (b"x" * 100, byte) for byte in body) + b"0\r\n\r\n"
        request = head(shared_cluster, f"POST {session}/submit HTTP/1.1", "Transfer-Encoding: chunked")
        connection.sendall(request + chunks)
        received = answer(connection)
        connection.close()
        assert status_of(received) == 404
        assert b"99999" in received


def test_a_slow_client_holds_nobody_up(shared_cluster, session):
    with undisturbed(shared_cluster):
        slow = connect(shared_cluster)
        request = head(shared_cluster, f"POST {session}/submit HTTP/1.1", "Content-Length: 20")
        for byte in request[:3]:
            slow.sendall(bytes([byte]))
            start = time.monotonic()
            shared_cluster.get("/api/v1/status")
            assert time.monotonic() - start < 1
            time.sleep(1)
        slow.sendall(request[3:] + b"[0, [0], ")
        time.sleep(1)
        shared_cluster.get("/api/v1/status")
        slow.close()


def test_a_client_that_never_reads_holds_nobody_up(shared_cluster, session):
    with undisturbed(shared_cluster):
        connection = connect(shared_cluster)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(2)
        request = head(shared_cluster, "GET /api/openapi.json HTTP/1.1")
        with contextlib.suppress(TimeoutError, ConnectionError):
            for _ in range(20_000):
                connection.sendall(request)
        start = time.monotonic()
        shared_cluster.get("/api/v1/status")
        assert time.monotonic() - start < 1
        connection.close()


def test_a_thousand_idle_connections_hold_nobody_up(shared_cluster, session):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 1200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    with undisturbed(shared_cluster):
        idle = [connect(shared_cluster) for _ in range(1000)]
        # Half of them have begun to speak.
        for connection in idle[:500]:
            connection.sendall(b"GET /api/v1/st")
        start = time.monotonic()
        shared_cluster.get("/api/v1/status")
        assert time.monotonic() - start < 2
        path = shared_cluster.session()
        shared_cluster.post(f"{path}/submit", ndjson(run_program("true", outputs=()), [0, [], None]))
        shared_cluster.post(f"{path}/wait", {"all": True})
        shared_cluster.call("DELETE", path)
        for connection in idle:
            connection.close()


METHODS = [
    ("PUT", "/api/v1/status", 405),
    ("DELETE", "/api/v1/status", 405),
    ("TRACE", "/api/v1/status", 405),
    ("GET", "{session}/submit", 405),
    ("POST", "{session}/lease", 405),
    ("PATCH", "{session}", 405),
    ("GET", "/api/v2/status", 404),
    ("GET", "/../../etc/passwd", 404),
    ("GET", "/api/v1/blobs/..%2f..%2fserver.key", 405),
    ("HEAD", "/api/v1/blobs/..%2f..%2fserver.key", 400),
    ("GET", "{session}/objects/999/content", 404),
    ("GET", "{session}/objects/../../1/content", 404),
    ("GET", "{session}/lease?resume=wrong", 401),
    ("GET", "{session}/lease", 400),
    ("GET", "{session}/lease?resume=%zz", 400),
]


@pytest.mark.parametrize("method,path,expected", METHODS)
def test_a_wrong_call_is_refused(shared_cluster, session, method, path, expected):
    with undisturbed(shared_cluster):
        connection = connect(shared_cluster)
        connection.sendall(
            head(shared_cluster, f"{method} {path.format(session=session)} HTTP/1.1", "Connection: close")
        )
        assert status_of(answer(connection)) == expected
        connection.close()


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic abc", "Bearer " + "0" * 64, "\xe9"])
def test_a_client_with_a_wrong_token_is_told_so(shared_cluster, session, token):
    with undisturbed(shared_cluster):
        for method, path in (("GET", "/api/v1/status"), ("POST", f"{session}/submit"), ("DELETE", session)):
            connection = connect(shared_cluster)
            request = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nAuthorization: {token}\r\n\r\n"
            connection.sendall(request.encode("latin-1"))
            received = answer(connection)
            connection.close()
            assert status_of(received) == 401, received
            assert b"access.toml" in received


@pytest.mark.parametrize("call", ["wait", "results", "info", "keep", "unkeep", "cancel"])
@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "[]",
        '{"tasks": 1}',
        '{"objects": [[1]]}',
        '{"tasks": [[0, 99999]], "objects": [[0, 99999]]}',
        '{"x": 1}',
        "\0",
    ],
)
def test_a_wrong_body_is_refused(shared_cluster, session, call, body):
    with undisturbed(shared_cluster):
        status, answered = shared_cluster.call("POST", f"{session}/{call}", body)
        assert status in (400, 404), answered
        assert answered["error"]["message"]


def test_an_upload_that_is_not_what_it_says_leaves_nothing(shared_cluster, session):
    with undisturbed(shared_cluster):
        status, answered = shared_cluster.call("PUT", f"/api/v1/blobs/{'ab' * 32}", "something else")
        assert (status, answered["error"]["code"]) == (400, "wrong_hash")
        connection = connect(shared_cluster)
        name = hashlib.sha256(b"x" * 5000).hexdigest()
        connection.sendall(
            head(shared_cluster, f"PUT /api/v1/blobs/{name} HTTP/1.1", "Content-Length: 5000") + b"x" * 2000
        )
        connection.close()


# MARK: the control plane


class Peer:
    """A process that speaks ZeroMQ to the server and has, or has not, a worker's keys."""

    def __init__(self, cluster, secret=None):
        access = (cluster.state / "rain/access.toml").read_text()
        keys = dict(re.findall(r'^(\w+) = "([^"]*)"', access.partition("[worker]")[2], re.MULTILINE))
        server_key = re.search(r'public_key = "([^"]*)"', access).group(1)
        public, private = secret or (keys["public_key"], keys["secret_key"])
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 5000)
        self.socket.setsockopt(zmq.SNDTIMEO, 5000)
        self.socket.curve_serverkey = server_key.encode()
        self.socket.curve_publickey = public if isinstance(public, bytes) else public.encode()
        self.socket.curve_secretkey = private if isinstance(private, bytes) else private.encode()
        self.monitor = self.socket.get_monitor_socket()
        self.socket.connect(f"tcp://127.0.0.1:{cluster.control_port}")

    def say(self, text):
        self.socket.send(capnp("encode", text.encode()))

    def hear(self):
        """The next frame that is more than a sign of life, as the capnp tool prints it."""
        while True:
            text = capnp("decode", self.socket.recv()).decode()
            if "empty = void" not in text:
                return text

    def close(self):
        self.socket.disable_monitor()
        self.socket.close(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def capnp(action, data):
    schema = ROOT / "Sources/Wire/control.capnp"
    options = ["--short"] if action == "decode" else []
    result = subprocess.run(["capnp", action, *options, schema, "Frame"], input=data, capture_output=True, check=True)
    return result.stdout


def hello(incarnation, version=3, cpus=0):
    """Without cpus it is given no task."""
    return (
        f"(hello = (protocolVersion = {version}, incarnation = {incarnation}, lastReceived = 0, "
        f"known = (fresh = void), "
        f'hostName = "stranger", processId = 1, cpus = {cpus}, '
        f'dataEndpoint = (host = "127.0.0.1", port = 9), store = "none"))'
    )


def batch(incarnation, messages, epoch=1, sequence=1):
    numbers = f"epoch = {epoch}, incarnation = {incarnation}, sequence = {sequence}, acknowledged = 0"
    return f"(batch = ({numbers}, toServer = [{messages}]))"


def finish(cluster, session):
    """Tasks still run: the worker that is honest does them."""
    path = cluster.session()
    cluster.post(f"{path}/submit", ndjson(run_program("echo", "on"), [0, [], None]))
    cluster.post(f"{path}/wait", {"all": True})
    cluster.call("DELETE", path)


def test_a_peer_that_sends_noise_is_dropped(shared_cluster, session):
    with undisturbed(shared_cluster):
        noise = [b"", b"\0", os.urandom(7), os.urandom(1000), b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n", bytes(4096)]
        for message in noise:
            with Peer(shared_cluster) as peer:
                peer.socket.send(message)
                peer.socket.send(message)
                time.sleep(0.05)
        with Peer(shared_cluster) as peer:
            for _ in range(2000):
                peer.socket.send(os.urandom(100))
            time.sleep(0.2)
        finish(shared_cluster, session)


def test_a_message_beyond_the_limit_ends_its_connection(shared_cluster, session):
    with undisturbed(shared_cluster), Peer(shared_cluster) as peer:
        peer.socket.send(b"\0" * (17 * MEGABYTE))
        time.sleep(0.3)
        finish(shared_cluster, session)


def test_a_batch_before_its_hello_is_dropped(shared_cluster, session):
    with undisturbed(shared_cluster), Peer(shared_cluster) as peer:
        peer.say(batch(4711, "(sessionClosed = 1)"))
        finish(shared_cluster, session)
        # A worker whose connection came back may speak before it knows: its hello counts all the same.
        peer.say(hello(4711))
        assert "welcome" in peer.hear()
        peer.say("(goodbye = void)")


@pytest.mark.parametrize("version", [0, 2, 65_535])
def test_a_hello_of_another_version_is_refused_with_both(shared_cluster, session, version):
    with undisturbed(shared_cluster), Peer(shared_cluster) as peer:
        peer.say(hello(4712, version=version))
        refusal = peer.hear()
        assert "refused" in refusal
        assert f"version {version} " in refusal


def test_a_worker_that_sends_what_only_a_server_may_is_refused(shared_cluster, session):
    with undisturbed(shared_cluster), Peer(shared_cluster) as peer:
        peer.say('(welcome = (epoch = 1, worker = 1, lastReceived = 0, dataSecret = "abc"))')
        assert "refused" in peer.hear()


@contextlib.contextmanager
def stranger(cluster, incarnation):
    """A worker without cpus that said hello properly; afterwards it says goodbye."""
    with Peer(cluster) as peer:
        peer.say(hello(incarnation))
        welcome = peer.hear()
        assert "welcome" in welcome
        yield peer, int(re.search(r"epoch = (\d+)", welcome).group(1)), welcome
        peer.say("(goodbye = void)")
        time.sleep(0.1)


WRONG_MESSAGES = [
    '(finished = (session = SESSION, task = 0, epoch = 1, number = 1, outputs = [(sizeBytes = 5, inline = "wrong")]))',
    "(finished = (session = 99, task = 4294967295, epoch = 9, number = 4294967295))",
    '(failed = (attempt = (session = SESSION, task = 0, epoch = 1, number = 1), message = "lie"))',
    '(failed = (attempt = (session = SESSION, task = 77, epoch = 1, number = 1), message = "lie"))',
    "(cancelled = (session = SESSION, task = 0, epoch = 1, number = 1))",
    "(revoked = (attempt = (session = SESSION, task = 0, epoch = 1, number = 9), wasTakenBack = true))",
    "(replicated = (session = SESSION, object = 4294967295, epoch = 1, number = 1))",
    "(missing = (session = SESSION, object = 1, epoch = 1, number = 1))",
    "(sessionClosed = SESSION)",
    "(started = (session = SESSION, task = 0, epoch = 1, number = 1))",
]


def test_a_worker_that_lies_about_others_tasks_changes_nothing(shared_cluster, session):
    number = int(session.rpartition("/")[2])
    with undisturbed(shared_cluster):
        with stranger(shared_cluster, 4713) as (peer, epoch, _):
            for sequence, message in enumerate(WRONG_MESSAGES, 1):
                peer.say(batch(4713, message.replace("SESSION", str(number)), epoch=epoch, sequence=sequence))
            finish(shared_cluster, session)
        info = shared_cluster.post(f"{session}/info", {"tasks": [[0, 1]], "objects": [[1, 1]]})
        assert info["tasks"][0]["state"] == "finished"
        assert shared_cluster.curl(f"{shared_cluster.url}{session}/objects/1/content") == b"x"


def test_a_batch_of_another_epoch_or_worker_is_dropped(shared_cluster, session):
    with undisturbed(shared_cluster):
        with stranger(shared_cluster, 4714) as (peer, epoch, _):
            peer.say(batch(4714, "(sessionClosed = 1)", epoch=epoch + 7))
            peer.say(batch(9999, "(sessionClosed = 1)", epoch=epoch))
            finish(shared_cluster, session)


def test_a_batch_after_a_gap_ends_the_connection(shared_cluster, session):
    with undisturbed(shared_cluster):
        with stranger(shared_cluster, 4715) as (peer, epoch, _):
            peer.say(batch(4715, "(sessionClosed = 1)", epoch=epoch, sequence=18_446_744_073_709_551_615))
            time.sleep(0.1)
            finish(shared_cluster, session)
            # It may greet again, and its goodbye then counts.
            with Peer(shared_cluster) as again:
                again.say(hello(4715))
                assert "welcome" in again.hear()
                again.say("(goodbye = void)")
                time.sleep(0.1)


def test_a_peer_with_another_key_is_turned_away(shared_cluster, session):
    log = next((shared_cluster.log / "server").iterdir())
    with undisturbed(shared_cluster), Peer(shared_cluster, secret=zmq.curve_keypair()) as peer:
        # It may be turned away before it gets a word out.
        with contextlib.suppress(zmq.Again):
            peer.say(hello(4716))
        peer.socket.setsockopt(zmq.RCVTIMEO, 1000)
        with pytest.raises(zmq.Again):
            peer.socket.recv()
        wait_for(lambda: "access.toml" in log.read_text())


def test_a_peer_without_curve_or_zeromq_is_turned_away(shared_cluster, session):
    with undisturbed(shared_cluster):
        plain = zmq.Context.instance().socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        plain.connect(f"tcp://127.0.0.1:{shared_cluster.control_port}")
        plain.send(b"hello")
        raw = [socket.create_connection(("127.0.0.1", shared_cluster.control_port)) for _ in range(50)]
        for number, connection in enumerate(raw):
            connection.sendall(os.urandom(number))
        finish(shared_cluster, session)
        plain.close(0)
        for connection in raw:
            connection.close()


# MARK: the data plane


@pytest.fixture(scope="module")
def large(shared_cluster):
    """An object on the worker that is too large to lie at the server: (session, its number)."""
    path = shared_cluster.session(name="large")
    shared_cluster.post(f"{path}/submit", ndjson(run_program("head", "-c", "100000", "/dev/zero"), [0, [], None]))
    shared_cluster.post(f"{path}/wait", {"all": True})
    yield int(path.rpartition("/")[2])
    shared_cluster.call("DELETE", path)


def test_the_data_plane_gives_only_what_a_ticket_is_for(shared_cluster, session, large):
    endpoint = shared_cluster.get("/api/v1/status")["workers"][0]["endpoint"]
    with stranger(shared_cluster, 4717) as (_, epoch, welcome):
        text = re.search(r'dataSecret = ("(?:[^"\\]|\\.)*"|0x"[^"]*")', welcome).group(1)
        secret = c_bytes(text)
        path = f"/objects/{large}/0/{epoch}-1"
        later = int(time.time()) + 60

        def ticket(path, expires, secret=secret):
            mac = hmac.new(secret, f"rain-data-1 {path} {expires}".encode(), hashlib.sha256).hexdigest()
            return f"{path}?expires={expires}&mac={mac}"

        def get(target, **headers):
            request = urllib.request.Request(f"http://{endpoint}{target}", headers=headers)
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return response.status, len(response.read())
            except urllib.error.HTTPError as error:
                return error.code, None

        good = ticket(path, later)
        assert get(good) == (200, 100_000)
        assert get(good, Range="bytes=99990-") == (206, 10)
        assert get(good, Range="bytes=0-99999999999999999999")[0] in (200, 206)
        assert get(good, Range="bytes=100000-")[0] == 416
        assert get(good, Range="bytes=18446744073709551615-")[0] == 416
        assert get(good, Range="bytes=-0")[0] == 416
        assert get(path)[0] in (401, 403)
        assert get(f"{path}?expires={later}&mac={'0' * 64}")[0] == 403
        assert get(ticket(path, later, b"another secret"))[0] == 403
        assert get(ticket(path, int(time.time()) - 60))[0] == 403
        assert get(good.replace(f"expires={later}", f"expires={later + 1}"))[0] == 403
        assert get(good.replace(f"/{large}/0/", f"/{large}/1/"))[0] == 403
        assert get(ticket(f"/objects/{large}/0/{epoch}-9", later))[0] == 404
        for escape in (
            "/objects/../../etc/passwd",
            "/objects/1/0/1-1/../../../etc/passwd",
            "/etc/passwd",
            "/objects/1/0/%2e%2e",
            "//",
        ):
            assert get(ticket(escape, later))[0] in (400, 404)
        with socket.create_connection(endpoint.rsplit(":", 1)) as connection:
            connection.sendall(b"\x00garbage\r\n\r\n" * 100)
            connection.settimeout(10)
            with contextlib.suppress(ConnectionError):
                assert status_of(connection.recv(100)) in (400, None)
        assert get(good) == (200, 100_000)
    wait_for(lambda: len(shared_cluster.get("/api/v1/status")["workers"]) == 1)


def c_bytes(text):
    """A Data as the capnp tool prints it."""
    if text.startswith("0x"):
        return bytes.fromhex(text[3:-1].replace(" ", ""))
    return text[1:-1].encode("latin-1").decode("unicode_escape").encode("latin-1")


def test_after_all_that_the_session_is_as_it_was(shared_cluster, session):
    assert shared_cluster.curl(f"{shared_cluster.url}{session}/objects/1/content") == b"x"
    status = shared_cluster.get(session)
    assert (status["tasks"], status["objects"], status["state"]) == (1, 2, "open")
    shared_cluster.call("DELETE", session)
