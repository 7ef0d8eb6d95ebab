"""Tasks that write to what they are to read: objects stay what they are, whoever runs the worker."""

import os
import pathlib
import shutil

import pytest
from cluster import Cluster
from rain.client import Client, Input, InputDir, OutputDir, TaskException, directory, remote, tasks

# A worker that may mount shows tasks their inputs where nothing can be changed; any other one finds out afterwards.
KINDS = ["as it is", "without the right to mount"]
WITHOUT_MOUNTS = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
LONG = b"what others read\n" * 5000


@pytest.fixture(scope="module", params=KINDS)
def cluster(request, tmp_path_factory):
    running = Cluster(tmp_path_factory.mktemp("damage"))
    prefix = ()
    if request.param != KINDS[0]:
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root can give up its right to mount, with setpriv")
        prefix = WITHOUT_MOUNTS
    running.start("--local-workers", "[2]", "--store-memory", "48M", prefix=prefix)
    (worker,) = running.get("/api/v1/status")["workers"]
    running.can_mount = worker["store"].startswith("private tmpfs")
    assert not (running.can_mount and prefix)
    yield running
    running.finish()


@pytest.fixture
def session(cluster, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(cluster.state))
    with Client("127.0.0.1", cluster.port).new_session("damage", on_error="fail_descendants") as session:
        yield session


@remote()
def make_long(ctx):
    return LONG


@remote()
def write_to(ctx, data):
    """By the way of its descriptor, or into a directory."""
    if hasattr(data, "path"):
        paths = [os.path.join(data.path, "a")]
    else:
        names = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        paths = [path for path in names if "/rain-" in os.path.realpath(path) and os.path.isfile(path)]
        paths = [path for path in paths if os.stat(path).st_size == len(LONG)]
    assert paths
    for path in paths:
        try:
            os.chmod(path, 0o644)
            with open(path, "r+b") as file:
                file.write(b"X")
        except OSError as error:
            return error.strerror
    return "written"


def failure(session, task):
    session.submit()
    with pytest.raises(TaskException) as caught:
        session.wait([task])
    return str(caught.value)


def read(session, data):
    """What another task finds."""
    task = tasks.Execute(["cat", Input("data", dataobj=data)], stdout=True)
    task.output.keep()
    session.submit()
    return task.output.fetch().get_bytes()


def test_a_program_that_writes_to_its_input_fails_and_others_read_what_was_made(session):
    data = make_long(output="data")
    data.output.keep()
    bad = tasks.Execute(
        "chmod u+w in; printf X | dd of=in conv=notrunc",
        shell=True,
        input_paths=[Input("data", path="in", dataobj=data)],
    )
    message = failure(session, bad)
    assert "input 0 ('data')" in message and "write=True" in message
    assert read(session, data) == LONG


def test_a_program_with_write_has_a_copy_of_its_own(session):
    data = make_long(output="data")
    data.output.keep()
    good = tasks.Execute(
        "echo more >> in; wc -c < in",
        shell=True,
        stdout=True,
        input_paths=[Input("data", path="in", dataobj=data, write=True)],
    )
    good.output.keep()
    session.submit()
    assert int(good.output.fetch().get_bytes()) == len(LONG) + 5
    assert read(session, data) == LONG


def test_a_function_can_t_write_to_what_it_reads(cluster, session):
    data = make_long(output="data")
    data.output.keep()
    task = write_to(data)
    task.output.keep()
    if cluster.can_mount:
        session.submit()
        assert task.output.fetch().load() == "Read-only file system"
    else:
        assert "py/call wrote to its input" in failure(session, task)
    assert read(session, data) == LONG


def test_nothing_in_a_directory_can_be_changed(cluster, session):
    tree = directory({"a": b"first", "sub/b": b"second"})
    tree.keep()
    program = tasks.Execute(
        "chmod u+w in/sub; echo new > in/sub/new; true",
        shell=True,
        input_paths=[InputDir("tree", path="in", dataobj=tree)],
    )
    if cluster.can_mount:
        session.submit()
        session.wait([program])
    else:
        assert "input 0 ('tree')" in failure(session, program)
    task = write_to(tree)
    task.output.keep()
    if cluster.can_mount:
        session.submit()
        assert task.output.fetch().load() == "Read-only file system"
    else:
        assert "wrote to its input" in failure(session, task)
    listing = tasks.Execute(
        "find in/ -type f | sort | xargs cat",
        shell=True,
        stdout=True,
        input_paths=[InputDir("tree", path="in", dataobj=tree)],
    )
    listing.output.keep()
    session.submit()
    assert listing.output.fetch().get_bytes() == b"firstsecond"


@remote(outputs=OutputDir("made"))
def make_tree(ctx):
    os.mkdir("d")
    for name in ("a", "b"):
        pathlib.Path(f"d/{name}").write_bytes(LONG)
    return pathlib.Path("d")


@remote()
def read_tree(ctx, tree):
    return b"".join(pathlib.Path(tree.path, name).read_bytes() for name in ("a", "b"))


@remote()
def bulk(ctx, number):
    return bytes([number]) * 8_000_000


def test_a_directory_whose_file_was_written_to_under_its_other_name_is_made_again(session):
    trees = [make_tree(), make_tree()]
    trees[0].output.keep()
    trees[1].output.keep()
    for tree in trees:
        part = tasks.SliceDirectory(tree, "a")
        bad = tasks.Execute(
            "chmod u+w in; printf X | dd of=in conv=notrunc",
            shell=True,
            input_paths=[Input("data", path="in", dataobj=part)],
        )
        assert "input 0 ('data')" in failure(session, bad)
    reader = read_tree(trees[0])
    reader.output.keep()
    session.submit()
    assert reader.output.fetch().get_bytes() == 2 * LONG
    for tree in trees:
        assert tree.output.fetch().files() == {"a": LONG, "b": LONG}


def test_a_directory_that_a_program_wrote_to_is_not_whole_after_its_way_to_disk(cluster, session):
    tree = make_tree()
    tree.output.keep()
    bad = tasks.Execute(
        "chmod u+w in/a; printf X | dd of=in/a conv=notrunc; true",
        shell=True,
        input_paths=[InputDir("tree", path="in", dataobj=tree)],
    )
    if cluster.can_mount:
        session.submit()
        session.wait([bad])
    else:
        assert "input 0 ('tree')" in failure(session, bad)
    others = [bulk(number) for number in range(12)]
    for other in others:
        other.keep_outputs()
    session.submit()
    session.wait(others)
    assert [path for path in cluster.work.rglob("objects/*/*") if path.is_dir()], "nothing went to disk"
    assert tree.output.fetch().files() == {"a": LONG, "b": LONG}
