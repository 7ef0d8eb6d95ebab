"""The built-in tasks, and programs as tasks."""

import os
from types import NoneType

from ..common.errors import RainException
from .graph import Task, active_session
from .io import Output
from .program import command_of, split
from .template import call_site, to_json

__all__ = ["Concat", "Execute", "Load", "Sleep", "Store"]


class _BuiltIn(Task):
    """A task that a worker runs by itself."""

    __slots__ = ()


def _absolute(path) -> str:
    path = os.fspath(path)
    if not os.path.isabs(path):
        raise RainException(f"{path!r} must be an absolute path: it is one of the worker's machine")
    return path


class Concat(_BuiltIn):
    """The bytes of its inputs, one after the other."""

    TASK_TYPE = "builtin/concat"
    __slots__ = ()

    def __init__(self, inputs=(), name=None, session=None):
        self._make(self.TASK_TYPE, tuple(inputs), "out", None, None, 1, name, session)


class Sleep(_BuiltIn):
    """Its input, unchanged, after `timeout` seconds."""

    TASK_TYPE = "builtin/sleep"
    __slots__ = ()

    def __init__(self, input, timeout, name=None, session=None, cpus=1):
        self._make(self.TASK_TYPE, (input,), "out", None, {"seconds": timeout}, cpus, name, session)


class Load(_BuiltIn):
    """The bytes of a file on the worker's machine, by absolute path.

    Args:
        output: a label or `Output`, for a content type; None for "out".
    """

    TASK_TYPE = "builtin/load"
    __slots__ = ()

    def __init__(self, path, output=None, name=None, session=None):
        if output is None or isinstance(output, str):
            outputs = output or "out"
        else:
            outputs = [output if output.label is not None else output.merged(Output("out"))]
        self._make(self.TASK_TYPE, (), outputs, None, {"path": _absolute(path)}, 1, name, session)


class Store(_BuiltIn):
    """Writes its input to a file on the worker's machine, by absolute path. It has no outputs."""

    TASK_TYPE = "builtin/store"
    __slots__ = ()

    def __init__(self, input, path, name=None, session=None):
        self._make(self.TASK_TYPE, (input,), (), None, {"path": _absolute(path)}, 1, name, session)


class Execute(Task):
    """A program, in an empty directory of its own.

    Args:
        args: the command: a str, split as a shell would, or a list of str, data objects, tasks, `Input`s and `Output`s;
            what is no str is replaced by its path.
        stdout: True, a label or an `Output`: what the program prints is an output, the first one.
        stdin: a data object.
        input_paths: `Input`s with data objects, or data objects, that are files in the directory but no arguments.
        output_paths: paths or `Output`s of files that the program makes.
        shell: run the words, joined by blanks, with `/bin/sh -c`.
        env: variables to set, beside those of the worker.
    """

    TASK_TYPE = "builtin/run"
    __slots__ = ()

    def __init__(
        self,
        args,
        stdout=None,
        stdin=None,
        input_paths=(),
        output_paths=(),
        shell=False,
        name=None,
        session=None,
        cpus=1,
        env=None,
    ):
        if isinstance(args, str) and not shell:
            args = split(args)
        is_plain = not (shell or stdin or input_paths or output_paths or env) and type(stdout) in (NoneType, bool, str)
        if is_plain and type(args) in (list, tuple) and args and all(type(word) is str for word in args):
            self._make_plain(args, stdout, name, session or active_session(), cpus)
            return
        command = command_of(args, stdout, stdin, input_paths, output_paths, shell, env, is_program=False)
        inputs = list(zip(command.labels, command.objects))
        self._make(
            self.TASK_TYPE, inputs, command.outputs, command.config, command.arguments or None, cpus, name, session
        )

    def _make_plain(self, words, stdout, name, session, cpus):
        """A program with words alone, as loops make them by the thousand: only their template is worked out."""
        site, frames = call_site()
        key = (Execute, words[0], stdout, cpus, site)
        template = session._templates.get(key)
        if template is None:
            command = command_of(words[:1], stdout, None, (), (), False, None, is_program=False)
            template = session._templates[key] = self._new_template(
                self.TASK_TYPE, frames, to_json(command.config), (), self._declared(command.outputs), cpus
            )
        self._begin(session, template, (), f"[],{to_json(words[1:]) if len(words) > 1 else 'null'}", name)
