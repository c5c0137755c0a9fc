"""Batches on their way to Redis: whose they are, how long an answer takes, when one is overdue. No I/O, no clock.

An answer is overdue by the rule of TCP (Jacobson, "Congestion Avoidance and Control", 1988): when it takes longer than
the mean of the round trips and four times their mean deviation, at least a quarter of a second more than the mean and
at most a second in all. That counts as a failure, and nobody waits any longer; but a late answer is still an answer.

Where Redis is near, one batch follows the other: what becomes due meanwhile shares the next round trip. Where it is
far, the next one does not wait for the answer, and several are on their way at once.

    round trips of 0.3 ms:       one at a time; overdue after 0.25 s
    round trips of 240 +- 100 ms:   the next after 30 ms; overdue after about 0.6 s

To make a connection takes several round trips, so where Redis is far they are made before they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, Final

from nexus_redis._protocol.plans import Command, Job

SOONEST_LIMIT: Final = 0.25  # seconds more than the mean: a pause of a server, or of this process, is not an outage
LATEST_LIMIT: Final = 1.0
FIRST_LIMIT: Final = 3.0  # where a connection must be made first; a socket that stays silent fails sooner by itself
DEVIATIONS: Final = 4
MEAN_GAIN: Final = 1 / 8
DEVIATION_GAIN: Final = 1 / 4
APART: Final = 0.03  # seconds from one batch to the next that does not wait for its answer, at least
ABREAST: Final = 6  # of these in a mean round trip, at most
MOST_OUT: Final = 16  # also of those that are overdue: each holds a connection


class RoundTrip:
    """The mean of the round trips of late, their deviation, and the time after which an answer is overdue."""

    __slots__ = ("count", "deviation", "limit", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.deviation = 0.0
        self.limit = FIRST_LIMIT

    def note(self, seconds: float) -> None:
        """One more was measured. The first has the making of the connection in it, and says least."""
        self.count += 1
        if self.count <= 2:
            self.mean, self.deviation = seconds, seconds / 2
        else:
            self.deviation += DEVIATION_GAIN * (abs(seconds - self.mean) - self.deviation)
            self.mean += MEAN_GAIN * (seconds - self.mean)
        self.limit = min(LATEST_LIMIT, self.mean + max(SOONEST_LIMIT, DEVIATIONS * self.deviation))


class Exchange:
    """A batch of jobs; `parts` says which of them are whose."""

    __slots__ = ("deadline", "is_overdue", "jobs", "parts", "sent")

    def __init__(self, parts: Sequence[tuple[Any, list[Job]]], sent: float, deadline: float) -> None:
        self.parts, self.sent, self.deadline = parts, sent, deadline
        self.jobs: list[Job] = [job for _, jobs in parts for job in jobs]
        self.is_overdue = False


class OnTheWay:
    """The exchanges that have no answer yet."""

    def __init__(self) -> None:
        self.trip = RoundTrip()
        self._waiting: list[Exchange] = []  # in the order in which they were sent
        self._late: set[Exchange] = set()
        self._members: dict[Hashable, int] = {}  # how many of `_waiting` are also theirs
        self._warming: set[Exchange] = set()
        self._connections = 1  # that were made, as far as one knows from here

    def __bool__(self) -> bool:
        """Somebody waits for an answer."""
        return bool(self._waiting)

    def send(self, parts: Sequence[tuple[Any, list[Job]]], now: float, *, is_troubled: bool = False) -> Exchange:
        """A batch begins its way. `is_troubled`: the one before failed, so it may need a connection first."""
        limit = FIRST_LIMIT if is_troubled else self.trip.limit
        exchange = Exchange(parts, now, now + limit)
        self._waiting.append(exchange)
        for member, _ in parts:
            self._members[member] = self._members.get(member, 0) + 1
        return exchange

    def warm(self, now: float) -> Exchange | None:
        """Return a batch that makes one more connection, where there will be more batches on their way than those."""
        wanted = math.ceil(self.trip.mean / self._apart) + 1 if self.trip.mean > APART else 1
        if self._connections >= min(wanted, MOST_OUT):
            return None
        self._connections += 1
        exchange = Exchange((), now, math.inf)
        exchange.jobs = [Command(("TIME",), bool)]
        self._warming.add(exchange)
        return exchange

    def lose_connections(self) -> None:
        """A batch did not come back: what is there is not known any more."""
        self._connections = 1

    def end(self, exchange: Exchange) -> None:
        """Its outcomes are there."""
        self._warming.discard(exchange)
        if exchange.is_overdue:
            self._late.discard(exchange)
        elif exchange in self._waiting:
            self._waiting.remove(exchange)
            self._release(exchange)

    def take_overdue(self, now: float) -> list[Exchange]:
        """Those that nobody waits for any longer."""
        overdue = [each for each in self._waiting if each.deadline <= now]
        for each in overdue:
            self._waiting.remove(each)
            self._release(each)
            each.is_overdue = True
            self._late.add(each)
        return overdue

    def _release(self, exchange: Exchange) -> None:
        for member, _ in exchange.parts:
            count = self._members.pop(member, 0) - 1
            if count > 0:
                self._members[member] = count

    def has_sent(self, exchange: Exchange) -> bool:
        """Return whether it went here."""
        return exchange in self._waiting or exchange in self._late or exchange in self._warming

    def has(self, member: Hashable) -> bool:
        """Return whether this one waits for an answer."""
        return member in self._members

    def free_at(self, never: float) -> float:
        """Return when the next batch may be sent; `never` where that takes an answer first."""
        if len(self._waiting) + len(self._late) >= MOST_OUT:
            return never
        if not self._waiting:
            return -never
        return self._waiting[-1].sent + self._apart

    @property
    def _apart(self) -> float:
        return max(APART, self.trip.mean / ABREAST)

    def overdue_at(self, never: float) -> float:
        """Return when the next one is overdue."""
        return min((each.deadline for each in self._waiting), default=never)
