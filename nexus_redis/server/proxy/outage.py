"""Whether the upstream is away, which the log says once when it begins and once when it ends.

    no connection                 an outage, unless a response came within the last `QUIET_S`
    a connection, no response     an outage when it has been so for `QUIET_S`, `PATIENCE` times or more, and no
                                  response has come meanwhile
    a response, also a 500        the end of an outage

So a path whose responses are broken is no outage while other paths answer, and whatever clients ask for, the log
gets at most two lines in `QUIET_S`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

QUIET_S: Final = 5.0
PATIENCE: Final = 3


class Outage:
    """What the ends of the last requests say about the upstream."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._is_away = clock, False
        self._failures, self._since = 0, 0.0  # failures without a response in between, and when the first one was
        self._answered = -QUIET_S + clock()

    def fail(self, *, is_connected: bool) -> bool:
        """Note a request without a response. Return whether an outage begins."""
        now = self._clock()
        if not self._failures:
            self._since = now
        self._failures += 1
        if self._is_away or now - self._answered < QUIET_S:
            return False
        if is_connected and (self._failures < PATIENCE or now - self._since < QUIET_S):
            return False
        self._is_away = True
        return True

    def answer(self) -> bool:
        """Note a response. Return whether it ends an outage."""
        was_away, self._is_away = self._is_away, False
        self._failures, self._answered = 0, self._clock()
        return was_away
