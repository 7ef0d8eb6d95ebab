"""What root does not meet: a worker of a user who may not do everything."""

import os
import pathlib
import shutil
import tempfile

import pytest
from cluster import Cluster, ndjson

NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


class OrdinaryCluster(Cluster):
    def rain(self, *arguments, prefix=(), **options):
        return super().rain(*arguments, prefix=(*AS_NOBODY, *prefix), **options)


@pytest.fixture
def cluster():
    if os.geteuid() != 0:
        pytest.skip("all other tests are of an ordinary user then")
    directory = pathlib.Path(tempfile.mkdtemp(prefix="rain-ordinary-"))
    os.chown(directory, NOBODY, NOBODY)
    cluster = OrdinaryCluster(directory)
    cluster.env["HOME"] = str(directory)
    try:
        if cluster.rain("--version").returncode != 0:
            pytest.skip("the program lies where only root may run it")
        yield cluster
    finally:
        try:
            cluster.finish()
        finally:
            shutil.rmtree(directory)


def test_directories_of_any_depth_go_with_their_session_and_worker(cluster):
    cluster.start("--simple", "--cpus", "1")
    deep = "/".join(["d"] * 100)
    tree = {
        "type": "builtin/run",
        "config": {"command": [f"mkdir -p tree/{deep} && echo x > tree/{deep}/file"], "shell": True},
        "outputs": [{"label": "tree", "directory": True, "keep": True}],
    }
    for _ in range(2):
        session = cluster.session()
        cluster.post(f"{session}/submit", ndjson({"template": tree}, [0, [], None]))
        assert cluster.post(f"{session}/wait", {"all": True})["done"]
        assert cluster.call("DELETE", session)[0] in (200, 204)
    # That nothing of it is left behind is looked at in the end.


def test_data_goes_from_worker_to_worker_and_to_the_client(cluster):
    """An option of a socket that only root may set was set to begin with."""
    cluster.start("--local-workers", "[1,1]")
    maker = {
        "type": "builtin/run",
        "config": {"command": ["sleep 0.3; head -c 2000000 /dev/zero | tr '\\0' x > made"], "shell": True},
        "outputs": ["made"],
    }
    together = {"type": "builtin/concat", "outputs": [{"label": "all", "keep": True}]}
    tree = {
        "type": "builtin/make_directory",
        "outputs": [{"label": "tree", "directory": True, "keep": True}],
    }
    lines = [[0, [], None], [0, [], None], [1, [0, 1], None], [2, [2], {"paths": ["a/b"]}]]
    session = cluster.session()
    cluster.post(f"{session}/submit", ndjson({"template": maker}, {"template": together}, {"template": tree}, *lines))
    assert cluster.curl(f"{cluster.url}{session}/objects/2/content") == b"x" * 4_000_000
    assert len(cluster.curl(f"{cluster.url}{session}/objects/3/content")) > 4_000_000
    transfers = cluster.get("/api/v1/status?transfers=true")
    assert transfers["transfers"]["to_workers_bytes"] == 0
    assert sum(worker["transfers"]["pulled_bytes"] for worker in transfers["workers"]) >= 2_000_000
