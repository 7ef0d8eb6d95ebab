"""Takes calls, runs functions, gives results back.

A call's first input is the function, a constant that the worker sends once. The configuration, JSON text made by
`rain.client.remote`, has (all optional):

    "load"        true: parameters get decoded values
    "parameters"  [load, content type] of each positional parameter; "rest": of those that follow
    "encode"      how each result is turned into bytes; null for bytes, str and data instances alone

The arguments of a call are `null`: the inputs are the positional arguments, in order; or a text, the pickle of
(positional, keyword) arguments in base64; or a number: that pickle is the input at this position after the function.
With "parameters" each argument in it is a pickle of its own.
"""

import io
import os
import pickle
import sys
import time
from binascii import a2b_base64
from json import dumps, loads

from .. import __version__
from .._csubworker import Buffer, Error, connect, forked
from ..common import placeholder
from ..common.content_type import encode_parts, merge_content_types
from ..common.data_instance import DataInstance
from ..common.directory import DirectoryInstance, check_kind
from ..common.errors import RainException
from .context import Context, plain_view

#: More than a tick of the slowest kernel clock, by which files are dated.
CLOCK_STEP_NANOSECONDS = 20_000_000
#: For a function with one output that returned something with several parts.
AS_ONE = "to make it the result as it is, say how to turn it into bytes, as in @remote(auto_encode='pickle')"


def run():
    """Runs calls until the worker goes away or says so."""
    version = ".".join(map(str, sys.version_info[:3]))
    subworker = connect(f"rain.subworker {__version__} ({sys.implementation.name} {version})")
    staging = subworker.staging_directory
    if not staging:
        return  # The worker went away, or had no more use for this process, before it said where results go.
    directory = WorkDirectory(staging)
    streams = Streams()
    os.register_at_fork(after_in_child=note_fork)
    templates = {}
    take = subworker.next
    while True:
        call = take()
        if call is None:
            break
        template = templates.get(call.template)
        if template is None:
            template = templates[call.template] = Template(call)
        failure = None
        try:
            template.run(call)
        except BaseException as error:  # Also sys.exit() of a task: it must not end its neighbours' process.
            if is_child:
                end_child(error)
            failure = describe(error)
        # Only here, where nothing of the function is alive any more.
        if failure is None:
            call.finish()
        else:
            directory.clean()  # First: a function that found no room is called again when there is some.
            call.fail(*failure)
        placeholder.resolve = None
        streams.restore()
        directory.clean()
    directory.remove()


#: This is a process that a task forked, which has come back to where it does not belong: its parent goes on here.
is_child = False


def note_fork():
    global is_child
    is_child = True
    forked()


def end_child(error=None):
    """Ends a process that a task forked, as if the task were a program: the task goes on in its own process alone."""
    code = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    elif error is not None:
        import traceback

        code = 1
        traceback.print_exception(error)
    os._exit(code & 0xFF)


class Streams:
    """`sys.stdout` and `sys.stderr`, which go to the log: what a task puts in their place ends with it."""

    def __init__(self):
        self._make()

    def _make(self):
        self._out, self._err = (
            io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), "utf-8", "backslashreplace", write_through=True)
            for descriptor in (1, 2)
        )
        sys.stdout, sys.stderr = self._out, self._err

    def restore(self):
        if sys.stdout is not self._out or sys.stderr is not self._err or self._out.closed or self._err.closed:
            self._make()


class WorkDirectory:
    """The directory in which functions run: empty before each call.

    Looking whether it changed costs less than a microsecond; a new one for each call would cost 5 to 70.
    """

    def __init__(self, staging):
        self._path = os.path.join(staging, f"work-{os.getpid()}")
        self._make()

    def _make(self):
        os.mkdir(self._path)
        os.chdir(self._path)
        self._descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        self._note()

    def _look(self) -> tuple:
        facts = os.fstat(self._descriptor)
        return facts.st_mtime_ns, facts.st_size, facts.st_nlink

    def clean(self):
        os.fchdir(self._descriptor)
        if self._look() != self._seen:
            if os.path.isdir(self._path):
                self._empty()
                self._note()
            else:  # The task removed it.
                os.close(self._descriptor)
                self._make()

    def _note(self):
        """Remembers how the empty directory looks, once a change would show: files are dated by a coarse clock."""
        facts = self._look()
        self._seen = facts if time.time_ns() - facts[0] > CLOCK_STEP_NANOSECONDS else None

    def _empty(self):
        import shutil

        with os.scandir(self._path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)

    def remove(self):
        try:
            self._empty()
            os.rmdir(self._path)
        except OSError:
            pass  # The worker removes what is in its staging directory, and may have done so.


class Template:
    """What calls of one template share, taken apart once."""

    __slots__ = ("function", "load", "parameters", "rest", "encode", "is_plain")

    def __init__(self, call):
        #: Loaded by the first call.
        self.function = None
        text = call.config
        config = loads(text) if text else {}
        self.load = config.get("load", False)
        self.parameters = config.get("parameters")
        self.rest = config.get("rest", (self.load, None))
        self.encode = config.get("encode") or (None,) * call.output_count
        #: Inputs are handed over as they come.
        self.is_plain = not self.load and self.parameters is None

    def run(self, call):
        function = self.function
        if function is None:
            function = self.function = load_function(call)
        context = Context(call, function)
        text = call.arguments
        if not text or text == b"null":
            inputs = range(1, call.input_count)
            if self.is_plain:
                result = function(context, *[instance(call, i) for i in inputs])
            else:
                result = function(context, *[self._argument(call, i) for i in inputs])
        else:
            args, keywords = self._unpickle(call, loads(text))
            result = function(context, *args, **keywords) if keywords else function(context, *args)
        if is_child:
            end_child()
        count = call.output_count
        encode = self.encode
        if count == 1:
            if encode[0] is None and type(result) in (dict, tuple, list):
                (result,) = results(call, result, 1)
            set_output(call, 0, result, encode[0])
        elif count == 0:
            if result is not None and result != () and result != [] and result != {}:
                raise RainException(f"the function has no outputs but returned {summary(result)}")
        else:
            for i, value in enumerate(results(call, result, count)):
                set_output(call, i, value, encode[i])
        if context._info is not None and context._info.user:
            call.set_attributes(attributes_text(context._info.user, "the task"))

    def _argument(self, call, i):
        load, content_type = self.load, None
        if self.parameters is not None:
            load, content_type = self.parameters[i - 1] if i <= len(self.parameters) else self.rest
        return resolved(instance(call, i), load, content_type)

    def _unpickle(self, call, arguments):
        instances = {}

        def resolve(position, load, content_type):
            value = instances.get(position)
            if value is None:
                value = instances[position] = instance(call, position + 1)
            return resolved(value, load, content_type)

        placeholder.resolve = resolve
        if isinstance(arguments, str):
            args, keywords = pickle.loads(a2b_base64(arguments))
        else:
            args, keywords = instance(call, arguments + 1).load()
        if self.parameters is None:
            return args, keywords
        return [pickle.loads(value) for value in args], {name: pickle.loads(value) for name, value in keywords.items()}


def load_function(call):
    """The function that a call wants: the same object in every call of this process."""
    function = call.input_attached(0)
    if function is None:

        def resolve(position, load, content_type):
            return resolved(instance(call, position + 1), load, content_type)

        placeholder.resolve = resolve
        function = pickle.loads(call.input(0))
        if call.input_is_cached(0):
            call.attach(0, function)
    return function


class InputAttributes:
    """Attributes of an input, read from their JSON text when somebody asks."""

    __slots__ = ("_text",)

    def __init__(self, text):
        self._text = text

    def _made_attributes(self) -> dict:
        return loads(self._text)


def instance(call, i) -> DataInstance:
    if call.input_is_directory(i):
        result = DirectoryInstance(path=call.input_path(i))
    else:
        result = DataInstance(call.input(i), call.input_content_type(i))
    text = call.input_attributes(i)
    if text:
        result._attributes_source = InputAttributes(text)
    result.input_index = i
    return result


def resolved(value, load, content_type):
    """What a parameter gets for a data instance."""
    if content_type:
        check_kind(value.data_type, content_type, f"input {value.input_index}")
        value._content_type = merge_content_types(value._content_type, content_type)
    return value.load() if load else value


def results(call, result, count) -> list:
    """The values of several outputs: by position from a tuple or list, by label from a mapping."""
    if isinstance(result, dict):
        return result_by_label(call, result)
    if not isinstance(result, (tuple, list)):
        raise RainException(
            f"the function has {count} outputs but returned {summary(result)}: return a tuple or a dict"
        )
    if len(result) != count:
        if count == 1:
            raise RainException(
                f"the function has one output but returned a {type(result).__name__} of {len(result)} values: {AS_ONE}"
            )
        raise RainException(f"the function has {count} outputs but returned {len(result)} values")
    return result


def result_by_label(call, result) -> list:
    labels = [call.output_label(i) for i in range(call.output_count)]
    if result.keys() != set(labels):
        keys = ", ".join(sorted(map(repr, result))) or "nothing"
        hint = f"; {AS_ONE}" if len(labels) == 1 else ""
        raise RainException(
            f"a dict that a function returns has a value for each output, here {labels}, but this one has {keys}{hint}"
        )
    return [result[label] for label in labels]


def set_output(call, i, value, encode):
    """Turns a result into an output."""
    kind = type(value)
    if call.output_is_directory(i) or kind is DirectoryInstance:
        set_directory(call, i, value)
    elif kind is DataInstance:
        attributes = attributes_of_output(call, i, value)
        if value.input_index is not None:
            call.pass_input(i, value.input_index, value._content_type, attributes)
        else:
            check_declared(call, i, value._content_type)
            call.set_output(i, value._data, value._content_type, attributes)
    elif encode is not None:
        parts, content_type = encoded(call, i, value, encode)
        call.set_output(i, parts[0] if len(parts) == 1 else parts, content_type)
    elif kind is bytes:
        call.set_output(i, value)
    elif isinstance(value, str):
        check_declared(call, i, "text")
        (data,), _ = encoded(call, i, value, "text")
        call.set_output(i, data, "text")
    elif isinstance(value, (bytes, bytearray, Buffer)):
        call.set_output(i, value)
    elif isinstance(value, memoryview):
        call.set_output(i, plain_view(value))
    elif is_array(value):
        parts, content_type = encoded(call, i, value, "array")
        check_declared(call, i, content_type)
        call.set_output(i, parts[0], content_type)
    else:
        nothing = ", or that there is nothing to return, by @remote(outputs=0)" if value is None else ""
        raise RainException(
            f"output '{call.output_label(i)}' can't be {summary(value)}: return bytes, str or a data instance, or say "
            f"how to turn it into bytes, as in @remote(auto_encode='pickle'){nothing}"
        )


def encoded(call, i, value, encode) -> tuple:
    """(parts, content type) of a result."""
    try:
        return encode_parts(value, encode)
    except RainException as error:
        raise RainException(f"output '{call.output_label(i)}': {error}") from None
    except Exception as error:
        raise RainException(
            f"output '{call.output_label(i)}', {summary(value)}, can't be encoded as {encode!r}: {error}"
        ) from error


def attributes_of_output(call, i, value):
    return attributes_text(value._attributes, f"output '{call.output_label(i)}'") if value._attributes else None


def attributes_text(attributes, whose) -> str:
    """Attributes as JSON, which knows neither NaN nor sets."""
    try:
        return dumps(attributes, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RainException(f"the attributes of {whose} can't be written as JSON: {error}") from None


def is_array(value) -> bool:
    """Whether a value is an array or a scalar of numpy, without more to it (a mask, say) than its bytes."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and (type(value) is numpy.ndarray or isinstance(value, (numpy.generic, numpy.memmap)))


def set_directory(call, i, value):
    """Makes an output a directory."""
    if not call.output_is_directory(i):
        raise RainException(f"output '{call.output_label(i)}' is declared as a file but is a directory: use OutputDir")
    if isinstance(value, os.PathLike):
        value = Context(call, None).directory(value)
    if not isinstance(value, DirectoryInstance):
        raise RainException(
            f"output '{call.output_label(i)}' is declared as a directory but is {summary(value)}: return "
            "ctx.directory(path or dict), or a pathlib.Path"
        )
    attributes = attributes_of_output(call, i, value)
    if value.input_index is not None:
        call.pass_input(i, value.input_index, None, attributes)
    elif value.path is None:
        directory = call.staging_path()
        value.write(directory)
        call.set_output_path(i, directory, attributes)
    else:
        call.set_output_path(i, value.path, attributes)


def check_declared(call, i, content_type):
    """Raises where a result's content type does not fit the declared one."""
    if content_type:
        merge_content_types(call.output_content_type(i), content_type)


def summary(value) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def describe(error) -> tuple:
    """An exception as (last line, traceback without our own frames)."""
    import traceback

    trace = error.__traceback__
    own = os.path.dirname(os.path.abspath(__file__))
    while trace is not None and os.path.dirname(os.path.abspath(trace.tb_frame.f_code.co_filename)) == own:
        trace = trace.tb_next
    detail = "".join(traceback.format_exception(type(error), error, trace)) if trace is not None else ""
    message = "".join(traceback.format_exception_only(type(error), error)).strip()
    if isinstance(error, (RainException, Error)):
        message = str(error)
    return tuple(text.encode("utf-8", "replace").decode() for text in (message, detail))
