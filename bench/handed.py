"""Objects of 1 KB to 256 MB handed from one process to another of the same worker, beside plain memcpy of that size.

The task that makes an object writes the time of its end into it; the one that reads it notes when it had the first
byte, the first of the last page, and all of them. Both are of CLOCK_MONOTONIC, which is the same in all processes.
Pairs of such tasks run twice: one after the other, so that the times between are nothing but the way from process to
process; and all submitted at once, on both CPUs, where making counts too. Python makes them in two ways: in memory of
its own, which is copied after the end of the task, and in place.
"""

import statistics
import struct
import subprocess
import sys
import time

from harness import HAND, cluster, emit, gather, peak_mib

#: Bytes of an object, and how many of them.
SIZES = {1 << 10: 500, 1 << 16: 500, 1 << 20: 200, 1 << 24: 24, 1 << 28: 4}

FACTS = struct.Struct("=7Q")


def python_tasks():
    """The same as make and take in hand.c."""
    from rain.client import remote

    @remote()
    def make(ctx, size, _=None):
        import os
        import time

        import numpy

        data = numpy.full(size // 8, 0x0101010101010101, dtype=numpy.uint64)
        data[0] = os.getpid()
        data[1] = time.monotonic_ns()
        return data.data.cast("B")

    @remote()
    def make_in_place(ctx, size, _=None):
        import os
        import time

        data = ctx.empty(size // 8, "u8")
        data[:] = 0x0101010101010101
        data[0] = os.getpid()
        data[1] = time.monotonic_ns()
        return data

    @remote()
    def take(ctx, data):
        import os
        import struct
        import time

        import numpy

        buffer = data.get_buffer()
        buffer[0]
        first = time.monotonic_ns()
        buffer[(len(buffer) - 1) // 4096 * 4096]
        last = time.monotonic_ns()
        words = numpy.frombuffer(buffer, dtype=numpy.uint64)
        total = int(words[2:].sum())
        done = time.monotonic_ns()
        return struct.pack("=7Q", int(words[0]), int(words[1]), os.getpid(), first, last, done, total)

    make.task_type = make_in_place.task_type = "maker/call"
    take.task_type = "reader/call"
    return make, make_in_place, take


def makers(language):
    """Each way to make an object by its name: make(size, after), a task that does so once another one is done."""
    from rain.client import Task

    if language == "c":
        return {"in place": lambda size, after: Task("maker/make", [after] if after else (), arguments=size)}
    make, make_in_place, _ = python_tasks()
    return {
        "copied": lambda size, after: make(size, after) if after else make(size),
        "in place": lambda size, after: make_in_place(size, after) if after else make_in_place(size),
    }


def reader(language):
    from rain.client import Task

    if language == "c":
        return lambda made: Task("reader/take", [made])
    *_, take = python_tasks()
    return take


def read_facts(instances, size):
    """(first byte, last page, all of it) of each object: seconds after the end of the task that made it."""
    times = []
    for instance in instances:
        made_in, made, read_in, first, last, done, total = FACTS.unpack(instance.get_bytes())
        words = size // 8 - 2
        if total != words * 0x0101010101010101 % (1 << 64):
            raise RuntimeError(f"an object of {size} bytes was read wrong")
        if made_in == read_in:
            raise RuntimeError("an object was read in the process that made it")
        times.append(tuple((at - made) / 1e9 for at in (first, last, done)))
    return times


def one_after_the_other(session, make, take, size, count):
    after = None
    facts = []
    for _ in range(count):
        after = take(make(size, after))
        facts.append(after)
    return read_facts(gather(session, facts), size)


def all_at_once(session, make, take, size, count):
    start = time.perf_counter()
    results = gather(session, [take(make(size, None)) for _ in range(count)])
    seconds = time.perf_counter() - start
    read_facts(results, size)
    return seconds


def memcpy_rate(size):
    return float(subprocess.run([HAND, "memcpy", str(size)], check=True, capture_output=True, text=True).stdout)


def handed(args, from_language, to_language):
    commands = {"c": str(HAND), "py": [sys.executable, "-u", "-m", "rain.subworker"]}
    subworkers = {"maker": commands[from_language], "reader": commands[to_language]}
    take = reader(to_language)
    with cluster() as running:
        for size, count in ({size: 2 for size in SIZES if size <= 1 << 24} if args.quick else SIZES).items():
            for way, make in makers(from_language).items():
                times, runs, rates = [], [], []
                with running.session(subworkers=subworkers) as session:
                    all_at_once(session, make, take, 1 << 20, 2)  # Both subworkers have started.
                for _ in range(args.repeat):
                    with running.session(subworkers=subworkers) as session:
                        times += one_after_the_other(session, make, take, size, count)
                    with running.session(subworkers=subworkers) as session:
                        runs.append(all_at_once(session, make, take, size, count))
                    rates.append(memcpy_rate(size))
                first, last, done = (statistics.median(values) for values in zip(*times))
                emit(
                    *(f"handed-{from_language}-{to_language}", count, runs),
                    "all at once, making included; us: after the end of the maker, one pair after the other; medians",
                    *(peak_mib(running.server_pid), "GB", count * size / 1e9),
                    bytes=size,
                    result=way,
                    first_byte_us=round(first * 1e6, 1),
                    last_page_us=round(last * 1e6, 1),
                    all_bytes_us=round(done * 1e6, 1),
                    all_bytes_gb_per_s=round(size / done / 1e9, 3),
                    memcpy_gb_per_s=round(statistics.median(rates), 2),
                )
