"""The most that an observer adds to the rate of its budget: a few times what it sends. No I/O, and no clock.

An observer is one of many clients of a downstream, and sees only the requests that it sends itself. The law gives it a
rate, and the budget's rate is the sum of these rates. Suppose that one of two observers with 50/s each stops. It sees
no more requests, so its law would keep the 50/s forever. The other observer would get 100/s and find that the
downstream can do them, and the sum would be 150/s for a downstream that takes 100/s.

So each observer reports a `capacity`, which no law exceeds, of TIMES the rate at which it has sent lately. That is
enough for a rate that doubles with each loop, and an observer that stops adds next to nothing 20 s later. While a
caller waits, the observer reports a request per second at least, whatever its cost. So it begins again as it began at
first.
"""

from __future__ import annotations

from math import exp
from typing import Final

TIMES: Final = 4.0
RISES: Final = 0.5  # seconds over which the rate of what is sent is averaged, where it is more than before
FALLS: Final = 2.0  # and where it is less
FIRST: Final = 1.0  # tokens per second, from which an observer begins
LEAST: Final = 0.1  # tokens per second: what an idle observer keeps, so that the first request after a rest can go


class Observed:
    """The rate at which one observer sends. `least`: what it keeps while it sends nothing; LEAST where it is None."""

    def __init__(self, least: float | None) -> None:
        self._least = LEAST if least is None else least
        self._rate, self._sent = FIRST / TIMES, 0.0
        self._at: float | None = None

    def said(self, measured: dict[str, float], now: float, wanted: float = 0.0) -> dict[str, float]:
        """Return the fields of a report: what was measured, and the capacity in tokens per second.

        `wanted`: the tokens that a caller waits for, 0 where none waits.

        >>> observed = Observed(None)
        >>> [round(observed.said({"done": 25 * second}, now=second)["capacity"]) for second in range(6)]  # 25/s
        [1, 87, 98, 100, 100, 100]
        """
        counted = dict.fromkeys(("done", "errors", "in_flight"), 0.0) | measured  # 0 before its first work
        sent = sum(counted.get(name, 0.0) for name in ("done", "errors", "cancelled", "in_flight"))
        if self._at is not None and now > self._at:
            seconds = now - self._at
            rate = (sent - self._sent) / seconds
            self._rate += (1 - exp(-seconds / (RISES if rate > self._rate else FALLS))) * (rate - self._rate)
        self._at, self._sent = now, sent
        least = max(self._least, FIRST, wanted) if wanted else self._least
        return counted | {"capacity": max(least, TIMES * self._rate)}
