"""The line of one producer on one budget: who waits there, the oldest first. No I/O.

Callers of this budget alone stand in the order in which they came. A caller of several budgets at once has a `Part` in
each of their lines (joint.py), and a part has one of three places:

    passing   it lets those behind it go first; nobody looks at it here
    near      it counts, and what is before it is no more than the budget gives in a moment (the line's reach)
    asleep    it counts as well, and so much is before it that nobody needs to look at it yet

All parts of a caller have the same age, so whoever is before another in one line is before it in all that they share.
A line is true where a newcomer would not be first; parts that let others pass make no difference to that.

Each change costs O(log n): only the near parts are kept in order, and of the sleepers only the oldest is known.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import chain, count
from operator import attrgetter
from typing import Final

from nexus_redis._core.waiter import Waiter

LOOKS: Final = 32  # at callers of several budgets, one after the other; then somebody else has a turn
LOOKS_AGAIN: Final = 0.002  # seconds
PASSING: Final = 0
NEAR: Final = 1
ASLEEP: Final = 2
SLACK: Final = 2  # a near part falls asleep where the budget reaches less than half as far as it stands
STALE: Final = 4  # entries in the heap for each sleeper, before it is rebuilt

ages: Final = count(1)  # of the next to come; a debt keeps its 0, and is before everybody
_age: Final = attrgetter("age")


class Part(Waiter):
    """One place of a caller who has others."""

    __slots__ = ("place",)
    is_part = True

    def __init__(self, cost: int, since: float) -> None:
        super().__init__(cost, since)
        self.place = PASSING

    def consider(self, now: float) -> None:
        """Look at all lines of the caller, and find the place that it has in each now."""

    def stays(self, now: float) -> bool:
        self.consider(now)
        return self.place != PASSING


class Line:
    """Those who wait."""

    __slots__ = ("_alone", "_alone_cost", "parts")

    def __init__(self) -> None:
        self._alone: OrderedDict[Waiter, None] = OrderedDict()  # a deque whose middle can leave at once
        self._alone_cost = 0
        self.parts: Parts | None = None  # most budgets are never wanted together with others

    def __bool__(self) -> bool:
        return bool(self._alone) or (self.parts is not None and self.parts.cost > 0)

    def __len__(self) -> int:
        return len(self._alone) + (len(self.parts.all) if self.parts is not None else 0)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._alone) if self.parts is None else chain(self._alone, self.parts.all)

    def __contains__(self, waiter: object) -> bool:
        return waiter in self._alone or (self.parts is not None and waiter in self.parts.all)

    @property
    def alone(self) -> Iterable[Waiter]:
        """Those who want this budget alone, and the debt."""
        return self._alone

    @property
    def count(self) -> int:
        """How many count."""
        return len(self._alone) + (self.parts.count if self.parts is not None else 0)

    @property
    def cost(self) -> int:
        """Micro-tokens that those who count want."""
        return self._alone_cost + (self.parts.cost if self.parts is not None else 0)

    @property
    def first(self) -> Waiter | None:
        """The oldest of those who count."""
        alone = next(iter(self._alone), None)
        part = self.parts.first if self.parts is not None else None
        return part if part is not None and (alone is None or part.age < alone.age) else alone

    def join(self, waiter: Waiter) -> None:
        """Somebody comes who wants this budget alone."""
        waiter.age = next(ages)
        self._alone[waiter] = None
        self._alone_cost += waiter.cost

    def expect(self, part: Part) -> None:
        """One comes who wants others too, and lets others pass for now."""
        self.parts = self.parts or Parts()
        self.parts.all[part] = None

    def let_pass(self, part: Part) -> None:
        """It lets others pass from now on."""
        if self.parts is not None:
            self.parts.let_pass(part)

    def owe(self, debt: Waiter) -> None:
        """A debt comes, before everybody."""
        self._alone[debt] = None
        self._alone.move_to_end(debt, last=False)
        self._alone_cost += debt.cost

    def add(self, debt: Waiter, cost: int) -> None:
        """It has become larger, or smaller."""
        debt.cost += cost
        self._alone_cost += cost

    def leave(self, waiter: Waiter) -> None:
        """Somebody goes, served or not."""
        if isinstance(waiter, Part):
            assert self.parts is not None
            self.parts.let_pass(waiter)
            del self.parts.all[waiter]
        else:
            del self._alone[waiter]
            self._alone_cost -= waiter.cost

    def reaches(self, part: Part, reach: float) -> bool:
        """Whether `part` is near, or would be if it counted: what is before it is less than `reach` micro-tokens."""
        assert self.parts is not None
        return self.parts.reaches(part, reach, self._before(part))

    def draw(self, reach: float, now: float, most: int) -> bool:
        """Look at the sleepers that the budget reaches, so many at most; True: there may be more of them."""
        parts = self.parts
        assert parts is not None
        for _ in range(most):
            part = parts.sleeper
            if part is None:
                return False
            before = parts.near_cost + self._before(part)
            if before and before >= reach:
                return False
            parts.wake(part)
            part.consider(now)
        return True

    def _before(self, part: Part) -> int:
        """At most so many micro-tokens are before it beside parts."""
        alone = next(iter(self._alone), None)
        return self._alone_cost if alone is not None and alone.age < part.age else 0


class Parts:
    """The parts in one line. `all`: passing or not; `cost`: of those that count, in micro-tokens."""

    __slots__ = ("_asleep", "_near", "_sleepers", "all", "cost", "near_cost")

    def __init__(self) -> None:
        self.all: dict[Waiter, None] = {}
        self.cost = self.near_cost = 0
        self._near: list[Part] = []  # by age, all of them older than any sleeper
        self._asleep: list[tuple[int, Part]] = []  # a heap by age; where a part is elsewhere by now, it says nothing
        self._sleepers = 0

    @property
    def first(self) -> Part | None:
        """The oldest that counts."""
        if not self._near and (sleeper := self.sleeper) is not None:
            self.wake(sleeper)
        return self._near[0] if self._near else None

    @property
    def sleeper(self) -> Part | None:
        """The oldest that sleeps: the next to be near."""
        heap = self._asleep
        while heap and heap[0][1].place != ASLEEP:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    @property
    def count(self) -> int:
        """How many count."""
        return len(self._near) + self._sleepers

    def reaches(self, part: Part, reach: float, before: int) -> bool:
        """As the line's; `before`: what stands before it beside parts."""
        if part.place == ASLEEP:
            return False
        if part.place != NEAR and not self._is_among_the_near(part):
            if (sleeper := self.sleeper) is not None and sleeper.age < part.age:
                return False
            before += self.near_cost
        return not before or before < reach

    def _is_among_the_near(self, part: Part) -> bool:
        return bool(self._near) and part.age < self._near[-1].age

    def put(self, part: Part, reach: float, *, is_near: bool) -> None:
        """One that let others pass counts from now on."""
        self.cost += part.cost
        if is_near or self._is_among_the_near(part):
            self._draw_near(part)
        else:
            self._lull(part)
        while len(self._near) > 1 and self.near_cost - self._near[-1].cost >= SLACK * reach:
            last = self._near.pop()
            self.near_cost -= last.cost
            self._lull(last)

    def wake(self, part: Part) -> None:
        """The oldest sleeper is near now."""
        self._sleepers -= 1
        self._draw_near(part)

    def let_pass(self, part: Part) -> None:
        """One that counted lets those behind it pass from now on."""
        if part.place == NEAR:
            del self._near[bisect_left(self._near, part.age, key=_age)]
            self.near_cost -= part.cost
        elif part.place == ASLEEP:
            self._sleepers -= 1
        else:
            return
        self.cost -= part.cost
        part.place = PASSING

    def _draw_near(self, part: Part) -> None:
        insort(self._near, part, key=_age)
        part.place = NEAR
        self.near_cost += part.cost

    def _lull(self, part: Part) -> None:
        part.place = ASLEEP
        self._sleepers += 1
        heapq.heappush(self._asleep, (part.age, part))
        if len(self._asleep) > STALE * self._sleepers + STALE:
            self._asleep = [(each.age, each) for each in {each for _, each in self._asleep if each.place == ASLEEP}]
            heapq.heapify(self._asleep)
