"""Every snippet of docs/python.md, run as it stands there, with what the page takes for granted before and after it."""

import re
import subprocess

import pytest
from cluster import PYTHON, ROOT

SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)

WORDS = r"""
#include <csubworker.h>
static csw_status count(csw_call *call, void *context) {
    (void)context;
    return csw_output_printf(call, 0, "%llu bytes", (unsigned long long)csw_input_size(call, 0));
}
int main(void) {
    csw_subworker *words;
    csw_open(NULL, &words);
    csw_task(words, &(csw_task_type){CSW_TASK, .name = "count", .function = count});
    return csw_run(words);
}
"""

#: What stands before and after a snippet that goes on with a session, and what it prints; by what is in the snippet.
AROUND = {
    "first steps": ("", "", "HELLO\nWORLD\n\n"),
    "session.subworker": (
        'text = blob("some words")',
        "task.output.keep(); session.submit(); print(task.output.fetch().get_str())",
        "10 bytes\n",
    ),
    "Program(": (
        r'some_object = blob("a licence\nb\nthe licence\n")',
        "task.output.keep(); session.submit(); print(task.output.fetch().get_str(), end='')",
        "2\n",
    ),
    "def statistics": (
        "",
        "task = statistics(blob([1, 2, 6], encode='json')); task.keep_outputs(); session.submit()\n"
        "print([output.load() if i else output.get_str() for i, output in enumerate(task.fetch_outputs())])\n"
        "task.update(); print(task.info.debug, task.info.user)",
        "['3.0 m', [1, 2, 6]]\n3 numbers {'count': 3}\n",
    ),
    "def steps": (
        "",
        "import numpy\n"
        "task = steps(blob(numpy.array([0.0, 1, 5, 3]), encode='array'), 1); task.output.keep(); session.submit()\n"
        "print(task.output.fetch().load().tolist())",
        "[0.0, 2.5, 2.0, 3.0]\n",
    ),
}


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: next((key for key in AROUND if key in text), "unknown"))
def test_a_snippet_runs(shared_cluster, tmp_path, snippet):
    before, after, output = next(value for key, value in AROUND.items() if key in snippet)
    (tmp_path / "words.c").write_text(WORDS)
    if "./words" in snippet:
        library = ["build/lib/libcsubworker.a", "-pthread"]
        subprocess.run(
            ["cc", "-Ibuild/include", tmp_path / "words.c", *library, "-o", tmp_path / "words"], cwd=ROOT, check=True
        )
    if "Client(" not in snippet:
        session = 'Client("localhost", 7210).new_session("snippet", default=True)'
        snippet = f"from rain.client import *\nsession = {session}\n{before}\n{snippet}\n{after}\nsession.close()\n"
    (tmp_path / "snippet.py").write_text(snippet.replace("7210", str(shared_cluster.port)))
    result = subprocess.run(
        [PYTHON, "snippet.py"], cwd=tmp_path, env=shared_cluster.env, capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout) == (0, output), result.stderr
