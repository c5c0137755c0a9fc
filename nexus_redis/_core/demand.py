"""A producer's demand, measured from what its callers take; it decides what the next claim asks for. No I/O.

A claim asks for the tokens that will be spent until the next claim. A plain loop of acquire() would seem to want one
token. So the rate that is asked for ahead doubles at each claim that finds a caller waiting, and falls back when there
is none. As long as the bucket gives all that is asked for, the next of these claims is made at once.

A `try_acquire` asks for its own cost and nothing ahead, unless tries are many. A token that one process holds is
missing in the bucket that all share, and would have to be handed back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from nexus_redis._core.waiter import Waiter
from nexus_redis._values.parse import MICRO

if TYPE_CHECKING:
    from nexus_redis._core.ledger import Ledger

LONG_AGO: Final = -1e9
SOON: Final = 3  # refreshes after an answer: a caller that waits again by then has used up what was asked for ahead
FASTEST_GROWTH: Final = 16  # of the rate asked for ahead, from one claim to the next
GROWTH: Final = 2  # likewise, where it is no trifle
FAR_GROWTH: Final = 4  # where it takes a round trip to see what the growth before came to
TRIFLE: Final = 0.01  # of the whole budget: other producers do not miss that for a refresh
SHORT_SAMPLE: Final = 0.2  # of a refresh: a rate measured over less says nothing
DEMAND_TIME: Final = 0.5  # seconds over which demand is averaged
DEMAND_FALL: Final = 0.1  # seconds in which a demand that was doubled in vain falls back
AHEAD: Final = 1.2  # times what the next refresh will spend: the claim must arrive before the tokens are used up
WAITERS_AHEAD: Final = 0.5  # seconds of the rate that callers in line may ask for at once: a lease
BACKLOG: Final = 0.5  # of the time since the last answer: a caller that has waited so long did not just come
GREED: Final = 4  # demand and prefetch stay below this many times the whole budget
WORTH_ASKING: Final = 6  # units that tries must want ahead before a claim asks for them: handing back loses a part


class Demand:
    """Rates in micro-tokens per second. `mean` is the rate taken, `needed` the rate that claims report."""

    __slots__ = ("attempts", "grown_at", "last_want", "mean", "needed", "prefetch", "seen", "unit")

    def __init__(self, now: float) -> None:
        self.seen = now  # the start of this sample
        self.attempts = 0  # micro-tokens that callers wanted in it
        self.unit = MICRO  # what the last caller wanted
        self.mean = self.needed = self.prefetch = 0.0
        self.grown_at = LONG_AGO  # when the rate asked for ahead was last raised for a caller in line
        self.last_want = 0  # of the last claim

    def note(self, cost: int) -> None:
        """Note that a caller wants `cost`."""
        self.attempts += cost
        self.unit = cost

    def forget(self, cost: int) -> None:
        """Take back what was noted for a caller that made a mistake: nobody wants that much."""
        self.attempts -= cost
        self.unit = MICRO

    def measure(self, ledger: Ledger, now: float) -> None:
        """Measure what was wanted since the last claim, and find what to ask for ahead."""
        head = ledger.head
        grown = self._grown(ledger, head, now) if head and not head.whole else 0.0
        most, dt = GREED * ledger.rate, now - self.seen
        if dt < SHORT_SAMPLE * ledger.refresh:
            self.prefetch = min(most, max(self.prefetch, grown))
            return
        attempts = max(0, self.attempts)  # settled reservations may have corrected it below 0
        rate, between = attempts / dt, max(0, attempts - self.unit) / dt  # a single attempt says nothing of a rate
        self.attempts, self.seen = 0, now
        self.mean += (1 - math.exp(-min(dt, 2.0) / DEMAND_TIME)) * (rate - self.mean)
        if head and ledger.is_denied and (ledger.pace or now - head.since >= BACKLOG * (now - ledger.answered)):
            self.needed = max(2 * self.needed, self.mean, ledger.asked / (5 * ledger.refresh))
        else:
            self.needed = self.mean + max(0.0, self.needed - self.mean) * math.exp(-dt / DEMAND_FALL)
        self.needed = min(self.needed, most)
        ahead = max(between, self.mean)
        if head and not head.whole:
            ahead = max(ahead, self.needed, grown)
        self.prefetch = min(most, ahead)

    def _grown(self, ledger: Ledger, head: Waiter, now: float) -> float:
        """Return the rate to ask for ahead when the tokens asked for ahead are used up and a caller waits: twice it.

        Where that is a trifle to the budget it is more, so that a fast loop on a large one is at full speed soon.
        """
        if head.is_part and head.cost <= ledger.held:
            return 0.0
        # When what was asked for ahead came.
        came = self.grown_at + ledger.flights.trip if ledger.is_far else ledger.answered
        if now < came:
            return self.prefetch
        self.grown_at = now
        if head.since - came >= SOON * ledger.refresh:
            return 0.0
        last = 0.0 if ledger.is_denied else self.last_want / (AHEAD * ledger.flights.horizon(ledger.refresh))
        before = max(self.prefetch, last)
        growth = FAR_GROWTH if ledger.is_far else GROWTH
        return max(growth * before, min(FASTEST_GROWTH * before, TRIFLE * ledger.rate))

    def wanted(self, ledger: Ledger) -> tuple[int, int]:
        """Return what the next claim asks for, as (tokens, need). The need is what a caller in line lacks."""
        head, coming = ledger.head, ledger.flights.expected
        want = AHEAD * self.prefetch * ledger.flights.horizon(ledger.refresh) - ledger.leases.total - coming
        if head and head.whole:
            return self._wanted_by_tries(ledger, head, want, coming)
        if head:
            need = max(0, head.cost - ledger.held - coming)
            asked = min(ledger.asked, WAITERS_AHEAD * max(self.prefetch, ledger.rate)) - ledger.leases.total - coming
            if ledger.flights and not need and max(want, asked) < self.unit:  # all of it is on its way
                return 0, 0
            if not need and asked <= 0 and want < self.unit:  # all is there, and the caller waits for another budget
                return 0, 0
            return int(max(want, need, asked, 0)), need
        if want < self.unit * (WORTH_ASKING if ledger.is_trying else 1):
            return 0, 0
        return int(want), min(int(want), self.unit)

    def _wanted_by_tries(self, ledger: Ledger, head: Waiter, want: float, coming: int) -> tuple[int, int]:
        fresh = next((each for each in ledger.waiters.alone if each.whole and not each.asked), None)
        if ledger.flights and fresh is None:
            return 0, 0  # all of them are asked for
        need = fresh.cost if ledger.flights and fresh else max(0, head.cost - ledger.held)
        ahead = int(want) if want >= WORTH_ASKING * self.unit else 0
        return max(ahead, ledger.asked - ledger.held - coming, need), need
