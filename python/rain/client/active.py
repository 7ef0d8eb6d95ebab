"""Which session is used where none is named."""

import threading

from ..common.errors import RainException


class _Own(threading.local):
    def __init__(self):
        #: Sessions of `with` statements of this thread, the innermost last.
        self.stack = []


_own = _Own()
#: Those of all threads, the newest last: for threads that have none of their own.
_entered = []
_lock = threading.Lock()
#: The one that is used outside of any, or None.
default = None


def enter(session):
    """A `with` statement of this thread begins."""
    _own.stack.append(session)
    with _lock:
        _entered.append(session)


def leave(session):
    """It ends."""
    _remove_last(_own.stack, session)
    with _lock:
        _remove_last(_entered, session)


def _remove_last(sessions, session):
    for position in reversed(range(len(sessions))):
        if sessions[position] is session:
            del sessions[position]
            return


def active_session():
    """The session of this thread's innermost `with`, else the default one, else another thread's newest."""
    stack = _own.stack
    if stack:
        return stack[-1]
    if default is not None:
        return default
    with _lock:
        if _entered:
            return _entered[-1]
    raise RainException("no session is active: open one with `with client.new_session() as session:`")
