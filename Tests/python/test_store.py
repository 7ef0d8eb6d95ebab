"""More data than memory: a worker with little of it, and files that go to disk."""

import pytest
from cluster import Cluster
from rain.client import Client, remote, tasks

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
