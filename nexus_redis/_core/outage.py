"""What a producer may admit while Redis is away: earned at its degraded rate, from the moment when Redis went away.

Processes that lose Redis at one moment would all have earned their first whole token at one moment too: 32 of them with
a budget of 5/s would admit 32 at once. So the first cost of an outage counts 1 to 2 times, drawn by chance, and these
tokens come over as long a time as it took to earn them. A producer that has all of the degraded rate has nobody to wait
for, so there it counts once.

    a share of 2.5/s of 5/s, one token: it is there after 0.4 s
    a share of 0.16/s of 5/s: after 6.4 to 12.4 s, then one each 6.4 s
"""

from __future__ import annotations

import random
from typing import Final

from nexus_redis._core.waiter import NEVER
from nexus_redis._values.parse import MICRO

BURST: Final = 0.25  # seconds of the degraded rate that may be admitted at once


class Allowance:
    """Amounts in micro-tokens, rates in micro-tokens per second, times in seconds of the hub's clock."""

    __slots__ = ("_stretch", "_until", "amount")

    def __init__(self) -> None:
        self._stretch = 1.0  # the next cost counts so many times
        self.reset()

    def reset(self) -> None:
        """Redis answers: the next outage begins with nothing saved up."""
        self.amount = 0.0
        self._until: float | None = None  # it is earned up to here; None: no outage so far

    def covers(self, cost: int, rate: float, most: float, began: float, now: float) -> bool:
        """Return whether so much is earned by now, at `rate` of `most`, since the outage `began`."""
        if rate == NEVER:
            self.amount = cost
            return True
        if self._until is None:
            self._until = began
            self._stretch = 1 + random.uniform(0, max(0.0, 1 - rate / most) if most else 0.0)  # noqa: S311  # no secret
        need = cost * self._stretch
        self.amount = min(self.amount + rate * (now - self._until), max(rate * BURST, need, MICRO))
        self._until = now
        return rate > 0 and self.amount >= need

    def take(self, cost: int) -> None:
        """Admit what is covered."""
        self.amount -= cost * self._stretch
        self._stretch = 1.0

    def seconds_for(self, cost: int, rate: float) -> float:
        """Return how long it takes until so much is earned."""
        return (cost * self._stretch - self.amount) / rate
