"""The description at /api/openapi.json, held to the running server by schemathesis."""

import subprocess

from cluster import ROOT


def test_the_server_keeps_to_its_description(cluster, tmp_path):
    result = subprocess.run(
        [
            *(ROOT / ".venv/bin/schemathesis", "run", f"{cluster.url}/api/openapi.json"),
            *("--header", f"Authorization: Bearer {cluster.token}"),
            # A lease is a stream without an end; test_curl.py holds it to its page.
            *("--exclude-path-regex", "lease$"),
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
