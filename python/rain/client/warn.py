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
    while frame is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
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
