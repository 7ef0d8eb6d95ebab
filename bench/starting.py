"""How long subworkers take to start: by themselves, and until a client has the result of the first task."""

import os
import pathlib
import socket
import statistics
import sys
import time

from harness import LIBEXEC, NOOP, cluster, emit, gather


def registered(command):
    """Seconds from the spawn to the whole of the message by which a subworker says that it is ready for calls."""
    ours, theirs = socket.socketpair()
    # It complains when nobody answers.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.set_inheritable(theirs.fileno(), True)
    environment = {
        **os.environ,
        "RAIN_SUBWORKER_SOCKET": str(theirs.fileno()),
        "RAIN_SUBWORKER_NAME": "bench",
    }
    start = time.perf_counter()
    pid = os.posix_spawn(command[0], command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, nowhere, 2)])
    theirs.close()
    head = receive(ours, 8)
    receive(ours, int.from_bytes(head[4:], "little") * 8)
    seconds = time.perf_counter() - start
    ours.close()
    os.close(nowhere)
    os.waitpid(pid, 0)
    return seconds


def receive(source, count):
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise RuntimeError("the subworker ended before it was ready")
        data += more
    return data


def first_task(task_of):
    """Seconds that the first task of a type takes more than the second: the worker has to start a subworker for it."""
    with cluster() as running, running.session(subworkers={"noop": str(NOOP)}) as session:
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            gather(session, [task_of()])
            seconds.append(time.perf_counter() - start)
    return seconds[0] - seconds[1]


def kinds():
    """By language: the command, and a function that makes a task for it."""
    from rain.client import Task, cdll, remote

    @remote()
    def noop(ctx):
        return b""

    cos = cdll("libm.so.6").function("double cos(double)")
    return {
        "c": ([str(NOOP)], lambda: Task("noop/noop")),
        "py": ([sys.executable, "-u", "-m", "rain.subworker"], noop),
        "ffi": ([str(LIBEXEC / "ffi")], lambda: cos(0.5)),
    }


def starting(args):
    for language, (command, task_of) in kinds().items():
        if not pathlib.Path(command[0]).exists():
            raise RuntimeError(f"{command[0]} is not there: scripts/build makes it")
        count = 20 if not args.quick else 2
        runs = [registered(command) for _ in range(count)]
        first = [first_task(task_of) for _ in range(args.repeat)]
        emit(
            *("subworker-start", 1, runs),
            "from the spawn to the registration; first_task: what the first task takes more than the second",
            unit="starts",
            language=language,
            registered_ms=round(statistics.median(runs) * 1e3, 2),
            first_task_ms=round(statistics.median(first) * 1e3, 2),
        )
