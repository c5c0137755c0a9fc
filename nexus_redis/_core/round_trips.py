"""Batches on their way to Redis: their sessions, the time of a round trip, overdue answers. No I/O, no clock.

An answer is overdue by the rule of TCP (Jacobson, "Congestion Avoidance and Control", 1988): when it takes longer than
the mean of the round trips plus four times their mean deviation, at least a quarter of a second more than the mean and
at most a second in all. An overdue answer counts as a failure, and no session waits for it any longer. A late answer is
still an answer.

Where Redis is near, one batch follows the other: what becomes due meanwhile shares the next round trip. Where it is
far, the next batch does not wait for the answer, and several are on their way at once.

    round trips of 0.3 ms:          one at a time; overdue after 0.25 s
    round trips of 240 +- 100 ms:   the next after 40 ms; overdue after about 0.6 s

To make a connection takes several round trips, so where Redis is far connections are made before they are needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from nexus_redis._core.session import Send, Session
from nexus_redis._protocol.plans import Command, Job

SOONEST_LIMIT: Final = 0.25  # seconds more than the mean: a pause of a server, or of this process, is not an outage
LATEST_LIMIT: Final = 1.0
FIRST_LIMIT: Final = 3.0  # where a connection must be made first; a socket that stays silent fails sooner by itself
DEVIATIONS: Final = 4
MEAN_GAIN: Final = 1 / 8
DEVIATION_GAIN: Final = 1 / 4
APART: Final = 0.03  # seconds from one batch to the next that does not wait for its answer, at least
ABREAST: Final = 6  # such batches in a mean round trip, at most
MOST_OUT: Final = 16  # batches on their way, overdue ones included: each holds a connection


class RoundTrip:
    """The mean of recent round trips, their deviation, and the time after which an answer is overdue."""

    __slots__ = ("count", "deviation", "limit", "mean")

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.deviation = 0.0
        self.limit = FIRST_LIMIT

    def note(self, seconds: float) -> None:
        """Add a measured round trip. The first contains the making of the connection, and says least."""
        self.count += 1
        if self.count <= 2:
            self.mean, self.deviation = seconds, seconds / 2
        else:
            self.deviation += DEVIATION_GAIN * (abs(seconds - self.mean) - self.deviation)
            self.mean += MEAN_GAIN * (seconds - self.mean)
        self.limit = min(LATEST_LIMIT, self.mean + max(SOONEST_LIMIT, DEVIATIONS * self.deviation))


class Exchange:
    """A batch of jobs. `parts` says which session sent which of them."""

    __slots__ = ("deadline", "is_overdue", "jobs", "parts", "sent")

    def __init__(self, parts: Sequence[tuple[Session, Send]], sent: float, deadline: float) -> None:
        self.parts, self.sent, self.deadline = parts, sent, deadline
        self.jobs: list[Job] = [job for _, each in parts for job in each.jobs]
        self.is_overdue = False


class InFlight:
    """The exchanges with one server that have no answer yet."""

    def __init__(self) -> None:
        self.trip = RoundTrip()
        self._waiting: list[Exchange] = []  # in the order in which they were sent
        self._late: set[Exchange] = set()
        self._sessions: dict[Session, int] = {}  # in how many exchanges of `_waiting` each has a part
        self._warming: set[Exchange] = set()
        self._connections = 1  # that were made, as far as is known here

    def __bool__(self) -> bool:
        """Return whether an answer is waited for."""
        return bool(self._waiting)

    def send(self, parts: Sequence[tuple[Session, Send]], now: float, *, is_troubled: bool = False) -> Exchange:
        """Begin an exchange. `is_troubled`: the one before failed, so this one may need a connection first."""
        limit = FIRST_LIMIT if is_troubled else self.trip.limit
        exchange = Exchange(parts, now, now + limit)
        self._waiting.append(exchange)
        for session, _ in parts:
            self._sessions[session] = self._sessions.get(session, 0) + 1
        return exchange

    def warm(self, now: float) -> Exchange | None:
        """Return a batch that makes one more connection, if more batches will be on their way than there are."""
        wanted = math.ceil(self.trip.mean / self._apart) + 1 if self.trip.mean > APART else 1
        if self._connections >= min(wanted, MOST_OUT):
            return None
        self._connections += 1
        exchange = Exchange((), now, math.inf)
        exchange.jobs = [Command(("TIME",), bool)]
        self._warming.add(exchange)
        return exchange

    def lose_connections(self) -> None:
        """Count the connections again: a batch did not come back, so it is not known which are left."""
        self._connections = 1

    def end(self, exchange: Exchange) -> None:
        """End an exchange, whose outcomes are there."""
        self._warming.discard(exchange)
        if exchange.is_overdue:
            self._late.discard(exchange)
        elif exchange in self._waiting:
            self._waiting.remove(exchange)
            self._release(exchange)

    def take_overdue(self, now: float) -> list[Exchange]:
        """Give up the exchanges that are overdue, and return them."""
        overdue = [each for each in self._waiting if each.deadline <= now]
        for each in overdue:
            self._waiting.remove(each)
            self._release(each)
            each.is_overdue = True
            self._late.add(each)
        return overdue

    def _release(self, exchange: Exchange) -> None:
        for session, _ in exchange.parts:
            count = self._sessions.pop(session, 0) - 1
            if count > 0:
                self._sessions[session] = count

    def has_sent(self, exchange: Exchange) -> bool:
        """Return whether an exchange went to this server."""
        return exchange in self._waiting or exchange in self._late or exchange in self._warming

    def has(self, session: Session) -> bool:
        """Return whether a session has a call that is not answered."""
        return session in self._sessions

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
