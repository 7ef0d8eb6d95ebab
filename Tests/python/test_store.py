"""More data than memory: a worker with little of it, and files that go to disk."""

import json
import os
import subprocess
import time

import pytest
from cluster import PYTHON, ROOT, Cluster
from rain.client import Client, OutputDir, TaskException, remote, tasks

MIB = 1 << 20


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("small-store"))
    running.start("--local-workers", "[2]", "--store-memory", "32M")
    yield running
    running.finish()


@pytest.fixture
def small_client(small, monkeypatch):
    monkeypatch.delenv("RAIN_ACCESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(small.state))
    return Client("127.0.0.1", small.port)


@pytest.fixture
def bounded_client(small_client):
    """Of a worker whose memory ends where it says: with a file system of its own, which takes a right to mount one."""
    store = small_client.status()["workers"][0]["store"]
    if not store.startswith("private tmpfs"):
        pytest.skip(f"the worker's memory has no end of its own here: {store}")
    return small_client


@remote()
def make(ctx, i):
    return bytes([i]) * MIB


@remote()
def check(ctx, *parts):
    for part in parts:
        data = part.get_bytes()
        assert len(data) == MIB and data.count(data[:1]) == len(data)
    return ",".join(str(part.get_bytes()[0]) for part in parts)


def test_live_objects_of_200_mb_under_a_limit_of_32_mb(small_client):
    with small_client.new_session("spill") as session:
        made = [make(i) for i in range(200)]
        sums = [check(*made[i::10]) for i in range(10)]
        # A program gets its inputs as files, wherever they lie.
        count = tasks.Execute(("cat", made[0], made[50], made[199]), stdout=True)
        for output in [*(task.output for task in [*made, *sums]), count.output]:
            output.keep()
        session.submit()
        session.wait_all()
        for i, task in enumerate(sums):
            assert task.output.fetch().get_str() == ",".join(str(k) for k in range(i, 200, 10))
        parts = (bytes([k]) * MIB for k in (0, 50, 199))
        assert count.output.fetch().get_bytes() == b"".join(parts)
        for i in (0, 50, 199):
            assert made[i].output.fetch().get_bytes() == bytes([i]) * MIB


def test_status_says_where_objects_lie(small):
    (worker,) = small.get("/api/v1/status")["workers"]
    assert worker["store"].startswith(("private tmpfs", "tmpfs /dev/shm")) and worker["store"].endswith("32 MiB")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("two-workers"))
    running.start("--local-workers", "[1,1]", "--store-memory", "64M")
    yield running
    running.finish()


@remote()
def fill(ctx, i, size):
    import time

    # Long enough for the other one to be started on the other worker.
    time.sleep(0.3)
    return bytes([i]) * size


@remote()
def where(ctx, *parts):
    return ",".join(f"{len(part.get_bytes())}:{part.get_bytes()[-1]}" for part in parts)


@pytest.mark.parametrize("size", [5_000, 10 * MIB])
def test_what_two_workers_made_comes_together_on_one(pair, monkeypatch, size):
    monkeypatch.delenv("RAIN_ACCESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(pair.state))
    with Client("127.0.0.1", pair.port).new_session("pair") as session:
        parts = [fill(i, size) for i in range(1, 5)]
        all_of_it = where(*parts)
        for task in [*parts, all_of_it]:
            task.output.keep()
        session.submit()
        session.wait_all()
        assert all_of_it.output.fetch().get_str() == ",".join(f"{size}:{i}" for i in range(1, 5))
        workers = pair.get("/api/v1/status")["workers"]
        # Four parts and their sum; what came from the other worker counts at both.
        assert all(worker["objects"] >= 2 for worker in workers), workers
        assert sum(worker["objects"] for worker in workers) > 5, workers


def test_outputs_larger_than_the_memory(small_client):
    """Those who ask get a place on disk, those who don't are run again there."""
    size = 40 * MIB
    with small_client.new_session("larger than memory") as session:

        @remote()
        def large(ctx):
            return b"L" * size

        @remote()
        def in_place(ctx):
            first, second = ctx.empty(size, "u1"), ctx.empty(size, "u1")
            first[:] = second[:] = ord("P")
            return second

        @remote()
        def check_all(ctx, *parts):
            return ",".join(f"{len(part.get_buffer())}:{bytes(part.get_buffer()[-2:]).decode()}" for part in parts)

        made = [large(), in_place(), tasks.Execute(f"yes | head -c {size} > out", output_paths=["out"], shell=True)]
        # The next of its kind begins on disk; its standard output does too.
        made.append(tasks.Execute(f"yes | head -c {size}", shell=True, stdout=True))
        # Too much for both CPUs' share of the memory, though each alone would fit.
        made += [tasks.Execute(f"yes {i} | head -c {20 * MIB}", shell=True, stdout=True) for i in range(6)]
        sums = check_all(*made)
        sums.output.keep()
        session.submit()
        session.wait_all()
        expected = [f"{size}:LL", f"{size}:PP", f"{size}:y\n", f"{size}:y\n", *(f"{20 * MIB}:{i}\n" for i in range(6))]
        assert sums.output.fetch().get_str() == ",".join(expected)


def test_a_program_may_run_once_only_when_it_must(bounded_client, tmp_path):
    """A second run after a full memory is no retry, but one that may never run twice does not get it."""
    note = tmp_path / "runs"
    command = f"echo run >> {note}; yes | head -c {40 * MIB} > out"
    with bounded_client.new_session("twice") as session:
        task = tasks.Execute(command, output_paths=["out"], shell=True)
        session.submit()
        session.wait([task])
        assert note.read_text() == "run\nrun\n"


@pytest.mark.parametrize("kind", ["working directory", "directory output"])
def test_a_function_that_fills_the_memory_fails_alone(bounded_client, kind):
    """Nobody asks for room for what lies in a working directory, or in a directory that is made."""

    @remote()
    def fill_up(ctx):
        import os

        os.mkdir("d")
        with open("d/large", "wb") as file:
            for _ in range(60):
                file.write(bytes(MIB))

    @remote()
    def keep_up(ctx, i):
        return b"x" * (3 * MIB)

    @remote(outputs=OutputDir("made"))
    def fill_directory(ctx):
        return ctx.directory({str(i): bytes(MIB) for i in range(60)})

    with bounded_client.new_session("fills", on_error="fail_descendants") as session:
        bad = fill_up() if kind == "working directory" else fill_directory()
        beside = [keep_up(i) for i in range(12)]
        for task in beside:
            task.output.keep()
        session.submit()
        with pytest.raises(TaskException) as failure:
            session.wait([bad])
        text = str(failure.value)
        assert "No space left on device" in text and "32 MiB (--store-memory)" in text, text
        assert all(task.output.fetch().get_bytes() == b"x" * (3 * MIB) for task in beside)
        # What it had written is gone: another one gets what an empty memory has.
        again = [keep_up(i) for i in range(4)]
        for task in again:
            task.output.keep()
        session.submit()
        assert all(len(task.output.fetch().get_bytes()) == 3 * MIB for task in again)


@pytest.mark.parametrize("rerun", ["on_loss", "never"])
def test_a_function_beside_a_program_that_fills_the_memory_runs_once_more(bounded_client, tmp_path, rerun):
    """It is nobody's fault, so it is no retry; one that may never run twice fails."""
    for name in ("begun", "full", "noticed"):
        os.mkfifo(tmp_path / name)
    folder = str(tmp_path)

    @remote()
    def write_much(ctx):
        is_first = not os.path.exists(f"{folder}/runs")
        with open(f"{folder}/runs", "a") as runs:
            runs.write("run\n")
        if is_first:
            open(f"{folder}/begun", "w").close()
            open(f"{folder}/full").close()
        try:
            with open("large", "wb") as file:
                for _ in range(8):
                    file.write(bytes(MIB))
        finally:
            if is_first:
                open(f"{folder}/noticed", "w").close()
        return str(os.path.getsize("large"))

    fill = f"cat {folder}/begun; yes | head -c {64 * MIB} > out || true; : > {folder}/full; cat {folder}/noticed"
    with bounded_client.new_session("beside", on_error="fail_descendants") as session:
        task = write_much()
        task.rerun = rerun
        task.output.keep()
        filler = tasks.Execute(fill, shell=True)
        session.submit()
        session.wait([filler])
        if rerun == "never":
            with pytest.raises(TaskException, match="No space left on device"):
                session.wait([task])
        else:
            assert task.output.fetch().get_str() == str(8 * MIB)
    assert (tmp_path / "runs").read_text() == "run\n" * (1 if rerun == "never" else 2)


@pytest.fixture(scope="module")
def tight(tmp_path_factory):
    """A worker with 16 MiB of memory and 24 MiB of disk."""
    directory = tmp_path_factory.mktemp("tight-store")
    disk = directory / "work/worker-1"
    disk.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "rain-test", disk], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    running = Cluster(directory)
    try:
        running.start("--local-workers", "[2]", "--store-memory", "16M")
        running.disk = disk
        yield running
        running.finish()
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.fixture
def tight_client(tight, monkeypatch):
    monkeypatch.delenv("RAIN_ACCESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tight.state))
    return Client("127.0.0.1", tight.port)


def until(is_so, seconds=20):
    """What goes to the trash is removed in its own time."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def free_bytes(path):
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


@pytest.mark.parametrize("kind", ["python", "program", "load"])
def test_memory_and_disk_are_full(tight, tight_client, tmp_path, kind):
    size = 60 * MIB
    with tight_client.new_session("full") as session:

        @remote()
        def large(ctx):
            return bytes(size)

        if kind == "python":
            task = large()
        elif kind == "program":
            task = tasks.Execute(f"yes | head -c {size} > out", output_paths=["out"], shell=True)
        else:
            (tmp_path / "large").write_bytes(bytes(size))
            task = tasks.Load(str(tmp_path / "large"))
        session.submit()
        with pytest.raises(TaskException) as failure:
            session.wait([task])
        text = str(failure.value)
        assert "16 MiB (--store-memory)" in text and f"{tight.disk}" in text and "(--work-dir)" in text, text
    # The worker goes on, and nothing of the failed task takes room.
    with tight_client.new_session("after") as session:
        parts = [make(i) for i in range(20)]
        sums = check(*parts)
        sums.output.keep()
        session.submit()
        session.wait_all()
        assert sums.output.fetch().get_str() == ",".join(map(str, range(20)))
    assert until(lambda: free_bytes(tight.disk) > 23 * MIB)


def test_what_was_made_stays_when_no_more_fits(tight, tight_client):
    """60 MiB where there are 40: what does not fit fails and says why, what was made is there, other tasks go on."""
    with tight_client.new_session("fill", on_error="fail_descendants") as session:
        made = [make(i) for i in range(60)]
        for task in made:
            task.output.keep()
        session.submit()
        kept = []
        for i, task in enumerate(made):
            try:
                session.wait([task])
                kept.append(i)
            except TaskException as error:
                assert "(--store-memory)" in str(error), error
        assert 15 < len(kept) < 40, kept
        for i in kept:
            assert made[i].output.fetch().get_bytes() == bytes([i]) * MIB
        small = tasks.Execute("echo still alive", shell=True, stdout=True)
        small.output.keep()
        session.submit()
        session.wait([small])
        assert small.output.fetch().get_str() == "still alive\n"
    assert until(lambda: free_bytes(tight.disk) > 23 * MIB)


def test_live_objects_of_400_mb_under_a_limit_of_50_mb(tmp_path):
    command = [PYTHON, ROOT / "bench/big_data.py", "--size", "400M", "--memory", "50M", "--dir", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    line = json.loads(result.stdout)
    assert line["bytes"] > 500 * MIB
    assert line["memory_peak"] is None or 30 * MIB < line["memory_peak"] <= 50 * MIB
