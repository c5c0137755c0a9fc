"""The hub of a Nexus: who has calls to make and when, and whether Redis answers. No I/O; loop.py runs it.

All network traffic of a Nexus goes through here; callers wait on local state only. That one decision removes herds,
cancellation in the middle of a socket and convoys on a lock.

Leaving is a call like any other: a member says goodbye after the answer to whatever it has in flight, so nothing that
was granted meanwhile is lost, and no late report brings a consumer back that has gone.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, TypeVar

from nexus_redis._core.reachability import Reach
from nexus_redis._core.round_trips import Exchange
from nexus_redis._core.subscriptions import Channels
from nexus_redis._core.waiter import NEVER, Waiter
from nexus_redis._protocol.plans import DeferredCall, Job, Outcome
from nexus_redis._values.log import log
from nexus_redis.errors import NexusError

T = TypeVar("T")

BATCH: Final = 256  # members a round trip: a thousand budgets due at once must not become one huge reply
SLICE: Final = 64  # steps, after which whoever shares the thread or the lock has a turn: a few milliseconds
BUG_PAUSE: Final = 1.0  # seconds until a member that raised is tried again
STALE_ENTRIES: Final = 4  # a member in the heap, before it is rebuilt


class Member:
    """Something that has calls to make: a producer's account, a consumer's reporter. `due` says when."""

    hub: Hub
    due: float = NEVER
    scheduled: float = NEVER
    is_leaving = False
    is_counted = True  # Redis may know it, or it has something to tell Redis: it is one of the hub's `members`
    overlaps = False  # it may be asked for jobs while others of it have no answer yet

    @property
    def key(self) -> str:
        """The key that its calls are about, which says where they go on a cluster; "" for anywhere."""
        return ""

    @property
    def reach(self) -> Reach:
        """Whether the server that its budget is on answers."""
        return self.hub.reach_of(self)

    def jobs(self, now: float) -> Sequence[Job | DeferredCall]:
        """What to send now; [] for nothing (then `due` has moved on)."""
        raise NotImplementedError

    def receive(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """What came of `jobs`, one by one."""
        raise NotImplementedError

    def receive_late(self, jobs: Sequence[Job], outcomes: Sequence[Outcome], now: float) -> None:
        """What came of jobs after all, that were told to have failed: their answer was overdue."""

    def tick(self, now: float) -> None:
        """Called when due while Redis is away: nothing can be sent."""

    def leave(self, error: NexusError, now: float, leaver: Waiter | None = None) -> None:
        """For good: who waits gets `error`, Redis is told with the next call, then `leaver` is woken."""
        raise NotImplementedError

    def take_in(self, now: float) -> None:
        """Let nothing be spent without being asked, from now on until the next that is."""

    def look(self, now: float) -> None:
        """Something has changed for those who wait, by what became of others."""

    def after_fork(self) -> None:
        """In the child: what is held and who waits are the parent's."""


class Making:
    """Jobs that code which is not ours is asked about; `due`: when their member is due again."""

    __slots__ = ("due", "is_away", "jobs")

    def __init__(self, due: float) -> None:
        self.due = due
        self.jobs: list[Job] | None = None
        self.is_away = False


Aside = Callable[[Callable[[], list[Job]], Callable[[list[Job]], None]], None]


def at_once(make: Callable[[], list[Job]], then: Callable[[list[Job]], None]) -> None:
    """Where there is no other thread that could make them."""
    then(make())


class Hub(Reach):
    """The members, by when they are due, and whether Redis answers. Every method runs under the shell's lock.

    `members` are those that Redis may know or that have something to tell it; the others cost nothing. On a cluster
    `place_of` names the node that a key is on, and each node has a reach of its own: the budgets of one that is down go
    by their outage mode, and those of the others notice nothing.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        wake: Callable[[], None],
        server: str = "",
        new_lock: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        super().__init__()
        self.clock, self._wake, self.server, self.new_lock = clock, wake, server, new_lock
        self.place_of: Callable[[str | Job], str] | None = None
        self.channels = Channels()
        self.aside: Aside = at_once
        self._begin()

    def _begin(self) -> None:
        self.members: set[Member] = set()
        self._heap: list[tuple[float, int, Member]] = []
        self._count = 0
        self._touched: dict[Member, None] = {}
        self._is_looking = False
        self.steps = 0  # taken since others had a turn: a member asked, told or looked at, a place found
        self._making: dict[Member, Making] = {}
        self.errand: Member | None = None  # what is done on nobody's behalf (errand.py)
        self.asleep_until = NEVER
        self.is_closing = False
        self._begin_reach()
        self._reaches: dict[str, Reach] = {"": self}
        self._blocked: dict[Member, None] = {}  # due, and not free

    def reach_of(self, it: Member | Job) -> Reach:
        """The one for the server that a member's budget is on, or that a call goes to: they may be two."""
        if self.place_of is None:
            return self
        place = self.place_of(it.key if isinstance(it, Member) else it)
        reach = self._reaches.get(place)
        if reach is None:
            reach = self._reaches[place] = Reach()
        return reach

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is waited for."""
        return any(reach.on_the_way for reach in self._reaches.values())

    def _is_asking(self, member: Member) -> bool:
        """Whether it waits for an answer, so that it is scheduled again when that is there."""
        return not member.overlaps and any(reach.on_the_way.has(member) for reach in self._reaches.values())

    def after_fork(self) -> None:
        """In the child: nobody is there yet, and whether Redis answers is not known."""
        members = self.members
        self._begin()
        self.channels.clear()
        for member in members:
            member.due = member.scheduled = NEVER
            member.after_fork()

    def schedule(self, member: Member) -> None:
        """Take note of a member's `due`; wakes the loop if that is sooner than it meant to."""
        if member.due < member.scheduled:
            member.scheduled = member.due
            self._count += 1
            if member.is_counted:
                self.members.add(member)
            heapq.heappush(self._heap, (member.due, self._count, member))
            if len(self._heap) > STALE_ENTRIES * (len(self.members) + BATCH):
                self._heap = [entry for entry in self._heap if entry[0] == entry[2].scheduled]
                heapq.heapify(self._heap)
            if member.due < self.asleep_until:
                self.asleep_until = member.due
                self._wake()

    def touch(self, member: Member) -> None:
        """Something was changed for those who wait there: `look_around` looks at it."""
        self._touched[member] = None

    def look_around(self, now: float) -> None:
        """Look at those that were touched, and at those that this touches: one after the other, so nothing nests.

        One touch may lead to all there are, so after a slice of them the rest is left to the loop.
        """
        if self._is_looking:
            return
        self._is_looking = True
        end = self.steps + SLICE
        try:
            while self._touched and self.steps < end:
                member = next(iter(self._touched))
                del self._touched[member]
                self.steps += 1
                guarded(member, now, member.look, now)
        finally:
            self._is_looking = False
        if self._touched and now < self.asleep_until:
            self.asleep_until = now
            self._wake()

    @property
    def is_behind(self) -> bool:
        """There is more to look at."""
        return bool(self._touched)

    def jobs_of(self, member: Member, now: float) -> list[Job]:
        """What a member sends now. What asks code that is not ours is made aside, and sent when it is there.

        That code may take long, and may wait for what only this loop can do; meanwhile the others go on.
        """
        making = self._making.get(member)
        if making is not None and not member.is_leaving:
            if making.jobs is None:  # else it is due because they are there
                making.due = min(making.due, member.due)
            member.due = NEVER
            return self._take_made(member, making)
        self._making.pop(member, None)
        wanted = guarded(member, now, member.jobs, now) or []
        jobs = [job for job in wanted if not isinstance(job, DeferredCall)]
        if len(jobs) == len(wanted):
            return jobs
        making = self._making[member] = Making(member.due)
        member.due = NEVER
        self.aside(lambda: _made(wanted), lambda made: self._note_made(member, making, made))
        making.is_away = making.jobs is None
        return self._take_made(member, making)

    def _take_made(self, member: Member, making: Making) -> list[Job]:
        if making.jobs is None:
            return []
        del self._making[member]
        member.due = making.due
        return making.jobs

    def _note_made(self, member: Member, making: Making, jobs: list[Job]) -> None:
        making.jobs = jobs
        if making.is_away and self._making.get(member) is making:
            making.due, member.due = min(making.due, member.due), self.clock()
            self.schedule(member)

    def drop_made(self, member: Member) -> None:
        """It would be old before it could be sent."""
        self._making.pop(member, None)

    def drop(self, member: Member) -> None:
        """This one has left; it may come back by being scheduled."""
        self.drop_made(member)
        self.members.discard(member)
        member.due = member.scheduled = NEVER

    def close(self, error: NexusError) -> None:
        """Everyone leaves, then the loop ends."""
        now = self.clock()
        for member in list(self.members):
            member.leave(error, now)
        self.is_closing = True
        self._wake()

    def take_in(self) -> None:
        """Nobody serves the members any more: who comes shall notice."""
        now = self.clock()
        for member in self.members:
            member.take_in(now)

    def take_due(self, now: float) -> list[Member]:
        """Those whose time has come, at most a batch."""
        taken: list[Member] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < BATCH:
            due, _, member = heapq.heappop(self._heap)
            if due != member.scheduled:
                continue
            member.scheduled = NEVER
            if member.due > now:
                self.schedule(member)
            elif self.reach_of(member).free_at > now:
                self._blocked[member] = None
            elif not self._is_asking(member):
                taken.append(member)
        return taken

    def unblock(self) -> None:
        """Some may be free by now: those who could not send are looked at again."""
        blocked, self._blocked = self._blocked, {}
        for member in blocked:
            if member.scheduled == NEVER:
                self.schedule(member)

    def next_due(self) -> float:
        """When the loop must look again."""
        due = self._heap[0][0] if self._heap else NEVER
        free = [reach.free_at for reach in self._reaches.values() if reach.on_the_way] if self._blocked else []
        return min(due, *free, *(reach.on_the_way.overdue_at(NEVER) for reach in self._reaches.values()))

    def look_again(self) -> None:
        """An answer came: wake the loop if somebody waited for that, or if it sleeps longer than it must by now."""
        self.unblock()
        due = self.next_due()
        if due < self.asleep_until or self.is_closing:
            self.asleep_until = min(self.asleep_until, due)
            self._wake()

    def take_overdue(self, now: float) -> list[tuple[Reach, Exchange]]:
        """The exchanges that nobody waits for any longer."""
        return [(reach, each) for reach in self._reaches.values() for each in reach.on_the_way.take_overdue(now)]

    def end(self, exchange: Exchange) -> Reach:
        """The outcomes of an exchange are there; the server that it went to."""
        reach = next((each for each in self._reaches.values() if each.on_the_way.has_sent(exchange)), self)
        reach.on_the_way.end(exchange)
        return reach


def _made(jobs: Sequence[Job | DeferredCall]) -> list[Job]:
    try:
        return [job.make() if isinstance(job, DeferredCall) else job for job in jobs]
    except Exception:
        log.exception("a bug where a report is made; the next one is made in its time")
        return []


def guarded(member: Member, now: float, step: Callable[..., T], *args: Any) -> T | None:
    """One member's bug must not stop the others; it tries again in a second."""
    try:
        return step(*args)
    except Exception:
        log.exception("a bug in the part of %r; it goes on in a second", member)
        member.due = now + BUG_PAUSE
        return None
