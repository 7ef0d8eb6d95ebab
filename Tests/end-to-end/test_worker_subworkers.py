"""Subworkers that a worker offers: what is refused at its start, and when processes are replaced or ended."""

import os
import signal
import subprocess

import pytest
from cluster import ROOT, Cluster, wait_for
from rain.client import Client, Task

SOURCE = r"""
#include <csubworker.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Keeps as many MiB as it is asked for. */
static csw_status grow(csw_call *call, void *context) {
    (void)context;
    csw_bytes arguments = csw_call_arguments(call);
    size_t size = (size_t)atoi((const char *)arguments.data) << 20;
    char *memory = size > 0 ? malloc(size) : NULL;
    if (memory != NULL) memset(memory, 1, size);
    return csw_output_printf(call, 0, "%d %d", (int)getpid(), memory != NULL && memory[size / 2] == 1);
}

int main(void) {
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    const csw_task_type task = {CSW_TASK, .name = "grow", .function = grow};
    csw_task(subworker, &task);
    return csw_run(subworker);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    directory = tmp_path_factory.mktemp("growing")
    (directory / "growing.c").write_text(SOURCE)
    subprocess.run([ROOT / "scripts/amalgamate", directory], check=True)
    command = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
    subprocess.run([*command, "growing.c", "csubworker.c", "-pthread", "-o", "growing"], cwd=directory, check=True)
    return directory / "growing"


def test_a_process_that_grows_or_idles_is_replaced(tmp_path, program, monkeypatch):
    config = tmp_path / "config/rain/worker.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[subworkers.growing]\ncommand = "{program}"\nmemory_growth = "32M"\nidle = 2\n')
    cluster = Cluster(tmp_path / "run")
    cluster.directory.mkdir()
    cluster.env["XDG_CONFIG_HOME"] = str(tmp_path / "config")
    cluster.start("--local-workers", "[1]")
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
        with Client("127.0.0.1", cluster.port).new_session("growing") as session:

            def grow(mebibytes):
                task = Task("growing/grow", arguments=mebibytes)
                task.output.keep()
                session.submit()
                pid, has_grown = task.output.fetch().get_bytes().split(b" ")
                assert int(has_grown) == (mebibytes > 0)
                return int(pid)

            # What the first call takes is what it has.
            first = grow(64)
            pid = grow(0)
            assert pid == first
            grow(64)
            # It is looked at once a second.
            wait_for(lambda: grow(0) != first, seconds=10)
            assert first not in cluster.processes()
            log = (cluster.log / "worker-1/worker.log").read_text()
            assert "subworker 'growing' has 6" in log and "memory_growth" in log
            pid = grow(0)
            wait_for(lambda: pid not in cluster.processes(), seconds=10)
    finally:
        cluster.finish()


BAD = {
    "nothing": (
        "subworkers.a.command = '/no/such/program'",
        'subworker "a" can\'t be started: /no/such/program: No such file',
    ),
    "path": ("subworkers.a.command = 'no-such-program'", 'there is no program "no-such-program" in the PATH'),
    "mode": ("subworkers.a.command = './text'", "text is not executable: chmod +x it"),
    "directory": ("subworkers.a.command = './.'", "is no file"),
    "script": ("subworkers.a.command = './script'", "names '/no/such/interpreter'"),
    "name": ("subworkers.'a b'.command = '/bin/true'", '"a b" can\'t be the name of a subworker'),
    "builtin": ("subworkers.builtin.command = '/bin/true'", '"builtin" can\'t be the name of a subworker'),
    "growth": ("subworkers.a = { command = '/bin/true', memory_growth = 'much' }", "is a size such as"),
    "idle": ("subworkers.a = { command = '/bin/true', idle = 0 }", "is a whole number of seconds above 0"),
    "symbol": ("ffi = ['missing.ffi']", "no_such_function"),
    "library": ("ffi = ['library.ffi']", "libnosuch.so"),
    "declaration": ("ffi = ['wrong.ffi']", "wrong.ffi:"),
    "constructor": ("ffi = ['crash.ffi']", "crash.ffi: signal 6 (Aborted) ended the program that loads the libraries"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cant_work_is_refused_at_the_start(tmp_path, case):
    text, said = BAD[case]
    (tmp_path / "worker.toml").write_text(text + "\n")
    (tmp_path / "text").write_text("text")
    (tmp_path / "script").write_text("#!/no/such/interpreter\n")
    (tmp_path / "script").chmod(0o755)
    (tmp_path / "missing.ffi").write_text(
        'library libm = "libm.so.6" { double cos(double x); double no_such_function(double x); }\n'
    )
    (tmp_path / "library.ffi").write_text('library libnosuch = "libnosuch.so" { double f(double x); }\n')
    (tmp_path / "wrong.ffi").write_text("library\n")
    (tmp_path / "crash.ffi").write_text('library crash = "./crash.so" { double f(double x); }\n')
    if case == "constructor":
        (tmp_path / "crash.c").write_text(
            "#include <stdlib.h>\n__attribute__((constructor)) static void f(void) { abort(); }\n"
        )
        subprocess.run(["cc", "-shared", "-fPIC", "crash.c", "-o", "crash.so"], cwd=tmp_path, check=True)
    idle = Cluster(tmp_path)
    result = idle.rain("worker", "127.0.0.1:1", "--config", tmp_path / "worker.toml")
    assert result.returncode == 1, result.stderr
    assert said in result.stderr, result.stderr
    assert "double cos" not in result.stderr and "cos(" not in result.stdout


@pytest.mark.parametrize("leaves", [False, True])
def test_a_library_that_hangs_when_it_is_loaded_is_refused(tmp_path, leaves):
    """Also when it has started a process that goes on, and holds what its parent had open."""
    (tmp_path / "hang.ffi").write_text('library hang = "./hang.so" { double f(double x); }\n')
    start = "if (fork() == 0) { alarm(20); pause(); }" if leaves else ""
    (tmp_path / "hang.c").write_text(
        "#include <unistd.h>\ndouble f(double x) { return x; }\n"
        f"__attribute__((constructor)) static void hang(void) {{ {start} while (1) pause(); }}\n"
    )
    subprocess.run(["cc", "-shared", "-fPIC", "hang.c", "-o", "hang.so"], cwd=tmp_path, check=True)
    idle = Cluster(tmp_path)
    for command in (["worker", "127.0.0.1:1", "--ffi"], ["ffi", "check"]):
        # To files: what the library has started holds a pipe.
        with (tmp_path / "out").open("w+") as output, (tmp_path / "error").open("w+") as error:
            status = idle.rain(
                *command,
                tmp_path / "hang.ffi",
                env={**idle.env, "RAIN_PATIENCE": "0.5"},
                capture_output=False,
                stdout=output,
                stderr=error,
            ).returncode
        said = (tmp_path / "error").read_text()
        assert status == 1 and "hang.so is not loaded after 0.5 s" in said, said
    for pid in idle.processes():
        os.kill(pid, signal.SIGKILL)


def test_a_name_that_is_given_twice_is_refused(tmp_path):
    idle = Cluster(tmp_path)
    result = idle.rain("worker", "127.0.0.1:1", "--subworker", "a=/bin/true", "--subworker", "a=/bin/false")
    assert result.returncode == 1 and 'subworker "a" is given twice' in result.stderr, result.stderr
    assert not os.path.exists(idle.work)
