"""What people do wrong in their first programs, and would not find by themselves, is said."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
from cluster import wait_for
from rain.client import (
    Client,
    RainException,
    RainWarning,
    SessionException,
    TaskException,
    TaskState,
    blob,
    cdll,
    tasks,
)
from rain.client.http import NotConnected, connect
from rain.client.session import modules_version, python_environment
from rain.client.warn import LEASE_THREAD, warn

UNSUBMITTED = pytest.mark.filterwarnings("ignore:.*never submitted")


def told(recwarn) -> list:
    return [str(warning.message) for warning in recwarn if warning.category is RainWarning]


# The end of a session.


def test_a_session_that_ends_before_its_tasks_says_so(client, recwarn):
    with client.new_session("short"):
        tasks.Sleep(blob("x"), 30)
        client_session = tasks.Sleep(blob("x"), 30).session
        client_session.submit()
    (text,) = told(recwarn)
    assert "'short' ends with 2 of 2 tasks unfinished" in text and "session.wait_all()" in text
    assert recwarn[0].filename == __file__


def test_a_session_that_ends_with_tasks_that_were_not_submitted_says_so(client, recwarn):
    with client.new_session("forgotten") as session:
        tasks.Sleep(blob("x"), 0).output.keep()
        session.wait_all()
    (text,) = told(recwarn)
    assert "ends with 1 of 1 tasks never submitted: call session.submit()" in text


def test_a_failure_that_nobody_waited_for_is_told_at_the_end(client, recwarn):
    with client.new_session("unseen") as session:
        tasks.Execute(["false"])
        session.submit()
        wait_for(lambda: any(s["state"] == "failed" for s in client.status()["sessions"]))
    (text,) = told(recwarn)
    assert "nobody has waited for what failed in it: task 0 (builtin/run)" in text and "exited with code 1" in text


def test_nothing_is_told_of_tasks_that_are_done_with(client, recwarn):
    for _ in range(20):
        with client.new_session("done") as session:
            last = tasks.Concat([tasks.Concat([blob("x")]), tasks.Concat([blob("y")])])
            last.output.keep()
            session.submit()
            assert last.output.fetch().get_str() == "xy"
    with client.new_session("cancelled") as session:
        task = tasks.Sleep(blob("x"), 30)
        session.submit()
        session.cancel()
        assert task.state == TaskState.cancelled
    with pytest.raises(KeyError), client.new_session("broken"):
        tasks.Sleep(blob("x"), 30).session.submit()
        raise KeyError
    assert told(recwarn) == []


FAILURE = {"task": 0, "type": "builtin/concat", "cause": "user", "message": "it broke"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ({"session_failed": FAILURE}, "nobody has waited for what failed in it: .*it broke"),
        ({"closed": "enough"}, "enough"),
    ],
)
def test_an_end_that_only_the_thread_has_heard_of_is_told(paper, paper_client, monkeypatch, recwarn, line, text):
    monkeypatch.setattr("rain.client.outcomes.UNREAD_SECONDS", 0.05)
    for is_heard in (False, True):
        paper.lines.clear()
        with paper_client.new_session("ended") as session:
            tasks.Concat(())
            session.submit()
            paper.say(**line)
            wait_for(lambda: session._outcomes.failure or session._outcomes.closed_reason)
            if is_heard:
                with pytest.raises(SessionException):
                    session.wait_all()
        assert len(told(recwarn)) == 1 and re.search(text, told(recwarn)[0])


@pytest.mark.parametrize("hear", [lambda session, task: task.output.fetch(), lambda session, task: session.wait_all()])
def test_a_failure_that_was_caught_is_not_told_again(client, recwarn, hear):
    with client.new_session("caught") as session:
        task = tasks.Execute(["false"], stdout=True)
        task.output.keep()
        session.submit()
        with pytest.raises(TaskException):
            hear(session, task)
    assert told(recwarn) == []


def test_a_session_is_closed_where_warnings_are_errors(client):
    with warnings.catch_warnings(), pytest.raises(RainWarning, match="unfinished"):
        warnings.simplefilter("error", RainWarning)
        with client.new_session("strict") as session:
            tasks.Sleep(blob("x"), 30)
            session.submit()
    assert not session.active and all(s["name"] != "strict" for s in client.status()["sessions"])


def test_outputs_of_a_task_without_any_are_waited_for(client):
    with client.new_session("none") as session:
        good, bad = tasks.Execute(["true"]), tasks.Execute(["false"])
        session.submit()
        with pytest.raises(TaskException, match="exited with code 1"):
            bad.fetch_outputs()
    with client.new_session("none") as session:
        good = tasks.Execute(["true"])
        session.submit()
        assert good.fetch_outputs() == [] and good.state == TaskState.finished


def test_a_client_can_be_opened_by_with_or_left_to_itself(client, cluster, recwarn):
    gc.collect()  # What other tests have left.
    recwarn.clear()
    with Client("127.0.0.1", cluster.port) as short:
        assert short.status()["workers"]
    assert not short._idle
    left = Client("127.0.0.1", cluster.port)
    with left.new_session("left"):
        pass
    assert left._idle
    del left
    gc.collect()
    assert [warning for warning in recwarn if warning.category is ResourceWarning] == []


# While it waits.


class Clock:
    """Raises an error of the program's own in the middle of a wait."""

    def __enter__(self):
        def ring(number, frame):
            raise TimeoutError("the program's own")

        self.before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, 0.2)

    def __exit__(self, *_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self.before)


@pytest.mark.filterwarnings("ignore:.*unfinished")
@pytest.mark.parametrize("wait", [lambda task: task.output.fetch(), lambda task: task.wait()])
def test_an_alarm_of_the_program_ends_a_wait(client, wait):
    """It is an OSError too, and no broken connection."""
    with client.new_session("alarm") as session:
        task = tasks.Sleep(blob("x"), 30)
        task.output.keep()
        session.submit()
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match="the program's own"), Clock():
            wait(task)
        assert time.monotonic() - begin < 5
        session.cancel()


def test_a_hint_shows_the_line_that_waits(paper, paper_client, monkeypatch, recwarn):
    """Also while the program waits for something else than news of its tasks."""
    monkeypatch.setattr("rain.client.outcomes.UNREAD_SECONDS", 0.05)
    with paper_client.new_session("hinted") as session:
        tasks.Concat(())
        session.submit()
        paper.say(hint={"number": 1, "message": "tasks wait in vain"})
        wait_for(lambda: told(recwarn))
        paper.finish(0)
        session.wait_all()
    assert told(recwarn) == ["session 1: tasks wait in vain"]
    assert os.path.basename(recwarn[0].filename) in ("cluster.py", "test_mistakes.py")


def test_a_warning_of_another_thread_shows_the_line_of_the_program(monkeypatch, recwarn):
    """Where the program waits in a module of Python's own, too."""
    told_it = threading.Event()

    def say():
        assert connecting.wait(10)
        warn("from afar")
        told_it.set()

    def create_connection(*arguments):
        connecting.set()
        assert told_it.wait(10)
        raise OSError("not today")

    connecting = threading.Event()
    monkeypatch.setattr("socket.create_connection", create_connection)
    thread = threading.Thread(target=say, name=LEASE_THREAD)
    thread.start()
    with pytest.raises(NotConnected):
        connect("localhost", 1)
    thread.join()
    assert [(str(w.message), w.filename) for w in recwarn] == [("from afar", __file__)]


# Modules.


def test_a_module_that_was_edited_is_another_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "edited_by_a_test.py"
    before = modules_version()
    module.write_text("value = 1\n")
    assert modules_version() == before, "nobody has imported it"
    __import__(module.stem)
    imported = modules_version()
    assert imported != before and modules_version() == imported
    module.write_text("value = 10\n")
    assert modules_version() != imported
    del sys.modules[module.stem]
    assert modules_version() == before


def test_packages_that_a_variable_names_are_found_by_tasks(tmp_path, monkeypatch):
    named, other = tmp_path / "named/site-packages", tmp_path / "other/site-packages"
    for path in (named, other):
        path.mkdir(parents=True)
        monkeypatch.syspath_prepend(str(path))
    monkeypatch.setenv("PYTHONPATH", f"{named}:/nowhere")
    (paths,) = [entry for entry in python_environment() if entry.startswith("PYTHONPATH=")]
    assert str(named) in paths and str(other) not in paths and "/nowhere" not in paths


PROGRAM = """
import sys
import helper
from rain.client import Client, remote

@remote
def value(ctx):
    return helper.value

with Client("localhost", int(sys.argv[1])).new_session("modules") as session:
    task = value()
    task.output.keep()
    session.submit()
    print(task.output.fetch().get_str())
"""


def test_a_module_that_was_edited_is_imported_anew(cluster, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    for value in ("one", "three"):
        (tmp_path / "helper.py").write_text(f"value = {value!r}\n")
        command = [sys.executable, program, str(cluster.port)]
        result = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=60)
        assert (result.stdout, result.stderr) == (value + "\n", "")


# Words, names.


@UNSUBMITTED
@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["echo", "a\0b"], r"'a\\x00b' can't be a word of a command: no word has a NUL"),
        (["cat", "/data/\udc80"], "text that UTF-8 can't write, such as a file name of other bytes"),
        ("echo 'a b", "the command \"echo 'a b\" can't be split into words: No closing quotation"),
    ],
)
def test_a_word_that_no_command_can_have_is_refused(paper_client, command, text):
    with paper_client.new_session("words"):
        with pytest.raises(RainException, match=text):
            tasks.Execute(command, stdout=True)
        if isinstance(command, list):
            with pytest.raises(RainException, match=text):
                tasks.Execute(command, stdout=True, env={"A": "b"})
        tasks.Execute(["echo", "\N{SNOWMAN}\N{GRINNING FACE}\\ud800"]).session.submit()


def test_what_is_no_json_is_shown(paper_client):
    with paper_client.new_session("json"), pytest.raises(RainException, match=r"\{'seconds': nan\} must be JSON"):
        tasks.Sleep(blob("x"), float("nan"))


@UNSUBMITTED
def test_a_label_that_is_not_there_names_those_that_are(paper_client):
    with paper_client.new_session("labels"):
        task = tasks.Execute(["true"], stdout="text", output_paths=["made"])
        with pytest.raises(KeyError, match="there is no 'texts': there are 'text', 'made'"):
            task.outputs["texts"]


@pytest.mark.parametrize(
    ("file", "name"), [('/tmp/ö/"lib näme\\.so', "_lib_n_me_"), ("3d.so.1", "_3d"), ("a-b.so", "a_b")]
)
def test_a_library_of_any_file_name_has_a_name_in_c(file, name):
    assert cdll(file).name == name
    assert cdll(file).function("int f(void)").task_type == f"ffi/{name}/f"
