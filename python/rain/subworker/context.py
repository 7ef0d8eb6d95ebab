"""What a remote function gets as its first argument."""

import math
import operator
import os
from json import loads

from .._csubworker import Buffer
from ..common.content_type import check_content_type
from ..common.data_instance import DataInstance
from ..common.directory import DirectoryInstance, copy_tree, pack, unpack
from ..common.errors import RainException


def plain_view(value) -> memoryview:
    """The bytes of something with a buffer, as a view; in the order of C, by a copy where they don't lie in it."""
    view = memoryview(value)
    return view.cast("B") if view.c_contiguous and view.nbytes else memoryview(view.tobytes())


def writable(text: str) -> str:
    """The text without what can't be written in UTF-8: halves of pairs are shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


class ContextInfo:
    """`ctx.info`: attributes that the client reads from the finished task, under `user`."""

    __slots__ = ("user",)

    def __init__(self):
        self.user = {}


class TaskSpec:
    """`ctx.spec`: what the client asked for."""

    __slots__ = ("id", "name", "session", "array_index", "user")

    def __init__(self, call):
        self.id = call.task
        self.session = call.session
        self.name = call.name
        self.array_index = call.array_index
        text = call.attributes
        #: The attributes that the client gave the task.
        self.user = loads(text) if text else {}


class Context:
    """The task's view of its call. It ends with the task."""

    __slots__ = ("_call", "_info", "_spec", "function")

    def __init__(self, call, function):
        self._call = call
        self._info = None
        self._spec = None
        #: The function itself, as the client wrote it.
        self.function = function

    @property
    def info(self) -> ContextInfo:
        if self._info is None:
            self._info = ContextInfo()
        return self._info

    @property
    def attributes(self) -> dict:
        """Attributes for the client to read: any JSON by name. The same as `info.user`."""
        return self.info.user

    @attributes.setter
    def attributes(self, value: dict):
        self.info.user = value

    @property
    def spec(self) -> TaskSpec:
        if self._spec is None:
            self._spec = TaskSpec(self._call)
        return self._spec

    @property
    def is_cancelled(self) -> bool:
        """Whether the task should stop soon; cheap to ask."""
        return self._call.is_cancelled

    def debug(self, message, *args, **keywords):
        """Adds a line to the task's debug text, which the client sees in `info.debug` and in the text of a failure.

        Args:
            message: formatted with the other arguments as by `str.format`.
        """
        text = message.format(*args, **keywords) if args or keywords else str(message)
        try:
            self._call.debug(text)
        except UnicodeEncodeError:  # A file's name, say, that is no UTF-8.
            self._call.debug(writable(text))

    def progress(self, fraction, text=""):
        """Tells how far the task is, which the client sees in `task.progress`; as often as you like.

        Args:
            fraction: from 0 to 1.
            text: one line on what the task does.
        """
        text = text or ""
        try:
            self._call.progress(fraction, text)
        except ValueError:
            self._call.progress(fraction, writable(text).replace("\0", " "))

    def blob(self, value, content_type=None, encode=None) -> DataInstance:
        """A result with a content type, encoding or attributes of its own; as `rain.client.blob`."""
        if encode is not None and content_type is not None:
            raise RainException("give encode or content_type, not both")
        if encode is not None:
            from ..common.content_type import encode_parts

            parts, content_type = encode_parts(value, check_content_type(encode))
            return DataInstance(self._gathered(parts), content_type)
        if isinstance(value, str):
            if content_type is not None:
                raise RainException("content_type goes with bytes; for a str use encode='text-…' or nothing")
            return DataInstance(value.encode(), "text")
        if isinstance(value, bytes):
            return DataInstance(value, check_content_type(content_type))
        if isinstance(value, (bytearray, memoryview, Buffer)):
            return DataInstance(self._gathered([plain_view(value)]), check_content_type(content_type))
        raise RainException(f"a value of type {type(value).__name__} needs encode=…, such as encode='pickle'")

    def _gathered(self, parts):
        """The bytes of a result, which don't change when its parts do; large ones are copied once in all."""
        if len(parts) == 1 and (type(parts[0]) is bytes or self._call.holds(parts[0])):
            return parts[0]
        buffer = self._call.buffer(sum(map(len, parts)))
        with memoryview(buffer) as view:
            position = 0
            for part in parts:
                view[position : position + len(part)] = part
                position += len(part)
        return buffer

    def empty(self, shape, dtype="f8"):
        """A numpy array in the memory of a result: to return it, or the beginning of it, copies nothing.

        It may be kept for longer than the task, and then is an array of this process alone.

        Args:
            shape: a number or a tuple, as in `numpy.empty`; it is all zeros.
            dtype: of the elements: anything but objects.
        """
        import numpy

        kind = numpy.dtype(dtype)
        if kind.hasobject:
            raise RainException("an array of Python objects can't lie in the memory of a result: use numpy.empty")
        shape = (tuple(shape) if hasattr(shape, "__len__") else (shape,)) + kind.shape
        kind = kind.base
        size = math.prod(map(operator.index, shape)) * kind.itemsize
        if size <= 0:
            return numpy.zeros(shape, kind)  # Or numpy's own words on why not.
        return numpy.frombuffer(self._call.buffer(size), numpy.uint8).view(kind).reshape(shape)

    def buffer(self, size=0):
        """Memory of a result, zeroed, for bytes: to return it, or the beginning of a memoryview of it, copies nothing.

        It takes part in the buffer protocol (`memoryview(buffer)`, `file.readinto(buffer)`); `buffer.write(data)`
        appends as to a file, `buffer.resize(size)` makes it larger or smaller while nothing else uses it.
        """
        return self._call.buffer(size)

    def directory(self, source) -> DirectoryInstance:
        """A result that is a directory, for an `OutputDir`.

        Args:
            source: the path of a directory: one in the working directory is moved away, another one is copied; or the
                files as a dict, as in `rain.client.directory`.
        """
        target = self._call.staging_path()
        if isinstance(source, dict):
            unpack(pack(source), target)
            return DirectoryInstance(path=target)
        path = os.path.abspath(os.fspath(source))
        if not os.path.isdir(path):
            raise RainException(f"{os.fspath(source)!r} is no directory")
        if os.path.realpath(path).startswith(os.path.realpath(".") + os.sep) and not os.path.islink(path):
            os.chmod(path, 0o755)
            os.rename(path, target)
        else:
            copy_tree(path, target)
        return DirectoryInstance(path=target)

    def stage_directory(self, path) -> DirectoryInstance:
        """A result that is a directory of the working directory; it is moved away. As `directory`; its older name."""
        if os.path.isabs(path):
            raise RainException(f"{path!r} must be relative to the working directory")
        return self.directory(path)

    def pickled(self, value) -> DataInstance:
        """A pickled result."""
        return self.blob(value, encode="pickle")
