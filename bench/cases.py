"""The cases: the same work and sizes for every framework that is compared, so that their lines can be put together.

Each case runs on a server and one worker with two CPUs, started for it by `rain start` as a user would, with a state
directory of its own. A line says `seconds` (the median of the repetitions), `per_s`, and the server's peak memory.
"""

import argparse
import contextlib
import functools
import json
import math
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
RAIN = ROOT / "build/bin/rain"
NOOP = ROOT / "build/bench/noop"
SPAWN_LOOP = ROOT / "build/bench/spawn-loop"

NOOP_PY_COUNT = 10_000
NOOP_C_COUNT = 100_000
SHELL_COUNT = 10_000
CHAIN_LENGTH = 1000
MERGE_COUNT = 2000
TREE_LEAVES = 4096
DATA_COUNT = 20
DATA_BYTES = 50_000_000
RSS_COUNT = 100_000
SCALE_COUNTS = (1000, 10_000, 100_000, 1_000_000)


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


def compare(runs, bare):
    """What share of the bare loop's rate beside it each run had."""
    shares = [SHELL_COUNT / run / rate for run, rate in zip(runs, bare)]
    return {"bare_per_s": round(statistics.median(bare)), "share": round(statistics.median(shares), 3)}


def measure(case, n, repeat, once, notes="", warm_up=None, after_each=None, add=None, subworkers=None, **more):
    """Times once(session) in a session of its own each; opening and closing it is not part of the work.

    What after_each() does between runs isn't either; what add(runs) returns goes into the line too.
    """
    with cluster() as running:
        options = {"subworkers": {"noop": str(NOOP), **(subworkers or {})}}
        with running.session(**options):
            (warm_up or noop_py_once(2))()
        runs = []
        cpu = cpu_seconds(running.server_pid)
        for _ in range(repeat):
            with running.session(**options) as session:
                start = time.perf_counter()
                once(session)
                runs.append(time.perf_counter() - start)
            if after_each:
                after_each()
        share = (cpu_seconds(running.server_pid) - cpu) / sum(runs)
        if add:
            more.update(add(runs))
        emit(case, n, runs, notes, peak_mib(running.server_pid), server_cpu=round(share, 2), **more)


def functions():
    """The task bodies. Made here so that they travel by value, as those of a user's script."""
    from rain.client import remote

    @remote()
    def noop(ctx, _):
        return b""

    @remote()
    def ident(ctx, x):
        return str(x)

    @remote()
    def inc(ctx, x):
        return str(int(x.get_str()) + 1)

    @remote()
    def add(ctx, a, b):
        return str(int(a.get_str()) + int(b.get_str()))

    @remote()
    def total(ctx, xs):
        return str(sum(int(x.get_str()) for x in xs))

    @remote()
    def produce(ctx, i, size):
        import os

        import numpy

        data = numpy.full(size, i % 251, dtype=numpy.uint8)
        data[:8] = numpy.frombuffer(os.getpid().to_bytes(8, "little"), dtype=numpy.uint8)
        return data.data

    @remote()
    def consume(ctx, data):
        import os

        import numpy

        array = numpy.frombuffer(data.get_buffer(), dtype=numpy.uint8)
        crossed = int.from_bytes(array[:8].tobytes(), "little") != os.getpid()
        return f"{int(array[::4096].sum(dtype='int64'))} {int(crossed)}"

    return argparse.Namespace(noop=noop, ident=ident, inc=inc, add=add, total=total, produce=produce, consume=consume)


def gather(session, tasks):
    outputs = [task.output for task in tasks]
    for output in outputs:
        output.keep()
    session.submit()
    return session.fetch(outputs)


def noop_py_once(n):
    noop = functions().noop

    def once(session=None):
        from rain.client import get_active_session

        assert len(gather(session or get_active_session(), [noop(i) for i in range(n)])) == n

    return once


def case_startup(args):
    runs = []
    for _ in range(args.repeat):
        start = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, __file__, "--case", "startup-child"], stdout=subprocess.PIPE, text=True
        )
        first = None
        for line in child.stdout:
            if line.startswith("FIRST"):
                first = time.perf_counter() - start
        if child.wait() != 0 or first is None:
            raise RuntimeError(f"the child gave no result (exit {child.returncode})")
        runs.append(first)
    emit("startup", 1, runs, "rain start + client + one Python task; includes interpreter start and imports")


def case_startup_child(args):
    with cluster() as running, running.session() as session:
        noop_py_once(1)(session)
        print("FIRST", flush=True)


def case_noop_py(args):
    measure("noop-py", NOOP_PY_COUNT, args.repeat, noop_py_once(NOOP_PY_COUNT), "@remote calls, results fetched")


def case_noop_c(args):
    from rain.client import Task

    def once(session, n=NOOP_C_COUNT):
        assert len(gather(session, [Task("noop/noop") for _ in range(n)])) == n

    measure("noop-c", NOOP_C_COUNT, args.repeat, once, "one Task object each, results fetched")


def case_ffi_cos(args):
    from rain.client import cdll

    cos = cdll("libm.so.6").function("double cos(double)")

    def once(session, n=NOOP_C_COUNT):
        results = gather(session, [cos(i * 0.001) for i in range(n)])
        assert len(results) == n and abs(results[-1].load() - math.cos((n - 1) * 0.001)) < 1e-12

    measure("ffi-cos", NOOP_C_COUNT, args.repeat, once, "cos of libm by declaration, results fetched")


def case_shell_true(args):
    from rain.client import tasks

    def once(session):
        for _ in range(SHELL_COUNT):
            tasks.Execute(["/bin/true"])
        session.submit()
        session.wait_all()

    bare = []

    def bare_loop():
        start = time.perf_counter()
        subprocess.run([SPAWN_LOOP, str(SHELL_COUNT), "2"], check=True)
        bare.append(SHELL_COUNT / (time.perf_counter() - start))

    notes = "tasks.Execute, a directory each; bare: two threads that do nothing but posix_spawn and waitpid"
    add = functools.partial(compare, bare=bare)
    measure("shell-true", SHELL_COUNT, args.repeat, once, notes, after_each=bare_loop, add=add)


def case_chain_py(args):
    from rain.client import blob

    def once(session):
        inc = functions().inc
        value = blob("0")
        for _ in range(CHAIN_LENGTH):
            value = inc(value)
        assert gather(session, [value])[0].get_str() == str(CHAIN_LENGTH)

    measure("chain-py", CHAIN_LENGTH, args.repeat, once, "whole chain submitted ahead")


def case_chain_c(args):
    from rain.client import Task, blob

    def once(session):
        value = blob(struct.pack("=Q", 0))
        for _ in range(CHAIN_LENGTH):
            value = Task("noop/increment", [value])
        assert struct.unpack("=Q", bytes(gather(session, [value])[0].get_bytes())) == (CHAIN_LENGTH,)

    measure("chain-c", CHAIN_LENGTH, args.repeat, once, "whole chain submitted ahead")


def case_merge(args):
    def once(session):
        f = functions()
        task = f.total([f.ident(i) for i in range(MERGE_COUNT)])
        assert int(gather(session, [task])[0].get_str()) == sum(range(MERGE_COUNT))

    measure("merge", MERGE_COUNT + 1, args.repeat, once)


def case_tree(args):
    def once(session):
        f = functions()
        level = [f.ident(i) for i in range(TREE_LEAVES)]
        while len(level) > 1:
            level = [f.add(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        assert int(gather(session, level)[0].get_str()) == sum(range(TREE_LEAVES))

    measure("tree", 2 * TREE_LEAVES - 1, args.repeat, once)


def case_data(args):
    from rain.client import get_active_session

    crossed = []
    f = functions()
    # Processes of one name make, those of another read: no object is read where it was made.
    f.produce.task_type, f.consume.task_type = "maker/call", "reader/call"
    python = [sys.executable, "-u", "-m", "rain.subworker"]

    def move(session, size):
        results = gather(session, [f.consume(f.produce(i, size)) for i in range(DATA_COUNT)])
        crossed.append(sum(int(result.get_str().split()[1]) for result in results))
        assert crossed[-1] == DATA_COUNT, f"{DATA_COUNT - crossed[-1]} objects were read where they were made"

    def warm_up():
        move(get_active_session(), 1 << 20)
        crossed.clear()

    measure(
        *("data", DATA_COUNT, args.repeat, lambda session: move(session, DATA_BYTES)),
        "numpy uint8, every page touched in another process than the one that made it",
        warm_up,
        subworkers={"maker": python, "reader": python},
        amount=DATA_COUNT * DATA_BYTES / 1e9,
        unit="GB",
        other_process=crossed,
    )


def case_rss_100k(args):
    with cluster() as running:
        with running.session() as session:
            noop_py_once(1)(session)
        before = peak_mib(running.server_pid)
        with running.session() as session:
            start = time.perf_counter()
            noop_py_once(RSS_COUNT)(session)
            seconds = time.perf_counter() - start
        emit("rss-100k", RSS_COUNT, [seconds], f"server process; {before} MiB before", peak_mib(running.server_pid))


def case_scale(args):
    """What a C no-op costs in sessions of very different size; the worst against the best is their ratio."""
    from rain.client import Task

    with cluster() as running:
        cost = {}
        seconds = []
        for n in SCALE_COUNTS:
            runs = []
            # Small ones often, since a few milliseconds of anything else would show.
            for _ in range(min(20, max(args.repeat, 100_000 // n)) if n < SCALE_COUNTS[-1] else 1):
                with running.session(subworkers={"noop": str(NOOP)}) as session:
                    gather(session, [Task("noop/noop")])
                    start = time.perf_counter()
                    assert len(gather(session, [Task("noop/noop") for _ in range(n)])) == n
                    runs.append(time.perf_counter() - start)
            cost[n] = round(statistics.median(runs) / n * 1e6, 2)
            seconds = runs
        ratio = round(max(cost.values()) / min(cost.values()), 2)
        emit(
            *(
                "scale",
                SCALE_COUNTS[-1],
                seconds,
                "noop-c, 1,000 to 1,000,000 in a session; ratio: dearest to cheapest",
            ),
            *(peak_mib(running.server_pid),),
            us_per_task=cost,
            ratio=ratio,
        )


def main():
    cases = {name[5:].replace("_", "-"): case for name, case in globals().items() if name.startswith("case_")}
    timed = [name for name in cases if name != "startup-child"]
    parser = argparse.ArgumentParser(description="Measures Rain, one JSON line per case.")
    parser.add_argument("--case", default=",".join(timed), help="some of: " + " ".join(timed))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        print(" ".join(timed))
        return 0
    failed = 0
    for name in args.case.split(","):
        if name not in cases:
            parser.error(f"there is no case {name}; there are: {' '.join(timed)}")
        print(f"{time.strftime('%T')} {name}", file=sys.stderr, flush=True)
        try:
            cases[name](args)
        except Exception as error:  # One case that fails must not hide the others; the exit status tells.
            if name == "startup-child":
                raise
            failed = 1
            emit(name, 0, [], f"FAILED: {type(error).__name__}: {str(error)[:300]}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
