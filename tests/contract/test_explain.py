"""What `explain` and `delete` promise, on both shells and every server."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_redis import Explanation, ServerRefused
from nexus_redis._protocol import explain
from nexus_redis._protocol.damage import damaged
from nexus_redis._protocol.explain import explained
from nexus_redis._protocol.history import HISTORY
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._values import formatting
from nexus_redis._values.identity import whoami
from tests.harness.faces import LONG, Opener
from tests.harness.servers import Server
from tests.harness.support import eventually


@pytest.fixture
def nexus(open_nexus: Opener, server: Server) -> Any:
    return open_nexus(server)


def test_a_budget_explains_its_rate(nexus: Any) -> None:
    """A budget says why its rate is what it is."""
    budget = nexus.budget("es")
    with budget.consumer("es-1", capacity=400, interval=LONG) as consumer:
        consumer.report(load=95)
        why: Explanation = budget.explain()
        assert (why.budget.rate, why.budget.reason) == (100, "load")
        assert why.consumer is not None
        assert why.consumer.id == "es-1"
        assert any(line.endswith(explain.GIVEN.format(law="range", rate="100/s")) for line in why.because)
        assert why.since is not None
        assert why.since >= 0
        newest = why.history[0]
        assert (newest.rate, newest.reason, newest.by) == (100, "load", "report")
        assert newest.age <= why.since + 0.01  # the reason is as old as the consumer, which had no load at first


def test_a_pause_is_named_with_who_and_why(nexus: Any) -> None:
    """A pause is named with the actor and the reason."""
    budget = nexus.budget("stripe", rate=50)
    budget.acquire()
    budget.pause(3600, reason="429")
    why = budget.explain()
    who, how_long = f"Code ({whoami()})", f"for another {formatting.seconds(why.budget.paused_for)}"
    assert why.because[0] == explain.BUDGET_PAUSED.format(who=who, how_long=how_long, why=": 429")
    newest = why.history[0]
    assert (newest.by, newest.who, newest.what, newest.why) == ("code", whoami(), "paused for 3600 s", "429")
    assert str(newest) == f'paused for 60 min by code, {whoami()}: "429"'
    assert (why.budget.pause_by, why.budget.pause_who, why.budget.pause_reason) == ("code", whoami(), "429")


def test_settings_in_code_are_in_the_history(nexus: Any) -> None:
    """The history says who changed a setting in code, and from what value to what value."""
    budget = nexus.budget("stripe", rate=100)
    budget.acquire()
    budget.configure(rate="6/min", burst=None)
    assert [str(event) for event in budget.explain().history] == [
        f"rate 100/s -> 6/min, burst unset by code, {whoami()}",
        f"rate unset -> 100/s by code, {whoami()}",
    ]


def test_the_slowest_consumer_is_named(nexus: Any) -> None:
    """Of several consumers `explain` names the one that holds the budget back, also where one of them pauses."""
    budget = nexus.budget("ingest")
    big, small = (
        budget.consumer(name, capacity=capacity, interval=LONG) for name, capacity in (("big", 1000), ("small", 5))
    )
    with big, small:
        big.report(load=20)
        small.report(load=30)
        big.pause(300)
        why = budget.explain()
        paused, until = explain.CONSUMER_PAUSED.format(id="big", left="|").split("|")
        assert any(line.startswith(paused) and line.endswith(until) for line in why.because)
        assert explain.END_OF_PAUSES in why.remedies
        assert explain.MORE_CAPACITY.format(id="small") in why.remedies
        big.pause(0)
        big.report(load=90)
        small.report(load=95)
        assert budget.explain().consumer.id == "big"  # 500 of its 1,000 are missing, of the other's 5 hardly 4


def test_the_overloaded_consumer_is_named(nexus: Any) -> None:
    """Where work is pushed, the consumer that gets too much is named.

    All work goes to `busy`, which can take 500; `idle` has less to give, is as full, and gets next to nothing.
    """
    budget = nexus.budget("push", law="range", combine="spread")
    busy = budget.consumer("busy", capacity=1000, interval=LONG)
    idle = budget.consumer("idle", capacity=100, interval=LONG)
    with busy, idle:
        for done in (0, 1):
            busy.report(load=90, done=1000 * done)
            idle.report(load=95, done=0)
        why = budget.explain()
        assert why.consumer.id == "busy"
        assert explain.LAW_REMEDIES["range"].format(id="busy") in why.remedies


def test_an_unknown_since_is_left_out(nexus: Any) -> None:
    """The explanation leaves out since when it holds if only a part of the history was read."""
    budget = nexus.budget("stripe", rate=1)
    budget.configure(rate=2)
    assert budget.explain().since is not None
    for rate in range(HISTORY):
        budget.configure(rate=100 + rate)
    why = budget.explain()
    assert (why.since, len(why.history)) == (None, HISTORY)
    assert ", for " not in why.headline


@pytest.mark.parametrize(("is_lossless", "trip", "lease"), [(True, 0.7, "0.5 s"), (False, 1.6, "1.5 s")])
def test_a_too_short_lease_is_explained(nexus: Any, is_lossless: bool, trip: float, lease: str) -> None:
    """A lease that is shorter than the round trip is named."""
    given = {"lossless": True} if is_lossless else {}
    budget = nexus.budget("stripe", rate=50, **given)
    budget.try_acquire()
    near = budget.explain().because
    seen = budget.snapshot()
    assert explained(seen, (), 0.0, trip - 0.3).because == near
    far = explain.FAR_AWAY.format(trip=formatting.seconds(trip), lease=lease)
    assert explained(seen, (), 0.0, trip).because == (*near, far)


@pytest.mark.parametrize(("field", "value"), [("rate_by_code", "nan"), ("level", "abc"), ("paused_until_us", "soon")])
def test_a_damaged_field_is_named(nexus: Any, server: Server, field: str, value: str) -> None:
    """A field that somebody has damaged by hand is named by `snapshot` and by `explain`."""
    budget = nexus.budget("stripe", rate=50)
    budget.acquire()
    server.client().hset("nexus:{stripe}", field, value)
    for call in (budget.snapshot, budget.explain):
        with pytest.raises(ServerRefused) as refused:
            call()
        assert str(refused.value) == str(damaged(BudgetKeys("nexus", "stripe"), "nexus:{stripe}", field, value))


def test_no_budget_is_explained_too(nexus: Any) -> None:
    """A budget that does not exist is explained too."""
    why = nexus.budget("nothing").explain()
    assert why.because == (explain.NO_BUDGET.format(name="nothing"),)
    assert (why.since, why.history) == (None, ())


def test_a_deleted_budget_is_gone(nexus: Any, server: Server) -> None:
    """A deleted budget is gone until it is used again."""
    budget = nexus.budget("stripe", rate=1000)
    other = nexus.budget("other", rate=5)
    budget.acquire()
    other.acquire()
    assert eventually(lambda: nexus.budgets() == ["other", "stripe"])
    assert budget.delete() is True
    client = server.client(decode_responses=True)
    assert not [key for key in client.keys("*") if "{stripe}" in str(key)]
    assert nexus.budgets() == ["other"]
    assert budget.delete() is False
    for _ in range(300):  # what is in hand is spent first
        budget.acquire()
    assert eventually(lambda: bool(budget.acquire()) and budget.snapshot().rate == 1000)
    assert eventually(lambda: bool(budget.acquire()) and nexus.budgets() == ["other", "stripe"])
