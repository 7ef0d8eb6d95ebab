"""Functions of shared libraries as tasks, by declarations alone: real libraries, and one made to fail in every way."""

import importlib.util
import math
import os
import re
import subprocess
import time
import zlib

import numpy
import pytest
from cluster import PYTHON, RAIN, ROOT, Cluster, ndjson, wait_for
from rain.client import Client, Input, RainException, Task, TaskException, blob, cdll, load_declarations, remote, tasks

EXAMPLES = ROOT / "examples/ffi"


@pytest.fixture(scope="session")
def test_library(tmp_path_factory):
    """The library of Tests/FFISubworkerTests."""
    library = tmp_path_factory.mktemp("ffi") / "libtest.so"
    source = ROOT / "Tests/FFISubworkerTests/test_library.c"
    subprocess.run(["cc", "-std=gnu11", "-g", "-fPIC", "-shared", source, "-o", library], check=True)
    return str(library)


@pytest.fixture
def client(shared_cluster, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(shared_cluster.state))
    return Client("127.0.0.1", shared_cluster.port)


@pytest.fixture
def session(client):
    with client.new_session("test") as session:
        yield session


def load(session, *made):
    """The values of tasks with one output, or of data objects."""
    outputs = [item.output if isinstance(item, Task) else item for item in made]
    for output in outputs:
        output.keep()
    session.submit()
    return [instance.load() for instance in session.fetch(outputs)]


def failure_of(client, make):
    with client.new_session("test") as session:
        make()
        session.submit()
        with pytest.raises(TaskException) as caught:
            session.wait_all()
        return caught.value


# Real libraries.


def test_numbers_of_libm(session):
    libm = cdll("libm.so.6")
    cos = libm.function("double cos(double)")
    fma = libm.function("double fma(double x, double y, double z)")
    frexp = libm.function("double frexp(double x, int *exponent)")
    log = libm.function("double log(double x)", errors="errno")
    parts = frexp(48.0)
    infinite = log(math.inf)
    chained = fma(cos(0.5), 2, z=numpy.float64(1))
    values = load(session, cos(0.5), chained, infinite, parts.outputs["return"], parts.outputs["exponent"])
    assert values == [math.cos(0.5), 2 * math.cos(0.5) + 1, math.inf, 0.75, 6]
    assert [type(value) for value in values] == [float, float, float, float, int]


def test_an_error_of_libm_has_its_text(client):
    log = cdll("libm.so.6").function("double log(double x)", errors="errno")
    error = failure_of(client, lambda: log(-1.0))
    assert "libm/log failed: Numerical argument out of domain" in error.message
    assert error.type == "ffi/libm/log" and "test_ffi.py" in str(error)


def test_checksums_and_compression_by_zlib(session):
    libz = load_declarations(EXAMPLES / "zlib.ffi")["libz"]
    data = b"abc" * 100_000 + os.urandom(1000)
    packed = libz.compress2(blob(data), level=9)
    whole = libz.uncompress(len(data), packed.outputs["dest"])
    first, second = libz.crc32(data[:5000]), libz.crc32(data)
    continued = libz.crc32(data[5000:], first)
    sums = load(
        session, first, second, continued, packed.outputs["destLen"], packed.outputs["dest"], whole.outputs["dest"]
    )
    assert sums[:3] == [zlib.crc32(data[:5000]), zlib.crc32(data), zlib.crc32(data)]
    # The output has the length that the library used, not the room that it was given.
    assert sums[3] == len(sums[4]) < 5000 and sums[4].tobytes() == zlib.compress(data, 9)
    assert sums[5].tobytes() == data


def test_an_error_of_zlib_has_its_text(client):
    libz = load_declarations(EXAMPLES / "zlib.ffi")["libz"]
    error = failure_of(client, lambda: libz.uncompress(10, b"this is not compressed"))
    assert error.message == "libz/uncompress failed: data error (it returned -3)"


def test_matrices_of_blas(session):
    blas = load_declarations(EXAMPLES / "blas.ffi")["blas"]
    generator = numpy.random.default_rng(1)
    a, b, x = generator.random((30, 20)), generator.random((20, 50)), generator.random(10_000)
    product = blas.cblas_dgemm(a, b, alpha=2)
    again = blas.cblas_dgemm(product, numpy.eye(50)[:, :3])
    summed = blas.cblas_daxpy(3, x, x[::-1])
    found, columns, dot, norm, sums = load(session, product, again, blas.cblas_ddot(x, x), blas.cblas_dnrm2(x), summed)
    assert found.shape == (30, 50) and numpy.allclose(found, 2 * a @ b)
    assert columns.shape == (30, 3) and numpy.allclose(columns, 2 * (a @ b)[:, :3])
    assert dot == pytest.approx(x @ x) and norm == pytest.approx(numpy.linalg.norm(x))
    assert numpy.allclose(sums, 3 * x + x[::-1])


def test_functions_of_gsl(session):
    gsl = load_declarations(EXAMPLES / "gsl.ffi")["gsl"]
    x = numpy.linspace(0, 1, 100)
    fit = gsl.gsl_fit_linear(x, 2 * x - 1)
    signal = numpy.exp(2j * numpy.pi * numpy.arange(64) * 5 / 64)
    spectrum = gsl.gsl_fft_complex_radix2_forward(signal.view("f8"))
    gamma, line0, line1, ordered, mean, fft = load(
        session,
        gsl.gsl_sf_lngamma_e(10.5),
        fit.outputs["c0"],
        fit.outputs["c1"],
        gsl.gsl_sort([3, 1.5, 2]),
        gsl.gsl_stats_mean(x),
        spectrum,
    )
    assert gamma["val"] == pytest.approx(math.lgamma(10.5)) and 0 < gamma["err"] < 1e-12
    assert (line0, line1) == (pytest.approx(-1), pytest.approx(2))
    assert ordered.tolist() == [1.5, 2, 3] and mean == pytest.approx(0.5)
    assert numpy.allclose(fft.view("c16"), numpy.fft.fft(signal))


def test_an_error_of_gsl_does_not_end_the_process(client):
    gsl = load_declarations(EXAMPLES / "gsl.ffi")["gsl"]
    assert failure_of(client, lambda: gsl.gsl_sf_lngamma_e(-1.0)).message.startswith(
        "gsl/gsl_sf_lngamma_e failed: input domain error"
    )


def test_texts_of_sqlite(session):
    sqlite = load_declarations(EXAMPLES / "sqlite.ffi")["sqlite"]
    text = blob("SELECT 1;")
    values = load(
        session,
        sqlite.sqlite3_complete("SELECT 'ä"),
        sqlite.sqlite3_complete(text),
        sqlite.sqlite3_errstr(5),
        sqlite.sqlite3_strglob("a*c", "abc"),
    )
    assert values == [False, True, "database is locked", 0]


def test_the_example(shared_cluster, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(shared_cluster.state))
    specification = importlib.util.spec_from_file_location("libraries", EXAMPLES / "libraries.py")
    example = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(example)
    example.run(Client("127.0.0.1", shared_cluster.port))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["matrix product: True", "and its row sums: True", "line: 3.00 x + 5.0", "sorted: True"]
    assert lines[5] == "a whole statement: True"


# Data.


def test_large_arrays_go_between_c_and_python(session, test_library):
    scale = cdll(test_library).function("void scale(inout double x[n], size_t n, double factor)")

    @remote()
    def shape(ctx, array: Input(load=True)):
        return ctx.blob(numpy.arange(6.0).reshape(2, 3) + array.sum(), encode="array")

    x = numpy.arange(1_000_000.0)
    doubled = scale(scale(x, 2), factor=0.5)
    shaped = shape(doubled)
    found, from_python, flat = load(session, doubled, shaped, scale(shaped, 10))
    assert numpy.array_equal(found, x)
    assert from_python.shape == (2, 3) and from_python[0, 0] == x.sum()
    assert numpy.array_equal(flat, from_python.ravel() * 10)


def test_structs(session, test_library):
    library = cdll(
        test_library,
        declarations="""
            struct point { double x, y; };
            struct large { char name[5]; struct point corners[2]; int64_t number; float weight; };
            enum colour { RED, GREEN = 5, BLUE };
        """,
    )
    grow = library.function("struct large grow(struct large l, double by)")
    middle = library.function("void middle(const struct point points[n], size_t n, struct point *out)")
    colour = library.function("enum colour next_colour(enum colour c)")
    large = {"name": [72, 0, 0, 0, 0], "corners": [{"x": 1, "y": 2}, {"x": 3, "y": 4}], "number": 7, "weight": 1.5}
    points = numpy.array([(1, 2), (3, 4)], dtype=[("x", "f8"), ("y", "f8")])
    grown = grow(large, 1)
    values = load(session, grown, grow(grown, 1), middle(points), middle([{"x": 0, "y": 1}]), colour("GREEN"))
    large["corners"][1]["x"] = 4
    assert values[0] == {**large, "name": [71, 0, 0, 0, 0], "number": 8, "weight": 3}
    assert values[1]["corners"][1]["x"] == 5 and values[1]["weight"] == 6
    assert values[2:] == [{"x": 2, "y": 3}, {"x": 0, "y": 1}, 6]


def test_what_a_program_makes_is_bytes_for_a_function(session):
    crc32 = load_declarations(EXAMPLES / "zlib.ffi")["libz"].crc32
    assert load(session, crc32(tasks.Execute(["printf", "hello"], stdout=True))) == [zlib.crc32(b"hello")]


@pytest.mark.parametrize(
    "value, part",
    [
        (numpy.arange(3), r"x takes double \(float64\) but the array is of int64: convert it"),
        (numpy.zeros(3, "f4"), "but the array is of float32"),
        (numpy.zeros(3, ">f8"), "but the array is of >f8"),
    ],
)
def test_an_array_of_another_type_is_refused_at_once(session, test_library, value, part):
    dot = cdll(test_library).function("double dot(size_t n, const double x[n], const double y[n])")
    with pytest.raises(RainException, match=part):
        dot(value, value)


@pytest.mark.parametrize(
    "make, part",
    [
        (lambda dot: dot(numpy.zeros(3), numpy.zeros(4)), "'y' has 4 elements, but its length is declared as 3"),
        (lambda dot: dot(blob(b"1234567"), numpy.zeros(4)), "7 bytes, which is no multiple of the 8 of double"),
        (lambda dot: dot(blob([1.0], encode="pickle"), [1.0]), "'x' takes the bytes of double"),
        (lambda dot: dot([1.0], ["a"]), '"a" is a text, not double'),
        (lambda dot: dot([1.0], [2.0], n=5), "'x' has 1 elements, but its length is declared as 5"),
    ],
)
def test_what_does_not_fit_fails_the_task(client, test_library, make, part):
    dot = cdll(test_library).function("double dot(size_t n, const double x[n], const double y[n])")
    assert part in failure_of(client, lambda: make(dot)).message


@pytest.mark.parametrize(
    "count, part",
    [(1 << 62, "more elements of 4 bytes than memory can hold"), (1 << 44, "bytes"), (-1, "it is negative")],
)
def test_an_output_of_a_huge_size_fails_the_task_alone(client, test_library, count, part):
    make = cdll(test_library).function("void range(int first, long count, int out[count])")
    error = failure_of(client, lambda: make(1, count))
    assert part in error.message and error.signal is None


def test_a_wrong_call_is_an_error_at_once(session, test_library):
    dot = cdll(test_library).function("double dot(size_t n, const double x[n], const double y[n])")
    for arguments, keywords, part in (
        (([1.0],), {}, "needs 'y'"),
        (([1.0], [1.0], [1.0]), {}, "takes 2 arguments but 3 were given"),
        (([1.0],), {"z": 3}, "no argument 'z'; it has n, x, y"),
        (([1.0], [1.0]), {"x": [1.0]}, "two values for 'x'"),
        (("text", [1.0]), {}, "x is an array"),
    ):
        with pytest.raises(TypeError, match=part):
            dot(*arguments, **keywords)


def test_a_wrong_declaration_is_shown_with_its_place():
    with pytest.raises(RainException, match=r"declarations:2:12: unknown type 'dubble'") as caught:
        cdll("libm.so.6").function("double cos(dubble x)")
    assert str(caught.value).endswith("    double cos(dubble x);\n               ^")


# Failures.


def test_a_missing_library_and_a_missing_function(client):
    missing = cdll("libdoes-not-exist.so.7").function("int f(void)")
    error = failure_of(client, lambda: missing())
    assert "can't be loaded" in error.message and "libdoes-not-exist.so.7" in error.message
    nothing = cdll("libm.so.6").function("double no_such_function(double x)")
    assert "has no function 'no_such_function'" in failure_of(client, lambda: nothing(1.0)).message


@pytest.mark.parametrize(
    "declaration, arguments, signal, parts",
    [
        ("int crash(int *pointer = NULL)", (), 11, ["SIGSEGV", "calling libtest/crash"]),
        ("int divide(int a, int b)", (1, 0), 8, ["SIGFPE", "calling libtest/divide"]),
        ("void give_up(void)", (), 6, ["SIGABRT", "calling libtest/give_up"]),
        ("int recurse(int n)", (1,), 11, ["SIGSEGV", "calling libtest/recurse"]),
        ("void write_to_input(const double x[n], size_t n)", (numpy.zeros(100_000),), 11, ["libtest/write_to_input"]),
        ("void leave(int code)", (3,), None, ["exited with code 3", "calling libtest/leave", "exit() was called"]),
        ("void leave_at_once(int code)", (4,), None, ["exited with code 4", "ffi/libtest/leave_at_once"]),
    ],
)
def test_a_function_that_ends_its_process_is_named(client, test_library, declaration, arguments, signal, parts):
    library = cdll(test_library)
    function, good = library.function(declaration), library.function("int same_int(int x)")
    with client.new_session("test", on_error="fail_descendants") as session:
        function(*arguments)
        neighbours = [good(i) for i in range(20)]
        for neighbour in neighbours:
            neighbour.output.keep()
        session.submit()
        assert [value.load() for value in session.fetch([n.output for n in neighbours])] == list(range(20))
        with pytest.raises(TaskException) as caught:
            session.wait_all()
    error = caught.value
    assert error.cause == "crash" and error.signal == signal and error.type.startswith("ffi/libtest/")
    for part in parts:
        assert part in str(error), str(error)


def test_a_function_that_never_returns_holds_nothing_but_its_subworker(client, test_library):
    library = cdll(test_library)
    hang, process = library.function("void hang(void)"), library.function("int process(void)")
    with client.new_session("test") as session:
        stuck = hang()
        answers = [process() for _ in range(10)]
        for answer in answers:
            answer.output.keep()
        session.submit()
        pids = {instance.load() for instance in session.fetch([answer.output for answer in answers])}
        start = time.monotonic()
        session.cancel([stuck])
    assert time.monotonic() - start < 2 and pids


def test_the_first_example_of_the_page(shared_cluster, tmp_path):
    page = (ROOT / "docs/ffi.md").read_text()
    script = tmp_path / "example.py"
    script.write_text(
        re.search(r"```python\n(.*?)```", page, re.DOTALL).group(1).replace("7210", str(shared_cluster.port))
    )
    result = subprocess.run([PYTHON, script], env=shared_cluster.env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{math.cos(0.5)} {sum(x * x for x in range(1000)):.1f}\n"


# Calls at once.


@pytest.fixture(scope="module")
def wide(tmp_path_factory, test_library):
    """A worker of four CPUs, with declarations in a file."""
    directory = tmp_path_factory.mktemp("wide")
    own = directory / "own.ffi"
    own.write_text(
        f'library own = "{test_library}" {{ threads = 3; int meet(int count); int process(void) threads = 1; }}'
    )
    running = Cluster(directory)
    running.start("--local-workers", "[4]", "--ffi", own)
    yield running
    running.finish()


@pytest.fixture
def wide_client(wide, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(wide.state))
    return Client("127.0.0.1", wide.port)


def test_calls_of_a_library_with_threads_meet_in_one_process(wide_client, test_library):
    library = cdll(test_library, threads=4)
    meet, process = library.function("int meet(int count)"), library.function("int process(void)")
    with wide_client.new_session("test") as session:
        assert load(session, *[meet(4) for _ in range(4)]) == [4] * 4
        assert len(set(load(session, *[process() for _ in range(40)]))) == 1


def test_calls_of_a_declared_function_of_the_worker_meet(wide_client):
    with wide_client.new_session("test") as session:
        met = [Task("ffi/own/meet", arguments=[3]) for _ in range(3)]
        assert load(session, *met) == [3] * 3
        load(session, Task("ffi/own/process", arguments=[]))


def test_a_crash_spares_the_calls_beside_it(wide_client, test_library, tmp_path):
    library = cdll(test_library, threads=4)
    crash = library.function("int crash_after_meeting(int count, const char *mark)")
    stay = library.function("int stay_once(int count, const char *mark)")
    mark = str(tmp_path / "crashed")
    with wide_client.new_session("test", on_error="fail_descendants") as session:
        crash(4, mark)
        beside = [stay(4, mark) for _ in range(3)]
        # They begin again in another process, and nobody is charged.
        assert load(session, *beside) == [2] * 3
        with pytest.raises(TaskException) as caught:
            session.wait_all()
    error = caught.value
    assert error.cause == "crash" and error.signal == 11 and error.type == "ffi/libtest/crash_after_meeting"
    assert "ffi: crashed while calling libtest/crash_after_meeting: SIGSEGV" in str(error)
    assert "stay_once" not in str(error)


def test_threads_must_be_declared_too(wide):
    session = wide.session()
    declarations = 'library m = "libm.so.6" { double cos(double x) threads = 2; double sin(double x); }'
    templates = [
        {
            "type": f"ffi/m/{name}",
            "config": {"declarations": declarations},
            "outputs": [{"label": "y", "keep": True}],
            "threads": 2,
        }
        for name in ("cos", "sin")
    ]
    body = ndjson(
        {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
        *[{"template": template} for template in templates],
        [0, [], [0]],
    )
    wide.post(f"{session}/submit", body)
    content = wide.curl(f"{wide.url}{session}/objects/0/content")
    assert numpy.frombuffer(content, "f8").tolist() == [1.0]
    wide.post(f"{session}/submit", ndjson([1, [], [0]]))
    text = wide.curl(f"{wide.url}{session}/objects/1/content").decode()
    assert "m/sin: its task wants to run with others in a process" in text and "threads = n" in text


@pytest.mark.parametrize("threads", [0, -1, 65, 10**9, 1.5, True, "4", None])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads):
    with pytest.raises(RainException, match="a number from 1 to 64, not"):
        cdll("libm.so.6", threads=threads)


def test_threads_of_one_function():
    library = cdll("libm.so.6", threads=8)
    assert library.function("double cos(double x)").threads == 8
    assert library.function("double sin(double x)", threads=2).threads == 2
    assert library.function("double tan(double x) threads = 1").threads == 1
    with pytest.raises(RainException, match="a number from 1 to 64, not 'many'"):
        library.function("double tan(double x)", threads="many")


# From other clients, and from files.


def test_a_task_by_rest_brings_its_declaration(shared_cluster):
    session = shared_cluster.session()
    declarations = 'library libm = "libm.so.6" { double fma(double x, double y, double z); }'
    template = {
        "type": "ffi/libm/fma",
        "config": {"declarations": declarations},
        "outputs": [{"label": "sum", "keep": True}],
    }
    body = ndjson(
        {"submit": {"first_template": 0, "first_task": 0, "first_object": 0}},
        {"template": template},
        [0, [], [2, 3, 4]],
        [0, [], {"z": 1, "y": 2, "x": 0.5}],
    )
    shared_cluster.post(f"{session}/submit", body)
    for number, expected in ((0, 10.0), (1, 2.0)):
        content = shared_cluster.curl(f"{shared_cluster.url}{session}/objects/{number}/content")
        assert numpy.frombuffer(content, "f8").tolist() == [expected]


def test_a_worker_is_given_declarations_in_files(tmp_path, test_library, monkeypatch):
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries/libtest.so").symlink_to(test_library)
    own = tmp_path / "own.ffi"
    own.write_text('library own = "./libraries/libtest.so" { int same_int(int x); }')
    running = Cluster(tmp_path)
    running.start("--local-workers", "[1]", "--ffi", EXAMPLES / "zlib.ffi", "--ffi", own)
    try:
        monkeypatch.setenv("XDG_STATE_HOME", str(running.state))
        with Client("127.0.0.1", running.port).new_session("test", on_error="fail_descendants") as session:
            data = blob(b"hello")
            made = [Task("ffi/libz/crc32", [data]), Task("ffi/own/same_int", arguments={"x": 7})]
            assert load(session, *made) == [zlib.crc32(b"hello"), 7]
            Task("ffi/libz/inflate", [data])
            session.submit()
            with pytest.raises(TaskException, match="no function 'libz/inflate' is declared"):
                session.wait_all()
    finally:
        running.finish()


@pytest.mark.filterwarnings("ignore:.*unfinished")
def test_tasks_of_a_library_go_to_the_workers_that_have_it(tmp_path, test_library, monkeypatch):
    """Two workers with other files each, and declarations that travel with a session, which need none."""
    own = tmp_path / "own.ffi"
    own.write_text(f'library own = "{test_library}" {{ int same_int(int x); }}')
    running = Cluster(tmp_path)
    running.start("--local-workers", "[1]", "--ffi", EXAMPLES / "zlib.ffi")
    place = [
        f"127.0.0.1:{running.control_port}",
        "--cpus",
        "1",
        "--work-dir",
        tmp_path / "w",
        "--log-dir",
        tmp_path / "l",
    ]
    ready = tmp_path / "ready"
    command = [RAIN, "worker", *place, "--ffi", own, "--ready-file", ready]
    second = subprocess.Popen([*map(str, command)], env=running.env)
    try:
        wait_for(ready.exists)
        monkeypatch.setenv("XDG_STATE_HOME", str(running.state))
        with Client("127.0.0.1", running.port).new_session("test") as session:
            made = [Task("ffi/libz/crc32", [blob(b"hello")]) for _ in range(50)]
            made += [Task("ffi/own/same_int", arguments={"x": x}) for x in range(50)]
            cos = cdll("libm.so.6").function("double cos(double)")
            made += [cos(0.0) for _ in range(50)]
            assert load(session, *made) == [zlib.crc32(b"hello")] * 50 + list(range(50)) + [1.0] * 50
            Task("ffi/absent/f")
            session.submit()
            hint = "no connected worker has declarations of library 'absent'"
            wait_for(lambda: hint in running.rain("status").stdout, seconds=10)
            status = running.rain("status").stdout
            assert "offers ffi, ffi/libz" in status and "offers ffi, ffi/own" in status
    finally:
        second.terminate()
        second.wait(10)
        running.finish()


def test_a_library_beside_its_declarations_is_found(session, tmp_path, test_library):
    (tmp_path / "libraries").mkdir()
    (tmp_path / "libraries/libtest.so").symlink_to(test_library)
    own = tmp_path / "own.ffi"
    own.write_text('library own = "./libraries/libtest.so" { int same_int(int x); }')
    assert load(session, load_declarations(own)["own"].same_int(7)) == [7]


def test_a_worker_with_a_wrong_declarations_file_does_not_start(stopped, tmp_path):
    wrong = tmp_path / "wrong.ffi"
    wrong.write_text('library m = "libm.so.6" {\n    double cos(dubble x);\n}\n')
    result = stopped.rain("start", "--simple", "--port", 0, "--control-port", 0, "--ffi", wrong)
    assert result.returncode != 0
    assert f"{wrong}:2:16: unknown type 'dubble'" in result.stderr
    result = stopped.rain("worker", "127.0.0.1", "--ffi", tmp_path / "absent.ffi")
    assert result.returncode == 1
    assert "absent.ffi: No such file or directory" in result.stderr


def test_check_says_what_is_there(stopped, tmp_path):
    result = stopped.rain("ffi", "check", *sorted(EXAMPLES.glob("*.ffi")))
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert "ok       ffi/libm/fma(x: double, y: double, z: double) -> (return: double)" in lines
    assert "ok       ffi/libz/crc32(data: void[], crc: unsigned long = 0) -> (return: unsigned long)" in lines
    declarations = tmp_path / "some.ffi"
    declarations.write_text(
        'library m = "libm.so.6" { double cos(double x); double kos(double x); }\n'
        'library n = "libnothing.so" { int f(void); }\n'
    )
    result = stopped.rain("ffi", "check", declarations)
    assert result.returncode == 1
    assert "ok       ffi/m/cos(x: double) -> (return: double)" in result.stdout
    assert "missing  ffi/m/kos: m (libm.so.6) has no function 'kos'" in result.stdout
    assert "missing  ffi/n/f: the library n can't be loaded: libnothing.so" in result.stdout
    declarations.write_text(
        'library m = "libm.so.6" { threads = 8; double cos(double x); double sin(double x) threads = 1; }'
    )
    lines = stopped.rain("ffi", "check", declarations).stdout.splitlines()
    assert lines[0].endswith("(return: double), threads = 8") and lines[1].endswith("(return: double)")
    declarations.write_text('library m = "libm.so.6" { threads = 1e9; }')
    result = stopped.rain("ffi", "check", declarations)
    assert (
        result.returncode == 1
        and ":1:37: threads is how many calls may run at once in a process, 1 to 64" in result.stderr
    )
    declarations.write_text('library m = "libm.so.6" { double cos(dubble x); }')
    result = stopped.rain("ffi", "check", declarations, tmp_path / "absent.ffi")
    assert result.returncode == 1
    assert f"{declarations}:1:38: unknown type 'dubble'" in result.stderr
    assert "absent.ffi: No such file or directory" in result.stderr
