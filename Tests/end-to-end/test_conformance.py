"""`rain subworker check`: what speaks the subworker protocol passes it, and what doesn't is found."""

import json
import os
import pathlib
import pickle
import signal
import subprocess
import zlib

import pytest
from cluster import PYTHON, RAIN, ROOT

HERE = ROOT / "Tests/end-to-end/subjects"

TREE = {"directory": {"below/text": "rain\n"}}
#: A call with a directory as its input and as its output, for subjects whose `tree` copies one.
COPY = {"method": "tree", "inputs": [TREE], "outputs": [{"directory": "copy"}], "expect": [TREE]}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compiles one of the subjects; where the program is."""
    directory = tmp_path_factory.mktemp("subjects")

    def compiled(source):
        program = directory / source.replace(".", "-")
        if not program.exists():
            compiler = ["c++", "-std=c++17"] if source.endswith("pp") else ["cc", "-std=gnu11"]
            include = f"-I{ROOT / 'build/include'}"
            library = ROOT / "build/lib/libcsubworker.a"
            subprocess.run([*compiler, "-O1", include, HERE / source, library, "-pthread", "-o", program], check=True)
        return program

    return compiled


def check(*command, name="subject", timeout=10, **calls):
    """Runs the check; its exit status and what it printed."""
    options = [f"--{option}={json.dumps(call)}" for option, call in calls.items()]
    arguments = [RAIN, "subworker", "check", "--name", name, "--timeout", str(timeout), *options, *map(str, command)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.stderr == ""
    *lines, last = result.stdout.splitlines()
    passed = sum(line.startswith("ok ") for line in lines)
    assert last.startswith(f"{passed} passed, "), result.stdout
    return result.returncode, result.stdout


def assert_passes(output, skipped=0):
    status, text = output
    assert status == 0, text
    assert text.rstrip().endswith(f" 0 failed, {skipped} not tried"), text


def test_a_subworker_in_c_passes(compiled):
    join = {
        "method": "join",
        "inputs": ["ab", {"text": "c", "times": 3}, {"hex": "6465"}],
        "outputs": 1,
        "expect": ["abcccde"],
    }
    others = {"error": {"method": "fail"}, "endless": {"method": "endless"}, "directory": COPY}
    assert_passes(check(compiled("subject.c"), call=join, **others))
    large = {"method": "large", "inputs": [""], "outputs": ["x"], "expect": [{"text": "x", "times": 1 << 20}]}
    assert_passes(check(compiled("subject.c"), call=large, **others))
    steps = {"method": "steps", "outputs": 1, "expect": ["walked"]}
    assert_passes(check(compiled("subject.c"), call=steps, **others), skipped=5)
    # Calls with directories do for the rest as well.
    assert_passes(check(compiled("subject.c"), call=COPY, error={"method": "fail"}), skipped=7)


def test_a_subworker_in_cpp_passes(compiled):
    files = {"directory": {"text": "rain", "other": ""}}
    copy = {"method": "tree", "inputs": [files], "outputs": [{"directory": "copy"}], "expect": [files]}
    others = {"error": {"method": "fail"}, "endless": {"method": "endless"}, "directory": copy}
    two = {"hex": "000000000000f03f0000000000000040"}
    dot = {"method": "dot", "inputs": [two, two], "outputs": 1, "expect": ["5.0"]}
    assert_passes(check(compiled("subject.cpp"), call=dot, **others))
    large = {"method": "large", "inputs": ["abc"], "outputs": 1, "expect": [{"text": "a", "times": 1 << 20}]}
    assert_passes(check(compiled("subject.cpp"), call=large, **others))


def test_the_python_subworker_passes(tmp_path):
    import cloudpickle

    def shout(ctx, text):
        ctx.progress(0.5, "half")
        return text.get_str().upper() + "!"

    def fail(ctx):
        raise ValueError("no")

    def shout_all(ctx, texts):
        return ctx.directory({path.name: path.read_text().upper() for path in pathlib.Path(texts.path).iterdir()})

    for function in (shout, fail, shout_all):
        function.__module__ = "__main__"
        (tmp_path / function.__name__).write_bytes(cloudpickle.dumps(function, protocol=pickle.HIGHEST_PROTOCOL))
    call = {
        "method": "call",
        "constants": [{"file": str(tmp_path / "shout")}],
        "inputs": ["rain"],
        "outputs": 1,
        "expect": ["RAIN!"],
    }
    error = {"method": "call", "constants": [{"file": str(tmp_path / "fail")}], "outputs": 1}
    directory = {
        "method": "call",
        "constants": [{"file": str(tmp_path / "shout_all")}],
        "inputs": [{"directory": {"text": "rain"}}],
        "outputs": [{"directory": "loud"}],
        "expect": [{"directory": {"text": "RAIN"}}],
    }
    output = check(PYTHON, "-m", "rain.subworker", name="py", call=call, error=error, directory=directory)
    assert_passes(output, skipped=1)
    assert "stops a call that is cancelled: needs --endless" in output[1]


def test_what_is_wrong_is_found(compiled):
    """Each of these must fail, and say why."""
    for command, options, reason in [
        (["sh", "-c", "exit 3"], {}, "it closed its socket instead of sending register and ended with exit code 3"),
        (["sh", "-c", "echo oh no >&2; kill -SEGV $$"], {}, "SIGSEGV"),
        (["sh", "-c", "exec sleep 60"], {"timeout": 0.3}, "no register came within"),
        (["sh", "-c", "echo garbage >&3"], {"timeout": 0.3}, "FAIL  registers"),
        (
            [compiled("subject.c")],
            {"call": {"method": "join", "inputs": ["a"], "outputs": 1, "expect": ["b"]}},
            'is "a" and not "b"',
        ),
        ([compiled("subject.c")], {"call": {"method": "count", "outputs": 1}}, 'is "2" and not "1" as before'),
        (
            [compiled("subject.c")],
            {"call": {"method": "fail", "outputs": 1}},
            "fail gave an error: there are 2 reasons",
        ),
        ([compiled("subject.c")], {"call": {"method": "crash", "outputs": 1}}, "signal 6 (SIGABRT)"),
        (
            [compiled("subject.c")],
            {"call": {"method": "trust", "inputs": ["a"], "outputs": 1}},
            "FAIL  survives an input that is a directory",
        ),
        (
            [compiled("subject.c")],
            {"directory": COPY | {"method": "unclosed"}},
            "below/text' in it is still open for writing",
        ),
        (
            [compiled("subject.c")],
            {"directory": COPY | {"method": "again"}},
            "FAIL  gives an output that is a directory: again gave an error",
        ),
        (
            [compiled("subject.c")],
            {"directory": COPY | {"expect": [{"directory": {"below/text": "rain\n", "more": ""}}]}},
            'is a directory with below/text: "rain\\n" and not a directory with below/text: "rain\\n", more: ""',
        ),
        (
            [compiled("subject.c")],
            {"directory": {"method": "join", "inputs": [TREE], "outputs": 1}},
            "FAIL  reads an input that is a directory: join gave an error",
        ),
        ([compiled("subject.c")], {"error": {"method": "join", "outputs": 1}}, "join did not fail"),
        ([compiled("subject.c")], {"endless": {"method": "join", "outputs": 1}}, "join ended, but not as `cancelled`"),
    ]:
        status, text = check(*command, **options)
        assert status == 1 and reason in text, (reason, text)
    # A call that does not as it should says nothing about what else is tried with it.
    wrong = {"method": "join", "inputs": ["a"], "outputs": 1, "expect": ["b"]}
    text = check(compiled("subject.c"), call=wrong)[1]
    assert text.count("FAIL") == 1 and "the call failed, see above" in text
    # The tail of its log tells what happened.
    assert "oh no" in check("sh", "-c", "echo oh no >&2; exit 1")[1]


@pytest.mark.parametrize(
    "call, reason",
    [
        ("{", "this is not JSON"),
        ("[]", "a call is an object with a `method`"),
        ("{}", "a call needs a `method`"),
        ('{"method": "a", "input": []}', "`input` is nothing that a call has"),
        ('{"method": "a", "inputs": [1]}', "a value in `inputs` is a text"),
        ('{"method": "a", "inputs": [{"hex": "abc"}]}', "no even number"),
        ('{"method": "a", "inputs": [{"text": "x", "times": 999999999}]}', "makes more than 256 MiB"),
        ('{"method": "a", "inputs": [{"file": "/does/not/exist"}]}', "/does/not/exist"),
        ('{"method": "a", "outputs": 2, "expect": ["x"]}', "a value for each of the 2"),
        ('{"method": "a", "varies": 1}', "`varies` is true or false"),
        ('{"method": "a", "outputs": [1]}', "one of `outputs` is a text"),
        ('{"method": "a", "inputs": [{"directory": []}]}', "has names and what is in them"),
        ('{"method": "a", "inputs": [{"directory": {"../a": ""}}]}', '"../a" in `inputs` is no path'),
        ('{"method": "a", "inputs": [{"directory": {"a": "", "a/b": ""}}]}', "a file where another needs a directory"),
        ('{"method": "a", "outputs": 1, "expect": [{"directory": {}}]}', "whether output 0 is a directory"),
    ],
)
def test_a_wrong_call_is_explained(call, reason):
    result = subprocess.run([RAIN, "subworker", "check", "--call", call, "true"], capture_output=True, text=True)
    assert result.returncode == 1 and reason in result.stderr, result


def test_a_directory_call_without_a_directory_is_explained():
    arguments = [RAIN, "subworker", "check", "--directory", '{"method": "a"}', "true"]
    result = subprocess.run(arguments, capture_output=True, text=True)
    assert result.returncode == 1 and "no input or output is a directory" in result.stderr, result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_leaves_nothing_behind(tmp_path, number):
    """It waits for a program that says nothing; neither that nor the directory made for it stays."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    script = f"sleep 1000 & echo $$ $! > {ready}; wait"
    place = tmp_path / "place"
    place.mkdir()
    process = subprocess.Popen(
        [RAIN, "subworker", "check", "sh", "-c", script],
        env=os.environ | {"TMPDIR": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pids = ready.read_text().split()
    assert len(pids) == 2 and len(list(place.iterdir())) == 1
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert process.returncode == 128 + number and "interrupted" in error, (output, error)
    assert output == "" and not list(place.iterdir())
    for pid in pids:
        assert not pathlib.Path(f"/proc/{pid}").exists()


def test_help_is_not_taken_for_a_program():
    result = subprocess.run([RAIN, "subworker", "check", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "--endless" in result.stdout


def test_a_program_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    status, text = check("/does/not/exist")
    assert status == 1 and "it can't be started" in text
    assert not list(tmp_path.iterdir())


def test_what_a_program_leaves_running_is_ended(tmp_path):
    script = f"exec 3>&-; sleep 1000 & echo $! > {tmp_path}/a; setsid sleep 1001 & echo $! > {tmp_path}/b"
    assert check("sh", "-c", script)[0] == 1
    for name in "ab":
        pid = int((tmp_path / name).read_text())
        assert not pathlib.Path(f"/proc/{pid}").exists()


def test_an_output_that_claims_to_be_huge_is_refused(compiled):
    status, text = check(compiled("subject.c"), call={"method": "sparse", "outputs": 1})
    assert status == 1 and "4398046511104 bytes" in text


PERL = ["perl", HERE / "subject.pl"]


def test_a_subworker_in_perl_after_the_document_passes():
    """It has no library of ours, nor any other: docs/protocol.md is enough to write one."""
    others = {"error": {"method": "fail"}, "endless": {"method": "endless"}, "directory": COPY}
    join = {"method": "join", "inputs": ["ab", {"text": "c", "times": 70_000}], "outputs": 1}
    status, text = check(*PERL, call=join, **others)
    assert status == 0, text
    large = {"method": "large", "inputs": ["x"], "outputs": ["x"], "expect": [{"text": "x", "times": 1 << 20}]}
    status, text = check(*PERL, call=large, **others)
    for title in ("asks for memory beyond its credit", "makes its files where", "gives an output that is a directory"):
        assert f"ok    {title}" in text, text
    assert status == 0, text
    steps = {"method": "steps", "outputs": 1, "expect": ["walked"]}
    status, text = check(*PERL, call=steps)
    assert status == 0, text


@pytest.mark.parametrize(
    "fault, title, reason",
    [
        ("far", "understands messages of several segments", "it can't read far pointers"),
        ("double far", "understands messages of several segments", "it can't read far pointers"),
        ("input", "reads an input that is a directory", "it changed a directory that it was given to read"),
        ("kind", "gives an output that is a directory", "its value does not say `isDirectory`"),
        ("inline", "gives outputs as files where they are too large", "inline; the welcome allows 1"),
        ("granted", "makes its files where it was granted memory", "made no file there"),
        ("progress", "tells progress only where it is taken", "whose welcome does not have `takesProgress`"),
    ],
)
def test_what_a_subworker_does_wrong_is_named(fault, title, reason):
    methods = {
        "progress": {"method": "steps", "outputs": 1},
        "granted": {"method": "large", "inputs": ["x"], "outputs": 1},
    }
    call = methods.get(fault, {"method": "join", "inputs": ["rain"], "outputs": 1})
    status, text = check("env", f"SUBJECT_FAULT={fault}", *PERL, call=call, directory=COPY)
    assert status == 1 and any(title in line for line in text.splitlines() if line.startswith("FAIL")), text
    assert reason in text, text


@pytest.mark.parametrize("options", [(), ("--threads", 4)])
def test_the_ffi_subworker_passes(options):
    program = pathlib.Path(RAIN).resolve().parents[1] / "libexec/rain/ffi"
    text = (
        'library libz = "libz.so.1" { threads = 4; '
        "unsigned long crc32(unsigned long crc = 0, const void data[n], unsigned int n); }"
    )
    crc = {
        "method": "libz/crc32",
        "config": {"declarations": text},
        "inputs": ["rain"],
        "outputs": 1,
        "expect": [{"hex": zlib.crc32(b"rain").to_bytes(8, "little").hex()}],
    }
    error = {"method": "libz/crc32", "config": {"declarations": text}, "outputs": 1}
    status, text = check(program, *options, name="ffi", call=crc, error=error)
    assert status == 0, text


def test_a_subworker_in_swift_passes():
    program = ROOT / ".build/debug/example-swift"
    if not program.exists():
        pytest.skip("examples/swift is not built: swift build")
    lines = {
        "method": "lines",
        "inputs": [{"directory": {"text": "a\nb\n"}}],
        "outputs": [{"directory": "lines"}],
        "expect": [{"directory": {"0": "a\n", "1": "b\n"}}],
    }
    others = {"error": {"method": "fail"}, "endless": {"method": "wait"}, "directory": lines}
    count = {"method": "count", "inputs": ["a b\nc"], "outputs": ["count"], "expect": ["3"]}
    # Its output has one byte, and is no file.
    assert_passes(check(program, call=count, **others), skipped=3)
    invert = {
        "method": "invert",
        "inputs": [{"text": "x", "times": 300_000}],
        "outputs": ["inverted"],
        "expect": [{"hex": "87", "times": 300_000}],
    }
    status, text = check(program, call=invert, **others)
    assert status == 0 and "ok    asks for memory beyond its credit" in text, text
