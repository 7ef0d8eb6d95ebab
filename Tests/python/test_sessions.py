"""Sessions, submits and waits, against a server on paper."""

import base64
import gc
import hashlib
import json
import threading
import time
import types

import pytest
from rain.client import (
    Client,
    DataObjectState,
    Progress,
    RainException,
    SessionException,
    Task,
    TaskException,
    TaskState,
    blob,
    get_active_session,
    pickled,
    remote,
    tasks,
)
from rain.client.access import parse_token
from rain.client.results import parse_results, ranges
from rain.common import decode_value

# Most look at what is made, and submit nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*never submitted")


@pytest.fixture
def session(paper_client):
    with paper_client.new_session("test") as session:
        yield session


def test_the_token_is_found_in_the_access_file():
    client = '[client] # people\n# token = "no"\ntokens = "no"\ntoken="yes" # here\n'
    text = '[server]\ntoken = "no"\n' + client + '[worker]\ntoken = "no"'
    assert parse_token(text) == "yes"
    assert parse_token("[client]\ntoken = ") is None
    assert parse_token("token = 'x'") is None


def test_without_access_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("RAIN_ACCESS", str(tmp_path / "none"))
    with pytest.raises(RainException, match="rain start"):
        Client("127.0.0.1", 1)


def test_a_refused_token_is_said(paper, tmp_path):
    (tmp_path / "access.toml").write_text("[client]\ntoken = 'wrong'\n")
    with pytest.raises(RainException, match="refused the token"):
        Client("127.0.0.1", paper.port)


def test_a_function_whose_submit_was_refused_is_sent_again(paper, session):
    @remote()
    def shout(ctx, text):
        return text

    for message in ("no room", "still none"):
        shout("a")
        paper.refuse("submit", 507, message)
        with pytest.raises(RainException, match=message):
            session.submit()
    paper.refusals.clear()
    for _ in range(2):
        shout("b")
        session.submit()
    assert [template["constants"] for template in paper.templates()] == [[0]] and len(paper.objects()) == 1
    assert [row[0] for row in paper.rows()] == [0, 0]


def test_what_is_no_json_is_found_before_anything_is_sent_and_can_be_mended(paper, session):
    word = blob(b"a")
    first, second = (tasks.Concat([word]) for _ in range(2))
    second.attributes = {"when": object()}
    word.attributes = {"size": float("nan")}
    for node in (word, second):
        with pytest.raises(RainException, match="the attributes of .*must be JSON"):
            session.submit()
        node.attributes = {"mended": True}
    assert not paper.submits and session.task_count == 2
    session.submit()
    third = tasks.Concat([word])
    session.submit()
    assert [first.id, second.id, third.id] == [0, 1, 2]
    assert [row[:2] for row in paper.rows()] == [[0, [0]], [1, [0]], [2, [0]]]
    assert [submit[0]["submit"]["first_task"] for submit in paper.submits] == [0, 2]


def test_numbers_become_ranges():
    assert ranges([3, 4, 5, 9, 8, 8]) == [[3, 3], [9, 1], [8, 1], [8, 1]]
    assert ranges([]) == []


def test_cut_off_results_are_an_error():
    from paper_server import row

    data = row(1, b"hello", content_type="text")
    assert next(parse_results(data)) == (1, 0, 0, "text", 5, b"hello")
    for size in range(1, len(data)):
        with pytest.raises(RainException, match="cut off"):
            list(parse_results(data[:size]))


@pytest.mark.parametrize("sent", [[], [1], [1, 3], [2, 1], [1, 2, 3]])
def test_results_of_other_objects_than_were_asked_for_are_an_error(sent):
    from paper_server import row
    from rain.client.results import Results

    class Session:
        def _request(self, *_, **__):
            return types.SimpleNamespace(body=b"".join(row(number) for number in sent))

    with pytest.raises(RainException, match="other results than those 2"):
        list(Results(Session())._rows([1, 2]))


def test_after_a_fetch_an_object_knows_its_size_and_content_type(paper, paper_client):
    paper.results = {0: b"hello"}
    paper.content_types = {0: "text"}
    with paper_client.new_session() as session:
        output = Task("a/b").output
        output.keep()
        session.submit()
        paper.finish(0)
        assert output.info is None
        assert session.fetch(output).get_str() == "hello"
        assert (output.info.size, output.info.content_type, output.content_type) == (5, "text", "text")
        assert output.info is output.info


def test_sessions_stack(paper_client):
    with pytest.raises(RainException):
        get_active_session()
    with pytest.raises(RainException):
        blob("x")
    with paper_client.new_session("a") as a:
        assert get_active_session() is a
        with paper_client.new_session("b") as b:
            assert get_active_session() is b and a.session_id != b.session_id
        assert not b.active and a.active
        assert get_active_session() is a
    assert not a.active
    with pytest.raises(RainException):
        a.__enter__()


def test_bind_only_leaves_the_session_open(paper_client):
    session = paper_client.new_session("a")
    with session.bind_only() as same:
        assert same is session is get_active_session()
    assert session.active
    session.close()
    session.close()


def test_a_default_session_serves_where_no_with_is_open(paper_client):
    default = paper_client.new_session("default", default=True)
    assert get_active_session() is default
    with paper_client.new_session("other") as other:
        assert get_active_session() is other
    assert get_active_session() is default
    default.close()
    with pytest.raises(RainException):
        get_active_session()


def test_each_thread_has_the_session_of_its_own_with(paper_client):
    """Two threads whose `with` statements begin and end in turn; one that has none works in what another is in."""
    begun, go_on = threading.Event(), threading.Event()
    seen = {}

    def run():
        with paper_client.new_session("second") as session:
            begun.set()
            go_on.wait(10)
            seen["second"] = (get_active_session() is session, tasks.Concat(()).session is session)

    with paper_client.new_session("first") as first:
        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(10)
        assert get_active_session() is first
        seen["first"] = tasks.Concat(()).session is first
        helper = threading.Thread(target=lambda: seen.update(helper=get_active_session().name))
        helper.start()
        helper.join()
    go_on.set()
    thread.join()
    assert seen == {"first": True, "second": (True, True), "helper": "second"}
    with pytest.raises(RainException):
        get_active_session()


def test_a_with_may_end_in_another_thread(paper_client):
    session = paper_client.new_session("a")
    with paper_client.new_session("b") as outer:
        session.__enter__()
        with session.bind_only():
            pass
        thread = threading.Thread(target=session.__exit__, args=(None, None, None))
        thread.start()
        thread.join()
        assert get_active_session() is outer
    with pytest.raises(RainException):
        get_active_session()


def test_the_session_brings_its_interpreter_and_programs(paper, paper_client):
    import sys

    paper_client.new_session(
        "s", subworkers={"a": "/a", "b": ["/b", "-x"]}, on_error="fail_descendants", grace=2
    ).close()
    opened = paper.sessions[0]
    assert opened["on_error"] == "fail_descendants" and opened["grace_ms"] == 2000 and opened["name"] == "s"
    py, a, b = opened["subworkers"]
    assert py["name"] == "py" and py["command"] == [sys.executable, "-u", "-m", "rain.subworker"]
    assert (a, b) == ({"name": "a", "command": ["/a"]}, {"name": "b", "command": ["/b", "-x"]})


def test_a_program_that_changed_is_another_command(paper, paper_client, tmp_path):
    program = tmp_path / "program"
    for text in ("first", "second"):
        program.write_text(text)
        for _ in range(2):
            paper_client.new_session("s", subworkers={"a": program}).close()
    a, b, c, d = (opened["subworkers"][1] for opened in paper.sessions)
    assert a == b and c == d and a["env"] != c["env"] and a["command"] == c["command"] == [str(program)]


def test_a_submit_is_templates_objects_and_rows_in_order(paper, session):
    a = blob("hello ")
    b = blob(b"world", label="w")
    concats = [tasks.Concat((a, b)) for _ in range(2)]
    concats[1].output.keep()
    tasks.Store(concats[0], "/tmp/x", name="keep it")
    assert (session.task_count, session.dataobj_count) == (3, 4)
    assert concats[0].state is None and a.state is None
    session.submit()
    assert (session.task_count, session.dataobj_count) == (0, 0)
    assert concats[0].state == TaskState.notAssigned
    assert (concats[0].output.state, a.state) == (DataObjectState.unfinished, DataObjectState.finished)
    (lines,) = paper.submits
    origin = lines[3]["template"].pop("origin")
    lines[5]["template"].pop("origin")
    lines[7]["template"].pop("origin")
    assert lines == [
        {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
        {"object": {"label": "const", "content_type": "text", "data64": base64.b64encode(b"hello ").decode()}},
        {"object": {"label": "w", "data64": base64.b64encode(b"world").decode()}},
        {"template": {"type": "builtin/concat", "outputs": [{"label": "out"}]}},
        [0, [0, 1], None],
        {"template": {"type": "builtin/concat", "outputs": [{"label": "out", "keep": True}]}},
        [1, [0, 1], None],
        {"template": {"type": "builtin/store", "outputs": []}},
        [2, [2], {"path": "/tmp/x"}, {"name": "keep it"}],
    ]
    lines = origin.splitlines()
    assert "test_sessions.py:" in lines[0] and "in test_a_submit" in lines[1] and len(lines) == 6


def test_a_later_submit_goes_on_with_the_numbers(paper, session):
    for _ in range(2):
        for _ in range(3):
            tasks.Concat((blob("x"),))
        session.submit()
    session.submit()
    assert [lines[0]["submit"] for lines in paper.submits] == [
        {"first_template": 0, "first_task": 0, "first_object": 0},
        {"first_template": 1, "first_task": 3, "first_object": 6},
    ]
    assert [row[:2] for row in paper.rows()] == [[0, [0]], [0, [2]], [0, [4]], [0, [6]], [0, [8]], [0, [10]]]


def test_large_constants_are_uploaded(paper, session):
    data = bytes(5000)
    blob(data)
    session.submit()
    name = hashlib.sha256(data).hexdigest()
    assert paper.blobs == {name: data}
    assert paper.objects() == [{"label": "const", "blob": name}]


def test_attributes_travel(paper, session):
    a = blob("x")
    a.spec.user = {"k": [1]}
    task = tasks.Concat((a,))
    task.attributes["n"] = 5
    other = tasks.Concat((a,))
    session.submit()
    assert paper.objects()[0]["attributes"] == {"k": [1]}
    assert [t.get("attributes") for t in paper.templates()] == [{"n": 5}, None]
    with pytest.raises(RainException):
        task.attributes = {}
    with pytest.raises(RainException, match="output"):
        other.output.attributes = {}


def test_retries_and_rerun_travel(paper, session):
    # From one place of a program, so that they would share a template.
    made = [tasks.Concat((blob("x"),)) for _ in range(4)]
    made[1].retries = 2
    made[2].rerun = "never"
    made[2].retries = 2
    made[3].retries = 2
    session.submit()
    policies = [{name: t[name] for name in ("retries", "rerun") if name in t} for t in paper.templates()]
    assert policies == [{}, {"retries": 2}, {"retries": 2, "rerun": "never"}]
    assert [row[0] for row in paper.rows()] == [0, 1, 2, 1]
    assert (made[0].retries, made[0].rerun, made[2].retries, made[2].rerun) == (0, "on_loss", 2, "never")


def test_a_general_task_takes_any_type(paper, session):
    task = Task(
        "count/words", [("text", blob("x"))], ["counts", "total"], config={"a": 1}, arguments=[2], cpus=2, name="n"
    )
    session.submit()
    template = paper.templates()[0]
    assert template["type"] == "count/words" and template["config"] == {"a": 1} and template["cpus"] == 2
    assert template["inputs"] == ["text"] and template["outputs"] == [{"label": "counts"}, {"label": "total"}]
    assert paper.rows() == [[0, [0], [2], {"name": "n"}]]
    assert task.outputs["total"].id == 2 and task.inputs["text"].id == 0
    assert (task.name, task.task_type, task.cpus, task.config) == ("n", "count/words", 2, {"a": 1})
    with pytest.raises(RainException, match="2 outputs"):
        task.output  # noqa: B018


def test_a_subclass_names_its_type(paper, session):
    class Count(Task):
        TASK_TYPE = "count/words"

        def __init__(self, text):
            super().__init__(inputs=[text], outputs="counts")

    Count(blob("x"))
    session.submit()
    assert paper.templates()[0]["type"] == "count/words"


def test_what_is_no_data_object_is_refused(session):
    for value in ("text", b"bytes"):
        with pytest.raises(RainException, match="blob"):
            tasks.Concat((value,))
    with pytest.raises(RainException, match="blob"):
        Task("a/b", "text")
    with pytest.raises(RainException):
        tasks.Concat((5,))
    with pytest.raises(RainException, match="0 outputs"):
        tasks.Concat((tasks.Store(blob("x"), "/x"),))
    with pytest.raises(RainException, match="absolute"):
        tasks.Load("relative")
    with pytest.raises(RainException):
        Task("notype")
    with pytest.raises(RainException):
        blob(5)
    with pytest.raises(RainException):
        blob(b"x", content_type="text", encode="text")
    with pytest.raises(ValueError):
        blob(b"x", content_type="nonsense")
    assert session.task_count == 1


def test_pickled_and_encoded_constants(paper, session):
    pickled({"a": 1})
    blob([1], encode="json")
    session.submit()
    first, second = paper.objects()
    assert first["content_type"] == "pickle" and first["label"] == "pickle"
    assert decode_value(base64.b64decode(first["data64"]), "pickle") == {"a": 1}
    assert second == {"label": "const", "content_type": "json", "data64": base64.b64encode(b"[1]").decode()}


def test_objects_of_another_session_are_refused(paper_client, session):
    with paper_client.new_session("other"):
        other = blob("x")
    with pytest.raises(RainException, match="another session"):
        tasks.Concat((other,))


def test_a_refused_submit_leaves_the_session_usable(paper, session):
    kept = blob("x")
    session.submit()
    paper.refuse("submit", 409, "object 0 was dropped")
    lost = tasks.Concat((kept,))
    output = lost.output
    constant = blob("y")
    with pytest.raises(RainException, match="object 0 was dropped"):
        session.submit()
    paper.refusals.clear()
    assert (session.task_count, session.dataobj_count) == (0, 0)
    assert lost.state is None and output.state is None
    for void in (lost, constant):
        with pytest.raises(RainException, match="void"):
            tasks.Concat((void,))
    with pytest.raises(RainException, match="submit"):
        lost.wait()
    again = tasks.Concat((kept,))
    session.submit()
    assert paper.submits[-1][0] == {"submit": {"first_template": 0, "first_task": 0, "first_object": 1}}
    paper.finish(again.id)
    again.wait()


def test_waiting_is_local(paper, session):
    items = [tasks.Concat(()) for _ in range(4)]
    session.submit()
    asked = len(paper.requests)
    paper.say(lease=1)
    paper.finish(2)
    items[2].wait()
    assert items[2].state == TaskState.finished and items[0].state == TaskState.notAssigned
    items[2].output.wait()
    timer = threading.Timer(0.05, lambda: [paper.finish(0, 2), paper.finish(3)])
    timer.start()
    heard = []
    session.wait_all(progress=lambda *state: heard.append(state))
    timer.join()
    assert all(item.state == TaskState.finished for item in items)
    assert heard[-1] == (4, 4) == session.progress
    session.wait(items)
    assert len(paper.requests) == asked


def test_progress_comes_over_the_lease(paper, session):
    items = [tasks.Concat(()) for _ in range(3)]
    assert items[0].progress is None
    session.submit()
    assert items[0].progress is None
    paper.say(lease=1)
    paper.say(progress=[{"task": 0, "fraction": 0.25, "text": "reading"}, {"task": 1, "fraction": 1, "text": ""}])
    paper.finish(2)
    items[2].wait()
    assert items[0].progress == Progress(0.25, "reading") and items[0].progress.text == "reading"
    assert items[1].progress == (1.0, "") and items[2].progress is None
    paper.say(progress=[{"task": 0, "fraction": None}, {"task": 2, "fraction": 0.1, "text": "too late"}])
    heard = []
    paper.say(progress=[{"task": 1, "fraction": 0.5, "text": "b"}])
    timer = threading.Timer(0.2, lambda: paper.finish(1))
    timer.start()
    session.wait([items[1]], progress=lambda *state: heard.append((*state, items[1].progress)))
    timer.join()
    assert (1, 3, (0.5, "b")) in heard and heard[-1] == (2, 3, None)
    assert [item.progress for item in items] == [None, None, None]


def test_progress_can_be_read_without_waiting(paper, session):
    item = tasks.Concat(())
    session.submit()
    paper.say(lease=1)
    paper.say(progress=[{"task": 0, "fraction": 0.25, "text": ""}])
    deadline = time.monotonic() + 5
    while item.progress is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert item.progress.fraction == 0.25
    paper.say(session_failed={"task": 0, "message": "no"})
    with pytest.raises(TaskException):
        item.wait()
    assert item.progress is None


def test_progress_of_tasks_that_there_are_not_is_refused(paper, session):
    item = tasks.Concat(())
    session.submit()
    paper.say(lease=1)
    paper.say(progress=[{"task": 7, "fraction": 0.25, "text": ""}])
    with pytest.raises(RainException, match="a task that it does not have"):
        item.wait()


def test_many_threads_wait_at_once(paper, session):
    items = [tasks.Concat(()) for _ in range(8)]
    session.submit()
    threads = [threading.Thread(target=item.wait) for item in items]
    for thread in threads:
        thread.start()
    for item in items:
        paper.finish(item.id)
    for thread in threads:
        thread.join(5)
    assert all(item.state == TaskState.finished for item in items)


def test_what_is_not_submitted_can_not_be_waited_for(session):
    task = tasks.Concat(())
    task.output.keep()
    for action in (task.wait, task.update, task.output.wait, task.output.fetch, task.output.update):
        with pytest.raises(RainException, match="submit"):
            action()
    session.wait_all()


FAILURE = {
    "task": 1,
    "name": "sort",
    "type": "builtin/run",
    "origin": "flow.py:12 in main",
    "cause": "user",
    "message": "the program ended with code 3",
    "detail": "sort: no such file\nsecond line",
    "debug": "a line\n",
    "exit_code": 3,
    "signal": None,
    "host": "n1",
}


def test_a_failed_session_raises_the_first_failure_every_time(paper, paper_client):
    with paper_client.new_session() as session:
        first, second = tasks.Concat(()), tasks.Concat(())
        first.output.keep()
        session.submit()
        paper.finish(0)
        paper.say(session_failed=FAILURE)
        with pytest.raises(TaskException) as error:
            second.wait()
        text = str(error.value)
        for part in (
            "task 1 'sort' (builtin/run) on n1",
            "code 3",
            "no such file",
            "second line",
            "a line",
            "flow.py:12",
        ):
            assert part in text
        assert (error.value.exit_code, error.value.host, error.value.cause) == (3, "n1", "user")
        assert isinstance(error.value, SessionException)
        for action in (
            session.wait_all,
            first.wait,
            first.output.fetch,
            first.update,
            session.submit,
            first.output.unkeep,
        ):
            with pytest.raises(TaskException, match="code 3"):
                action()
        assert second.state == TaskState.failed
    with paper_client.new_session() as other:
        other.submit()


def test_with_fail_descendants_the_others_go_on(paper, paper_client):
    with paper_client.new_session(on_error="fail_descendants") as session:
        items = [tasks.Concat(()) for _ in range(3)]
        session.submit()
        paper.say(failed=FAILURE)
        paper.say(cancelled=[[2, 1]])
        paper.finish(0)
        items[0].wait()
        with pytest.raises(TaskException, match="code 3"):
            items[1].wait()
        with pytest.raises(TaskException, match="cancelled"):
            items[2].wait()
        with pytest.raises(TaskException, match="code 3"):
            session.wait_all()
        assert [item.state.value for item in items] == ["finished", "failed", "cancelled"]


def test_a_failure_in_an_answer_fails_the_session(paper, session):
    task = tasks.Concat(())
    task.output.keep()
    session.submit()
    paper.refuse("results", 409, "the session failed", failure=FAILURE)
    for _ in range(2):
        with pytest.raises(TaskException, match="code 3"):
            task.output.fetch()


def test_results_come_in_bulk(paper, session):
    items = [tasks.Concat(()) for _ in range(5000)]
    session.keep_all()
    session.submit()
    paper.results = {item.output.id: b"%d" % item.id for item in items}
    paper.content_types[3] = "text"
    paper.info = {"objects": [{"object": 3, "attributes": {"k": 1}}]}
    asked = len(paper.requests)
    instances = session.fetch(items)
    assert [instance.get_bytes() for instance in instances] == [b"%d" % i for i in range(5000)]
    assert len(paper.requests) - asked == 2
    assert instances[3].content_type == "text" == items[3].output.content_type
    assert items[3].output.state == DataObjectState.finished and items[3].output.info.size == 1
    assert instances[3].info.user == {"k": 1} == items[3].output.info.user
    assert items[4].output.fetch().get_str() == "4"
    assert [i.get_bytes() for i in items[5].fetch_outputs()] == [b"5"]


def test_fetching_one_after_the_other_brings_more_at_once(paper, session):
    items = [tasks.Concat(()) for _ in range(1000)]
    session.keep_all()
    items[7].output.unkeep()
    session.submit()
    paper.results = {item.output.id: b"%d" % item.id for item in items}
    del paper.results[750]
    paper.finish(0, 800)
    session.wait(items[:800])
    items[500].output.unkeep()
    asked = len(paper.requests)
    for item in items:
        if item.id == 750:
            with pytest.raises(RainException, match="let go"):
                item.output.fetch()
        elif item.id not in (7, 500):
            assert item.output.fetch().get_bytes() == b"%d" % item.id
    wanted = [request[2] for request in paper.requests[asked:]]
    assert len(wanted) < 20 + 200  # Of the last 200 it is not known that they are finished.
    assert not any(b"[7," in body or b"[500," in body for body in wanted)


def test_a_large_result_comes_alone(paper, session):
    from paper_server import ROW

    constant = blob("x")
    session.submit()
    paper.refusals["results"] = (200, ROW.pack(0, 1, 0, 0, 10))
    paper.refusals["content"] = (200, b"0123456789")
    assert constant.fetch().get_bytes() == b"0123456789"


def test_an_object_that_nobody_can_serve_says_why(paper, session):
    from paper_server import row

    constant = blob("x")
    session.submit()
    for status, text in ((2, "let go"), (5, "no worker answers"), (4, "cancelled")):
        paper.refusals["results"] = (200, row(0, b"no worker answers", status=status))
        with pytest.raises(RainException, match=text):
            constant.fetch()


def test_keep_and_unkeep(paper, session):
    task = Task("a/b", (), 2)
    first, second = task.outputs
    first.keep()
    assert first.is_kept() and not second.is_kept()
    first.unkeep()
    assert not first.is_kept()
    task.keep_outputs()
    session.submit()
    with pytest.raises(RainException, match="before"):
        first.keep()
    task.unkeep_outputs()
    assert paper.requests[-1][1].endswith("/unkeep") and paper.requests[-1][2] == b'{"objects":[[0,2]]}'
    assert first.state == DataObjectState.removed and not first.is_kept()
    for action in (first.unkeep, first.fetch):
        with pytest.raises(RainException, match="kept"):
            action()
    session.submit()


def test_update_brings_info(paper, session):
    task = tasks.Concat(())
    session.submit()
    paper.info = {
        "tasks": [
            {
                "task": 0,
                "state": "running",
                "worker": "w1",
                "duration_s": 0.5,
                "debug": "x",
                "attributes": {"a": 1},
                "started": 1,
            }
        ],
        "objects": [{"object": 0, "state": "unfinished", "size": None, "content_type": "text", "attributes": None}],
    }
    assert task.info is None
    session.client.update([task, task.output])
    assert task.state == TaskState.running
    assert (task.info.worker, task.info.governor, task.info.duration) == ("w1", "w1", 0.5)
    assert (task.info.debug, task.info.user, task.info.start_time) == ("x", {"a": 1}, 1)
    assert task.output.info.size is None and task.output.state == DataObjectState.unfinished


def test_a_broken_lease_is_taken_up_again(paper, session):
    items = [tasks.Concat(()) for _ in range(2)]
    session.submit()
    paper.finish(0)
    items[0].wait()
    paper.drop_lease()
    paper.finish(1)
    items[1].wait()
    assert paper.leases == 2


def test_an_interrupted_wait_can_be_repeated(paper, session):
    import signal

    # A shell starts what runs in its background with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    task = tasks.Concat(())
    session.submit()
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            task.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    paper.finish(0)
    task.wait()


def test_a_session_that_the_server_closed_says_so(paper, session):
    task = tasks.Concat(())
    session.submit()
    paper.say(closed="the client was silent")
    with pytest.raises(SessionException, match="silent"):
        task.wait()
    assert not session.active
    with pytest.raises(SessionException):
        tasks.Concat(())


def test_a_server_that_is_gone_is_said(paper):
    client = Client("127.0.0.1", paper.port, reconnect=0.2)
    session = client.new_session("s", grace=0)
    with session.bind_only():
        task = tasks.Concat(())
        session.submit()
        later = tasks.Concat(())
    paper.pause()
    with pytest.raises(RainException, match="gone, and did not come back within 0.2 s.*no server at"):
        session.submit()
    with pytest.raises(SessionException, match="could not be taken up again.*gone, and did not come back"):
        task.wait()
    with pytest.raises(SessionException, match="could not be taken up again"), session.bind_only():
        pass
    assert later.state is None


def test_a_client_may_be_told_not_to_wait_for_a_server(paper):
    client = Client("127.0.0.1", paper.port, reconnect=0)
    with client.new_session("s").bind_only() as session:
        task = tasks.Concat(())
        session.submit()
    paper.drop_lease()
    with pytest.raises(SessionException, match="could not be taken up again: the server closed the connection"):
        task.wait()


def test_requests_are_sent_again_to_a_server_that_comes_back(paper):
    client = Client("127.0.0.1", paper.port, reconnect=30)
    with client.new_session("s").bind_only() as session:
        first = tasks.Concat((blob(b"x" * 5000),))
        first.output.keep()
        session.submit()
        paper.pause()
        second = tasks.Concat((blob(b"y" * 5000),))
        threading.Timer(0.3, paper.resume).start()
        started = time.monotonic()
        session.submit()
        assert time.monotonic() - started > 0.25
        assert len(paper.blobs) == 2 and len(paper.submits) == 2
        paper.pause()
        threading.Timer(0.3, paper.resume).start()
        paper.results[first.output.id] = b"z"
        assert first.output.fetch().get_bytes() == b"z"
        paper.finish(0, 2)
        second.wait()


def test_a_submit_whose_answer_was_lost_is_sent_again_as_it_was(paper):
    client = Client("127.0.0.1", paper.port, reconnect=30)
    with client.new_session("s").bind_only() as session:
        tasks.Concat(())
        session.submit()
        tasks.Concat(())
        paper.lose_answers = 2
        session.submit()
    bodies = [body for _, path, body in paper.requests if path.endswith("submit")]
    assert len(bodies) == 4 and bodies[1] == bodies[2] == bodies[3] and bodies[0] != bodies[1]
    assert json.loads(bodies[1].splitlines()[0]) == {
        "submit": {"first_template": 1, "first_task": 1, "first_object": 1}
    }
    assert session.task_count == 0


def test_a_server_that_is_ending_is_asked_again(paper):
    client = Client("127.0.0.1", paper.port, reconnect=30)
    with client.new_session("s").bind_only() as session:
        tasks.Concat(())
        stopping = {"error": {"code": "server_stopping", "message": "the server is stopping"}}
        paper.refusals["submit"] = (503, stopping)
        threading.Timer(0.2, paper.refusals.clear).start()
        session.submit()
    assert len(paper.submits) == 1


def test_a_lease_is_taken_up_while_the_program_does_something_else(paper):
    client = Client("127.0.0.1", paper.port, reconnect=30)
    with client.new_session("s").bind_only() as session:
        tasks.Concat(())
        session.submit()
        for count in (2, 3):
            paper.drop_lease()
            deadline = time.monotonic() + 5
            while paper.leases < count and time.monotonic() < deadline:
                time.sleep(0.01)
            assert paper.leases == count


def test_a_session_that_the_restarted_server_does_not_have_says_so(paper):
    client = Client("127.0.0.1", paper.port, reconnect=30)
    with client.new_session("s").bind_only() as session:
        task = tasks.Concat(())
        session.submit()
        paper.refuse("lease", 404, "there is no session 1: it was closed, or never opened")
        paper.drop_lease()
        with pytest.raises(SessionException, match="could not be taken up again: there is no session 1"):
            task.wait()
        assert not session.active


def test_a_server_that_counts_its_sessions_anew_is_told_from_a_wrong_token(paper):
    client = Client("127.0.0.1", paper.port, reconnect=30)
    with client.new_session("s").bind_only() as session:
        task = tasks.Concat(())
        session.submit()
        message = "the resume token is not that of session 1"
        paper.refusals["lease"] = (401, {"error": {"code": "bad_resume_token", "message": message}})
        paper.drop_lease()
        with pytest.raises(SessionException, match=message):
            task.wait()


def test_a_forgotten_session_lets_its_lease_go(paper, paper_client, monkeypatch):
    monkeypatch.setattr("rain.client.outcomes.UNREAD_SECONDS", 0.05)
    before = threading.enumerate()
    session = paper_client.new_session("s")
    (watcher,) = (thread for thread in threading.enumerate() if thread.name == "rain lease" and thread not in before)
    del session
    gc.collect()
    watcher.join(5)
    assert not watcher.is_alive()


def test_labels_of_outputs(session):
    assert Task("a/b", (), 2).outputs.labels == ["out0", "out1"]
    task = Task("a/b", (), ["x y", None])
    assert task.outputs.labels == ["x y", "out1"] and task.outputs["x y"].label == "x y"
    with pytest.raises(RainException, match="one label"):
        Task("a/b", (), ["x", "x"])


def test_cancel_names_its_tasks(paper, session):
    items = [tasks.Concat(()) for _ in range(3)]
    session.submit()
    paper.say(cancelled=[[1, 2]])
    session.cancel(items[1:])
    assert paper.requests[-1][1:] == ("/api/v1/sessions/1/cancel", b'{"tasks":[[1,2]]}')
    assert [item.state for item in items] == [TaskState.notAssigned, TaskState.cancelled, TaskState.cancelled]
    paper.finish(0)
    session.cancel()
    assert paper.requests[-1][2] == b'{"all":true}'
    assert items[0].state == TaskState.finished
