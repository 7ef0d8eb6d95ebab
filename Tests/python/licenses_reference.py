"""The numbers of examples/licenses, computed another way: coreutils and plain Python, without numpy."""

import math
import pathlib
import subprocess

PIPELINE = r"LC_ALL=C tr -cs 'A-Za-z' '\n' | LC_ALL=C tr 'A-Z' 'a-z' | LC_ALL=C sort | LC_ALL=C uniq -c"


def word_counts(path) -> dict:
    """How often each word occurs in a file."""
    with open(path, "rb") as file:
        lines = subprocess.run(["sh", "-c", PIPELINE], stdin=file, capture_output=True, check=True, text=True).stdout
    pairs = (line.split() for line in lines.splitlines())
    return {pair[1]: int(pair[0]) for pair in pairs if len(pair) == 2}


def similarity(directory) -> tuple:
    """(names, matrix as lists of lists): cosines of the angles between word counts."""
    paths = sorted(path for path in pathlib.Path(directory).iterdir() if path.is_file() and not path.is_symlink())
    counts = [word_counts(path) for path in paths]
    lengths = [math.sqrt(math.fsum(n * n for n in c.values())) for c in counts]

    def cosine(i, j):
        return math.fsum(n * counts[j].get(word, 0) for word, n in counts[i].items()) / (lengths[i] * lengths[j])

    return [path.name for path in paths], [[cosine(i, j) for j in range(len(paths))] for i in range(len(paths))]


def pairs(names, matrix) -> list:
    """All pairs of texts as (similarity, name, name), the most similar first."""
    found = [(matrix[i][j], names[i], names[j]) for i in range(len(names)) for j in range(i)]
    return sorted(found, reverse=True)
