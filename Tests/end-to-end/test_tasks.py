"""Shell, C and Python tasks in one graph, and what a client learns when one of them fails."""

import os
import time

import pytest
from cluster import wait_for
from rain.client import Client, Output, Program, RainException, Task, TaskException, blob, remote, tasks


@pytest.fixture
def client(shared_cluster, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(shared_cluster.state))
    return Client("127.0.0.1", shared_cluster.port)


@pytest.fixture
def session(client, faults):
    with client.new_session("test", subworkers={"faults": faults}) as session:
        yield session


@remote()
def upper(ctx, text):
    return text.get_str().upper()


@remote()
def raising(ctx, text):
    ctx.debug("a debug line")
    raise ValueError(f"no good: {text.get_str()}")


@remote()
def dying(ctx):
    os._exit(9)


sort = Program(["sort"], stdin="text", stdout=Output("sorted"), name="sort")


def test_shell_c_and_python_meet_in_one_graph(session):
    text = blob("b\na\n")
    result = tasks.Concat([upper(Task("faults/echo", [sort(text=text)])), text])
    result.output.keep()
    session.submit()
    assert result.output.fetch().get_bytes() == b"A\nB\nb\na\n"


def test_large_data_crosses_all_kinds_of_tasks(session):
    data = bytes(range(256)) * 40_000  # 10 MB: no longer inside a message.
    passed = Task("faults/echo", [blob(data)])
    through = tasks.Execute(["cat"], stdin=passed, stdout="out")

    @remote()
    def reverse(ctx, value):
        return bytes(value.get_bytes())[::-1]

    result = reverse(through)
    result.output.keep()
    session.submit()
    assert result.output.fetch().get_bytes() == data[::-1]


def failure_text(session, task):
    session.submit()
    with pytest.raises(TaskException) as caught:
        session.wait_all()
    return str(caught.value)


def test_a_python_function_that_raises(session):
    text = failure_text(session, raising(blob("this")))
    for part in ("ValueError: no good: this", "in raising", "a debug line", "test_tasks.py", os.uname().nodename):
        assert part in text, text


def test_a_c_function_that_fails(session):
    text = failure_text(session, Task("faults/fail", [], name="parse/part 7"))
    for part in ("line 12 is no number", "about to fail", "parse/part 7", "test_tasks.py", os.uname().nodename):
        assert part in text, text


def test_a_program_that_fails(session):
    text = failure_text(session, tasks.Execute("echo bad luck >&2; exit 3", shell=True, name="unlucky"))
    for part in ("bad luck", "3", "unlucky", "test_tasks.py", os.uname().nodename):
        assert part in text, text


def test_a_method_that_the_subworker_does_not_have(session):
    assert "missing" in failure_text(session, Task("faults/missing", []))


def test_a_subworker_that_does_not_start(client):
    with client.new_session("test", subworkers={"ghost": "/no/such/program"}) as session:
        assert "/no/such/program" in failure_text(session, Task("ghost/walk", []))


def test_a_subworker_that_says_nothing(client):
    with client.new_session("test", subworkers={"mute": ["/bin/sh", "-c", "echo cannot start >&2; exit 4"]}) as session:
        assert "cannot start" in failure_text(session, Task("mute/speak", []))


def test_a_crash_costs_its_own_task_alone(client, faults, shared_cluster):
    with client.new_session("test", on_error="fail_descendants", subworkers={"faults": faults}) as session:
        Task("faults/crash", [])
        neighbours = [Task("faults/echo", [blob(str(i))]) for i in range(100)]
        for neighbour in neighbours:
            neighbour.output.keep()
        session.submit()
        values = [instance.get_str() for instance in session.fetch([task.output for task in neighbours])]
        assert values == [str(i) for i in range(100)]
        with pytest.raises(TaskException) as caught:
            session.wait_all()
        text = str(caught.value)
        assert "last words" in text
        assert "SIGSEGV" in text or "signal 11" in text
    assert len(shared_cluster.get("/api/v1/status")["workers"]) == 1


def test_a_crash_is_retried_as_often_as_the_task_says_and_each_is_told(client, faults):
    with client.new_session("test", on_error="fail_descendants", subworkers={"faults": faults}) as session:
        tasks = [Task("faults/crash", [], name=name) for name in ("none", "one", "many")]
        tasks[1].retries, tasks[2].retries = 1, 9
        assert [task.retries for task in tasks] == [0, 1, 9]
        session.submit()
        for task, count in zip(tasks, (1, 2, 3)):
            with pytest.raises(TaskException) as caught:
                task.wait()
            text = str(caught.value)
            assert text.count("last words") == count and text.count("SIGSEGV") == count + (count > 1), text
            assert (f"crashed {count} times" in text) == (count > 1)
            assert f"crash {count} of {count}" in text or count == 1
        with pytest.raises(RainException, match="can't be changed after the submit"):
            tasks[0].retries = 1


def test_what_must_not_run_twice_does_not(client, faults):
    with client.new_session("test", subworkers={"faults": faults}) as session:
        task = Task("faults/crash", [])
        task.retries, task.rerun = 9, "never"
        session.submit()
        with pytest.raises(TaskException) as caught:
            session.wait_all()
        assert str(caught.value).count("last words") == 1
        with pytest.raises(RainException, match="not 'sometimes'"):
            Task("faults/crash", []).rerun = "sometimes"
        with pytest.raises(RainException, match="not -1"):
            Task("faults/crash", []).retries = -1


def test_a_crash_spares_what_runs_beside_it(client, faults, tmp_path):
    with client.new_session("test", on_error="fail_descendants", subworkers={"faults": faults}) as session:
        path = blob(str(tmp_path / "crashed"))
        Task("faults/together", [path, blob("")], name="guilty")
        innocent = Task("faults/together", [path], name="innocent")
        innocent.output.keep()
        session.submit()
        assert innocent.output.fetch().get_str() == "alone"
        with pytest.raises(TaskException, match="SIGABRT") as caught:
            session.wait_all()
        assert "guilty" in str(caught.value)


@pytest.mark.parametrize(("count", "size"), [(60_000, 220), (12_000, 4_000), (1_000, 20_000), (4, 4_000)])
def test_any_number_of_small_outputs_comes_to_be(client, faults, count, size):
    """Those that fit into no message become files; another task gets all of them."""
    value = bytes(4) + bytes(range(256)) * 80
    with client.new_session("test", subworkers={"faults": faults}) as session:
        made = Task("faults/chatter", [blob(value[:size])], outputs=count)
        all_of_them = tasks.Concat(made.outputs)
        all_of_them.output.keep()
        made.keep_outputs()
        session.submit()
        wanted = [position.to_bytes(4, "little") + value[4:size] for position in range(count)]
        assert all_of_them.output.fetch().get_bytes() == b"".join(wanted)
        assert [result.get_bytes() for result in session.fetch(made.outputs)] == wanted


def test_one_input_can_be_every_output(client, faults):
    with client.new_session("test", subworkers={"faults": faults}) as session:
        same = Task("faults/mirror", [blob(b"x" * 4000)], outputs=10_000)
        same.keep_outputs()
        session.submit()
        assert {result.get_bytes() for result in session.fetch(same.outputs)} == {b"x" * 4000}


def test_a_python_process_that_dies(session):
    assert "9" in failure_text(session, dying())


def test_a_session_that_hangs_in_c_closes_at_once(shared_cluster, client, faults):
    session = client.new_session("test", subworkers={"faults": faults})
    with session.bind_only():
        for _ in range(3):
            Task("faults/hang", [], outputs=0)
        session.submit()
    wait_for(lambda: shared_cluster.get(f"/api/v1/sessions/{session.id}")["running"] > 0)
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 0.3


def test_two_sessions_at_once(client, faults):
    first = client.new_session("first", subworkers={"faults": faults})
    second = client.new_session("second", subworkers={"faults": faults})
    results = []
    for session in (first, second):
        with session.bind_only():
            outputs = [upper(blob(f"{session.name} {i}")).output for i in range(50)]
            for output in outputs:
                output.keep()
            session.submit()
            results.append(outputs)
    first_values = [instance.get_str() for instance in first.fetch(results[0])]
    first.close()
    assert first_values == [f"FIRST {i}" for i in range(50)]
    assert [instance.get_str() for instance in second.fetch(results[1])] == [f"SECOND {i}" for i in range(50)]
    second.close()
