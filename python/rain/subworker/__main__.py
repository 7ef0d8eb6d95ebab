"""Runs Python tasks for the worker that started this process."""

import sys


def main() -> int:
    import faulthandler

    faulthandler.enable()  # A crash of C code leaves a traceback in the log.
    from .._csubworker import Error
    from .runner import run

    try:
        run()
    except Error as error:
        print(f"rain.subworker: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
