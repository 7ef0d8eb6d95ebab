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
