"""docs/wrap.md as somebody new would follow it: in an empty folder, with installed files only."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sysconfig

import pytest
from cluster import PYTHON, RAIN, ROOT

SNIPPETS = dict(
    re.findall(r"<!-- test: ([\w.-]+) -->\n```\w+\n(.*?)```", (ROOT / "docs/wrap.md").read_text(), re.DOTALL)
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """What `make install` makes of what is built."""
    prefix = tmp_path_factory.mktemp("prefix")
    command = ["make", "--old-file=build", "install", f"PREFIX={prefix}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    shutil.copy(RAIN, prefix / "bin/rain")
    return prefix


@pytest.fixture(scope="module")
def env(prefix, tmp_path_factory):
    """The Python of the page, but nothing is downloaded: numpy and cloudpickle are links to those of the tests."""
    create, install = SNIPPETS["python"].splitlines()
    parts = shlex.split(create) + ["--without-pip"]
    folder = tmp_path_factory.mktemp("python")
    subprocess.run(parts, cwd=folder, check=True)
    pip, verb, numpy, wheel = shlex.split(install.replace("$PREFIX", str(prefix)))
    assert (pip, verb, numpy) == ("env/bin/pip", "install", "numpy")
    (file,) = pathlib.Path("/").glob(wheel[1:])
    python = folder / "env/bin/python"
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([PYTHON, "-m", "pip", "--python", python, verb, *options, file], check=True)
    packages = next((folder / "env/lib").glob("python3*/site-packages"))
    for name in ("numpy", "numpy.libs", "cloudpickle"):
        (packages / name).symlink_to(pathlib.Path(sysconfig.get_path("purelib")) / name)
    return python


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
    stopped.env.pop("PYTHONPATH", None)
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


def python(cluster, folder, env, name):
    script = folder / name
    script.write_text(script.read_text().replace("7210", str(cluster.port)))
    result = subprocess.run([env, script], cwd=folder, env=cluster.env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_snippet_is_used():
    assert (ROOT / "docs/wrap.md").read_text().count("```") == 2 * len(SNIPPETS)
    made = {"mean.c", "tasks.c", "tasks.cpp", "declared.py", "program.py"}
    assert set(SNIPPETS) == made | {"python", "start", "library", "c", "cpp", "worker.toml"}


def test_a_worker_offers_it_to_every_client(stopped, prefix, env, folder):
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
    assert float(python(stopped, folder, env, "program.py")) == 3


def test_each_way_ends_in_the_mean(cluster, env, folder):
    shell(cluster, folder, "library")
    assert python(cluster, folder, env, "declared.py") == "3.0\n"
    shell(cluster, folder, "c")
    assert float(python(cluster, folder, env, "program.py")) == 3
    os.remove(folder / "tasks")
    shell(cluster, folder, "cpp")
    assert python(cluster, folder, env, "program.py") == "3.0\n"


MODULES = """
import sys
from rain.client import Client, remote

def modules():
    return [module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "rain"]

@remote
def task(ctx):
    array = ctx.empty(100_000)
    array[:] = 3
    return ctx.blob("\\n".join(modules())) if array.sum() == 300_000 else "?"

with Client("localhost", 7210).new_session("modules") as session:
    here = task()
    here.output.keep()
    session.submit()
    print(*modules(), here.output.fetch().get_str(), sep="\\n")
"""


def test_the_python_package_is_the_installed_one(cluster, env, folder):
    (folder / "modules.py").write_text(MODULES)
    files = python(cluster, folder, env, "modules.py").split()
    assert {"runner.py", "client.py"} <= {os.path.basename(file) for file in files}
    assert all(file.startswith(f"{env.parents[1]}/lib/") for file in files), files
