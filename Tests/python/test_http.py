"""The HTTP client against servers that break off, cheat or stumble."""

import socket
import threading

import pytest
from rain import _xxh3
from rain.client import Client, RainException
from rain.client.http import Connection, ConnectionLost, LineStream, Refused


class ScriptServer:
    """Accepts connections one after the other and gives each the next answer, then closes it."""

    def __init__(self, *answers, is_split=False):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.received = []
        self.thread = threading.Thread(target=self.serve, args=(answers, is_split), daemon=True)
        self.thread.start()

    def serve(self, answers, is_split):
        for answer in answers:
            connection, _ = self.listener.accept()
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                self.received.append(data)
                for part in [answer[i : i + 1] for i in range(len(answer))] if is_split else [answer]:
                    connection.sendall(part)

    def close(self):
        self.listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(*answers, **options):
        servers.append(ScriptServer(*answers, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(server, method="GET"):
    connection = Connection("127.0.0.1", server.port)
    try:
        return connection.request(f"{method} / HTTP/1.1\r\n\r\n".encode(), method)
    finally:
        connection.close()


def test_a_body_by_length(serve):
    answer = ask(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\nhello"))
    assert (answer.status, answer.body, answer.headers["x-y"]) == (200, b"hello", "z")


@pytest.mark.parametrize("is_split", [False, True])
def test_a_body_in_chunks(serve, is_split):
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n5\r\ndefgh\r\n0\r\nTrailer: x\r\n\r\n"
    assert ask(serve(text, is_split=is_split)).body == b"abcdefgh"


def spoiled(data, checksum, is_chunked):
    if not is_chunked:
        return f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nRain-Checksum: {checksum}\r\n\r\n".encode() + data
    head = f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{len(data):x}\r\n".encode()
    return head + data + f"\r\n0\r\nRain-Checksum: {checksum}\r\n\r\n".encode()


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_is_held_against_its_checksum(serve, is_chunked):
    data = b"x" * 100_000
    checksum = _xxh3.digest(data).hex()
    assert ask(serve(spoiled(data, checksum, is_chunked))).body == data
    with pytest.raises(ConnectionLost, match=f"100000 bytes that came have the checksum .* should have {checksum}"):
        ask(serve(spoiled(data[:-1] + b"y", checksum, is_chunked)))


def test_the_checksum_is_the_one_of_the_specification():
    assert _xxh3.digest(b"").hex() == "99aa06d3014798d86001c324468d497f"
    assert _xxh3.digest(memoryview(b"abc" * 100)) == _xxh3.digest(b"abc" * 100)
    with pytest.raises(TypeError):
        _xxh3.digest("text")


def test_a_body_until_the_end(serve):
    assert ask(serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")).body == b"all of it"


def test_head_and_204_have_no_body(serve):
    assert ask(serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"), "HEAD").body == b""
    assert ask(serve(b"HTTP/1.1 204 No Content\r\n\r\n")).body == b""


def test_an_interim_answer_is_skipped(serve):
    assert ask(serve(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")).body == b"x"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 500,
        b"HTTP/1.1 200 " + b"x" * 100_000,
    ],
)
def test_a_broken_answer_is_an_error(serve, answer):
    with pytest.raises(ConnectionLost):
        ask(serve(answer))


def test_a_server_that_is_not_there_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RainException, match=f"no server at 127.0.0.1:{port}.*rain start"):
        Connection("127.0.0.1", port)


def test_an_unknown_host_is_said():
    with pytest.raises(RainException, match="host name"):
        Connection("no-such-host.invalid", 1)


def test_lines_arrive_as_they_are_completed(serve):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = serve(head + b'5\r\n{"a":\r\n4\r\n1}\n{\r\n9\r\n"b":2}\n\n\n\r\n0\r\n\r\n', is_split=True)
    stream = LineStream("127.0.0.1", server.port, b"GET / HTTP/1.1\r\n\r\n")
    lines = []
    with pytest.raises(ConnectionLost):
        while True:
            lines += stream.read(5)
    stream.close()
    assert lines == [b'{"a":1}', b'{"b":2}']


def test_a_refused_stream_says_why(serve):
    server = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone")
    stream = LineStream("127.0.0.1", server.port, b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(Refused) as error:
        while True:
            stream.read(5)
    stream.close()
    assert (error.value.status, error.value.body) == (404, b"gone")


def test_a_silent_stream_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = LineStream("127.0.0.1", listener.getsockname()[1], b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionLost, match="nothing came"):
            stream.read(0.05)
        stream.close()


def test_a_port_that_never_answers_is_given_up(paper, monkeypatch):
    monkeypatch.setattr("rain.client.client.CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(RainException, match="no answer came within 0.05 s"):
            Client("127.0.0.1", listener.getsockname()[1])


def test_a_stale_connection_is_replaced(serve, paper):
    status = b'{"version": "1", "workers": []}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(status), status)
    server = serve(answer, answer, answer)  # Each connection serves one request, though it says nothing of closing.
    client = Client("127.0.0.1", server.port)
    assert client.status()["version"] == "1"
    assert client.status()["version"] == "1"
    assert b"Authorization: Bearer secret\r\n" in server.received[0]
    assert b"Rain-Checksum: xxh3-128\r\n" in server.received[0]
