"""Descriptions of inputs and outputs."""

from ..common.content_type import check_content_type, merge_content_types
from ..common.directory import CONTENT_TYPE, is_directory_type
from ..common.errors import RainException
from .graph import check_label


class Input:
    """An input of a task.

    Args:
        label: its role.
        path: file name at which a program finds it; None for the label, or a name of its own.
        dataobj: the data object, where it is given here.
        load: a Python task gets the decoded value instead of a `DataInstance`.
        content_type: what the bytes are, for data without a content type; others must fit.
        write: a program gets a private copy that it may change.
    """

    __slots__ = ("label", "path", "dataobj", "load", "content_type", "write")

    def __init__(self, label=None, path=None, dataobj=None, load=None, content_type=None, write=False):
        self.label = check_label(label)
        self.path = path
        self.dataobj = dataobj
        self.load = load
        self.content_type = check_content_type(content_type)
        self.write = write

    def __repr__(self):
        return f"Input({self.label!r}, path={self.path!r})"


class InputDir(Input):
    """An input that is a directory.

    A program finds it at its path, as a symbolic link that can't be written through; with `write` as a copy of its own.
    A Python task gets a `DirectoryInstance`.
    """

    __slots__ = ()

    def __init__(self, label=None, path=None, dataobj=None, load=None, write=False):
        super().__init__(label, path, dataobj, load, CONTENT_TYPE, write)

    def __repr__(self):
        return f"InputDir({self.label!r}, path={self.path!r})"


class Output:
    """An output of a task.

    Args:
        label: its role.
        size_hint: bytes to expect; not used yet.
        content_type: what the bytes will be.
        mode: reserved, must be None.
        encode: how a Python task's result is turned into bytes; also its content type.
        path: the file that a program writes; None for the label.
    """

    __slots__ = ("label", "size_hint", "content_type", "encode", "path")

    def __init__(self, label=None, *, size_hint=None, content_type=None, mode=None, encode=None, path=None):
        if mode is not None:
            raise RainException("mode is reserved and must be None")
        self.label = check_label(label)
        self.size_hint = size_hint
        self.encode = check_content_type(encode)
        self.content_type = check_content_type(content_type)
        if encode:
            self.content_type = merge_content_types(self.content_type, encode)
        self.path = path

    @property
    def is_directory(self) -> bool:
        return is_directory_type(self.content_type)

    def merged(self, other: "Output") -> "Output":
        """This declaration with what a call says more; the call's label, path and encoding win."""
        return Output(
            other.label if other.label is not None else self.label,
            size_hint=other.size_hint or self.size_hint,
            content_type=merge_content_types(self.content_type, other.content_type),
            encode=other.encode or self.encode,
            path=other.path or self.path,
        )

    def __repr__(self):
        return f"Output({self.label!r}, path={self.path!r})"


class OutputDir(Output):
    """An output that is a directory.

    Args:
        label: its role.
        size_hint: bytes to expect; not used yet.
        path: the directory that a program makes; None for the label.
    """

    __slots__ = ()

    def __init__(self, label=None, *, size_hint=None, path=None):
        super().__init__(label, size_hint=size_hint, content_type=CONTENT_TYPE, path=path)

    def __repr__(self):
        return f"OutputDir({self.label!r}, path={self.path!r})"


class OutputSpec:
    """The outputs of a task: a number, one label or `Output`, or a list of labels, `Output`s and None."""

    __slots__ = ("outputs",)

    def __init__(self, outputs=None):
        if outputs is None:
            outputs = ()
        elif isinstance(outputs, bool):
            raise TypeError("outputs are a number, a label, an Output or a list of them")
        elif isinstance(outputs, int):
            if outputs < 0:
                raise RainException(f"a task can't have {outputs} outputs")
            outputs = (None,) * outputs
        elif isinstance(outputs, (str, Output)):
            outputs = (outputs,)
        elif not hasattr(outputs, "__iter__"):
            raise TypeError(f"outputs are a number, a label, an Output or a list of them, not {outputs!r}")
        self.outputs = [self._output(i, o) for i, o in enumerate(outputs)]

    @staticmethod
    def _output(i, value) -> Output:
        if isinstance(value, Output):
            return value if value.label is not None else value.merged(Output(f"out{i}"))
        if value is None:
            return Output(f"out{i}")
        if isinstance(value, str):
            return Output(value)
        raise TypeError(f"an output is a label, an Output or None, not {value!r}")

    def merged(self, outputs) -> "OutputSpec":
        """With what a call says; the count must be the same."""
        if isinstance(outputs, (str, Output)):
            outputs = (outputs,)
        elif isinstance(outputs, int):
            outputs = (None,) * outputs
        outputs = list(outputs)
        if len(outputs) != len(self.outputs):
            raise RainException(f"the function has {len(self.outputs)} outputs but the call names {len(outputs)}")
        merged = []
        for declared, given in zip(self.outputs, outputs):
            if given is None:
                merged.append(declared)
            elif isinstance(given, (str, Output)):
                merged.append(declared.merged(given if isinstance(given, Output) else Output(given)))
            else:
                raise TypeError(f"an output is a label, an Output or None, not {given!r}")
        return OutputSpec(merged)

    def declarations(self) -> tuple:
        """(label, content type) of each."""
        labels = [o.label for o in self.outputs]
        if len(set(labels)) != len(labels):
            raise RainException(f"two outputs have one label: {labels}")
        return tuple((o.label, o.content_type) for o in self.outputs)

    def __len__(self):
        return len(self.outputs)
