"""The line in front of a budget: parts by weight, classes by priority, and callers that give up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_redis._core.tally import Tally
from nexus_redis._values.parse import MICRO
from nexus_redis.errors import AcquireTimeout
from nexus_redis.server.fair_line import LEAST_PART, FairLine
from nexus_redis.server.pool import SPREAD, TICK, Pool
from tests.harness.support import run
from tests.harness.virtual_time import run_in_virtual_time


class Slow:
    """A budget that serves its own line one caller at a time, when the test says so."""

    name = "pay"
    flow = None

    def __init__(self, rate: float = 1.0) -> None:
        self._rate = rate
        self._clock = lambda: 0.0
        self._session = SimpleNamespace(ledger=SimpleNamespace(tally=Tally(), held=0, is_denied=False))
        self.line: list[tuple[float, asyncio.Future[None]]] = []
        self.granted = self.returned = 0.0

    def reserve(self, cost: float, timeout: None) -> SlowReservation:  # the line has the deadlines of its callers
        return SlowReservation(self, cost)

    def _seconds_until_served(self, cost: float) -> float:
        return cost

    async def serve(self) -> float:
        """Serve the first caller, and return its cost."""
        while not self.line:  # noqa: ASYNC110  # its callers need some turns of the loop to come here
            await asyncio.sleep(0)
        cost, turn = self.line.pop(0)
        turn.set_result(None)
        for _ in range(6):  # until the next one is in line
            await asyncio.sleep(0)
        return cost


class SlowReservation:
    """A reservation of such a budget."""

    grant = None

    def __init__(self, budget: Slow, cost: float) -> None:
        self._budget, self.cost, self.used = budget, cost, cost

    async def __aenter__(self) -> Self:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self.cost, turn)
        self._budget.line.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if entry in self._budget.line:
                self._budget.line.remove(entry)
            raise
        self._budget.granted += self.cost
        return self

    def settle(self, used: float) -> None:
        """Take back what was not used. The last word counts."""
        self._budget.returned += self.used - used
        self.used = used


async def served(callers: list[tuple[str, float, str, float]], count: int) -> tuple[list[str], FairLine]:
    """Have callers (id, weight, priority, cost) wait, serve some, end the others, and return who was served."""
    budget: Any = Slow()
    line, order = FairLine(budget), list[str]()

    async def call(who: str, weight: float, priority: str, cost: float) -> None:
        await line.acquire(who, weight, priority, cost, 1e6)
        order.append(who)

    tasks = [asyncio.create_task(call(*each)) for each in callers]
    await asyncio.sleep(0)
    for _ in range(count):
        await budget.serve()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return order, line


def test_parts_by_weight() -> None:
    """Of three ids that want more, each gets its part by weight, whoever came first."""
    callers = [(who, weight, "normal", 1.0) for who, weight in (("a", 1.0), ("b", 2.0), ("c", 3.0)) for _ in range(200)]
    order, _ = run(served(callers, 240))
    parts = Counter(order)
    assert abs(parts["a"] - 40) <= 2, parts
    assert abs(parts["b"] - 80) <= 2, parts
    assert abs(parts["c"] - 120) <= 2, parts


def test_parts_by_cost() -> None:
    """An id with large costs gets as many tokens as one with small costs, not as many turns."""
    callers = [("large", 1.0, "normal", 10.0)] * 50 + [("small", 1.0, "normal", 1.0)] * 500
    order, _ = run(served(callers, 220))
    parts = Counter(order)
    assert abs(10 * parts["large"] - parts["small"]) <= 20, parts


def test_a_new_id_does_not_wait_for_all() -> None:
    """An id that comes late goes before the others' backlog, and does not get more for having been away."""

    async def main() -> list[str]:
        budget: Any = Slow()
        line, order = FairLine(budget), list[str]()

        async def call(who: str) -> None:
            await line.acquire(who, 1.0, "normal", 1.0, 1e6)
            order.append(who)

        tasks = [asyncio.create_task(call("early")) for _ in range(100)]
        await asyncio.sleep(0)
        for _ in range(50):
            await budget.serve()
        tasks += [asyncio.create_task(call("late")) for _ in range(20)]
        await asyncio.sleep(0)
        for _ in range(30):
            await budget.serve()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return order[50:]

    order = run(main())
    assert 13 <= order.count("late") <= 16, order


def test_priority_comes_first() -> None:
    """A higher class is served first, and each lower class that waits gets about a twentieth."""
    callers = [(name, 1.0, name, 1.0) for name in ("low", "normal", "high") for _ in range(400)]
    order, _ = run(served(callers, 400))
    parts = Counter(order)
    for name in ("normal", "low"):
        assert 0.8 * LEAST_PART * 400 <= parts[name] <= 1.3 * LEAST_PART * 400, parts
    assert parts["high"] > 340, parts


def test_a_class_alone_gets_all() -> None:
    """A low class that waits alone is served like any other."""
    order, _ = run(served([("a", 1.0, "low", 1.0)] * 20, 20))
    assert len(order) == 20


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
)
def test_a_storm_of_cancels(seed: int, count: int) -> None:
    """Whoever gives up, whenever: nobody is forgotten or served twice, and each token is a caller's or goes back."""
    chance = random.Random(seed)

    async def main() -> None:
        budget: Any = Slow(rate=chance.choice([0.0, 1.0, 100.0]))
        line, ended = FairLine(budget), dict[int, float]()

        async def call(number: int) -> None:
            who, weight, cost = chance.choice("abc"), chance.choice([0.5, 1.0, 3.0]), chance.choice([1.0, 5.0])
            taken = await line.acquire(who, weight, chance.choice(["high", "normal", "low"]), cost, 1e6)
            assert number not in ended
            ended[number] = cost
            if chance.random() < 0.2:  # the caller has gone
                line.give_back(taken)
                ended[number] = 0.0

        tasks = [asyncio.create_task(call(number)) for number in range(count)]
        while not all(task.done() for task in tasks):
            if chance.random() < 0.5:
                chance.choice(tasks).cancel()
            elif budget.line:
                budget.line.pop(0)[1].set_result(None) if not budget.line[0][1].done() else budget.line.pop(0)
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        for _ in range(3):  # requests that nobody needs are cancelled
            await asyncio.sleep(0)
        assert len(ended) == sum(not task.cancelled() for task in tasks)
        assert budget.granted - budget.returned == pytest.approx(sum(ended.values()))
        assert not budget.line
        assert not line.waiting
        assert line._next_class() is None
        assert budget._session.ledger.tally.ahead == 0

    run(main())


def test_a_deadline_in_line() -> None:
    """A caller whose time is over in line gets `AcquireTimeout`, and those behind it go on."""

    async def main() -> None:
        budget: Any = Slow()
        line = FairLine(budget)
        first = asyncio.create_task(line.acquire("a", 1.0, "normal", 1.0, 1e6))
        await asyncio.sleep(0)
        with pytest.raises(AcquireTimeout) as late:
            await line.acquire("b", 1.0, "normal", 2.0, 0.001)
        assert (late.value.budget, late.value.cost) == ("pay", 2.0)
        assert sum(budget._session.ledger.tally.denied.values()) == 1
        behind = asyncio.create_task(line.acquire("c", 1.0, "normal", 1.0, 1e6))
        await asyncio.sleep(0)
        await budget.serve()
        await budget.serve()
        await asyncio.gather(first, behind)

    run(main())


class Lumps(Slow):
    """A budget of 1,000/s whose tokens come many at once, as those of a claim do."""

    def __init__(self) -> None:
        super().__init__(rate=1000.0)
        self._session.ledger.is_denied = True

    async def come(self, tokens: int, each: float) -> None:
        """Let tokens come for ever."""
        while True:
            self._session.ledger.held += tokens * MICRO
            self.hand_out()
            await asyncio.sleep(each)

    def hand_out(self) -> None:
        """Serve the callers in this budget's own line."""
        ledger = self._session.ledger
        while self.line and ledger.held >= self.line[0][0] * MICRO:
            cost, turn = self.line.pop(0)
            if not turn.done():
                ledger.held -= int(cost * MICRO)
                turn.set_result(None)

    def reserve(self, cost: float, timeout: None) -> SlowReservation:
        asyncio.get_running_loop().call_soon(self.hand_out)
        return super().reserve(cost, timeout)


def parts_of_lumps(callers: list[tuple[str, float, str, int]], *, tokens: int = 60, each: float = 0.06) -> Counter[str]:
    """Return what ids got in ten seconds, each with `count` callers that come back a millisecond after their answer."""

    async def main() -> Counter[str]:
        budget: Any = Lumps()
        line, parts = FairLine(budget), Counter[str]()

        async def call(who: str, weight: float, priority: str) -> None:
            while True:
                await line.acquire(who, weight, priority, 1.0, 1e6)
                parts[who] += 1
                await asyncio.sleep(0.001)

        tasks = [asyncio.create_task(budget.come(tokens, each))]
        for who, weight, priority, number in callers:
            tasks += [asyncio.create_task(call(who, weight, priority)) for _ in range(number)]
        await asyncio.sleep(10)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return parts

    return run_in_virtual_time(main())


def test_parts_of_tokens_that_come_at_once() -> None:
    """Ids have their parts by weight though each lump of tokens would serve all callers, and nothing lies idle."""
    parts = parts_of_lumps([("a", 1.0, "normal", 20), ("b", 9.0, "normal", 20)])
    assert parts.total() >= 9_800, parts
    assert 0.85 <= parts["b"] / parts.total() <= 0.92, parts


def test_classes_of_tokens_that_come_at_once() -> None:
    """A higher class goes first though each lump of tokens would serve all callers."""
    parts = parts_of_lumps([("hi", 1.0, "high", 20), ("lo", 1.0, "low", 20)])
    assert parts.total() >= 9_800, parts
    assert 0.04 <= parts["lo"] / parts.total() <= 0.08, parts


def test_few_callers_use_the_whole_rate() -> None:
    """The pace at which tokens are given out costs no rate, however few the callers are."""
    parts = parts_of_lumps([("a", 1.0, "normal", 3)], tokens=100, each=0.1)
    assert parts.total() >= 9_500, parts


def test_tokens_in_plenty_are_given_at_once() -> None:
    """While the budget gives all that is asked for, a caller never waits for the pace."""

    async def main() -> float:
        budget: Any = Lumps()
        budget._session.ledger.is_denied = False
        line = FairLine(budget)
        calls = [line.acquire("a", 1.0, "normal", 1.0, 1e6) for _ in range(50)]
        tasks = [asyncio.create_task(each) for each in calls]
        coming = asyncio.create_task(budget.come(60, 100.0))
        await asyncio.gather(*tasks)
        coming.cancel()
        return asyncio.get_running_loop().time()

    assert run_in_virtual_time(main()) == 0.0


def test_who_is_next_shows_when_tokens_come() -> None:
    """A caller of a higher class goes before those in whose name the tokens were asked for."""

    async def main() -> list[str]:
        budget: Any = Slow()
        line, order = FairLine(budget), list[str]()

        async def call(priority: str) -> None:
            await line.acquire(priority, 1.0, priority, 1.0, 1e6)
            order.append(priority)

        tasks = [asyncio.create_task(call("low"))]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert budget.line
        tasks.append(asyncio.create_task(call("high")))
        await asyncio.sleep(0)
        await budget.serve()
        await budget.serve()
        await asyncio.gather(*tasks)
        return order

    assert run(main()) == ["high", "low"]


def test_plenty_before_makes_nobody_wait() -> None:
    """What was given out while there was plenty does not count against the callers when tokens become short."""
    pool, budget, now = Pool(), Slow(), 0.0
    for turn in range(1_000):
        reservation: Any = SlowReservation(budget, 3.0)
        pool.add(reservation, now, 0, is_short=turn == 999)
        if turn < 999:
            assert pool.wait(now) == 0.0
            pool.take((2 if turn == 0 else 3) * MICRO)  # one token is always left
            now += 0.001
    assert pool.wait(now + TICK) <= SPREAD
