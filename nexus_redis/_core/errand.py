"""What a hub does on nobody's behalf, beside its members' calls: one plan at a time. No I/O.

It is of no consequence if it is lost, so it ends where Redis is away, and soon after everybody has left.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from nexus_redis._core.scheduler import Hub, Member
from nexus_redis._core.waiter import NEVER
from nexus_redis._protocol.plans import Job, Outcome

ERRANDS_LAST: Final = 2  # steps: what was found is done

Plan = Generator[list[Job], list[Outcome], None]


def run_aside(hub: Hub, plan: Plan) -> None:
    """Run a plan, unless the hub is at one already."""
    if hub.errand is None:
        hub.errand = errand = Errand(hub, plan)
        errand.go_on(None)


class Errand(Member):
    """A plan on nobody's behalf. It is not gone on with where Redis is away, nor for long where everybody leaves."""

    is_counted = False

    def __init__(self, hub: Hub, plan: Plan) -> None:
        self.hub, self._plan = hub, plan
        self._left = NEVER  # steps
        self._step: list[Job] = []

    def go_on(self, outcomes: list[Outcome] | None) -> None:
        """Take the next step, given what came of the one before."""
        self._left = min(self._left, ERRANDS_LAST if self.hub.is_closing else NEVER) - 1
        try:
            self._step = self._plan.send(outcomes)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            self._left = 0
        if self._left <= 0:
            self._end()
            return
        self.due = self.hub.clock()
        self.hub.schedule(self)

    def _end(self) -> None:
        self.hub.drop(self)
        self.hub.errand = None

    def jobs(self, now: float) -> list[Job]:  # noqa: ARG002  # as every member's, here and below
        self.due = NEVER
        return self._step

    def receive(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:  # noqa: ARG002  # likewise
        self.go_on(list(outcomes))

    def tick(self, now: float) -> None:  # noqa: ARG002  # likewise
        self._end()

    def after_fork(self) -> None:
        """It is the parent's."""
