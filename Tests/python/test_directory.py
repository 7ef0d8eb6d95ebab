"""Directories as tar streams, against GNU tar; hostile streams."""

import os
import pathlib
import random
import subprocess

import pytest
from rain.common import DirectoryInstance, RainException
from rain.common.directory import _block, members, pack, unpack

TAR = (
    "tar --sort=name --format=posix --pax-option=exthdr.name=pax,delete=atime,delete=ctime --owner=0 --group=0 "
    "--numeric-owner --mtime=@0 --mode=u=rwX,go=rX,a-st --hard-dereference -b1 -C"
).split()


def gnu_tar(path) -> bytes:
    return subprocess.run(
        [*TAR, str(path), "-cf", "-", "."], check=True, capture_output=True, env=dict(os.environ, LC_ALL="C")
    ).stdout


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for name in ("b", "b-", "b.d", "b0", "B", "empty", "n" * 200, "deep/" * 40):
        (root / name).mkdir(parents=True)
    (root / "b/run").write_text("x")
    (root / "b/run").chmod(0o755)
    (root / "b!").touch()
    (root / ("n" * 200) / ("m" * 200)).write_text("l")
    (root / "new\nline").write_text("n")
    (root / "ünï").write_text("u")
    pathlib.Path(os.fsdecode(os.fsencode(root) + b"/raw\xff")).write_bytes(b"\0" * 513)
    (root / "b/up").symlink_to("../B")
    (root / "far").symlink_to("n" * 200)
    (root / "dangling").symlink_to("nowhere")
    return root


def test_a_directory_is_packed_as_gnu_tar_does(tree, tmp_path):
    stream = pack(tree)
    assert stream == gnu_tar(tree)
    unpack(stream, tmp_path / "copy")
    assert pack(tmp_path / "copy") == stream
    assert os.access(tmp_path / "copy/b/run", os.X_OK) and os.readlink(tmp_path / "copy/b/up") == "../B"


def test_a_large_directory_is_packed_in_a_file(tree):
    with open(tree / "large", "wb") as file:
        file.truncate(20 << 20)
    stream = pack(tree)
    assert not isinstance(stream, bytes) and bytes(stream) == gnu_tar(tree)


def test_a_dict_is_packed_as_the_directory_that_it_describes(tmp_path):
    items = {"a/b": "text", "a!": b"", "c": bytearray(b"x"), "e": None, "f/": None, "ü/\n": "u"}
    stream = pack(items)
    unpack(stream, tmp_path / "made")
    assert gnu_tar(tmp_path / "made") == stream
    files = DirectoryInstance(stream).files()
    assert files == {"a/b": b"text", "a!": b"", "c": b"x", "ü/\n": b"u"}
    assert pack({}) == gnu_tar_of_nothing(tmp_path)


def gnu_tar_of_nothing(tmp_path) -> bytes:
    (tmp_path / "nothing").mkdir()
    return gnu_tar(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["", "/a", "../a", "a/../b", "a//b", ".", "a/.", "x" * 256, "a\0b", "d/" * 1600 + "f"])
def test_a_path_that_leads_out_is_refused(name):
    with pytest.raises(RainException, match="path"):
        pack({name: "x"})


@pytest.mark.parametrize("target", ["/etc", "..", "../..", "b/../..", "b/.."])
def test_a_link_that_may_lead_out_is_refused(tmp_path, target):
    (tmp_path / "b").mkdir()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(RainException, match="inside"):
        pack(tmp_path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RainException, match="pipe"):
        pack(tmp_path)
    for wrong in ({"a": "x", "a/b": "y"}, {"a": 1}):
        with pytest.raises(RainException, match="'a'"):
            pack(wrong)


def test_a_hostile_stream_writes_nothing_outside(tree, tmp_path):
    stream = bytearray(pack({"a": "x", "b/c": "y"}))
    for i, (old, new) in enumerate([(b"./b/c", b"./../"), (b"./a", b"/ab"), (b"./b/c", b"./b//")]):
        with pytest.raises(RainException, match="path|belong"):
            unpack(bytes(stream).replace(old, new), tmp_path / f"out{i}")
    for kind in b"1346LKgS":
        wrong = bytearray(stream)
        wrong[512 + 156] = kind
        with pytest.raises(RainException, match="belong"):
            list(members(wrong))
    with pytest.raises(RainException, match="cut off"):
        list(members(stream[:-1024]))
    source = bytes(pack(tree))
    generator = random.Random(1)
    for round in range(100):
        wrong = bytearray(source)
        for _ in range(3):
            wrong[generator.randrange(len(wrong))] = generator.randrange(256)
        target = tmp_path / "sandbox" / str(round)
        try:
            unpack(wrong, target)
        except (RainException, OSError):
            pass
    assert {path.name for path in tmp_path.iterdir()} <= {"tree", "sandbox", "out0", "out1", "out2"}
    assert all(path.name.isdigit() for path in (tmp_path / "sandbox").iterdir())


@pytest.mark.parametrize("record", [b"0 path=./a\n", b"-3 path=./a\n", b"99 path=./a\n", b"11 size=-5\n", b"x\n"])
def test_a_wrong_length_ends_the_stream(record):
    head = _block(b"pax", b"0000644", len(record), b"x") + record + bytes(-len(record) % 512)
    with pytest.raises(RainException, match="no stream of a directory"):
        list(members(_block(b"./", b"0000755", 0, b"5") + head + _block(b"./a", b"0000644", 0, b"0") + bytes(1024)))


def test_a_negative_size_ends_the_stream():
    head = bytearray(_block(b"./a", b"0000644", 0, b"0"))
    head[124:136] = b"-0000001000\0"
    with pytest.raises(RainException, match="a length is negative"):
        list(members(_block(b"./", b"0000755", 0, b"5") + bytes(head) + bytes(1024)))


def test_an_instance_writes_links_and_refuses_what_files_do(tree, tmp_path):
    here = DirectoryInstance(path=str(tree))
    here.link(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and here.path == str(tree) and here.load() is here
    here.write(tmp_path / "copy")
    sent = DirectoryInstance(here.get_bytes())
    sent.link(tmp_path / "second")
    assert pack(tmp_path / "copy") == pack(tmp_path / "second") == here.get_bytes()
    assert sent.files() == here.files() and sent.path is None and len(sent) == len(here.get_bytes())
    with pytest.raises(RainException, match="not empty"):
        sent.write(tmp_path / "copy")
    with pytest.raises(RainException, match="files"):
        sent.get_str()
