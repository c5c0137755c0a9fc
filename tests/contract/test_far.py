"""Far away: whatever the round trip to Redis, the whole budget is used and no more, and no call is made in vain.

In virtual time, on a real server: a batch of calls takes `round_trip` seconds of the clock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from nexus_redis import Nexus
from nexus_redis import asyncio as nexus_asyncio
from nexus_redis._core import registration
from nexus_redis.errors import AcquireTimeout
from nexus_redis.testing import ManualClock, assert_never_exceeded
from tests.harness.servers import Server
from tests.harness.support import join, run

BEGINS = 6.0  # seconds: to find out how far it is, and how much is wanted, takes some round trips
ENDS = 16.0
REFRESH = 0.1
Log = list[tuple[float, float]]


def used(log: Log, rate: float) -> float:
    """Which part of the budget was used once it ran."""
    return sum(tokens for at, tokens in log if BEGINS <= at < ENDS) / (rate * (ENDS - BEGINS))


def judge(log: Log, rate: float, round_trip: float, calls: int) -> None:
    assert used(log, rate) >= 0.97
    assert_never_exceeded(log, rate, lease=0.5 + round_trip)
    assert calls <= 1.3 * log[-1][0] / REFRESH


def in_threads(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    join(*threads)


def claims(server: Server) -> int:
    with server.client() as client:
        stats = client.info("commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "eval"))


@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize(
    ("rate", "round_trip"), [(10, 0.095), (10, 0.5), (100, 0.05), (100, 0.2), (100, 0.5), (3000, 0.095), (3000, 0.35)]
)
def test_a_plain_loop_uses_the_whole_budget(one_server: Server, rate: float, round_trip: float, threads: int) -> None:
    """A plain loop uses the whole budget, however far away Redis is."""
    log: Log = []
    with ManualClock(round_trip=round_trip) as clock, Nexus.from_url(one_server.url) as nexus:
        before, budget = claims(one_server), nexus.budget("stripe", rate=rate)

        def work() -> None:
            while clock.now < ENDS:
                budget.acquire()
                log.append((clock.now, 1.0))

        in_threads(threads, work)
        judge(log, rate, round_trip, claims(one_server) - before)


@pytest.mark.parametrize("tasks", [1, 50])
@pytest.mark.parametrize(("rate", "round_trip"), [(10, 0.3), (100, 0.12), (1000, 0.5)])
def test_an_event_loop_uses_it_too(one_server: Server, rate: float, round_trip: float, tasks: int) -> None:
    """A plain loop in an event loop uses the whole budget too."""
    log: Log = []

    async def main() -> None:
        with ManualClock(round_trip=round_trip) as clock:
            async with nexus_asyncio.Nexus.from_url(one_server.url) as nexus:
                before, budget = claims(one_server), nexus.budget("stripe", rate=rate)

                async def work() -> None:
                    while clock.now < ENDS:
                        await budget.acquire()
                        log.append((clock.now, 1.0))

                await asyncio.gather(*(work() for _ in range(tasks)))
                judge(log, rate, round_trip, claims(one_server) - before)

    run(main())


def test_pace_keeps_the_pace(one_server: Server) -> None:
    """`pace` keeps the pace far away."""
    log: Log = []
    with ManualClock(round_trip=0.4) as clock, Nexus.from_url(one_server.url) as nexus:
        before = claims(one_server)
        for _ in nexus.budget("stripe", rate=50).pace(range(10**6)):
            log.append((clock.now, 1.0))
            if clock.now >= ENDS:
                break
        judge(log, 50, 0.4, claims(one_server) - before)


def test_a_key_uses_the_whole_budget_too(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key, which asks for its parent's settings now and then, uses the whole budget too."""
    monkeypatch.setattr(registration, "READ_EACH", 1.0)  # a claim is not sent along with that question
    log: Log = []
    with ManualClock(round_trip=0.2) as clock, Nexus.from_url(one_server.url) as nexus:
        nexus.budget("stripe", rate=1000).acquire()
        budget = nexus.budget("stripe", key="cust-42", rate=50)
        while clock.now < ENDS:
            budget.acquire()
            log.append((clock.now, 1.0))
        assert not [each for each in budget._session.ledger.flights if each.sent < clock.now - 1]
    assert used(log, 50) >= 0.97
    assert_never_exceeded(log, 50, lease=0.7)


@pytest.mark.parametrize("round_trips", [(0.5, 0.5), (0.0, 0.5), (0.0, 0.1, 0.2, 0.3), (0.3,) * 6])
def test_near_and_far_processes_get_the_same(one_server: Server, round_trips: tuple[float, ...]) -> None:
    """Near and far processes get the same."""
    rate, logs = 120.0, [Log() for _ in round_trips]
    with ManualClock() as clock:
        nexuses = []
        for round_trip in round_trips:
            clock.round_trip = round_trip
            nexuses.append(Nexus.from_url(one_server.url))
        waiting = list(zip(nexuses, logs, strict=True))

        def work() -> None:
            nexus, log = waiting.pop()
            budget = nexus.budget("stripe", rate=rate)
            while clock.now < ENDS:
                budget.acquire()
                log.append((clock.now, 1.0))

        in_threads(len(logs), work)
        for nexus in nexuses:
            nexus.close()
    assert_never_exceeded([entry for log in logs for entry in log], rate, lease=0.5 + max(round_trips))
    parts = [used(log, rate) for log in logs]
    assert sum(parts) >= 0.97
    assert min(parts) >= 0.7 / len(parts)


def test_a_far_try_gets_what_is_there(one_server: Server) -> None:
    """A try is answered after a round trip and gets the tokens that are there."""
    with ManualClock(round_trip=0.4) as clock, Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate="10/min", burst=60)
        clock.advance(60)
        got = 0
        for _ in range(20):
            got += bool(budget.try_acquire())
            clock.advance(6)
        assert got == 20


def test_giving_up_far_away_costs_nothing(one_server: Server) -> None:
    """A caller that gives up in time gets nothing and costs nothing."""
    with ManualClock(round_trip=0.5) as clock, Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=10)
        with pytest.raises(AcquireTimeout):
            budget.acquire(timeout=0.2)
        assert clock.now == pytest.approx(0.2, abs=0.01)
        clock.advance(3)
        assert budget.snapshot().granted_total <= 1 + 1  # and what came for it went back
        assert nexus._scheduler.failures == 0
