"""What the callers of one budget got in this process, and how long they waited: the counts behind its metrics. No I/O.

A warm acquire counts nothing. The ledger and its token cache know anyway what was taken. So the ledger's own sums are
read when somebody looks, and are added up here when a producer leaves. Only callers that waited or got no tokens are
counted one by one, since they have met the network or a deadline.

    all producers of "stripe"                     one tally
    the producers of all keys of "stripe"         one tally, so ten thousand customers need no more memory than one

Another thread may read a tally at any time without a lock. What it reads may miss a change that is just being made.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import add, sub
from typing import Final, NamedTuple, Self

from nexus_redis._values.error_texts import SLOW_BECAUSE

WAIT_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
REASONS: Final = tuple(SLOW_BECAUSE)
OTHER: Final = "other"  # a newer server's reason, or one that a stranger has published


class Sums(NamedTuple):
    """The micro-tokens that were granted, used, handed back and burned, and the acquires that were served at once."""

    granted: int = 0
    used: int = 0
    returned: int = 0
    burned: int = 0
    local: int = 0

    def plus(self, other: Self) -> Sums:
        """Return the sums of both."""
        return Sums(*map(add, self, other))

    def minus(self, other: Self) -> Sums:
        """Return what these have beyond the others."""
        return Sums(*map(sub, self, other))


NO_SUMS: Final = Sums()


class Tally:
    """The counts of one budget, or of all keys of one budget.

    `sums` are those of producers that have left. `waits` are the served callers that had to wait, by WAIT_BOUNDS and
    above the last of these; `waited` is the sum of their seconds. `degraded` were admitted while Redis was away.
    `ahead` wait in a line that a server has in front of the producer's.
    """

    __slots__ = ("ahead", "degraded", "denied", "sums", "waited", "waits")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begin at zero: a forked child counts what it does itself."""
        self.sums = NO_SUMS
        self.waits, self.waited = [0] * (len(WAIT_BOUNDS) + 1), 0.0
        self.degraded = self.ahead = 0
        self.denied: dict[str, int] = {}

    @property
    def is_used(self) -> bool:
        """Return whether there is anything in it."""
        return self.sums != NO_SUMS or any(self.waits) or bool(self.denied)

    def serve(self, seconds: float, *, is_degraded: bool = False) -> None:
        """Count a caller that was served after it had waited."""
        self.waits[bisect_left(WAIT_BOUNDS, seconds)] += 1
        self.waited += seconds
        self.degraded += is_degraded

    def deny(self, reason: str) -> None:
        """Count a caller that got no tokens."""
        known = reason if reason in SLOW_BECAUSE else OTHER
        self.denied[known] = self.denied.get(known, 0) + 1
