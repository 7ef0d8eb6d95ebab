"""Every measured case runs: with a hundredth of its work, so what it measures says nothing."""

import json
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = str(ROOT / ".venv/bin/python")


def run(*command, **options):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200, **options)


def test_every_case_runs(tmp_path):
    built = run(ROOT / "bench/programs", tmp_path)
    assert built.returncode == 0, built.stderr
    cases = run(PYTHON, ROOT / "bench/cases.py", "--list").stdout.split()
    assert {"noop-c", "single-c", "handed-c-py", "subworker-start"} <= set(cases)
    environment = dict(os.environ, RAIN_BENCH_PROGRAMS=str(tmp_path))
    result = run(PYTHON, ROOT / "bench/cases.py", "--quick", "--repeat", 1, env=environment)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0, [line["notes"] for line in lines if not line["runs"]]
    assert list(dict.fromkeys(line["case"] for line in lines)) == cases
    assert all(line["seconds"] > 0 for line in lines)
    handed = [line for line in lines if line["case"].startswith("handed-")]
    sizes = [1 << 10, 1 << 16, 1 << 20, 1 << 24]
    both = [(size, way) for size in sizes for way in ("copied", "in place")]
    assert [(line["bytes"], line["result"]) for line in handed] == [(size, "in place") for size in sizes] * 2 + both * 2
    for line in handed:
        assert 0 < line["first_byte_us"] <= line["last_page_us"] <= line["all_bytes_us"], line
        assert line["memcpy_gb_per_s"] > 0
    starts = [line["language"] for line in lines if line["case"] == "subworker-start"]
    assert starts == ["c", "py", "ffi"]


def test_the_scaffold_is_compared_with_a_bare_loop():
    result = run(ROOT / "bench/scaffold", 50, 8)
    added = re.search(r"^one CPU +(\d+) +(\d+) +(-?\d+)", result.stdout, re.MULTILINE)
    assert added, result.stdout + result.stderr
    assert result.returncode == (0 if int(added.group(3)) <= 300 else 1)
