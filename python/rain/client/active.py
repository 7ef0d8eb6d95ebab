"""Which session is used where none is named."""

from ..common.errors import RainException

#: Sessions of `with` statements, the innermost last.
stack = []
#: The one that is used outside of any, or None.
default = None


def active_session():
    """The session of the innermost `with`, else the default one."""
    if stack:
        return stack[-1]
    if default is not None:
        return default
    raise RainException("no session is active: open one with `with client.new_session() as session:`")
