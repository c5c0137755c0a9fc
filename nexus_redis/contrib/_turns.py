"""Work that is put off instead of kept waiting: when exactly shall it come back?

A worker that waits for its token keeps its slot busy, and whatever else is in the queue waits with it. So what is over
budget goes back into the queue, with the time at which its turn is:

    now      turn 1     turn 2     turn 3   ...   HORIZON
     |----------|----------|----------|---------------|
     try: no    +-- cost / share of this process -----+   beyond: a time within the horizon, and asks again then

Turns are given out at this process' fair part of the budget, which it asks for once a second (`signal`), so that all
workers together send back what the budget takes and hardly more: with 40/s and two workers, each gives out 20 turns a
second. Whose turn it is, waits for its token, a moment at most: brokers deliver what was put off in clumps, up to a
second late, and a clump that went to the end of the line again and again would leave most of the budget unused (with
Dramatiq 10 of 40/s). Who comes LATE does not wait: so many have their turns that those who wait would fill all slots,
and all other work would stand behind them (with Celery to the end of the backlog). If the budget has slowed down
meanwhile, it gets a later turn. During a pause, turns begin where it ends.

Processes do not know each other's lines. One that sent more away than the others is still at it when they are done,
with turns as far apart as its share was then: the last seconds of a backlog, HORIZON at most, run below the full rate.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
import weakref
from contextlib import suppress
from typing import Final

from nexus_redis._values.results import Denied
from nexus_redis.client import Budget
from nexus_redis.errors import RATE, AcquireTimeout, Unavailable

TURN: Final = "nexus-turn"  # on a message that was put off: when its turn is, as time.time()
PATIENCE_AT_TURN: Final = 0.12  # seconds that work whose turn has come may hold up others: a refresh and a little
LATE: Final = 0.4  # seconds after its turn: the line is too long, and whoever waits makes it longer
HORIZON: Final = 20.0  # seconds; brokers redeliver what is put off for too long (Celery on Redis: an hour)
SHARE_LASTS: Final = 1.0  # seconds until it is asked for again
EAGERNESS: Final = 1.05  # turns given out beyond the share, so that none of it goes to waste
BLIND: Final = 5.0  # seconds until work comes back to a budget that has no rate to reckon with
SOONEST: Final = 0.01  # seconds until work comes back at the earliest: 0 would say that it has its tokens


class Turns:
    """The turns that one process gives out for one budget; safe to use from many threads.

    `take(1)` gives 0.0: it has its token; or the seconds until its turn. With `due`, it was sent away before,
    until then (`time.time()`; hosts whose clocks are apart by more than LATE lose their patience, not their tokens).
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._last = -math.inf  # when the last turn that was given out begins
        self._rate = 0.0  # tokens/s
        self._resumes = 0.0  # when a pause ends
        self._asked = -math.inf

    def take(self, cost: float, *, due: float | None) -> float:
        """0 and its tokens are taken; else none are, and so many seconds to come back in."""
        if due is not None and time.time() - due < LATE and time.monotonic() >= self._resumes:
            # A try first would be a claim more, and claims are spaced: one process alone lost a third of its share.
            with suppress(AcquireTimeout):
                self._budget.acquire(cost, timeout=PATIENCE_AT_TURN)
                return 0.0
        denied = self._budget.try_acquire(cost)
        return 0.0 if denied else self._turn(cost, denied)

    def _turn(self, cost: float, denied: Denied) -> float:
        with self._lock:
            now = time.monotonic()
            if now - self._asked >= SHARE_LASTS:
                self._asked = now
                self._ask(denied)
            earliest = max(now + denied.retry_after, self._resumes)
            if self._rate <= 0:
                return earliest - now + _spread(BLIND)
            turn = max(earliest, self._last + cost / (EAGERNESS * self._rate))
            if turn - now <= HORIZON:
                self._last = turn
                return max(SOONEST, turn - now)
        return min(max(_spread(HORIZON), earliest - now), HORIZON)

    def _ask(self, denied: Denied) -> None:
        """What part of the budget is ours, and until when is it paused? An outage leaves what was known."""
        now = time.monotonic()
        try:
            if denied.reason == "paused":
                left = self._budget.snapshot().paused_for
                self._resumes = now + min(left or 0.0, HORIZON)
            elif denied.reason != "unavailable":
                self._resumes = 0.0
                flow = self._budget.flow
                # All of it is wanted, since work is being sent away; max-min makes of that what is fair.
                flow = self._budget.signal((flow and flow.budget_rate) or RATE.high)
                share = flow.recommended_rate
                if self._rate <= 0:
                    # The first answer may know nothing yet of others that begin just now: turns would be too many.
                    known = self._budget.snapshot().producer_count
                    share = min(share, (flow.budget_rate or share) / max(1, known))
                self._rate = share
        except Unavailable:
            return


def _spread(seconds: float) -> float:
    """Some time in the second half of `seconds`, so that those who are sent away together do not come back together."""
    return random.uniform(seconds / 2, seconds)  # noqa: S311  # not a secret


_turns: weakref.WeakKeyDictionary[Budget, Turns] = weakref.WeakKeyDictionary()


def turns_of(budget: Budget) -> Turns:
    """This process' turns for `budget`; a forked child begins anew."""
    return _turns.setdefault(budget, Turns(budget))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_turns.clear)
