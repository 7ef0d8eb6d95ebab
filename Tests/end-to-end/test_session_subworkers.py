"""Subworkers that a client brings along, in C; nothing is configured on the workers."""

import os
import pathlib
import signal
import stat
import subprocess
import threading

import pytest
from cluster import ROOT, Cluster, ndjson, wait_for_end
from rain.client import Client, RainException, Task, TaskException, blob

SOURCE = r"""
#include <csubworker.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int argument_count;
static char **arguments;

static csw_status count(csw_call *call, void *context) {
    (void)context;
    csw_bytes text;
    csw_status status = csw_input_bytes(call, 0, &text);
    if (status != CSW_OK) return status;
    size_t words = 0;
    for (size_t i = 0; i < text.size; i++)
        words += ((const char *)text.data)[i] != ' ' && (i == 0 || ((const char *)text.data)[i - 1] == ' ');
    return csw_output_printf(call, 0, "%zu", words);
}

static csw_status who(csw_call *call, void *context) {
    (void)context;
    const char *variable = getenv("WORDS");
    nanosleep(&(struct timespec){0, 30000000}, NULL);
    const char *argument = argument_count > 1 ? arguments[1] : "-";
    return csw_output_printf(
        call, 0, "%d %d %s %s", (int)getpid(), (int)getppid(), argument, variable ? variable : "-");
}

static csw_status die(csw_call *call, void *context) {
    (void)call, (void)context;
    const char *last = "the last words\n";
    if (write(2, last, strlen(last)) < 0) return CSW_ETASK;
    abort();
}

int main(int count_of_arguments, char **values) {
    argument_count = count_of_arguments, arguments = values;
    if (argument_count > 1 && strcmp(arguments[1], "--exit") == 0) {
        const char *last = "no such option\n";
        return write(2, last, strlen(last)) < 0 ? 1 : 3;
    }
    csw_subworker *subworker;
    csw_open(NULL, &subworker);
    csw_task_type tasks[] = {
        {CSW_TASK, .name = "count", .function = count},
        {CSW_TASK, .name = "who", .function = who},
        {CSW_TASK, .name = "die", .function = die},
    };
    for (int i = 0; i < 3; i++)
        csw_task(subworker, &tasks[i]);
    return csw_run(subworker);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    directory = tmp_path_factory.mktemp("words")
    (directory / "words.c").write_text(SOURCE)
    subprocess.run([ROOT / "scripts/amalgamate", directory], check=True)
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
    subprocess.run([*command, "words.c", "csubworker.c", "-pthread", "-o", "words"], cwd=directory, check=True)
    return directory / "words"


@pytest.fixture
def client(cluster, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
    return Client("127.0.0.1", cluster.port)


def pids_of(cluster, name="words"):
    """Processes that workers run, by the name that they have in lists."""
    return {pid for pid, command in cluster.processes().items() if command.split(" ")[0] == name}


def who(subworker, count=8):
    """What tasks say of their processes: pid, parent, argument, variable."""
    session = subworker.session
    tasks = [subworker.task("who") for _ in range(count)]
    for task in tasks:
        task.output.keep()
    session.submit()
    return [task.output.fetch().get_bytes().decode().split(" ") for task in tasks]


def test_it_runs_on_every_worker_and_ends_with_its_session(tmp_path_factory, program, monkeypatch):
    cluster = Cluster(tmp_path_factory.mktemp("two"))
    cluster.start("--local-workers", "[2,2]")
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
        with Client("127.0.0.1", cluster.port).new_session("words") as session:
            words = session.subworker("words", program, ["-v"], env={"WORDS": "many"})
            counted = words.task("count", blob("to be or not to be"))
            counted.output.keep()
            also = Task("words/count", blob("one"))
            also.output.keep()
            session.submit()
            assert counted.output.fetch().get_bytes() == b"6" and also.output.fetch().get_bytes() == b"1"
            answers = who(words, 40)
            assert {tuple(answer[2:]) for answer in answers} == {("-v", "many")}
            assert len({answer[1] for answer in answers}) == 2, "both workers"
            assert {int(answer[0]) for answer in answers} <= pids_of(cluster)
        assert not pids_of(cluster)
    finally:
        cluster.finish()


def test_sessions_with_the_same_program_share_what_is_uploaded_and_no_process(cluster, client, program):
    with client.new_session("a") as a, client.new_session("b") as b:
        seen = [{answer[0] for answer in who(session.subworker("words", program))} for session in (a, b)]
        assert not seen[0] & seen[1]
        size = program.stat().st_size
        uploads = [
            path for path in pathlib.Path(cluster.work).rglob("*") if path.is_file() and path.stat().st_size == size
        ]
        depot = [path for path in uploads if "server" in path.parts]
        assert len(depot) == 1, depot
        a.close()
        left = pids_of(cluster)
        assert left == {int(pid) for pid in seen[1]} & left and left


def test_a_program_runs_from_disk_when_it_takes_too_much_of_the_memory(tmp_path_factory, program, monkeypatch):
    cluster = Cluster(tmp_path_factory.mktemp("small"))
    cluster.start("--local-workers", "[1]", "--store-memory", "4M")
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
        large = tmp_path_factory.mktemp("large") / "words"
        large.write_bytes(program.read_bytes() + bytes(1 << 20))
        large.chmod(0o755)
        with Client("127.0.0.1", cluster.port).new_session("words") as session:
            places = []
            for name, path in ("words", program), ("large", large):
                pid = who(session.subworker(name, path), 1)[0][0]
                places.append(os.readlink(f"/proc/{pid}/exe"))
            assert not places[0].startswith(str(cluster.work)), places
            assert places[1].startswith(str(cluster.work)), places
    finally:
        cluster.finish()


def test_it_outlives_the_server(cluster, client, program):
    session = client.new_session("restart", default=False)
    words = session.subworker("words", program)
    before = {answer[0] for answer in who(words)}
    pid = cluster.pid("server")
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pid, 10)
    # Made while nobody is there.
    late = words.task("count", blob("a b", session=session))
    late.output.keep()
    submitting = threading.Thread(target=session.submit)
    submitting.start()
    assert cluster.rain("start", "--simple").returncode == 0
    submitting.join(60)
    cluster.read_address()
    assert late.output.fetch().get_bytes() == b"2"
    assert {answer[0] for answer in who(words)} & before, "its processes are the same"
    with pytest.raises(RainException, match="already"):
        session.subworker("words", program)
    session.close()
    assert not pids_of(cluster)


def test_a_worker_that_dies_takes_it_along_and_its_successor_starts_it_again(cluster, client, program):
    with client.new_session("loss") as session:
        words = session.subworker("words", program)
        before = who(words)
        worker = int(before[0][1])
        os.kill(worker, signal.SIGKILL)
        assert wait_for_end(worker, 10)
        after = who(words)
        assert not {answer[0] for answer in before} & {answer[0] for answer in after}


def test_a_directory_travels_as_a_whole(client, program, tmp_path):
    tools = tmp_path / "tools"
    (tools / "bin").mkdir(parents=True)
    (tools / "bin/words").write_bytes(program.read_bytes())
    (tools / "bin/words").chmod(0o755)
    (tools / "option").write_text("--from-a-file")
    (tools / "start").write_text('#!/bin/sh\nhere=$(dirname "$0")\nexec "$here/bin/words" "$(cat "$here/option")"\n')
    (tools / "start").chmod(0o755)
    with client.new_session("directory") as session:
        assert who(session.subworker("a", "start", directory=tools), 1)[0][2] == "--from-a-file"
        assert who(session.subworker("b", "bin/words", ["x y"], directory=tools), 1)[0][2:4] == ["x", "y"]
        with pytest.raises(RainException, match="in the directory"):
            session.subworker("c", "../words", directory=tools)
        with pytest.raises(RainException, match="no program"):
            session.subworker("c", "bin", directory=tools)


def test_a_small_script_is_enough(client, program, tmp_path):
    script = tmp_path / "words"
    script.write_text(f"#!/bin/sh\nexec {program} from-a-script\n")
    script.chmod(0o755)
    with client.new_session("script") as session:
        assert who(session.subworker("words", script), 1)[0][2] == "from-a-script"


@pytest.mark.filterwarnings("ignore:.*never submitted")
@pytest.mark.parametrize("name", ["", "a b", "a/b", ".x", "py", "builtin", "ffi", "mine"])
def test_names_that_cant_be_are_refused_where_they_are_given(client, program, name):
    with client.new_session("names", subworkers={"mine": "/bin/true"}) as session:
        with pytest.raises(RainException, match=repr(name)):
            session.subworker(name, program)
        assert session.subworker("good-1.x", program).task("count", blob("x")).task_type == "good-1.x/count"


def test_what_is_no_program_is_refused_where_it_is_given(client, tmp_path):
    text = tmp_path / "text"
    text.write_text("hello")
    with client.new_session("files") as session:
        with pytest.raises(RainException, match="No such file"):
            session.subworker("words", tmp_path / "nothing")
        with pytest.raises(RainException, match="chmod"):
            session.subworker("words", text)
        text.chmod(text.stat().st_mode | stat.S_IXUSR)
        with pytest.raises(RainException, match="neither an ELF"):
            session.subworker("words", text)
        with pytest.raises(RainException, match="directory="):
            session.subworker("words", tmp_path)


def failure_of(session, subworker, method="who"):
    subworker.task(method)
    session.submit()
    with pytest.raises(TaskException) as failure:
        session.wait_all()
    return str(failure.value)


def test_one_that_exits_at_once_says_why(client, program):
    with client.new_session("exit") as session:
        said = failure_of(session, session.subworker("words", program, ["--exit"]))
        assert "'words' exited with code 3 before it registered" in said and "no such option" in said


def test_one_for_another_machine_says_so(client, program, tmp_path):
    other = tmp_path / "other"
    image = bytearray(program.read_bytes())
    image[18:20] = (183).to_bytes(2, "little")
    other.write_bytes(image)
    other.chmod(0o755)
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with client.new_session("machine") as session:
        assert "built for aarch64" in failure_of(session, session.subworker("words", other))
    with client.new_session("script") as session:
        assert "/no/such/interpreter" in failure_of(session, session.subworker("words", script))


def test_one_that_crashes_is_charged_with_its_log_and_the_next_task_runs(client, program):
    with client.new_session("crash", on_error="fail_descendants") as session:
        words = session.subworker("words", program)
        said = failure_of(session, words, "die")
        assert "SIGABRT" in said and "the last words" in said
        assert len(who(words, 1)) == 1


def test_a_task_that_it_has_not_got_is_named(client, program):
    with client.new_session("method") as session:
        assert 'has no task "nothing"; it has count, who, die' in failure_of(
            session, session.subworker("words", program), "nothing"
        )


def test_by_a_file_of_rain_submit(cluster, program, tmp_path):
    script = f"#!/bin/sh\nexec {program} from-a-file\n"
    (tmp_path / "graph.ndjson").write_text(
        ndjson(
            {"object": {"data": script}},
            {"subworker": {"name": "words", "program": 0, "env": ["WORDS=few"]}},
            {"template": {"type": "words/who", "outputs": [{"label": "said", "keep": True}]}},
            [0, [], None],
        )
    )
    result = cluster.rain("submit", tmp_path / "graph.ndjson", "--get", "said=-")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split(" ")[2:] == ["from-a-file", "few"]
    (tmp_path / "wrong.ndjson").write_text(
        ndjson({"object": {"data": script}}, {"subworker": {"name": "a b", "program": 0}})
    )
    result = cluster.rain("submit", tmp_path / "wrong.ndjson", "--wait")
    assert result.returncode == 1 and '"a b" can\'t be the name of a subworker' in result.stderr


@pytest.mark.filterwarnings("ignore:.*unfinished")
def test_a_name_that_a_worker_has_is_refused(tmp_path_factory, program, monkeypatch):
    running = Cluster(tmp_path_factory.mktemp("named"))
    running.start("--local-workers", "[1]", "--subworker", f"words={program}")
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(running.state))
        with Client("127.0.0.1", running.port).new_session("named") as session:
            session.subworker("words", program)
            with pytest.raises(RainException, match='"words": w1 on .* has one of that name'):
                session.submit()
            # Nothing of it was taken: the session goes on, and so does the worker's own.
            assert session.subworker("other", program).task("count", blob("x")).id == 0
            task = Task("words/count", blob("x y z"))
            task.output.keep()
            session.submit()
            assert task.output.fetch().get_bytes() == b"3"
    finally:
        running.finish()
