"""Warnings that show where the program is."""

import sys
import threading
import warnings

from ..common.errors import RainWarning

#: The name of the threads that look after leases: what they have to say is about what the program waits for.
LEASE_THREAD = "rain lease"


def warn(text):
    """A `RainWarning` at the program's own line, not at one of this package."""
    if threading.current_thread().name == LEASE_THREAD:
        frame = sys._current_frames().get(threading.main_thread().ident)
    else:
        frame = sys._getframe(1)
    # The line from which the program called this package, which may be deep in a module of Python's own.
    inner = frame
    while inner is not None:
        if inner.f_globals.get("__package__") == __package__:
            frame = inner.f_back
        inner = inner.f_back
    if frame is None:
        warnings.warn(text, RainWarning, stacklevel=2)
        return
    space = frame.f_globals
    warnings.warn_explicit(
        text,
        RainWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=space.get("__name__"),
        registry=space.setdefault("__warningregistry__", {}),
    )
