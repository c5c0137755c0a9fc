"""The list of a namespace's budgets names those that are there, and no longer those that were."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

from nexus_redis._drivers.threaded import run_plan
from nexus_redis._protocol import calls
from nexus_redis._protocol.budget_list import LOOKED_AT, ROUNDS, Listed, listed, swept, unlist
from nexus_redis._protocol.keys import BudgetKeys, budgets_key
from nexus_redis._protocol.plans import Job, Outcome
from nexus_redis._redis.faults import failed
from nexus_redis._values.settings import BudgetSettings
from tests.harness.faces import Opener
from tests.harness.servers import Server
from tests.harness.support import eventually

LIST = budgets_key("nexus")
PATIENCE = 60.0


def there(client: Any) -> set[str]:
    return {calls.text(name) for name in client.zrange(LIST, 0, -1)}


def expire(client: Any, pattern: str) -> None:
    """As a week does it."""
    for key in client.scan_iter(pattern, count=1000):
        client.delete(key)


def write(client: Any, name: str, **how: Any) -> None:
    """What a command of the shell does."""
    (outcome,) = run_plan(one(listed("nexus", name, **how)), client)
    run_plan(swept("nexus", outcome), client)


def one(job: Job) -> Generator[list[Job], list[Outcome], list[Outcome]]:
    return (yield [job])


def test_old_names_of_keys_are_swept(open_nexus: Opener, server: Server) -> None:
    """The names of keys that were used once go when other names come."""
    client: Any = server.client()
    nexus = open_nexus(server)
    nexus.budget("ip", rate="100/min").configure(rate="100/min")
    for i in range(60):
        nexus.budget("ip", key=f"10.0.0.{i}").try_acquire()
    assert eventually(lambda: client.zcard(LIST) == 61, within_s=PATIENCE)
    expire(client, "nexus:{ip/*")
    for i in range(12):
        nexus.budget("ip", key=f"11.0.0.{i}").try_acquire()
    alive = {"ip", *(f"ip/11.0.0.{i}" for i in range(12))}
    assert eventually(lambda: len(there(client) - alive) <= 3, within_s=PATIENCE)  # a few may not be chosen for a while
    assert alive <= there(client)
    assert set(nexus.budgets()) == alive == there(client)


def test_the_command_line_sweeps_too(server: Server) -> None:
    """The command line sweeps as well, and leaves the names that others put there."""
    client: Any = server.client()
    for i in range(100):
        write(client, f"gone{i}")
    client.zadd(LIST, {"no name of ours {": 1})
    for i in range(9):
        name = f"there{i}"
        run_plan(one(calls.configure(BudgetKeys("nexus", name), BudgetSettings(rate=5))), client)
        write(client, name)
    assert {"no name of ours {", *(f"there{i}" for i in range(9))} <= there(client)
    assert client.zcard(LIST) <= 14


def test_an_operator_keeps_the_list(server: Server) -> None:
    """The list expires after its budgets, and never where an operator has set something."""
    client: Any = server.client()
    run_plan(one(calls.configure(BudgetKeys("nexus", "a"), BudgetSettings(rate=5))), client)
    write(client, "a")
    assert client.pttl("nexus:{a}") < client.pttl(LIST)
    client.pexpire(LIST, 1000)
    write(client, "a")
    assert client.pttl(LIST) > client.pttl("nexus:{a}")
    write(client, "a", is_kept=True)
    assert client.pttl(LIST) == -1
    write(client, "a")
    assert client.pttl(LIST) == -1
    assert there(client) == {"a"}


def stepped(
    plan: Generator[list[Job], list[Outcome], Any], client: Any, before: dict[int, Callable[[], Any]]
) -> list[int]:
    """Run a plan, and something before one of its steps; how many commands each step had."""
    counts: list[int] = []
    outcomes: list[Outcome] | None = None
    while True:
        try:
            jobs = plan.send(outcomes)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration:
            return counts
        before.get(len(counts), lambda: None)()
        counts.append(len(jobs))
        outcomes = run_plan(many(jobs), client)


def many(jobs: list[Job]) -> Generator[list[Job], list[Outcome], list[Outcome]]:
    return (yield jobs)


@pytest.mark.parametrize("step", [0, 1])
def test_a_reopened_budget_stays_listed(server: Server, step: int) -> None:
    """A budget that is opened while its old name is dropped from the list stays listed."""
    client: Any = server.client()
    client.zadd(LIST, {"a": 1})

    def opens() -> None:
        run_plan(one(calls.configure(BudgetKeys("nexus", "a"), BudgetSettings(rate=5))), client)
        run_plan(one(listed("nexus", "a")), client)

    stepped(swept("nexus", Listed(["a"])), client, {step: opens})
    assert there(client) == {"a"}
    expire(client, "nexus:{a}*")
    stepped(unlist("nexus", ["a"]), client, {0: opens})
    assert there(client) == {"a"}


def test_a_write_costs_little_after_many(server: Server) -> None:
    """Each write costs little, however many budgets have gone."""
    client: Any = server.client()
    client.zadd(LIST, {f"gone{i}": i for i in range(500)})
    counts = stepped(swept("nexus", Listed([f"gone{i}" for i in range(LOOKED_AT)])), client, {})
    assert max(counts) <= LOOKED_AT + 2
    assert sum(counts) <= ROUNDS * (2 * LOOKED_AT + 2)
    assert client.zcard(LIST) <= 500 - (ROUNDS - 1) * LOOKED_AT


def test_a_lost_call_removes_nothing(server: Server) -> None:
    """A call that is lost on the way removes nothing from the list."""
    client: Any = server.client()
    client.zadd(LIST, {"a": 1})
    plan = swept("nexus", Listed(["a", "no name {"]))
    assert len(next(plan)) == 1
    with pytest.raises(StopIteration):
        plan.send([failed(ConnectionError("reset"))])
    with pytest.raises(StopIteration):
        next(swept("nexus", failed(ConnectionError("reset"))))
    plan = unlist("nexus", ["a"])
    next(plan)
    (again,) = plan.send([failed(ConnectionError("reset")), failed(ConnectionError("reset"))])
    assert again.args[4] == "a"
