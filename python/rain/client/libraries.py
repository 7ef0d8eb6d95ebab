"""C functions of shared libraries as tasks, by their declarations."""

import json
import os
import re
import struct
from math import isfinite

from ..common.array_type import FORMATS
from ..common.errors import RainException
from .graph import DataObject, Task, active_session
from .template import Template, call_site, frames_at, to_json

_CODES_OF_BYTES = ("i1", "u1", "b1")
_THREADS_MAX = 64
#: Longer lists go as data objects, so that rows stay short.
_LIST_MAX = 64


def cdll(file, name=None, *, declarations="", errors=None, error_string=None, init=(), threads=1):
    """A shared library, whose functions are tasks once they are declared.

        libm = cdll("libm.so.6")
        cos = libm.function("double cos(double x)")
        task = cos(0.5)

    Args:
        file: what the worker's machine loads: a name such as "libm.so.6", or a path; or a list, loaded in this order.
        name: of the library in task types; None for the file's, without what follows ".so".
        declarations: structs, enums and typedefs that the functions need, as in C.
        errors: how functions tell of errors: "nonzero", "negative", "null", "errno"; for those that return what it can
            be said of.
        error_string: the library's function of (int) that returns an error's text.
        init: declarations of functions that are called once when the library is loaded; arguments are their defaults.
        threads: how many calls of its functions may run at once in one process, 1 to 64. More than 1 only for a library
            that is thread-safe: such calls share the process, its memory and what the library keeps in it.
    """
    files = [file] if isinstance(file, (str, os.PathLike)) else list(file)
    files = [os.fspath(f) for f in files]
    if not files:
        raise RainException("a library needs a file")
    # A word of C.
    name = name or re.sub(r"\W|^(?=\d)", "_", os.path.basename(files[-1]).split(".so")[0], flags=re.ASCII)
    files = [os.path.abspath(f) if "/" in f else f for f in files]
    init = [init] if isinstance(init, str) else list(init)
    return Library(name, files, declarations, errors, error_string, init, _thread_count(threads))


def _thread_count(threads) -> int:
    if type(threads) is not int or not 1 <= threads <= _THREADS_MAX:
        raise RainException(
            f"threads is how many calls run at once in a process, a number from 1 to {_THREADS_MAX}, not {threads!r}"
        )
    return threads


def load_declarations(source) -> dict:
    """The libraries of a declarations file: `{name: library}`, with a function for each declaration as an attribute.

    Args:
        source: a path, or the declarations themselves as a str with a '{' in it. A library whose file is a relative
            path with a slash is looked for beside that path, or from the current directory.
    """
    if isinstance(source, str) and "{" in source:
        text, title, directory = source, "declarations", "."
    else:
        title = os.fspath(source)
        directory = os.path.dirname(title)
        with open(source, encoding="utf-8") as file:
            text = file.read()
    libraries = {}
    config = to_json({"declarations": text, "directory": os.path.abspath(directory)})
    for description in _describe(text, title):
        library = libraries.setdefault(description["library"], _LoadedLibrary())
        setattr(library, description["name"], Function(description, config, None, 1))
    return libraries


class _LoadedLibrary:
    """The functions of a library, as attributes."""


def _quoted(text) -> str:
    """A string of declarations."""
    for mark, escaped in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\t", r"\t")):
        text = text.replace(mark, escaped)
    return f'"{text}"'


def _describe(text, title="declarations") -> list:
    from .._declarations import describe

    try:
        return json.loads(describe(text))
    except ValueError as error:
        raise RainException(f"{title}{str(error)[len('declarations') :]}") from None


class Library:
    """A shared library; made by `cdll`."""

    def __init__(self, name, files, declarations, errors, error_string, init, threads):
        self.name = name
        self.files = files
        self._types = declarations + "\n" if declarations else ""
        head = f"library {name} = {', '.join(map(_quoted, files))} {{\n"
        if errors is not None:
            head += f"errors = {_quoted(errors)};\n"
        if error_string is not None:
            head += f"error_string = {error_string};\n"
        if threads != 1:
            head += f"threads = {threads};\n"
        self._head = head + "".join(f"init {text.strip().rstrip(';')};\n" for text in init)
        _describe(self._types + self._head + "}")

    def function(self, declaration, *, errors=None, error_string=None, name=None, cpus=1, threads=None) -> "Function":
        """A function whose calls are tasks.

        Args:
            declaration: as in C, with the lengths of arrays: `"void scale(inout double x[n], size_t n, double by)"`.
            errors, error_string, threads: as in `cdll`, for this function.
            name: of the tasks; None for none.
            cpus: how many CPUs a call occupies.
        """
        declaration = declaration.strip().rstrip(";")
        if errors is not None:
            declaration += f" errors = {_quoted(errors)}"
        if error_string is not None:
            declaration += f" error_string = {error_string}"
        if threads is not None:
            declaration += f" threads = {_thread_count(threads)}"
        text = f"{self._types}{self._head}{declaration};\n}}"
        described = _describe(text)
        if len(described) != 1:
            raise RainException(f"one function is declared at a time, not {len(described)}: {declaration}")
        return Function(described[0], to_json({"declarations": text}), name, cpus)

    def __repr__(self):
        return f"<Library {self.name} {self.files}>"


class _Parameter:
    __slots__ = ("name", "form", "code", "c_type", "dimensions", "is_optional", "is_implied")

    def __init__(self, fields):
        for name, value in fields.items():
            setattr(self, name, value)


class Function:
    """A C function whose calls are tasks; made by `Library.function`."""

    def __init__(self, description, config, name, cpus):
        self.__name__ = description["name"]
        self.__doc__ = description["documentation"] or description["signature"]
        #: The declaration, in one line.
        self.signature = description["signature"]
        self.task_type = f"ffi/{description['library']}/{description['name']}"
        self.name = name
        self.cpus = cpus
        self.threads = description["threads"]
        self._config = config
        parameters = [_Parameter(fields) for fields in description["inputs"]]
        self._parameters = {parameter.name: parameter for parameter in parameters}
        asked = [p for p in parameters if not p.is_implied]
        #: What positional arguments are: first the parameters without a default value.
        self._order = [p for p in asked if not p.is_optional] + [p for p in asked if p.is_optional]
        self._required = [p.name for p in asked if not p.is_optional]
        #: How many of the first ones are numbers.
        self._number_count = next((i for i, p in enumerate(self._order) if p.form != "scalar"), len(self._order))
        self._outputs = tuple((o["name"], o["content_type"]) for o in description["outputs"])

    def __call__(self, *args, name=None, session=None, **keywords) -> Task:
        """A task that calls the function.

        Arguments are numbers, texts, dicts (of structs), numpy arrays, lists, bytes, data objects and tasks with one
        output. Positional ones are first the parameters without a default value; lengths of input arrays are known.

        Args:
            name: of the task.
        """
        if session is None:
            session = active_session()
        if not keywords and len(self._required) <= len(args) <= self._number_count:
            # The usual call of a function of numbers has plain ones alone.
            texts = [repr(value) for value in args if type(value) is float and isfinite(value) or type(value) is int]
            if len(texts) == len(args):
                task = Task.__new__(Task)
                task._begin(session, self._template(session, ()), (), f"[],[{','.join(texts)}]", name)
                return task
        values = self._bind(args, keywords)
        labels = []
        inputs = []
        given = {}
        for parameter, value in values:
            kind = type(value)
            if kind is Task or kind is DataObject or isinstance(value, (Task, DataObject)):
                value = value if isinstance(value, DataObject) else value.output
            elif kind is float and parameter.form == "scalar":
                given[parameter.name] = value if isfinite(value) else str(value)
                continue
            else:
                value = self._encoded(parameter, value, session)
                if not isinstance(value, DataObject):
                    given[parameter.name] = value
                    continue
            labels.append(parameter.name)
            inputs.append(value)
        ids = ",".join([str(session._own_id(value)) for value in inputs])
        template = self._template(session, tuple(labels))
        task = Task.__new__(Task)
        task._begin(session, template, inputs, f"[{ids}],{self._arguments(given, labels)}", name)
        return task

    def _bind(self, args, keywords) -> list:
        """(parameter, value) of each argument."""
        if len(args) > len(self._order):
            raise TypeError(f"{self.__name__} takes {len(self._order)} arguments but {len(args)} were given")
        values = list(zip(self._order, args))
        names = {parameter.name for parameter, _ in values}
        for key, value in keywords.items():
            parameter = self._parameters.get(key)
            if parameter is None:
                raise TypeError(
                    f"{self.__name__} has no argument {key!r}; it has {', '.join(self._parameters) or 'none'}"
                )
            if key in names:
                raise TypeError(f"{self.__name__} got two values for {key!r}")
            names.add(key)
            values.append((parameter, value))
        if len(args) < len(self._required):
            missing = [key for key in self._required if key not in names]
            if missing:
                raise TypeError(f"{self.__name__} needs {', '.join(map(repr, missing))}")
        return values

    def _arguments(self, given, labels) -> str:
        if not given:
            return "null"
        if any(self._parameters[key].is_implied for key in given):
            return to_json(given)
        # As a list, which is shorter; inputs have no place in it.
        values = [given.get(p.name) for p in self._order if p.name not in labels]
        while values[-1] is None:
            values.pop()
        return to_json(values)

    def _template(self, session, labels) -> Template:
        site, frame = call_site()
        key = (self, site, labels)
        template = session._templates.get(key)
        if template is None:
            template = session._templates[key] = Template(
                self.task_type,
                frames_at(frame),
                name=self.name,
                config=self._config,
                input_labels=labels,
                outputs=self._outputs,
                cpus=self.cpus,
                threads=self.threads if self.threads > 1 else 0,
            )
        return template

    def _encoded(self, parameter, value, session):
        """What stands for a value in the arguments, or a data object with its bytes."""
        form = parameter.form
        if form == "array":
            return self._array(parameter, value, session)
        if form == "string" and isinstance(value, str):
            return value
        if isinstance(value, (bytes, bytearray, memoryview)) and form != "scalar":
            return session._add_constant(bytes(value), parameter.name, None)
        if isinstance(value, (bool, int, float, str)) and form == "scalar":
            return value
        if form == "struct" and isinstance(value, dict):
            return _plain(value)
        if hasattr(value, "item") and getattr(value, "ndim", None) == 0 and form != "string":
            # A scalar of numpy.
            if form == "struct":
                self._check_dtype(parameter, value.dtype)
                return session._add_constant(value.tobytes(), parameter.name, f"array/{parameter.code}[]")
            return self._encoded(parameter, value.item(), session)
        raise TypeError(
            f"{self.__name__}: {parameter.name} is {parameter.c_type}, which can't be made of {value!r:.80}"
        )

    def _array(self, parameter, value, session):
        if isinstance(value, str):
            raise TypeError(
                f"{self.__name__}: {parameter.name} is an array; encode the text, for example with .encode()"
            )
        if isinstance(value, (bytes, bytearray)):
            return session._add_constant(bytes(value), parameter.name, None)
        if isinstance(value, (list, tuple)):
            if len(value) > _LIST_MAX and parameter.code in FORMATS and not isinstance(value[0], (list, tuple)):
                return session._add_constant(self._packed(parameter, value), parameter.name, f"array/{parameter.code}")
            return _plain(value)
        import numpy

        array = numpy.asarray(value)
        if parameter.c_type != "void":
            self._check_dtype(parameter, array.dtype)
        if parameter.dimensions > 1 and array.ndim not in (1, parameter.dimensions):
            raise RainException(
                f"{self.__name__}: {parameter.name} has {parameter.dimensions} dimensions, "
                f"but the array has {array.ndim}"
            )
        code = "u1" if parameter.c_type == "void" else parameter.code
        shape = ",".join(str(length) for length in array.shape) if parameter.dimensions > 1 else str(array.size)
        content_type = f"array/{code}[{shape}]" if parameter.c_type != "void" else None
        return session._add_constant(array.tobytes(), parameter.name, content_type)

    def _check_dtype(self, parameter, dtype):
        from ..common.array_type import dtype_of

        expected = dtype_of(parameter.code)
        are_bytes = parameter.code in _CODES_OF_BYTES and dtype.itemsize == 1 and dtype.kind in "biuS"
        if dtype != expected and not are_bytes:
            raise RainException(
                f"{self.__name__}: {parameter.name} takes {parameter.c_type} ({expected}) but the array is of {dtype}: "
                f"convert it, for example with astype({str(expected)!r})"
            )

    def _packed(self, parameter, values) -> bytes:
        try:
            return struct.pack(f"={len(values)}{FORMATS[parameter.code]}", *values)
        except (struct.error, OverflowError) as error:
            raise TypeError(f"{self.__name__}: {parameter.name} is an array of {parameter.c_type}: {error}") from None

    def __repr__(self):
        return f"<Function {self.task_type}: {self.signature}>"


def _plain(value):
    """A value as JSON has it, with texts for what JSON has no digits for."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value
