"""Commands: how words, inputs and outputs become the configuration of a `builtin/run` task."""

import os

from ..common.directory import check_kind, is_directory_type
from ..common.errors import RainException
from .graph import DataObject, Task, active_session, to_dataobj
from .io import Input, Output, OutputSpec
from .template import Template, call_site, frames_at, to_json


class Command:
    """A command, taken apart.

    Attributes:
        labels: of the inputs, by position; None for none.
        objects: the data objects of the inputs; None in a `Program`.
        outputs: an `Output` with label and content type for each.
        config: what the server needs to know of all calls.
        arguments: words at the end of the command, which may differ from task to task.
    """

    def __init__(self):
        self.labels = []
        self.objects = []
        self.input_types = []
        self.outputs = []
        self.config = {}
        self.arguments = []
        self._inputs = []
        self._outputs = []
        self._paths = set()

    def add_input(self, value, is_program, is_mapped=True) -> int:
        """Takes an input in and returns its position."""
        if isinstance(value, str):
            value = Input(value)
        is_declared = isinstance(value, Input)
        name = None
        if not isinstance(value, Input):
            obj = to_dataobj(value)
            name = self._file_name(obj.label)
            value = Input(dataobj=obj)
        if value.dataobj is not None and is_declared:
            obj = to_dataobj(value.dataobj)
            check_kind(obj.data_type, value.content_type, f"{obj!r}")
        if value.load is not None:
            raise RainException(f"{value!r}: a program can't have load, it finds bytes")
        if is_program and value.dataobj is not None:
            raise RainException(f"{value!r}: a Program takes its data when it is called, by label")
        if is_program and not value.label:
            raise RainException(f"{value!r}: an input of a Program needs a label, by which a call names its data")
        if not is_program and value.dataobj is None:
            raise RainException(f"{value!r} has no data: give dataobj=…")
        position = len(self.labels)
        self.labels.append(value.label)
        self.objects.append(None if value.dataobj is None else to_dataobj(value.dataobj))
        self.input_types.append(value.content_type)
        entry = {}
        if is_mapped:
            name = name or self._file_name(value.label) or f"input{position}"
            entry["path"] = self._free_path(value.path, name)
            if value.write:
                entry["write"] = True
            if is_directory_type(value.content_type):
                entry["directory"] = True
        elif is_directory_type(value.content_type):
            raise RainException(f"{value!r} can't be the standard input: it is a directory")
        self._inputs.append(entry)
        return position

    def add_output(self, value, is_mapped=True) -> int:
        """Takes an output in and returns its position."""
        if isinstance(value, str):
            value = Output(value)
        if not isinstance(value, Output):
            raise TypeError(f"an output is a label or an Output, not {value!r}")
        if value.encode:
            raise RainException(f"{value!r}: a program can't have encode, it writes bytes")
        position = len(self.outputs)
        label = value.label or value.path or f"output{position}"
        if any(label == other.label for other in self.outputs):
            raise RainException(f"two outputs have the label {label!r}")
        if value.is_directory and not is_mapped:
            raise RainException(f"{value!r} can't be the standard output: it is a directory")
        self.outputs.append(Output(label, content_type=value.content_type))
        self._outputs.append({"path": value.path or label} if is_mapped else {})
        return position

    @staticmethod
    def _file_name(label):
        """A label that can be a file's name; else None."""
        is_name = label and label not in (".", "..") and "/" not in label and "\0" not in label
        return label if is_name else None

    def _free_path(self, path, name) -> str:
        """The path that was asked for, which must be free; else the name, or one like it that is free."""
        if path is None:
            path = name
            number = 0
            while path in self._paths:
                number += 1
                path = f"{name}-{number}"
        elif path in self._paths:
            raise RainException(f"two inputs have the path {path!r}")
        self._paths.add(path)
        return path


def command_of(args, stdout, stdin, input_paths, output_paths, shell, env, is_program) -> Command:
    command = Command()
    if isinstance(args, (str, os.PathLike)):
        words = [args] if shell else split(os.fspath(args))
    else:
        words = list(args)
    if not words:
        raise RainException("the command is empty")
    # Standard output comes first among the outputs, as it always has.
    if stdout is not None and stdout is not False:
        stdout = Output("stdout") if stdout is True else Output(stdout) if isinstance(stdout, str) else stdout
        if stdout.label is None:
            stdout = stdout.merged(Output("stdout"))
        command.config["stdout"] = command.add_output(stdout, is_mapped=False)
    parts = []
    for word in words:
        if isinstance(word, os.PathLike):
            word = os.fspath(word)
        if isinstance(word, str):
            parts.append(word)
        elif isinstance(word, Output):
            parts.append({"output": command.add_output(word)})
        elif isinstance(word, (Input, DataObject, Task)):
            parts.append({"input": command.add_input(word, is_program)})
        else:
            raise RainException(
                f"{word!r} can't be a word of a command: give a str, data object, task, Input or Output"
            )
    if stdin is not None:
        command.config["stdin"] = command.add_input(stdin, is_program, is_mapped=False)
    for value in [input_paths] if isinstance(input_paths, (str, Input, DataObject, Task)) else input_paths:
        command.add_input(value, is_program)
    for value in [output_paths] if isinstance(output_paths, (str, Output)) else output_paths:
        command.add_output(value)
    check_words(parts)
    # Plain words at the end go with each task, so that a loop over them shares one template.
    end = len(parts)
    while not shell and end > 1 and isinstance(parts[end - 1], str):
        end -= 1
    command.arguments = parts[end:]
    command.config["command"] = parts[:end]
    if shell:
        command.config["shell"] = True
    if any(command._inputs):
        command.config["inputs"] = command._inputs
    if any(command._outputs):
        command.config["outputs"] = command._outputs
    if env:
        command.config["env"] = {str(key): str(value) for key, value in env.items()}
    return command


def split(text) -> list:
    """The words of a command line, as a shell would take it apart."""
    if not ("'" in text or '"' in text or "\\" in text):
        return text.split()
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise RainException(
            f"the command {text!r} can't be split into words: {error}; or give a list of them"
        ) from None


def check_words(words):
    for word in words:
        if isinstance(word, str) and "\0" in word:
            raise RainException(f"{word!r} can't be a word of a command: no word has a NUL character")


class Program:
    """A command to which data is given call by call.

    Arguments are those of `Execute`, with inputs that have labels and no data. A call makes a task:

        sort = Program(["sort", "-u"], stdin="words", stdout="sorted")
        task = sort(words=some_object)
    """

    def __init__(
        self, args, stdout=None, stdin=None, input_paths=(), output_paths=(), shell=False, name=None, cpus=1, env=None
    ):
        self._command = command_of(args, stdout, stdin, input_paths, output_paths, shell, env, is_program=True)
        labels = self._command.labels
        if len(set(labels)) != len(labels):
            raise RainException(f"two inputs have one label: {labels}")
        self._labels = frozenset(labels)
        self._outputs = OutputSpec(self._command.outputs).declarations()
        self._config = to_json(self._command.config)
        self._row_arguments = to_json(self._command.arguments or None)
        self.name = name
        self.cpus = cpus

    def __call__(self, name=None, session=None, **data) -> Task:
        """A task that runs the program.

        Args:
            name: instead of the program's name.
            data: a data object, or a task with one output, for each input, by label.
        """
        if data.keys() != self._labels:
            for label in self._command.labels:
                if label not in data:
                    raise KeyError(f"no data for the input {label!r}")
            unknown = sorted(data.keys() - self._labels)
            raise TypeError(f"the program has no input {unknown[0]!r}; it has {self._command.labels}")
        session = session or active_session()
        site, frame = call_site()
        key = (self, site)
        template = session._templates.get(key)
        if template is None:
            template = session._templates[key] = Template(
                "builtin/run",
                frames_at(frame),
                name=self.name,
                config=self._config,
                input_labels=self._command.labels,
                outputs=self._outputs,
                cpus=self.cpus,
            )
        inputs = [to_dataobj(data[label]) for label in self._command.labels]
        for label, obj, content_type in zip(self._command.labels, inputs, self._command.input_types):
            check_kind(obj.data_type, content_type, f"the input {label!r}, {obj!r},")
        ids = ",".join([str(session._own_id(obj)) for obj in inputs])
        task = Task.__new__(Task)
        task._begin(session, template, inputs, f"[{ids}],{self._row_arguments}", name)
        return task

    def __repr__(self):
        return f"<Program {self.name or self._command.config['command']}>"
