"""Which worker gets a task, what a client hears that waits in vain, and what comes of a task that ends its workers."""

import os
import signal
import subprocess
import time
import warnings

import pytest
from cluster import RAIN, ROOT, ndjson, run_program, wait_for
from rain.client import Client, RainWarning, Task, TaskException, blob, remote


@pytest.fixture
def client(cluster, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
    return Client("127.0.0.1", cluster.port)


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    program = tmp_path_factory.mktemp("faults") / "faults"
    source = ROOT / "Tests/end-to-end/faults.c"
    command = [
        "cc",
        "-std=gnu11",
        f"-I{ROOT / 'build/include'}",
        source,
        ROOT / "build/lib/libcsubworker.a",
        "-o",
        program,
    ]
    subprocess.run(command, check=True)
    return str(program)


@remote()
def killing(ctx):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


@remote()
def fine(ctx):
    return b"fine"


def test_a_task_waits_with_a_warning_for_a_worker_that_offers_its_subworker(client, cluster, faults, tmp_path):
    with client.new_session("waits") as session:
        waiting = [Task("faults/echo", [blob(b"hello")]) for _ in range(3)]
        other = fine()
        for task in [*waiting, other]:
            task.output.keep()
        session.submit()
        assert other.output.fetch().get_bytes() == b"fine"
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            begin = time.monotonic()
            joining = None
            while joining is None:
                session._outcomes.take_waiting()
                time.sleep(0.05)
                assert time.monotonic() - begin < 10, "no warning came"
                status = cluster.rain("status").stdout
                if told:
                    command = [RAIN, "worker", f"127.0.0.1:{cluster.control_port}", "--subworker", f"faults={faults}"]
                    options = ["--work-dir", tmp_path / "w2", "--log-dir", tmp_path / "l2", "--cpus", "1"]
                    joining = subprocess.Popen([*map(str, command), *map(str, options)], env=cluster.env)
            try:
                session.wait_all()
            finally:
                joining.terminate()
                joining.wait(10)
        texts = [str(warning.message) for warning in told if warning.category is RainWarning]
        assert len(texts) == 1, texts
        for part in (
            "faults/echo",
            "no connected worker offers subworker 'faults'",
            "offers ffi",
            "--subworker faults=COMMAND",
        ):
            assert part in texts[0]
        assert "no connected worker offers subworker 'faults'" in status
        assert [task.output.fetch().get_bytes() for task in waiting] == [b"hello"] * 3


def test_a_python_task_that_kills_its_workers_is_given_up_and_others_go_on(client, cluster):
    with client.new_session("kills", on_error="fail_descendants") as session:
        bad = killing()
        session.submit()
        with pytest.raises(TaskException) as caught:
            bad.wait()
        assert "3 workers were lost while they ran the task" in str(caught.value)
        assert str(caught.value).count("signal 9 (SIGKILL)") == 3
        good = fine()
        good.output.keep()
        session.submit()
        assert good.output.fetch().get_bytes() == b"fine"
    log = "".join(path.read_text() for path in cluster.log.rglob("worker*.log"))
    assert log.count("SIGKILL) while it ran task") == 3


def test_so_is_a_program(cluster):
    session = cluster.session(on_error="fail_descendants")
    cluster.post(
        f"{session}/submit", ndjson(run_program("kill -9 $PPID; sleep 60", shell=True, outputs=()), [0, [], None])
    )
    wait_for(lambda: cluster.get(session)["failed"] == 1, seconds=30)
    task = cluster.post(f"{session}/info", {"tasks": [[0, 1]]})["tasks"][0]
    assert task["failure"]["cause"] == "worker_lost"
    assert "3 workers were lost while they ran the task" in task["failure"]["message"]
    cluster.call("DELETE", session)
