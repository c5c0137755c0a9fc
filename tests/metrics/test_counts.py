"""What a process counts: each acquire once, each token once, and no counter ever falls."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import Any

import pytest

from nexus_redis import AcquireTimeout, Nexus, Unavailable
from nexus_redis._core.tally import OTHER, WAIT_BOUNDS, Tally
from nexus_redis._protocol.keys import BudgetKeys
from tests.harness.faces import Opener, account_of, it_of
from tests.harness.servers import Server
from tests.harness.support import eventually, free_port, join
from tests.metrics.reading import Reading, collector, read


def waits(reading: Reading, budget: str) -> float:
    """How many callers had to wait."""
    found = reading("client_wait_seconds_count", budget=budget)
    assert found is not None
    return found


def tokens(reading: Reading, what: str, budget: str) -> float:
    """The tokens of one kind."""
    found = reading(f"client_{what}_tokens_total", budget=budget)
    assert found is not None
    return found


@pytest.mark.parametrize("costs", [(1,), (1, 2), (0.5,)])
def test_each_acquire_is_counted_once(one_server: Server, open_nexus: Opener, costs: tuple[float, ...]) -> None:
    """Each acquire counts once, whether it came from the cache, the ledger, or after a wait."""
    nexus = open_nexus(one_server)
    budget = nexus.budget("stripe", rate=100_000)
    for i in range(3_000):
        budget.acquire(costs[i % len(costs)])
    found = read(nexus)
    assert found("client_acquires_total", budget="stripe") == 3_000
    assert found("client_local_acquires_total", budget="stripe") == 3_000 - waits(found, "stripe")
    assert 1 <= waits(found, "stripe") < 3_000
    assert tokens(found, "used", "stripe") == 3_000 * sum(costs) / len(costs)


def test_many_threads_lose_no_count(one_server: Server) -> None:
    """Threads that share a budget lose no count, and a reader beside them never sees a counter fall."""
    with Nexus.from_url(one_server.url) as nexus:
        budget, seen = nexus.budget("stripe", rate=1_000_000), collector(nexus)
        readings: list[float] = []

        def take() -> None:
            for _ in range(1_000):
                budget.acquire()

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            readings.append(Reading(seen.collect())("client_acquires_total", budget="stripe") or 0.0)
        assert readings == sorted(readings)
        assert read(nexus)("client_acquires_total", budget="stripe") == 4_000


def test_tokens_add_up_when_a_producer_ends(one_server: Server, open_nexus: Opener) -> None:
    """What was granted was used, handed back or burned, and this can be read when the producer has ended."""
    nexus = open_nexus(one_server)
    budget = nexus.budget("stripe", rate=1_000)
    for _ in range(2):
        with budget.producer() as producer:
            for _ in range(50):
                producer.acquire()
    found = read(nexus)
    assert found("client_acquires_total", budget="stripe") == 100
    assert tokens(found, "used", "stripe") == 100
    assert tokens(found, "granted", "stripe") >= 100
    assert tokens(found, "granted", "stripe") == pytest.approx(
        sum(tokens(found, what, "stripe") for what in ("used", "returned", "burned"))
    )
    assert found("client_held_tokens", budget="stripe") == 0


def test_a_correction_does_not_lower_a_counter(one_server: Server) -> None:
    """Tokens that a reservation gives back do not lower the count of used ones, and are not counted twice."""
    with Nexus.from_url(one_server.url) as nexus:
        budget, seen = nexus.budget("stripe", rate=10_000), collector(nexus)
        with budget.reserve(20) as reservation:
            assert tokens(Reading(seen.collect()), "used", "stripe") == 20
            reservation.settle(5)
            assert tokens(Reading(seen.collect()), "used", "stripe") == 20
        with budget.reserve(30):
            assert tokens(Reading(seen.collect()), "used", "stripe") == 35


def test_keys_share_one_tally(one_server: Server, open_nexus: Opener) -> None:
    """All keys of a budget are one series, and what they did is still there when they are gone."""
    nexus = open_nexus(one_server)
    nexus.budget("stripe", rate=1_000)
    for i in range(20):
        nexus.budget("stripe", key=f"cust-{i}").acquire()
    found = read(nexus)
    assert found.budgets("client_acquires_total") == {"stripe", "stripe/*"}
    assert found("client_acquires_total", budget="stripe/*") == 20
    assert found("client_acquires_total", budget="stripe") == 0


def test_a_key_that_is_unused_has_no_series(one_server: Server, open_nexus: Opener) -> None:
    """A budget without keys has no series for them."""
    nexus = open_nexus(one_server)
    nexus.budget("stripe", rate=1_000).acquire()
    assert read(nexus).budgets("client_acquires_total") == {"stripe"}


def test_denials_are_counted_by_reason(one_server: Server, open_nexus: Opener) -> None:
    """A denied try and a deadline that passed are counted, each with the reason that the caller was told."""
    nexus = open_nexus(one_server)
    budget = nexus.budget("stripe", rate="10/day")
    assert budget.acquire()
    told = Counter(budget.try_acquire().reason for _ in range(2))
    for timeout in (0, 0.01):
        with pytest.raises(AcquireTimeout) as late:
            budget.acquire(timeout=timeout)
        told[late.value.reason] += 1
    with pytest.raises(AcquireTimeout) as late:
        nexus.acquire({it_of(budget): 1}, timeout=0.01)
    told[late.value.reason] += 1
    found = read(nexus)
    assert {reason: found("client_denied_total", budget="stripe", reason=reason) for reason in told} == told
    assert told.total() == 5


def test_what_a_pause_denies_says_paused(one_server: Server, open_nexus: Opener) -> None:
    """A try on a paused budget is counted with that reason."""
    nexus = open_nexus(one_server)
    budget = nexus.budget("mail", rate=100)
    budget.pause()
    assert not budget.try_acquire()
    assert read(nexus)("client_denied_total", budget="mail", reason="paused") == 1


def test_a_strange_reason_is_counted_as_other() -> None:
    """Whatever a stranger publishes as a reason, there are only so many labels."""
    tally = Tally()
    for i in range(1_000):
        tally.deny(f'reason {i}"\n')
    tally.deny("rate")
    assert tally.denied == {OTHER: 1_000, "rate": 1}


def test_a_signal_is_no_acquire(open_nexus: Opener) -> None:
    """A request for a signal that fails is not an acquire that was denied."""
    nexus = open_nexus(f"redis://127.0.0.1:{free_port()}")
    with pytest.raises((AcquireTimeout, Unavailable)), nexus.budget("stripe").producer(timeout=0.001) as producer:
        producer.signal(100)
    with pytest.raises(Unavailable):
        nexus.budget("stripe").signal(100)
    assert not read(nexus).budgets("client_denied_total")


def test_waits_fall_into_their_buckets() -> None:
    """A wait counts in the bucket whose upper bound it does not exceed."""
    tally = Tally()
    for seconds in (0.0, 0.005, 0.006, 1.0, 60.0, 61.0):
        tally.serve(seconds)
    expected = dict.fromkeys((*WAIT_BOUNDS, None), 0) | {0.005: 2, 0.01: 1, 1.0: 1, 60.0: 1, None: 1}
    assert dict(zip((*WAIT_BOUNDS, None), tally.waits, strict=True)) == expected
    assert tally.waited == pytest.approx(122.011)


def test_degraded_grants_are_counted(open_nexus: Opener) -> None:
    """What the outage mode admits is counted, and Redis counts as down."""
    nexus = open_nexus(f"redis://127.0.0.1:{free_port()}")
    with nexus.budget("stripe").producer(on_outage="open") as producer:
        assert producer.acquire().degraded
        found = read(nexus)
        assert found("client_degraded_grants_total", budget="stripe") == 1
        assert found("client_acquires_total", budget="stripe") == 1
        assert found("up") == 0


def test_callers_that_wait_are_shown(one_server: Server) -> None:
    """As many callers wait as wait, and none when they have been served."""
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=100)
        budget.acquire()
        budget.pause()
        threads = [threading.Thread(target=budget.acquire) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: read(nexus)("client_waiting", budget="stripe") == 3)
        budget.resume()
        join(*threads)
        assert read(nexus)("client_waiting", budget="stripe") == 0


def test_a_push_is_heard_and_timed(one_server: Server, open_nexus: Opener) -> None:
    """A process that listens counts the messages and knows how late it hears them."""
    nexus = open_nexus(one_server)
    budget = nexus.budget("stripe", rate=1_000)

    def has_lag() -> bool:
        budget.acquire()
        return read(nexus)("client_push_lag_seconds") is not None

    assert eventually(has_lag)
    assert (read(nexus)("client_push_lag_seconds") or -1) >= 0
    channel = BudgetKeys("nexus", "stripe").flow
    assert one_server.client().publish(channel, "no message of ours") == 1
    assert read(nexus)("client_push_messages_total") == 0
    budget.configure(rate=10)
    assert eventually(lambda: read(nexus)("client_push_messages_total") == 1)


def test_a_forked_child_counts_for_itself(one_server: Server) -> None:
    """A forked child begins at zero: its parent exports what happened before."""
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=1_000)
        with budget.producer() as producer:
            producer.acquire()
        budget.acquire()
        pid = os.fork()
        if not pid:
            found: Any = None
            try:
                budget.acquire()
                found = read(nexus)("client_acquires_total", budget="stripe")
            finally:
                os._exit(0 if found == 1 else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert read(nexus)("client_acquires_total", budget="stripe") == 2


def test_a_closed_nexus_can_be_read(one_server: Server, open_nexus: Opener) -> None:
    """The counts outlive the Nexus, which counts as down, and reading them asks Redis nothing."""
    nexus = open_nexus(one_server)
    nexus.budget("stripe", rate=1_000).acquire()
    nexus.close()
    for options in ({}, {"fleet": True}):
        found = read(nexus, **options)
        assert found("client_acquires_total", budget="stripe") == 1
        assert found("up") == 0


def test_a_ledger_is_added_up_once(one_server: Server, open_nexus: Opener) -> None:
    """A producer that leaves and comes back counts on: nothing twice, and nothing is lost."""
    nexus = open_nexus(one_server)
    budget = nexus.budget("stripe", rate=1_000)
    budget.acquire()
    ledger = account_of(budget).ledger
    for _ in range(3):
        ledger.add_up()
    budget.acquire()
    found = read(nexus)
    assert found("client_acquires_total", budget="stripe") == tokens(found, "used", "stripe") == 2
