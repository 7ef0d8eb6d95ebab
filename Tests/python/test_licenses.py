"""The main example: its numbers against an independent computation, its functions alone, and all of it at work."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import zlib

import licenses_reference as reference
import numpy
import pytest
from rain.client import DataInstance

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "examples" / "licenses" / "licenses.py"
WORDCOUNT = ROOT / "build" / "libexec" / "rain" / "wordcount"
LICENSES = "/usr/share/common-licenses"


@pytest.fixture(scope="module")
def example():
    specification = importlib.util.spec_from_file_location("licenses", PROGRAM)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected():
    return reference.similarity(LICENSES)


class Context:
    def debug(self, *arguments):
        pass


def test_the_matrix_is_that_of_another_computation(example, expected, tmp_path):
    names, matrix = expected
    counts = []
    for name in names:
        lines = "".join(f"{n} {word}\n" for word, n in reference.word_counts(f"{LICENSES}/{name}").items())
        counts.append(DataInstance(lines.encode()))
    found_names, found = example.compare.function(Context(), names, counts)
    assert found_names == names
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            assert found[i][j] == pytest.approx(value, abs=1e-12)
            assert found[i][i] == pytest.approx(1, abs=1e-12)


def test_the_picture_is_a_png(example, expected):
    names, matrix = expected
    picture = example.draw.function(Context(), (names, numpy.array(matrix)))
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")


def test_a_missing_program_is_said():
    command = [sys.executable, PROGRAM, "--wordcount", "/no/such/program"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2 and "wordcount.c" in result.stderr


def test_the_pipeline_gives_the_same_pairs(cluster, client, expected, tmp_path):
    for _ in range(2):  # It can be run again.
        picture = tmp_path / "picture.png"
        result = subprocess.run(
            [sys.executable, PROGRAM, "--port", str(cluster.port), "--wordcount", WORDCOUNT, "--output", picture],
            env=cluster.env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        lines = result.stdout.splitlines()
        count = len(expected[0])
        assert f"{4 * count + 2} of {4 * count + 2} tasks" in lines
        checksums = dict(reversed(line.split()) for line in lines if re.match(r"  [0-9a-f]{8}  \S+$", line))
        assert checksums == {
            name: f"{zlib.crc32(pathlib.Path(LICENSES, name).read_bytes()):08x}" for name in expected[0]
        }
        found = [line.split(None, 1) for line in lines if re.match(r"\s+0\.\d{4}  ", line)]
        assert [(value, names) for value, names in found] == [
            (f"{value:.4f}", f"{first}, {second}") for value, first, second in reference.pairs(*expected)[:3]
        ]
        assert lines[-1] == str(picture) and picture.read_bytes().startswith(b"\x89PNG")
        picture.unlink()
    assert client.status()["sessions"] == [] or all(s["state"] != "open" for s in client.status()["sessions"])
