"""The connection to a server."""

import json

from ..common.errors import RainException, SessionException, TaskException
from .access import access_path, read_token
from .http import (
    CHECKSUM_REQUEST,
    CONNECT_SECONDS,
    Connection,
    ConnectionLost,
    LineStream,
    NotConnected,
    is_control_port,
)
from .outage import Outage

#: Connections that are kept for the next request; more are open only while more threads ask.
IDLE_CONNECTIONS_MAX = 4
#: Somebody has to notice that a server died, and to start it again.
RECONNECT_SECONDS = 60


def check_address(address, port) -> int:
    """The port as a number."""
    if not isinstance(address, str) or not address:
        raise RainException(f"the address of a server is a host name or address, not {address!r}")
    host, colon, rest = address.rpartition(":")
    if colon and rest.isdigit() and ":" not in host:
        raise RainException(f"{address!r} has a port in it: say it apart, Client({host!r}, {rest})")
    try:
        number = int(port)
    except (TypeError, ValueError):
        number = 0
    if not 0 < number < 65536:
        raise RainException(f"a port is a number from 1 to 65535, not {port!r}")
    return number


class Client:
    """A connection to a server.

    Args:
        address: host name or address of the server.
        port: its port for clients.
        reconnect: seconds for which sessions try again what the server does not answer, since it may be started again;
            0 makes every broken connection an error at once.

    Raises:
        RainException: no server there, no access file, or the server refuses it; the text says what to do.
    """

    def __init__(self, address="localhost", port=7210, *, reconnect=RECONNECT_SECONDS):
        self.address = address
        self.port = check_address(address, port)
        self.reconnect = reconnect
        self._access_path = access_path()
        self._token = read_token(self._access_path)
        host = f"[{address}]" if ":" in address else address
        self._headers = f"Host: {host}:{port}\r\nAuthorization: Bearer {self._token}\r\n{CHECKSUM_REQUEST}"
        self._idle = []
        # Only the first answer is limited in time: whatever else listens there may say nothing for ever.
        try:
            self.server_version = self._json("GET", "/api/v1/status", timeout=CONNECT_SECONDS).get("version")
        except NotConnected:
            raise
        except ConnectionLost:
            if not is_control_port(address, port):
                raise
            raise RainException(
                f"{address}:{port} is the port of workers; clients have another one: 7210, unless the server was told "
                "otherwise (its log says both)"
            ) from None

    def new_session(
        self, name="Unnamed Session", default=False, *, on_error="fail_session", subworkers=None, grace=None
    ):
        """Opens a session.

        Args:
            name: shown to people.
            default: make it the session that is used outside of any `with`.
            on_error: "fail_session": the first task that fails ends the session; "fail_descendants": only what needs
                its results fails.
            subworkers: programs with tasks of their own, by name: `{"wordcount": "/path/to/wordcount"}`; the program
                or a list of it and its arguments.
            grace: seconds for which the session outlives a broken connection; None for the server's default.
        """
        from .session import Session

        return Session(self, name, default, on_error, subworkers, grace)

    def status(self) -> dict:
        """What the server says of itself, its workers and sessions."""
        return self._json("GET", "/api/v1/status")

    def get_server_info(self) -> dict:
        """As `status`; the workers are also under "governors", their name in older programs."""
        info = self.status()
        info["governors"] = info.get("workers", [])
        return info

    def update(self, items):
        """Brings the state and info of tasks and data objects, of any sessions of this client."""
        by_session = {}
        for item in items:
            by_session.setdefault(item.session, []).append(item)
        for session, part in by_session.items():
            session.update(part)

    def close(self):
        """Closes idle connections. Sessions are closed by themselves."""
        while self._idle:
            self._idle.pop().close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if hasattr(self, "_idle"):  # It could be refused before.
            self.close()

    def __repr__(self):
        return f"<Client {self.address}:{self.port}>"

    # What sessions use.

    def _head(self, method, path, size=None, content_type=None, accept=None) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}"
        if size is not None:
            head += f"Content-Length: {size}\r\nContent-Type: {content_type}\r\n"
        if accept:
            head += f"Accept: {accept}\r\n"
        return (head + "\r\n").encode("latin-1")

    def _request(self, method, path, body=None, content_type="application/json", accept=None, timeout=None, patience=0):
        """Sends a request; the answer is a `Response` with a status below 400.

        Args:
            body: bytes, or a list of pieces of bytes.
            timeout: seconds within which the answer must begin; None for any time.
            patience: seconds for which it is sent again while the server does not answer: only for what may be said
                twice.
        """
        outage = None
        while True:
            try:
                response = self._exchange(method, path, body, content_type, accept, timeout)
                if response.status < 400:
                    return response
                error = self._refusal(response.status, response.body)
                if not isinstance(error, ConnectionLost):
                    raise error
            except ConnectionLost as lost:
                error = lost
            if outage is None:
                outage = Outage(f"the server at {self.address}:{self.port}", patience)
            outage.wait(error)

    def _exchange(self, method, path, body, content_type, accept, timeout):
        """One request and its answer, whatever that is."""
        parts = () if body is None else body if isinstance(body, list) else (body,)
        head = self._head(method, path, sum(map(len, parts)) if body is not None else None, content_type, accept)
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = Connection(self.address, self.port)
            was_used = connection.is_used
            try:
                response = connection.request(head, method, parts, timeout)
            except ConnectionLost as error:
                connection.close()
                # The server closes idle connections; that says nothing about this request.
                if was_used and error.is_unanswered:
                    continue
                raise ConnectionLost(f"{method} {path} at {self.address}:{self.port}: {error}") from None
            except BaseException:
                connection.close()  # An answer may be half read: it must not be taken for the next one's.
                raise
            if not connection.is_closed:
                if len(self._idle) < IDLE_CONNECTIONS_MAX:
                    self._idle.append(connection)
                else:
                    connection.close()
            return response

    def _json(self, method, path, value=None, timeout=None, patience=0) -> dict:
        body = None if value is None else json.dumps(value, separators=(",", ":")).encode()
        response = self._request(method, path, body, timeout=timeout, patience=patience)
        try:
            answer = json.loads(response.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise RainException(f"{method} {path}: the answer is no JSON object: {response.body[:60]!r}")
        return answer

    def _stream(self, path) -> LineStream:
        return LineStream(self.address, self.port, self._head("GET", path, accept="application/x-ndjson"))

    def _refusal(self, status, body) -> Exception:
        """The exception for an answer that says no; `ConnectionLost` for that of a server that is ending."""
        code = None
        try:
            error = json.loads(body)["error"]
            code = error.get("code")
            failure = error.get("failure")
            message = error.get("message") or error.get("code") or f"status {status}"
        except (ValueError, KeyError, TypeError, AttributeError):
            failure, message = None, f"the server answered {status}: {body[:200].decode(errors='replace')}"
        if failure:
            return TaskException(failure)
        if code == "bad_resume_token":
            return SessionException(message)
        if status == 401:
            return RainException(
                f"the server at {self.address}:{self.port} refused the token in {self._access_path}: take the access "
                "file of that server, or set RAIN_ACCESS to its path"
            )
        if status in (404, 409):
            return SessionException(message)
        if code == "server_stopping":
            return ConnectionLost(message, is_unanswered=True)
        return RainException(message)
