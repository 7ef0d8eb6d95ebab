"""How far running tasks are, and what they write for debugging, as a client sees it."""

import os
import pathlib
import signal
import subprocess
import time

import pytest
from cluster import RAIN, ndjson, wait_for, wait_for_end
from rain.client import Client, Task, blob, remote


@pytest.fixture
def client(shared_cluster, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(shared_cluster.state))
    return Client("127.0.0.1", shared_cluster.port)


@remote()
def walk(ctx, path):
    ctx.debug("begins")
    ctx.progress(0.125, "first")
    ctx.progress(0.75, "second half")
    file = pathlib.Path(path.get_str())
    while not file.exists():
        time.sleep(0.001)
    return "there"


def at(task, fraction):
    return task.progress if task.progress is not None and task.progress.fraction == fraction else None


def test_progress_of_c_and_python_functions_reaches_the_client(client, faults, shared_cluster, tmp_path):
    gates = [tmp_path / "c", tmp_path / "python"]
    with client.new_session("progress", subworkers={"faults": faults}) as session:
        items = [Task("faults/steps", [blob(str(gates[0]))]), walk(blob(str(gates[1])))]
        assert items[0].progress is None
        session.submit()
        wait_for(lambda: items[0].progress == (0.5, 'waiting "here"'))
        wait_for(lambda: items[1].progress == (0.75, "second half"))
        # Who holds no lease asks.
        answer = shared_cluster.post(f"/api/v1/sessions/{session.id}/info", {"tasks": [[0, 2]]})
        assert [task["progress"] for task in answer["tasks"]] == [
            {"fraction": 0.5, "text": 'waiting "here"'},
            {"fraction": 0.75, "text": "second half"},
        ]
        session.update(items)
        assert items[0].info.progress == items[0].progress and items[0].info.state == "running"
        said = shared_cluster.rain("explain", session.id).stdout
        assert 'on w1: 50 %, waiting "here"\n' in said and "on w1: 75 %, second half\n" in said
        for gate in gates:
            gate.touch()
        session.wait_all()
        assert [item.progress for item in items] == [None, None]
        session.update(items)
        assert [item.info.progress for item in items] == [None, None]
        assert items[0].info.debug == f"waits for {gates[0]}\nfound" and items[1].info.debug == "begins"


def test_a_task_that_begins_again_makes_no_progress_until_it_says_so(cluster, faults, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
    with Client("127.0.0.1", cluster.port).new_session("again", subworkers={"faults": faults}) as session:
        task = Task("faults/steps", [blob(str(tmp_path / "gate"))])
        session.submit()
        wait_for(lambda: at(task, 0.5))
        worker = cluster.get("/api/v1/status")["workers"][0]["pid"]
        parent = int(pathlib.Path(f"/proc/{worker}/stat").read_text().rsplit(")", 1)[1].split()[1])
        # Else the next worker may be as far before anybody looks.
        os.kill(parent, signal.SIGSTOP)
        try:
            os.kill(worker, signal.SIGKILL)
            wait_for(lambda: task.progress is None)
        finally:
            os.kill(parent, signal.SIGCONT)
        wait_for(lambda: at(task, 0.5), seconds=20)
        (tmp_path / "gate").touch()
        session.wait_all()


def test_progress_outlives_the_server(cluster, faults, tmp_path, monkeypatch):
    """The worker has it, and tells the next one."""
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
    client = Client("127.0.0.1", cluster.port)
    with client.new_session("restart", subworkers={"faults": faults}) as session:
        task = Task("faults/steps", [blob(str(tmp_path / "gate"))])
        session.submit()
        wait_for(lambda: at(task, 0.5))
        server = cluster.pid("server")
        os.kill(server, signal.SIGKILL)
        assert wait_for_end(server, 10)
        wait_for(lambda: task.progress is None)
        assert cluster.rain("start", "--simple").returncode == 0
        wait_for(lambda: at(task, 0.5), seconds=20)
        (tmp_path / "gate").touch()
        session.wait_all()


def test_debug_lines_are_in_the_info_up_to_a_limit(client, faults, tmp_path):
    gate = tmp_path / "gate"
    gate.touch()
    with client.new_session("debug", subworkers={"faults": faults}) as session:
        long = Task("faults/steps", [blob(str(gate)), blob("")])
        session.submit()
        session.wait_all()
        long.update()
        lines = long.info.debug.splitlines()
        assert lines[:3] == [f"waits for {gate}", "found", "0" * 1023]
        assert lines[-1] == "(more debug lines than 1 MiB: the rest is left out)"
        assert (1 << 20) - 2048 < len(long.info.debug) < (1 << 20) + 100


def test_debug_lines_of_a_failed_task_are_in_its_info(shared_cluster, client, faults):
    session = shared_cluster.session(on_error="fail_descendants", subworkers=[{"name": "faults", "command": [faults]}])
    template = {"template": {"type": "faults/fail", "outputs": ["out"]}}
    shared_cluster.post(f"{session}/submit", ndjson(template, [0, [], None]))
    shared_cluster.post(f"{session}/wait", {"all": True})
    (task,) = shared_cluster.post(f"{session}/info", {"tasks": [[0, 1]]})["tasks"]
    assert task["state"] == "failed" and task["debug"] == "about to fail\n" == task["failure"]["debug"]
    shared_cluster.call("DELETE", session)


def test_subworkers_are_told_what_to_log(stopped, faults, tmp_path, monkeypatch):
    """By the configuration file, and by an option."""
    monkeypatch.setenv("XDG_STATE_HOME", str(stopped.state))
    stopped.env["XDG_CONFIG_HOME"] = str(tmp_path)
    (tmp_path / "rain").mkdir()
    (tmp_path / "rain/worker.toml").write_text('log_level = "error"\n')
    stopped.start("--local-workers", "[1]")
    ready, logs, gate = tmp_path / "ready", tmp_path / "logs", tmp_path / "gate"
    gate.touch()
    options = ["--cpus", "2", "--log-level", "debug", "--log-dir", logs, "--ready-file", ready]
    with subprocess.Popen([RAIN, "worker", f"127.0.0.1:{stopped.control_port}", *options], env=stopped.env) as worker:
        try:
            wait_for(ready.exists, seconds=20)
            with Client("127.0.0.1", stopped.port).new_session("log", subworkers={"faults": faults}) as session:
                items = [Task("faults/steps", [blob(str(gate))], cpus=2)]
                items[0].keep_outputs()
                session.submit()
                assert items[0].output.fetch().get_bytes() == b"4"
                worker.terminate()
                worker.wait(20)
                items.append(Task("faults/steps", [blob(str(gate))]))
                items[1].keep_outputs()
                session.submit()
                assert items[1].output.fetch().get_bytes() == b"1"
            (log,) = logs.glob("subworkers/faults-*.log")
            assert "faults: debug: level 4" in log.read_text()
        finally:
            worker.kill()
