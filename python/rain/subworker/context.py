"""What a remote function gets as its first argument."""

import json
import os

from ..common.content_type import check_content_type
from ..common.data_instance import DataInstance
from ..common.directory import DirectoryInstance, copy_tree, pack, unpack
from ..common.errors import RainException


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
        self.user = json.loads(text) if text else {}


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
        self._call.debug(message.format(*args, **keywords) if args or keywords else str(message))

    def progress(self, fraction, text=""):
        """Tells how far the task is, which the client sees in `task.progress`; as often as you like.

        Args:
            fraction: from 0 to 1.
            text: one line on what the task does.
        """
        self._call.progress(fraction, text)

    def blob(self, value, content_type=None, encode=None) -> DataInstance:
        """A result with a content type, encoding or attributes of its own; as `rain.client.blob`."""
        if encode is not None and content_type is not None:
            raise RainException("give encode or content_type, not both")
        if encode is not None:
            from ..common.content_type import encode_parts

            parts, content_type = encode_parts(value, check_content_type(encode))
            return DataInstance(parts[0] if len(parts) == 1 else b"".join(parts), content_type)
        if isinstance(value, str):
            if content_type is not None:
                raise RainException("content_type goes with bytes; for a str use encode='text-…' or nothing")
            return DataInstance(value.encode(), "text")
        if isinstance(value, (bytes, bytearray, memoryview)):
            return DataInstance(bytes(value), check_content_type(content_type))
        raise RainException(f"a value of type {type(value).__name__} needs encode=…, such as encode='pickle'")

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
