"""The law `drain` beside queues that hold a fiftieth of a second and more: the figures of docs/laws.md."""

from __future__ import annotations

import pytest

from tests.harness.law_tables import shown
from tests.harness.shelf import BehindOneLock, Found, OnOneCore, Shelf, TakesInside, cells, played, stepped
from tests.lua.test_laws import LUA, LuaConsumer, LuaLaws, composed
from tests.models.laws import Referee

SAMPLE = [  # seconds that the queue holds, the step, (workers, batch, producers), capacity
    (0.25, 3.0, (1, 1, 4), 100),
    (0.2, 0.3, (4, 1, 4), 200),
    (0.1, 1.0, (1, 500, 4), 400),
    (0.1, 1.0, (4, 50, 4), 1000),
    (0.04, 0.3, (8, 1, 16), 500),
    (0.02, 1.0, (1, 1, 4), 1000),
    (2.0, 0.3, (16, 5, 4), 300),
    (10.0, 3.0, (64, 1, 8), 200),
    (0.05, 1.0, (64, 1, 16), 1000),
]
Case = tuple[float, float, tuple[int, int, int], float]


def misses(lua: LuaLaws, case: Case, **also: bool) -> list[Found]:
    """What falls short of: 0.1 % lost and 95 % used, or 1 % and 90 % where the queue holds less than 0.1 s."""
    holds, factor, fleet, capacity = case
    before, after = played(LuaConsumer(lua), holds, factor, fleet, capacity=capacity, **also)
    limits = {True: (0.001, 0.95), False: (0.01, 0.9)}
    found = []
    for each, depth in ((before, holds), (after, holds / factor)):
        lost, used = limits[depth >= 0.1]
        if each.lost > lost or each.used < used:
            found.append(each)
    return found


@pytest.mark.parametrize("case", SAMPLE, ids=str)
def test_a_shallow_queue_is_used(case: Case) -> None:
    """A shallow queue loses next to nothing, and its consumer is used."""
    assert misses(LUA, case) == []


@pytest.mark.parametrize("case", SAMPLE[::3], ids=str)
def test_a_refused_item_does_no_harm(case: Case) -> None:
    """A refused item that is counted as an error does no harm."""
    assert misses(LUA, case, counts_refused=True) == []


@pytest.mark.parametrize(
    ("planted", "instead_of", "case"),
    [
        ("local busy = was.busy_ms and", "local busy = false and", 2),  # no measure at all
        ("(report.busy_ms - was.busy_ms) / 1000", "(report.busy_ms - was.busy_ms) / 900", 0),
        ("follow(m, able, busy, is_urgent)", "m.capacity = math.max(m.capacity, able)", 1),
    ],
)
def test_the_figures_notice_a_planted_bug(planted: str, instead_of: str, case: int) -> None:
    """The figures notice a planted bug."""
    text = composed()
    assert text.count(planted) == 1, planted
    assert misses(LuaLaws(text.replace(planted, instead_of)), SAMPLE[case])


@pytest.mark.slow
def test_spare_rate_absorbs_uneven_work() -> None:
    """What is left unused takes up work of uneven length."""

    def lost(text: str) -> float:
        return played(LuaConsumer(LuaLaws(text)), 0.02, 1.0, (1, 1, 4), capacity=1000, scatter=1.0)[0].lost

    text, unused = composed(), "UNUSED_MOST = 0.002, 0.15,"
    assert text.count(unused) == 1
    assert lost(text) < 0.01
    assert lost(text.replace(unused, "UNUSED_MOST = 0, 0,")) > 0.015


@pytest.mark.parametrize("kind", [Shelf, BehindOneLock, OnOneCore], ids=lambda kind: kind.__name__)
def test_a_partly_used_pool_is_not_flooded(kind: type[Shelf]) -> None:
    """A pool that was partly used is not flooded when all want it.

    Its workers share a lock, or a core: 16 of them do no more than one.
    """

    def demand(t: float) -> float:
        return 280 if t < 30 else 4000

    shelf = kind(LuaConsumer(LUA), lambda _: 400, 0.3, workers=16, seconds=60, demand=demand).run()
    assert shelf.loss(8, 60) < 0.003
    assert shelf.use(33, 60) > 0.97


def test_waiting_workers_can_do_more() -> None:
    """Workers that wait for items at work are found to do more."""
    shelf = TakesInside(LuaConsumer(LUA), stepped(300, 3.0), 0.2, workers=4, seconds=60).run()
    assert shelf.loss(20, 60) < 0.01
    assert shelf.use(25, 60) > 0.85


@pytest.mark.parametrize("workers", [1, 8])
def test_little_demand_keeps_the_capacity(workers: int) -> None:
    """Little demand does not change what is known of the capacity.

    Some work takes longer: a law that believed the fastest of it would flood the queue after a night.
    """

    def demand(t: float) -> float:
        return 180 if t < 10 else 40 if t < 60 else 2000

    shelf = Shelf(
        LuaConsumer(LUA), lambda _: 200, 0.5, workers=workers, seconds=90, scatter=1.0, demand=demand, seed=3
    ).run()
    assert shelf.loss(60, 90) < 0.005
    assert shelf.use(65, 90) > 0.95


@pytest.mark.slow
def test_the_shallow_queues_are_current() -> None:
    """The table of shallow queues is of this law.

    Two cells are run again; the others come from the same command, `python -m tests.harness.shelf --write`.
    """
    assert f"| 0.1 s | {cells(Referee, 0.1, 1.0)} |" in shown("shelf")
