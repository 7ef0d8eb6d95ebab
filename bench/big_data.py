"""More live data than memory: objects many times the worker's limit, two of them each larger than it, read and checked.

Python tasks make half of the objects; shell commands, which ask for nothing, the other half. All are kept to the end.
One JSON line on stdout; a wrong byte, a failed task or memory above the limit is an error.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
RAIN = os.environ.get("RAIN_PROGRAM", str(ROOT / "build/bin/rain"))
MIB = 1 << 20


def size(text):
    """Bytes of `8G`, `400M` or a number."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)i?B?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 8G or 400M")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2] or " "))


def line(number):
    """What a shell command repeats: any length of it is known here too."""
    return f"object {number:06d} of the shell\n"


def functions():
    from rain.client import remote

    # A module of its own for workers: they have only what travels with the functions.
    @remote()
    def make(ctx, number, length):
        import random

        block = random.Random(number).randbytes(1 << 20)
        data = bytearray(length)
        for start in range(0, length, len(block)):
            part = bytearray(block[: length - start])
            part[: min(8, len(part))] = start.to_bytes(8, "little")[: len(part)]
            data[start : start + len(part)] = part
        return bytes(data)

    @remote()
    def checksums(ctx, *parts):
        import zlib

        return ",".join(str(zlib.crc32(part.get_bytes())) for part in parts)

    return make, checksums


def crc_made(number, length):
    """The checksum of what `make` makes, in pieces."""
    import random

    block = random.Random(number).randbytes(MIB)
    value = 0
    for start in range(0, length, MIB):
        part = bytearray(block[: length - start])
        part[: min(8, len(part))] = start.to_bytes(8, "little")[: len(part)]
        value = zlib.crc32(part, value)
    return value


def crc_written(number, length):
    text = line(number).encode() * (MIB // len(line(number)))
    value, left = 0, length
    while left > 0:
        part = text[: min(left, len(text))]
        value = zlib.crc32(part, value)
        left -= len(part)
    return value


class Watch(threading.Thread):
    """The most memory that the worker's files took, as the kernel counts it."""

    def __init__(self, state):
        super().__init__(daemon=True)
        run = json.loads(next((state / "rain/run").glob("worker*.json")).read_text())
        children = pathlib.Path(f"/proc/{run['pid']}/task/{run['pid']}/children").read_text().split()
        worker = next(pid for pid in children if "rain-worker" in pathlib.Path(f"/proc/{pid}/comm").read_text())
        stores = pathlib.Path(f"/proc/{worker}/root/dev/shm").glob(f"rain-{os.getuid()}-{run['pid']}-*")
        self.path, self.peak = next(stores, None), 0
        self.is_over = threading.Event()

    def run(self):
        while not self.is_over.wait(0.1):
            self.look()

    def look(self):
        # Without a mount of its own that would be everybody's.
        if self.path is not None and os.stat(self.path).st_dev != os.stat("/dev/shm").st_dev:
            room = os.statvfs(self.path)
            self.peak = max(self.peak, (room.f_blocks - room.f_bfree) * room.f_frsize)


def run(client, arguments):
    from rain.client import tasks

    make, checksums = functions()
    length = arguments.object
    count = max(2, arguments.size // length)
    lengths = [length] * count
    # One of each kind alone is larger than the memory.
    for position in (count // 2, count // 2 + 1):
        lengths[position] = arguments.memory + arguments.memory // 4
    with client.new_session("big-data") as session:
        made = []
        for number, bytes_count in enumerate(lengths):
            if number % 2 == 0:
                made.append(make(number, bytes_count).output)
            else:
                text = line(number).rstrip("\n")
                made.append(
                    tasks.Execute(
                        f"yes '{text}' | head -c {bytes_count} > out", output_paths=["out"], shell=True
                    ).output
                )
        groups = [made[i : i + 4] for i in range(0, len(made), 4)]
        # Made a second time in another order: what has gone to disk is read again.
        sums = [checksums(*group) for group in groups] + [checksums(*group) for group in reversed(groups)]
        for output in [*made, *(task.output for task in sums)]:
            output.keep()
        session.submit()
        begun = time.perf_counter()
        session.wait_all()
        seconds = time.perf_counter() - begun
        expected = [(crc_made if n % 2 == 0 else crc_written)(n, b) for n, b in enumerate(lengths)]
        texts = [",".join(map(str, expected[i : i + 4])) for i in range(0, len(expected), 4)]
        got = [task.output.fetch().get_str() for task in sums]
        wrong = [i for i, (a, b) in enumerate(zip(got, texts + texts[::-1])) if a != b]
        if wrong:
            raise SystemExit(f"big-data: groups {wrong} have other bytes than were made")
        return {"objects": count, "bytes": sum(lengths), "seconds": round(seconds, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=size, default=size("8G"), help="of all objects together (8G)")
    parser.add_argument("--memory", type=size, default=size("1G"), help="what the worker may take of it (1G)")
    parser.add_argument("--object", type=size, default=None, help="of most objects (a 20th of the memory)")
    parser.add_argument("--dir", default=None, help="on the disk that takes the rest (where temporary files go)")
    arguments = parser.parse_args()
    arguments.object = arguments.object or max(64 * 1024, arguments.memory // 20)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rain-big-data-", dir=arguments.dir))
    needed = arguments.size + 3 * arguments.memory
    if shutil.disk_usage(directory).free < needed:
        directory.rmdir()
        raise SystemExit(f"big-data: {directory.parent} has less than {needed >> 20} MiB free: name a place with --dir")
    environment = dict(os.environ, XDG_STATE_HOME=str(directory / "state"))
    environment.pop("RAIN_ACCESS", None)
    os.environ.clear()
    os.environ.update(environment)
    start = [RAIN, "start", "--port", "0", "--control-port", "0", "--local-workers", "[2]"]
    start += ["--work-dir", directory / "work", "--log-dir", directory / "log", "--store-memory", str(arguments.memory)]
    try:
        subprocess.run(start, check=True, stdout=sys.stderr)
        status = json.loads(subprocess.run([RAIN, "status", "--json"], check=True, capture_output=True).stdout)
        from rain.client import Client

        watch = Watch(directory / "state")
        watch.start()
        try:
            result = run(Client("127.0.0.1", status["port"]), arguments)
        finally:
            watch.is_over.set()
            watch.join()
    finally:
        subprocess.run([RAIN, "stop"], stdout=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
    result["memory_limit"], result["memory_peak"] = arguments.memory, watch.peak or None
    print(json.dumps(result))
    if watch.peak > arguments.memory:
        raise SystemExit(f"big-data: {watch.peak} bytes of memory were taken, above the limit of {arguments.memory}")


if __name__ == "__main__":
    main()
