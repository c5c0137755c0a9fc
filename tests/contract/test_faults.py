"""Real servers, a real network that fails, and what is promised all the same."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from nexus_redis import AcquireTimeout, Denied, NexusError, ServerRefused, Unavailable
from nexus_redis._core import outage as outage_mode
from nexus_redis._core.outage import SHORTEST_PAUSE
from nexus_redis._drivers import tasks, threaded
from nexus_redis._redis import pubsub
from nexus_redis._values import log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis.testing import ManualClock
from tests.harness.accounting import agree, granted_by, spent
from tests.harness.chaos import Proxy
from tests.harness.faces import Opener, Pass, account_of
from tests.harness.logged import logged
from tests.harness.servers import Server, launch
from tests.harness.support import PATIENCE, eventually, in_thread, join


@pytest.fixture
def server(one_server: Server) -> Server:
    """What is about the network and the client is seen on one server."""
    return one_server


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


def out(it: Any) -> bool:
    """Does the loop of this budget know that Redis is away?"""
    return bool(account_of(it).scheduler.is_out)


# --- one reply, one connection


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_a_lost_reply_charges_once(
    open_nexus: Opener, server: Server, proxy: Proxy, given_up: list[object], nth: int
) -> None:
    """A reply that is lost charges nothing twice."""
    proxy.swallow(nth)
    producer = open_nexus(proxy.url).budget("stripe", rate=500).producer("web")
    for _ in range(20):
        producer.acquire()
    producer.close()
    assert proxy.swallowed == 1
    assert agree(server, account_of(producer), given_up)
    assert account_of(producer).ledger.used == 20 * MICRO


def test_lost_replies_only_cost_tokens(open_nexus: Opener, server: Server, proxy: Proxy) -> None:
    """Replies that are lost all the time cost tokens and never make any."""
    producer = open_nexus(proxy.url).budget("stripe", rate=500).producer("web")
    producer.acquire()
    proxy.loss = 0.15
    for _ in range(40):
        producer.acquire()
    proxy.loss = 0.0
    producer.close()
    assert proxy.swallowed > 1
    assert spent(account_of(producer)) <= granted_by(server)  # a claim that was given up has burned at the server


def test_a_reset_connection_is_made_again(
    open_nexus: Opener, server: Server, proxy: Proxy, given_up: list[object]
) -> None:
    """A connection that was reset is made again."""
    producer = open_nexus(proxy.url).budget("stripe", rate=500).producer("web")
    for i in range(100):
        if i % 30 == 10:
            proxy.reset()
        producer.acquire()
    producer.close()
    assert agree(server, account_of(producer), given_up)


def test_a_slow_network_balances(open_nexus: Opener, server: Server, proxy: Proxy, given_up: list[object]) -> None:
    """On a slow network both sides agree on the tokens too."""
    proxy.latency = 0.02
    producer = open_nexus(proxy.url).budget("stripe", rate=1000).producer("web")
    for _ in range(120):
        producer.acquire()
    producer.close()
    assert agree(server, account_of(producer), given_up)


# --- scripts and state


def test_forgotten_scripts_are_sent_again(open_nexus: Opener, server: Server) -> None:
    """Scripts that the server forgets are sent again."""
    producer, client = open_nexus(server).budget("stripe", rate=500).producer("web"), server.client()
    for i in range(100):
        if i % 5 == 0:
            client.script_flush()
        producer.acquire()
    producer.close()
    assert granted_by(server) == spent(account_of(producer))


def test_a_budget_opens_before_its_first_claim(
    clock: ManualClock, open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """The budget is opened before the first claim, whichever script the server knows."""
    open_nexus(server).budget("other", rate=500).acquire()
    for name in ("configure", "claim"):
        client = server.client()
        client.script_flush()
        warm = open_nexus(server).budget(f"warm-{name}")
        if name == "claim":
            warm.try_acquire()  # now claim is known, and configure is not
        else:
            warm.configure(rate=5)
        caplog.clear()
        assert open_nexus(server).budget(f"new-{name}", rate=500).acquire(timeout=0.9)
        assert not logged(caplog, log_texts.NO_RATE)


@pytest.mark.parametrize("timeout", [None, 0])
def test_a_first_try_needs_no_settings(
    clock: ManualClock, open_nexus: Opener, server: Server, timeout: float | None
) -> None:
    """A first try is served where the server knows the claim script and not the settings script."""
    server.client().script_flush()
    open_nexus(server).budget("warm").try_acquire()
    budget = open_nexus(server).budget("new", rate=500)
    assert budget.try_acquire() if timeout is None else budget.acquire(timeout=timeout)


def test_lost_state_is_opened_again(open_nexus: Opener, server: Server) -> None:
    """A budget whose state is lost is opened again with the settings in code."""
    budget = open_nexus(server).budget("stripe", rate=500, burst=0.5)
    budget.acquire()
    birth = budget.snapshot().birth
    server.client().flushall()
    assert eventually(lambda: budget.acquire() and budget.snapshot().birth not in ("", birth))
    assert budget.snapshot().settings == {"rate": ("500", "code"), "burst": ("0.5", "code")}
    assert eventually(lambda: budget.acquire() is not None and "stripe" in server_names(server))


def server_names(server: Server) -> list[str]:
    client: Any = server.client(decode_responses=True)
    names: list[str] = client.zrange("nexus:budgets", 0, -1)
    return names


def test_lost_state_gives_one_extra_token(timed: Any, server: Server) -> None:
    """A budget whose state is lost gives one token beyond the leases."""
    budget = timed.budget("stripe", rate="1/h")
    assert budget.acquire()
    server.client().flushall()
    assert budget.acquire(timeout=5)
    with pytest.raises(AcquireTimeout):
        budget.acquire(timeout=600)


def test_a_restarted_server_goes_on(open_nexus: Opener, proxy: Proxy) -> None:
    """A fleet goes on when its server was killed and started again.

    The proxy keeps the address, which another program could have taken meanwhile.
    """
    process = launch("valkey")
    proxy.target = process.port
    try:
        budget = open_nexus(proxy.url).budget("stripe", rate=500)
        producer = budget.producer(on_outage="open")
        for _ in range(50):
            producer.acquire()
        process.stop()
        assert eventually(lambda: producer.acquire().degraded)
        process = launch("valkey")
        proxy.target = process.port
        assert eventually(lambda: not producer.acquire().degraded and not out(producer))
        for _ in range(30):
            producer.acquire()
        assert budget.snapshot().rate == 500
    finally:
        process.stop()


def test_a_primary_that_became_a_replica_is_left(open_nexus: Opener, real_server: Server, proxy: Proxy) -> None:
    """A primary that became a replica is left for the server that has its address now.

    As behind a DNS name or a virtual IP that moves: the old connections live on, and only a new one arrives.
    """
    process = launch("valkey")
    proxy.target = real_server.port
    try:
        budget = open_nexus(proxy.url).budget("stripe", rate=500).producer(on_outage="open")
        for _ in range(50):
            budget.acquire()
        old, new = real_server.client(), redis.Redis(port=process.port)
        proxy.target = process.port
        old.replicaof("127.0.0.1", "1")  # of nobody that answers: all that counts is that it takes no writes
        try:
            assert eventually(lambda: budget.acquire().cost == 1 and bool(new.exists("nexus:{stripe}")))
            assert eventually(lambda: not budget.acquire().degraded)
        finally:
            old.replicaof("NO", "ONE")
            new.close()
    finally:
        process.stop()


def test_settings_are_told_to_older_state(open_nexus: Opener, server: Server) -> None:
    """A state that does not have the settings of this code is told them again.

    A failover brings such a state back, if the settings were told within the lag of the replication: the life is the
    same.
    """
    client = server.client()
    key = "nexus:{stripe}"
    first = open_nexus(server).budget("stripe")
    assert not first.try_acquire()  # a budget without a rate
    before: dict[str, Any] = {each: client.dump(each) for each in (key, f"{key}:state")}
    budget = open_nexus(server).budget("stripe", rate=500)
    budget.acquire()
    for each, value in before.items():
        client.restore(each, 0, value, replace=True)
    assert eventually(lambda: budget.try_acquire() and client.hget(key, "rate_by_code") == b"500")
    budget.acquire(timeout=PATIENCE)
    assert budget.snapshot().rate == 500


def test_no_memory_is_an_outage(open_nexus: Opener, real_server: Server) -> None:
    """A server without memory is an outage and not a refusal."""
    budget, admin = open_nexus(real_server).budget("stripe", rate=500).producer(on_outage="open"), real_server.client()
    budget.acquire()
    admin.config_set("maxmemory", 1)
    try:
        assert eventually(lambda: budget.acquire().degraded)
    finally:
        admin.config_set("maxmemory", 0)
    assert eventually(lambda: not budget.acquire().degraded and not out(budget))


# --- Redis is away


def test_acquire_keeps_its_deadline(open_nexus: Opener, server: Server, proxy: Proxy) -> None:
    """`acquire` answers within its deadline, although a call to Redis never returns."""
    budget = open_nexus(proxy.endless_url).budget("stripe", rate=0)
    assert not budget.try_acquire()
    proxy.is_black_hole = True
    for _ in range(2):
        with pytest.raises(AcquireTimeout):
            in_thread(lambda: budget.acquire(timeout=0.2))


def test_a_try_says_that_redis_does_not_answer(open_nexus: Opener, server: Server, proxy: Proxy) -> None:
    """A try says that Redis does not answer."""
    budget = open_nexus(proxy.hasty_url).budget("stripe", rate=500)
    with budget.producer("web", on_outage="closed") as producer:
        assert eventually(producer.try_acquire)
        proxy.is_black_hole = True
        assert eventually(lambda: not producer.try_acquire() and out(producer))
        denied = producer.try_acquire()
        assert isinstance(denied, Denied)
        assert denied.reason == "unavailable"


def test_a_black_hole_is_unavailable(
    open_nexus: Opener, server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A black hole from the start is `Unavailable`."""
    monkeypatch.setattr(outage_mode, "UNAVAILABLE_AFTER", 0.7)
    proxy.is_black_hole = True
    nexus = open_nexus(proxy.hasty_url)
    with pytest.raises(Unavailable) as unanswered:
        nexus.budget("stripe", rate=500).acquire()
    assert f"127.0.0.1:{proxy.port}" in unanswered.value.server
    with pytest.raises(Unavailable):
        nexus.budget("stripe").signal(5)
    with pytest.raises(Unavailable):
        nexus.budget("stripe").consumer(capacity=5).report(load=5)


def test_closed_raises_and_recovers(
    open_nexus: Opener, server: Server, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mode `closed` raises `Unavailable`, and goes on when Redis is back."""
    monkeypatch.setattr(outage_mode, "UNAVAILABLE_AFTER", 0.5)
    producer = open_nexus(proxy.url).budget("stripe", rate=100).producer("web", on_outage="closed")
    producer.acquire()
    proxy.refuse()
    with pytest.raises(Unavailable):
        producer.acquire(1000)
    proxy.accept()
    assert eventually(lambda: _served(producer))
    assert not producer.acquire().degraded


def _served(producer: Any) -> bool:
    try:
        return bool(producer.acquire())
    except NexusError:
        return False


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("rate", [20, 400])
def test_share_goes_on_at_half(
    clock: ManualClock, open_nexus: Opener, server: Server, proxy: Proxy, rate: int, seconds: float
) -> None:
    """The mode `share` goes on evenly at half the share, however long calls take to fail; its grants say so."""
    budget = open_nexus(proxy.url).budget("stripe", rate=rate)
    for _ in range(5 * rate):
        budget.acquire()
    proxy.refuse()
    for loop in clock._loops:
        loop.round_trip = seconds
    assert eventually(lambda: budget.acquire().degraded)
    began, times = clock.now, [clock.now]
    while clock.now - began < 5:
        assert budget.acquire().degraded
        times.append(clock.now)
    assert rate / 2 * 5 * 0.95 < len(times) <= rate / 2 * (5 + 0.25) + 1
    assert max(after - before for before, after in itertools.pairwise(times)) <= 2 / rate + 2 * SHORTEST_PAUSE
    proxy.accept()
    for loop in clock._loops:
        loop.round_trip = 0
    assert eventually(lambda: not budget.acquire().degraded and not out(budget))
    assert granted_by(server) >= spent(account_of(budget)) - MICRO


def test_open_admits_everything(open_nexus: Opener, server: Server, proxy: Proxy) -> None:
    """The mode `open` admits everything, and its grants say so."""
    producer = open_nexus(proxy.url).budget("stripe", rate=10).producer("web", on_outage="open")
    producer.acquire()
    proxy.refuse()
    assert eventually(lambda: producer.acquire().degraded)
    assert all(producer.acquire().degraded for _ in range(500))


def test_recovery_brings_no_burst(
    clock: ManualClock, open_nexus: Opener, server: Server, proxy: Proxy, let_pass: Pass
) -> None:
    """After an outage there is no burst to catch up."""
    budget = open_nexus(proxy.url).budget("stripe", rate=100)
    for _ in range(20):
        budget.acquire()
    proxy.refuse()
    assert eventually(lambda: budget.acquire().degraded)
    let_pass(30)
    proxy.accept()
    assert eventually(lambda: not budget.acquire().degraded and not out(budget))
    began, before = clock.now, account_of(budget).ledger.used
    for _ in range(200):
        budget.acquire()
    used = (account_of(budget).ledger.used - before) / MICRO
    assert used <= 100 * (clock.now - began + 0.5) + 26  # the rate, a lease, the bucket


@pytest.fixture
def closes_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """So soon that what closes has certainly given up, though the call that it waited for has not."""
    for module in (pubsub, tasks, threaded):
        monkeypatch.setattr(module, "STOP_PATIENCE", 0.2)


@pytest.mark.usefixtures("closes_soon")
def test_a_call_that_hangs_keeps_nobody_waiting(open_nexus: Opener, server: Server, proxy: Proxy) -> None:
    """A call that never returns keeps neither the nexus from closing nor the waiting callers."""
    nexus = open_nexus(proxy.endless_url)
    budget = nexus.budget("stripe", rate=0)
    assert not budget.try_acquire()
    budget.consumer(capacity=5).report(load=5)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            budget.acquire()
        except NexusError as error:
            errors.append(error)

    proxy.is_black_hole = True
    waiting = threading.Thread(target=wait)
    waiting.start()
    assert eventually(lambda: account_of(budget).ledger.waiters)
    in_thread(nexus.close)
    join(waiting)
    assert [type(error).__name__ for error in errors] == ["Closed"]


# --- refused


def test_missing_rights_are_not_retried(open_nexus: Opener, server: Server) -> None:
    """Rights that are missing are raised, and the call is not sent again."""
    admin = server.client()
    admin.acl_setuser("reader", enabled=True, passwords=["+secret"], commands=["+@read"], keys=["*"])
    try:
        budget = open_nexus(f"redis://reader:secret@127.0.0.1:{server.port}/0").budget("stripe", rate=5)
        for _ in range(20):
            with pytest.raises(ServerRefused) as raised:
                budget.acquire()
            assert "secret" not in str(raised.value)
    finally:
        admin.acl_deluser("reader")


def test_rights_to_one_budget_are_enough(open_nexus: Opener, server: Server) -> None:
    """A client with rights to one budget alone works."""
    admin = server.client()
    rights = [
        "+@scripting",
        "+@hash",
        "+@sortedset",
        "+@stream",
        "+@string",
        "+@keyspace",
        "+time",
        "+ping",
        "+client",
        "+hello",
    ]
    admin.acl_setuser("web", enabled=True, passwords=["+secret"], commands=rights, keys=["nexus:{stripe}*"])
    try:
        budget = open_nexus(f"redis://web:secret@127.0.0.1:{server.port}/0").budget("stripe", rate=500)
        for _ in range(5):
            budget.acquire()
    finally:
        admin.acl_deluser("web")
