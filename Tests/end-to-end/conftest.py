"""Fixtures: a running server with workers, started by `rain start` with a state directory of its own."""

import subprocess

import pytest
from cluster import ROOT, Cluster


@pytest.fixture
def cluster(tmp_path):
    """A server and a worker with two CPUs, for one test; afterwards nothing of it may be left."""
    running = Cluster(tmp_path)
    running.start("--local-workers", "[2]")
    yield running
    running.finish()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    """The same for all tests of a file that don't disturb each other."""
    running = Cluster(tmp_path_factory.mktemp("shared"))
    running.start("--local-workers", "[2]")
    yield running
    running.finish()


@pytest.fixture
def stopped(tmp_path):
    """A state directory with nothing running."""
    idle = Cluster(tmp_path)
    yield idle
    idle.finish()


@pytest.fixture(scope="session")
def faults(tmp_path_factory):
    """The subworker of faults.c."""
    program = tmp_path_factory.mktemp("faults") / "faults"
    source = ROOT / "Tests/end-to-end/faults.c"
    library = ROOT / "build/lib/libcsubworker.a"
    include = ROOT / "build/include"
    subprocess.run(
        ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{include}", source, library, "-o", program], check=True
    )
    return str(program)
