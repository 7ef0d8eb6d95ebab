"""A worker's side of the subworker plane: one subworker process, messages made and read by the `capnp` tool."""

import base64
import json
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMA = str(ROOT / "include" / "subworker.capnp")


def capnp(verb, kind, data):
    result = subprocess.run(["capnp", verb, SCHEMA, kind], input=data, capture_output=True, timeout=20)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


def text(value):
    """A Cap'n Proto literal of a str or of bytes."""
    if isinstance(value, bytes):
        return '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
    return json.dumps(value)


class Host:
    """Starts `python -m rain.subworker` and speaks with it as a worker would."""

    def __init__(self, directory, name="py", command=None):
        self.staging = pathlib.Path(directory) / "staging"
        self.staging.mkdir()
        self.log = pathlib.Path(directory) / "log"
        ours, theirs = socket.socketpair()
        environment = dict(os.environ, RAIN_SUBWORKER_SOCKET=str(theirs.fileno()), RAIN_SUBWORKER_NAME=name)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                command or [sys.executable, "-u", "-m", "rain.subworker"],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        theirs.close()
        ours.settimeout(20)
        self.socket = ours
        self._received = b""

    def send(self, literal):
        self.socket.sendall(capnp("encode", "ToSubworker", literal.encode()))

    def receive(self) -> str:
        """The next message, as the text that `capnp decode` makes of it."""
        return capnp("decode", "ToWorker", self._frame()).decode()

    def _frame(self) -> bytes:
        self._fill(8)
        segments = struct.unpack_from("<I", self._received)[0] + 1
        head = (4 * (segments + 1) + 7) // 8 * 8
        self._fill(head)
        size = head + 8 * sum(struct.unpack_from(f"<{segments}I", self._received, 4))
        self._fill(size)
        frame, self._received = self._received[:size], self._received[size:]
        return frame

    def _fill(self, size):
        while len(self._received) < size:
            data = self.socket.recv(65536)
            assert data, f"the subworker ended: {self.log.read_text()}"
            self._received += data

    def welcome(self, inline_bytes_max=65536, takes_progress=False, credit_bytes=0) -> str:
        """Answers the registration; returns it."""
        registration = self.receive()
        self.send(
            f'(welcome = (protocolVersion = 1, workerName = "test", stagingDirectory = {text(str(self.staging))}, '
            f"inlineBytesMax = {inline_bytes_max}, takesProgress = {'true' if takes_progress else 'false'}, "
            f"creditBytes = {credit_bytes}))"
        )
        return registration

    def template(self, number, config="", outputs=("out0",), attributes="", name="test", content_types=None):
        types = content_types or [""] * len(outputs)
        values = ", ".join(f"(label = {text(o)}, contentType = {text(t)})" for o, t in zip(outputs, types))
        self.send(
            f'(templates = [(id = {number}, method = "call", name = {text(name)}, config = {text(config.encode())}, '
            f"outputs = [{values}], attributes = {text(attributes.encode())}, constantCount = 1)])"
        )

    def call(self, template, inputs, arguments="null", slot=0):
        self.send(
            f"(calls = [(slot = {slot}, template = {template}, session = 1, task = 7, epoch = 1, attempt = 1, "
            f"arguments = {text(arguments.encode())}, inputs = [{', '.join(inputs)}])])"
        )

    def grant(self, number):
        self.send(f"(granted = (id = {number}, directory = {text(str(self.staging))}))")

    def end(self) -> int:
        """Asks the subworker to end; its exit code."""
        self.send("(shutdown = void)")
        code = self.process.wait(20)
        self.socket.close()
        return code

    def wait_until_it_waits(self):
        """Until the process's first thread, which has said that it goes on, sleeps in a system call."""
        deadline = time.monotonic() + 20
        while pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            assert time.monotonic() < deadline, "it goes on and on"
            time.sleep(0.001)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.socket.close()


def key(number):
    return f"(session = 1, index = {number}, epoch = 1, number = 1)"


def inline(number, data, content_type="", keep=False, attributes=""):
    keeps = "true" if keep else "false"
    return (
        f"(key = {key(number)}, sizeBytes = {len(data)}, contentType = {text(content_type)}, keep = {keeps}, "
        f"attributes = {text(attributes.encode())}, inline = {text(data)})"
    )


def cached(number, size):
    return f"(key = {key(number)}, sizeBytes = {size}, cached = void)"


def file(number, path, content_type=""):
    size = os.stat(path).st_size
    return f"(key = {key(number)}, sizeBytes = {size}, contentType = {text(content_type)}, path = {text(str(path))})"


def pickled_arguments(*args, **keywords):
    import cloudpickle

    return json.dumps(base64.b64encode(cloudpickle.dumps((args, keywords))).decode())
