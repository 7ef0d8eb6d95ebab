"""docs/wrap.md as somebody new would follow it: in an empty folder, with installed files only."""

import os
import re
import shutil
import subprocess

import pytest
from cluster import PYTHON, RAIN, ROOT

SNIPPETS = dict(
    re.findall(r"<!-- test: ([\w.-]+) -->\n```\w+\n(.*?)```", (ROOT / "docs/wrap.md").read_text(), re.DOTALL)
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What `make install` makes."""
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "--install", ROOT / "build/cmake", "--prefix", prefix], check=True, capture_output=True)
    (prefix / "bin").mkdir()
    shutil.copy(RAIN, prefix / "bin/rain")
    return prefix


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    for name in ("mean.c", "tasks.c", "tasks.cpp", "declared.py", "program.py"):
        (folder / name).write_text(SNIPPETS[name])
    return folder


@pytest.fixture
def cluster(stopped, prefix):
    start(stopped, prefix)
    return stopped


def start(stopped, prefix):
    """As the page does, by the installed program, but on a free port."""
    command = SNIPPETS["start"].rstrip()
    assert command.endswith("rain start --local-workers '[2]'")
    options = f"--port 0 --control-port 0 --work-dir {stopped.work} --log-dir {stopped.log}"
    stopped.env["PREFIX"] = str(prefix)
    subprocess.run(["sh", "-ec", f"{command} {options}"], env=stopped.env, check=True, capture_output=True, timeout=60)
    stopped.read_address()


def shell(cluster, folder, name):
    script = SNIPPETS["start"].splitlines()[0] + "\n" + SNIPPETS[name]
    result = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env=cluster.env, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stderr) == (0, ""), result.stderr


def python(cluster, folder, name):
    script = folder / name
    script.write_text(script.read_text().replace("7210", str(cluster.port)))
    result = subprocess.run([PYTHON, script], cwd=folder, env=cluster.env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_snippet_is_used():
    assert (ROOT / "docs/wrap.md").read_text().count("```") == 2 * len(SNIPPETS)
    made = {"mean.c", "tasks.c", "tasks.cpp", "declared.py", "program.py"}
    assert set(SNIPPETS) == made | {"start", "library", "c", "cpp", "worker.toml"}


def test_a_worker_offers_it_to_every_client(stopped, prefix, folder):
    stopped.env["PREFIX"] = str(prefix)
    shell(stopped, folder, "c")
    config = folder / "config/rain/worker.toml"
    config.parent.mkdir(parents=True)
    config.write_text(SNIPPETS["worker.toml"].replace("/opt/mine", str(folder)))
    stopped.env["XDG_CONFIG_HOME"] = str(folder / "config")
    start(stopped, prefix)
    text = (folder / "program.py").read_text()
    line = '    mine = session.subworker("mine", "./tasks")\n'
    assert line in text and 'mine.task("mean", [numbers])' in text
    text = text.replace(line, "").replace("mine.task(", 'Task("mine/" + ').replace("Client, blob", "Client, Task, blob")
    (folder / "program.py").write_text(text)
    assert float(python(stopped, folder, "program.py")) == 3


def test_each_way_ends_in_the_mean(cluster, folder):
    shell(cluster, folder, "library")
    assert python(cluster, folder, "declared.py") == "3.0\n"
    shell(cluster, folder, "c")
    assert float(python(cluster, folder, "program.py")) == 3
    os.remove(folder / "tasks")
    shell(cluster, folder, "cpp")
    assert python(cluster, folder, "program.py") == "3.0\n"
