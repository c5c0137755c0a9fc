"""How long the work that ended lately took, as three percentiles. No I/O, and no clock of its own.

A mean, like any smoothed latency, depends on the few longest durations. One long poll of 30 s among a hundred requests
of 5 ms makes a mean of 300 ms. Percentiles up to the median do not: they move when *most* work takes longer, which is
the effect of a queue. Three of them are reported, since a mix of short and long work moves at most one of them from one
second to the next.

Work that was given up would have taken longer still. It counts with the time until it was given up, where that is
longer than the median of the work that ended. As long as little work is given up, that moves no percentile; where
nearly all is given up, it shows why.

Durations are counted in buckets, 32 between a duration and its double, so that a percentile is right within 2 % and the
memory needed does not grow with the work done.
"""

from __future__ import annotations

from collections import deque
from math import frexp, inf
from typing import Final

BUCKETS: Final = 32  # between a duration and its double
SHORTEST: Final = 1e-6  # seconds: below the resolution of clocks
SLOTS: Final = 4  # parts of a second that are kept apart
WINDOW: Final = 4  # parts that are looked at, and as many more as LEAST needs
LEAST: Final = 20  # pieces of work: percentiles of fewer say little
PERCENTILES: Final = {"latency_ms": 0.5, "latency_p25_ms": 0.25, "latency_p10_ms": 0.1}


class _Part:
    """The work that ended in one quarter of a second: how many pieces, and how many of them in each bucket."""

    __slots__ = ("buckets", "slot", "works")

    def __init__(self, slot: int) -> None:
        self.slot, self.works = slot, 0
        self.buckets: dict[int, int] = {}


class Latencies:
    """The durations of the last second, or of the last 20 pieces of work where those took longer to come."""

    def __init__(self) -> None:
        self._parts: deque[_Part] = deque([_Part(0)])
        self._works = 0
        self._median = inf  # milliseconds, as last reported

    def add_given_up(self, seconds: float, now: float) -> None:
        """Count a piece of work that was given up at `now`, after `seconds`."""
        if seconds * 1e3 > self._median:
            self.add(seconds, now)

    def add(self, seconds: float, now: float) -> None:
        """Count a piece of work that ended at `now` and took `seconds`."""
        slot = int(now * SLOTS)
        part = self._parts[-1]
        if part.slot != slot:
            part = _Part(slot)
            self._parts.append(part)
            self._forget(slot)
        bucket = _bucket(seconds)
        part.buckets[bucket] = part.buckets.get(bucket, 0) + 1
        part.works += 1
        self._works += 1

    def _forget(self, slot: int) -> None:
        while self._parts[0].slot <= slot - WINDOW and self._works - self._parts[0].works >= LEAST:
            self._works -= self._parts.popleft().works

    def percentiles(self) -> dict[str, float]:
        """Return the fields of a report: the median alone until 20 pieces of work have ended, then all three.

        >>> latencies = Latencies()
        >>> for _ in range(90): latencies.add(0.005, now=1.0)
        >>> for _ in range(10): latencies.add(30.0, now=1.0)
        >>> latencies.percentiles()
        {'latency_ms': 4.943848, 'latency_p25_ms': 4.943848, 'latency_p10_ms': 4.943848}
        """
        counts: dict[int, int] = {}
        total = 0
        for part in reversed(self._parts):
            if total >= LEAST and part.slot <= self._parts[-1].slot - WINDOW:
                break
            total += part.works
            for bucket, works in part.buckets.items():
                counts[bucket] = counts.get(bucket, 0) + works
        names = list(PERCENTILES) if total >= LEAST else ["latency_ms"] if total else []
        reported = {name: _percentile(counts, PERCENTILES[name] * total) for name in names}
        self._median = reported.get("latency_ms", inf)
        return reported


def _percentile(counts: dict[int, int], rank: float) -> float:
    for bucket in sorted(counts):
        rank -= counts[bucket]
        if rank < 0:
            break
    return round(1e3 * _middle(bucket), 6)


def _bucket(seconds: float) -> int:
    mantissa, exponent = frexp(max(SHORTEST, seconds))
    return exponent * BUCKETS + int((2 * mantissa - 1) * BUCKETS)


def _middle(bucket: int) -> float:
    exponent, part = divmod(bucket, BUCKETS)
    return float(2.0 ** (exponent - 1) * (1 + (part + 0.5) / BUCKETS))
