"""Work over budget that goes back into its queue instead of waiting in a worker: when does it come back?

A worker that waits for a token keeps a slot busy, and whatever else is in the queue waits with it. So work over budget
goes back into the queue, with the time at which it is due:

    now       due 1      due 2      due 3    ...    HORIZON
     |----------|----------|----------|---------------|
     try: no    +-- cost / share of this process -----+   beyond: a time within the horizon, then it tries again

Due times are as far apart as this process' fair share of the budget allows. The process asks for its share once a
second (`signal`), so all workers together get back what the budget takes and hardly more. With 40/s and two workers,
each worker gives out 20 due times a second.

Work that is due waits for its token, for a moment at most. Brokers deliver deferred work in clumps, up to a second
late. If a clump went to the end of the line again and again, most of the budget would stay unused (with Dramatiq, 10 of
40/s were used). Work that is more than LATE behind its due time does not wait: by then so much work is due that the
waiting would fill all slots, and all other work would stand behind it (with Celery, to the end of the backlog). Such
work gets a later due time if the budget has slowed down meanwhile. During a pause, due times begin at its end.

Processes do not know each other's lines. A process that deferred more work than the others still has some when they are
done, with due times as far apart as its share was then. So the last seconds of a backlog, HORIZON at most, run below
the full rate.
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

from nexus_redis import Denied
from nexus_redis.client import Budget
from nexus_redis.errors import RATE, AcquireTimeout, Unavailable

DUE_HEADER: Final = "nexus-due"  # on a deferred message: when it is due, as time.time()
WAIT_WHEN_DUE: Final = 0.12  # seconds that due work may hold up other work: a refresh and a little
LATE: Final = 0.4  # seconds after the due time: the line is too long, and each that waits makes it longer
HORIZON: Final = 20.0  # seconds; brokers redeliver what is deferred for too long (Celery on Redis: an hour)
SHARE_LASTS: Final = 1.0  # seconds until the process asks for its share again
OVERBOOKING: Final = 1.05  # due times given out, as a multiple of the share, so that no part of the share is wasted
WITHOUT_RATE: Final = 5.0  # seconds until work comes back to a budget whose rate is not known
SHORTEST: Final = 0.01  # seconds until work comes back at the earliest: 0 would say that it has its tokens


class Deferral:
    """The due times that one process gives out for one budget. Safe to use from many threads."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._last_due = -math.inf  # the latest due time that was given out
        self._share = 0.0  # tokens/s
        self._pause_ends = 0.0
        self._asked_at = -math.inf

    def acquire_or_defer(self, cost: float, *, due: float | None) -> float:
        """Return 0 if the tokens are acquired; else the seconds until the work is due, and no token is taken.

        `due` is the due time of work that was deferred before, by `time.time()`. Where the clocks of two hosts are
        apart by more than LATE, deferred work loses its wait, but no tokens. At 40/s, the first of 400 tasks get 0,
        and the last of them some 10.
        """
        if due is not None and time.time() - due < LATE and time.monotonic() >= self._pause_ends:
            # A try first would be another claim, and claims are spaced: one process alone lost a third of its share.
            with suppress(AcquireTimeout):
                self._budget.acquire(cost, timeout=WAIT_WHEN_DUE)
                return 0.0
        denied = self._budget.try_acquire(cost)
        return 0.0 if denied else self._defer(cost, denied)

    def _defer(self, cost: float, denied: Denied) -> float:
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at >= SHARE_LASTS:
                self._asked_at = now
                self._ask(denied)
            earliest = max(now + denied.retry_after, self._pause_ends)
            if self._share <= 0:
                return earliest - now + _spread(WITHOUT_RATE)
            due = max(earliest, self._last_due + cost / (OVERBOOKING * self._share))
            if due - now <= HORIZON:
                self._last_due = due
                return max(SHORTEST, due - now)
        return min(max(_spread(HORIZON), earliest - now), HORIZON)

    def _ask(self, denied: Denied) -> None:
        """Ask for this process' share, or for the end of a pause. During an outage the last answer stays in force."""
        now = time.monotonic()
        try:
            if denied.reason == "paused":
                left = self._budget.snapshot().paused_for
                self._pause_ends = now + min(left or 0.0, HORIZON)
            elif denied.reason != "unavailable":
                self._pause_ends = 0.0
                flow = self._budget.flow
                # The process asks for the whole rate, because it defers work; max-min makes a fair share of that.
                flow = self._budget.signal((flow and flow.budget_rate) or RATE.high)
                share = flow.recommended_rate
                if self._share <= 0:
                    # The first answer may not count others that begin at this moment: it would be too large a share.
                    known = self._budget.snapshot().producer_count
                    share = min(share, (flow.budget_rate or share) / max(1, known))
                self._share = share
        except Unavailable:
            return


def _spread(seconds: float) -> float:
    """Return a time in the second half of `seconds`, so that work deferred at once does not come back at once."""
    return random.uniform(seconds / 2, seconds)  # noqa: S311  # not a secret


_deferrals: weakref.WeakKeyDictionary[Budget, Deferral] = weakref.WeakKeyDictionary()


def deferral_for(budget: Budget) -> Deferral:
    """Return the one deferral that this process has for `budget`; a forked child makes its own."""
    return _deferrals.setdefault(budget, Deferral(budget))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_deferrals.clear)
