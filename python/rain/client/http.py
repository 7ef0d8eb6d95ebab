"""A small HTTP/1.1 client on sockets: what Rain's server speaks, and nothing that would take time to import."""

import select
import socket

try:
    from .. import _xxh3
except ImportError:  # Built without it: then nothing is checked, and no checksum asked for.
    _xxh3 = None
from ..common.errors import RainException

#: Longer than any line or header that the server sends.
LINE_BYTES_MAX = 65536
HEADERS_MAX = 200
CONNECT_SECONDS = 5
#: In a request: send a checksum of objects' bytes; in an answer, or behind it, the checksum.
CHECKSUM_HEADER = "rain-checksum"
#: What a client that can check puts among the headers of each request.
CHECKSUM_REQUEST = "Rain-Checksum: xxh3-128\r\n" if _xxh3 else ""
#: What `recv` says when nothing came in time: the only error of a socket without a number.
SILENCE = ("timed out",)
#: For `poll`: the other side has ended the connection. Where there is no such flag its errors have to do.
HANG_UP = getattr(select, "POLLRDHUP", 0)


class ConnectionLost(RainException):
    """The connection ended early, or what came was no HTTP. `is_unanswered`: before the first byte of an answer."""

    def __init__(self, text, is_unanswered=False):
        super().__init__(text)
        self.is_unanswered = is_unanswered


class NotConnected(ConnectionLost):
    """Nobody listens there, or nobody answers."""

    def __init__(self, text):
        super().__init__(text, is_unanswered=True)


class Response:
    __slots__ = ("status", "headers", "body")

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body


def connect(host, port) -> socket.socket:
    try:
        sock = socket.create_connection((host, port), CONNECT_SECONDS)
    except socket.gaierror as error:
        raise RainException(f"the host name {host!r} is unknown: {error.strerror}") from None
    except TimeoutError:
        raise NotConnected(f"no answer from {host}:{port} within {CONNECT_SECONDS} s: check address and port") from None
    except OSError as error:
        raise NotConnected(
            f"no server at {host}:{port} ({error.strerror or error}): start one with `rain start --simple`, "
            "or check address and port"
        ) from None
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A held request may be silent for hours; a host that is gone is noticed within half a minute all the same.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return sock


def is_control_port(host, port) -> bool:
    """Whether a server's port of workers is there: it speaks first, and hangs up on requests."""
    try:
        with socket.create_connection((host, port), 0.7) as sock:
            return sock.recv(1) == b"\xff"
    except OSError:
        return False


def read_head(reader):
    """Reads a status line and headers.

    Returns:
        (status, headers with names in small letters)
    """
    line = reader.readline(LINE_BYTES_MAX)
    if not line:
        raise ConnectionLost("the server closed the connection", is_unanswered=True)
    parts = line.split(None, 2)
    if not line.endswith(b"\n") or len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise ConnectionLost(f"this is no HTTP answer: {line[:60]!r}; is it Rain's port?")
    headers = {}
    for _ in range(HEADERS_MAX):
        field = reader.readline(LINE_BYTES_MAX)
        if field in (b"\r\n", b"\n"):
            return int(parts[1]), headers
        name, colon, value = field.partition(b":")
        if not colon or not field.endswith(b"\n"):
            break
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    raise ConnectionLost("the headers of an answer were cut off or malformed")


def parse_size(text, base) -> int:
    try:
        size = int(text, base)
        if size >= 0:
            return size
    except ValueError:
        pass
    raise ConnectionLost(f"the server sent {text[:40]!r} where a length belongs")


def read_exactly(reader, size) -> bytes:
    data = reader.read(size)
    if len(data) != size:
        raise ConnectionLost(f"the connection ended after {len(data)} of {size} bytes")
    return data


def take_trailers(reader, headers):
    """Puts the fields behind the last chunk among the headers."""
    for _ in range(HEADERS_MAX):
        field = reader.readline(LINE_BYTES_MAX)
        if field in (b"\r\n", b"\n", b""):
            return
        name, _, value = field.partition(b":")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    raise ConnectionLost("the end of an answer is malformed")


def check_body(body, headers):
    """Holds a body against the checksum that the server sent with it; without one there is nothing to check."""
    said = headers.get(CHECKSUM_HEADER)
    if said is None or _xxh3 is None:
        return
    found = _xxh3.digest(body).hex()
    if found != said:
        raise ConnectionLost(f"the {len(body)} bytes that came have the checksum {found} and should have {said}")


def read_body(reader, headers) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = []
        while True:
            line = reader.readline(LINE_BYTES_MAX)
            size = parse_size(line.split(b";")[0].strip(), 16)
            if size == 0:
                take_trailers(reader, headers)
                return b"".join(chunks)
            chunks.append(read_exactly(reader, size))
            if read_exactly(reader, 2) != b"\r\n":
                raise ConnectionLost("a chunk of an answer has the wrong length")
    if "content-length" in headers:
        return read_exactly(reader, parse_size(headers["content-length"], 10))
    return reader.read()


class Connection:
    """One kept-alive connection; one request at a time."""

    def __init__(self, host, port):
        self.sock = connect(host, port)
        # A file on the descriptor reads in C, straight into the bytes that are returned; the socket's own would not.
        self.reader = open(self.sock.fileno(), "rb", buffering=65536, closefd=False)
        self.is_used = False

    def request(self, head: bytes, method: str, body_parts=(), timeout=None) -> Response:
        """Sends a request and reads the whole answer.

        Args:
            head: request line and headers, with the empty line at the end.
            method: for an answer that has no body.
            body_parts: pieces of bytes, sent one after the other.
            timeout: seconds within which the answer must begin; None for any time.
        """
        try:
            if not body_parts:
                self.sock.sendall(head)
            elif sum(map(len, body_parts)) < 65536:
                self.sock.sendall(b"".join((head, *body_parts)))
            else:
                self.sock.sendall(head)
                for part in body_parts:
                    self.sock.sendall(part)
        except (BrokenPipeError, ConnectionResetError) as error:
            # The server may have refused and closed while we were sending: its answer says why.
            try:
                return self._read(method)
            except (OSError, RainException):
                raise ConnectionLost(f"the connection broke while sending: {error.strerror}", True) from None
        if timeout is not None:
            self._await_answer(timeout)
        try:
            return self._read(method)
        except OSError as error:
            if error.errno is None:
                raise  # The kernel's have a number: this is the program's own, from a handler of signals.
            raise ConnectionLost(f"the connection broke: {error.strerror}", is_unanswered=True) from None

    def _await_answer(self, timeout):
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise ConnectionLost(f"no answer came within {timeout} s: is it Rain's port for clients?")

    def _read(self, method) -> Response:
        status, headers = read_head(self.reader)
        while status == 100:
            status, headers = read_head(self.reader)
        body = b"" if method == "HEAD" or status in (204, 304) else read_body(self.reader, headers)
        if status == 200:
            check_body(body, headers)
        self.is_used = True
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Response(status, headers, body)

    @property
    def is_closed(self) -> bool:
        return self.sock is None

    def close(self):
        if self.sock is not None:
            self.reader.close()
            self.sock.close()
            self.sock = None


class LineStream:
    """The lines of an answer that does not end: the lease."""

    def __init__(self, host, port, head: bytes):
        self.sock = connect(host, port)
        try:
            self.sock.sendall(head)
        except OSError as error:
            self.sock.close()
            raise ConnectionLost(f"the connection broke: {error.strerror}", is_unanswered=True) from None
        self._data = bytearray()
        self._status = None
        self._is_chunked = False
        self._body = bytearray()
        self._is_ended = False

    def read(self, timeout) -> list:
        """Waits for bytes and returns the whole lines that they complete, maybe none.

        Raises:
            ConnectionLost: the stream ended, or nothing came for `timeout` seconds.
            Refused: the answer was not 200; it holds the status and what came of the body.
        """
        if self._is_ended:
            raise ConnectionLost("the server ended the stream")
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            if error.args == SILENCE:
                raise ConnectionLost(f"nothing came from the server for {timeout} s") from None
            if error.errno is None:
                raise  # The kernel's have a number: this is the program's own, from a handler of signals.
            raise ConnectionLost(f"the connection broke: {error.strerror}") from None
        if not data:
            if self._status not in (None, 200):
                raise Refused(self._status, bytes(self._body))
            raise ConnectionLost("the server closed the connection")
        self._data += data
        if self._status is None and not self._take_head():
            return []
        self._take_body()
        if self._status != 200:
            if self._is_ended or not self._is_chunked and len(self._body) >= self._length:
                raise Refused(self._status, bytes(self._body))
            return []
        *lines, rest = self._body.split(b"\n")
        self._body = bytearray(rest)
        return [bytes(line) for line in lines if line.strip()]

    def has_bytes(self) -> bool:
        """Whether `read` would return at once."""
        poll = select.poll()
        try:
            poll.register(self.sock, select.POLLIN)
        except (OSError, ValueError):
            return False  # It is closed.
        return bool(poll.poll(0))

    def wait_for_end(self, timeout) -> bool:
        """Waits until the other side has ended the stream, whatever may be read until then, or for so many seconds.

        Returns:
            whether it has.
        """
        poll = select.poll()
        try:
            poll.register(self.sock, HANG_UP)
        except (OSError, ValueError):
            return True  # It is closed.
        return bool(poll.poll(timeout * 1000))

    def _take_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            if len(self._data) > LINE_BYTES_MAX:
                raise ConnectionLost("the headers of the lease are too long")
            return False
        import io

        self._status, headers = read_head(io.BytesIO(self._data[: end + 4]))
        self._is_chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._length = parse_size(headers.get("content-length", "0"), 10)
        del self._data[: end + 4]
        return True

    def _take_body(self):
        if not self._is_chunked:
            self._body += self._data
            self._data.clear()
            return
        while True:
            end = self._data.find(b"\r\n")
            if end < 0:
                if len(self._data) > LINE_BYTES_MAX:
                    raise ConnectionLost("a chunk of the lease is malformed")
                return
            size = parse_size(bytes(self._data[:end]).split(b";")[0].strip(), 16)
            if len(self._data) < end + 2 + size + 2:
                return
            if size == 0:
                self._is_ended = True
                return
            self._body += self._data[end + 2 : end + 2 + size]
            del self._data[: end + 2 + size + 2]

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)  # Who waits for its end in another thread shall know.
        except OSError:
            pass  # The connection is gone already.
        self.sock.close()


class Refused(Exception):
    """The server answered a stream's request with something else than 200."""

    def __init__(self, status, body):
        super().__init__(status)
        self.status = status
        self.body = body
