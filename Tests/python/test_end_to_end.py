"""The Python package with a real server and worker."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy
import pytest
from rain.client import (
    DataObjectState,
    Input,
    Output,
    Program,
    RainException,
    TaskException,
    TaskState,
    blob,
    pickled,
    remote,
    tasks,
)


@pytest.fixture
def session(client):
    with client.new_session("test") as session:
        yield session


def fetched(task):
    """Submits, and returns the bytes of the task's only output."""
    task.output.keep()
    task.session.submit()
    return task.output.fetch().get_bytes()


def failure(session) -> TaskException:
    session.submit()
    with pytest.raises(TaskException) as caught:
        session.wait_all()
    return caught.value


# Sessions, building, waiting.


def test_the_server_knows_its_workers(client):
    info = client.get_server_info()
    assert [worker["cpus"] for worker in info["workers"]] == [2] == [g["cpus"] for g in info["governors"]]


def test_states_follow_the_task(session):
    task = tasks.Sleep(blob("x"), 0.1)
    task.output.keep()
    assert task.state is None
    session.submit()
    assert (task.state, task.output.state) == (TaskState.notAssigned, DataObjectState.unfinished)
    task.wait()
    assert (task.state, task.output.state) == (TaskState.finished, DataObjectState.finished)


def test_nothing_runs_before_the_submit(session, tmp_path):
    path = tmp_path / "file"
    tasks.Store(blob("x"), path)
    time.sleep(0.1)
    assert not path.exists()
    session.submit()
    session.wait_all()
    assert path.read_bytes() == b"x"


def test_submitting_nothing_is_fine(session):
    session.submit()
    session.wait_all()
    session.submit()


def test_later_submits_use_earlier_objects(session):
    constant = blob("a")
    kept = tasks.Concat((constant, constant))
    kept.output.keep()
    slow = tasks.Sleep(kept, 0.1)
    slow.output.keep()
    session.submit()
    assert fetched(tasks.Concat((kept, slow, constant))) == b"aaaaa"


def test_an_object_that_was_let_go_makes_a_later_submit_fail(session):
    gone = tasks.Concat((blob("a"),))
    session.submit()
    session.wait_all()
    tasks.Concat((gone,))
    with pytest.raises(RainException):
        session.submit()
    assert fetched(tasks.Concat((blob("b"),))) == b"b"


def test_a_chain_of_sleeps_takes_its_time(session):
    value = blob("x")
    for _ in range(3):
        value = tasks.Sleep(value, 0.2)
    start = time.monotonic()
    session.submit()
    value.wait()
    assert 0.55 <= time.monotonic() - start <= 1


def test_waits_of_many_threads(session):
    items = [tasks.Sleep(blob(str(i)), 0.05 * (i % 3)) for i in range(9)]
    session.submit()
    threads = [threading.Thread(target=item.wait) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert all(item.state == TaskState.finished for item in items)


def test_many_results_come_in_bulk(session):
    items = [tasks.Concat((blob(str(i)),)) for i in range(3000)]
    session.keep_all()
    session.submit()
    assert [value.get_str() for value in session.fetch(items)] == [str(i) for i in range(3000)]
    assert items[5].output.fetch().get_bytes() == b"5"


def test_large_objects_are_exact(session):
    data = os.urandom(1_000_003) * 27
    assert fetched(tasks.Concat((blob(data), blob(b""), blob(b"x")))) == data + b"x"


def test_constants_can_be_fetched(session):
    small, large = blob(b""), blob(bytes(100_000))
    session.submit()
    assert small.fetch().get_bytes() == b"" and large.fetch().get_bytes() == bytes(100_000)


def test_fetch_needs_keep_and_the_session_stays_healthy(session):
    task = tasks.Concat((blob("a"),))
    session.submit()
    with pytest.raises(RainException, match="kept"):
        task.output.fetch()
    assert fetched(tasks.Concat((blob("b"),))) == b"b"


def test_unkept_objects_go(session):
    task = tasks.Concat((blob("a"),))
    task.output.keep()
    session.submit()
    task.wait()
    task.output.unkeep()
    assert task.output.state == DataObjectState.removed
    tasks.Concat((task,))
    with pytest.raises(RainException):
        session.submit()


def test_update_brings_info(session):
    task = tasks.Sleep(blob("x"), 0.2)
    task.output.keep()
    session.submit()
    session.wait_all()
    assert task.info is None and task.output.info is None
    session.update([task, task.output])
    assert task.info.duration >= 0.2 and task.info.worker == task.info.governor is not None
    assert abs(task.info.start_time - time.time()) < 60 and task.info.error is None
    assert task.output.info.size == 1 and task.output.content_type == "text"


def test_closing_a_session_stops_what_runs(client):
    session = client.new_session("doomed")
    with session.bind_only():
        for _ in range(2):
            tasks.Execute("sleep 30")
    session.submit()
    time.sleep(0.2)
    start = time.monotonic()
    session.close()
    with client.new_session("next"):
        assert fetched(tasks.Concat((blob("x"),))) == b"x"
    assert time.monotonic() - start < 0.4


def test_cancelled_tasks_say_so(client):
    with client.new_session("test", on_error="fail_descendants") as session:
        task = tasks.Execute("sleep 30")
        session.submit()
        time.sleep(0.1)
        session.cancel(task)
        with pytest.raises(TaskException, match="cancel"):
            task.wait()
        assert task.state == TaskState.cancelled


# Built-in tasks and programs.


def test_load_and_store(session, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(os.urandom(11_000_000))
    loaded = tasks.Load(source)
    tasks.Store(loaded, tmp_path / "copy")
    assert fetched(loaded) == source.read_bytes()
    session.wait_all()
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_load_of_a_missing_file_fails(session):
    tasks.Load("/no/such/file")
    assert "/no/such/file" in str(failure(session))


def test_concat_of_nothing_is_empty(session):
    assert fetched(tasks.Concat(())) == b""


def test_execute_maps_files_in_and_out(session):
    text = blob("b\na\n")
    task = tasks.Execute(
        ["sh", "-c", 'sort "$1" > "$2"; cat extra > copies; printf done', "-", text, Output("sorted")],
        input_paths=[Input("extra", dataobj=blob("more"))],
        output_paths=["copies"],
        stdout=True,
    )
    task.keep_outputs()
    session.submit()
    out, ordered, copies = task.fetch_outputs()
    assert (out.get_bytes(), ordered.get_bytes(), copies.get_bytes()) == (b"done", b"a\nb\n", b"more")
    assert task.outputs["sorted"].fetch().get_bytes() == b"a\nb\n"


def test_the_shell_expands_and_without_it_nothing_does(session):
    plain = tasks.Execute(["echo", "$HOME"], stdout=True)
    shell = tasks.Execute("echo $RAIN_TEST", shell=True, stdout=True, env={"RAIN_TEST": "expanded"})
    session.keep_all()
    session.submit()
    assert [value.get_str() for value in session.fetch([plain, shell])] == ["$HOME\n", "expanded\n"]


def test_equal_labels_do_not_collide(session):
    assert fetched(tasks.Execute(["cat", blob("a"), blob("b")], stdout=True)) == b"ab"


def test_a_private_copy_may_be_written(session):
    original = blob("old")
    changed = tasks.Execute(
        "echo new > file; cat file", shell=True, stdout=True, input_paths=[Input("file", dataobj=original, write=True)]
    )
    same = tasks.Concat((original, changed))
    assert fetched(same) == b"oldnew\n"


def test_two_cpus_are_one_program_at_a_time(session):
    items = [tasks.Execute("sleep 0.2", cpus=2) for _ in range(2)]
    start = time.monotonic()
    session.submit()
    session.wait(items)
    assert time.monotonic() - start >= 0.4


def test_a_program_is_reused(session):
    grep = Program(["grep", "-c", "x", Input("text")], stdout="count")
    items = [grep(text=blob("x\n" * i)) for i in range(1, 5)]
    session.keep_all()
    session.submit()
    assert [value.get_bytes() for value in session.fetch(items)] == [b"1\n", b"2\n", b"3\n", b"4\n"]


def test_stdin_of_a_program(session):
    count = Program(["wc", "-c"], stdin="data", stdout="size")
    assert fetched(count(data=blob(bytes(1_000_000)))).strip() == b"1000000"


def test_a_failing_program_tells_all(session):
    tasks.Execute("echo some words >&2; exit 3", shell=True, name="group/failing")
    error = failure(session)
    assert error.exit_code == 3 and error.name == "group/failing" and error.host == os.uname().nodename
    for part in ("some words", "3", "group/failing", "test_end_to_end.py:"):
        assert part in str(error)


def test_a_missing_program_fails(session):
    tasks.Execute(["/no/such/program"])
    assert "/no/such/program" in str(failure(session))


def test_a_missing_output_names_its_path(session):
    tasks.Execute(["true"], output_paths=["never-made"])
    assert "never-made" in str(failure(session))


# Python tasks.


@remote()
def shout(ctx, text):
    return text.get_str().upper()


@remote(auto_encode="pickle", auto_load=True)
def add(ctx, *values):
    return sum(values)


def test_a_function_of_bytes_and_text(session):
    result = shout(shout(blob("hello")))
    result.output.keep()
    session.submit()
    instance = result.output.fetch()
    assert (instance.get_bytes(), instance.content_type, instance.load()) == (b"HELLO", "text", "HELLO")


def test_values_arrive_as_they_are(session):
    result = add(1, pickled(10), add(100, add(1000)))
    result.output.keep()
    session.submit()
    assert result.output.fetch().load() == 1111


def test_objects_anywhere_in_the_arguments(session):
    hidden, default = blob("hidden"), blob("last")

    @remote()
    def gather(ctx, items, function, last=default):
        return b" ".join([items["a"][0].get_bytes(), function(), hidden.get_bytes(), last.get_bytes()])

    a, b = blob("a"), tasks.Concat((blob("b"),))
    assert fetched(gather({"a": [a]}, lambda: b.get_bytes())) == b"a b hidden last"


def test_several_outputs_by_position_and_label(session):
    @remote(outputs=["x", Output("y", encode="json")])
    def both(ctx, by_label):
        return {"y": [2], "x": "one"} if by_label else ("one", [2])

    items = [both(False), both(True)]
    session.keep_all()
    session.submit()
    for item in items:
        x, y = item.fetch_outputs()
        assert (x.get_bytes(), y.load()) == (b"one", [2])


def test_large_arrays_pass_through_functions(session):
    @remote(auto_encode="pickle")
    def make(ctx, n):
        return numpy.arange(n, dtype=numpy.int64)

    @remote(auto_encode="pickle", auto_load=True)
    def double(ctx, array):
        array *= 2
        return array

    made = make(2_000_000)
    results = [double(made), double(made)]
    for result in results:
        result.output.keep()
    session.submit()
    for value in session.fetch(results):
        assert (value.load() == numpy.arange(2_000_000) * 2).all()


def test_large_direct_arguments(session):
    array = numpy.ones(500_000)

    @remote()
    def total(ctx, a, b):
        return f"{a.sum() + b}"

    assert fetched(total(array, 1)) == b"500001.0"


def test_a_function_is_loaded_once_in_a_process(client):
    with client.new_session("one by one") as session:

        @remote()
        def count(ctx, before):
            count.function.calls = getattr(count.function, "calls", 0) + 1
            return f"{before.get_str()} {os.getpid()}"

        value = blob("", encode="text")
        for _ in range(31):
            value = count(value)
        pids = fetched(value).split()
        assert len(pids) == 31 and len(set(pids)) <= 2
        session.wait_all()


def test_attributes_both_ways(session):
    @remote()
    def f(ctx, a):
        ctx.info.user["seen"] = [ctx.spec.user["k"], 1.5, True]
        a.info.user["more"] = "x"
        return a

    task = f(blob("x"))
    task.spec.user = {"k": "v"}
    task.output.keep()
    session.submit()
    instance = task.output.fetch()
    task.update()
    assert task.info.user == {"seen": ["v", 1.5, True]}
    assert instance.get_bytes() == b"x" and instance.info.user["more"] == "x" == task.output.info.user["more"]


def test_attributes_of_an_input_reach_the_task(session):
    @remote()
    def tag(ctx):
        result = ctx.blob(b"y" * 10_000)
        result.attributes["made"] = "here"
        return result

    @remote()
    def seen(ctx, *inputs):
        return ";".join(str(sorted(each.attributes.items())) for each in inputs)

    constant = blob("x")
    constant.attributes = {"unit": "m", "n": 5}
    made = tag()
    text = fetched(seen(constant, made, blob("plain")))
    assert text == b"[('n', 5), ('unit', 'm')];[('made', 'here')];[]"


def test_a_program_changes_a_file_in_place(session):
    data = blob("c\nb\na\n")
    task = tasks.Execute(
        "sort -o data.txt data.txt",
        shell=True,
        input_paths=[Input("data", path="data.txt", dataobj=data)],
        output_paths=["data.txt"],
    )
    assert fetched(task) == b"a\nb\nc\n"


def test_debug_lines_are_in_the_info(session):
    @remote()
    def f(ctx):
        ctx.debug("first {}", 1)
        ctx.debug("second {x}", x=2)
        return b""

    task = f()
    session.submit()
    session.wait_all()
    task.update()
    assert task.info.debug == "first 1\nsecond 2"


def test_an_exception_tells_all(session):
    @remote()
    def broken(ctx):
        ctx.debug("almost there")
        return {}["missing key"]

    task = broken()
    task.output.keep()
    error = failure(session)
    assert error.name == "broken" and error.type == "py/call" and error.cause == "user"
    for part in ("KeyError", "missing key", "in broken", "almost there", "test_end_to_end.py:", os.uname().nodename):
        assert part in str(error)
    for action in (task.wait, task.output.fetch, task.update, session.wait_all):
        with pytest.raises(TaskException, match="missing key"):
            action()


def test_other_sessions_go_on_after_a_failure(client):
    with client.new_session("good") as good:
        slow = tasks.Sleep(blob("x"), 0.3)
        slow.output.keep()
        good.submit()
        for _ in range(3):
            with client.new_session("bad") as bad:
                tasks.Execute("false")
                failure(bad)
        assert slow.output.fetch().get_bytes() == b"x"


def test_a_result_that_can_not_be_turned_into_bytes_fails(session):
    @remote()
    def f(ctx):
        return 5

    f()
    assert "type int" in str(failure(session))


def test_a_process_that_dies_says_how(session):
    @remote()
    def f(ctx):
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

    f()
    error = failure(session)
    assert error.cause == "crash" and error.signal == signal.SIGKILL and "last words" in str(error)


def test_only_what_depends_on_a_failure_fails_where_that_is_asked(client):
    with client.new_session("test", on_error="fail_descendants") as session:
        bad = tasks.Execute("exit 7", shell=True, stdout=True)
        below = tasks.Concat((bad,))
        good = tasks.Concat((blob("x"),))
        good.output.keep()
        session.submit()
        assert good.output.fetch().get_bytes() == b"x"
        for task in (bad, below):
            with pytest.raises(TaskException):
                task.wait()
        with pytest.raises(TaskException, match="7"):
            session.wait_all()


# The program around it.


def test_a_whole_program_and_its_modules(cluster, client, tmp_path):
    """A program of its own process: functions of `__main__`, classes, and a module beside it."""
    (tmp_path / "beside.py").write_text("def triple(x):\n    return 3 * x\n")
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, beside\n"
        "from rain.client import Client, remote\n"
        "class Point:\n"
        "    def __init__(self, x): self.x = x\n"
        "@remote(auto_load=True, auto_encode='pickle')\n"
        "def move(ctx, point): return Point(beside.triple(point.x))\n"
        "with Client('localhost', int(sys.argv[1])).new_session('program') as session:\n"
        "    moved = move(move(Point(2)))\n"
        "    moved.output.keep()\n"
        "    session.submit()\n"
        "    result = moved.output.fetch().load()\n"
        "    print(type(result) is Point, result.x)\n"
    )
    result = subprocess.run(
        [sys.executable, program, str(cluster.port)], env=cluster.env, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == "True 18\n", result.stderr


def test_a_client_that_is_killed_leaves_nothing_running(cluster, client, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, time\n"
        "from rain.client import Client, tasks\n"
        "session = Client('localhost', int(sys.argv[1])).new_session('killed', grace=0.1)\n"
        "with session.bind_only():\n"
        "    tasks.Execute('sleep 4321')\n"
        "session.submit()\n"
        "print('submitted', flush=True)\n"
        "session.wait_all()\n"
    )
    process = subprocess.Popen([sys.executable, program, str(cluster.port)], env=cluster.env, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"submitted\n"

    def sleepers():
        return [pid for pid, command in cluster.processes().items() if "4321" in command and "sleep" in command]

    deadline = time.monotonic() + 5
    while not sleepers() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sleepers()
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 5
    while sleepers() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not sleepers()


def test_imports_are_light():
    text = subprocess.run(
        [sys.executable, "-c", "import sys, json, rain.client; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        check=True,
    ).stdout
    heavy = {"numpy", "cloudpickle", "http.client", "urllib3", "requests", "asyncio", "inspect", "ssl", "logging"}
    assert not heavy & set(json.loads(text))
