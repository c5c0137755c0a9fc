"""Whether a server answers: the only one, or one node of a cluster. No I/O, no clock."""

from __future__ import annotations

import random
from typing import Final

from nexus_redis._core.round_trips import OnTheWay
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import FIRST_BACKOFF, Failed
from nexus_redis._values.log import log

OUTAGE_AFTER: Final = 2  # failures in a row: one dropped reply is not an outage
LONGEST_BACKOFF: Final = 1.0


class Reach:
    """Whether a server answers: the only one, or one node of a cluster."""

    def __init__(self) -> None:
        self._begin_reach()

    def _begin_reach(self) -> None:
        self.on_the_way = OnTheWay()
        self.failed_at = -NEVER
        self._reach_again()

    def _reach_again(self) -> None:
        self.failures = 0
        self.out_since = NEVER
        self.next_try = 0.0
        self.cause = ""

    @property
    def is_out(self) -> bool:
        """It does not answer."""
        return self.failures >= OUTAGE_AFTER

    @property
    def patience(self) -> float:
        """Return the seconds in which a call of its own is answered: it may meet another one before."""
        return 2 * self.on_the_way.trip.limit

    @property
    def free_at(self) -> float:
        """Return when the next batch may be sent there."""
        return self.on_the_way.free_at(NEVER)

    def note_failure(self, failed: Failed, sent: float, now: float) -> None:
        """A batch did not come back; the next is tried later, at a time that other processes will not choose too.

        One that was sent before another failed says nothing new.
        """
        if sent < self.failed_at:
            return
        if not self.failures:
            self.out_since = sent
        self.failures, self.failed_at = self.failures + 1, now
        self.on_the_way.lose_connections()
        self.cause = f"{failed.kind}: {failed.cause}"
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(self.failures, 10))
        self.next_try = now + backoff * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing
        if self.failures == OUTAGE_AFTER:
            log.warning("Redis does not answer (%s): producers go by their outage mode until it does", self.cause)

    def note_success(self) -> None:
        """It answers."""
        if self.is_out:
            log.warning("Redis answers again")
        self._reach_again()


class Superseded(Reach):
    """The outage of one budget on a server that answers: a newer release wrote the state of that budget."""

    def __init__(self, cause: str, now: float) -> None:
        super().__init__()
        self.failures, self.out_since, self.cause = OUTAGE_AFTER, now, cause
