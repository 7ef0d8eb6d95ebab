"""CPU time of each thread, per task, from the kernel's own count; and instructions per process by callgrind.

A stage's cost is its slope: what a run of 5 n tasks takes more than one of n. So starting and warming up don't count.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import harness

COUNTS = {"noop-c": 20_000, "noop-py": 10_000, "shell-true": 1_000}
FACTOR = 5


def tasks_of(case, count):
    from rain.client import Task, remote, tasks

    if case == "noop-c":
        return [Task("noop/noop") for _ in range(count)]
    if case == "shell-true":
        return [tasks.Execute(["/bin/true"]) for _ in range(count)]

    @remote()
    def noop(ctx, _):
        return b""

    return [noop(i) for i in range(count)]


def run(session, case, count):
    """Seconds of CPU of the client's process for making, submitting, awaiting and (but for programs) fetching."""
    before = time.process_time()
    made = tasks_of(case, count)
    if case == "shell-true":
        session.submit()
        session.wait_all()
    else:
        harness.gather(session, made)
    return time.process_time() - before


def process_name(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


def descendants(pid):
    found = []
    for child in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ProcessLookupError):
            if int(child.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]) == pid:
                found += [int(child.name), *descendants(int(child.name))]
    return found


def thread_seconds(pid):
    """{thread's name: seconds on a CPU} of a process; threads of one name are one."""
    seconds = {}
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError, ProcessLookupError):
            name = re.sub(r"[-#0-9]+$", "", thread.joinpath("comm").read_text().strip())
            nanoseconds = int(thread.joinpath("schedstat").read_text().split()[0])
            seconds[name] = seconds.get(name, 0) + nanoseconds / 1e9
    return seconds


STAGES = [  # process, thread's name there, what it does
    ("server", "NIO-ELT", "HTTP: scan submits, write results and lease"),
    ("server", "reactor", "reactor: core, Cap'n Proto"),
    ("server", "journal", "journal"),
    ("server", "ZMQbg/IO/", "control plane: CURVE, sockets"),
    ("worker", "rain-worker", "worker's loop: core, Cap'n Proto, subworkers or programs"),
    ("worker", "ZMQbg/IO/", "control plane: CURVE, sockets"),
]


def measured(case, count):
    """[(stage, µs per task)]"""
    with harness.cluster() as running, running.session(subworkers={"noop": str(harness.NOOP)}) as session:
        inner = [pid for pid in descendants(running.worker_pids[0]) if process_name(pid) == "rain-worker"]
        if len(inner) != 1:
            raise RuntimeError(f"the worker's own process is not to be found among {inner}")
        run(session, case, max(200, count // 10))
        marks = []
        for size in (count, FACTOR * count):
            subworkers = [pid for pid in descendants(inner[0]) if process_name(pid) != "rain-janitor"]
            before = snapshot(running.server_pid, inner[0], subworkers)
            client = run(session, case, size)
            after = snapshot(running.server_pid, inner[0], subworkers)
            marks.append({"client": client, **{key: after[key] - before.get(key, 0) for key in after}})
        slope = {key: (marks[1].get(key, 0) - marks[0].get(key, 0)) / ((FACTOR - 1) * count) * 1e6 for key in marks[1]}
    return slope


def snapshot(server, worker, subworkers):
    seconds = {("server", name): value for name, value in thread_seconds(server).items()}
    seconds.update({("worker", name): value for name, value in thread_seconds(worker).items()})
    seconds["subworkers"] = 0
    for pid in subworkers:
        with contextlib.suppress(OSError):
            seconds["subworkers"] += sum(thread_seconds(pid).values())
    return seconds


def instructions(case, count):
    """{"server": instructions per task}, from two runs under callgrind.

    The worker starts itself anew by /proc/self/exe, which is valgrind's own file there: it runs as it is.
    """
    # Debian's valgrind can't read the debug information of Swift 6; counting needs none.
    stripped = harness.ROOT / "build/bench/rain"
    subprocess.run(["strip", "-o", stripped, harness.RAIN], check=True)
    totals = []
    for size in (count // 10, count // 10 * FACTOR):
        directory = pathlib.Path(tempfile.mkdtemp(prefix="rain-profile-"))
        os.environ["XDG_STATE_HOME"] = str(directory)
        grind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={directory}/out.%p"]
        common = {"stdout": subprocess.DEVNULL, "stderr": open(directory / "log", "ab")}
        try:
            server = start(
                [*grind, stripped, *"server --port 0 --control-port 0".split(), "--work-dir", f"{directory}/s"],
                directory / "server",
                common,
            )
            address = f"127.0.0.1:{server['control_port']}"
            worker = start(
                [str(harness.RAIN), "worker", address, "--cpus", "2", "--work-dir", f"{directory}/w"],
                directory / "worker",
                common,
            )
            from rain.client import Client

            client = Client("127.0.0.1", server["port"])
            with client.new_session("profile", subworkers={"noop": str(harness.NOOP)}) as session:
                run(session, case, size)
            for process in (worker["popen"], server["popen"]):
                process.terminate()
                process.wait(60)
            totals.append({"server": total(directory / f"out.{server['pid']}")})
        finally:
            shutil.rmtree(directory, ignore_errors=True)
    tasks = count // 10 * (FACTOR - 1)
    return {key: round((totals[1][key] - totals[0][key]) / tasks) for key in totals[0]}


def start(command, ready_file, common):
    """Starts a process and gives its ready line; the file appears when it is ready, and the process's end is seen."""
    popen = subprocess.Popen([*command, "--ready-file", str(ready_file)], **common)
    while not ready_file.exists():
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(0.1)
            log = pathlib.Path(common["stderr"].name).read_text(errors="replace")
            raise RuntimeError(f"{' '.join(map(str, command))} ended before it was ready:\n{log[-2000:]}")
    return {**json.loads(ready_file.read_text()), "popen": popen}


def total(path):
    return int(re.search(r"^(?:totals|summary): (\d+)", path.read_text(), re.MULTILINE).group(1))


def table(case, slopes, counted):
    def middle(key):
        return statistics.median(slope.get(key, 0) for slope in slopes)

    rows = [("client", "make, encode, send, wait, collect", middle("client"), "")]
    for process, thread, what in STAGES:
        rows.append((process, what, middle((process, thread)), ""))
    rows.append(("subworkers", "the scaffold, or Python with it", middle("subworkers"), ""))
    all_stages = sum(row[2] for row in rows)
    print(f"\n### {case}\n\n| process | stage | µs of CPU a task |\n| --- | --- | --- |")
    for process, what, microseconds, _ in rows:
        print(f"| {process} | {what} | {microseconds:.2f} |")
    print(f"| all | | {all_stages:.2f} |")
    for process, number in counted.items():
        print(f"\nInstructions of the {process} per task: {number:,}.")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", default=",".join(COUNTS))
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--instructions", action="store_true")
    args = parser.parse_args()
    for case in args.case.split(","):
        if case not in COUNTS:
            parser.error(f"there is no case {case}; there are: {' '.join(COUNTS)}")
        count = args.count or COUNTS[case]
        print(f"{time.strftime('%T')} {case}", file=sys.stderr, flush=True)
        slopes = [measured(case, count) for _ in range(args.repeat)]
        table(case, slopes, instructions(case, count) if args.instructions else {})


if __name__ == "__main__":
    main()
