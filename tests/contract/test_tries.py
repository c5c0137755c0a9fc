"""`try_acquire` beside the limiter it must not be worse than: one bucket in one place, asked for each token.

Both see the same arrivals. On one server and by the manual clock: what the scripts say at which instant is tested on
each server in `tests/lua`.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus_redis import AcquireTimeout, Nexus
from nexus_redis._values.parse import MICRO
from nexus_redis.asyncio import Nexus as AsyncNexus
from nexus_redis.testing import ManualClock
from tests.harness.faces import Opener, Pass, account_of, it_of
from tests.harness.servers import Server

BURST = 0.25  # seconds of the rate, which a budget has unless told
WARM = 3.0  # seconds


@pytest.fixture
def nexus_by_clock(clock: ManualClock, open_nexus: Opener, one_server: Server) -> Any:
    return open_nexus(one_server)


@dataclass
class CentralBucket:
    """One token bucket as it stands in any textbook; it begins with one token, as a budget does."""

    rate: float
    tokens: float = 1.02
    at: float = 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(1 + BURST * self.rate, self.tokens + self.rate * (now - self.at))
        self.at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class Tally:
    """What became of the tries."""

    tries: int = 0
    denied: int = 0
    denied_by_central: int = 0
    calls: int = 0
    reasons: set[str] = field(default_factory=set)


def arrive(clock: ManualClock, budgets: list[Any], rate: float, each: float, seconds: float, let_pass: Pass) -> Tally:
    """Let each budget's process try at Poisson instants, `each` times a second."""
    chance, tally, central = random.Random(7), Tally(), CentralBucket(rate)
    coming = [(chance.expovariate(each), process) for process in range(len(budgets))]
    heapq.heapify(coming)
    began = clock.now
    while coming[0][0] < seconds:
        at, process = heapq.heappop(coming)
        heapq.heappush(coming, (at + chance.expovariate(each), process))
        let_pass(max(0.0, began + at - clock.now))
        answer = budgets[process].try_acquire()
        is_served_there = central.take(at)
        tally.calls = sum(account_of(budget).ledger.seq for budget in budgets)
        tally.tries += 1
        if at < WARM:  # a budget is born by its first try, with one token
            continue
        tally.denied_by_central += not is_served_there
        if not answer:
            tally.denied += 1
            tally.reasons.add(answer.reason)
    return tally


@pytest.mark.parametrize(
    ("count", "each", "rate"),
    [
        (1, 6, 9),
        (1, 30, 20),
        (2, 20, 30),
        (4, 5, 30),
        (8, 0.8, 10),
        (2, 35, 100),
        (12, 2, 30),
        (32, 0.7, 26),
        (6, 3, 12),
    ],
)
def test_tries_equal_one_central_bucket(
    open_nexus: Opener, one_server: Server, clock: ManualClock, let_pass: Pass, count: int, each: float, rate: float
) -> None:
    """A try is denied no more often than by one central bucket."""
    budgets = [open_nexus(one_server).budget("api", rate=rate) for _ in range(count)]
    tally = arrive(clock, budgets, rate, each, 500 / (count * each), let_pass)
    assert tally.denied <= tally.denied_by_central + 0.01 * tally.tries
    assert tally.calls <= 1.02 * tally.tries
    assert tally.reasons <= {"rate", "contended", "learning"}


RATES = st.one_of(st.floats(0.05, 200).map(lambda rate: round(rate, 3)), st.integers(1, 300).map(lambda n: f"{n}/min"))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rate=RATES, part=st.floats(0.02, 1), rest=st.floats(0, 3), seed=st.integers(0, 99))
def test_retry_after_is_kept(one_server: Server, rate: float | str, part: float, rest: float, seed: int) -> None:
    """A try that comes back after its `retry_after` is served."""
    one_server.flush()
    with ManualClock() as clock, Nexus(one_server.client()) as nexus:
        budget = nexus.budget("api", rate=rate)
        budget.try_acquire(0.01)
        depth = account_of(budget).registration.largest_burst / 1e6
        cost = max(0.001, math.floor(1000 * part * depth) / 1000)
        clock.advance(rest)
        chance = random.Random(seed)
        for _ in range(30):
            answer = budget.try_acquire(cost)
            if not answer:
                assert answer.reason not in ("", "ok")
                assert answer.retry_after > 0
                clock.advance(answer.retry_after)
                assert budget.try_acquire(cost), f"told {answer.retry_after} s"
            clock.advance(chance.choice([0, 0, 0.01, 0.2]))


def test_retry_after_is_kept_beside_acquires(one_server: Server) -> None:
    """`retry_after` is kept where the same process acquires as well.

    What its other calls have brought meanwhile counts: the rest is less than the cost.
    """
    with ManualClock() as clock, Nexus(one_server.client()) as nexus:
        budget, chance, count = nexus.budget("api", rate=24), random.Random(3), 0
        budget.try_acquire()
        clock.advance(2)
        for _ in range(300):
            with suppress(AcquireTimeout):
                budget.acquire(chance.choice([1, 2, 3]), timeout=chance.choice([0, 0.01, 0.13]))
            cost = chance.choice([1, 3])
            answer = budget.try_acquire(cost)
            if not answer:
                count += 1
                clock.advance(answer.retry_after + 0.001)
                assert budget.try_acquire(cost), f"the {count}th was told {answer.retry_after} s"
    assert count > 100


def test_a_larger_try_waits_longer(nexus_by_clock: Any, let_pass: Pass) -> None:
    """A larger try after a denied one is told a later time."""
    budget = nexus_by_clock.budget("api", rate="10/s", burst=2)
    let_pass(0.01)
    budget.try_acquire()
    assert budget.try_acquire().retry_after == pytest.approx(0.098, abs=0.002)
    answer = budget.try_acquire(5)
    assert answer.retry_after == pytest.approx(0.498, abs=0.002)
    let_pass(answer.retry_after + 0.001)
    assert budget.try_acquire(5)


def test_many_tries_at_once_are_served(one_server: Server) -> None:
    """Tries of many threads or tasks at one moment are served as far as there are tokens.

    None is sent away because another one's question is on its way.
    """

    async def go() -> list[bool]:
        async with AsyncNexus.from_url(one_server.url) as nexus:
            budget = nexus.budget("api", rate="100/s", burst=10)
            await budget.configure(rate="100/s", burst=10)
            await clock.sleep(0.3)
            return [bool(answer) for answer in await asyncio.gather(*(budget.try_acquire() for _ in range(40)))]

    with ManualClock() as clock:
        served = asyncio.run(go())
    assert served.count(True) == 31  # 1.02 and what 0.3 s have earned
    assert served == sorted(served, reverse=True)


def test_a_timeout_of_0_takes_what_a_try_would(nexus_by_clock: Any, let_pass: Pass) -> None:
    """A timeout of 0 takes what a try would take."""
    budget = nexus_by_clock.budget("api", rate="10/s")
    for _ in range(3):
        assert budget.acquire(timeout=0).cost == 1
        let_pass(2)
    assert budget.acquire(3, timeout=0)
    with pytest.raises(AcquireTimeout) as denied:
        budget.acquire(3, timeout=0)
    assert denied.value.retry_after == pytest.approx(0.25, abs=0.01)
    assert denied.value.reason == "rate"
    with pytest.raises(AcquireTimeout):
        budget.acquire(500, timeout=0)  # more than the bucket holds: it takes a while, and is no mistake


def test_a_new_producer_gets_the_bucket(
    open_nexus: Opener, one_server: Server, clock: ManualClock, let_pass: Pass
) -> None:
    """What the bucket holds goes at once to a producer that is new."""
    open_nexus(one_server).budget("api", rate="60/min", burst=8).acquire()
    let_pass(61)
    first, second = (open_nexus(one_server).budget("api", rate="60/min", burst=8) for _ in range(2))
    began = clock.now
    for _ in range(4):
        first.acquire()
        second.acquire()
    assert clock.now - began < 0.5
    let_pass(70)  # both have left, and come back
    began = clock.now
    for _ in range(8):
        second.acquire()
    assert clock.now - began < 0.5


def test_waiters_go_on_when_a_pause_is_over(
    open_nexus: Opener, one_server: Server, clock: ManualClock, let_pass: Pass
) -> None:
    """Waiters go on when a pause is over."""
    budgets = [open_nexus(one_server).budget("api", rate="100/s") for _ in range(3)]
    for budget in budgets:
        budget.acquire()
    let_pass(1)
    for seconds in (0.05, 0.2, 0.9, 2.5):
        budgets[0].pause(seconds, reason="x-ratelimit-reset")
        began = clock.now
        for budget in budgets:
            budget.acquire()
        assert seconds <= clock.now - began < seconds + 0.12  # a refresh in which the others hear of the pause
        let_pass(0.5)


def test_several_budgets_are_tried_once(nexus_by_clock: Any, let_pass: Pass) -> None:
    """Several budgets at once with a timeout of 0 are tried once each."""
    requests, tokens = nexus_by_clock.budget("requests", rate="10/s"), nexus_by_clock.budget("tokens", rate="100/s")
    wanted = {it_of(requests): 1, it_of(tokens): 20}
    assert nexus_by_clock.acquire(dict.fromkeys(wanted, 1), timeout=0).cost == 2  # nothing is in hand yet
    let_pass(2)
    with pytest.raises(AcquireTimeout) as denied:
        nexus_by_clock.acquire({it_of(requests): 1, it_of(tokens): 50}, timeout=0)
    assert denied.value.budget == "tokens"
    assert denied.value.retry_after is not None
    assert account_of(requests).ledger.used == MICRO  # the token that it had taken already is back
    let_pass(2)
    assert nexus_by_clock.acquire(wanted, timeout=0).cost == 21
