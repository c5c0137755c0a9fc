"""Calls of functions that a user gives a helper, so that a mistake in the function stops no work.

    price = fail_open_price("budget stripe", cost)      price(request) -> tokens;  0 where the function fails

A helper stands between a caller and the caller's work. If a cost function, or the function that chooses a budget,
fails for a request, then the request passes as if it needed no token, and the log says so. One line a minute is enough
to be found and few enough to be read. It tells how many errors it stands for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from nexus_redis.contrib import _texts
from nexus_redis.extending import Cost, log, log_fields, price_of

QUIET: Final = 60.0  # seconds between two lines about one function


class ErrorLog:
    """The log of one function's errors. `subject` names the function, `consequence` says what happens instead."""

    def __init__(self, subject: str, consequence: str) -> None:
        self._subject, self._consequence = subject, consequence
        self._counting = threading.Lock()
        self._quiet_until, self._unlogged = 0.0, 0

    def add(self, error: Exception, subject: str = "") -> None:
        """Log `error` with its traceback, unless the last line is younger than QUIET."""
        if not self._counting.acquire(blocking=False):  # never wait: a fork may have left it locked in the child
            return
        try:
            now = time.monotonic()
            self._unlogged += 1
            if now < self._quiet_until:
                return
            self._quiet_until, unlogged, self._unlogged = now + QUIET, self._unlogged - 1, 0
        finally:
            self._counting.release()
        # Outside of the lock: a handler of the user's may come through here itself.
        log.error(
            _texts.FAILED, subject or self._subject, error, self._consequence, _texts.unlogged(unlogged),
            exc_info=error, extra=log_fields(event="function_failed", cause=repr(error), count=1 + unlogged),
        )  # fmt: skip


def fail_open_price(owner: str, cost: Cost, consequence: str = _texts.PASSES) -> Callable[..., float]:
    """Return what `price_of` returns, but a failure of a cost function is logged and costs 0.

    A function fails where it raises, and where it returns what is not a cost. A fixed cost out of its range and an
    async function still raise `InvalidSetting` here, where the helper is made.
    """
    price = price_of(cost)
    if not callable(cost):
        return price
    errors = ErrorLog(_texts.cost_function(owner), consequence)

    def ask(*args: object, **given: object) -> float:
        try:
            return price(*args, **given)
        except Exception as error:  # noqa: BLE001  # the user's code may raise anything
            errors.add(error)
            return 0.0

    return ask
