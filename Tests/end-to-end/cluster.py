"""What the end-to-end tests share: the program, servers and workers of a test's own, `curl`, and who is still alive."""

import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RAIN = os.environ.get("RAIN_PROGRAM", str(ROOT / "build/bin/rain"))
PYTHON = str(ROOT / ".venv/bin/python")


class Cluster:
    """One state directory, and what `rain start` starts in it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.state = self.directory / "state"
        self.work = self.directory / "work"
        self.log = self.directory / "log"
        # Every process of the test inherits it, so nobody can hide.
        self.env = dict(os.environ, XDG_STATE_HOME=str(self.state))
        self.port = self.control_port = self.url = self.token = None
        self.pids = set()

    def rain(self, *arguments, prefix=(), **options):
        """Runs the program to its end, behind another one that starts it, if any."""
        options = {"capture_output": True, "text": True, "timeout": 60, "env": self.env, **options}
        return subprocess.run([*prefix, RAIN, *map(str, arguments)], **options)

    def start(self, *arguments, prefix=()):
        result = self.rain(
            *("start", "--port", 0, "--control-port", 0, "--work-dir", self.work, "--log-dir", self.log, *arguments),
            prefix=prefix,
        )
        assert result.returncode == 0, result.stderr
        self.read_address()
        self.pids |= {json.loads(path.read_text())["pid"] for path in (self.state / "rain/run").glob("*.json")}
        return result

    def read_address(self):
        status = json.loads(self.rain("status", "--json").stdout)
        self.port, self.url = status["port"], status["url"]
        access = pathlib.Path(status["access_file"]).read_text()
        self.token = re.search(r'token\s*=\s*"([^"]+)"', access).group(1)
        server = json.loads((self.state / "rain/run/server.json").read_text())
        self.control_port = server["controlPort"]

    def curl(self, *arguments, token=True, **options):
        """Runs curl; its stdout as bytes."""
        command = ["curl", "--silent", "--show-error", "--max-time", "30"]
        if token:
            command += ["--header", f"Authorization: Bearer {self.token}"]
        options = {"capture_output": True, "timeout": 60, **options}
        result = subprocess.run([*command, *map(str, arguments)], **options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def call(self, method, path, body=None, token=True):
        """One request by curl: (status, decoded JSON)."""
        arguments = ["--request", method, "--write-out", "\n%{http_code}", f"{self.url}{path}"]
        if body is not None:
            text = body if isinstance(body, str) else json.dumps(body)
            arguments += ["--data-binary", "@-"]
            output = self.curl(*arguments, token=token, input=text.encode())
        else:
            output = self.curl(*arguments, token=token)
        answer, _, status = output.rpartition(b"\n")
        return int(status), json.loads(answer) if answer else None

    def get(self, path):
        status, answer = self.call("GET", path)
        assert status == 200, answer
        return answer

    def post(self, path, body=None, expect=200):
        status, answer = self.call("POST", path, body)
        assert status == expect, answer
        return answer

    def session(self, **options):
        """Opens a detached session, which needs no lease; its path."""
        answer = self.post("/api/v1/sessions", {"detached": True, **options}, expect=201)
        return f"/api/v1/sessions/{answer['session']}"

    def processes(self):
        """Everything alive that was started with this state directory: {pid: command line}."""
        mark = f"XDG_STATE_HOME={self.state}".encode()
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit() or int(name) == os.getpid():
                continue
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark not in file.read().split(b"\0"):
                        continue
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    found[int(name)] = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                pass
        return found

    def pid(self, name):
        """The process that `rain start` started under this name."""
        return json.loads((self.state / f"rain/run/{name}.json").read_text())["pid"]

    def wait_until_gone(self, seconds, keep=()):
        """Waits until none of the processes is left but `keep`; returns those that are."""
        left = self.processes()
        for pid in left:
            if pid not in keep:
                wait_for_end(pid, seconds)
        return {pid: command for pid, command in self.processes().items() if pid not in keep}

    def finish(self):
        """Stops what runs and checks that nothing is left of it."""
        stopped = self.rain("stop")
        left = self.wait_until_gone(2)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert stopped.returncode == 0, stopped.stderr
        assert not left, f"processes left behind: {left}"
        self.check_no_leftovers()

    def check_no_leftovers(self):
        """No socket of this test's directory, no file in /dev/shm."""
        sockets = [path for path in self.directory.rglob("*") if path.is_socket()]
        assert not sockets
        # A store has its worker's pid in its name, which tells ours from those of other workers of this machine.
        ours = {str(pid) for pid in self.pids}
        assert not [name for name in os.listdir("/dev/shm") if name.startswith("rain-") and ours & set(name.split("-"))]


def wait_for_end(pid, seconds):
    """Waits for any process, not only a child; False when it still runs after that time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


def wait_for(condition, seconds=5):
    """Waits until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ndjson(*lines):
    return "".join(json.dumps(line) + "\n" for line in lines)


def run_program(*command, outputs=("out",), shell=False, stdin=None, **extra):
    """The template of a program whose stdout is its output; `stdin` is the position of an input."""
    config = {"command": list(command), "shell": shell}
    if outputs:
        config["stdout"] = 0
    if stdin is not None:
        config["stdin"] = stdin
    kept = [{"label": label, "keep": True} for label in outputs]
    return {"template": {"type": "builtin/run", "config": config, "outputs": kept, **extra}}
