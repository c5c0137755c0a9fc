"""taskiq workers on one budget: in this process, and as their command runs them, with Redis as the broker."""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import Any

import pytest
from taskiq import InMemoryBroker

from nexus_redis.asyncio import Nexus
from nexus_redis.contrib import _texts
from nexus_redis.contrib.taskiq import NexusMiddleware
from nexus_redis.errors import COST, InvalidSetting
from nexus_redis.testing import ManualClock, assert_never_exceeded, clock
from tests.contrib.workers import Workers, noted, operator_sets
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, PATIENCE, run

__all__ = ["clock"]  # the users' own fixture
APP = "tests.contrib.taskiq_app"
RATE = 40


@pytest.mark.slow
def test_two_workers(one_server: Server, workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks of two workers wait for one budget."""
    operator_sets(one_server, rate=0)
    monkeypatch.setenv("NEXUS_REDIS_URL", one_server.url)
    app = importlib.import_module(APP)

    async def send() -> list[Any]:
        tasks = [await app.limited.kiq(number) for number in range(80)]
        free = await app.free.kiq()
        workers.start("taskiq", "worker", f"{APP}:broker", "--workers", "2", "--max-async-tasks", "200")
        await free.wait_result(timeout=LONG_PATIENCE)
        assert noted(one_server, "limited") == []
        operator_sets(one_server, rate=RATE)
        results = [(await task.wait_result(timeout=LONG_PATIENCE)).return_value for task in tasks]
        await app.broker.shutdown()
        await app.nexus.close()
        return results

    try:
        assert run(send()) == list(range(80))
    finally:
        sys.modules.pop(APP)
    log = noted(one_server, "limited")
    assert len(log) == 80
    # Tasks that are served together note it one after the other: a lease of each of the two workers may be late.
    assert_never_exceeded(log, RATE, largest=2 * 0.5 * RATE)


def in_memory(server: Server, body: Any) -> Any:
    """Run `body(broker, budget)` in a loop, with a broker that runs its tasks in this process."""

    async def main() -> Any:
        async with Nexus.from_url(server.url) as nexus:
            budget = nexus.budget("stripe", rate=RATE)
            broker = InMemoryBroker(max_async_tasks=100)
            broker.add_middlewares(NexusMiddleware(budget))
            await broker.startup()
            try:
                return await body(broker, budget)
            finally:
                await broker.wait_all()
                await broker.shutdown()

    return run(main())


def test_rate(one_server: Server, clock: ManualClock) -> None:
    """Limited tasks begin at the rate of the budget, and others at once."""

    async def body(broker: InMemoryBroker, budget: Any) -> None:
        log: list[tuple[float, float]] = []

        @broker.task(budget="stripe", cost=2)
        async def limited() -> None:
            log.append((clock.now, 2.0))

        @broker.task
        async def free() -> int:
            return len(log)

        tasks = [await limited.kiq() for _ in range(40)]
        assert (await (await free.kiq()).wait_result(timeout=PATIENCE)).return_value < 40
        await asyncio.gather(*(task.wait_result(timeout=PATIENCE) for task in tasks))
        assert_never_exceeded(log, RATE, largest=2)
        assert (await budget.snapshot()).granted_total >= 80

    in_memory(one_server, body)


def test_cost(one_server: Server) -> None:
    """The cost that a call gives counts, and a task of cost 0 is free."""

    async def body(broker: InMemoryBroker, budget: Any) -> None:
        @broker.task(budget="stripe", cost=0)
        async def task() -> None:
            return

        await (await task.kiq()).wait_result(timeout=PATIENCE)
        assert not (await budget.snapshot()).exists
        await (await task.kicker().with_labels(cost=8).kiq()).wait_result(timeout=PATIENCE)
        assert (await budget.snapshot()).granted_total >= 8

    in_memory(one_server, body)


def test_cost_function(one_server: Server) -> None:
    """A cost function is called once, where the task is sent."""

    async def body(broker: InMemoryBroker, budget: Any) -> None:
        asked: list[tuple[Any, ...]] = []

        def cost(*names: str, each: int) -> int:
            asked.append(names)
            return len(names) * each

        @broker.task(budget="stripe", cost=cost)
        async def task(*_names: str, each: int) -> None:
            return

        await (await task.kiq("ann", "bob", each=4)).wait_result(timeout=PATIENCE)
        assert asked == [("ann", "bob")]
        assert (await budget.snapshot()).granted_total >= 8
        await (await task.kicker().with_labels(cost=0).kiq("ann", each=400)).wait_result(timeout=PATIENCE)
        assert asked == [("ann", "bob")]  # the label of the call counts

    in_memory(one_server, body)


@pytest.mark.parametrize(
    ("labels", "field", "remedy"),
    [
        ({"budget": "strype"}, "budget", _texts.unknown_budget(["stripe"])),
        ({"budget": "stripe", "cost": -1}, "cost", COST.remedy),
    ],
)
def test_wrong_label(one_server: Server, labels: dict[str, Any], field: str, remedy: str) -> None:
    """A label that cannot be right is refused where the task is sent."""

    async def body(broker: InMemoryBroker, budget: Any) -> None:
        @broker.task(**labels)  # type: ignore[untyped-decorator]  # its overloads know no `Any` labels
        async def task() -> None:
            return

        with pytest.raises(InvalidSetting) as caught:
            await task.kiq()
        assert (caught.value.field, caught.value.remedy) == (field, remedy)

    in_memory(one_server, body)
