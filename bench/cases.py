"""The cases: the same work and sizes for every framework that is compared, so that their lines can be put together.

Each case runs on a server and one worker with two CPUs, started for it by `rain start` as a user would, with a state
directory of its own. A line says `seconds` (the median of the repetitions), `per_s`, and the server's peak memory.
"""

import argparse
import functools
import math
import statistics
import struct
import subprocess
import sys
import time

from handed import handed
from harness import NOOP, SPAWN_LOOP, cluster, cpu_seconds, emit, gather, peak_mib
from starting import starting

NOOP_PY_COUNT = 10_000
NOOP_C_COUNT = 100_000
SHELL_COUNT = 10_000
SINGLE_COUNT = 2000
CHAIN_LENGTH = 1000
MERGE_COUNT = 2000
TREE_LEAVES = 4096
DATA_COUNT = 20
DATA_BYTES = 50_000_000
RSS_COUNT = 100_000
SCALE_COUNTS = (1000, 10_000, 100_000, 1_000_000)


def compare(runs, bare, count):
    """What share of the bare loop's rate beside it each run had."""
    shares = [count / run / rate for run, rate in zip(runs, bare)]
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
    n = args.sized(NOOP_PY_COUNT)
    measure("noop-py", n, args.repeat, noop_py_once(n), "@remote calls, results fetched")


def case_noop_c(args):
    from rain.client import Task

    n = args.sized(NOOP_C_COUNT)

    def once(session):
        assert len(gather(session, [Task("noop/noop") for _ in range(n)])) == n

    measure("noop-c", n, args.repeat, once, "one Task object each, all submitted, results fetched")


def case_single_c(args):
    from rain.client import Task

    n = args.sized(SINGLE_COUNT)

    def once(session):
        for _ in range(n):
            gather(session, [Task("noop/noop")])

    measure("single-c", n, args.repeat, once, "each is submitted when the result of the one before is there")


def case_ffi_cos(args):
    from rain.client import cdll

    cos = cdll("libm.so.6").function("double cos(double)")

    n = args.sized(NOOP_C_COUNT)

    def once(session):
        results = gather(session, [cos(i * 0.001) for i in range(n)])
        assert len(results) == n and abs(results[-1].load() - math.cos((n - 1) * 0.001)) < 1e-12

    measure("ffi-cos", n, args.repeat, once, "cos of libm by declaration, results fetched")


def case_shell_true(args):
    from rain.client import tasks

    n = args.sized(SHELL_COUNT)

    def once(session):
        for _ in range(n):
            tasks.Execute(["/bin/true"])
        session.submit()
        session.wait_all()

    bare = []

    def bare_loop():
        start = time.perf_counter()
        subprocess.run([SPAWN_LOOP, str(n), "2"], check=True)
        bare.append(n / (time.perf_counter() - start))

    notes = "tasks.Execute, a directory each; bare: two threads that do nothing but posix_spawn and waitpid"
    add = functools.partial(compare, bare=bare, count=n)
    measure("shell-true", n, args.repeat, once, notes, after_each=bare_loop, add=add)


def case_chain_py(args):
    from rain.client import blob

    n = args.sized(CHAIN_LENGTH)

    def once(session):
        inc = functions().inc
        value = blob("0")
        for _ in range(n):
            value = inc(value)
        assert gather(session, [value])[0].get_str() == str(n)

    measure("chain-py", n, args.repeat, once, "whole chain submitted ahead")


def case_chain_c(args):
    from rain.client import Task, blob

    n = args.sized(CHAIN_LENGTH)

    def once(session):
        value = blob(struct.pack("=Q", 0))
        for _ in range(n):
            value = Task("noop/increment", [value])
        assert struct.unpack("=Q", gather(session, [value])[0].get_bytes()) == (n,)

    measure("chain-c", n, args.repeat, once, "whole chain submitted ahead")


def case_merge(args):
    n = args.sized(MERGE_COUNT)

    def once(session):
        f = functions()
        task = f.total([f.ident(i) for i in range(n)])
        assert int(gather(session, [task])[0].get_str()) == sum(range(n))

    measure("merge", n + 1, args.repeat, once)


def case_tree(args):
    leaves = TREE_LEAVES if not args.quick else 64

    def once(session):
        f = functions()
        level = [f.ident(i) for i in range(leaves)]
        while len(level) > 1:
            level = [f.add(a, b) for a, b in zip(level[::2], level[1::2], strict=True)]
        assert int(gather(session, level)[0].get_str()) == sum(range(leaves))

    measure("tree", 2 * leaves - 1, args.repeat, once)


def case_data(args):
    from rain.client import get_active_session

    crossed = []
    size = args.sized(DATA_BYTES)
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
        *("data", DATA_COUNT, args.repeat, lambda session: move(session, size)),
        "numpy uint8, every page touched in another process than the one that made it",
        warm_up,
        subworkers={"maker": python, "reader": python},
        amount=DATA_COUNT * size / 1e9,
        unit="GB",
        other_process=crossed,
    )


def case_rss_100k(args):
    n = args.sized(RSS_COUNT)
    with cluster() as running:
        with running.session() as session:
            noop_py_once(1)(session)
        before = peak_mib(running.server_pid)
        with running.session() as session:
            start = time.perf_counter()
            noop_py_once(n)(session)
            seconds = time.perf_counter() - start
        emit("rss-100k", n, [seconds], f"server process; {before} MiB before", peak_mib(running.server_pid))


def case_scale(args):
    """What a C no-op costs in sessions of very different size; the worst against the best is their ratio."""
    from rain.client import Task

    counts = [args.sized(count) for count in SCALE_COUNTS]
    with cluster() as running:
        cost = {}
        seconds = []
        for n in counts:
            runs = []
            # Small ones often, since a few milliseconds of anything else would show.
            for _ in range(min(20, max(args.repeat, counts[2] // n)) if n < counts[-1] else 1):
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
                counts[-1],
                seconds,
                "noop-c, 1,000 to 1,000,000 in a session; ratio: dearest to cheapest",
            ),
            *(peak_mib(running.server_pid),),
            us_per_task=cost,
            ratio=ratio,
        )


def case_handed_c_c(args):
    handed(args, "c", "c")


def case_handed_c_py(args):
    handed(args, "c", "py")


def case_handed_py_c(args):
    handed(args, "py", "c")


def case_handed_py_py(args):
    handed(args, "py", "py")


def case_subworker_start(args):
    starting(args)


def main():
    cases = {name[5:].replace("_", "-"): case for name, case in globals().items() if name.startswith("case_")}
    timed = [name for name in cases if name != "startup-child"]
    parser = argparse.ArgumentParser(description="Measures Rain, one JSON line per case.")
    parser.add_argument("--case", default=",".join(timed), help="some of: " + " ".join(timed))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work: whether it runs, not how fast")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    args.sized = lambda count: max(4, count // 100) if args.quick else count
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
