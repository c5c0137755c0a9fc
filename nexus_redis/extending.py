"""The public names for authors of a helper: code that puts a budget between an application and another library.

    the application --request--> your helper --request--> the library
                                   |  price_of(cost)(request)             how many tokens this request costs
                                   |  budget.acquire(tokens)              wait for them
                                   '  budget.observer().work(tokens)      report how the request ends (optional)

The helpers in `nexus_redis.contrib` are written with `nexus_redis`, `nexus_redis.asyncio`, `nexus_redis.errors` and
this module, and with no other name of this package. The contract of a helper:

- It checks its arguments where it is made, and raises `InvalidSetting` there, as `price_of` and `parse_seconds` do.
- It does no I/O at import or where it is made, so that it may be made before a server forks.
- It raises the library's own timeout where the wait for tokens is too long, with `AcquireTimeout` as the `__cause__`.
- It sends each request once, because only the caller knows whether a request may be repeated.

A helper for a database driver, at 3 tokens for each statement that writes:

    class LimitedCursor:
        def __init__(self, cursor, budget: Budget, *, cost: Cost = 1) -> None:
            self._cursor, self._budget, self._price = cursor, budget, price_of(cost)

        def execute(self, statement: str):
            if (tokens := self._price(statement)) > 0:
                self._budget.acquire(tokens)
            return self._cursor.execute(statement)

    cursor = LimitedCursor(connection.cursor(), budget, cost=lambda text: 1 if text.startswith("SELECT") else 3)

With 90/s on the budget, all processes together run 30 such statements a second.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, TypeAlias

from nexus_redis._core.meter import Work
from nexus_redis._values import cost as _cost
from nexus_redis._values import log as _log
from nexus_redis._values import parse as _parse
from nexus_redis._values.cost import is_async, price_of
from nexus_redis._values.log_fields import log_fields
from nexus_redis.errors import InvalidSetting

if TYPE_CHECKING:
    from nexus_redis import asyncio, client

__all__ = [
    "Cost", "TokenSource", "Work", "expected_wait", "is_async", "known_rate", "log", "log_fields", "parse_seconds",
    "price_of",
]  # fmt: skip

Cost: TypeAlias = _cost.Cost
"""What a unit of work costs: a number of tokens, or a function of the work. See `price_of`."""

TokenSource: TypeAlias = "client.Budget | client.Producer | asyncio.Budget | asyncio.Producer"
"""Whatever tokens are acquired from: a budget, through the producer that the process shares, or a producer."""

log: Final[logging.Logger] = _log.log
"""The logger `nexus_redis`. A thread of its own calls the handlers, so a helper may log while it holds a lock."""


def parse_seconds(value: float | str, field: str) -> float:
    """Return a duration in seconds, from a number of seconds or a text with a unit.

    `"90s"` is 90.0, `"1h30m"` is 5400.0 and `"250ms"` is 0.25. Raises `InvalidSetting`, which names your `field`, for a
    duration of less than 0 or of more than a day. A text without a unit is refused, too: "30" may be a shell variable
    in the wrong place.
    """
    try:
        return _parse.parse_seconds(value, "timeout")  # all durations have one range
    except InvalidSetting as error:
        raise InvalidSetting(field, value, error.remedy) from None


def known_rate(source: TokenSource) -> float:
    """Return the budget's rate in tokens per second, as this process knows it without asking Redis.

    It is the rate of the last answer. Before the first answer, and while an answer says 0, it is the rate that code
    gives the budget. 0 means that the rate is not known. With `nexus.budget("api", rate="6/min")` it is 0.1.
    """
    return source._rate


def expected_wait(source: TokenSource, cost: float) -> float:
    """Return the seconds until a `try_acquire(cost)` is granted, as this process knows it without asking Redis.

    0 means at once, or that it is not known. At 2/s with no token in hand, `expected_wait(budget, 1)` is 0.5.
    """
    return source._seconds_until_served(cost)
