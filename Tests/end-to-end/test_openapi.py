"""The description at /api/openapi.json, held to the running server by schemathesis."""

import subprocess

from cluster import ROOT

# No schema says that a blob's name is the hash of its bytes, so well-formed ones are refused nearly always.
CONFIG = """
[[operations]]
include-operation-id = "putBlob"
checks.positive_data_acceptance.enabled = false
"""


def test_the_server_keeps_to_its_description(cluster, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    result = subprocess.run(
        [
            *(ROOT / ".venv/bin/schemathesis", "run", f"{cluster.url}/api/openapi.json"),
            *("--header", f"Authorization: Bearer {cluster.token}"),
            # A lease is a stream without an end, and no schema says what lines of JSON a submit takes: test_curl.py
            # holds both to their page.
            *("--exclude-operation-id", "lease", "--exclude-operation-id", "submit"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
            *("--request-timeout", "20", "--suppress-health-check", "all", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-2000:]
    # It lives, too.
    assert cluster.get("/api/v1/status")["workers"]
