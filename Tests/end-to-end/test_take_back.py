"""Where tasks run: queued ones move to a worker that has nothing to do, and those with large inputs stay with them."""

import json
import os
import subprocess

import pytest
from cluster import RAIN, ndjson, run_program, wait_for


@pytest.fixture
def small(stopped):
    """A server and a worker with one CPU."""
    stopped.start("--local-workers", "[1]")
    return stopped


def add_worker(cluster, directory):
    ready, writer = os.pipe()
    command = [RAIN, "worker", f"localhost:{cluster.control_port}", "--cpus", "1", "--work-dir", directory]
    worker = subprocess.Popen([*command, "--ready-fd", str(writer)], env=cluster.env, pass_fds=[writer])
    os.close(writer)
    with os.fdopen(ready) as pipe:
        assert json.loads(pipe.readline())
    return worker


def workers(cluster):
    """{worker: (running, queued)}"""
    return {entry["worker"]: (entry["running"], entry["queued"]) for entry in cluster.get("/api/v1/status")["workers"]}


def workers_of(cluster, session, first, count):
    infos = cluster.post(f"{session}/info", {"tasks": [[first, count]]})["tasks"]
    assert [info["state"] for info in infos] == ["finished"] * count
    return [info["worker"] for info in infos]


def test_queued_tasks_move_to_a_worker_that_joins(small, tmp_path):
    session = small.session()
    gate, log = tmp_path / "gate", tmp_path / "begun"
    os.mkfifo(gate)
    # Each tells that it has begun, and waits until the gate opens.
    program = run_program(f"echo $$ >> {log}; read line < {gate}; true", shell=True, outputs=())
    small.post(f"{session}/submit", ndjson(program, [0, [], None, {"count": 5}]))
    wait_for(lambda: list(workers(small).values()) == [(1, 4)])
    worker = add_worker(small, tmp_path / "w")
    try:
        wait_for(lambda: sorted(workers(small).values()) == [(1, 1), (1, 2)])
        wait_for(lambda: len(log.read_text().split()) == 2)
        # Both ends at once: nobody who opens it later finds it closed.
        descriptor = os.open(gate, os.O_RDWR)
        os.write(descriptor, b"\n" * 5)
        small.post(f"{session}/wait", {"all": True})
        os.close(descriptor)
        assert len(log.read_text().split()) == 5, "each ran once"
        assert len(set(workers_of(small, session, 0, 5))) == 2
    finally:
        worker.terminate()
        assert worker.wait(5) == 0


def test_a_large_input_is_worth_waiting_for(stopped):
    stopped.start("--local-workers", "[1,1]")
    session = stopped.session()
    # 10 ms are expected of a task that never ran; to move 100 MB is expected to take 100.
    make = run_program("head", "-c", "100000000", "/dev/zero")
    stopped.post(f"{session}/submit", ndjson(make, [0, [], None]))
    stopped.post(f"{session}/wait", {"all": True})
    use = run_program("head", "-c", "1", stdin=0)
    stopped.post(f"{session}/submit", ndjson(use, *[[1, [0], None]] * 4))
    stopped.post(f"{session}/wait", {"all": True})
    held = workers_of(stopped, session, 0, 5)
    assert len(set(held)) == 1, held


def test_a_small_input_is_moved_to_a_worker_that_is_free(stopped):
    stopped.start("--local-workers", "[1,1]")
    session = stopped.session()
    make = run_program("head", "-c", "100000", "/dev/zero")
    stopped.post(f"{session}/submit", ndjson(make, [0, [], None]))
    stopped.post(f"{session}/wait", {"all": True})
    use = run_program("head", "-c", "1", stdin=0)
    stopped.post(f"{session}/submit", ndjson(use, *[[1, [0], None]] * 4))
    stopped.post(f"{session}/wait", {"all": True})
    held = workers_of(stopped, session, 1, 4)
    assert len(set(held)) == 2, held
