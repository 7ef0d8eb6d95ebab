"""A time in which the server does not answer: somebody starts it again, and it goes on where it was."""

import time
import warnings

from ..common.errors import RainWarning
from .http import ConnectionLost

#: Pauses between tries. The longest is shorter than any time for which a server that is back waits for its clients.
PAUSE_SECONDS_MIN = 0.02
PAUSE_SECONDS_MAX = 1
#: An outage that lasts longer is told.
SILENT_SECONDS = 2


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
        if lasted > SILENT_SECONDS and not self._is_told:
            self._is_told = True
            warnings.warn(
                f"{self._server} does not answer ({error}); it is asked again for {left:.0f} s more",
                RainWarning,
                stacklevel=2,
            )
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)
