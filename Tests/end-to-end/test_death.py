"""kill -9 of a client, a worker, a server: what lives on, and that nothing is left of what died."""

import json
import os
import signal
import subprocess
import time

import pytest
from cluster import RAIN, ndjson, run_program, wait_for, wait_for_end

BUSY = ndjson(
    run_program("setsid sleep 63.5 & exec sleep 63.5", shell=True, outputs=()),
    [0, [], None, {"count": 2}],
)


def sleepers(cluster):
    return [pid for pid, command in cluster.processes().items() if command.startswith("sleep 63.5")]


def test_a_killed_client_takes_its_session_with_it(cluster):
    client = subprocess.Popen([RAIN, "submit", "-", "--wait"], stdin=subprocess.PIPE, env=cluster.env, text=True)
    client.stdin.write(BUSY)
    client.stdin.close()
    wait_for(lambda: len(sleepers(cluster)) == 4)
    client.kill()
    client.wait()
    wait_for(lambda: not sleepers(cluster))
    assert cluster.get("/api/v1/status")["sessions"] == []


def test_interrupting_a_client_does_the_same(cluster):
    client = subprocess.Popen([RAIN, "submit", "-", "--wait"], stdin=subprocess.PIPE, env=cluster.env, text=True)
    client.stdin.write(BUSY)
    client.stdin.close()
    wait_for(lambda: len(sleepers(cluster)) == 4)
    client.send_signal(signal.SIGINT)
    client.wait()
    wait_for(lambda: not sleepers(cluster))


def test_a_killed_worker_leaves_no_program_and_its_tasks_run_again(cluster):
    session = cluster.session()
    cluster.post(f"{session}/submit", BUSY)
    wait_for(lambda: len(sleepers(cluster)) == 4)
    first = set(sleepers(cluster))
    inner = cluster.get("/api/v1/status")["workers"][0]["pid"]
    os.kill(inner, signal.SIGKILL)
    for pid in first:
        assert wait_for_end(pid, 1)
    # The parent starts the worker again, it joins, and the tasks, not done, are run again.
    wait_for(lambda: len(sleepers(cluster)) == 4, seconds=20)
    assert not first & set(sleepers(cluster))
    cluster.call("DELETE", session)


def test_a_worker_killed_with_its_parent_leaves_nothing(cluster):
    session = cluster.session()
    cluster.post(f"{session}/submit", BUSY)
    wait_for(lambda: len(sleepers(cluster)) == 4)
    server = {cluster.pid("server")}
    inner = cluster.get("/api/v1/status")["workers"][0]["pid"]
    os.kill(cluster.pid("worker-1"), signal.SIGKILL)
    wait_for_end(inner, 2)
    assert not [
        left for left in cluster.wait_until_gone(2, keep=server).items() if not left[1].startswith("sleep 63.5")
    ]
    assert cluster.rain("stop").returncode == 0


def test_a_killed_server_leaves_no_program_after_stop(cluster):
    session = cluster.session()
    cluster.post(f"{session}/submit", BUSY)
    wait_for(lambda: len(sleepers(cluster)) == 4)
    os.kill(cluster.pid("server"), signal.SIGKILL)
    assert cluster.rain("stop").returncode == 0
    assert not cluster.wait_until_gone(2)
    cluster.check_no_leftovers()


@pytest.mark.parametrize("which", ["SIGINT", "SIGTERM"])
def test_a_server_in_the_foreground_ends_when_told(stopped, tmp_path, which):
    ready, writer = os.pipe()
    server = subprocess.Popen(
        [RAIN, "server", "--port", "0", "--control-port", "0", "--work-dir", tmp_path / "w", "--ready-fd", str(writer)],
        env=stopped.env,
        pass_fds=[writer],
        stderr=subprocess.DEVNULL,
    )
    os.close(writer)
    with os.fdopen(ready) as pipe:
        assert json.loads(pipe.readline())["port"]
    server.send_signal(getattr(signal, which))
    assert server.wait(5) == 0


def inner_processes(cluster):
    return {worker["pid"] for worker in cluster.get("/api/v1/status")["workers"]}


def test_objects_that_are_lost_with_a_worker_are_made_again(stopped):
    stopped.start("--local-workers", "[1,1]")
    session = stopped.session()
    big = run_program("sleep 0.1; head -c 100000 /dev/zero | tr '\\0' x", shell=True)
    copy = run_program("cat", stdin=0)
    # Four large objects on two workers, each with a copy made of it.
    lines = ndjson(big, copy, *([0, [], None] for _ in range(4)), *([1, [at], None] for at in range(4)))
    stopped.post(f"{session}/submit", lines)
    stopped.post(f"{session}/wait", {"all": True})
    workers = inner_processes(stopped)
    assert len(workers) == 2
    killed = time.monotonic()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    for position in range(8):
        assert stopped.curl(f"{stopped.url}{session}/objects/{position}/content") == b"x" * 100_000
    assert time.monotonic() - killed < 15
    assert not workers & inner_processes(stopped)


def test_a_worker_that_is_told_to_end_is_given_up_at_once(stopped):
    stopped.start("--local-workers", "[1,1]")
    parent = stopped.pid("worker-2")
    os.kill(parent, signal.SIGTERM)
    assert wait_for_end(parent, 5)
    wait_for(lambda: len(stopped.get("/api/v1/status")["workers"]) == 1, seconds=1)
