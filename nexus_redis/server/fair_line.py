"""The callers of one budget in this process: who is next, by priority, weight and order of arrival.

    callers --> [ high:   shop  shop  batch ]  --a few at a time-->  the line of the process's producer  --> Redis
                [ normal: ...               ]

Redis sees one producer for all of them. So this line gives each `producer_id` its part. A caller's turn comes by its
*finish*: the finish of the caller of the same id before it, plus its cost divided by the id's weight (self-clocked fair
queueing, Golestani 1994). With weights 2 and 1, of 90 tokens 60 and 30 go to two ids that want more. Classes of
priority are served in their order, but a lower class that waits has about 5 % of what is served.

Only as many callers wait in the process's line as the budget serves in a tenth of a second, one at least. The others
wait here, where a new id may still go before them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from itertools import count
from typing import Final

from nexus_redis._api.producer import micro_cost
from nexus_redis.asyncio import Budget, Reservation
from nexus_redis.errors import AcquireTimeout
from nexus_redis.extending import expected_wait, known_rate

CLASSES: Final = ("high", "normal", "low")
LEAST_PART: Final = 0.05  # of what is served, for a class that waits behind others
AHEAD: Final = 0.1  # seconds of the rate that may wait in the process's line
FORGET_AT: Final = 1_000  # ids beyond those that wait, whose finish is kept


class Place:
    """One caller's place: its cost, and the future that is done when it is its turn."""

    __slots__ = ("cost", "is_gone", "turn")

    def __init__(self, cost: float, turn: asyncio.Future[None]) -> None:
        self.cost, self.turn, self.is_gone = cost, turn, False

    @property
    def has_gone(self) -> bool:
        """Return whether its caller waits no more: it was cancelled, perhaps in this turn of the event loop."""
        return self.is_gone or self.turn.cancelled()


class PriorityClass:
    """The callers of one priority, the first to finish first."""

    def __init__(self) -> None:
        self.credit = 0.0  # tokens that a class before it owes it
        self._heap: list[tuple[float, int, Place]] = []
        self._finish: dict[str, float] = {}  # of the last caller of each id
        self._now = 0.0  # the finish of the caller that was served last
        self._order = count()

    def add(self, who: str, weight: float, place: Place) -> None:
        """Add a caller behind those that finish before it."""
        finish = max(self._now, self._finish.get(who, 0.0)) + place.cost / weight
        self._finish[who] = finish
        heapq.heappush(self._heap, (finish, next(self._order), place))
        if len(self._finish) > 2 * len(self._heap) + FORGET_AT:
            self._finish = {name: time for name, time in self._finish.items() if time > self._now}

    @property
    def first(self) -> Place | None:
        """Return the caller that is next, or None if nobody waits."""
        while self._heap and self._heap[0][2].has_gone:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def pop(self) -> Place:
        """Take the first caller out."""
        self._now, _, place = heapq.heappop(self._heap)
        return place


class FairLine:
    """The line in front of one budget. `waiting` counts the callers that wait, by producer."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self._clock = budget, budget._clock
        self.waiting: Counter[str] = Counter()
        self._classes = {name: PriorityClass() for name in CLASSES}
        self._ahead = 0.0  # tokens that callers in the process's line want

    def take_now(self, cost: float) -> bool:
        """Take `cost` tokens if they are at hand and nobody waits. It is what most callers need, and makes no task."""
        session, tokens = self.budget._session, micro_cost(cost)
        if self.waiting or self.budget._is_closed or session.ledger.held < tokens:
            return False
        return self.budget._spend(cost, tokens, session.scheduler.clock())

    async def acquire(self, who: str, weight: float, priority: str, cost: float, timeout: float) -> Reservation:
        """Take `cost` tokens in turn. Raise what `Budget.acquire` raises; a caller that is cancelled takes none."""
        self.waiting[who] += 1
        try:
            if self._next_class() is None and self._has_room(cost):
                return await self._take(cost, timeout, None)
            loop = asyncio.get_running_loop()
            began, came = loop.time(), self._clock()
            await self._turn(who, weight, priority, cost, timeout)
            return await self._take(cost, max(0.0, timeout - (loop.time() - began)), came)
        finally:
            self.waiting[who] -= 1
            if not self.waiting[who]:
                del self.waiting[who]

    async def _take(self, cost: float, timeout: float, came: float | None) -> Reservation:
        self._ahead += cost
        try:
            reservation = self.budget.reserve(cost, timeout)
            reservation._came = came  # its wait is counted from then on
            return await reservation.__aenter__()
        finally:
            self._leave_line(cost)

    async def _turn(self, who: str, weight: float, priority: str, cost: float, timeout: float) -> None:
        """Wait until it is this caller's turn to wait in the process's line."""
        loop = asyncio.get_running_loop()
        began, place = loop.time(), Place(cost, loop.create_future())
        self._classes[priority].add(who, weight, place)
        tally = self.budget._session.ledger.tally
        tally.ahead += 1
        try:
            async with asyncio.timeout(timeout):
                await place.turn
        except BaseException as error:
            place.is_gone = True
            if place.turn.done() and not place.turn.cancelled():
                self._leave_line(cost)
            if isinstance(error, TimeoutError):
                flow, wait = self.budget.flow, expected_wait(self.budget, cost)
                reason = flow.reason or "" if flow is not None else ""
                tally.deny(reason)
                raise AcquireTimeout(self.budget.name, cost, loop.time() - began, reason, wait) from None
            raise
        finally:
            tally.ahead -= 1
        self._ahead -= cost  # `_take` counts it from here on

    def _leave_line(self, cost: float) -> None:
        """Count a caller out of the process's line, and give their turn to those that there is room for."""
        self._ahead -= cost
        while (found := self._next_class()) is not None:
            first = found.first
            assert first is not None
            if not self._has_room(first.cost):
                return
            self._charge(found, first.cost)
            self._ahead += first.cost
            found.pop().turn.set_result(None)

    def _has_room(self, cost: float) -> bool:
        return self._ahead <= 0 or self._ahead + cost <= known_rate(self.budget) * AHEAD

    def _next_class(self) -> PriorityClass | None:
        """Return the class whose first caller is next: the highest, or a lower one that is owed a caller's cost."""
        waiting = [each for each in self._classes.values() if each.first is not None]
        for each in reversed(waiting[1:]):
            if each.first is not None and each.credit >= each.first.cost:
                return each
        return waiting[0] if waiting else None

    def _charge(self, served: PriorityClass, cost: float) -> None:
        """Note what a class is served. Classes that wait behind it are owed a part of that."""
        is_below = False
        for each in self._classes.values():
            if each is served:
                each.credit, is_below = max(0.0, each.credit - cost), True
            elif is_below:
                each.credit = each.credit + cost * LEAST_PART if each.first is not None else 0.0
