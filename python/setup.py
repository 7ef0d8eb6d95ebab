"""The extension modules: the C scaffold of this repository, the reader of declarations, compiled in, and call sites."""

from pathlib import Path

from setuptools import Extension, setup

python = Path(__file__).resolve().parent
root = python.parent
ffi = root / "Sources" / "FFISubworker"
parser = [ffi / f"{name}.c" for name in "describe expression lexer parameters parser scratch types".split()]


def relative(path) -> str:
    """setuptools wants sources relative to the package, also those beside it."""
    return str(Path("..") / path.relative_to(root))


setup(
    ext_modules=[
        Extension(
            "rain._csubworker",
            ["rain/_csubworker.c", *sorted(relative(path) for path in (root / "CSubworker").glob("*.c"))],
            include_dirs=[str(root / "include"), str(root / "CSubworker")],
            depends=[str(path) for path in [root / "include" / "csubworker.h", *(root / "CSubworker").glob("*.h")]],
            extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden"],
        ),
        Extension(
            "rain._declarations",
            ["rain/_declarations.c", *[relative(path) for path in parser]],
            include_dirs=[str(ffi)],
            depends=[str(path) for path in ffi.glob("*.h")],
            extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden", "-D_DEFAULT_SOURCE"],
        ),
        Extension("rain._sites", ["rain/_sites.c"], extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden"]),
        # Without xxhash.h (Debian: libxxhash-dev) the client does not check what it fetches.
        Extension(
            "rain._xxh3", ["rain/_xxh3.c"], extra_compile_args=["-std=c11", "-O2", "-fvisibility=hidden"], optional=True
        ),
    ]
)
