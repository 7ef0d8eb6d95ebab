"""Directories as objects: the one form in which they travel, a tar stream.

The directory itself comes first, as `./`, each directory before what is in it, and that by the bytes of the names. No
owners, no times; modes are 0755 and 0644. So one tree is one stream, wherever it is made. Symbolic links are kept where
they are relative and stay inside: first up, then down.
"""

import os
import stat

from .data_instance import DataInstance
from .errors import RainException

CONTENT_TYPE = "dir"
_BLOCK = 512
_END = bytes(1024)
_SIZE_MAX = 0o77777777777
_PATH_BYTES_MAX = 3072


def is_directory_type(content_type) -> bool:
    return content_type == CONTENT_TYPE


def _padding(size) -> int:
    return -size % _BLOCK


def _block(name, mode, size, kind, target=b"") -> bytes:
    device = bytes(16) if kind == b"x" else b"0000000\0" * 2
    owner = b"\0" + b"0000000\0" * 2
    facts = owner + b"%011o\0" % size + b"00000000000\0" + b" " * 8 + kind
    head = name[:100].ljust(100, b"\0") + mode + facts + target[:100].ljust(100, b"\0")
    head = (head + b"ustar\x0000" + bytes(64) + device).ljust(_BLOCK, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _record(key, value) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest
    while rest + len(b"%d" % length) != length:
        length = rest + len(b"%d" % length)
    return b"%d %s=%s\n" % (length, key, value)


def _header(path: bytes, kind: bytes, size=0, is_executable=True, target=b"") -> bytes:
    """What comes before a member's bytes. Kinds are those of tar: 0 a file, 2 a link, 5 a directory."""
    name = b"./" + path + (b"/" if kind == b"5" and path else b"")
    records = b""
    if len(target) > 100:
        records += _record(b"linkpath", target)
    if len(name) > 100 or not name.isascii():
        records += _record(b"path", name)
    if size > _SIZE_MAX:
        records += _record(b"size", b"%d" % size)
    head = b""
    if records:
        head = _block(b"pax", b"0000644", len(records), b"x") + records + bytes(_padding(len(records)))
    mode = b"0000755" if kind != b"0" or is_executable else b"0000644"
    return head + _block(name, mode, 0 if size > _SIZE_MAX else size, kind, target)


def _check_link(path: bytes, target: bytes):
    height = path.count(b"/")
    is_inside = target != b"" and not target.startswith(b"/") and b"\0" not in target
    is_going_down = False
    for part in target.split(b"/"):
        if part == b"..":
            height -= 1
            is_inside = is_inside and not is_going_down and height >= 0
        elif part not in (b"", b"."):
            is_going_down = True
    if not is_inside:
        raise RainException(
            f"the symbolic link {os.fsdecode(path)!r} leads to {os.fsdecode(target)!r}, which is not known to lie "
            "inside of the directory"
        )


def _check_path(path: bytes):
    parts = path.split(b"/")
    if b"\0" in path or any(part in (b"", b".", b"..") for part in parts):
        raise RainException(f"{os.fsdecode(path)!r} is no path inside of a directory: give a relative one without '..'")
    if len(path) > _PATH_BYTES_MAX or any(len(part) > 255 for part in parts):
        raise RainException(f"the path {os.fsdecode(path)[:200]!r}… is too long")


def pack(source):
    """The stream of a directory.

    Args:
        source: the path of a directory; or a dict of bytes, str (in UTF-8) or None (an empty directory) by relative
            path.

    Returns:
        bytes, or for a large directory a map of a file that nobody else sees.
    """
    if isinstance(source, dict):
        return _pack_items(source)
    root = os.fsencode(source)
    if not os.path.isdir(root):
        raise RainException(f"{os.fsdecode(root)!r} is no directory")
    return _pack_path(root)


def _pack_items(items) -> bytes:
    files = {}
    directories = set()
    for name, value in items.items():
        path = os.fsencode(name)
        if path.endswith(b"/") and value is None:
            path = path[:-1]
        _check_path(path)
        if value is None:
            directories.add(path)
        elif isinstance(value, str):
            files[path] = value.encode()
        elif isinstance(value, (bytes, bytearray, memoryview)):
            files[path] = bytes(value)
        elif isinstance(value, DataInstance) and not isinstance(value, DirectoryInstance):
            files[path] = value.get_bytes()
        else:
            raise RainException(f"the file {name!r} can't be a value of type {type(value).__name__}: give bytes or str")
        while b"/" in path:
            path = path[: path.rindex(b"/")]
            directories.add(path)
    for path in directories:
        if path in files:
            raise RainException(f"{os.fsdecode(path)!r} is a file and a directory")
    parts = [_header(b"", b"5")]
    for path in sorted([*files, *directories], key=lambda p: p.split(b"/")):
        data = files.get(path)
        if data is None:
            parts.append(_header(path, b"5"))
        else:
            parts += (_header(path, b"0", len(data), False), data, bytes(_padding(len(data))))
    parts.append(_END)
    return b"".join(parts)


#: Longer streams are made in a file.
_MEMORY_BYTES_MAX = 8 << 20


def _pack_path(root):
    import tempfile

    with tempfile.SpooledTemporaryFile(_MEMORY_BYTES_MAX) as file:
        _write_tree(root, file)
        size = file.tell()
        if size <= _MEMORY_BYTES_MAX:
            file.seek(0)
            return file.read()
        import mmap

        file.flush()
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def _write_tree(root: bytes, out):
    out.write(_header(b"", b"5"))
    # Directories whose content is still to come, the next one last.
    waiting = _sorted_entries(root, b"")
    while waiting:
        path, entry = waiting.pop()
        _check_path(path)
        if entry.is_symlink():
            target = os.readlink(entry.path)
            _check_link(path, target)
            out.write(_header(path, b"2", target=target))
        elif entry.is_dir():
            out.write(_header(path, b"5"))
            waiting += _sorted_entries(entry.path, path + b"/")
        elif entry.is_file():
            _write_file(path, entry.path, out)
        else:
            raise RainException(f"{os.fsdecode(entry.path)!r} is no file, directory or symbolic link")
    out.write(_END)


def _sorted_entries(path: bytes, prefix: bytes) -> list:
    with os.scandir(path) as entries:
        return [(prefix + e.name, e) for e in sorted(entries, key=lambda e: e.name, reverse=True)]


def _write_file(path: bytes, source: bytes, out):
    with open(source, "rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        out.write(_header(path, b"0", facts.st_size, bool(facts.st_mode & 0o111)))
        left = facts.st_size
        while left:
            data = file.read(min(left, 1 << 20))
            if not data:
                raise RainException(f"{os.fsdecode(source)!r} became shorter while it was read")
            out.write(data)
            left -= len(data)
        out.write(bytes(_padding(facts.st_size)))


class Member:
    """Something in a directory's stream: path (bytes), kind ("0", "2" or "5"), data, and for a link its target."""

    __slots__ = ("path", "kind", "data", "is_executable", "target")

    def __init__(self, path, kind, data=b"", is_executable=False, target=b""):
        self.path = path
        self.kind = kind
        self.data = data
        self.is_executable = is_executable
        self.target = target


def _number(digits: bytes, base=10) -> int:
    number = int(digits, base)
    if number < 0:
        raise ValueError("a length is negative")
    return number


def members(stream):
    """The members of a stream, without the directory itself; data are memoryviews of it.

    Raises:
        RainException: this is no directory's stream.
    """
    view = memoryview(stream)
    position = 0
    records = {}
    try:
        while True:
            head = bytes(view[position : position + _BLOCK])
            if len(head) != _BLOCK:
                raise ValueError("it was cut off")
            if not any(head):
                return
            kind, size = head[156:157], _number(head[124:135], 8)
            if kind == b"x":
                data = bytes(view[position + _BLOCK : position + _BLOCK + size])
                while data:
                    digits, _, _ = data.partition(b" ")
                    length = _number(digits)
                    if not len(digits) < length <= len(data):
                        raise ValueError("a record has a wrong length")
                    key, _, value = data[len(digits) + 1 : length - 1].partition(b"=")
                    records[key] = value
                    data = data[length:]
                position += _BLOCK + size + _padding(size)
                continue
            name = records.get(b"path", head[:100].rstrip(b"\0"))
            size = _number(records[b"size"]) if b"size" in records else size
            target = records.get(b"linkpath", head[157:257].rstrip(b"\0"))
            data = view[position + _BLOCK : position + _BLOCK + size]
            if len(data) != size or kind not in (b"0", b"2", b"5") or not name.startswith(b"./"):
                raise ValueError(f"{name!r} does not belong there")
            path = name[2:].rstrip(b"/") if kind == b"5" else name[2:]
            if path:
                _check_path(path)
                if kind == b"2":
                    _check_link(path, target)
                yield Member(path, kind, data, head[104:105] == b"7", target)
            position += _BLOCK + size + _padding(size)
            records = {}
    except (ValueError, IndexError) as error:
        raise RainException(f"this is no stream of a directory: {error}") from None


def unpack(stream, path):
    """Makes a directory of a stream. It must not exist, or be empty."""
    root = os.fsencode(path)
    if os.path.isdir(root) and os.listdir(root):
        raise RainException(f"{os.fsdecode(root)!r} is not empty")
    os.makedirs(root, exist_ok=True)
    links = []
    for member in members(stream):
        target = os.path.join(root, member.path)
        if member.kind == b"5":
            os.mkdir(target)
        elif member.kind == b"2":
            links.append((member.target, target))
        else:
            mode = 0o777 if member.is_executable else 0o666
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(target, flags, mode), "wb") as file:
                file.write(member.data)
    # Last, so that no path leads through one.
    for leads, target in links:
        os.symlink(leads, target)


def copy_tree(source, path):
    """A copy of a directory of the store, which its owner may change."""
    import shutil

    shutil.copytree(source, path, symlinks=True, copy_function=_copy_file, dirs_exist_ok=True)
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o755)


def _copy_file(source, target):
    import shutil

    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if os.stat(source).st_mode & 0o111 else 0o644)


class DirectoryInstance(DataInstance):
    """A directory: what `fetch` returns for one, and what a Python task gets for one.

    In a task, `path` is where it lies; nothing in it can be changed. `files` reads all of it, `write` makes a copy.
    """

    __slots__ = ("_path",)

    data_type = "dir"

    def __init__(self, data=None, path=None, attributes=None):
        super().__init__(data, CONTENT_TYPE, attributes)
        self._path = path

    @property
    def path(self):
        """The directory itself, read-only; None where its bytes alone are here."""
        return self._path

    def get_bytes(self) -> bytes:
        """The directory as a tar stream."""
        return bytes(self._stream())

    def get_buffer(self) -> memoryview:
        return memoryview(self._stream()).toreadonly()

    def get_str(self, encoding=None):
        raise RainException("a directory has no text: take its files()")

    def load(self, cache=False):
        """The directory itself: it needs no decoding."""
        return self

    def _stream(self):
        if self._data is None:
            self._data = pack(self._path)
        return self._data

    def files(self) -> dict:
        """The bytes of each file, by path. Links and empty directories are not in it."""
        if self._path is None:
            return {os.fsdecode(m.path): bytes(m.data) for m in members(self._data) if m.kind == b"0"}
        result = {}
        root = os.fspath(self._path)
        for directory, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                path = os.path.join(directory, name)
                if stat.S_ISREG(os.lstat(path).st_mode):
                    with open(path, "rb") as file:
                        result[os.path.relpath(path, root)] = file.read()
        return result

    def write(self, path):
        """Makes a copy of the directory at `path`, which must not exist, or be empty. It may be changed."""
        if self._path is None:
            unpack(self._data, path)
        else:
            if os.path.isdir(path) and os.listdir(path):
                raise RainException(f"{os.fspath(path)!r} is not empty")
            copy_tree(self._path, path)

    to_directory = write

    def link(self, path):
        """A symbolic link to the directory where it lies here, else a copy."""
        if self._path is None:
            self.write(path)
        else:
            os.symlink(self._path, path)

    def __len__(self):
        return len(self._stream())

    def __repr__(self):
        where = f"at {self._path!r}" if self._path is not None else f"of {len(self._data)} bytes"
        return f"<DirectoryInstance {where}>"

    def __reduce__(self):
        return DirectoryInstance, (self.get_bytes(), None, self.attributes or None)


def check_kind(data_type, content_type, what):
    """Raises where a directory is given for a file, or the reverse.

    Args:
        data_type: of what is given: "blob" or "dir".
        content_type: that is declared; "dir" for a directory.
        what: it is, for the message.
    """
    if (data_type == "dir") != is_directory_type(content_type):
        raise RainException(
            f"{what} is a directory, but a file is declared (Input)"
            if data_type == "dir"
            else f"{what} is a file, but a directory is declared (InputDir)"
        )
