"""The line of one producer on one budget: the callers that wait, the oldest first. No I/O.

Callers of this budget alone stand in the order in which they came. A caller of several budgets at once has a `Part` in
each of their lines (multi_acquire.py), and a part has one of three places:

    passing   it lets the callers behind it go first, and is not looked at here
    near      it counts, and the cost before it is within the line's reach: what the budget gives within a refresh
    asleep    it counts too, but the cost before it is beyond the reach, so it need not be looked at yet

All parts of a caller have the same age. So a caller that is before another in one line is before it in all lines that
they share. A line is true where a newcomer would not be the first; passing parts make no difference to that.

Each change costs O(log n), since only the near parts are kept in order. Of the parts asleep, only the oldest is known.
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

LOOKS: Final = 32  # at callers of several budgets, one after the other; then other sessions have a turn
LOOKS_AGAIN: Final = 0.002  # seconds until the next so many
PASSING: Final = 0
NEAR: Final = 1
ASLEEP: Final = 2
SLACK: Final = 2  # times the reach: a near part falls asleep where the cost before it is as much as that
STALE: Final = 4  # entries in the heap for each part asleep, before the heap is rebuilt

ages: Final = count(1)  # of the callers to come; a debt has the age 0, and is before all
_age: Final = attrgetter("age")


class Part(Waiter):
    """A caller of several budgets, as it stands in the line of one of them."""

    __slots__ = ("place",)
    is_part = True

    def __init__(self, cost: int, since: float) -> None:
        super().__init__(cost, since)
        self.place = PASSING

    def consider(self, now: float) -> None:
        """Find the place that the caller now has in each of its lines."""

    def stays(self, now: float) -> bool:
        self.consider(now)
        return self.place != PASSING


class Line:
    """The callers that wait, and the debt."""

    __slots__ = ("_alone", "_alone_cost", "parts")

    def __init__(self) -> None:
        self._alone: OrderedDict[Waiter, None] = OrderedDict()  # a deque whose middle can leave at once
        self._alone_cost = 0
        self.parts: Parts | None = None  # most budgets are never acquired together with others

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
        """Return the callers that want this budget alone, and the debt."""
        return self._alone

    @property
    def count(self) -> int:
        """Return how many callers count."""
        return len(self._alone) + (self.parts.count if self.parts is not None else 0)

    @property
    def cost(self) -> int:
        """Return the micro-tokens that the callers that count want."""
        return self._alone_cost + (self.parts.cost if self.parts is not None else 0)

    @property
    def first(self) -> Waiter | None:
        """Return the oldest caller that counts."""
        alone = next(iter(self._alone), None)
        part = self.parts.first if self.parts is not None else None
        return part if part is not None and (alone is None or part.age < alone.age) else alone

    def join(self, waiter: Waiter) -> None:
        """Add a caller that wants this budget alone."""
        waiter.age = next(ages)
        self._alone[waiter] = None
        self._alone_cost += waiter.cost

    def expect(self, part: Part) -> None:
        """Add a part, which lets others pass for now."""
        self.parts = self.parts or Parts()
        self.parts.all[part] = None

    def let_pass(self, part: Part) -> None:
        """Have a part let others pass from now on."""
        if self.parts is not None:
            self.parts.let_pass(part)

    def owe(self, debt: Waiter) -> None:
        """Add a debt, before all callers."""
        self._alone[debt] = None
        self._alone.move_to_end(debt, last=False)
        self._alone_cost += debt.cost

    def add(self, debt: Waiter, cost: int) -> None:
        """Change a debt by `cost`."""
        debt.cost += cost
        self._alone_cost += cost

    def leave(self, waiter: Waiter) -> None:
        """Take a caller out, served or not."""
        if isinstance(waiter, Part):
            assert self.parts is not None
            self.parts.let_pass(waiter)
            del self.parts.all[waiter]
        else:
            del self._alone[waiter]
            self._alone_cost -= waiter.cost

    def reaches(self, part: Part, reach: float) -> bool:
        """Return whether `part` is near or would be if it counted: less than `reach` micro-tokens are before it."""
        assert self.parts is not None
        return self.parts.reaches(part, reach, self._before(part))

    def wake_within(self, reach: float, now: float, most: int) -> bool:
        """Look at the parts asleep within the reach, `most` of them at most; return whether there may be more."""
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
        """Return the micro-tokens of callers without parts that may be before it."""
        alone = next(iter(self._alone), None)
        return self._alone_cost if alone is not None and alone.age < part.age else 0


class Parts:
    """The parts in one line. `all`: passing or not. `cost`: the micro-tokens of those that count."""

    __slots__ = ("_asleep", "_near", "_sleepers", "all", "cost", "near_cost")

    def __init__(self) -> None:
        self.all: dict[Waiter, None] = {}
        self.cost = self.near_cost = 0
        self._near: list[Part] = []  # by age, all of them older than any part asleep
        self._asleep: list[tuple[int, Part]] = []  # a heap by age; an entry whose part is no longer asleep is stale
        self._sleepers = 0

    @property
    def first(self) -> Part | None:
        """Return the oldest part that counts."""
        if not self._near and (sleeper := self.sleeper) is not None:
            self.wake(sleeper)
        return self._near[0] if self._near else None

    @property
    def sleeper(self) -> Part | None:
        """Return the oldest part asleep: the next to be near."""
        heap = self._asleep
        while heap and heap[0][1].place != ASLEEP:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    @property
    def count(self) -> int:
        """Return how many parts count."""
        return len(self._near) + self._sleepers

    def reaches(self, part: Part, reach: float, before: int) -> bool:
        """Return the same as `Line.reaches`. `before`: the micro-tokens of callers without parts before it."""
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
        """Have a part that let others pass count from now on."""
        self.cost += part.cost
        if is_near or self._is_among_the_near(part):
            self._put_near(part)
        else:
            self._put_to_sleep(part)
        while len(self._near) > 1 and self.near_cost - self._near[-1].cost >= SLACK * reach:
            last = self._near.pop()
            self.near_cost -= last.cost
            self._put_to_sleep(last)

    def wake(self, part: Part) -> None:
        """Make the oldest part asleep near."""
        self._sleepers -= 1
        self._put_near(part)

    def let_pass(self, part: Part) -> None:
        """Have a part that counted let those behind it pass from now on."""
        if part.place == NEAR:
            del self._near[bisect_left(self._near, part.age, key=_age)]
            self.near_cost -= part.cost
        elif part.place == ASLEEP:
            self._sleepers -= 1
        else:
            return
        self.cost -= part.cost
        part.place = PASSING

    def _put_near(self, part: Part) -> None:
        insort(self._near, part, key=_age)
        part.place = NEAR
        self.near_cost += part.cost

    def _put_to_sleep(self, part: Part) -> None:
        part.place = ASLEEP
        self._sleepers += 1
        heapq.heappush(self._asleep, (part.age, part))
        if len(self._asleep) > STALE * self._sleepers + STALE:
            self._asleep = [(each.age, each) for each in {each for _, each in self._asleep if each.place == ASLEEP}]
            heapq.heapify(self._asleep)
