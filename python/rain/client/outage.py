"""A time in which the server does not answer: somebody starts it again, and it goes on where it was."""

import time

from .http import ConnectionLost
from .warn import warn

#: Pauses between tries. The longest is shorter than any time for which a server that is back waits for its clients.
PAUSE_SECONDS_MIN = 0.02
PAUSE_SECONDS_MAX = 1
#: An outage that lasts longer is told.
SILENT_SECONDS = 2
#: Until when a server's silence is known, by its name: what a warning has said that it will be asked again.
_told_until = {}


class Outage:
    """
    Args:
        server: the server's name in messages.
        patience: seconds for which it is tried again.
    """

    def __init__(self, server, patience):
        self._server = server
        self._patience = patience
        self._begin = time.monotonic()
        self._pause = PAUSE_SECONDS_MIN
        self._is_told = False

    def wait(self, error):
        """Waits before the next try.

        Args:
            error: how the last one ended.

        Raises:
            ConnectionLost: there is no time for another one.
        """
        lasted = time.monotonic() - self._begin
        left = self._patience - lasted
        if left <= 0:
            if self._patience <= 0:
                raise error
            raise ConnectionLost(f"{self._server} is gone, and did not come back within {self._patience:g} s: {error}")
        now = time.monotonic()
        if lasted > SILENT_SECONDS and not self._is_told:
            self._is_told = True
            # Several connections of a program meet the same outage: it is told by the first of them.
            is_known = now < _told_until.get(self._server, now)
            _told_until[self._server] = now + left
            if is_known:
                return self._pause_once(left)
            warn(f"{self._server} does not answer ({error}); it is asked again for {left:.0f} s more")
        self._pause_once(left)

    def _pause_once(self, left):
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)
