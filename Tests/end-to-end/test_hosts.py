"""Two hosts, each in a network of its own, and a cable between them, in throw-away namespaces."""

import pathlib
import shutil
import subprocess
import sys

import pytest

SCENARIO = pathlib.Path(__file__).with_name("two_hosts.py")


def test_objects_move_between_hosts_and_a_pulled_cable_is_noticed(tmp_path):
    if shutil.which("ip") is None:
        pytest.skip("no hosts can be made here: there is no `ip` program (Debian: iproute2)")
    enter = ["unshare", "--net", "--mount", "--propagation", "private", "--kill-child"]
    tried = subprocess.run([*enter, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no hosts can be made here: {tried.stderr.strip()}")
    result = subprocess.run(
        [*enter, sys.executable, str(SCENARIO), str(tmp_path)], capture_output=True, text=True, timeout=100
    )
    assert result.returncode == 0, result.stdout + result.stderr
