"""Objects on their way between workers, the depot and clients: what passes the server, what a stopped worker does."""

import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
from cluster import ndjson, run_program, wait_for

SMALL_COUNT = 300
LARGE_BYTES = 3_000_000


@pytest.fixture
def two(stopped):
    """A worker with one CPU and one with two, so that a task can be forced to the second, and from it."""
    stopped.start("--local-workers", "[1,2]")
    return stopped


def states(cluster, session, first, count):
    infos = cluster.post(f"{session}/info", {"tasks": [[first, count]]})["tasks"]
    return [info["state"] for info in infos], [info["worker"] for info in infos]


def transfers(cluster):
    """(of the server, {CPUs of the worker: its own})"""
    status = cluster.get("/api/v1/status?transfers=true")
    return status["transfers"], {worker["cpus"]: worker["transfers"] for worker in status["workers"]}


def hold(gate, cpus):
    return run_program(f"read line < {gate}", shell=True, outputs=(), cpus=cpus)


def open_gate(gate, count):
    """Lets so many programs through. Keep the descriptor until they are: else one may find it closed behind others."""
    descriptor = os.open(gate, os.O_RDWR)
    os.write(descriptor, b"\n" * count)
    return descriptor


def test_inputs_on_another_worker_do_not_pass_the_server(two, tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    session = two.session()
    # The larger worker is full until the gate opens: what is made meanwhile is made by the smaller one.
    two.post(f"{session}/submit", ndjson(hold(gate, 2), [0, [], None]))
    wait_for(lambda: states(two, session, 0, 1)[0] == ["running"])
    small = run_program("seq -f 'line %.0f of a file that is too large for a message' 100", shell=True)
    large = run_program(f"head -c {LARGE_BYTES} /dev/zero | tr '\\0' x", shell=True)
    two.post(f"{session}/submit", ndjson(small, large, [1, [], None, {"count": SMALL_COUNT}], [2, [], None]))
    two.post(f"{session}/wait", {"tasks": [[1, SMALL_COUNT + 1]]})
    made, makers = states(two, session, 1, SMALL_COUNT + 1)
    assert set(made) == {"finished"} and len(set(makers)) == 1
    descriptor = open_gate(gate, 1)
    names = [f"f{i}" for i in range(SMALL_COUNT + 1)]
    use = {
        "type": "builtin/run",
        "config": {
            "command": ["sh", "-c", "cat f* | wc -c"],
            "inputs": [{"path": name} for name in names],
            "stdout": 0,
        },
        "inputs": names,
        "outputs": [{"label": "out", "keep": True}],
        "cpus": 2,
    }
    inputs = list(range(SMALL_COUNT + 1))
    answer = two.post(f"{session}/submit", ndjson({"template": use}, [3, inputs, None]))
    two.post(f"{session}/wait", {"all": True})
    os.close(descriptor)
    _, users = states(two, session, answer["first_task"], 1)
    assert users[0] not in makers, "the user was not forced to the other worker"
    row_bytes = len("".join(f"line {i} of a file that is too large for a message\n" for i in range(1, 101)))
    assert row_bytes > 4096
    total = SMALL_COUNT * row_bytes + LARGE_BYTES
    output = answer["first_object"]
    assert int(two.curl(f"{two.url}{session}/objects/{output}/content")) == total

    server, workers = transfers(two)
    assert server["from_workers_bytes"] == 0 and server["to_workers_bytes"] == 0
    pulled = workers[2]
    assert total <= pulled["pulled_bytes"] < total * 1.02, "rows have heads"
    assert pulled["pulled_objects"] == SMALL_COUNT + 1 and pulled["peers"] == 1 and pulled["failed_pulls"] == 0
    # One request for the large one, and for the others one for each MB.
    assert pulled["pull_requests"] <= 1 + total // 1_000_000 + 2
    assert workers[1]["served_bytes"] == total and workers[1]["pulled_bytes"] == 0
    text = two.rain("status").stdout
    assert "workers to server 0 B" in text and f"{total / 1e6:.1f} MB" in text, text


def test_uploads_travel_from_the_depot_in_company(two):
    session = two.session()
    lines = []
    for i in range(60):
        data = (b"%03d" % i) * 2000
        name = hashlib.sha256(data).hexdigest()
        two.curl("--upload-file", "-", f"{two.url}/api/v1/blobs/{name}", input=data)
        lines.append({"object": {"blob": name}})
    use = {
        "type": "builtin/run",
        "config": {
            "command": ["sh", "-c", "cat f*"],
            "inputs": [{"path": f"f{i:03}"} for i in range(60)],
            "stdout": 0,
        },
        "inputs": [f"f{i:03}" for i in range(60)],
        "outputs": [{"label": "out", "keep": True}],
    }
    answer = two.post(f"{session}/submit", ndjson(*lines, {"template": use}, [0, list(range(60)), None]))
    expected = b"".join((b"%03d" % i) * 2000 for i in range(60))
    content = f"{two.url}{session}/objects/{answer['first_object'] + 60}/content"
    assert two.curl(content) == expected
    server, workers = transfers(two)
    assert server["uploaded_bytes"] == server["to_workers_bytes"] == len(expected)
    assert server["from_workers_bytes"] == server["to_clients_bytes"] == len(expected)
    assert sum(worker["pull_requests"] for worker in workers.values()) <= 2

    # A part of what a worker has; and a checksum, where it is asked for.
    assert two.curl("--range", "5990-6010", content) == expected[5990:6011]
    assert two.curl("--range", "-7", content) == expected[-7:]
    head = two.curl(
        "--dump-header", "-", "--output", "/dev/null", "--header", "Rain-Checksum: xxh3-128", content
    ).decode()
    said = [line.split(": ")[1].strip() for line in head.splitlines() if line.lower().startswith("rain-checksum")]
    assert len(said) == 1 and len(bytes.fromhex(said[0])) == 16


@pytest.mark.parametrize("size", [0, 4096, 4097, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1])
def test_sizes_at_the_edges(shared_cluster, size):
    cluster = shared_cluster
    session = cluster.session()
    program = run_program(f"head -c {size} /dev/urandom | tee copy", shell=True)
    program["template"]["config"]["outputs"] = [None, {"path": "copy"}]
    program["template"]["outputs"].append({"label": "copy", "keep": True})
    first = cluster.post(f"{session}/submit", ndjson(program, [0, [], None]))["first_object"]
    one, two = (cluster.curl(f"{cluster.url}{session}/objects/{first + i}/content") for i in range(2))
    assert len(one) == size and one == two
    rows = cluster.curl(
        *("--header", "Accept: application/x-rain-rows", "--data", json.dumps({"objects": [[first, 2]]})),
        f"{cluster.url}{session}/results",
    )
    assert rows.count(one) >= 2 if 0 < size <= 1 << 20 else len(rows) == 32


def test_what_a_worker_had_when_it_died_is_made_again_for_who_asks(two):
    session = two.session()
    program = run_program("seq 100000", shell=True)
    first = two.post(f"{session}/submit", ndjson(program, [0, [], None, {"count": 3}]))["first_object"]
    two.post(f"{session}/wait", {"all": True})
    expected = "".join(f"{i}\n" for i in range(1, 100001)).encode()
    processes = {worker["worker"]: worker["pid"] for worker in two.get("/api/v1/status")["workers"]}
    _, where = states(two, session, 0, 3)
    for worker in set(where):
        os.kill(processes[worker], signal.SIGKILL)
    # At once: nobody knows of it yet.
    assert two.curl(f"{two.url}{session}/objects/{first}/content") == expected
    assert two.curl("--range", "0-9", f"{two.url}{session}/objects/{first + 1}/content") == expected[:10]
    rows = two.curl(
        *("--header", "Accept: application/x-rain-rows", "--data", json.dumps({"objects": [[first, 3]]})),
        f"{two.url}{session}/results",
    )
    assert rows.count(expected) == 3


def test_results_of_a_lost_worker_cost_no_wait_each(two):
    count = 400
    session = two.session()
    program = run_program("seq 1500", shell=True)
    first = two.post(f"{session}/submit", ndjson(program, [0, [], None, {"count": count}]))["first_object"]
    two.post(f"{session}/wait", {"all": True})
    expected = "".join(f"{i}\n" for i in range(1, 1501)).encode()
    _, where = states(two, session, 0, count)
    worker = max(two.get("/api/v1/status")["workers"], key=lambda worker: where.count(worker["worker"]))
    parent = int(Path(f"/proc/{worker['pid']}/stat").read_text().rsplit(")", 1)[1].split()[1])
    for process in (parent, worker["pid"]):
        os.kill(process, signal.SIGKILL)
    began = time.monotonic()
    rows = two.curl(
        *("--header", "Accept: application/x-rain-rows", "--data", json.dumps({"objects": [[first, count]]})),
        f"{two.url}{session}/results",
    )
    assert rows.count(expected) == count
    # It is known as lost after 2 s; then what it had is made again.
    assert time.monotonic() - began < count // 2 * 0.1


def test_a_stopped_worker_is_given_up_and_its_late_outcomes_do_not_count(stopped, tmp_path):
    cluster = stopped
    cluster.start("--local-workers", "[1,1]")
    gate, log = tmp_path / "gate", tmp_path / "begun"
    os.mkfifo(gate)
    session = cluster.session()
    # Each attempt is known by its pid, and so is the one whose output counts.
    program = run_program(f"echo $$ >> {log}; read line < {gate}; echo $$", shell=True)
    first = cluster.post(f"{session}/submit", ndjson(program, [0, [], None, {"count": 2}]))["first_object"]
    wait_for(lambda: log.exists() and len(log.read_text().split()) == 2)
    before = {worker["worker"]: worker["pid"] for worker in cluster.get("/api/v1/status")["workers"]}
    _, (_, stopped_worker) = states(cluster, session, 0, 2)
    os.kill(before[stopped_worker], signal.SIGSTOP)
    try:
        began = time.monotonic()
        wait_for(lambda: len(cluster.get("/api/v1/status")["workers"]) == 1, seconds=12)
        assert time.monotonic() - began < 10
        # The first task, the lost one's first attempt (whose program nobody stopped), and its second.
        descriptor = open_gate(gate, 3)
        cluster.post(f"{session}/wait", {"all": True})
    finally:
        os.kill(before[stopped_worker], signal.SIGCONT)
    pids = log.read_text().split()
    assert len(pids) == 3
    outputs = [int(cluster.curl(f"{cluster.url}{session}/objects/{first + i}/content")) for i in range(2)]
    # When it finds out that nobody listens to it any more, or sooner.
    wait_for(lambda: len(cluster.get("/api/v1/status")["workers"]) == 2, seconds=12)
    os.close(descriptor)
    after = {worker["worker"] for worker in cluster.get("/api/v1/status")["workers"]}
    assert stopped_worker not in after, "what was lost comes back as somebody else"
    assert [int(cluster.curl(f"{cluster.url}{session}/objects/{first + i}/content")) for i in range(2)] == outputs
    finished, where = states(cluster, session, 0, 2)
    assert finished == ["finished"] * 2 and stopped_worker not in where
    assert str(outputs[1]) == pids[2], "the second attempt's output is the object"
