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
    return bytes([i]) * (2 * MIB)


@remote()
def check(ctx, *parts):
    for part in parts:
        data = part.get_bytes()
        assert len(data) == 2 * MIB and data.count(data[:1]) == len(data)
    return ",".join(str(part.get_bytes()[0]) for part in parts)


def test_live_objects_of_200_mb_under_a_limit_of_32_mb(small_client):
    with small_client.new_session("spill") as session:
        made = [make(i) for i in range(100)]
        sums = [check(*made[i::10]) for i in range(10)]
        # A program gets its inputs as files, wherever they lie.
        count = tasks.Execute(("cat", made[0], made[50], made[99]), stdout=True)
        for output in [*(task.output for task in [*made, *sums]), count.output]:
            output.keep()
        session.submit()
        session.wait_all()
        for i, task in enumerate(sums):
            assert task.output.fetch().get_str() == ",".join(str(k) for k in range(i, 100, 10))
        parts = (bytes([k]) * (2 * MIB) for k in (0, 50, 99))
        assert count.output.fetch().get_bytes() == b"".join(parts)
        for i in (0, 50, 99):
            assert made[i].output.fetch().get_bytes() == bytes([i]) * (2 * MIB)


def test_status_says_where_objects_lie(small):
    (worker,) = small.get("/api/v1/status")["workers"]
    assert worker["store"].startswith(("private tmpfs", "tmpfs /dev/shm")) and worker["store"].endswith("32 MiB")
