"""The Python subworker, driven by a host that speaks its protocol with the `capnp` tool."""

import fcntl
import json
import os
import pickle
import re
import socket

import cloudpickle
import numpy
import pytest
from rain.common import decode_value, encode_value
from rain.common.placeholder import take_input
from subworker_host import Host, cached, file, inline, pickled_arguments

FUNCTION = 100


def plain(message):
    """A message without escapes of quotes."""
    return message.replace("\\'", "'").replace('\\"', '"')


def value_of(message):
    """The bytes of the only inline output in a result."""
    values = values_of(message)
    assert len(values) == 1, message
    return values[0]


def values_of(message):
    found = re.findall(r'inline = ("(?:[^"\\]|\\.)*"|0x"[^"]*")', message)
    return [bytes.fromhex(v[3:-1]) if v.startswith("0x") else unquote(v) for v in found]


def unquote(text):
    octal = re.compile(r"\\x([0-9a-f]{2})|\\([0-7]{3})|\\(.)", re.S)
    names = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}

    def character(match):
        if match.group(1):
            return chr(int(match.group(1), 16))
        if match.group(2):
            return chr(int(match.group(2), 8))
        return names.get(match.group(3), match.group(3))

    return octal.sub(character, text[1:-1]).encode("latin-1")


class Task:
    """One template of the host with a function."""

    def __init__(self, host, function, number=1, **template):
        self.host = host
        self.data = cloudpickle.dumps(function)
        self.number = number
        host.template(number, **template)

    def __call__(self, *inputs, arguments="null"):
        self.host.call(self.number, [inline(FUNCTION + self.number, self.data), *inputs], arguments)
        return self.host.receive()


def test_it_registers_with_one_task_and_its_version(host):
    assert 'name = "call"' in host.registration and "rain.subworker 0.1.0" in host.registration
    assert "caching = true" in host.registration
    assert host.end() == 0
    assert not list(host.staging.iterdir())


@pytest.mark.parametrize("asks", [True, False], ids=["shutdown", "end of stream"])
def test_a_worker_that_goes_before_its_welcome_leaves_nothing(tmp_path, monkeypatch, asks):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    host = Host(tmp_path)
    try:
        host.receive()
        if asks:
            host.send("(shutdown = void)")
        host.socket.shutdown(socket.SHUT_WR)
        assert host.process.wait(20) == 0, host.log.read_text()
        assert (host.log.read_text(), os.listdir()) == ("", [])
    finally:
        host.kill()


def test_inputs_are_arguments(host):
    def join(ctx, a, b):
        return a.get_bytes() + b.get_str().encode()

    message = Task(host, join)(inline(1, b"hello "), inline(2, b"world", "text"))
    assert value_of(message) == b"hello world"


def test_pickled_arguments_refer_to_inputs(host):
    class Reference:
        def __init__(self, *reference):
            self.reference = reference

        def __reduce__(self):
            return take_input, self.reference

    def f(ctx, items, *rest, last):
        return b"|".join([items[0].get_bytes(), rest[0].encode(), last["x"].encode(), str(items[1]).encode()])

    arguments = pickled_arguments([Reference(1), Reference(2, True, "json")], "middle", last={"x": Reference(0, True)})
    message = Task(host, f)(inline(1, b"last", "text"), inline(2, b"first"), inline(3, b"[1]"), arguments=arguments)
    assert value_of(message) == b"first|middle|last|[1]"


def test_large_arguments_come_as_an_input(host):
    def f(ctx, a, b):
        return f"{a.sum()} {b}"

    array = numpy.ones(100_000)
    data = encode_value(((array, "b"), None), "pickle")
    path = host.staging.parent / "arguments"
    path.write_bytes(data)
    assert value_of(Task(host, f)(file(1, path, "pickle5"), arguments="0")) == b"100000.0 b"


def test_the_function_is_one_object_when_it_is_kept(host):
    def count(ctx):
        count.calls = getattr(count, "calls", 0) + 1
        return str(count.calls)

    data = cloudpickle.dumps(count)
    host.template(1)
    host.template(2)
    host.call(1, [inline(5, data, keep=True)])
    assert value_of(host.receive()) == b"1"
    host.call(2, [cached(5, len(data))])
    assert value_of(host.receive()) == b"2"
    host.call(1, [cached(5, len(data))])
    assert value_of(host.receive()) == b"3"


def test_loading_and_content_types(host):
    def f(ctx, a, b, *rest):
        return json.dumps([a, b.get_str(), rest])

    config = json.dumps({"parameters": [[True, "json"], [False, None]], "rest": [True, None]})
    message = Task(host, f, config=config)(inline(1, b"[1]"), inline(2, b"b"), inline(3, b"t", "text"))
    assert json.loads(value_of(message)) == [[1], "b", ["t"]]


def test_encoding_of_results(host):
    task = Task(host, lambda ctx: {"a": 1}, config='{"encode":["json"]}')
    message = task()
    assert value_of(message) == b'{"a": 1}' and 'contentType = "json"' in message


def test_results_by_position_and_label(host):
    by_position = Task(host, lambda ctx: ("a", b"b"), 1, outputs=("x", "y"))()
    assert values_of(by_position) == [b"a", b"b"] and by_position.count('contentType = "text"') == 1
    by_label = Task(host, lambda ctx: {"y": "b", "x": "a"}, 2, outputs=("x", "y"))()
    assert values_of(by_label) == [b"a", b"b"]
    assert values_of(Task(host, lambda ctx: None, 3, outputs=())()) == []


@pytest.mark.parametrize(
    ("result", "outputs", "text"),
    [
        (5, ("x",), "type int"),
        (None, ("x",), "None"),
        (("a",), ("x", "y"), "returned 1 values"),
        ("a", ("x", "y"), "2 outputs"),
        ({"x": "a", "z": "b"}, ("x", "y"), "but this one has"),
        ({"a": 1, "b": 2}, ("x",), "auto_encode="),
        ((1, 2), ("x",), "auto_encode="),
        ("a", (), "no outputs"),
    ],
)
def test_a_wrong_result_fails_the_task(host, result, outputs, text):
    message = Task(host, lambda ctx: result, outputs=outputs)()
    assert "error = (" in message and text in message


def test_a_result_that_can_not_be_encoded_is_named(host):
    message = Task(host, lambda ctx: {1, 2}, config='{"encode":["json"]}')()
    assert "output \\'out0\\', a value of type set, can\\'t be encoded as \\'json\\'" in message


def test_a_result_must_fit_the_declared_type(host):
    message = Task(host, lambda ctx: "text", content_types=["json"])()
    assert "do not fit" in message


def test_an_exception_has_its_last_line_traceback_and_debug_lines(host):
    def outer(ctx):
        def inner(number):
            return 1 / number

        ctx.debug("before {} {x}", 1, x=2)
        ctx.debug("with {braces}")
        return inner(0)

    message = Task(host, outer)()
    assert 'message = "ZeroDivisionError: division by zero"' in message
    assert "in outer" in message and "in inner" in message and "runner.py" not in message
    assert r'debug = "before 1 2\nwith {braces}\n"' in message
    assert value_of(Task(host, lambda ctx: "alive", 2)()) == b"alive"


def test_progress_is_told_where_it_is_taken(tmp_path, host):
    def f(ctx):
        ctx.progress(0.25, "reading")
        ctx.progress(0.25, "reading")
        ctx.progress(2)
        return "done"

    assert value_of(Task(host, f)()) == b"done"
    (tmp_path / "other").mkdir()
    taking = Host(tmp_path / "other")
    try:
        taking.welcome(takes_progress=True)
        first = Task(taking, f)()
        assert first.count("slot") == 1 and '(slot = 0, millionths = 250000, text = "reading")' in first
        assert "millionths = 1000000" in taking.receive()
        assert value_of(taking.receive()) == b"done"
        for wrong in (
            lambda ctx: ctx.progress("half"),
            lambda ctx: ctx.progress(0.5, 5),
            lambda ctx: ctx.progress(0.5, "a\0b"),
        ):
            assert "error = (" in Task(taking, wrong, 2)()
    finally:
        taking.kill()


def test_sys_exit_does_not_end_the_process(host):
    import sys

    assert "SystemExit: 3" in Task(host, lambda ctx: sys.exit(3))()
    assert value_of(Task(host, lambda ctx: "alive", 2)()) == b"alive"


def test_a_function_that_can_not_be_loaded_fails_its_task(host):
    host.template(1)
    host.call(1, [inline(1, b"no pickle")])
    assert "error = (" in host.receive()
    host.call(1, [inline(2, b"cno_such_module\nfunction\n.")])
    assert "no_such_module" in host.receive()


def test_attributes_in_and_out(host):
    def f(ctx, a):
        ctx.info.user["sum"] = ctx.spec.user["n"] + a.info.user["m"]
        ctx.attributes["name"] = ctx.spec.name
        value = ctx.blob("x")
        value.attributes = {"of": "output"}
        return value

    message = Task(host, f, attributes='{"n": 1}', name="mine")(inline(1, b"", attributes='{"m": 2}'))
    assert r"{\"sum\": 3, \"name\": \"mine\"}" in message and r"{\"of\": \"output\"}" in message


def test_an_input_is_passed_through_without_a_copy(host):
    def f(ctx, a, b):
        b.info.user["seen"] = True
        return b

    message = Task(host, f)(inline(1, b"a"), inline(2, b"b"))
    assert "sameAsInput = 2" in message and "seen" in message


def test_values_of_the_context(host):
    def f(ctx):
        return [ctx.blob("text"), ctx.blob(b"x", content_type="user/x"), ctx.pickled([1]), ctx.blob([2], encode="json")]

    message = Task(host, f, outputs=("a", "b", "c", "d"))()
    text, mine, pickled, json_value = values_of(message)
    assert (text, mine, decode_value(pickled, "pickle"), json_value) == (b"text", b"x", [1], b"[2]")
    for kind in ("text", "user/x", "pickle", "json"):
        assert f'contentType = "{kind}"' in message


def test_large_values_are_files_and_arrays_are_mapped(host, tmp_path):
    array = numpy.arange(200_000, dtype=numpy.int64)
    path = tmp_path / "array"
    path.write_bytes(encode_value(array, "pickle"))
    path.chmod(0o444)
    kept = []

    def double(ctx, a):
        value = a.load()
        kept.append(value)
        value *= 2  # In pages of its own.
        assert a.load()[1] == 1
        return value

    task = Task(host, double, config='{"encode":["pickle"]}')
    for _ in range(2):
        message = task(file(1, path, "pickle5"))
        assert 'contentType = "pickle5"' in message
        result = re.search(r'path = "([^"]*)"', message).group(1)
        assert result.startswith(str(host.staging))
        value = decode_value(open(result, "rb").read(), "pickle5")
        assert (value == array * 2).all()
    assert decode_value(path.read_bytes(), "pickle5")[1] == 1


def test_views_outlive_their_call(host, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"x" * 1_000_000)
    views = []

    def keep(ctx, a):
        views.append(a.get_buffer())
        return str(sum(bytes(view[-1:])[0] for view in views))

    data = cloudpickle.dumps(keep)
    host.template(1)
    host.call(1, [inline(5, data, keep=True), file(1, path)])
    assert value_of(host.receive()) == b"120"
    path.unlink()
    path.write_bytes(b"y" * 1_000_000)
    host.call(1, [cached(5, len(data)), file(2, path)])
    assert value_of(host.receive()) == b"241"


def test_the_work_directory_is_empty_at_the_start_of_a_call(host):
    def f(ctx):
        found = os.listdir(".")
        with open("file", "w") as out:
            out.write("x")
        os.makedirs("a/b")
        os.chdir("/")
        return json.dumps(found)

    task = Task(host, f)
    for _ in range(20):  # Faster than the clock by which the kernel dates changes.
        assert value_of(task()) == b"[]"
    assert host.end() == 0
    assert not list(host.staging.iterdir())


def test_a_task_may_remove_its_work_directory(host):
    import shutil

    first = Task(host, lambda ctx: shutil.rmtree(os.getcwd()) or "gone")
    assert value_of(first()) == b"gone"
    assert value_of(Task(host, lambda ctx: json.dumps(os.listdir(".")), 2)()) == b"[]"
    assert host.end() == 0


def test_what_a_task_prints_is_in_the_log_at_once(host):
    assert value_of(Task(host, lambda ctx: print("printed") or "x")()) == b"x"
    assert "printed" in host.log.read_text()


def test_a_crash_ends_the_process_with_evidence_in_the_log(host):
    import faulthandler

    host.template(1)
    host.call(1, [inline(1, cloudpickle.dumps(lambda ctx: faulthandler._sigsegv()))])
    assert host.process.wait(20) == -11
    assert "Segmentation fault" in host.log.read_text()


def test_without_a_worker_it_says_so(tmp_path):
    import subprocess
    import sys

    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAIN_")}
    command = [sys.executable, "-m", "rain.subworker"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment)
    assert result.returncode == 1 and "rain.subworker: " in result.stderr and "Traceback" not in result.stderr


def test_a_refusal_is_said(tmp_path):
    host = Host(tmp_path)
    host.receive()
    host.send('(refused = "the version is wrong")')
    assert host.process.wait(20) == 1
    assert "the version is wrong" in host.log.read_text()
    host.kill()


def test_the_end_of_the_worker_is_its_end(host):
    host.socket.close()
    assert host.process.wait(20) == 0
    assert not list(host.staging.iterdir())


# --- Results in place ------------------------------------------------------------------------------------------------


def output_of(host, message):
    """The bytes of the only output, a file that is removed as by a worker; its content type."""
    path = re.search(r'path = "([^"]*)"', message)
    assert path is not None and message.count("path = ") == 1, message
    data = open(path.group(1), "rb").read()
    assert [str(file) for file in files_of(host)] == [path.group(1)]
    os.unlink(path.group(1))
    content_type = re.search(r'contentType = "([^"]*)"', message)
    return data, content_type and content_type.group(1)


def files_of(host):
    return [path for path in host.staging.iterdir() if path.is_file()]


def written(host):
    with open(f"/proc/{host.process.pid}/io") as file:
        return int(re.search(r"wchar: (\d+)", file.read()).group(1))


RESULTS_IN_PLACE = {
    "whole": (lambda ctx, a: a, slice(None)),
    "beginning": (lambda ctx, a: a[:50_001], slice(50_001)),
    "bytes": (lambda ctx, a: a.data.cast("B")[: 8 * 70_000], slice(70_000)),
    "shape": (lambda ctx, a: a.reshape(100, 1000), slice(None)),
    "blob": (lambda ctx, a: ctx.blob(a, encode="array"), slice(None)),
    "attributes": (lambda ctx, a: ctx.blob(memoryview(a), content_type="array/i8"), slice(None)),
}


@pytest.mark.parametrize("name", RESULTS_IN_PLACE)
def test_a_result_in_place_is_not_copied(host, name):
    give, expected = RESULTS_IN_PLACE[name]

    def f(ctx):
        array = ctx.empty(100_000, "i8")
        assert not array.any()
        array[:] = range(100_000)
        return give(ctx, array)

    task = Task(host, f)
    for _ in range(2):
        before = written(host)
        data, content_type = output_of(host, task())
        assert written(host) - before < 4096
        assert (numpy.frombuffer(data, "i8") == numpy.arange(100_000)[expected]).all()
        assert content_type == {"bytes": None, "attributes": "array/i8", "shape": "array/i8[100,1000]"}.get(
            name, f"array/i8[{len(data) // 8}]"
        )
    assert host.end() == 0 and not list(host.staging.iterdir())


RESULTS_COPIED = {
    "not the beginning": lambda ctx, a: a[1:],
    "transposed": lambda ctx, a: a.reshape(100, 1000).T,
    "every second": lambda ctx, a: a[::2],
    "backwards": lambda ctx, a: a[::-1].data,
    "of another task": lambda ctx, a: a + 0,
    "Fortran": lambda ctx, a: numpy.asfortranarray(a.reshape(100, 1000)).data,
    "pickled": lambda ctx, a: ctx.pickled({"a": a, "b": 1}),
}


@pytest.mark.parametrize("name", RESULTS_COPIED)
def test_another_part_of_memory_is_copied(host, name):
    give = RESULTS_COPIED[name]

    def f(ctx):
        array = ctx.empty(100_000, "i8")
        array[:] = range(100_000)
        return give(ctx, array)

    data, content_type = output_of(host, Task(host, f)())
    whole = numpy.arange(100_000)
    expected = give(type("Context", (), {"pickled": staticmethod(lambda value: value)}), whole)
    if name == "pickled":
        value = decode_value(data, content_type)
        assert value["b"] == 1 and (value["a"] == whole).all()
    elif content_type is None:
        assert data == expected.tobytes()
    else:
        assert (decode_value(data, content_type) == expected).all()
    assert host.end() == 0 and not list(host.staging.iterdir())


def test_what_is_kept_never_reaches_the_result(host):
    kept = []

    def f(ctx, way):
        array = ctx.empty(100_000, "i8")
        array[:] = 7
        kept.append((array, 7))
        unused = ctx.empty(50_000, "i8")
        unused[:] = 8
        kept.append((unused, 8))
        if way.get_str() == "fails":
            raise ValueError("after all")
        return array if way.get_str() == "whole" else array[:30_001]

    def after(ctx):
        wrong = sum(int((array != value).sum()) for array, value in kept)
        for array, _ in kept:
            array[:] = 9
        wrong += sum(int((array != 9).sum()) for array, _ in kept)
        return f"{len(kept)} {wrong}"

    class Both:
        def __call__(self, ctx, *inputs):
            return f(ctx, *inputs) if inputs else after(ctx)

    task = Task(host, Both())
    kept_data = inline(99, task.data, keep=True)
    paths = []
    for number, way in enumerate([b"whole", b"part", b"fails"]):
        host.call(1, [kept_data if number == 0 else cached(99, len(task.data)), inline(1, way)])
        message = host.receive()
        if way == b"fails":
            assert "ValueError: after all" in message
        else:
            paths.append(re.search(r'path = "([^"]*)"', message).group(1))
    host.call(1, [cached(99, len(task.data))])
    assert value_of(host.receive()) == b"6 0"
    for path, size in zip(paths, [100_000, 30_001]):
        data = numpy.fromfile(path, "i8")
        assert len(data) == size and (data == 7).all()
    assert sorted(map(str, files_of(host))) == sorted(paths)
    # The object is nobody's to write to any more: what the worker asks before it takes it.
    for path in paths:
        with open(path, "rb") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    # Kept memory is this process's own: it maps no file of the worker's but those two.
    maps = open(f"/proc/{host.process.pid}/maps").read()
    assert {line.split()[-1] for line in maps.splitlines() if str(host.staging) in line} <= set(paths)
    assert all("rw-p" in line for line in maps.splitlines() if str(host.staging) in line)


def test_results_in_place_of_several_outputs(host):
    def f(ctx):
        a, b, c = (ctx.empty(20_000, "i8") for _ in range(3))
        for _ in range(50):  # What nobody has any more is given back.
            c = ctx.empty(20_000, "i8")
        a[:], b[:], c[:] = 1, 2, 3
        assert len([file for file in os.listdir("..") if not file.startswith("work-")]) == 4  # The last `c`s.
        return b, a, b, numpy.full(20_000, 5)

    message = Task(host, f, outputs=("a", "b", "c", "d"))()
    paths = re.findall(r'path = "([^"]*)"', message)
    assert [numpy.fromfile(path, "i8").tolist() for path in paths] == [[value] * 20_000 for value in (2, 1, 2, 5)]
    assert sorted(map(str, files_of(host))) == sorted(paths)


def test_a_buffer_grows_as_it_is_written(host):
    def f(ctx, how):
        buffer = ctx.buffer()
        if how.get_str() == "pickle":
            import pickle

            pickle.dump(list(range(100_000)), buffer)
        elif how.get_str() == "steps":
            for number in range(2000):
                assert buffer.write(b"%199d\n" % number) == 200
        elif how.get_str() == "resize":
            buffer.resize(10)
            with memoryview(buffer) as view:
                view[:] = b"0123456789"
                try:
                    buffer.resize(20)
                except BufferError as error:
                    assert "can't be resized" in str(error)
                else:
                    raise AssertionError
            for size in (200_000, 12, 400_000, 150_000):
                buffer.resize(size)
            assert len(buffer) == 150_000 and bytes(buffer) == b"0123456789" + bytes(149_990)
        else:
            buffer.write(b"small")
        return buffer

    task = Task(host, f)
    ways = {
        "pickle": pickle.dumps(list(range(100_000))),
        "steps": b"".join(b"%199d\n" % number for number in range(2000)),
        "resize": b"0123456789" + bytes(149_990),
    }
    for way, expected in ways.items():
        assert output_of(host, task(inline(1, way.encode())))[0] == expected
    assert value_of(task(inline(1, b"small"))) == b"small"


def test_an_array_that_a_child_can_still_write_to_is_copied(host):
    def f(ctx):
        array = ctx.empty(100_000, "i8")
        ready = os.pipe()
        if os.fork() == 0:
            import ctypes

            ctypes.CDLL(None).prctl(1, 9)  # It ends with its parent.
            array[:] = 7
            os.write(ready[1], b"x")
            import time

            while True:
                time.sleep(60)
        os.read(ready[0], 1)
        return array

    data, _ = output_of(host, Task(host, f)())
    assert (numpy.frombuffer(data, "i8") == 7).all()


def test_small_and_empty_arrays(host):
    def f(ctx, what):
        array = ctx.empty(*json.loads(what.get_str()))
        array[...] = 1
        return array

    task = Task(host, f)
    cases = {'[3, "i4"]': "array/i4[3]", "[[0, 5]]": "array/f8[0,5]", '[[], "u1"]': "array/u1[]", "[0]": "array/f8[0]"}
    for what, content_type in cases.items():
        message = task(inline(1, what.encode()))
        assert f'contentType = "{content_type}"' in message
        value = decode_value(
            b"".join(values_of(message)), content_type
        )  # Nothing at all for an array without elements.
        assert numpy.array_equal(value, numpy.ones(*json.loads(what)))
    for what, error in {"[-1]": "negative dimensions", '[3, "O"]': "Python objects", '["x"]': "integer"}.items():
        assert error in task(inline(1, what.encode()))


@pytest.fixture
def asked(tmp_path):
    """A worker that answers late when it is asked for room: (host, a pipe for the task)."""
    host = Host(tmp_path)
    host.welcome(credit_bytes=1)
    os.mkfifo(tmp_path / "asked")
    yield host, str(tmp_path / "asked")
    host.kill()


def test_two_threads_write_to_a_buffer(asked):
    host, path = asked

    def f(ctx):
        import threading

        buffer = ctx.buffer()
        buffer.write(b"-" * 10)
        other = threading.Thread(target=buffer.write, args=(b"a" * 100_000,))
        other.start()
        open(path).read()
        try:
            memoryview(buffer)
        except BufferError as error:
            assert "being resized" in str(error)
        else:
            raise AssertionError("a view of memory that goes away")
        open(path, "w").close()
        buffer.write(b"b" * 100_000)  # It waits for the other one.
        other.join()
        return buffer

    host.template(1)
    host.call(1, [inline(1, cloudpickle.dumps(f))])
    assert "reserve = (slot = 0, id = 1, " in host.receive()
    open(path, "w").close()
    open(path).read()
    host.wait_until_it_waits()
    host.grant(1)
    message = host.receive()
    while "reserve = " in message:
        host.grant(1)
        message = host.receive()
    assert output_of(host, message)[0] == b"-" * 10 + b"a" * 100_000 + b"b" * 100_000


def test_a_process_that_is_forked_while_a_thread_waits_for_room(asked):
    host, path = asked

    def f(ctx):
        import ctypes
        import threading

        other = threading.Thread(target=ctx.buffer, args=(100_000,))
        other.start()
        open(path).read()
        read, write = os.pipe()
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(1, 9)  # It ends with its parent.
            try:
                ctx.debug("of the child")
            except RuntimeError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.close(write)
        text = os.read(read, 200)
        os.waitpid(-1, 0)
        open(path, "w").close()
        other.join()
        return text

    host.template(1)
    host.call(1, [inline(1, cloudpickle.dumps(f))])
    assert "reserve = (slot = 0, id = 1, " in host.receive()
    open(path, "w").close()
    open(path).read()
    host.grant(1)
    message = host.receive()
    while "reserve = " in message:
        message = host.receive()
    assert b"another thread of the task was asking for memory" in value_of(message)


def test_a_thread_that_asks_for_room_in_the_midst_of_another(asked):
    host, path = asked

    def f(ctx):
        import gc
        import threading

        made = []

        class Garbage:
            def __init__(self):
                self.itself = self

            def __del__(self):
                other.start()
                open(path).read()
                open(path, "w").close()

        other = threading.Thread(target=lambda: made.append(ctx.buffer(100_000)))
        gc.disable()
        Garbage()
        lists = [[] for _ in range(1000)]  # So that the next one is memory for which the collector looks around.
        gc.set_threshold(1)
        gc.enable()
        mine = ctx.buffer(200_000)
        gc.set_threshold(700)
        other.join()
        mine.write(b"x")
        return f"{len(lists)} {len(made[0])} {len(mine)}"

    host.template(1)
    host.call(1, [inline(1, cloudpickle.dumps(f))])
    assert "reserve = (slot = 0, id = 1, " in host.receive()
    open(path, "w").close()
    open(path).read()
    host.wait_until_it_waits()
    host.grant(1)
    for expected in (2, 2):
        assert f"reserve = (slot = 0, id = {expected}, " in host.receive()
        host.grant(expected)
    message = host.receive()
    while "reserve = " in message:
        message = host.receive()
    assert value_of(message) == b"1000 100000 200001"


def test_what_a_forked_process_drops_stays_with_the_task(host):
    def f(ctx):
        array = ctx.empty(100_000, "u1")
        pid = os.fork()
        if pid == 0:
            del array
            ctx.buffer(10)
            os._exit(0)
        os.waitpid(pid, 0)
        array[:] = 7
        return array

    assert output_of(host, Task(host, f)())[0] == bytes([7]) * 100_000


def test_memory_whose_call_is_over(host):
    class Keeps:
        kept = None

        def __call__(self, ctx):
            if self.kept is None:
                self.kept = ctx, ctx.buffer(10), ctx.buffer(100_000)
                return b"first"
            errors = []
            for use in (
                lambda: self.kept[0].empty(10),
                lambda: self.kept[0].debug("x"),
                lambda: self.kept[1].resize(5),
                lambda: self.kept[2].write(b"x"),
            ):
                try:
                    use()
                except RuntimeError as error:
                    errors.append(str(error))
            return "\n".join(errors)

    data = cloudpickle.dumps(Keeps())
    host.template(1)
    host.call(1, [inline(5, data, keep=True)])
    assert value_of(host.receive()) == b"first"
    host.call(1, [cached(5, len(data))])
    context = b"the call of this context is over"
    assert value_of(host.receive()).split(b"\n") == [context] * 2 + [b"the call of this buffer is over"] * 2
    assert not files_of(host)


# --- What functions do that they had better not ----------------------------------------------------------------------


@pytest.mark.parametrize("end", ["return", "exit", "raise", "large"])
def test_a_forked_process_that_comes_back_ends(host, end):
    def f(ctx):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                ctx.buffer(10**6)
            except RuntimeError as error:
                os.write(write, str(error).encode())
            if end == "exit":
                raise SystemExit(3)
            if end == "raise":
                raise ValueError("of the child")
            return b"child" * (100_000 if end == "large" else 1)
        os.close(write)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return f"{code} {os.read(read, 100).decode()}"

    task = Task(host, f)
    code = {"exit": 3, "raise": 1}.get(end, 0)
    for _ in range(3):
        expected = f"{code} only the process of the task has memory for results, not one that it forked"
        assert value_of(task()) == expected.encode()
    assert ("ValueError: of the child" in host.log.read_text()) == (end == "raise")
    assert host.end() == 0 and not list(host.staging.iterdir())


def test_what_a_task_does_to_its_streams_ends_with_it(host):
    import io
    import sys

    def close(ctx):
        sys.stdout.close()
        sys.stderr.close()
        return b"closed"

    def replace(ctx):
        sys.stdout = io.StringIO()
        sys.stderr = None
        print("into nothing")
        return b"replaced"

    def use(ctx):
        print("by stdout \udc80", flush=True)
        print("by stderr", file=sys.stderr)
        return b"used"

    uses = Task(host, use)
    for number, function in enumerate([close, replace], 2):
        assert value_of(Task(host, function, number)()) in (b"closed", b"replaced")
        assert value_of(uses()) == b"used"
    assert host.log.read_text() == "by stdout \\udc80\nby stderr\n" * 2


def test_texts_that_are_no_utf_8(host):
    def f(ctx, how):
        text = "a\udc80b"
        how = how.get_str()
        if how == "debug":
            ctx.debug(text)
            ctx.progress(0.5, text + "\0")
            ctx.progress(float("nan"), None)
            return b"told"
        ctx.attributes = {"name": text}
        return text

    task = Task(host, f)
    message = task(inline(1, b"debug"))
    assert value_of(message) == b"told" and 'debug = "a\\\\udc80b' in message
    message = plain(task(inline(1, b"text")))
    assert "output 'out0', a value of type str, can't be encoded as 'text': 'utf-8' codec" in message


ATTRIBUTES = {"set": {1}, "not a number": float("nan"), "cycle": []}
ATTRIBUTES["cycle"].append(ATTRIBUTES["cycle"])


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_that_are_no_json_are_named(host, name):
    def f(ctx, on_output):
        if on_output.get_bytes():
            result = ctx.blob(b"x")
            result.attributes = {"value": ATTRIBUTES[name]}
            return result
        ctx.attributes["value"] = ATTRIBUTES[name]
        return b"x"

    task = Task(host, f)
    for on_output, whose in ((b"", "the task"), (b"x", "output 'out0'")):
        assert f"the attributes of {whose} can't be written as JSON: " in plain(task(inline(1, on_output)))


def test_a_module_that_a_task_changed(host):
    def change(ctx):
        json.dumps = json.loads = None
        return b"changed"

    def after(ctx):
        ctx.attributes["a"] = 1
        return b"after"

    assert value_of(Task(host, change)()) == b"changed"
    assert value_of(Task(host, after, 2, config='{"encode":[null]}')()) == b"after"


ODD_ARRAYS = {
    "number": (lambda: numpy.float32(0.5), "array/f4[]"),
    "no dimension": (lambda: numpy.array(7), "array/i8[]"),
    "nothing": (lambda: numpy.empty((0, 3)), "array/f8[0,3]"),
    "Fortran": (lambda: numpy.asfortranarray(numpy.arange(6).reshape(2, 3)), "array/i8[2,3]"),
    "backwards": (lambda: numpy.arange(5)[::-1], "array/i8[5]"),
    "broadcast": (lambda: numpy.broadcast_to(numpy.arange(3), (2, 3)), "array/i8[2,3]"),
    "struct": (lambda: numpy.ones(2, [("a", "i4"), ("b", "f8", (2,))]), "array/{a:i4@0,b:f8[2]@4}20[2]"),
    "objects": (lambda: numpy.array([1, None]), "output 'out0': an array of object has no form in C: convert it"),
    "masked": (lambda: numpy.ma.array([1], mask=[1]), "output 'out0' can't be a value of type MaskedArray"),
    "text": (lambda: numpy.array(["a"]), "output 'out0': an array of <U1 has no form in C"),
    "released": (lambda: (view := memoryview(b"x"), view.release())[0], "operation forbidden on released memoryview"),
}


@pytest.mark.parametrize("name", ODD_ARRAYS)
def test_odd_arrays(host, name):
    make, expected = ODD_ARRAYS[name]
    message = Task(host, lambda ctx: make())()
    if expected.startswith("array/"):
        assert f'contentType = "{expected}"' in message
        value = decode_value(b"".join(values_of(message)), expected)
        assert numpy.array_equal(value, make())
    else:
        assert expected in plain(message)


def test_nothing_is_no_result_but_may_be_declared(host):
    assert "output 'out0' can't be None" in (message := plain(Task(host, lambda ctx: None)()))
    assert "or that there is nothing to return, by @remote(outputs=0)" in message


def test_processes_fill_an_array_together(host):
    def f(ctx):
        import multiprocessing

        array = ctx.empty((4, 50_000), "i8")

        def fill(row):
            array[row] = row

        kind = multiprocessing.get_context("fork").Process
        processes = [kind(target=fill, args=(row,)) for row in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        return array

    data, content_type = output_of(host, Task(host, f)())
    assert (decode_value(data, content_type) == numpy.arange(4)[:, None]).all()
