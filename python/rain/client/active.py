"""Which session is used where none is named."""

import threading

from ..common.errors import RainException


class _Own(threading.local):
    def __init__(self):
        #: Sessions of `with` statements of this thread, the innermost last.
        self.stack = []


_own = _Own()
#: Those of all threads, the newest last, and the stack that each is in: for threads that have none of their own.
_entered = []
_lock = threading.Lock()
#: The one that is used outside of any, or None.
default = None


def enter(session):
    """A `with` statement of this thread begins."""
    stack = _own.stack
    with _lock:
        stack.append(session)
        _entered.append((session, stack))


def leave(session):
    """It ends, perhaps in another thread: that of a generator, say, which is closed there."""
    own = _own.stack
    with _lock:
        entries = [entry for entry in _entered if entry[0] is session]
        if entries:
            entry = next((entry for entry in reversed(entries) if entry[1] is own), entries[-1])
            _remove_last(_entered, entry)
            _remove_last(entry[1], session)


def _remove_last(items, item):
    for position in reversed(range(len(items))):
        if items[position] is item:
            del items[position]
            return


def active_session():
    """The session of this thread's innermost `with`, else the default one, else another thread's newest."""
    try:
        return _own.stack[-1]
    except IndexError:
        pass
    if default is not None:
        return default
    with _lock:
        if _entered:
            return _entered[-1][0]
    raise RainException("no session is active: open one with `with client.new_session() as session:`")
