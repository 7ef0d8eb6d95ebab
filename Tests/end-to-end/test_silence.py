"""A server that stops answering in the middle of something: each command ends, and says why."""

import os
import signal
import socket
import subprocess
import threading

import pytest
from cluster import RAIN, ndjson, run_program, wait_for

#: How long the commands wait for a server here; else 30 s.
PATIENCE = "1"
GRAPH = ndjson(
    {"object": {"data": "rain\n"}},
    {"template": {"type": "builtin/concat", "outputs": [{"label": "x", "keep": True}]}},
    [0, [0], None],
)


class Proxy:
    """Stands between a command and the server, and does something when the mark passes."""

    def __init__(self, cluster, mark=None, act=None, is_request=True):
        self.port, self.mark, self.act, self.is_request = cluster.port, mark, act, is_request
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for source, sink, is_request in ((client, server, True), (server, client, False)):
                threading.Thread(target=self.pass_on, args=(source, sink, is_request), daemon=True).start()

    def pass_on(self, source, sink, is_request):
        try:
            while data := source.recv(65536):
                if is_request == self.is_request and self.mark is not None and self.mark in data:
                    data = self.act(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            # A command that ends takes its connection with it.
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


@pytest.fixture
def server(shared_cluster):
    pid = shared_cluster.pid("server")
    yield pid
    os.kill(pid, signal.SIGCONT)


def command(cluster, address, *arguments, text=None, patience=PATIENCE):
    environment = {**cluster.env, "RAIN_PATIENCE": patience}
    return cluster.rain(*arguments, "--server", address, input=text, env=environment, timeout=20)


@pytest.mark.parametrize("point", ["/lease", "/submit", "/wait", "/content"])
def test_submit_ends_when_the_server_stops_answering(shared_cluster, server, point):
    def stop(data):
        os.kill(server, signal.SIGSTOP)
        return data

    proxy = Proxy(shared_cluster, point.encode(), stop)
    result = command(shared_cluster, proxy.address, "submit", "-", "--get", "x=-", "--reconnect", 0, text=GRAPH)
    assert result.returncode == 1 and result.stdout == "", result
    assert f"the server at {proxy.address} has not answered for 1 s" in result.stderr, result


def test_submit_ends_when_the_server_does_not_close_its_session(shared_cluster, server):
    """What was asked for is there: the session goes by itself."""

    def stop(data):
        os.kill(server, signal.SIGSTOP)
        return data

    proxy = Proxy(shared_cluster, b"DELETE", stop)
    result = command(shared_cluster, proxy.address, "submit", "-", "--get", "x=-", text=GRAPH)
    assert result.returncode == 0 and result.stdout == "rain\n", result
    assert "all is done, but session" in result.stderr and "has not answered for 1 s" in result.stderr, result
    os.kill(server, signal.SIGCONT)
    wait_for(lambda: shared_cluster.get("/api/v1/status")["sessions"] == [])


def test_submit_ends_when_a_line_of_its_lease_is_cut(shared_cluster):
    """The server lives; but the rest of the line never comes, and what follows is lost with it."""
    proxy = Proxy(shared_cluster, b'{"finished"', lambda data: data[:-4], is_request=False)
    graph = ndjson(run_program("true"), run_program("sleep", "1000"), [0, [], None], [1, [], None])
    result = command(shared_cluster, proxy.address, "submit", "-", "--wait", "--reconnect", 0, text=graph)
    assert result.returncode == 1 and "has not answered for 1 s" in result.stderr, result
    wait_for(lambda: shared_cluster.get("/api/v1/status")["sessions"] == [])


def start(cluster, address, *arguments, patience=PATIENCE):
    return subprocess.Popen(
        [RAIN, *arguments, "--server", address],
        env={**cluster.env, "RAIN_PATIENCE": patience},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_long_wait_is_no_silence(shared_cluster):
    """The tasks and the object are waited for longer than a server may be silent."""
    graph = ndjson(run_program("sleep 1.5; echo done", shell=True), [0, [], None])
    address = f"127.0.0.1:{shared_cluster.port}"
    number = command(shared_cluster, address, "submit", "-", text=graph).stdout.split()[1]
    waits = [
        start(shared_cluster, address, *words, patience="0.5") for words in [("get", number, "out"), ("wait", number)]
    ]
    result = command(shared_cluster, address, "submit", "-", "--get", "out=-", text=graph, patience="0.5")
    assert result.returncode == 0 and result.stdout == "done\n", result
    assert [process.communicate(timeout=20) for process in waits] == [("done\n", ""), ("", "")]
    assert command(shared_cluster, address, "close", number).returncode == 0


def test_every_command_ends_when_the_server_hangs(shared_cluster, server):
    os.kill(server, signal.SIGSTOP)
    address = f"127.0.0.1:{shared_cluster.port}"
    commands = ["status", "sessions", "explain 1", "get 1 x", "wait 1 --reconnect 0", "cancel 1", "close 1"]
    for process in [start(shared_cluster, address, *words.split()) for words in commands]:
        error = process.communicate(timeout=20)[1]
        assert process.returncode == 1 and "has not answered for 1 s" in error, (process.args, error)
