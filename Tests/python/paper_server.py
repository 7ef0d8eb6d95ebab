"""A server on paper: enough of the client plane to see what a client sends, and to answer as a test wants."""

import contextlib
import json
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROW = struct.Struct("<IBBHQ")


def row(number, data=b"", status=0, content_type=""):
    """One row of a bulk answer."""
    kind = content_type.encode()
    return ROW.pack(number, status, 0, len(kind), len(data)) + kind + data


class PaperServer:
    """
    Attributes:
        requests: (method, path, body) in order, without the lease's.
        submits: the lines of each accepted submit, decoded.
        results: bytes by object number; a missing one is dropped.
        refusals: (status, answer) by the last part of the path, given instead of the usual answer.
        lose_answers: how many requests will be heard, but neither carried out nor answered.
    """

    def __init__(self):
        self.requests = []
        self.sessions = []
        self.submits = []
        self.blobs = {}
        self.results = {}
        self.content_types = {}
        self.refusals = {}
        self.info = {}
        self.leases = 0
        self.lines = []
        self.news = threading.Condition()
        self.lease_drops = 0
        self.lose_answers = 0
        self.port = 0
        self.connections = set()
        self.resume()

    def say(self, **line):
        """Writes a line to the lease."""
        with self.news:
            self.lines.append(line)
            self.news.notify_all()

    def finish(self, first, count=1):
        self.say(finished=[[first, count]])

    def resume(self):
        """Listens, after a pause on the same port."""
        handler = type("Handler", (_Handler,), {"paper": self})
        self.is_stopping = False
        self.http = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def pause(self):
        """Is gone for a while, and so are all its connections."""
        self.stop()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def drop_lease(self):
        """Breaks the connections of all leases."""
        with self.news:
            self.lease_drops += 1
            self.news.notify_all()

    def refuse(self, verb, status, message, **more):
        self.refusals[verb] = (status, {"error": {"code": "test", "message": message, **more}})

    def templates(self):
        return [line["template"] for submit in self.submits for line in submit if "template" in line]

    def objects(self):
        return [line["object"] for submit in self.submits for line in submit if "object" in line]

    def rows(self):
        return [line for submit in self.submits for line in submit if isinstance(line, list)]

    def stop(self):
        with self.news:
            self.is_stopping = True
            self.news.notify_all()
        self.http.shutdown()
        self.http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    paper: PaperServer

    def setup(self):
        super().setup()
        self.paper.connections.add(self.connection)

    def finish(self):
        self.paper.connections.discard(self.connection)
        super().finish()

    def log_message(self, format, *arguments):
        pass

    def answer(self, status, value):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        paper = self.paper
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer secret":
            return self.answer(401, {"error": {"code": "token", "message": "unknown token"}})
        path, _, query = self.path.partition("?")
        verb = path.rsplit("/", 1)[-1]
        if verb == "lease" and verb not in paper.refusals:
            return self.lease()
        paper.requests.append((self.command, path, body))
        if verb in paper.refusals:
            return self.answer(*paper.refusals[verb])
        if paper.lose_answers > 0:
            paper.lose_answers -= 1
            self.close_connection = True
            return
        if path == "/api/v1/status":
            return self.answer(200, {"version": "0", "workers": [{"worker": 1, "cpus": 2}], "sessions": []})
        if path == "/api/v1/sessions":
            paper.sessions.append(json.loads(body))
            return self.answer(201, {"session": len(paper.sessions), "resume": "again"})
        if self.command == "PUT":
            paper.blobs[verb] = body
            return self.answer(201, {})
        if verb == "submit":
            paper.submits.append([json.loads(line) for line in body.splitlines()])
            return self.answer(200, {"repeated": False})
        if verb == "results":
            numbers = [first + i for first, count in json.loads(body)["objects"] for i in range(count)]
            rows = []
            for n in numbers:
                if n in paper.results:
                    rows.append(row(n, paper.results[n], content_type=paper.content_types.get(n, "")))
                else:
                    rows.append(row(n, status=2))
            return self.answer(200, b"".join(rows))
        if verb == "info":
            return self.answer(200, paper.info)
        return self.answer(200, {})

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def lease(self):
        """Streams the lines from the first one, as a resumed lease must."""
        paper = self.paper
        paper.leases += 1
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        drops = paper.lease_drops
        self.close_connection = True
        while True:
            with paper.news:
                while len(paper.lines) == sent and not paper.is_stopping and drops == paper.lease_drops:
                    paper.news.wait()
                if paper.is_stopping or drops != paper.lease_drops:
                    return
                lines, sent = paper.lines[sent:], len(paper.lines)
            data = "".join(json.dumps(line) + "\n" for line in lines).encode()
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            except OSError:
                return
