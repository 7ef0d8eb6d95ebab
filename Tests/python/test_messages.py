"""What the client says when something is wrong: each message names the thing and what would be right."""

import contextlib
import socket
import threading
import warnings

import pytest
from rain.client import Client, RainException, RainWarning, TaskException, blob, remote, tasks
from rain.client import outage as outages
from rain.client.http import ConnectionLost

# Most look at what is made, and submit nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*never submitted")


@pytest.mark.parametrize("on_error", ["nix", None, 3])
def test_on_error_lists_what_there_is(paper_client, on_error):
    with pytest.raises(RainException, match="'fail_session' or 'fail_descendants', not"):
        paper_client.new_session("x", on_error=on_error)


def test_a_cancelled_task_has_its_name_and_line(paper, paper_client):
    with paper_client.new_session("x") as session:
        task = tasks.Concat([blob("a")], name="joined")
        session.submit()
        paper.say(cancelled=[[0, 1]])
        with pytest.raises(TaskException) as error:
            task.wait()
        text = str(error.value)
        assert "'joined' (builtin/concat): the task was cancelled" in text
        assert "test_messages.py" in text
        assert error.value.name == "joined"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost", "abc"), "a port is a number from 1 to 65535, not 'abc'"),
        (("localhost", 99999), "not 99999"),
        (("localhost", None), "not None"),
        (("localhost:7210",), r"Client\('localhost', 7210\)"),
        (("",), "not ''"),
        ((7210,), "not 7210"),
    ],
)
def test_an_address_that_can_not_be(arguments, message):
    with pytest.raises(RainException, match=message):
        Client(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "a session's name is a str, not 5"),
        ({"grace": -1}, "grace is a number of seconds from 0"),
        ({"grace": "1"}, "not '1'"),
        ({"subworkers": ["./wc"]}, "a dict of commands by name"),
    ],
)
def test_what_a_session_can_not_have(paper_client, options, message):
    with pytest.raises(RainException, match=message):
        paper_client.new_session(**options)


@pytest.mark.parametrize("item", ["text", [None], [1]])
def test_what_can_not_be_waited_for(paper_client, item):
    with paper_client.new_session("x") as session:
        with pytest.raises(RainException, match="can't be waited for: it is no task"):
            session.wait(item)


def test_a_closed_session_says_who_closed_it(paper_client):
    session = paper_client.new_session("x")
    session.close()
    with pytest.raises(RainException, match="is closed: this program has closed it"):
        session.submit()


def test_the_decorator_needs_no_parentheses(paper_client):
    @remote
    def plain(ctx, value):
        return value

    with paper_client.new_session("x"):
        assert plain("a").name == "plain"
    with pytest.raises(RainException, match="is for functions"):
        remote(int)
    with pytest.raises(TypeError, match="outputs are a number, a label, an Output or a list of them, not 1.5"):
        remote(outputs=1.5)(lambda ctx: None)


LOCK = threading.Lock()


def test_what_a_function_can_not_take_along_is_named(paper_client):
    lock = threading.Lock()

    @remote()
    def closing(ctx):
        return str(lock)

    @remote()
    def defaulting(ctx, *, held=lock):
        return str(held)

    with paper_client.new_session("x"):
        with pytest.raises(RainException, match="variable 'lock' of closing, of type lock, can't be pickled"):
            closing()
        with pytest.raises(RainException, match="default of 'held' of defaulting"):
            defaulting()


def test_a_global_that_can_not_travel_is_named(paper_client):
    space = {"remote": remote, "LOCK": LOCK, "__name__": "__main__"}
    exec("@remote()\ndef using(ctx):\n    return [str(LOCK) for _ in range(2)]\n", space)
    with paper_client.new_session("x"):
        with pytest.raises(RainException, match="global variable 'LOCK' of using"):
            space["using"]()


def test_an_argument_that_can_not_travel_is_named(paper_client):
    @remote()
    def taking(ctx, first, *rest, **more):
        return "x"

    with paper_client.new_session("x") as session:
        for call, name in (
            (lambda: taking(LOCK), "'first'"),
            (lambda: taking(1, 2, LOCK), r"'rest\[1\]'"),
            (lambda: taking(1, key=[LOCK]), "'key'"),
        ):
            with pytest.raises(RainException, match=f"argument {name} of taking"):
                call()
        # The session goes on.
        taking(1)
        session.submit()


def test_data_without_a_type_says_how_to_read_it(paper, paper_client):
    with paper_client.new_session("x") as session:
        task = tasks.Concat([blob(b"a")])
        task.output.keep()
        session.submit()
        paper.results[1] = b"a"
        paper.finish(0)
        with pytest.raises(RainException, match=r"get_str\(\) or get_bytes\(\)"):
            task.output.fetch().load()


def test_the_port_of_workers_is_told_apart(paper):
    """It speaks first, and breaks the connection when a request comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for _ in range(2):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"\xff\0\0\0\0\0\0\0\1\x7f\3")
                    connection.recv(10)  # Its end with bytes unread is a reset.

        threading.Thread(target=serve, daemon=True).start()
        port = listener.getsockname()[1]
        with pytest.raises(RainException, match=f"127.0.0.1:{port} is the port of workers.*7210"):
            Client("127.0.0.1", port)


def test_one_outage_is_told_once(monkeypatch):
    """By whichever of a program's connections meets it first."""
    monkeypatch.setattr(outages, "SILENT_SECONDS", -1)
    name = "the server at nowhere:1"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            outages.Outage(name, 30).wait(ConnectionLost("broken"))
        outages.Outage("the server at elsewhere:1", 30).wait(ConnectionLost("broken"))
    texts = [str(warning.message) for warning in told if warning.category is RainWarning]
    assert [text.split(" does ")[0] for text in texts if "where:1" in text] == [name, "the server at elsewhere:1"]
