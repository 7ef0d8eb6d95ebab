"""The extension module: the C scaffold of this repository, compiled into the package."""

from pathlib import Path

from setuptools import Extension, setup

python = Path(__file__).resolve().parent
root = python.parent


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
        )
    ]
)
