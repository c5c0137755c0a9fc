"""Tasks that acquire without waiting let the others of their event loop have a turn, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis.asyncio

from nexus_redis._drivers.turns import TURN
from nexus_redis._values.parse import MICRO
from nexus_redis.asyncio import Budget, Nexus
from tests.harness.support import run

TICK = 1e-5  # seconds that pass each time somebody looks at the clock


class Clock:
    def __init__(self) -> None:
        self.now, self.tick = 1000.0, TICK
        self.longest = 0.0  # between two turns of the loop
        self.turns = 0
        self._before = self.now

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    async def watch(self) -> None:
        """Another task, which wants its turn."""
        while True:
            self.longest = max(self.longest, self.now - self._before)
            self._before = self.now
            self.turns += 1
            await asyncio.sleep(0)


@asynccontextmanager
async def watched(count: int = 1) -> AsyncIterator[tuple[Clock, Nexus, list[Budget]]]:
    """Budgets with tokens for ever, and somebody who watches the loop."""
    clock = Clock()
    nexus = Nexus(redis.asyncio.Redis(port=1), push=False)  # nobody is asked
    nexus._scheduler.clock = clock
    budgets = [nexus.budget(f"b{i}") for i in range(count)]
    for budget in budgets:
        ledger = budget._session.ledger
        ledger.granted = 10**9 * MICRO
        ledger.keep(ledger.granted, 1e9)
    watcher = asyncio.create_task(clock.watch())
    await asyncio.sleep(0)
    clock.turns = 0
    try:
        yield clock, nexus, budgets
    finally:
        watcher.cancel()


async def acquire(nexus: Nexus, budget: Budget) -> None:
    await budget.acquire()


async def acquire_other_costs(nexus: Nexus, budget: Budget) -> None:
    await budget.acquire(1.5)
    await budget.acquire(2.5)


async def try_acquire(nexus: Nexus, budget: Budget) -> None:
    assert await budget.try_acquire()


async def acquire_jointly(nexus: Nexus, budget: Budget) -> None:
    await nexus.acquire({budget: 1})


async def reserve(nexus: Nexus, budget: Budget) -> None:
    async with budget.reserve(1):
        pass


async def pace(nexus: Nexus, budget: Budget) -> None:
    async for _ in budget.pace(range(10)):
        pass


async def pace_what_costs_nothing(nexus: Nexus, budget: Budget) -> None:
    async for _ in budget.pace(range(10), cost=lambda _: 0):
        pass


WAYS: list[Callable[[Nexus, Budget], Coroutine[Any, Any, None]]] = [
    acquire, acquire_other_costs, try_acquire, acquire_jointly, reserve, pace, pace_what_costs_nothing,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_busy_loop_yields_every_5_ms(
    way: Callable[[Nexus, Budget], Awaitable[None]],
) -> None:
    """A loop that never waits lets others have a turn every 5 ms."""

    async def main() -> None:
        async with watched() as (clock, nexus, (budget,)):
            began = clock.now
            for _ in range(3000):
                await way(nexus, budget)
            assert clock.longest <= TURN + 20 * TICK
            assert clock.turns < 3 * (clock.now - began) / TURN  # and not for each: that would cost more than it does

    run(main())


def test_busy_loops_take_turns() -> None:
    """Loops that never wait have their turns one after the other."""

    async def main() -> None:
        async with watched() as (clock, _, (budget,)):
            counts = [0] * 5

            async def loop(i: int) -> None:
                while True:
                    await budget.acquire()
                    counts[i] += 1

            loops = [asyncio.create_task(loop(i)) for i in range(5)]
            while clock.now < 1001:  # noqa: ASYNC110  # it is the loop's turns that are tested
                await asyncio.sleep(0)
            for each in loops:
                each.cancel()
            assert min(counts) > 0.5 * max(counts)

    run(main())


def test_a_thousand_callers_take_many_turns() -> None:
    """A thousand callers that come in one turn are served in many."""

    async def main() -> None:
        async with watched(2) as (clock, nexus, (one, two)):
            clock.tick = 1e-7

            async def work() -> None:
                await nexus.acquire({one: 1, two: 1})
                clock.now += 1e-4

            await asyncio.gather(*(work() for _ in range(1000)))
            assert clock.longest <= TURN + 2e-4 + 1000 * 5 * clock.tick
            assert one._session.ledger.used == two._session.ledger.used == 1000 * MICRO

    run(main())


def test_cancelled_while_yielding() -> None:
    """A caller who is cancelled while it gives way takes no tokens."""

    async def main() -> None:
        async with watched() as (clock, _, (budget,)):

            async def twice() -> None:
                await budget.acquire()
                clock.now += TURN
                await budget.acquire()

            task = asyncio.create_task(twice())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert budget._session.ledger.used == MICRO
            await budget.acquire()

    run(main())
