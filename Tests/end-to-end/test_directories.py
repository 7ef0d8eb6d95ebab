"""Directories as objects, from a client through tasks of every kind, between two workers and back."""

import hashlib
import json
import os
import pathlib
import stat
import subprocess
import time

import pytest
from cluster import ROOT, Cluster, ndjson
from rain.client import (
    Client,
    DirectoryInstance,
    InputDir,
    OutputDir,
    Program,
    RainException,
    TaskException,
    blob,
    directory,
    remote,
    tasks,
)
from rain.client.tasks import Execute

TAR = (
    "tar --sort=name --format=posix --pax-option=exthdr.name=pax,delete=atime,delete=ctime --owner=0 --group=0 "
    "--numeric-owner --mtime=@0 --mode=u=rwX,go=rX,a-st --hard-dereference -b1 -C"
).split()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A server and two workers with one CPU each."""
    running = Cluster(tmp_path_factory.mktemp("pair"))
    running.start("--local-workers", "[1,1]")
    yield running
    running.finish()


@pytest.fixture
def session(pair, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(pair.state))
    with Client("127.0.0.1", pair.port).new_session("directories") as session:
        yield session


def facts(path):
    """What a directory object keeps of a tree: kinds, bytes, targets, and who may execute."""
    found = {}
    root = os.fsencode(path)
    for parent, names, files in os.walk(root):
        for name in [*names, *files]:
            full = os.path.join(parent, name)
            status = os.lstat(full)
            key = os.path.relpath(full, root)
            if stat.S_ISLNK(status.st_mode):
                found[key] = ("link", os.readlink(full))
            elif stat.S_ISDIR(status.st_mode):
                found[key] = ("dir",)
            else:
                found[key] = ("file", pathlib.Path(os.fsdecode(full)).read_bytes(), bool(status.st_mode & 0o111))
    return found


@pytest.fixture
def odd_tree(tmp_path):
    """Everything that is hard on names and kinds."""
    root = tmp_path / "odd"
    deep = root / "/".join(["deep"] * 50)
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("b")
    (root / "empty").mkdir()
    (root / "zero").touch()
    (root / "large").write_bytes(os.urandom(3_000_000))
    (root / "run me").write_text("#!/bin/sh\necho ran\n")
    (root / "run me").chmod(0o755)
    (root / "new\nline ünï").write_text("u")
    pathlib.Path(os.fsdecode(os.fsencode(root) + b"/raw\xff\xfe")).write_text("r")
    (root / ("n" * 200)).mkdir()
    (root / ("n" * 200) / ("m" * 200)).write_text("l")
    (root / "sub").mkdir()
    (root / "sub/up").symlink_to("../zero")
    (root / "dangling").symlink_to("nowhere")
    return root


@remote(outputs=[OutputDir("made"), "where"], inputs={"given": InputDir()})
def grow(ctx, given):
    """A copy of the directory with one file more, and which process made it."""
    target = pathlib.Path("work/copy")
    given.write(target)
    (target / "added").write_text(f"{len(os.listdir(given.path))}")
    return ctx.directory(target), str(os.getppid())


@remote()
def listing(ctx, given):
    time.sleep(0.4)  # So that the next one goes to the other worker.
    return json.dumps(sorted(given.files()))


def test_a_directory_goes_to_a_worker_and_back(session, odd_tree, tmp_path):
    given = directory(odd_tree)
    assert given.data_type == "dir"
    task = grow(given)
    task.keep_outputs()
    session.submit()
    made = task.outputs["made"].fetch()
    assert isinstance(made, DirectoryInstance) and made.data_type == "dir" and made.content_type == "dir"
    made.write(tmp_path / "back")
    expected = facts(odd_tree)
    expected[b"added"] = ("file", b"%d" % len(os.listdir(odd_tree)), False)
    assert facts(tmp_path / "back") == expected
    assert made.files()["zero"] == b"" and made.files()["added"] == expected[b"added"][1]
    # The stream is what GNU tar makes of the same tree, and its length is the object's size.
    stream = subprocess.run([*TAR, str(tmp_path / "back"), "-cf", "-", "."], env={"LC_ALL": "C"}, capture_output=True)
    assert stream.stdout == made.get_bytes()
    session.update([task.outputs["made"]])
    assert task.outputs["made"].info.size == len(stream.stdout)


def test_a_directory_moves_between_workers(pair, session, odd_tree):
    made = grow(directory(odd_tree)).outputs["made"]
    users = [listing(made) for _ in range(2)]
    for user in users:
        user.output.keep()
    session.submit()
    results = [json.loads(user.output.fetch().get_bytes()) for user in users]
    assert results[0] == results[1] and "added" in results[0] and os.fsdecode(b"raw\xff\xfe") in results[0]
    session.update(users)
    assert len({user.info.worker for user in users}) == 2, "both ran on one worker"


def test_the_content_is_a_tar_stream(pair, session, odd_tree, tmp_path):
    task = grow(directory(odd_tree))
    task.keep_outputs()
    session.submit()
    session.wait(task)
    made = task.outputs["made"]
    url = f"{pair.url}/api/v1/sessions/{session.id}/objects/{made.id}/content"
    head = pair.curl("--head", url).decode().lower()
    assert "content-type: application/x-tar" in head and "rain-content-type: dir" in head
    stream = pair.curl(url)
    assert f"content-length: {len(stream)}" in head
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-C", str(tmp_path / "out"), "-xf", "-"], input=stream, check=True)
    assert facts(tmp_path / "out").keys() == facts(odd_tree).keys() | {b"added"}
    assert pair.curl("--range", "700-1999999", url) == stream[700:2_000_000]
    assert pair.curl("--range", "-1500", url) == stream[-1500:]
    info = pair.post(f"/api/v1/sessions/{session.id}/info", {"objects": [[made.id, 1]]})["objects"][0]
    assert info["directory"] is True and info["size"] == len(stream)


def test_a_tar_stream_is_uploaded_by_curl(pair, tmp_path):
    (tmp_path / "in/sub").mkdir(parents=True)
    (tmp_path / "in/sub/f").write_text("hello")
    stream = subprocess.run([*TAR, str(tmp_path / "in"), "-cf", "-", "."], capture_output=True, check=True).stdout
    name = hashlib.sha256(stream).hexdigest()
    pair.curl("--upload-file", "-", f"{pair.url}/api/v1/blobs/{name}", input=stream)
    path = pair.session()
    template = {
        "type": "builtin/run",
        "config": {"command": ["cat", "tree/sub/f"], "stdout": 0, "inputs": [{"path": "tree", "directory": True}]},
        "outputs": [{"label": "out", "keep": True}],
    }
    lines = ndjson({"object": {"blob": name, "directory": True}}, {"template": template}, [0, [0], None])
    pair.post(f"{path}/submit", lines)
    assert pair.curl(f"{pair.url}{path}/objects/1/content") == b"hello"
    # Any other stream is refused at the submit, with what is wrong.
    for wrong, word in [
        (b"no tar at all" * 100, "damaged"),
        (subprocess.run(["tar", "-C", str(tmp_path), "-cf", "-", "in"], capture_output=True).stdout, "form"),
        (stream[:-512], "ends at byte"),
        (stream.replace(b"./sub/f", b"./../up"), "form"),
    ]:
        name = hashlib.sha256(wrong).hexdigest()
        pair.curl("--upload-file", "-", f"{pair.url}/api/v1/blobs/{name}", input=wrong)
        error = pair.post(f"{path}/submit", ndjson({"object": {"blob": name, "directory": True}}), expect=400)["error"]
        assert name in error["message"] and "is no directory" in error["message"] and word in error["message"]
    error = pair.post(f"{path}/submit", ndjson({"object": {"data": "x", "directory": True}}), expect=400)["error"]
    assert "a directory is a blob" in error["message"]


def test_programs_read_and_make_directories(session, tmp_path):
    source = directory({"a.txt": "one\n", "b/c.txt": "two\n", "b/empty": None})
    task = Execute(
        "cp -rL in/. made && chmod u+w made && echo three >made/d.txt; test ! -w in/a.txt || test $(id -u) = 0",
        shell=True,
        input_paths=[InputDir("in", dataobj=source)],
        output_paths=[OutputDir("made")],
    )
    cat = Program("cat made/a.txt made/b/c.txt made/d.txt", stdout="out", input_paths=[InputDir("made")])
    change = Execute(
        "echo changed >in/a.txt && rm -r in/b && ls in",
        stdout=True,
        shell=True,
        input_paths=[InputDir("in", dataobj=source, write=True)],
    )
    result = cat(made=task)
    slice_of_link = Execute(
        "cat way/f", stdout=True, shell=True, input_paths=[InputDir("way", dataobj=directory({"f": "through"}))]
    )
    inside = Execute(
        "true",
        input_paths=[InputDir("in", dataobj=source)],
        output_paths=[OutputDir("part", path="in/b"), "in/a.txt"],
    )
    for node in (result, task, change, slice_of_link, inside):
        node.keep_outputs()
    session.submit()
    assert result.output.fetch().get_bytes() == b"one\ntwo\nthree\n"
    assert task.output.fetch().files() == {"a.txt": b"one\n", "b/c.txt": b"two\n", "d.txt": b"three\n"}
    assert change.output.fetch().get_bytes() == b"a.txt\n"
    assert slice_of_link.output.fetch().get_bytes() == b"through"
    # What lies inside of a linked input is copied, and the input stays whole.
    part, file = inside.fetch_outputs()
    assert part.files() == {"c.txt": b"two\n"} and file.get_bytes() == b"one\n"
    part.write(tmp_path / "part")
    assert (tmp_path / "part/empty").is_dir()


def test_directories_are_made_sliced_loaded_and_stored(session, odd_tree, tmp_path):
    text = blob("hello")
    big = blob(b"x" * 100_000)
    inner = directory({"x/y": "deep", "z": "top"})
    made = tasks.MakeDirectory({"a/b/text": text, "big": big, "c": inner, "a/c": inner})
    empty = tasks.MakeDirectory([])
    same = tasks.Sleep(made, 0.01)
    nodes = {
        "text": tasks.SliceDirectory(same, "a/b/text"),
        "big": tasks.SliceDirectory(made, "big"),
        "dir": tasks.SliceDirectory(made, "a/"),
        "deep": tasks.SliceDirectory(tasks.SliceDirectory(made, "a/c/"), "x/y"),
        "empty": empty,
        "loaded": tasks.LoadDir(odd_tree),
        "made": made,
    }
    for node in nodes.values():
        node.keep_outputs()
    stored = tasks.Store(nodes["loaded"], tmp_path / "stored")
    session.submit()
    got = {name: node.output.fetch() for name, node in nodes.items()}
    assert got["text"].get_bytes() == b"hello" and got["big"].get_bytes() == b"x" * 100_000
    assert got["dir"].files() == {"b/text": b"hello", "c/x/y": b"deep", "c/z": b"top"}
    assert got["deep"].get_bytes() == b"deep"
    assert got["empty"].files() == {} and len(got["empty"]) == 1536
    assert len(got["made"].files()) == 6
    session.wait(stored)
    assert facts(tmp_path / "stored") == facts(odd_tree)
    again = tasks.Store(tasks.LoadDir(odd_tree), tmp_path / "stored")
    session.submit()
    session.wait(again)


def failure(session, task):
    for output in task.outputs:
        output.keep()
    session.submit()
    with pytest.raises(TaskException) as caught:
        session.wait(task)
    return str(caught.value)


@remote(outputs=OutputDir("made"))
def bytes_for_a_directory(ctx):
    return b"bytes"


@remote(outputs="made")
def directory_for_bytes(ctx):
    return ctx.directory({"a": "b"})


@remote(outputs=OutputDir("made"))
def link_out(ctx):
    os.mkdir("d")
    os.symlink("/etc/passwd", "d/out")
    return ctx.directory("d")


@remote(outputs=OutputDir("made"))
def still_open(ctx):
    os.mkdir("d")
    still_open.file = open("d/log", "w")  # noqa: SIM115
    return pathlib.Path("d")


WRONG = {
    "file": (lambda: Execute("touch made", output_paths=[OutputDir("made")]), "made a file 'made'", "as a directory"),
    "dir": (lambda: Execute("mkdir made", output_paths=["made"]), "made a directory 'made'", "declared as a file"),
    "none": (lambda: Execute("true", output_paths=[OutputDir("made")]), "made no directory 'made'", "output 0"),
    "fifo": (
        lambda: Execute("mkdir made && mkfifo made/p", shell=True, output_paths=[OutputDir("made")]),
        "'p' in it",
        "is no file, directory or symbolic link",
    ),
    "escape": (
        lambda: Execute("mkdir made && ln -s ../.. made/up", shell=True, output_paths=[OutputDir("made")]),
        "symbolic link 'up' leads to '../..'",
        "inside",
    ),
    "bytes": (bytes_for_a_directory, "output 'made' is declared as a directory", "bytes"),
    "dict": (directory_for_bytes, "output 'made' is declared as a file", "OutputDir"),
    "link": (link_out, "'out' leads to '/etc/passwd'", "output 0 ('made')"),
    "open": (still_open, "'log'", "still open"),
    "concat": (lambda: tasks.Concat([blob("a"), directory({})]), "input 1 is a directory", "takes files"),
    "slice": (lambda: tasks.SliceDirectory(directory({"a": "b"}), "b"), "no such file or directory", "'b'"),
    "slice-dir": (lambda: tasks.SliceDirectory(directory({"a/b": ""}), "a"), "end the path with '/'", "'a'"),
    "slice-file": (lambda: tasks.SliceDirectory(directory({"a": ""}), "a/"), "no directory", "'a'"),
    "inside": (lambda: tasks.MakeDirectory({"a": blob("x"), "a/b": blob("y")}), "inside of input 0", "'a/b'"),
    "up": (lambda: tasks.MakeDirectory({"../a": blob("x")}), "'../a'", "relative"),
    "load": (lambda: tasks.LoadDir("/etc/passwd"), "/etc/passwd is a file", "directory"),
    "load-none": (lambda: tasks.LoadDir("/no/such"), "/no/such", "no directory"),
    "store": (lambda: tasks.Store(directory({"a": "b"}), ROOT / "Tests"), "exists on host", "is not the same"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_kind_or_content_is_an_error_that_says_so(pair, monkeypatch, name):
    monkeypatch.setenv("XDG_STATE_HOME", str(pair.state))
    make, *words = WRONG[name]
    with Client("127.0.0.1", pair.port).new_session("wrong") as session:
        message = failure(session, make())
        assert all(word in message for word in words), message


def test_the_client_knows_kinds_before_the_submit(session):
    for make in (
        lambda: grow(blob("x")),
        lambda: Execute(["ls", InputDir("d", dataobj=blob("x"))]),
        lambda: Program(["ls", InputDir("d")])(d=blob("x")),
        lambda: Program(["ls", "d"], input_paths="d")(d=directory({})),
        lambda: tasks.SliceDirectory(blob("x"), "a"),
        lambda: directory("/no/such"),
        lambda: directory({"../x": "y"}),
        lambda: Execute("ls", stdout=OutputDir("d")),
    ):
        with pytest.raises(RainException, match="director"):
            make()


def test_ten_thousand_files_travel(pair, session, tmp_path):
    root = tmp_path / "many"
    for i in range(100):
        (root / str(i)).mkdir(parents=True)
        for j in range(100):
            (root / str(i) / str(j)).write_text(f"{i}-{j}")
    user = listing(directory(root))
    user.output.keep()
    session.submit()
    assert len(json.loads(user.output.fetch().get_bytes())) == 10_000


def test_a_directory_is_kept_and_dropped_like_bytes(pair, session):
    made = tasks.MakeDirectory({"a": blob(b"x" * 100_000)})
    made.keep_outputs()
    session.submit()
    assert made.output.fetch().files() == {"a": b"x" * 100_000}
    made.unkeep_outputs()
    with pytest.raises(RainException):
        made.output.fetch()


@remote(outputs=OutputDir("made"))
def bulky(ctx, number):
    ctx.buffer(2_000_000)  # Waits until there is room: what is written to the working directory doesn't.
    os.mkdir("d")
    for i in range(4):
        pathlib.Path(f"d/{i}").write_bytes(bytes([number]) * 400_000)
    return pathlib.Path("d")


@remote()
def total(ctx, *trees):
    return str([sum(map(len, tree.files().values())) // 400_000 * data[0] for tree, data in zip(trees, firsts(trees))])


def firsts(trees):
    return [pathlib.Path(tree.path, "3").read_bytes() for tree in trees]


def test_directories_go_to_disk_when_memory_is_full(stopped, monkeypatch):
    stopped.start("--local-workers", "[2]", "--store-memory", "32M")
    monkeypatch.setenv("XDG_STATE_HOME", str(stopped.state))
    with Client("127.0.0.1", stopped.port).new_session("full") as session:
        trees = [bulky(number) for number in range(20)]
        for tree in trees:
            tree.keep_outputs()
        result = total(*trees)
        again = total(
            *[tasks.Sleep(tree, 0) for tree in trees[:3]],
            tasks.SliceDirectory(tasks.MakeDirectory({"a": trees[0]}), "a/"),
        )
        result.keep_outputs()
        again.keep_outputs()
        session.submit()
        assert json.loads(result.output.fetch().get_str()) == [4 * number for number in range(20)]
        assert json.loads(again.output.fetch().get_str()) == [0, 4, 8, 0]
        assert trees[19].output.fetch().files() == {str(i): b"\x13" * 400_000 for i in range(4)}
        # A program that finds no room in memory is run again on disk, and its directory is accepted there. Alone: a
        # function beside it would find no room either.
        big = Execute("mkdir big && head -c 40000000 /dev/zero >big/f", shell=True, output_paths=[OutputDir("big")])
        part = tasks.SliceDirectory(big, "f")
        part.keep_outputs()
        session.submit()
        assert part.output.fetch().get_bytes() == bytes(40_000_000)
        spilled = [path for path in stopped.work.rglob("objects/*/*") if path.is_dir()]
        assert spilled, "nothing went to disk"
