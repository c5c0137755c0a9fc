"""Functions that a user gives a helper, called so that an error of theirs fails open.

    price = open_price("budget stripe", cost)      price(request) -> tokens;  0 where the function fails

A helper stands between a caller and the caller's work. A mistake in a cost function, or in the function that chooses a
budget, must not turn every request into an error: the work passes, as if it needed no token, and the log says so. One
line a minute is enough to be found, and few enough to be read; it tells how many errors it stands for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from nexus_redis._values.cost import Cost, price_of
from nexus_redis._values.formatting import counted
from nexus_redis._values.log import log

QUIET: Final = 60.0  # seconds between two lines about one function


class Complaint:
    """The log of one function's errors. `subject` says whose it is, `consequence` what happens instead."""

    def __init__(self, subject: str, consequence: str) -> None:
        self._subject, self._consequence = subject, consequence
        self._counting = threading.Lock()
        self._quiet_until, self._unsaid = 0.0, 0

    def note(self, error: Exception, subject: str = "") -> None:
        """Log `error` with its traceback, unless the last line is younger than QUIET."""
        if not self._counting.acquire(blocking=False):  # never wait: a fork may have left it locked in the child
            return
        try:
            now = time.monotonic()
            self._unsaid += 1
            if now < self._quiet_until:
                return
            self._quiet_until, unsaid, self._unsaid = now + QUIET, self._unsaid - 1, 0
        finally:
            self._counting.release()
        more = f" {counted(unsaid, 'error')} before it {'was' if unsaid == 1 else 'were'} not logged." if unsaid else ""
        # Outside of the lock: a handler of the user's may come through here itself.
        log.error("%s failed: %r. %s.%s", subject or self._subject, error, self._consequence, more, exc_info=error)


def open_price(whose: str, cost: Cost, consequence: str = "The work passes without a token") -> Callable[..., float]:
    """As `price_of`, but what a function raises, or answers that is no cost, is logged, and the cost is 0.

    A fixed cost, and an async function, still raise `InvalidSetting` here, where the helper is made.
    """
    price = price_of(cost)
    if not callable(cost):
        return price
    complaint = Complaint(f"{whose}: its cost function", consequence)

    def ask(*args: object, **given: object) -> float:
        try:
            return price(*args, **given)
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            complaint.note(error)
            return 0.0

    return ask
