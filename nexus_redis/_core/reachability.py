"""The reachability of a server: the only one, or one node of a cluster. No I/O, no clock."""

from __future__ import annotations

import random
from typing import Final

from nexus_redis._core.round_trips import InFlight
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import FIRST_BACKOFF, Failed
from nexus_redis._values import log_texts
from nexus_redis._values.log import log
from nexus_redis._values.log_fields import log_fields

OUTAGE_AFTER: Final = 2  # failures in a row: one dropped reply is not an outage
LONGEST_BACKOFF: Final = 1.0


class Reachability:
    """The state of one server: whether it answers, since when it does not, and when it is tried again."""

    def __init__(self) -> None:
        self._begin_reachability()

    def _begin_reachability(self) -> None:
        self.in_flight = InFlight()
        self.failed_at = -NEVER
        self._answers()

    def _answers(self) -> None:
        self.failures = 0
        self.out_since = NEVER
        self.next_try = 0.0
        self.cause = ""

    @property
    def is_out(self) -> bool:
        """Return whether the server does not answer."""
        return self.failures >= OUTAGE_AFTER

    @property
    def patience(self) -> float:
        """Return the seconds within which a single call is answered: it may first wait for another one."""
        return 2 * self.in_flight.trip.limit

    @property
    def free_at(self) -> float:
        """Return when the next batch may be sent to the server."""
        return self.in_flight.free_at(NEVER)

    def note_failure(self, failed: Failed, sent: float, now: float) -> None:
        """Note that a batch did not come back. The next is tried later, at a time that other processes do not share.

        A batch that was sent before another one failed says nothing new.
        """
        if sent < self.failed_at:
            return
        if not self.failures:
            self.out_since = sent
        self.failures, self.failed_at = self.failures + 1, now
        self.in_flight.lose_connections()
        self.cause = f"{failed.kind}: {failed.cause}"
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(self.failures, 10))
        self.next_try = now + backoff * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing
        if self.failures == OUTAGE_AFTER:
            log.warning(log_texts.REDIS_AWAY, self.cause, extra=log_fields(cause=self.cause))

    def note_success(self) -> None:
        """Note that the server has answered."""
        if self.is_out:
            log.warning(log_texts.REDIS_BACK)
        self._answers()


class Superseded(Reachability):
    """The outage of one budget on a server that answers: a newer release wrote the state of that budget."""

    def __init__(self, cause: str, now: float) -> None:
        super().__init__()
        self.failures, self.out_since, self.cause = OUTAGE_AFTER, now, cause
