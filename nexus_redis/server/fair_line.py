"""The callers of one budget in this process: who is next, by priority, weight and order of arrival.

    callers --> [ high:   shop  shop  batch ]  <--tokens--  pool  <--  the line of the process's producer  <--> Redis
                [ normal: ...               ]

Redis sees one producer for all of them. So this line gives each `producer_id` its part. A caller's turn comes by its
*finish*: the finish of the caller of the same id before it, plus its cost divided by the id's weight (self-clocked fair
queueing, Golestani 1994). With weights 2 and 1, of 90 tokens 60 and 30 go to two ids that want more. Classes of
priority are served in their order, but a lower class that waits has about 5 % of what is served.

Who is next is decided when tokens are there, so a caller that comes late may still go before the others. The tokens are
asked for in the name of the callers that are next, as many as the budget serves in a hundredth of a second, those of
one caller at least. So the producer knows that callers wait.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from itertools import count
from typing import Final

from nexus_redis._api.producer import micro_cost
from nexus_redis._values.parse import MICRO
from nexus_redis.asyncio import Budget
from nexus_redis.errors import AcquireTimeout
from nexus_redis.extending import expected_wait, known_rate
from nexus_redis.server.pool import Pool, Taken

CLASSES: Final = ("high", "normal", "low")
LEAST_PART: Final = 0.05  # of what is served, for a class that waits behind others
AHEAD: Final = 0.01  # seconds of the rate that is asked for at once
FORGET_AT: Final = 1_000  # ids beyond those that wait, whose finish is kept


class Place:
    """One caller's place: its cost, when it came, and the future that its tokens are put into."""

    __slots__ = ("came", "cost", "is_gone", "tokens", "turn")

    def __init__(self, cost: float, came: float, turn: asyncio.Future[Taken]) -> None:
        self.cost, self.tokens, self.came, self.turn, self.is_gone = cost, micro_cost(cost), came, turn, False

    @property
    def has_gone(self) -> bool:
        """Return whether its caller waits no more, perhaps since this turn of the event loop."""
        return self.is_gone or self.turn.done()


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
        self._wanted = 0  # micro-tokens that all callers here want
        self._asked: dict[asyncio.Task[None], int] = {}  # micro-tokens that are asked for, by the task that waits
        self._pool = Pool()
        self._timer: asyncio.TimerHandle | None = None
        self._callers = self._told = 0  # callers, and those that the tally counts as ahead of the producer's line

    def take_now(self, cost: float) -> bool:
        """Take `cost` tokens if they are at hand and nobody waits. It is what most callers need, and makes no task."""
        session, tokens = self.budget._session, micro_cost(cost)
        if self.waiting or self.budget._is_closed or session.ledger.held < tokens:
            return False
        return self.budget._spend(cost, tokens, session.scheduler.clock())

    async def acquire(self, who: str, weight: float, priority: str, cost: float, timeout: float) -> Taken:
        """Take `cost` tokens in turn. Raise what `Budget.acquire` raises; a caller that is cancelled takes none."""
        place = Place(cost, self._clock(), asyncio.get_running_loop().create_future())
        self._classes[priority].add(who, weight, place)
        self.waiting[who] += 1
        self._callers += 1
        self._wanted += place.tokens
        self._go_on()
        try:
            async with asyncio.timeout(timeout):
                return await place.turn
        except BaseException as error:
            self._withdraw(place)
            if not isinstance(error, TimeoutError):
                raise
            flow, wait = self.budget.flow, expected_wait(self.budget, cost)
            reason = flow.reason or "" if flow is not None else ""
            self.budget._session.ledger.tally.deny(reason)
            raise AcquireTimeout(self.budget.name, cost, timeout, reason, wait) from None
        finally:
            self._callers -= 1
            self.waiting[who] -= 1
            if not self.waiting[who]:
                del self.waiting[who]
            self._go_on()

    def give_back(self, taken: Taken) -> None:
        """Take back the tokens of a caller that has gone."""
        self._pool.put_back(taken)
        self._go_on()

    def _withdraw(self, place: Place) -> None:
        """Take out a caller that gives up. What it was given in the same turn of the event loop goes back."""
        if not place.turn.done() or place.turn.cancelled():
            place.is_gone = True
            self._wanted -= place.tokens
        elif place.turn.exception() is None:
            self._pool.put_back(place.turn.result())

    def _go_on(self) -> None:
        """Give out the tokens that are there, ask for those that lack, and hand back those that nobody wants."""
        self._give_out()
        self._ask()
        if not self._wanted:
            self._pool.settle()
        ahead = max(0, self._callers - len(self._asked))
        self.budget._session.ledger.tally.ahead += ahead - self._told
        self._told = ahead

    def _give_out(self) -> None:
        while (found := self._next_class()) is not None:
            first = found.first
            assert first is not None
            if first.tokens > self._pool.tokens:
                return
            wait = self._pool.wait(asyncio.get_running_loop().time())
            if wait > 0:
                self._look_in(wait)
                return
            self._charge(found, first.cost)
            self._wanted -= first.tokens
            found.pop().turn.set_result(self._pool.take(first.tokens))

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        self._go_on()

    def _ask(self) -> None:
        """Have as many requests in the producer's line as the callers need, and as there is room for."""
        asked = sum(self._asked.values())
        lacking, room = self._wanted - self._pool.tokens - asked, known_rate(self.budget) * AHEAD * MICRO - asked
        while lacking > 0 and (found := self._next_class()) is not None:
            first = found.first
            assert first is not None
            if self._asked and first.tokens > room:
                return
            self._asked[asyncio.get_running_loop().create_task(self._reserve(first))] = first.tokens
            lacking, room = lacking - first.tokens, room - first.tokens
        while self._asked and lacking + next(reversed(self._asked.values())) <= 0:
            task, tokens = self._asked.popitem()
            lacking += tokens
            task.cancel()

    async def _reserve(self, place: Place) -> None:
        """Wait in the producer's line for as much as a caller wants. Who gets it shows when it comes."""
        task = asyncio.current_task()
        assert task is not None
        reservation = self.budget.reserve(place.cost, None)
        reservation._came = place.came  # the wait is counted from then on
        try:
            await reservation.__aenter__()
        except Exception as error:  # noqa: BLE001  # the caller gets whatever it is
            if not place.has_gone:
                self._wanted -= place.tokens
                place.turn.set_exception(error)
        else:
            ledger = self.budget._session.ledger
            self._pool.add(reservation, asyncio.get_running_loop().time(), ledger.held, is_short=ledger.is_denied)
        finally:
            self._asked.pop(task, None)
        self._go_on()

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
