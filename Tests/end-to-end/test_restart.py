"""The server dies and is started again: sessions, clients, workers and uploads go on."""

import hashlib
import os
import signal
import socket
import subprocess
import time

import kill_runs
import pytest
from cluster import RAIN, Cluster, ndjson, run_program, wait_for, wait_for_end


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The run that nobody disturbs."""
    return kill_runs.undisturbed(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("seed", [3, 11, 14, 23])
def test_a_run_whose_server_is_killed_comes_out_as_one_that_nobody_disturbs(reference, seed, tmp_path):
    mix, seconds = reference
    print(kill_runs.one_run(tmp_path, seed, mix, seconds))


def kill_server(cluster, which=signal.SIGKILL):
    pid = cluster.pid("server")
    os.kill(pid, which)
    assert wait_for_end(pid, 10)


def start_again(cluster):
    """As a user would, with whatever options."""
    result = cluster.rain("start", "--simple")
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_server_that_is_told_to_end_says_so_and_nothing_else(cluster):
    session = cluster.session()
    idle = socket.create_connection(("127.0.0.1", cluster.port))
    waiting = subprocess.Popen(
        ["curl", "-sN", "-H", f"Authorization: Bearer {cluster.token}", "-d", "{}", f"{cluster.url}{session}/wait"],
        stdout=subprocess.DEVNULL,
    )
    kill_server(cluster, signal.SIGTERM)
    idle.close()
    waiting.wait(10)
    log = (cluster.log / "server/server.log").read_text().splitlines()
    assert "info stopping" in log[-1], log
    start_again(cluster)


def test_rain_start_starts_again_what_is_missing(cluster):
    port, control_port = cluster.port, cluster.control_port
    worker = cluster.pid("worker-1")
    kill_server(cluster)
    status = cluster.rain("status")
    assert status.returncode == 1 and "start one with `rain start" in status.stderr
    said = start_again(cluster)
    assert f"worker-1, pid {worker}, runs on" in said and "server, pid" in said and "started again as it was" in said
    cluster.read_address()
    assert (cluster.port, cluster.control_port) == (port, control_port)
    wait_for(lambda: len(cluster.get("/api/v1/status")["workers"]) == 1)
    assert cluster.get("/api/v1/status")["epoch"] == 2
    again = cluster.rain("start", "--simple")
    assert again.returncode == 1 and "already running" in again.stderr
    # A worker with its parent.
    os.kill(worker, signal.SIGKILL)
    assert wait_for_end(worker, 5)
    said = start_again(cluster)
    assert "server, pid" in said and "runs on" in said and "worker-1, pid" in said
    cluster.pids.add(cluster.pid("worker-1"))
    wait_for(lambda: len(cluster.get("/api/v1/status")["workers"]) == 1, seconds=15)


def test_submits_that_are_repeated_after_a_restart_are_taken_once(cluster, tmp_path):
    session = cluster.session()
    log = tmp_path / "executions"
    lines = ndjson(
        {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
        run_program(f"echo $RAIN_TASK_INDEX >> {log}; echo $RAIN_TASK_INDEX", shell=True),
        [0, [], None, {"count": 5}],
    )
    first = cluster.post(f"{session}/submit", lines)
    cluster.post(f"{session}/wait", {"all": True})
    kill_server(cluster)
    start_again(cluster)
    again = cluster.post(f"{session}/submit", lines)
    assert again == {**first, "repeated": True}
    following = lines.replace('"first_template": 0, "first_task": 0', '"first_template": 1, "first_task": 5').replace(
        '"first_object": 0', '"first_object": 5'
    )
    assert cluster.post(f"{session}/submit", following.replace("[0, []", "[1, []"))["first_task"] == 5
    other = lines.replace("echo", "printf %s")
    assert cluster.call("POST", f"{session}/submit", other)[0] == 409
    cluster.post(f"{session}/wait", {"all": True})
    assert sorted(log.read_text().split()) == sorted("01234" * 2)
    status = cluster.get(session)
    assert (status["tasks"], status["finished"], status["state"]) == (10, 10, "open")
    assert cluster.curl(f"{cluster.url}{session}/objects/3/content") == b"3\n"


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGTERM])
def test_rain_submit_waits_for_a_server_that_comes_back(cluster, tmp_path, which):
    mark = tmp_path / "mark"
    lines = ndjson(
        run_program(f"echo x >> {mark}; sleep 0.5; echo done", shell=True, outputs=("result",)),
        [0, [], None],
    )
    client = subprocess.Popen(
        [RAIN, "submit", "-", "--get", f"result={tmp_path / 'out'}"],
        env=cluster.env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    client.stdin.write(lines)
    client.stdin.close()
    wait_for(mark.exists)
    kill_server(cluster, which)
    time.sleep(0.2)
    start_again(cluster)
    assert client.wait(30) == 0, client.stderr.read()
    assert (tmp_path / "out").read_text() == "done\n" and mark.read_text() == "x\n"
    assert cluster.get("/api/v1/status")["sessions"] == []


def test_rain_submit_says_when_a_server_does_not_come_back(cluster):
    client = subprocess.Popen(
        [RAIN, "submit", "-", "--wait", "--reconnect", "1"],
        env=cluster.env, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    client.stdin.write(ndjson(run_program("sleep", "5"), [0, [], None]))
    client.stdin.close()
    wait_for(lambda: any(command == "sleep 5" for command in cluster.processes().values()))
    kill_server(cluster)
    assert client.wait(10) == 1
    assert "no rain server at" in client.stderr.read()


def test_a_detached_session_goes_on_after_stop_and_start(stopped, tmp_path):
    stopped.start("--local-workers", "[2]")
    session = stopped.session()
    big = run_program("sleep 0.1; head -c 300000 /dev/zero | tr '\\0' x", shell=True)
    count = run_program("wc", "-c", stdin=0)
    log = tmp_path / "late"
    late = run_program(f"sleep 1; echo late >> {log}", shell=True)
    stopped.post(f"{session}/submit", ndjson(big, count, late, [0, [], None], [1, [0], None], [2, [], None]))
    stopped.post(f"{session}/wait", {"tasks": [[0, 2]]})
    assert stopped.rain("stop").returncode == 0
    assert not stopped.wait_until_gone(2)
    stopped.start("--local-workers", "[2]")
    # What its worker had is made again, for it is kept.
    assert stopped.curl(f"{stopped.url}{session}/objects/0/content") == b"x" * 300_000
    assert stopped.curl(f"{stopped.url}{session}/objects/1/content").strip() == b"300000"
    stopped.post(f"{session}/wait", {"all": True})
    assert log.read_text().split() == ["late"]
    assert stopped.get(session)["finished"] == 3


def test_a_session_whose_client_does_not_come_back_is_closed_after_its_grace(cluster):
    opened = cluster.post("/api/v1/sessions", {"grace_ms": 1000}, expect=201)
    detached = cluster.session()
    kill_server(cluster)
    start_again(cluster)
    assert len(cluster.get("/api/v1/status")["sessions"]) == 2
    wait_for(lambda: len(cluster.get("/api/v1/status")["sessions"]) == 1, seconds=90)
    assert cluster.get(detached)["state"] == "open"
    assert cluster.call("GET", f"/api/v1/sessions/{opened['session']}")[0] == 404


def test_uploads_outlive_a_restart(cluster):
    used, unclaimed = b"used " * 3000, b"unclaimed " * 3000
    names = [hashlib.sha256(data).hexdigest() for data in (used, unclaimed)]
    for name, data in zip(names, (used, unclaimed)):
        cluster.curl("--request", "PUT", "--data-binary", "@-", f"{cluster.url}/api/v1/blobs/{name}", input=data)
    session = cluster.session()
    copy = run_program("cat", stdin=0)
    cluster.post(f"{session}/submit", ndjson({"object": {"blob": names[0], "keep": True}}))
    depot = cluster.work / "server/depot"
    (depot / "upload-1").write_bytes(b"half")
    kill_server(cluster)
    start_again(cluster)
    assert sorted(path.name for path in depot.iterdir()) == sorted(names)
    cluster.post(f"{session}/submit", ndjson(copy, {"object": {"blob": names[1]}}, [0, [0], None], [0, [1], None]))
    assert cluster.curl(f"{cluster.url}{session}/objects/2/content") == used
    assert cluster.curl(f"{cluster.url}{session}/objects/3/content") == unclaimed
    # One that somebody removed is missed at the next start.
    kill_server(cluster)
    (depot / names[0]).unlink()
    start_again(cluster)
    assert f"the upload {names[0]} is missing" in (cluster.log / "server/server.log").read_text()


def test_a_server_whose_journal_is_gone_begins_anew_with_the_workers_that_it_finds(cluster):
    """Sessions, tasks, epochs and workers are then counted from 1 again: nothing old may be taken for new."""
    values = []
    for value in ("old", "new"):
        session = cluster.session()
        assert session.endswith("/1")
        make = run_program(f"head -c 100000 /dev/zero | tr '\\0' {value[0]}", shell=True)
        copy = run_program("cat", stdin=0)
        cluster.post(f"{session}/submit", ndjson(make, copy, [0, [], None], [1, [0], None]))
        values.append(cluster.curl(f"{cluster.url}{session}/objects/1/content"))
        kill_server(cluster)
        (cluster.work / "server").rename(cluster.directory / f"moved-{value}")
        start_again(cluster)
        wait_for(lambda: [worker["objects"] for worker in cluster.get("/api/v1/status")["workers"]] == [0])
    assert values == [b"o" * 100_000, b"n" * 100_000]


def refused_start(cluster):
    result = cluster.rain("start", "--simple", "--port", 0, "--control-port", 0, "--work-dir", cluster.work)
    assert result.returncode == 1
    return result.stderr


def test_a_journal_that_cannot_be_read_is_an_error_that_says_what_to_do(stopped):
    stopped.start("--local-workers", "[1]")
    session = stopped.session()
    lines = ndjson(run_program("echo", "x" * 2000), *([0, [], None] for _ in range(300)))
    stopped.post(f"{session}/submit", lines)
    stopped.post(f"{session}/wait", {"all": True})
    assert stopped.rain("stop").returncode == 0
    journal = stopped.work / "server/journal.sqlite"
    whole = journal.read_bytes()
    journal.write_bytes(whole[: len(whole) // 8192 * 4096])
    assert "is damaged" in refused_start(stopped)
    flipped = bytearray(whole)
    at = whole.index(b"x" * 1000) + 500
    flipped[at] ^= 1
    journal.write_bytes(flipped)
    said = refused_start(stopped)
    assert "checksum" in said and "restore it from a copy, or move it away" in said
    journal.write_bytes(b"no database at all " * 100)
    assert "is not a journal of Rain: move it away" in refused_start(stopped)
    # Nothing of it was changed: the copy is as good as it was.
    journal.write_bytes(whole)
    stopped.start("--local-workers", "[1]")
    assert stopped.get(session)["finished"] == 300


def test_two_servers_do_not_share_a_work_directory(cluster):
    ports = ("--port", 0, "--control-port", 0)
    result = cluster.rain("server", *ports, "--work-dir", cluster.work / "server")
    assert result.returncode == 1
    assert f"belongs to a running server (pid {cluster.pid('server')}): stop that one" in result.stderr


@pytest.fixture
def small_disk(tmp_path):
    """A directory on a file system of 2 MB, where one can be mounted."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", directory], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


def test_a_server_that_dies_with_a_full_disk_goes_on_when_there_is_room(tmp_path, small_disk):
    cluster = Cluster(tmp_path)
    cluster.work = small_disk
    try:
        cluster.start("--local-workers", "[1]")
        session = cluster.session()
        log = tmp_path / "executions"
        lines = ndjson(
            {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
            run_program(f"echo $RAIN_TASK_INDEX >> {log}; echo $RAIN_TASK_INDEX", shell=True),
            [0, [], None, {"count": 20}],
        )
        cluster.post(f"{session}/submit", lines)
        cluster.post(f"{session}/wait", {"all": True})
        hog = small_disk / "hog"
        with hog.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 4096)
        following = lines.replace('"first_template": 0, "first_task": 0', '"first_template": 1, "first_task": 20')
        following = following.replace('"first_object": 0', '"first_object": 20').replace("[0, []", "[1, []")
        # A few small commits still fit into the last block.
        for _ in range(200):
            status, answer = cluster.call("POST", "/api/v1/sessions", {"name": "n" * 2000})
            if status == 503:
                break
        assert status == 503 and answer["error"]["code"] == "journal_failed", answer
        status, answer = cluster.call("POST", f"{session}/submit", following)
        assert status == 503 and "free the disk and start the server again" in answer["error"]["message"]
        kill_server(cluster)
        full = cluster.rain("start", "--simple")
        assert full.returncode == 1 and "no space is left for the journal" in full.stderr, full.stderr
        hog.unlink()
        start_again(cluster)
        assert cluster.post(f"{session}/submit", following)["repeated"] is False
        cluster.post(f"{session}/wait", {"all": True})
        assert cluster.get(session)["finished"] == 40
        assert sorted(log.read_text().split()) == sorted([str(number) for number in range(20)] * 2)
    finally:
        cluster.finish()
