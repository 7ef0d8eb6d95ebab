"""The client plane with curl alone, call by call as docs/rest-api.md has them."""

import base64
import hashlib
import json
import struct
import subprocess
import time

import pytest
from cluster import ndjson, run_program, wait_for

GREETING = ndjson(
    {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
    {"object": {"data": "hello ", "label": "greeting", "content_type": "text"}},
    {"object": {"data64": "d29ybGQ="}},
    {"template": {"type": "builtin/concat", "outputs": [{"label": "out", "keep": True}]}},
    [0, [0, 1], None],
)


@pytest.fixture
def server(shared_cluster):
    yield shared_cluster
    for session in shared_cluster.get("/api/v1/sessions")["sessions"]:
        shared_cluster.call("DELETE", f"/api/v1/sessions/{session['session']}")


class Lease:
    """A lease held by a curl of its own."""

    def __init__(self, server, session, resume):
        url = f"{server.url}/api/v1/sessions/{session}/lease?resume={resume}"
        header = f"Authorization: Bearer {server.token}"
        self.curl = subprocess.Popen(["curl", "-sSN", "-H", header, url], stdout=subprocess.PIPE, text=True)
        self.lines = []

    def read_until(self, key):
        for line in self.curl.stdout:
            if line.strip():
                self.lines.append(json.loads(line))
                if key in self.lines[-1]:
                    return self.lines[-1]
        raise AssertionError(f"the lease ended without {key}: {self.lines}")

    def kill(self):
        self.curl.kill()
        self.curl.wait()
        self.curl.stdout.close()


@pytest.fixture
def leased(server):
    """A session held by a lease, as clients have it: (its path, the lease)."""
    opened = server.post("/api/v1/sessions", {"name": "leased", "grace_ms": 0}, expect=201)
    lease = Lease(server, opened["session"], opened["resume"])
    lease.read_until("lease")
    yield f"/api/v1/sessions/{opened['session']}", lease
    lease.kill()


def test_a_session_from_open_to_close(server, leased):
    session, lease = leased
    assert server.post(f"{session}/submit", GREETING) == {
        "first_template": 0,
        "first_task": 0,
        "first_object": 0,
        "tasks": 1,
        "objects": 3,
        "repeated": False,
    }
    assert server.post(f"{session}/wait", {"tasks": [[0, 1]]}) == {"done": True}
    assert lease.read_until("finished")["finished"] == [[0, 1]]
    # What is true already is said, even to who does not want to wait.
    for _ in range(20):
        assert server.post(f"{session}/wait", {"all": True, "timeout_ms": 0}) == {"done": True}
    assert server.curl(f"{server.url}{session}/objects/2/content") == b"hello world"
    status = server.get(session)
    assert (status["name"], status["tasks"], status["finished"], status["state"]) == ("leased", 1, 1, "open")
    assert status["lease"] is True
    assert server.call("DELETE", session) == (200, {})
    assert "closed" in lease.read_until("closed")
    assert server.call("GET", session)[0] == 404


def test_a_broken_lease_closes_the_session(server, leased):
    session, lease = leased
    lease.kill()
    deadline = time.monotonic() + 3
    while server.call("GET", session)[0] != 404:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_lease_is_resumed_without_a_gap(server):
    opened = server.post("/api/v1/sessions", {"grace_ms": 10_000}, expect=201)
    session = f"/api/v1/sessions/{opened['session']}"
    first = Lease(server, opened["session"], opened["resume"])
    first.read_until("lease")
    server.post(f"{session}/submit", GREETING)
    first.kill()
    server.post(f"{session}/wait", {"all": True})
    second = Lease(server, opened["session"], opened["resume"])
    assert second.read_until("finished")["finished"] == [[0, 1]]
    assert server.call("DELETE", session)[0] == 200
    second.kill()


def test_a_wrong_resume_token_is_refused(server):
    opened = server.post("/api/v1/sessions", {}, expect=201)
    status, answer = server.call("GET", f"/api/v1/sessions/{opened['session']}/lease?resume=wrong")
    assert status in (401, 403, 409)
    assert answer["error"]["message"]


def test_a_submit_is_idempotent(server):
    session = server.session()
    first = server.post(f"{session}/submit", GREETING)
    again = server.post(f"{session}/submit", GREETING)
    assert again == {**first, "repeated": True}
    assert server.get(session)["tasks"] == 1
    other = GREETING.replace("hello", "adieu")
    status, answer = server.call("POST", f"{session}/submit", other)
    assert status == 409
    assert answer["error"]["code"]


def test_a_submit_is_all_or_nothing(server):
    session = server.session()
    status, answer = server.call("POST", f"{session}/submit", GREETING + "[0, [0, 77], null]\n")
    assert status == 400
    assert "77" in answer["error"]["message"]
    assert server.get(session)["tasks"] == 0
    assert server.get(session)["objects"] == 0
    # The same ids are still free.
    assert server.post(f"{session}/submit", GREETING)["tasks"] == 1


def test_results_in_bulk_as_json(server):
    session = server.session()
    server.post(f"{session}/submit", GREETING)
    answer = server.post(f"{session}/results", {"objects": [[2, 1], [0, 1]]})
    values = [(entry["object"], entry["status"], base64.b64decode(entry["data64"])) for entry in answer["objects"]]
    assert values == [(2, "ok", b"hello world"), (0, "ok", b"hello ")]
    assert answer["objects"][1]["content_type"] == "text"


def test_results_in_bulk_as_rows(server):
    session = server.session()
    big = run_program("head -c 3000000 /dev/zero", shell=True)
    server.post(f"{session}/submit", GREETING + ndjson(big, [1, [], None]))
    rows = server.curl(
        *(
            "--header",
            "Accept: application/x-rain-rows",
            "--data",
            '{"objects": [[0, 4]]}',
            f"{server.url}{session}/results",
        )
    )
    found, position = [], 0
    while position < len(rows):
        number, status, _, type_length, length = struct.unpack_from("<IBBHQ", rows, position)
        position += 16
        content_type = rows[position : position + type_length].decode()
        position += type_length
        data = b"" if status == 1 else rows[position : position + length]
        position += len(data)
        found.append((number, status, content_type, length, data))
    assert [entry[:2] for entry in found] == [(0, 0), (1, 0), (2, 0), (3, 1)]
    assert found[0][2:] == ("text", 6, b"hello ")
    assert found[2][4] == b"hello world"
    assert found[3][3] == 3_000_000


def test_content_with_ranges(server):
    session = server.session()
    server.post(f"{session}/submit", ndjson(run_program("seq 1 100000", shell=True), [0, [], None]))
    url = f"{server.url}{session}/objects/0/content"
    expected = "".join(f"{number}\n" for number in range(1, 100_001)).encode()
    assert server.curl(url) == expected
    assert server.curl("--range", "100-299", url) == expected[100:300]
    assert server.curl("--range", "588000-", url) == expected[588_000:]
    head = server.curl("--dump-header", "-", "--output", "/dev/null", "--range", "0-9", url).decode().lower()
    assert " 206 " in head.splitlines()[0]
    assert f"content-range: bytes 0-9/{len(expected)}" in head
    assert "etag:" in head


def test_content_waits_for_the_object(server):
    session = server.session()
    server.post(f"{session}/submit", ndjson(run_program("sleep 0.3; echo late", shell=True), [0, [], None]))
    assert server.curl(f"{server.url}{session}/objects/0/content") == b"late\n"


def test_a_dropped_object_is_a_conflict(server):
    session = server.session()
    server.post(f"{session}/submit", GREETING)
    server.post(f"{session}/wait", {"all": True})
    assert server.post(f"{session}/unkeep", {"objects": [[2, 1]]}) == {}
    status, answer = server.call("GET", f"{session}/objects/2/content")
    assert status == 409
    assert answer["error"]["code"]
    assert server.post(f"{session}/info", {"objects": [[2, 1]]})["objects"][0]["state"] == "dropped"


def test_info_of_tasks_and_objects(server):
    session = server.session()
    server.post(f"{session}/submit", GREETING)
    server.post(f"{session}/wait", {"all": True})
    info = server.post(f"{session}/info", {"tasks": [[0, 1]], "objects": [[0, 3]]})
    task = info["tasks"][0]
    assert (task["task"], task["type"], task["state"]) == (0, "builtin/concat", "finished")
    assert abs(task["started"] - time.time()) < 60
    assert task["duration_s"] >= 0
    assert [entry["size"] for entry in info["objects"]] == [6, 5, 11]
    assert info["objects"][2]["label"] == "out"
    assert info["objects"][2]["kept"] is True


def test_a_blob_is_uploaded_once_and_used(server):
    data = b"0123456789" * 100_000
    digest = hashlib.sha256(data).hexdigest()
    url = f"{server.url}/api/v1/blobs/{digest}"
    code = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    assert server.curl("--head", *code, url) == b"404"
    assert server.curl("--request", "PUT", "--data-binary", "@-", *code, url, input=data) == b"201"
    assert server.curl("--request", "PUT", "--data-binary", "@-", *code, url, input=data) == b"200"
    assert server.curl("--head", *code, url) == b"200"
    wrong = url[:-1] + ("0" if url[-1] != "0" else "1")
    assert server.curl("--request", "PUT", "--data-binary", "@-", *code, wrong, input=data) == b"400"

    session = server.session()
    server.post(
        f"{session}/submit",
        ndjson({"object": {"blob": digest}}, run_program("wc", "-c", stdin=0), [0, [0], None]),
    )
    assert server.curl(f"{server.url}{session}/objects/1/content").strip() == b"1000000"
    assert server.curl(f"{server.url}{session}/objects/0/content") == data


def test_a_submit_that_names_an_unknown_blob(server):
    session = server.session()
    status, answer = server.call("POST", f"{session}/submit", ndjson({"object": {"blob": "0" * 64}}))
    assert status in (400, 404, 409)
    assert "0" * 64 in answer["error"]["message"]


def test_a_program_with_files_in_and_out(server):
    session = server.session()
    script = 'mkdir -p sub; sort -u "$0" -o "$1"; env | grep FLAVOUR > log'
    config = {
        "command": ["/bin/sh", "-c", script, {"input": 0}, {"output": 0}],
        "inputs": [{"path": "in.txt"}],
        "outputs": [{"path": "sub/out.txt"}, {"path": "log"}],
        "env": {"FLAVOUR": "sweet"},
    }
    outputs = [{"label": "sorted", "keep": True}, {"label": "log", "keep": True}]
    server.post(
        f"{session}/submit",
        ndjson(
            {"object": {"data": "b\na\nb\n"}},
            {"template": {"type": "builtin/run", "config": config, "outputs": outputs}},
            [0, [0], None],
        ),
    )
    assert server.curl(f"{server.url}{session}/objects/1/content") == b"a\nb\n"
    assert server.curl(f"{server.url}{session}/objects/2/content") == b"FLAVOUR=sweet\n"


def test_load_sleep_and_store(server, tmp_path):
    (tmp_path / "in").write_bytes(b"through the graph")
    session = server.session()
    server.post(
        f"{session}/submit",
        ndjson(
            {"template": {"type": "builtin/load", "outputs": ["loaded"]}},
            {"template": {"type": "builtin/sleep", "outputs": ["slept"]}},
            {"template": {"type": "builtin/store"}},
            [0, [], {"path": str(tmp_path / "in")}],
            [1, [0], {"seconds": 0.1}],
            [2, [1], {"path": str(tmp_path / "out")}],
        ),
    )
    assert server.post(f"{session}/wait", {"all": True}) == {"done": True}
    assert (tmp_path / "out").read_bytes() == b"through the graph"
    assert server.post(f"{session}/info", {"tasks": [[1, 1]]})["tasks"][0]["duration_s"] >= 0.1


def test_a_task_array(server):
    session = server.session()
    template = run_program('printf %s "$RAIN_TASK_INDEX"', shell=True)
    server.post(f"{session}/submit", ndjson(template, [0, [], None, {"count": 50}]))
    answer = server.post(f"{session}/results", {"objects": [[0, 50]]})
    assert [base64.b64decode(entry["data64"]) for entry in answer["objects"]] == [str(i).encode() for i in range(50)]


def test_a_failure_fails_the_session(server, leased):
    session, lease = leased
    doomed = run_program("echo to stderr >&2; exit 7", shell=True, name="doomed", origin="flow.py:12 in main")
    server.post(f"{session}/submit", ndjson(doomed, [0, [], None]))
    status, answer = server.call("POST", f"{session}/wait", {"all": True})
    assert status == 409
    failure = answer["error"]["failure"]
    assert (failure["task"], failure["name"], failure["cause"], failure["exit_code"]) == (0, "doomed", "user", 7)
    assert "to stderr" in failure["message"] + failure["detail"]
    assert failure["origin"] == "flow.py:12 in main"
    assert failure["host"]
    assert lease.read_until("session_failed")["session_failed"]["task"] == 0
    assert server.get(session)["state"] == "failed"
    assert server.call("POST", f"{session}/results", {"objects": [[0, 1]]})[0] == 409


def test_a_failure_fails_only_its_descendants_if_asked(server):
    session = server.session(on_error="fail_descendants")
    graph = ndjson(
        run_program("exit 3", shell=True),
        {"template": {"type": "builtin/concat", "outputs": [{"label": "out", "keep": True}]}},
        {"object": {"data": "fine"}},
        [0, [], None],
        [1, [1], None],
        [1, [0], None],
    )
    server.post(f"{session}/submit", graph)
    assert server.post(f"{session}/wait", {"all": True}) == {"done": True}
    states = [task["state"] for task in server.post(f"{session}/info", {"tasks": [[0, 3]]})["tasks"]]
    assert states == ["failed", "failed", "finished"]
    failures = [task["failure"] for task in server.post(f"{session}/info", {"tasks": [[0, 3]]})["tasks"]]
    assert failures[1]["cause"] == "dependency"
    assert failures[2] is None


def test_a_program_killed_by_a_signal(server):
    session = server.session()
    server.post(f"{session}/submit", ndjson(run_program("kill -9 $$", shell=True), [0, [], None]))
    status, answer = server.call("POST", f"{session}/wait", {"all": True})
    assert status == 409
    assert answer["error"]["failure"]["signal"] == 9


def test_a_program_that_is_not_there(server):
    session = server.session()
    server.post(f"{session}/submit", ndjson(run_program("no-such-program"), [0, [], None]))
    status, answer = server.call("POST", f"{session}/wait", {"all": True})
    assert status == 409
    assert "no-such-program" in answer["error"]["failure"]["message"]


def test_an_output_that_was_not_made(server):
    session = server.session()
    template = {
        "type": "builtin/run",
        "config": {"command": ["true"], "outputs": [{"path": "gone.txt"}]},
        "outputs": ["gone"],
    }
    server.post(f"{session}/submit", ndjson({"template": template}, [0, [], None]))
    status, answer = server.call("POST", f"{session}/wait", {"all": True})
    assert status == 409
    assert "gone.txt" in answer["error"]["failure"]["message"]


def test_wait_has_a_time_out(server):
    session = server.session()
    server.post(f"{session}/submit", ndjson(run_program("sleep", "60", outputs=()), [0, [], None]))
    start = time.monotonic()
    assert server.post(f"{session}/wait", {"all": True, "timeout_ms": 200}) == {"done": False}
    assert 0.15 < time.monotonic() - start < 2


def test_cancel_stops_a_program(server):
    session = server.session(on_error="fail_descendants")
    server.post(f"{session}/submit", ndjson(run_program("sleep", "61.5", outputs=()), [0, [], None, {"count": 4}]))
    wait_for(lambda: any("61.5" in command for command in server.processes().values()))
    start = time.monotonic()
    assert server.post(f"{session}/cancel", {"tasks": [[0, 4]]}) == {}
    assert time.monotonic() - start < 1
    states = {task["state"] for task in server.post(f"{session}/info", {"tasks": [[0, 4]]})["tasks"]}
    assert states == {"cancelled"}
    assert not [command for command in server.processes().values() if "61.5" in command]


def test_closing_a_session_stops_it_within_0_3_s(server):
    session = server.session()
    stubborn = run_program("trap '' TERM INT HUP; setsid sleep 62.5 & sleep 62.5; sleep 62.5", shell=True, outputs=())
    server.post(f"{session}/submit", ndjson(stubborn, [0, [], None, {"count": 3}]))
    deadline = time.monotonic() + 5
    while not [command for command in server.processes().values() if "62.5" in command]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    start = time.monotonic()
    assert server.call("DELETE", session) == (200, {})
    assert time.monotonic() - start < 0.3 + 0.05  # curl's own start is not the server's
    running = [command for command in server.processes().values() if command.startswith("sleep 62.5")]
    assert not running


def test_status(server):
    status = server.get("/api/v1/status")
    assert status["version"]
    assert status["epoch"] >= 1
    worker = status["workers"][0]
    assert {"worker", "host", "pid", "cpus", "running", "queued", "objects", "store", "endpoint"} <= set(worker)


def test_everything_needs_the_token(server):
    session = server.session()
    for method, path in [
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/sessions"),
        ("POST", "/api/v1/sessions"),
        ("GET", session),
        ("DELETE", session),
        ("POST", f"{session}/submit"),
        ("GET", f"{session}/objects/0/content"),
        ("PUT", f"/api/v1/blobs/{'0' * 64}"),
    ]:
        status, answer = server.call(method, path, token=False)
        assert status == 401, (method, path)
        assert answer["error"]["message"]
    assert server.get(session)["state"] == "open"


def test_the_description_needs_no_token(server):
    status, answer = server.call("GET", "/api/openapi.json", token=False)
    assert status == 200
    assert answer["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    "method, path, body, expected",
    [
        ("GET", "/api/v1/nothing", None, 404),
        ("GET", "/api/v1/sessions/4000000000", None, 404),
        ("GET", "/api/v1/sessions/x", None, 400),
        ("POST", "/api/v1/sessions", "{", 400),
        ("POST", "/api/v1/sessions", '{"on_error": "shrug"}', 400),
        ("POST", "{session}/submit", '{"template": {}}', 400),
        ("POST", "{session}/submit", '{"object": {"data": 5}}', 400),
        ("POST", "{session}/submit", "[0, [], null]", 400),
        ("POST", "{session}/wait", '{"tasks": [[0, 1]]}', 404),
        ("POST", "{session}/results", '{"objects": [[0]]}', 400),
        ("GET", "{session}/objects/9/content", None, 404),
        ("PUT", "/api/v1/blobs/xyz", "data", 400),
    ],
)
def test_bad_requests_are_told_apart(server, method, path, body, expected):
    session = server.session()
    status, answer = server.call(method, path.replace("{session}", session), body)
    assert status == expected, answer
    assert answer["error"]["code"]
    assert answer["error"]["message"]
