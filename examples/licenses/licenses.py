#!/usr/bin/env python3
"""How alike are the licences of Debian? A pipeline of built-in, shell, C and Python tasks.

Each text of /usr/share/common-licenses is loaded, turned into a sorted word list by a shell, and counted in C; zlib,
which knows nothing of Rain, makes its checksum.
One Python task takes all counts and compares every text with every other, another draws the result.
"""

import argparse
import os
import sys
from pathlib import Path

from rain.client import Client, Input, Output, Program, RainException, Task, cdll, remote, tasks

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# One word per line, in small letters, sorted. The text comes by standard input, straight from the loaded object.
words_of = Program(
    "LC_ALL=C tr -cs 'A-Za-z' '\\n' | LC_ALL=C tr 'A-Z' 'a-z' | LC_ALL=C sort",
    stdin=Input("text"),
    stdout=Output("words", content_type="text"),
    shell=True,
    name="words",
)

# A function of a library that is on every machine: its declaration makes it a task. n is the length of the data.
crc32 = cdll("libz.so.1").function("unsigned long crc32(unsigned long crc = 0, const void data[n], unsigned int n)")


@remote(outputs=[Output("similarity", encode="pickle")])
def compare(ctx, names, counts):
    """The cosine of the angle between the word counts of every two texts.

    Returns:
        (names, matrix): `matrix[i, j]` is 1 for texts with the same words, equally often, and 0 for none in common.
    """
    import numpy

    words = {}
    columns = []
    for text in counts:
        column = {}
        for line in text.get_str().splitlines():
            count, word = line.split(" ", 1)
            if word:  # A text that begins with a blank begins with an empty word.
                column[words.setdefault(word, len(words))] = int(count)
        columns.append(column)
    vectors = numpy.zeros((len(columns), len(words)))
    for row, column in zip(vectors, columns):
        row[list(column.keys())] = list(column.values())
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    ctx.debug("{} texts, {} different words", *vectors.shape)
    return names, vectors @ vectors.T


@remote(outputs=[Output("picture", content_type="mime/image/png")])
def draw(ctx, similarity: Input(load=True)):
    """A heat map of the matrix, as PNG."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names, matrix = similarity
    figure, axes = pyplot.subplots(figsize=(9, 8), layout="constrained")
    middle = (matrix.min() + 1) / 2
    image = axes.imshow(matrix, vmin=matrix.min(), vmax=1, cmap="viridis")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color="black" if value > middle else "white"
            )
    axes.set_title("Cosine similarity of word counts")
    figure.colorbar(image, shrink=0.8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def most_similar(names, matrix, count):
    """The pairs with the largest similarity, as (similarity, name, name)."""
    pairs = [(matrix[i][j], names[i], names[j]) for i in range(len(names)) for j in range(i)]
    return sorted(pairs, reverse=True)[:count]


def show_progress(finished, submitted):
    end = "\r" if sys.stdout.isatty() and finished < submitted else "\n"
    print(f"{finished} of {submitted} tasks", end=end, flush=True)


def run(client, directory, wordcount, output):
    files = sorted(path for path in Path(directory).iterdir() if path.is_file() and not path.is_symlink())
    if not files:
        raise SystemExit(f"{directory} has no regular files")
    with client.new_session("licenses", subworkers={"wordcount": wordcount}) as session:
        counts, checksums = [], []
        for path in files:
            text = tasks.Load(path)
            words = words_of(text=text)
            counts.append(Task("wordcount/count", [words], "counts"))
            checksums.append(crc32(text))
            checksums[-1].output.keep()
        similarity = compare([path.name for path in files], counts)
        picture = draw(similarity)
        similarity.output.keep()
        picture.output.keep()
        session.submit()
        session.wait_all(progress=show_progress)

        print("Checksums:")
        for path, checksum in zip(files, session.fetch(checksums)):
            print(f"  {checksum.load():08x}  {path.name}")
        names, matrix = similarity.output.fetch().load()
        print("Most similar:")
        for value, first, second in most_similar(names, matrix, 3):
            print(f"  {value:.4f}  {first}, {second}")
        picture.output.fetch().write(output)
    print(os.path.abspath(output))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="localhost", help="of the server (localhost)")
    parser.add_argument("--port", type=int, default=7210, help="of the server (7210)")
    parser.add_argument("--directory", default="/usr/share/common-licenses", help="where the texts are")
    parser.add_argument("--output", default="licenses.png", help="the picture (licenses.png)")
    parser.add_argument(
        "--wordcount",
        default=str(ROOT / "build" / "libexec" / "rain" / "wordcount"),
        metavar="PATH",
        help="the program with the C task, built from wordcount.c",
    )
    options = parser.parse_args()
    if not os.access(options.wordcount, os.X_OK):
        parser.error(
            f"no program at {options.wordcount}: build examples/licenses/wordcount.c and give --wordcount PATH"
        )
    try:
        client = Client(options.address, options.port)
        run(client, options.directory, os.path.abspath(options.wordcount), options.output)
    except RainException as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
