"""What the cases share: a cluster for each, started as a user would, and a line of JSON for what was measured."""

import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
RAIN = pathlib.Path(os.environ.get("RAIN_PROGRAM", ROOT / "build/bin/rain"))
LIBEXEC = ROOT / "build/libexec/rain"
PROGRAMS = pathlib.Path(os.environ.get("RAIN_BENCH_PROGRAMS", ROOT / "build/bench"))
NOOP = PROGRAMS / "noop"
HAND = PROGRAMS / "hand"
SPAWN_LOOP = PROGRAMS / "spawn-loop"


class Cluster:
    """What `rain start` started, and the client."""

    def __init__(self, client, server_pid, worker_pids):
        self.client = client
        self.server_pid = server_pid
        self.worker_pids = worker_pids

    def session(self, **options):
        return self.client.new_session("bench", **options)


@contextlib.contextmanager
def cluster():
    directory = tempfile.mkdtemp(prefix="rain-bench-")
    os.environ["XDG_STATE_HOME"] = directory
    start = [
        RAIN,
        "start",
        "--local-workers",
        "[2]",
        "--port",
        "0",
        "--control-port",
        "0",
        "--work-dir",
        f"{directory}/work",
    ]
    try:
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL)
        run = pathlib.Path(directory, "rain/run")
        server = json.loads((run / "server.json").read_text())
        workers = [json.loads(path.read_text())["pid"] for path in run.glob("worker-*.json")]
        from rain.client import Client

        yield Cluster(Client("127.0.0.1", server["port"]), server["pid"], workers)
    finally:
        subprocess.run([RAIN, "stop"], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(directory, ignore_errors=True)


def peak_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def emit(case, n, runs, notes="", rss=None, unit="tasks", amount=None, **more):
    line = {"peer": "rain", "case": case, "n": n, "seconds": None, "per_s": None}
    if runs:
        median = statistics.median(runs)
        line.update(seconds=round(median, 4), per_s=round((n if amount is None else amount) / median, 3))
    line.update(unit=unit, runs=[round(run, 4) for run in runs], rss_mib_server=rss, notes=notes, **more)
    print(json.dumps(line), flush=True)


def gather(session, tasks):
    outputs = [task.output for task in tasks]
    for output in outputs:
        output.keep()
    session.submit()
    return session.fetch(outputs)
