"""Whether a server answers: the only one, or one node of a cluster. No I/O, no clock."""

from __future__ import annotations

import math
import random
from typing import Final

from nexus_redis.logs import log

NEVER: Final = math.inf
OUTAGE_AFTER: Final = 2  # failures in a row: one dropped reply is not an outage
FIRST_BACKOFF: Final = 0.05
LONGEST_BACKOFF: Final = 1.0


class Reach:
    """Whether a server answers: the only one, or one node of a cluster."""

    def __init__(self) -> None:
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

    def note_failure(self, error: BaseException, sent: float, now: float) -> None:
        """A batch did not come back; the next is tried later, at a time that other processes will not choose too."""
        if not self.failures:
            self.out_since = sent
        self.failures += 1
        self.cause = f"{type(error).__name__}: {error}"
        backoff = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ** min(self.failures, 10))
        self.next_try = now + backoff * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing
        if self.failures == OUTAGE_AFTER:
            log.warning("Redis does not answer (%s): producers go by their outage mode until it does", self.cause)

    def note_success(self) -> None:
        """It answers."""
        if self.is_out:
            log.warning("Redis answers again")
        self._reach_again()
