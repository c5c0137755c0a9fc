"""A session has calls to make, and lives by one plan from its first call to its deregistration. No I/O.

A session's plan is a generator. It yields what it does next, and the scheduler resumes it:

    yields `Rest(until)`        is resumed at that time, or earlier if `wake_at` says so, with whether it may send now
    yields `Send(jobs)`         is resumed with one outcome for each job
    yields a `DeferredCall`     is resumed with the call that a user's code has made, or None if it must wait no longer

It may send only when it was just resumed with True. While Redis is away it is resumed with False instead, at each of
its times and each time that Redis is tried again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.plans import FIRST_BACKOFF, DeferredCall, Job, Outcome, is_unanswered
from nexus_redis.errors import NexusError

if TYPE_CHECKING:
    from nexus_redis._core.reachability import Reachability
    from nexus_redis._core.scheduler import Scheduler


T = TypeVar("T")


class Rest(NamedTuple):
    """The step that does nothing before `until`."""

    until: float = NEVER


class Send(NamedTuple):
    """The step that sends jobs. Where it does not wait for them, it rests next, and `on_answers` takes the outcomes."""

    jobs: list[Job]
    waits: bool = True


Step = Rest | Send | DeferredCall
PartOfLife = Generator[Step, Any, T]
Life = PartOfLife[None]


class Session:
    """A producer, a consumer, or a background plan. The scheduler owns `due` and `scheduled`."""

    scheduler: Scheduler
    is_counted = True  # Redis may know it, or it has something to tell Redis
    is_leaving = False
    sends = True  # its plan makes calls; one that makes none goes on while no more batches may be on their way
    overlaps = False  # it may go on while calls that it does not wait for have no answer yet

    due = NEVER  # when it goes on
    scheduled = NEVER  # when the scheduler looks at it
    life: Life | None = None  # the plan that is running
    waits = False  # the plan waits for outcomes
    is_deferred = False  # the plan waits for a call that a user's code makes

    def live(self) -> Life:
        """Return the plan. After a bug in it, it is begun again from the state that the session has then."""
        raise NotImplementedError

    @property
    def key(self) -> str:
        """The key that its calls are about, which says where they go on a cluster; "" for anywhere."""
        return ""

    @property
    def server(self) -> Reachability:
        """Return the server that its budget is on."""
        return self.scheduler.server_of(self)

    def wake_at(self, time: float) -> None:
        """Go on at that time, if it is earlier than `due`."""
        self.scheduler.wake_at(self, time)

    def on_answers(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """Take the outcomes of jobs that the plan does not wait for."""

    def on_late_answers(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """Take the outcomes of jobs that were overdue, and have been given up as lost."""

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        """Leave for good: callers that wait get `error`, the next call deregisters, then `leaver` is woken."""
        raise NotImplementedError

    def reclaim(self, now: float) -> None:
        """Reclaim cached tokens, so that the next acquire goes through the session."""

    def look(self, now: float) -> None:
        """Look whether callers that wait here can be served, after other sessions have changed."""

    def after_fork(self) -> None:
        """Begin again in a forked child: the tokens held and the callers that wait are the parent's."""


def deregister(session: Session, call: Job, away: Reachability) -> Life:
    """Tell Redis by `call` that a session leaves. Send the call again if it is lost, unless Redis is away."""
    until = session.scheduler.clock()
    outcome: Outcome = None
    while outcome is None or (is_unanswered(outcome) and not away.is_out):
        can_send = yield Rest(until)
        if can_send:
            (outcome,) = yield Send([call])
            # The loop of a scheduler that closes ends when nothing is due.
            until = session.scheduler.clock() + (0.0 if session.scheduler.is_closing else FIRST_BACKOFF)
        elif away.is_out:
            return
        else:
            until = NEVER  # until Redis is tried again
