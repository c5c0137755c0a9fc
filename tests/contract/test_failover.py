"""A primary that dies or stands still, and slots that move while a fleet claims: the bound holds, and it goes on.

What benchmarks/failover.py prints, asserted; in `make soak`, but for what takes a second or two.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

import nexus_redis
from benchmarks.failover import FAILOVER_BOUND, RATE, Outcome, cluster_failover, moving, sentinel_failover, slots_move
from tests.harness.faces import Opener
from tests.harness.fleets import ClusterFleet
from tests.harness.servers import binary
from tests.harness.support import eventually, row

KINDS = [
    pytest.param(kind, marks=pytest.mark.skipif(binary(kind) is None, reason=f"no server binary of {kind}"))
    for kind in ("valkey", "redis7")
]


def holds(outcome: Outcome) -> bool:
    """The times are of notes, which a process that is stopped writes late: a tenth of a second of one in eight."""
    return outcome.worst <= outcome.bound + RATE / 80


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fail_over", [cluster_failover, sentinel_failover])
def test_a_fleet_survives_a_failover(fail_over: Any, kind: str) -> None:
    """After a failover the fleet goes on, and the bound holds."""
    outcome = fail_over(kind)
    note = f"next new grant after {outcome.seconds_to_new_grant:.1f} s"
    row(f"{fail_over.__name__.replace('_', ' ')}, {kind}, R {RATE}", outcome.worst, outcome.bound, note)
    assert outcome.bound == FAILOVER_BOUND
    assert holds(outcome)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_moving_slots_cost_only_time(kind: str) -> None:
    """Slots that move all the time cost nothing but time."""
    outcome, moves = slots_move(kind)
    row(f"a slot moved in a loop, {kind}, R {RATE}", outcome.worst, outcome.bound, f"{moves} moves")
    assert moves > 20
    assert holds(outcome)


@pytest.fixture
def replicated() -> Iterator[ClusterFleet]:
    fleet = ClusterFleet("valkey", replicas=1, silence=1.0)
    yield fleet
    fleet.stop()


def names(fleet: ClusterFleet) -> dict[int, str]:
    """A budget's name for each primary, by its port."""
    found: dict[int, str] = {}
    for i in range(100):
        found.setdefault(fleet.owner(f"nexus:{{stripe-{i}}}").port, f"stripe-{i}")
    return found


@pytest.fixture
def own_cluster() -> Iterator[ClusterFleet]:
    fleet = ClusterFleet("valkey")
    yield fleet
    fleet.stop()


def goes_on(producer: Any, before: int) -> bool:
    """It is granted more, and not by its outage mode."""
    return not producer.acquire().degraded and producer.flow.granted_total > before


@pytest.mark.parametrize(
    "end",
    [
        signal.SIGKILL,
        # A node that hangs is noticed by the limit on a call, and no other node may hang meanwhile.
        pytest.param(signal.SIGSTOP, marks=[pytest.mark.soak, pytest.mark.hurried]),
    ],
)
def test_a_dead_node_stops_its_own_budgets(open_nexus: Opener, own_cluster: ClusterFleet, end: signal.Signals) -> None:
    """A node that is down or hangs stops its own budgets only."""
    nexus = open_nexus(own_cluster.url)
    budgets = {port: nexus.budget(name, rate=1000) for port, name in names(own_cluster).items()}
    producers = {port: budget.producer(on_outage="open") for port, budget in budgets.items()}
    assert len(producers) == 3
    for producer in producers.values():
        producer.acquire()
    lost = own_cluster.primaries[0]
    assert lost.pid is not None
    os.kill(lost.pid, end)
    try:
        own = producers.pop(lost.port)
        assert eventually(lambda: own.acquire().degraded)
        for port, producer in producers.items():
            before = budgets[port].snapshot().granted_total
            assert eventually(partial(goes_on, producer, before))
            assert not any(producer.acquire().degraded for _ in range(500))
    finally:
        if end == signal.SIGSTOP:
            os.kill(lost.pid, signal.SIGCONT)
    if end == signal.SIGSTOP:
        assert eventually(lambda: not own.acquire().degraded)


@pytest.mark.slow
def test_a_promoted_replica_serves_its_budgets(open_nexus: Opener, replicated: ClusterFleet) -> None:
    """A replica that takes over serves the budgets of its primary, and the listeners of these budgets."""
    name, primary = "stripe", replicated.owner("nexus:{stripe}")
    producer = open_nexus(replicated.url).budget(name, rate=1000).producer(on_outage="closed")
    producer.acquire()
    replicated.kill(primary)
    assert eventually(lambda: replicated.owner(f"nexus:{{{name}}}") is not primary)
    assert eventually(producer.try_acquire)
    with nexus_redis.Nexus.from_url(replicated.url) as operator:
        operator.budget(name).pause(60)
        assert eventually(lambda: not producer.try_acquire() and producer.flow.reason == "paused")


def test_a_moved_slot_is_followed(open_nexus: Opener, own_cluster: ClusterFleet) -> None:
    """A slot that moves while a budget of it is used is followed."""
    budget = open_nexus(own_cluster.url).budget("stripe", rate=1000)
    budget.acquire()
    with moving(own_cluster, "nexus:{stripe}") as moves:
        assert eventually(lambda: budget.acquire() and moves[0] >= 6 and budget.snapshot().granted_total > 100)
