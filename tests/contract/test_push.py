"""A drop of the rate is heard at once where there is a way, and by the next claim where there is none."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import redis

from nexus_redis import Nexus
from nexus_redis._protocol import calls
from nexus_redis._protocol.calls import Drop
from nexus_redis._redis import pubsub
from nexus_redis._values import log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis.testing import ManualClock
from tests.harness.accounting import granted_by, spent
from tests.harness.chaos import Proxy
from tests.harness.faces import LONG, Opener, account_of
from tests.harness.logged import logged
from tests.harness.servers import FAKE, Server
from tests.harness.support import PATIENCE, eventually

CHANNEL = "nexus:{stripe}:flow"


def listeners(server: Server, channel: str = CHANNEL) -> int:
    return sum(int(node.pubsub_numsub(channel)[0][1]) for node in server.nodes())


def connections(server: Server) -> list[Any]:
    """Those that listen, on any node; Sentinels do so, too."""
    found = [each for node in server.nodes() for each in node.client_list(_type="pubsub")]
    return [each for each in found if not each["name"].startswith("sentinel-")]


def busy(budget: Any, is_so: Callable[[], object]) -> bool:
    """Acquire, as a process does that is neither idle nor greedy, until something is so."""

    def step() -> object:
        budget.try_acquire()
        return is_so()

    return eventually(step)


def spied(it: Any) -> list[Drop]:
    """What is heard by messages from now on; an answer to a claim is none."""
    account, heard = account_of(it), list[Drop]()
    heed = account.on_rate_drop

    def spy(drop: Drop, now: float) -> None:
        heed(drop, now)
        heard.append(drop)

    account.on_rate_drop = spy
    return heard


def listening(open_nexus: Opener, server: Server, **settings: Any) -> Any:
    """A budget of 1000/s whose Nexus holds tokens and listens."""
    budget = open_nexus(server, **settings).budget("stripe", rate=1000)
    assert busy(budget, lambda: listeners(server) == 1)
    return budget


def is_alone(open_nexus: Opener, server: Server) -> bool:
    """Nobody listens any more, as far as the server knows; fakeredis does not notice that an async client has gone."""
    return (server.kind == FAKE and open_nexus.is_async) or eventually(lambda: listeners(server) == 0)


def pushers() -> set[threading.Thread]:
    """The threads that listen; those of other tests may be among them, and end meanwhile."""
    return {thread for thread in threading.enumerate() if thread.name == "nexus-redis-push"}


def of(nexus: Any) -> Any:
    return getattr(nexus, "it", nexus)


# --- what is heard


def test_a_pause_is_heard_without_a_claim(open_nexus: Opener, server: Server) -> None:
    """A pause is heard without a claim."""
    budget, operator = listening(open_nexus, server), open_nexus(server).budget("stripe")
    heard = spied(budget)
    operator.pause(60, reason="429")
    assert eventually(lambda: bool(heard))
    ledger = account_of(budget).ledger
    assert (heard[0].budget_rate, heard[0].level, heard[0].reason) == (0, 3, "paused")
    assert ledger.held == 0
    assert budget.flow.reason == "paused"
    denied = budget.try_acquire()
    assert (bool(denied), denied.reason) == (False, "paused")
    operator.resume()
    assert eventually(lambda: bool(budget.try_acquire()))
    assert [drop.budget_rate // MICRO for drop in heard] == [0, 1000]
    assert spent(account_of(budget)) == ledger.granted


@pytest.mark.fleets
def test_a_drop_is_heard_and_balanced(open_nexus: Opener, server: Server) -> None:
    """A drop is heard, and the accounts balance on both sides."""
    budget = listening(open_nexus, server)
    heard = spied(budget)
    told: list[float] = []
    for rate in (500, 100, 1000, 90):
        open_nexus(server).budget("stripe").configure(rate=rate)
        told.append(rate)
        assert busy(budget, lambda: budget.flow.budget_rate == told[-1])
    assert eventually(lambda: [drop.budget_rate // MICRO for drop in heard] == [500, 100, 90])
    open_nexus.run(of(budget)._nexus.close)
    assert granted_by(server) == spent(account_of(budget))


def test_a_consumers_report_is_heard(open_nexus: Opener, server: Server) -> None:
    """A drop that a consumer's report causes is heard."""
    worker = open_nexus(server).budget("stripe").consumer(capacity=1000, interval=LONG)
    with worker as consumer:
        consumer.report(load=10)
        budget = open_nexus(server).budget("stripe")
        assert busy(budget, lambda: listeners(server) == 1)
        heard = spied(budget)
        consumer.report(load=95)
        assert eventually(lambda: bool(heard))
        assert (heard[0].budget_rate, heard[0].reason) == (250 * MICRO, "load")


def test_other_messages_are_ignored(open_nexus: Opener, server: Server) -> None:
    """Any other message on the channel is ignored."""
    budget, client = listening(open_nexus, server), server.client()
    heard = spied(budget)
    birth = account_of(budget).ledger.birth
    for noise in (
        b"\xff\x00",
        "",
        "a b c d e",
        f"{birth} 0 -1 0 x",
        f"{birth}0 0 0 3 paused",
        f"{birth} 99 {10**15} 0 x",
    ):
        client.publish(CHANNEL, noise)
    client.publish(CHANNEL, f"{birth} 999999 500000000 0 rate")
    assert eventually(lambda: bool(heard) and heard[-1].granted_total == 999999)
    assert [drop.budget_rate for drop in heard] == [0, 10**15, 500 * MICRO]  # another life's, a rise, ours
    assert busy(budget, lambda: budget.flow.budget_rate == 1000)  # the truth is in the claim
    assert spent(account_of(budget)) == account_of(budget).ledger.granted


def test_databases_are_kept_apart(open_nexus: Opener, real_server: Server) -> None:
    """A message in another database is not heard in this one."""
    budget = listening(open_nexus, real_server)
    heard = spied(budget)
    other = open_nexus(real_server.url.replace("/0", "/1")).budget("stripe", rate=1000)
    assert busy(other, lambda: listeners(real_server) == 2)
    theirs = spied(other)
    birth = account_of(budget).ledger.birth
    other.pause(60)
    assert eventually(lambda: bool(heard and theirs))
    assert heard[0].birth == theirs[0].birth != birth
    assert account_of(budget).ledger.answer.reason != "paused"
    assert account_of(other).ledger.held == 0


# --- where there is no way


def test_a_lost_message_costs_a_refresh(open_nexus: Opener, server: Server) -> None:
    """A message that is lost costs a refresh and no more."""
    budget = listening(open_nexus, server)
    account_of(budget).on_rate_drop = lambda _drop, _now: None
    open_nexus(server).budget("stripe").pause(60)
    assert busy(budget, lambda: budget.flow.reason == "paused")
    assert account_of(budget).ledger.held == 0
    assert spent(account_of(budget)) == account_of(budget).ledger.granted


def test_without_push_nothing_listens(open_nexus: Opener, server: Server) -> None:
    """A nexus without push has no connection that listens."""
    before = pushers()
    budget = open_nexus(server, push=False).budget("stripe", rate=1000)
    account = account_of(budget)
    assert busy(budget, lambda: account.ledger.seq > 3)
    assert list(account.scheduler.subscriptions.names) == [CHANNEL]
    assert listeners(server) == 0
    assert not pushers() - before
    open_nexus(server).budget("stripe").pause(60)
    assert busy(budget, lambda: budget.flow.reason == "paused")


def test_no_right_to_subscribe_is_said_once(
    open_nexus: Opener, real_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that may not subscribe hears of changes by its claims, and logs that once."""
    caplog.set_level(logging.INFO, "nexus_redis")
    admin: Any = real_server.client()
    admin.execute_command("ACL", "SETUSER", "deaf", "reset", "on", ">secret", "~*", "+@all", "resetchannels")
    try:
        budget = open_nexus(real_server.url.replace("://", "://deaf:secret@")).budget("stripe", rate=1000)
        assert busy(budget, lambda: bool(logged(caplog, log_texts.PUSH_UNAVAILABLE, "INFO")))
        assert busy(budget, lambda: account_of(budget).ledger.seq > 5)
        assert listeners(real_server) == 0
        open_nexus(real_server).budget("stripe").pause(60)
        assert busy(budget, lambda: budget.flow.reason == "paused")
        budget.resume()  # one that may not publish
        assert busy(budget, lambda: budget.flow.reason != "paused")
        assert len(logged(caplog, log_texts.PUSH_UNAVAILABLE, "INFO")) == 1
        assert not logged(caplog, log_texts.PUSH_THREAD_NOT_STARTED)
        assert not [record for record in caplog.records if record.levelno > logging.INFO]
    finally:
        open_nexus.run(of(budget)._nexus.close)
        admin.execute_command("ACL", "DELUSER", "deaf")


def test_a_broken_connection_is_remade(open_nexus: Opener, real_server: Server) -> None:
    """A connection that broke is made again."""
    budget, client = listening(open_nexus, real_server), real_server.client()

    def connections() -> set[str]:
        found: Any = client.client_list(_type="pubsub")
        return {each["id"] for each in found}

    def is_made_again(before: set[str]) -> bool:
        return bool(connections() - before) and listeners(real_server) == 1

    for _ in range(2):
        broken = connections()
        assert client.client_kill_filter(_type="pubsub")
        assert busy(budget, partial(is_made_again, broken))
    heard = spied(budget)
    open_nexus(real_server).budget("stripe").pause(60)
    assert eventually(lambda: bool(heard))


def test_a_quiet_connection_is_kept(open_nexus: Opener, one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet connection on which the server answers is kept.

    However slow this machine is, at some time it is quick enough to see that.
    """
    monkeypatch.setattr(pubsub, "ALIVE_EACH", 0.25)
    with Proxy(one_server.port) as proxy:
        budget = open_nexus(proxy.url).budget("stripe", rate=1000)
        assert busy(budget, lambda: listeners(one_server) == 1)
        listener, answered = of(budget)._nexus._loop.push, list[int]()
        hear = listener._hear

        def noted(message: Any) -> Any:
            answered.append(proxy.connections)
            return hear(message)

        monkeypatch.setattr(listener, "_hear", noted)
        assert busy(budget, lambda: answered and answered.count(answered[-1]) > 3)


def test_a_dead_connection_is_given_up(open_nexus: Opener, one_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection on which nothing answers any more is given up."""
    monkeypatch.setattr(pubsub, "ALIVE_EACH", 0.05)
    with Proxy(one_server.port) as proxy:
        budget = open_nexus(proxy.hasty_url).budget("stripe", rate=1000)
        assert busy(budget, lambda: listeners(one_server) == 1)
        connections = proxy.connections
        proxy.is_black_hole = True
        assert busy(budget, lambda: proxy.connections > connections + 2)
        monkeypatch.setattr(pubsub, "ALIVE_EACH", 30.0)  # so that it is not given up again while it is looked at
        proxy.is_black_hole = False
        proxy.reset()  # what the proxy took was not delivered; a connection that is made now is whole
        heard = spied(budget)
        operator = open_nexus(one_server).budget("stripe")

        def is_heard() -> bool:
            operator.pause(60)
            operator.resume()
            return bool(heard)

        assert busy(budget, is_heard)


# --- what it takes


def test_close_leaves_no_listener(open_nexus: Opener, server: Server) -> None:
    """`close` leaves neither a thread nor a task nor a connection."""
    before = pushers()
    budget = listening(open_nexus, server)
    nexus = of(budget)._nexus
    assert nexus._loop.push.is_running
    assert len(pushers() - before) == (0 if open_nexus.is_async else 1)
    open_nexus.run(nexus.close)
    assert not nexus._loop.push.is_running
    assert not pushers() - before
    assert is_alone(open_nexus, server)
    if open_nexus.is_async:

        async def tasks() -> list[str]:
            return [task.get_name() for task in asyncio.all_tasks()]

        assert "nexus-redis-push" not in open_nexus.run(tasks)
    if server.kind != FAKE:
        assert eventually(lambda: connections(server) == [])


def test_listening_ends_with_leaving(open_nexus: Opener, server: Server) -> None:
    """A producer that has left listens no longer, and listens again when it is back."""
    nexus = open_nexus(server)
    for _ in range(2):
        with nexus.budget("stripe", rate=1000).producer() as producer:
            assert busy(producer, lambda: listeners(server) == 1)
        assert is_alone(open_nexus, server)
        assert eventually(lambda: not of(nexus)._loop.push.is_running)


def test_a_channel_is_left_by_its_last_budget(open_nexus: Opener, server: Server) -> None:
    """The channel of a producer that has left is left, while those of the others stay."""
    nexus = open_nexus(server)
    staying = nexus.budget("index", rate=1000)
    with nexus.budget("stripe", rate=1000).producer() as leaving:
        assert busy(leaving, lambda: listeners(server) == 1)
        assert busy(staying, lambda: listeners(server, "nexus:{index}:flow") == 1)
    assert eventually(lambda: listeners(server) == 0)
    assert listeners(server, "nexus:{index}:flow") == 1


def test_close_ends_a_silent_listener(open_nexus: Opener, one_server: Server) -> None:
    """`close` while nothing answers ends the listening too."""
    before = pushers()
    with Proxy(one_server.port) as proxy:
        budget = open_nexus(proxy.hasty_url).budget("stripe", rate=1000)
        assert busy(budget, lambda: listeners(one_server) == 1)
        proxy.is_black_hole = True
        nexus = of(budget)._nexus
        open_nexus.run(
            lambda: nexus._scheduler.subscriptions.join("nexus:{stuck}:flow", account_of(budget))
        )  # and never leaves
        open_nexus.run(nexus.close)
        assert eventually(lambda: not nexus._loop.push.is_running)
        assert not pushers() - before


def test_one_connection_for_all_channels(open_nexus: Opener, server: Server) -> None:
    """One connection listens for many budgets, and only for those in use."""
    nexus = open_nexus(server)
    nexus.budget("stripe", rate=1000)
    idle = [nexus.budget("stripe", key=f"idle-{i}") for i in range(300)]
    used = [nexus.budget("stripe", key=f"used-{i}") for i in range(5)]

    def channels() -> list[str]:
        return sorted(calls.text(name) for node in server.nodes() for name in node.pubsub_channels("nexus:*"))

    wanted = [f"nexus:{{stripe/used-{i}}}:flow" for i in range(5)]
    assert eventually(lambda: [bool(budget.try_acquire()) for budget in used] != [] and channels() == wanted)
    if server.kind != FAKE:
        assert eventually(lambda: len(connections(server)) == 1)
    heard = [spied(budget) for budget in used]
    nexus.budget("stripe", key="used-3").pause(60)
    assert eventually(lambda: bool(heard[3]))
    assert [len(each) for each in heard] == [0, 0, 0, 1, 0]
    del idle


def test_idle_budgets_listen_to_nothing(one_server: Server) -> None:
    """Ten thousand budgets that are idle listen to nothing."""
    with Nexus.from_url(one_server.url) as nexus:
        nexus.budget("stripe", rate=1000)
        budgets = [nexus.budget("stripe", key=f"cust-{i}") for i in range(10_000)]
        budgets[0].acquire()
        assert busy(budgets[0], lambda: len(nexus._scheduler.subscriptions.names) == 1)
        client: Any = one_server.client()
        assert eventually(lambda: client.pubsub_channels() == [b"nexus:{stripe/cust-0}:flow"])


def test_a_reporter_needs_no_listener(open_nexus: Opener, server: Server) -> None:
    """A process that only reports has no connection that listens."""
    before = pushers()
    nexus = open_nexus(server)
    with nexus.budget("stripe", rate=1000).consumer(capacity=100) as consumer:
        for load in (10, 100, 10, 100):
            consumer.report(load=load)
        assert not of(nexus)._loop.push.is_running
        assert not pushers() - before


def test_a_manual_clock_has_no_listener(clock: ManualClock, open_nexus: Opener, server: Server) -> None:
    """A nexus that lives by the clock of a test has no connection that listens."""
    before = pushers()
    budget = open_nexus(server).budget("stripe", rate=10)
    for _ in range(30):
        budget.acquire()
    assert clock.now > 0.4
    assert listeners(server) == 0
    assert not pushers() - before


def test_a_single_connection_is_enough(open_nexus: Opener, real_server: Server) -> None:
    """A client with a single connection can be given."""
    pools: Any = redis.asyncio if open_nexus.is_async else redis
    pool = pools.BlockingConnectionPool(port=real_server.port, max_connections=1, timeout=PATIENCE)
    client = pools.Redis(connection_pool=pool)
    nexus = open_nexus.around(client)
    assert busy(nexus.budget("stripe", rate=1000), lambda: listeners(real_server) == 1)
    nexus.close()
    open_nexus.run(client.aclose if open_nexus.is_async else client.close)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_listens_by_itself(one_server: Server) -> None:
    """A forked child listens by itself, and its parent goes on."""
    with Nexus.from_url(one_server.url) as nexus:
        budget = nexus.budget("stripe", rate=1000)
        assert busy(budget, lambda: listeners(one_server) == 1)
        heard = spied(budget)
        pid = os.fork()
        if pid == 0:
            try:
                is_alone = not pushers()
                is_heard = busy(budget, lambda: listeners(one_server) == 2)
                nexus.close()
                os._exit(0 if is_alone and is_heard else 1)
            finally:
                os._exit(2)
        statuses: list[int] = []

        def is_over() -> bool:
            ended, status = os.waitpid(pid, os.WNOHANG)
            statuses.extend([status] if ended else [])
            return bool(ended)

        assert busy(budget, is_over)  # an idle one would not listen any more, and the child waits for two that do
        assert os.waitstatus_to_exitcode(statuses[0]) == 0
        assert eventually(lambda: listeners(one_server) == 1)
        nexus.budget("stripe").pause(60)
        assert eventually(lambda: bool(heard))
