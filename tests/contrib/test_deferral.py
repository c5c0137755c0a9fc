"""The due times that one process gives out to work over its budget."""

from __future__ import annotations

import heapq
import unittest.mock
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from nexus_redis import Denied, InvalidSetting, Nexus
from nexus_redis.contrib import _deferral
from nexus_redis.contrib._deferral import HORIZON, LATE, WITHOUT_RATE, Deferral, deferral_for
from nexus_redis.testing import ManualClock, assert_never_exceeded
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


def test_a_crowd_is_spread_over_the_time_that_the_budget_needs_for_it(nexus: Nexus) -> None:
    deferral = Deferral(nexus.budget("stripe", rate=RATE))
    countdowns = [deferral.acquire_or_defer(1, due=None) for _ in range(4 * RATE)]
    waits = [countdown for countdown in countdowns if countdown > 0]
    assert waits == sorted(waits)
    # Alone, it gives out a little more than the rate: eighty tokens take four seconds, less what was there at once.
    assert 0.5 * 4 < waits[-1] < 1.5 * 4


def test_what_is_denied_is_put_off_even_where_nothing_says_for_how_long(nexus: Nexus) -> None:
    """0 would say that it has its tokens, and it would run without."""
    budget = nexus.budget("stripe", rate=RATE)
    with unittest.mock.patch.object(budget, "try_acquire", return_value=Denied(0.0, "rate")):
        assert 0 < Deferral(budget).acquire_or_defer(1, due=None) < 1


def test_two_workers_use_all_of_a_budget_and_no_more(clock: ManualClock, one_server: Server) -> None:
    """A backlog of 400 on 40/s, with a broker that delivers what was put off when its turn has come."""
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


def test_what_is_beyond_the_horizon_comes_back_within_it_and_asks_again(nexus: Nexus) -> None:
    deferral = Deferral(nexus.budget("stripe", rate=RATE))
    countdowns = [deferral.acquire_or_defer(5, due=None) for _ in range(int(2 * HORIZON * RATE / 5))]
    assert max(countdowns) <= HORIZON
    beyond = countdowns[-50:]
    assert len(set(beyond)) == len(beyond)  # not all at the same moment
    assert min(beyond) >= HORIZON / 2


def test_whose_turn_it_is_waits_for_its_token(nexus: Nexus, clock: ManualClock) -> None:
    deferral = Deferral(nexus.budget("stripe", rate=RATE))
    assert [deferral.acquire_or_defer(1, due=clock.now) for _ in range(RATE)] == [0.0] * RATE


def test_who_comes_late_fills_no_slot_but_gets_a_later_turn_or_what_lies_there(
    nexus: Nexus, clock: ManualClock
) -> None:
    budget = nexus.budget("stripe", rate=RATE)
    deferral = Deferral(budget)
    while budget.try_acquire():
        """until nothing lies there"""
    with unittest.mock.patch.object(budget, "acquire", side_effect=AssertionError("it waited")):
        assert deferral.acquire_or_defer(1, due=clock.now - 2 * LATE) > 0

        def is_served() -> bool:
            clock.advance(0.01)
            return deferral.acquire_or_defer(1, due=clock.now - 2 * LATE) == 0.0

        assert eventually(is_served)
    assert clock.now < 2


def test_what_the_bucket_held_before_the_rate_fell_is_put_off_and_does_not_fail(
    nexus: Nexus, clock: ManualClock
) -> None:
    budget = nexus.budget("stripe", rate=100)
    deferral = Deferral(budget)

    def taken() -> float:
        clock.advance(0.1)
        return deferral.acquire_or_defer(10, due=None)

    assert eventually(lambda: taken() == 0.0)
    with Nexus.from_url(nexus.url) as other:  # another release of the code, that opened it last
        other.budget("stripe").configure(rate=5)
    assert eventually(lambda: taken() > 0 and budget.flow is not None and budget.flow.budget_rate == 5)
    assert 0 < deferral.acquire_or_defer(10, due=clock.now - 2 * LATE) <= HORIZON
    with pytest.raises(InvalidSetting, match="above the burst of 26"):  # that never fitted
        deferral.acquire_or_defer(30, due=None)


def test_during_a_pause_turns_begin_where_it_ends(nexus: Nexus, clock: ManualClock) -> None:
    budget = nexus.budget("stripe", rate=RATE)
    deferral = Deferral(budget)
    budget.pause(10)
    first = deferral.acquire_or_defer(1, due=None)
    assert 9 < first <= 10 + WITHOUT_RATE  # what its rate will be then is not known yet
    assert deferral.acquire_or_defer(1, due=clock.now) >= first - 5  # known to be paused: it is not waited for


def test_a_budget_without_a_rate_is_asked_again_soon_but_not_at_once(nexus: Nexus) -> None:
    deferral = Deferral(nexus.budget("stripe"))
    countdowns = [deferral.acquire_or_defer(1, due=None) for _ in range(10)]
    assert min(countdowns) > 1
    assert max(countdowns) < 10


def test_when_redis_is_gone_work_comes_back_later() -> None:
    process = launch("valkey")
    server = Server("valkey", process.port)
    with Nexus.from_url(server.url) as nexus:
        process.stop()
        assert 1 < Deferral(nexus.budget("stripe", rate=RATE)).acquire_or_defer(1, due=None) < 10


def test_a_process_has_one_line_for_each_budget_and_a_child_begins_anew(nexus: Nexus) -> None:
    budget = nexus.budget("stripe", rate=RATE)
    assert deferral_for(budget) is deferral_for(budget)
    _deferral._deferrals.clear()  # as after a fork
    assert deferral_for(budget) is not deferral_for(nexus.budget("other", rate=RATE))
