"""The `rain` program: starting, stopping, looking, submitting, and what it says when something is wrong."""

import json
import os
import pathlib
import re
import socket
import subprocess
import time

import pytest
from cluster import RAIN, Cluster, free_port, ndjson, run_program, wait_for_end

GREETING = ndjson(
    {"object": {"data": "hello "}},
    {"object": {"data": "world\n"}},
    {"template": {"type": "builtin/concat", "outputs": [{"label": "greeting", "keep": True}]}},
    [0, [0, 1], None],
)


def test_version_and_help(stopped):
    assert re.fullmatch(r"rain \d+\.\d+\.\d+\n", stopped.rain("--version").stdout)
    text = stopped.rain("--help").stdout
    for command in ("start", "stop", "status", "submit", "server", "worker"):
        assert command in text
    assert "rain start --simple" in stopped.rain("start", "--help").stdout
    assert '"template"' in stopped.rain("submit", "--help").stdout


def test_start_is_ready_when_it_returns(stopped):
    result = stopped.start("--local-workers", "[1,2]")
    assert stopped.url in result.stdout
    assert "rain stop" in result.stdout
    # No wait of any kind before this: both workers must have been taken in.
    assert sorted(worker["cpus"] for worker in stopped.get("/api/v1/status")["workers"]) == [1, 2]


def test_start_with_cpus_and_a_ready_file(stopped, tmp_path):
    stopped.start("--simple", "--cpus", 3, "--ready-file", tmp_path / "ready")
    assert [worker["cpus"] for worker in stopped.get("/api/v1/status")["workers"]] == [3]
    ready = json.loads((tmp_path / "ready").read_text())
    assert (ready["ready"], ready["port"], ready["pid"]) == (True, stopped.port, stopped.pid("server"))
    wrong = stopped.rain("start", "--local-workers", "[1]", "--cpus", 2)
    assert wrong.returncode != 0 and "--simple" in wrong.stderr


def test_start_survives_its_terminal(stopped):
    stopped.start("--simple")
    for name in ("server", "worker-1"):
        pid = stopped.pid(name)
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"


def test_status_for_people_and_for_programs(cluster):
    text = cluster.rain("status").stdout
    assert cluster.url in text
    assert re.search(r"workers\s+1", text)
    assert "access.toml" in text
    status = json.loads(cluster.rain("status", "--json").stdout)
    assert status["workers"][0]["cpus"] == 2
    assert pathlib.Path(status["access_file"]).stat().st_mode & 0o777 == 0o600


def test_starting_twice_says_so(cluster):
    before = cluster.processes()
    result = cluster.rain("start", "--simple")
    assert result.returncode == 1
    assert "already running" in result.stderr
    assert cluster.processes() == before


def test_stop_with_nothing_running(stopped):
    result = stopped.rain("stop")
    assert result.returncode == 0
    assert "nothing to stop" in result.stdout


def test_stop_stops_what_runs(stopped):
    stopped.start("--simple")
    session = stopped.session()
    stopped.post(f"{session}/submit", ndjson(run_program("sleep", "1000", outputs=()), [0, [], None]))
    assert stopped.rain("stop").returncode == 0
    assert not stopped.wait_until_gone(1)
    stopped.check_no_leftovers()


def test_a_process_with_a_reused_number_is_not_stopped(stopped):
    stopped.start("--simple")
    assert stopped.rain("stop").returncode == 0
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        record = {"role": "server", "name": "server", "pid": bystander.pid, "startTicks": 1}
        record |= {
            "bootID": pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "logPath": "/dev/null",
        }
        (stopped.state / "rain/run/server.json").write_text(json.dumps(record))
        result = stopped.rain("stop")
        assert "nothing to stop" in result.stdout
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_port_in_use_is_named_and_nothing_is_left(stopped):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = stopped.rain("start", "--simple", "--port", port, "--control-port", 0, "--work-dir", stopped.work)
    assert result.returncode != 0
    assert str(port) in result.stderr
    assert "in use" in result.stderr
    assert not stopped.processes()
    assert not list((stopped.state / "rain/run").glob("*.json"))


def test_a_worker_that_fails_takes_the_server_with_it(stopped):
    result = stopped.rain(
        *(
            "start",
            "--simple",
            "--port",
            0,
            "--control-port",
            0,
            "--work-dir",
            "/proc/no/such/place",
            "--log-dir",
            stopped.log,
        )
    )
    assert result.returncode != 0
    assert "/proc/no" in result.stderr
    assert not stopped.processes()


def test_start_needs_to_know_what_to_start(stopped):
    result = stopped.rain("start")
    assert result.returncode != 0
    assert "--simple" in result.stderr
    result = stopped.rain("start", "--local-workers", "[0]")
    assert result.returncode != 0


def test_status_without_a_server(cluster, tmp_path):
    result = cluster.rain("status", "--server", f"localhost:{free_port()}")
    assert result.returncode == 1
    assert "rain start" in result.stderr
    lonely = Cluster(tmp_path / "lonely")
    result = lonely.rain("status", "--server", f"localhost:{cluster.port}")
    assert result.returncode == 1
    assert "access.toml" in result.stderr


def test_a_wrong_token_is_refused_with_advice(cluster, tmp_path):
    access = (cluster.state / "rain/access.toml").read_text().replace(cluster.token, "0" * len(cluster.token))
    other = tmp_path / "other.toml"
    other.write_text(access)
    other.chmod(0o600)
    result = cluster.rain("status", "--access", other)
    assert result.returncode == 1
    assert "access file" in result.stderr


def test_a_worker_without_access_is_told_what_to_do(cluster, tmp_path):
    lonely = Cluster(tmp_path / "lonely")
    result = lonely.rain("worker", f"localhost:{cluster.control_port}", timeout=20)
    assert result.returncode != 0
    assert "access.toml" in result.stderr + result.stdout


def test_a_worker_with_another_servers_access_is_refused(cluster, tmp_path):
    other = Cluster(tmp_path / "other")
    other.start("--simple")
    worker = subprocess.Popen(
        [RAIN, "worker", f"localhost:{cluster.control_port}", "--work-dir", tmp_path / "w"],
        env=other.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # It goes on trying, because the file may be replaced by the right one; but it says what is wrong.
        assert "access.toml" in worker.stderr.readline()
        assert len(cluster.get("/api/v1/status")["workers"]) == 1
    finally:
        worker.terminate()
        assert worker.wait(5) == 0
        worker.stderr.close()
        other.finish()


def test_a_worker_of_an_unknown_host(cluster):
    result = cluster.rain("worker", "no-such-host.invalid", timeout=30)
    assert result.returncode != 0
    assert "no-such-host.invalid" in result.stderr + result.stdout


def test_another_worker_joins_and_leaves(cluster, tmp_path):
    ready, writer = os.pipe()
    worker = subprocess.Popen(
        [
            RAIN,
            "worker",
            f"localhost:{cluster.control_port}",
            "--cpus",
            "1",
            "--work-dir",
            tmp_path / "w",
            "--ready-fd",
            str(writer),
        ],
        env=cluster.env,
        pass_fds=[writer],
    )
    os.close(writer)
    with os.fdopen(ready) as pipe:
        assert json.loads(pipe.readline())
    assert len(cluster.get("/api/v1/status")["workers"]) == 2
    worker.terminate()
    assert worker.wait(5) == 0
    deadline = time.monotonic() + 20  # The server may have to miss its heartbeat.
    while len(cluster.get("/api/v1/status")["workers"]) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_ready_file_is_written(stopped, tmp_path):
    server = subprocess.Popen(
        [
            RAIN,
            "server",
            "--port",
            "0",
            "--control-port",
            "0",
            "--work-dir",
            tmp_path / "w",
            "--ready-file",
            tmp_path / "ready",
        ],
        env=stopped.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        # The one wait of these tests that looks again and again: a ready file has no other use.
        for _ in range(200):
            if (tmp_path / "ready").exists() or wait_for_end(server.pid, 0.05):
                break
        assert json.loads((tmp_path / "ready").read_text())["port"] > 0
    finally:
        server.terminate()
        server.communicate(timeout=5)


def test_submit_fetches_by_label(cluster, tmp_path):
    (tmp_path / "graph.ndjson").write_text(GREETING)
    target = tmp_path / "greeting.txt"
    result = cluster.rain("submit", tmp_path / "graph.ndjson", "--wait", "--get", f"greeting={target}")
    assert result.returncode == 0, result.stderr
    assert target.read_text() == "hello world\n"
    assert cluster.get("/api/v1/status")["sessions"] == []


def test_submit_reads_stdin_and_writes_stdout(cluster):
    result = cluster.rain("submit", "-", "--get", "greeting=-", input=GREETING)
    assert result.stdout == "hello world\n"


def test_submit_tells_why_a_task_failed(cluster):
    graph = ndjson(
        run_program("echo to stderr >&2; exit 7", shell=True, name="doomed", origin="flow.py:12 in main"),
        [0, [], None],
    )
    result = cluster.rain("submit", "-", "--wait", input=graph)
    assert result.returncode == 1
    for part in ("doomed", "to stderr", "7", "flow.py:12"):
        assert part in result.stderr
    assert cluster.get("/api/v1/status")["sessions"] == []


@pytest.mark.parametrize(
    "text, part",
    [
        ("this is no JSON\n", "1"),
        (GREETING + "[7, [], null]\n", "7"),
        (GREETING + "[0, [99], null]\n", "99"),
    ],
)
def test_a_bad_file_is_refused_as_a_whole(cluster, text, part):
    result = cluster.rain("submit", "-", input=text)
    assert result.returncode == 1
    assert part in result.stderr
    assert cluster.get("/api/v1/status")["sessions"] == []


def test_a_file_that_is_not_there(cluster):
    result = cluster.rain("submit", "/no/such/file.ndjson")
    assert result.returncode == 1
    assert "/no/such/file.ndjson" in result.stderr


def test_a_label_that_nothing_has(cluster):
    result = cluster.rain("submit", "-", "--get", "answer=-", input=GREETING)
    assert result.returncode == 1
    assert "answer" in result.stderr
    assert "greeting" in result.stderr


def test_a_label_that_two_objects_have(cluster):
    result = cluster.rain("submit", "-", "--get", "greeting=-", input=GREETING + "[0, [1, 0], null]\n")
    assert result.returncode == 1
    assert "2 objects" in result.stderr


def test_an_output_that_nobody_kept(cluster):
    graph = ndjson(
        {"object": {"data": "x"}},
        {"template": {"type": "builtin/concat", "outputs": ["loose"]}},
        [0, [0], None],
    )
    result = cluster.rain("submit", "-", "--get", "loose=-", input=graph)
    assert result.returncode == 1
    assert "keep" in result.stderr


def test_a_detached_session_goes_on_alone(cluster):
    result = cluster.rain("submit", "-", "--session-name", "alone", input=GREETING)
    number = int(re.fullmatch(r"session (\d+)\n", result.stdout).group(1))
    session = f"/api/v1/sessions/{number}"
    assert cluster.post(f"{session}/wait", {"all": True}) == {"done": True}
    assert cluster.get(session)["name"] == "alone"
    assert cluster.curl(f"{cluster.url}{session}/objects/2/content") == b"hello world\n"
