"""Background work of a scheduler, beside its producers and consumers: one plan at a time. No I/O.

It does not matter if such a plan is lost. So it ends when Redis is away, and soon after all sessions have left.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from nexus_redis._core.scheduler import Scheduler
from nexus_redis._core.session import Life, Rest, Send, Session
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import Done, Job, Outcome, step

STEPS_AT_THE_END: Final = 2  # so that work which was found is still done

BackgroundPlan = Generator[list[Job], list[Outcome], None]


def run_in_background(scheduler: Scheduler, plan: BackgroundPlan) -> None:
    """Run a plan, unless the scheduler runs one already."""
    if scheduler.background is None:
        scheduler.background = session = BackgroundSession(scheduler, plan)
        session.wake_at(scheduler.clock())


class BackgroundSession(Session):
    """The session of a background plan."""

    is_counted = False

    def __init__(self, scheduler: Scheduler, plan: BackgroundPlan) -> None:
        self.scheduler, self._plan = scheduler, plan

    def live(self) -> Life:
        left, outcomes = NEVER, None
        while True:
            left = min(left, STEPS_AT_THE_END if self.scheduler.is_closing else NEVER) - 1
            jobs = step(self._plan, outcomes)
            if isinstance(jobs, Done) or left <= 0 or not (yield Rest(self.scheduler.clock())):
                break
            outcomes = yield Send(jobs)
        self.scheduler.background = None
        self.scheduler.drop(self)
