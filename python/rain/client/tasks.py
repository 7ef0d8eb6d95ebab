"""The built-in tasks, and programs as tasks."""

import os
from types import NoneType

from ..common.errors import RainException
from .graph import Task, active_session, to_dataobj
from .io import Output, OutputDir
from .program import check_words, command_of, split
from .template import call_site, frames_at, to_json

__all__ = ["Concat", "Execute", "Load", "LoadDir", "MakeDirectory", "SliceDirectory", "Sleep", "Store"]


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
        output = OutputDir("out") if to_dataobj(input).data_type == "dir" else "out"
        self._make(self.TASK_TYPE, (input,), output, None, {"seconds": timeout}, cpus, name, session)


class Load(_BuiltIn):
    """The bytes of a file on the worker's machine, by absolute path; with an `OutputDir`, a directory.

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


class LoadDir(_BuiltIn):
    """A directory on the worker's machine, by absolute path: a copy of it, as it is when the task runs.

    Args:
        output: a label or `OutputDir`; None for "out".
    """

    TASK_TYPE = "builtin/load"
    __slots__ = ()

    def __init__(self, path, output=None, name=None, session=None):
        self._make(self.TASK_TYPE, (), _directory_output(output), None, {"path": _absolute(path)}, 1, name, session)


class Store(_BuiltIn):
    """Writes its input to a file or directory on the worker's machine, by absolute path. It has no outputs.

    A file that is there is replaced. A directory that is there is left alone: the task fails, unless it is the same.
    """

    TASK_TYPE = "builtin/store"
    __slots__ = ()

    def __init__(self, input, path, name=None, session=None):
        self._make(self.TASK_TYPE, (input,), (), None, {"path": _absolute(path)}, 1, name, session)


class MakeDirectory(_BuiltIn):
    """A directory with its inputs at paths of their own.

    Args:
        paths_objects: (path, data object) pairs, or a dict of data objects by path. Paths are relative; what is missing
            of their parents is made.
        output: a label or `OutputDir`; None for "out".
    """

    TASK_TYPE = "builtin/make_directory"
    __slots__ = ()

    def __init__(self, paths_objects, output=None, name=None, session=None):
        pairs = list(paths_objects.items() if isinstance(paths_objects, dict) else paths_objects)
        paths = [os.fspath(path).removesuffix("/") for path, _ in pairs]
        objects = tuple(obj for _, obj in pairs)
        self._make(self.TASK_TYPE, objects, _directory_output(output), None, {"paths": paths}, 1, name, session)


class SliceDirectory(_BuiltIn):
    """A file of a directory; or, where the path ends with "/", a directory in it.

    Args:
        path: relative, in the input.
        output: a label, `Output` or `OutputDir`; None for "out".
    """

    TASK_TYPE = "builtin/slice_directory"
    __slots__ = ()

    def __init__(self, input, path, output=None, name=None, session=None):
        obj = to_dataobj(input)
        obj.expect_dir()
        path = os.fspath(path)
        if path.endswith("/"):
            output = _directory_output(output)
        elif output is None or isinstance(output, str):
            output = output or "out"
        elif output.is_directory:
            raise RainException(f"the path {path!r} means a file; for a directory it ends with '/'")
        else:
            output = [output if output.label is not None else output.merged(Output("out"))]
        self._make(self.TASK_TYPE, (obj,), output, None, {"path": path}, 1, name, session)


def _directory_output(output) -> OutputDir:
    if output is None or isinstance(output, str):
        return OutputDir(output or "out")
    if not output.is_directory:
        raise RainException(f"{output!r}: the output is a directory: give an OutputDir, or a label")
    return output if output.label is not None else OutputDir("out", size_hint=output.size_hint)


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
        site, frame = call_site()
        key = (Execute, words[0], stdout, cpus, site)
        template = session._templates.get(key)
        if template is None:
            command = command_of(words[:1], stdout, None, (), (), False, None, is_program=False)
            outputs = self._declared(command.outputs)
            template = session._templates[key] = self._new_template(
                self.TASK_TYPE, frames_at(frame), to_json(command.config), (), outputs, cpus
            )
        arguments = to_json(words[1:]) if len(words) > 1 else "null"
        if "\\u0000" in arguments:
            check_words(words)
        self._begin(session, template, (), f"[],{arguments}", name)
