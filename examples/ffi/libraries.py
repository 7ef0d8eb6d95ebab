#!/usr/bin/env python3
"""Functions of BLAS, GSL, zlib and SQLite as tasks, with nothing but declarations.

The declarations are in the .ffi files beside this program; `rain ffi check blas.ffi` says whether a machine has them.
"""

import argparse
import sys
from pathlib import Path

import numpy
from rain.client import Client, RainException, load_declarations

HERE = Path(__file__).resolve().parent


def libraries(*names):
    """Those of the files with these names, by library."""
    return {name: library for file in names for name, library in load_declarations(HERE / f"{file}.ffi").items()}


def run(client):
    known = libraries("blas", "gsl", "zlib", "sqlite")
    blas, gsl, libz, sqlite = (known[name] for name in ("blas", "gsl", "libz", "sqlite"))
    generator = numpy.random.default_rng(7)
    x = numpy.arange(1000.0)
    y = 3 * x + 5 + generator.normal(0, 0.1, x.size)
    a, b = generator.random((300, 200)), generator.random((200, 100))
    with client.new_session("libraries") as session:
        product = blas.cblas_dgemm(a, b)
        # What a function makes is given to the next one as it lies in memory.
        again = blas.cblas_dgemm(product, numpy.ones((100, 1)))
        fit = gsl.gsl_fit_linear(x, y)
        ordered = gsl.gsl_sort(y[::-1])
        packed = libz.compress2(product, level=9)
        whole = sqlite.sqlite3_complete("SELECT 1;")
        session.keep_all()
        session.submit()

        print("matrix product:", numpy.allclose(product.output.fetch().load(), a @ b))
        print("and its row sums:", numpy.allclose(again.output.fetch().load()[:, 0], (a @ b).sum(axis=1)))
        c0, c1 = (fit.outputs[label].fetch().load() for label in ("c0", "c1"))
        print(f"line: {c1:.2f} x + {c0:.1f}")
        print("sorted:", bool((numpy.diff(ordered.output.fetch().load()) >= 0).all()))
        print(f"compressed: {packed.outputs['destLen'].fetch().load()} of {a.shape[0] * b.shape[1] * 8} bytes")
        print("a whole statement:", whole.output.fetch().load())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="localhost", help="of the server (localhost)")
    parser.add_argument("--port", type=int, default=7210, help="of the server (7210)")
    options = parser.parse_args()
    try:
        run(Client(options.address, options.port))
    except RainException as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
