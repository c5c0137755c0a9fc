"""The due times that one process gives out to work over its budget."""

from __future__ import annotations

import heapq
import unittest.mock
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from nexus_redis import Denied, Nexus
from nexus_redis._values import error_texts
from nexus_redis.contrib import _deferral
from nexus_redis.contrib._deferral import HORIZON, LATE, OVERBOOKING, WITHOUT_RATE, Deferral, deferral_for
from nexus_redis.testing import ManualClock, assert_never_exceeded
from tests.harness.refusals import refusal
from tests.harness.servers import Server, launch
from tests.harness.support import eventually

RATE = 20


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[ManualClock]:
    """The time of the budgets and of the due times."""
    with ManualClock() as clock:
        monkeypatch.setattr(_deferral, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: clock.now))
        yield clock


@pytest.fixture
def nexus(clock: ManualClock, one_server: Server) -> Iterator[Nexus]:
    with Nexus.from_url(one_server.url) as nexus:
        yield nexus


def test_spread(nexus: Nexus) -> None:
    """Work that comes at once is spread over the time that the budget needs for it."""
    deferral = Deferral(nexus.budget("stripe", rate=RATE))
    countdowns = [deferral.acquire_or_defer(1, due=None) for _ in range(4 * RATE)]
    waits = [countdown for countdown in countdowns if countdown > 0]
    assert waits == sorted(waits)
    # Alone, a process gives out a little more than the rate: eighty tokens take four seconds, less the first bucket.
    assert 0.5 * 4 < waits[-1] < 1.5 * 4


def test_denied(nexus: Nexus) -> None:
    """Denied work is deferred even where the denial does not say for how long.

    A wait of 0 would say that the work has its tokens, and it would run without them.
    """
    budget = nexus.budget("stripe", rate=RATE)
    with unittest.mock.patch.object(budget, "try_acquire", return_value=Denied(0.0, "rate")):
        assert 0 < Deferral(budget).acquire_or_defer(1, due=None) < 1


def test_two_workers(clock: ManualClock, one_server: Server) -> None:
    """Two workers use the whole budget, and no more.

    A backlog of 400 tasks on 40/s, with a broker that delivers deferred work when it is due.
    """
    with Nexus.from_url(one_server.url) as one, Nexus.from_url(one_server.url) as other:
        workers = [Deferral(nexus.budget("stripe", rate=40)) for nexus in (one, other)]
        messages: list[tuple[float, int, float | None]] = [(0.0, number, None) for number in range(400)]
        log, taken = [], 0
        while messages:
            at, number, due = heapq.heappop(messages)
            clock.advance(max(0.0, at - clock.now))
            taken += 1
            countdown = workers[taken % 2].acquire_or_defer(1, due=due)
            if countdown:
                heapq.heappush(messages, (clock.now + countdown, number, clock.now + countdown))
            else:
                log.append((clock.now, 1.0))
        assert_never_exceeded(log, 40)
        busy = [at for at, _ in log[:300]]  # the last ones run below the full rate, as `_deferral` says
        assert len(busy) / busy[-1] > 0.85 * 40


def test_first_share(nexus: Nexus) -> None:
    """The first share is at most an even part: the answer may not count others that begin at this moment."""
    budget = nexus.budget("stripe", rate=RATE)
    deferral, four = Deferral(budget), SimpleNamespace(producer_count=4)
    with (
        unittest.mock.patch.object(budget, "try_acquire", return_value=Denied(0.0, "rate")),
        unittest.mock.patch.object(budget, "snapshot", return_value=four),
    ):
        _, second, third = [deferral.acquire_or_defer(1, due=None) for _ in range(3)]
    assert third - second == pytest.approx(1 / (OVERBOOKING * RATE / 4))


def test_horizon(nexus: Nexus) -> None:
    """Work beyond the horizon comes back within it, and tries again."""
    deferral = Deferral(nexus.budget("stripe", rate=RATE))
    countdowns = [deferral.acquire_or_defer(5, due=None) for _ in range(int(2 * HORIZON * RATE / 5))]
    assert max(countdowns) <= HORIZON
    beyond = countdowns[-50:]
    assert len(set(beyond)) == len(beyond)  # not all at the same moment
    assert min(beyond) >= HORIZON / 2


def test_due(nexus: Nexus, clock: ManualClock) -> None:
    """Work that is due waits for its token."""
    deferral = Deferral(nexus.budget("stripe", rate=RATE))
    assert [deferral.acquire_or_defer(1, due=clock.now) for _ in range(RATE)] == [0.0] * RATE


def test_late(nexus: Nexus, clock: ManualClock) -> None:
    """Late work does not wait in a slot: it takes tokens that are there, or gets a later due time."""
    budget = nexus.budget("stripe", rate=RATE)
    deferral = Deferral(budget)
    while budget.try_acquire():
        """until no token is left"""
    with unittest.mock.patch.object(budget, "acquire", side_effect=AssertionError("it waited")):
        assert deferral.acquire_or_defer(1, due=clock.now - 2 * LATE) > 0

        def is_served() -> bool:
            clock.advance(0.01)
            return deferral.acquire_or_defer(1, due=clock.now - 2 * LATE) == 0.0

        assert eventually(is_served)
    assert clock.now < 2


def test_rate_fell(nexus: Nexus, clock: ManualClock) -> None:
    """Work whose cost was within the burst before the rate fell is deferred, and does not fail."""
    budget = nexus.budget("stripe", rate=100)
    deferral = Deferral(budget)

    def taken() -> float:
        clock.advance(0.1)
        return deferral.acquire_or_defer(10, due=None)

    assert eventually(lambda: taken() == 0.0)
    with Nexus.from_url(nexus.url) as other:  # another release of the code, which opened the budget last
        other.budget("stripe").configure(rate=5)
    assert eventually(lambda: taken() > 0 and budget.flow is not None and budget.flow.budget_rate == 5)
    assert 0 < deferral.acquire_or_defer(10, due=clock.now - 2 * LATE) <= HORIZON
    never = ("cost", error_texts.above_burst(26))  # this cost was never within the burst
    assert refusal(lambda: deferral.acquire_or_defer(30, due=None)) == never


def test_pause(nexus: Nexus, clock: ManualClock) -> None:
    """During a pause, due times begin at its end."""
    budget = nexus.budget("stripe", rate=RATE)
    deferral = Deferral(budget)
    budget.pause(10)
    first = deferral.acquire_or_defer(1, due=None)
    assert 9 < first <= 10 + WITHOUT_RATE  # the rate after the pause is not known yet
    assert (
        deferral.acquire_or_defer(1, due=clock.now) >= first - 5
    )  # the pause is known, so the work does not wait for its token


def test_without_rate(nexus: Nexus) -> None:
    """Work comes back soon to a budget without a rate, but not at once."""
    deferral = Deferral(nexus.budget("stripe"))
    countdowns = [deferral.acquire_or_defer(1, due=None) for _ in range(10)]
    assert min(countdowns) > 1
    assert max(countdowns) < 10


def test_redis_gone() -> None:
    """While Redis is away, work comes back later."""
    process = launch("valkey")
    server = Server("valkey", process.port)
    with Nexus.from_url(server.url) as nexus:
        process.stop()
        assert 1 < Deferral(nexus.budget("stripe", rate=RATE)).acquire_or_defer(1, due=None) < 10


def test_one_deferral(nexus: Nexus) -> None:
    """A process has one deferral for each budget, and a forked child makes its own."""
    budget = nexus.budget("stripe", rate=RATE)
    assert deferral_for(budget) is deferral_for(budget)
    _deferral._deferrals.clear()  # as after a fork
    assert deferral_for(budget) is not deferral_for(nexus.budget("other", rate=RATE))
