"""A line of the log that many requests could cause: it is written seldom, with the number of times."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final


class Seldom:
    """What is logged at most once in `EACH_S`, with the number of times that it has happened since."""

    EACH_S: Final = 60.0  # seconds

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._count = clock, 0
        self._said = -self.EACH_S + clock()

    def note(self) -> int:
        """Note one more. Return how many there were since the last line, or 0 where it is too early for a line."""
        self._count += 1
        now = self._clock()
        if now - self._said < self.EACH_S:
            return 0
        self._said, count, self._count = now, self._count, 0
        return count
