"""What a budget promises over minutes and hours, on both shells, by the manual clock of the test kit.

On one server: what the scripts say at which instant is tested on each in `tests/lua`.
"""

from __future__ import annotations

import asyncio
import queue
from typing import Any

import pytest

import nexus_redis.asyncio
from nexus_redis import AcquireTimeout
from nexus_redis.testing import ManualClock, assert_never_exceeded
from tests.harness.faces import Opener, Pass, account_of
from tests.harness.servers import Server
from tests.harness.stepping import is_balanced
from tests.harness.support import run

HOUR = 3600


@pytest.fixture
def nexus(clock: ManualClock, open_nexus: Opener, one_server: Server) -> Any:
    return open_nexus(one_server)


def test_twenty_calls_at_sixty_an_hour(nexus: Any, clock: ManualClock) -> None:
    """At sixty an hour, twenty calls take twenty minutes."""
    budget = nexus.budget("reports", rate="60/h")
    log = [(clock.now, 1.0) for _ in budget.pace(range(20))]
    assert clock.now == pytest.approx(19 * 60, abs=2)
    assert_never_exceeded(log, 0.016667, lease=0)  # the rate in whole millionths of a token, as it is kept
    assert is_balanced(account_of(budget))


def test_idle_hours_save_up_one_burst(nexus: Any, clock: ManualClock, let_pass: Pass) -> None:
    """The tokens of hours in which nobody asked are no more than the burst."""
    budget = nexus.budget("stripe", rate="10/s", burst=2)
    budget.acquire()
    let_pass(3 * HOUR)
    began = clock.now
    for _ in range(40):
        budget.acquire()
    assert clock.now - began >= (40 - 20 - 1.02) / 10


def test_an_idle_producer_leaves_and_comes_back(nexus: Any, let_pass: Pass) -> None:
    """An idle producer leaves after a minute, and comes back with the next acquire."""
    budget = nexus.budget("stripe", rate="10/s")
    budget.acquire()
    let_pass(59)
    assert budget.snapshot().producer_count == 1
    let_pass(2)
    assert budget.snapshot().producer_count == 0
    calls = account_of(budget).ledger.seq
    let_pass(HOUR)
    assert account_of(budget).ledger.seq == calls
    budget.acquire()
    assert budget.snapshot().producer_count == 1


def test_a_pause_of_ten_minutes_ends_by_itself(nexus: Any, clock: ManualClock, let_pass: Pass) -> None:
    """A pause of ten minutes ends by itself, and no caller passes before."""
    budget = nexus.budget("stripe", rate="10/s")
    budget.acquire()
    let_pass(1)
    budget.pause(HOUR / 6, reason="429 Retry-After")
    ends = clock.now + HOUR / 6
    with pytest.raises(AcquireTimeout) as late:
        budget.acquire(timeout=60)
    assert late.value.reason == "paused"
    budget.acquire()
    assert ends <= clock.now <= ends + 2


def test_a_key_follows_its_parent_within_a_minute(nexus: Any, let_pass: Pass) -> None:
    """The budget of a key takes over a new setting of its parent within a minute of use."""
    parent = nexus.budget("stripe", rate="10/s")
    customer = nexus.budget("stripe", key="cust-42")
    parent.acquire()
    customer.acquire()
    parent.configure(rate="20/s")
    for _ in range(14):
        let_pass(5)
        customer.acquire()
    assert customer.snapshot().rate == 20


def test_a_late_rate_serves_its_waiters(nexus: Any, clock: ManualClock) -> None:
    """A caller that waits for a budget without a rate is served when the budget gets one, minutes later.

    It used to be refused after 37 s: what it wanted had doubled beyond what a claim may say.
    """
    budget = nexus.budget("late")
    with pytest.raises(AcquireTimeout) as late:
        budget.acquire(timeout=300)
    assert late.value.reason == "unset"
    budget.configure(rate="1/s")
    assert not budget.acquire().degraded
    assert clock.now == pytest.approx(300, abs=3)


def test_a_consumer_keeps_its_rate_for_hours(nexus: Any, let_pass: Pass) -> None:
    """A consumer that says nothing new for hours keeps its rate, and a consumer that leaves takes its rate along."""
    budget = nexus.budget("index")
    with budget.consumer(capacity=400) as consumer:
        consumer.report(load=95)
        let_pass(HOUR / 10)
        assert budget.snapshot().rate == pytest.approx(100)
    let_pass(1)
    assert budget.snapshot().rate == 0


def test_clients_on_one_clock_share(open_nexus: Opener, one_server: Server, clock: ManualClock) -> None:
    """Two clients on one clock are a fleet that shares."""
    budgets = [open_nexus(one_server).budget("stripe", rate="10/s") for _ in range(2)]
    log = []
    for _ in range(300):
        for budget in budgets:
            budget.acquire()
            log.append((clock.now, 1.0))
    assert_never_exceeded(log, "10/s")
    assert clock.now == pytest.approx(60, abs=1.5)


def test_a_watched_queue_keeps_a_set_rate(nexus: Any, clock: ManualClock, let_pass: Pass) -> None:
    """A queue that is only watched does not hold back the rate that is set."""
    budget = nexus.budget("elasticsearch", rate="5000/s")
    with budget.consumer("es-1") as consumer:
        consumer.watch(queue.Queue(maxsize=1000))  # others empty it at once, and say nothing
        let_pass(3)
        began = clock.now
        for _ in range(30):
            budget.acquire(1000)
        assert clock.now - began < 6.5
        assert budget.snapshot().consumers[0].law == "range"
        with consumer.work():
            let_pass(0.05)  # it counts after all, and says so without waiting for its next report
            assert budget.snapshot().consumers[0].law == "drain"


@pytest.mark.parametrize("rate", ["1/d", "10/h", "10/min", "2/s"])
def test_a_denial_tells_the_time(nexus: Any, clock: ManualClock, let_pass: Pass, rate: str) -> None:
    """A denial says when the token will be there."""
    budget = nexus.budget("stripe", rate=rate)
    let_pass(1)
    budget.acquire()
    for _ in range(5):
        denied = budget.try_acquire()
        assert denied.retry_after <= 1 / nexus.budget("stripe").snapshot().rate + 1.01
        for part in (0.8, 0.15):
            let_pass(part * denied.retry_after)
            assert not budget.try_acquire()
        let_pass(0.06 * denied.retry_after)
        assert budget.try_acquire()


@pytest.mark.parametrize(("shared", "own"), [(200, 10), (200, 1)])
def test_tenants_use_all_of_a_shared_budget(one_server: Server, shared: float, own: float) -> None:
    """A hundred tenants beside one shared budget use all that it gives.

    Where their own budgets are the slower ones, they use all that those give.
    """
    log: list[float] = []
    calls: list[int] = []

    async def main() -> None:
        with ManualClock() as clock:
            async with nexus_redis.asyncio.Nexus.from_url(one_server.url) as nexus:
                everybody = nexus.budget("everybody", rate=shared)
                tenants = [nexus.budget("tenant", key=str(i), rate=own) for i in range(100)]

                async def work(tenant: nexus_redis.asyncio.Budget) -> None:
                    while True:
                        await nexus.acquire({everybody: 1, tenant: 1})
                        log.append(clock.now)

                tasks = [asyncio.create_task(work(tenant)) for tenant in tenants]
                await clock.sleep(6)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                calls.append(sum(tenant._session.ledger.seq for tenant in tenants))

    run(main())
    assert calls[0] < 1.5 * len(log)  # what a tenant was given is kept until its turn comes
    used = sum(at > 2 for at in log) / 4  # by then all have been answered once
    assert used > 0.97 * min(shared, 100 * own)
    assert_never_exceeded([(at, 1.0) for at in log], shared)
