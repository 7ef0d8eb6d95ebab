"""Fixtures: a server made of a few lines, a subworker process, and a real server with a worker."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "end-to-end"))

from cluster import Cluster  # noqa: E402
from paper_server import PaperServer  # noqa: E402
from rain.client import Client  # noqa: E402
from subworker_host import Host  # noqa: E402


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """A server on paper: it takes what a client says and answers what the test wrote."""
    access = tmp_path / "access.toml"
    access.write_text('[server]\npublic_key = "x"\n\n[client]\ntoken = "secret"\n')
    monkeypatch.setenv("RAIN_ACCESS", str(access))
    server = PaperServer()
    yield server
    server.stop()


@pytest.fixture
def paper_client(paper):
    return Client("127.0.0.1", paper.port)


@pytest.fixture
def host(tmp_path):
    """A Python subworker that was welcomed."""
    running = Host(tmp_path)
    running.registration = running.welcome()
    yield running
    running.kill()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A server and a worker with two CPUs, for all tests; afterwards nothing of it may be left."""
    running = Cluster(tmp_path_factory.mktemp("cluster"))
    running.start("--local-workers", "[2]")
    yield running
    running.finish()


@pytest.fixture
def client(cluster, monkeypatch):
    """A client of the real server."""
    monkeypatch.delenv("RAIN_ACCESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
    return Client("127.0.0.1", cluster.port)
