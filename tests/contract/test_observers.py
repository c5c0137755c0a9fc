"""Clients of a downstream that cannot report itself: each process that sends to it is a consumer, on both shells."""

from __future__ import annotations

from typing import Any

import pytest

from nexus_redis.testing import ManualClock
from tests.harness.faces import LONG, Opener, Pass
from tests.harness.servers import Server


@pytest.fixture
def timed(clock: ManualClock, open_nexus: Opener, one_server: Server) -> Any:
    """A Nexus that lives by the clock. On one server: what the scripts say is tested on each in `tests/lua`."""
    return open_nexus(one_server)


class Refused(Exception):
    """The downstream has no room for this request."""


class Downstream:
    """Takes `limit` requests a second by the clock, and refuses all others."""

    def __init__(self, clock: ManualClock, limit: float) -> None:
        self.clock, self.limit, self.room, self.at = clock, limit, 5.0, clock.now
        self.answers: list[tuple[float, bool]] = []

    def take(self) -> None:
        now = self.clock.now
        self.room, self.at = min(5 + self.limit / 5, self.room + (now - self.at) * self.limit), now
        is_taken = self.room >= 1
        self.answers.append((now, is_taken))
        if not is_taken:
            raise Refused
        self.room -= 1

    def taken(self, start: float, end: float) -> float:
        """Requests per second."""
        return sum(is_taken for at, is_taken in self.answers if start <= at < end) / (end - start)

    def refused(self, start: float, end: float) -> float:
        """Requests per second."""
        return sum(not is_taken for at, is_taken in self.answers if start <= at < end) / (end - start)


def send(budget: Any, observer: Any, downstream: Downstream) -> None:
    """One request of a client that nobody has helped, as the how-to shows it."""
    budget.acquire()
    try:
        with observer.work():
            downstream.take()
    except Refused:
        pass


def test_an_observer_is_known_at_once(open_nexus: Opener, server: Server) -> None:
    """An observer is known before its first request."""
    budget = open_nexus(server).budget("api")
    with budget.consumer("me", observe=True) as observer:
        budget.acquire()  # what it waits for is a rate, which only this observer can give
        with observer.work():
            pass
        (seen,) = budget.snapshot().consumers
        assert (seen.id, seen.law) == ("me", "aimd")
        assert 0 < seen.capacity <= 20


def test_an_observer_begins_as_given(open_nexus: Opener, server: Server) -> None:
    """A given capacity is where an observer begins."""
    budget = open_nexus(server).budget("api")
    with budget.consumer("me", observe=True, capacity="4000/s", interval=LONG) as observer:
        assert observer.report() == 4000
        assert budget.acquire(500)


def test_an_observer_finds_a_hard_limit(timed: Any, clock: ManualClock) -> None:
    """An observer finds the limit of a downstream that only refuses."""
    budget, downstream = timed.budget("api"), Downstream(clock, 40)
    with budget.consumer(observe=True) as observer:
        began = clock.now
        while clock.now < began + 30:
            send(budget, observer, downstream)
    assert downstream.taken(began + 12, began + 30) > 36
    assert downstream.refused(began + 12, began + 30) < 5


def test_a_resting_observer_gives_way(timed: Any, clock: ManualClock, let_pass: Pass) -> None:
    """An observer that rests gives its rate away, and has it again at once when it is back."""
    budget, downstream = timed.budget("api"), Downstream(clock, 40)
    with budget.consumer(observe=True) as observer:
        began = clock.now
        while clock.now < began + 15:
            send(budget, observer, downstream)
        assert budget.snapshot().rate > 30
        let_pass(60)
        assert budget.snapshot().rate == pytest.approx(0.1)
        back = clock.now
        while clock.now < back + 8:
            send(budget, observer, downstream)
        assert downstream.taken(back + 4, back + 8) > 30


@pytest.mark.parametrize("cost", [1, 3, 5000])
def test_an_observer_begins_soon(timed: Any, clock: ManualClock, let_pass: Pass, cost: float) -> None:
    """An observer begins soon, and again soon after a rest, whatever a request costs."""
    budget = timed.budget("api")
    with budget.consumer(observe=True) as observer:
        for _ in range(2):
            began = clock.now
            for _ in range(30):
                budget.acquire(cost)
                with observer.work(cost):
                    clock.advance(0.02)
            assert clock.now < began + 10
            let_pass(60)
