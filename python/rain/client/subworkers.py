"""Subworkers that a program brings along for the length of its session."""

import os
import re
import stat

from ..common.directory import CONTENT_TYPE, pack
from ..common.errors import RainException
from .graph import Task
from .template import to_json

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}", re.ASCII)
_RESERVED = ("builtin", "ffi", "py")


class Subworker:
    """A subworker whose program travels with the session; made by `Session.subworker`."""

    __slots__ = ("session", "name", "_program", "_line")

    def __init__(self, session, name, program, path, arguments, env):
        self.session = session
        self.name = name
        #: The data object with the program, or the directory that it is in.
        self._program = program
        self._line = {"name": name, "path": path, "arguments": arguments, "env": env}

    def task(self, method, inputs=(), outputs=1, *, config=None, arguments=None, cpus=1, name=None) -> Task:
        """A task that the subworker has under the name `method`; the arguments are those of `Task`."""
        if self._program._id < 0:
            raise RainException(f"{self!r} is void: its submit was refused; bring it along again")
        return Task(
            f"{self.name}/{method}",
            inputs,
            outputs,
            config=config,
            arguments=arguments,
            cpus=cpus,
            name=name,
            session=self.session,
        )

    def _declaration(self) -> str:
        """Its line in a submit."""
        line = {key: value for key, value in self._line.items() if value}
        return to_json({"subworker": {**line, "program": self._program._id}})

    def __repr__(self):
        return f"<Subworker {self.name!r}>"


def bring_along(session, name, program, arguments, directory, env) -> Subworker:
    """Checks all that can be known here, and adds the program to the session's constants."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RainException(
            f"{name!r} can't be the name of a subworker: it has letters, digits, '_', '-' and '.', at most 100"
        )
    if name in _RESERVED:
        raise RainException(f"{name!r} can't be the name of a subworker: Rain's own tasks are of that name")
    if name in session._subworkers:
        raise RainException(f"the session has a subworker {name!r} already")
    if isinstance(arguments, (str, bytes)):
        raise TypeError("arguments are a list of str")
    arguments = [os.fspath(argument) for argument in arguments]
    env = [f"{key}={value}" for key, value in (env or {}).items()]
    program = os.fspath(program)
    if directory is None:
        _check_program(program)
        with open(program, "rb") as file:
            data, content_type, path = file.read(), None, ""
    else:
        path = os.path.normpath(program)
        if os.path.isabs(path) or path.split(os.sep)[0] == "..":
            raise RainException(f"{program!r} must be a path in the directory {os.fspath(directory)!r}")
        _check_program(os.path.join(directory, path))
        data, content_type = pack(directory), CONTENT_TYPE
    obj = session._add_constant(data, name, content_type)
    return Subworker(session, name, obj, path, arguments, env)


def _check_program(path):
    try:
        status = os.stat(path)
    except OSError as error:
        raise RainException(f"the program {path!r} can't be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise RainException(
            f"{path!r} is no program; where it is one of a directory, give directory=… and its path there"
        )
    if not status.st_mode & 0o111:
        raise RainException(f"the program {path!r} is not executable: chmod +x it")
    with open(path, "rb") as file:
        head = file.read(4)
    if not head.startswith((b"#!", b"\x7fELF")):
        raise RainException(f"{path!r} is no program: neither an ELF file nor a script that begins with #!")
