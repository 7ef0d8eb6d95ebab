"""Sessions from the command line: seen, explained, waited for, fetched from, cancelled, closed. Ports mixed up."""

import json
import os
import re
import subprocess
import time

import pytest
from cluster import RAIN, ndjson, run_program, wait_for

GREETING = ndjson(
    {"object": {"data": "hello "}},
    {"object": {"data": "world\n"}},
    {"template": {"type": "builtin/concat", "outputs": [{"label": "greeting", "keep": True}]}},
    [0, [0, 1], None],
)


def submit(cluster, text, **options):
    """A detached session; its number as text."""
    result = cluster.rain("submit", "-", *(f"--{key}={value}" for key, value in options.items()), input=text)
    assert result.returncode == 0, result.stderr
    return re.fullmatch(r"session (\d+)\n", result.stdout).group(1)


def test_a_detached_session_from_its_list_to_its_end(shared_cluster, tmp_path):
    rain = shared_cluster.rain
    number = submit(shared_cluster, GREETING, **{"session-name": "alone"})
    assert rain("wait", number).returncode == 0
    row = next(line for line in rain("sessions").stdout.splitlines() if "alone" in line)
    assert re.fullmatch(rf"\s+{number}\s+alone\s+open\s+detached\s+\d+ s\s+1\s+0\s+1\s+0\s+0", row)
    listed = json.loads(rain("sessions", "--json").stdout)["sessions"]
    assert [(it["detached"], it["finished"]) for it in listed if str(it["session"]) == number] == [(True, 1)]
    assert re.search(r"2\s+greeting\s+finished\s+12 B", rain("get", number).stdout)
    assert rain("get", number, "greeting").stdout == "hello world\n"
    assert rain("get", number, 2, "-o", tmp_path / "x").returncode == 0
    assert (tmp_path / "x").read_text() == "hello world\n"
    assert rain("explain", number).stdout.splitlines()[1].startswith("tasks: 1, of which 1 finished")
    closed = rain("close", number)
    assert closed.stdout == f'closed session {number} "alone": 1 of 1 tasks had finished\n'
    assert rain("close", number).returncode == 1
    for command in ("explain", "wait", "get", "cancel", "close"):
        result = rain(command, number)
        assert result.returncode == 1 and f"there is no session {number}" in result.stderr


def test_no_session(stopped):
    stopped.start("--simple")
    assert "no session is open" in stopped.rain("sessions").stdout


def test_an_object_that_is_not_there(shared_cluster):
    number = submit(shared_cluster, GREETING + "[0, [1, 0], null]\n")
    two = shared_cluster.rain("get", number, "greeting")
    assert two.returncode == 1 and "its number, 2, 3" in two.stderr
    none = shared_cluster.rain("get", number, "answer")
    assert none.returncode == 1 and "greeting" in none.stderr
    far = shared_cluster.rain("get", number, 9)
    assert far.returncode == 1 and "its objects are 0 to 3" in far.stderr
    shared_cluster.rain("close", number)


def test_a_result_is_waited_for(shared_cluster):
    number = submit(shared_cluster, ndjson(run_program("sleep 0.3; echo late", shell=True), [0, [], None]))
    assert shared_cluster.rain("get", number, "out").stdout == "late\n"
    shared_cluster.rain("close", number)


def test_a_directory_comes_as_a_tar_stream(shared_cluster, tmp_path):
    made = {"type": "builtin/run", "config": {"command": ["mkdir tree; echo x > tree/a"], "shell": True}}
    made["outputs"] = [{"label": "tree", "directory": True, "keep": True}]
    number = submit(shared_cluster, ndjson({"template": made}, [0, [], None]))
    assert shared_cluster.rain("get", number, "tree", "-o", tmp_path / "tree.tar").returncode == 0
    subprocess.run(["tar", "-xf", tmp_path / "tree.tar", "-C", tmp_path], check=True)
    assert (tmp_path / "a").read_text() == "x\n"
    assert "directory (tar)" in shared_cluster.rain("get", number).stdout
    shared_cluster.rain("close", number)


def test_a_failed_session_is_explained(shared_cluster):
    graph = ndjson(run_program("echo to stderr >&2; exit 7", shell=True, name="doomed"), [0, [], None])
    number = submit(shared_cluster, graph)
    waited = shared_cluster.rain("wait", number)
    assert waited.returncode == 1 and "doomed" in waited.stderr and "to stderr" in waited.stderr
    text = shared_cluster.rain("explain", number).stdout
    assert "failed, detached" in text and text.count("\nto stderr\n") == 1
    fetched = shared_cluster.rain("get", number, "out")
    assert fetched.returncode == 1 and "to stderr" in fetched.stderr
    shared_cluster.rain("close", number)


def test_failures_of_a_session_that_goes_on_are_explained(shared_cluster):
    session = shared_cluster.session(on_error="fail_descendants", name="partly")
    number = session.rpartition("/")[2]
    broken = run_program("cat; exit 3", shell=True, stdin=0, name="broken")
    after = {"template": {"type": "builtin/concat", "name": "after"} | {"outputs": ["x"]}}
    graph = ndjson({"object": {"data": "d"}}, broken, after, [0, [0], None], [1, [1], None], [1, [0], None])
    shared_cluster.post(f"{session}/submit", graph)
    waited = shared_cluster.rain("wait", number)
    assert waited.returncode == 1 and "of 3 tasks 2 failed" in waited.stderr
    text = shared_cluster.rain("explain", number).stdout
    assert "broken" in text and "exit" in text
    assert "1 more could not run" in text
    assert "finished" in shared_cluster.rain("explain", number, 2).stdout
    assert json.loads(shared_cluster.rain("explain", number, "0-2", "--json").stdout)["tasks"][0]["state"] == "failed"
    failed = shared_cluster.rain("explain", number, "--state", "failed").stdout
    assert failed.count("failed (") == 2 and "broken" in failed and "after" in failed and "there are more" not in failed
    first = shared_cluster.rain("explain", number, "--state", "failed", "--state", "finished", "--limit", 1).stdout
    assert first.count("failed (") == 1 and "there are more: ask with a larger --limit" in first
    assert shared_cluster.rain("explain", number, "--state", "running").stderr == "no task is running\n"
    told = json.loads(shared_cluster.rain("explain", number, "1-2", "--state", "finished", "--json").stdout)["tasks"]
    assert [task["task"] for task in told] == [2]
    assert "waiting" in shared_cluster.rain("explain", number, "--state", "lost").stderr
    shared_cluster.rain("close", number)


def test_what_runs_is_shown_and_cancelled(shared_cluster):
    graph = ndjson(run_program("sleep", "1000", outputs=(), name="long"), [0, [], None], [0, [], None], [0, [], None])
    number = submit(shared_cluster, graph)
    wait_for(lambda: shared_cluster.get(f"/api/v1/sessions/{number}")["running"] == 2)
    late = shared_cluster.rain("wait", number, "--timeout", "0.1")
    assert late.returncode == 1 and "not done after 0.1 s" in late.stderr
    text = shared_cluster.rain("explain", number).stdout
    assert len(re.findall(r"^runs: task \d \"long\" \(builtin/run\) on w\d$", text, re.MULTILINE)) == 2
    assert re.search(r"waits for a free CPU: task 2", text)
    assert shared_cluster.rain("cancel", number, 2).stdout == "1 task cancelled\n"
    assert shared_cluster.rain("cancel", number).stdout == "2 tasks cancelled\n"
    assert "nothing to cancel" in shared_cluster.rain("cancel", number).stdout
    assert "3 were cancelled" in shared_cluster.rain("wait", number).stderr
    shared_cluster.rain("close", number)


def test_why_tasks_wait_for_a_worker(stopped, tmp_path):
    server = start_server(stopped, tmp_path)
    try:
        number = submit(stopped, GREETING)
        for text in (stopped.rain("status").stdout, stopped.rain("explain", number).stdout):
            assert f"rain worker localhost:{stopped.control_port}" in text
        command = [RAIN, "submit", "-", "--wait", "--server", f"localhost:{stopped.port}"]
        waiting = subprocess.Popen(command, env=stopped.env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            waiting.stdin.write(GREETING)
            waiting.stdin.close()
            assert "no worker is connected" in waiting.stderr.readline()
        finally:
            waiting.kill()
            waiting.wait()
            waiting.stderr.close()
    finally:
        server.terminate()
        server.wait(5)


def start_server(cluster, directory, *arguments):
    """A server in the foreground, without a worker."""
    ready, writer = os.pipe()
    ports = ("--port", "0", "--control-port", "0", "--work-dir", directory / "w")
    with open(directory / "server.log", "w") as log:
        command = [RAIN, "server", *ports, "--ready-fd", str(writer), *arguments]
        server = subprocess.Popen(command, env=cluster.env, pass_fds=[writer], stderr=log)
    os.close(writer)
    with os.fdopen(ready) as pipe:
        said = json.loads(pipe.readline())
    cluster.port, cluster.control_port = said["port"], said["control_port"]
    cluster.url = f"http://localhost:{cluster.port}"
    rain = cluster.rain
    cluster.rain = lambda command, *rest, **options: rain(
        command, *rest, *(() if command == "stop" else ("--server", f"localhost:{cluster.port}")), **options
    )
    return server


@pytest.mark.parametrize("get, part", [("nix=-", "there are: out"), ("out=/no/dir/x", "/no/dir/x: open")])
def test_what_can_not_be_fetched_is_said_before_the_wait(shared_cluster, get, part):
    graph = ndjson(run_program("sleep", "1000"), [0, [], None])
    result = shared_cluster.rain("submit", "-", "--get", get, input=graph, timeout=20)
    assert result.returncode == 1 and part in result.stderr


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_graph_is_an_error(shared_cluster, text):
    result = shared_cluster.rain("submit", "-", "--wait", input=text)
    assert result.returncode == 1 and "stdin is not a graph: it is empty" in result.stderr


def test_a_worker_at_the_port_of_clients(shared_cluster):
    began = time.monotonic()
    result = shared_cluster.rain("worker", f"localhost:{shared_cluster.port}", timeout=20)
    assert result.returncode == 1
    assert "is the port of clients" in result.stderr and "7211" in result.stderr
    assert time.monotonic() - began < 10  # Two seconds on a machine with nothing else to do.


@pytest.mark.parametrize("command", [("status",), ("sessions",), ("submit", __file__)])
def test_a_client_at_the_port_of_workers(shared_cluster, command):
    result = shared_cluster.rain(*command, "--server", f"localhost:{shared_cluster.control_port}")
    assert result.returncode == 1
    assert "is the port of workers" in result.stderr and "7210" in result.stderr


def test_a_worker_says_that_it_has_joined(shared_cluster, tmp_path):
    worker = subprocess.Popen(
        [RAIN, "worker", f"localhost:{shared_cluster.control_port}", "--cpus", "1", "--work-dir", tmp_path / "w"],
        env=shared_cluster.env,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = worker.stderr.readline()
        server = f"localhost:{shared_cluster.control_port}"
        assert re.fullmatch(rf"rain worker: w\d+ with 1 CPU has joined the server {server}; its store: .+\n", line)
    finally:
        worker.terminate()
        assert worker.wait(5) == 0
        worker.stderr.close()


def test_the_status_says_where_workers_join(shared_cluster):
    text = shared_cluster.rain("status").stdout
    assert f":{shared_cluster.control_port}`" in text
    assert shared_cluster.get("/api/v1/status")["control_port"] == shared_cluster.control_port


def test_nothing_was_started(stopped):
    result = stopped.rain("status")
    assert result.returncode == 1
    # On a developer's machine a server of another user may well be at the default port.
    assert "nothing runs that `rain start` started" in result.stderr or "access.toml" in result.stderr


def test_one_port_for_both_is_refused(stopped):
    for command in (("start", "--simple"), ("server",)):
        result = stopped.rain(*command, "--port", 7300, "--control-port", 7300)
        assert result.returncode != 0 and "a port each" in result.stderr


def test_a_name_makes_no_line_of_the_log(shared_cluster):
    name = "x\n2026-01-01 00:00:00.000 error forged\x1b[2J"
    number = shared_cluster.session(name=name).rpartition("/")[2]
    shared_cluster.rain("close", number)
    log = (shared_cluster.log / "server/server.log").read_text()
    assert "x\\n2026-01-01 00:00:00.000 error forged\\u{1b}[2J" in log and "\x1b" not in log
    assert not [line for line in log.splitlines() if line.startswith("2026-01-01")]


def test_a_task_whose_subworker_starts_is_explained(shared_cluster):
    """Its command is no subworker, which is known after 30 s."""
    number = shared_cluster.session(subworkers=[{"name": "odd", "command": ["sleep", "1000"]}]).rpartition("/")[2]
    shared_cluster.post(f"/api/v1/sessions/{number}/submit", ndjson({"template": {"type": "odd/one"}}, [0, [], None]))
    reason = "has not begun, since its subworker starts, its inputs are on their way or it needs more CPUs: task 0"
    wait_for(lambda: reason in shared_cluster.rain("explain", number).stdout)
    shared_cluster.rain("close", number)
