"""Every snippet of the README, run as it stands there (on free ports instead of the usual ones)."""

import os
import re
import subprocess

import pytest
from cluster import PYTHON, ROOT

README = (ROOT / "README.md").read_text()
SNIPPETS = dict(re.findall(r"<!-- test: ([\w-]+) -->\n```\w+\n(.*?)```", README, re.DOTALL))


@pytest.fixture
def folder(tmp_path):
    """An empty folder that has what a clone has; the snippets may write there."""
    for name in ("build", "examples", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def shell(cluster, folder, text):
    return subprocess.run(["sh", "-ec", text], cwd=folder, env=cluster.env, capture_output=True, text=True, timeout=120)


def python(cluster, folder, text):
    script = folder / "example.py"
    script.write_text(text.replace("7210", str(cluster.port)))
    result = subprocess.run([PYTHON, script], cwd=folder, env=cluster.env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_snippet_has_a_test():
    assert README.count("```") == 2 * len(SNIPPETS)
    assert set(SNIPPETS) == {
        "run",
        "start",
        "python",
        "c",
        "cc",
        "cpp",
        "cxx",
        "python-c",
        "python-ffi",
        "ndjson",
        "submit",
    }


@pytest.mark.timeout(1200)  # It builds first, when something has changed.
def test_run():
    for _ in range(2):  # It can be run again.
        result = subprocess.run(["sh", "-ec", SNIPPETS["run"]], cwd=ROOT, capture_output=True, text=True, timeout=550)
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        picture = result.stdout.splitlines()[-1]
        with open(picture, "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"
        assert re.search(r"0\.\d{4}  \S+, \S+", result.stdout)
    state = f"XDG_STATE_HOME={ROOT}/build/run/state".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                assert state not in file.read().split(b"\0"), pid
        except OSError:
            pass


def test_start(stopped, folder):
    build, _, start = SNIPPETS["start"].partition("&&")
    assert build.strip() == "scripts/build"
    result = shell(stopped, folder, f"{start.strip()} --port 0 --control-port 0")
    assert result.returncode == 0, result.stderr
    stopped.read_address()
    assert stopped.get("/api/v1/status")["workers"]


def test_python(cluster, folder):
    assert len([line for line in SNIPPETS["python"].splitlines() if line]) == 10
    assert python(cluster, folder, SNIPPETS["python"]) == "HELLO\nWORLD\n\n"


def test_c(cluster, folder):
    assert SNIPPETS["c"] == (ROOT / "examples/hello/hello.c").read_text()
    assert len(SNIPPETS["c"].splitlines()) <= 25
    result = shell(cluster, folder, SNIPPETS["cc"])
    assert (result.returncode, result.stderr) == (0, "")
    assert python(cluster, folder, SNIPPETS["python-c"]) == "Hello, world!\n\n"


def test_cpp(cluster, folder):
    assert SNIPPETS["cpp"] == (ROOT / "examples/hello/hello.cpp").read_text()
    result = shell(cluster, folder, SNIPPETS["cxx"])
    assert (result.returncode, result.stderr) == (0, "")
    assert python(cluster, folder, SNIPPETS["python-c"]) == "Hello, world!\n\n"


def test_ffi(cluster, folder):
    assert python(cluster, folder, SNIPPETS["python-ffi"]) == "3610a686\n"


def test_submit(cluster, folder):
    (folder / "graph.ndjson").write_text(SNIPPETS["ndjson"])
    result = shell(cluster, folder, SNIPPETS["submit"])
    assert result.stdout == "hello\nworld\n", result.stderr
