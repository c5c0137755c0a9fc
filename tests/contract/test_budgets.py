"""What a budget and a Nexus promise, on both shells and every server."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from typing import Any

import psutil
import pytest
import redis.asyncio

import nexus_redis
from nexus_redis import Closed, InvalidSetting, NexusError
from nexus_redis._core.token_cache import TokenCache
from nexus_redis._protocol import calls
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.plans import Call, Job, Outcome
from nexus_redis._redis import embedded
from nexus_redis._redis.connect import node_for
from nexus_redis._redis.execute import perform
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis._values.settings import BudgetSettings
from nexus_redis.asyncio import Nexus as AsyncNexus
from nexus_redis.errors import SETTINGS, WrongLoop
from tests.harness.faces import LONG, LoopInAThread, Opener, Pass, account_of
from tests.harness.logged import logged
from tests.harness.refusals import refusal
from tests.harness.servers import FAKE, Server
from tests.harness.stepping import Stepper, join, producer
from tests.harness.support import eventually, in_thread, run


@pytest.fixture
def nexus(open_nexus: Opener, server: Server) -> Any:
    return open_nexus(server)


def operator_sets(server: Server, name: str, **settings: Any) -> None:
    """As `nexus-redis set` does."""
    call = calls.configure(BudgetKeys("nexus", name), BudgetSettings.of(**settings), source="operator")
    (outcome,) = perform(server.client, [call])
    assert isinstance(outcome, calls.Configured)


# --- settings


def test_a_budget_follows_the_settings_in_code(nexus: Any) -> None:
    """A budget follows the settings in code."""
    budget = nexus.budget("stripe", rate="6000/min", min_rate=1, burst=2)
    budget.acquire()
    snapshot = budget.snapshot()
    assert (snapshot.exists, snapshot.rate, snapshot.burst, snapshot.reason) == (True, 100, 2, "rate")
    assert snapshot.settings == {"rate": ("100", "code"), "min_rate": ("1", "code"), "burst": ("2", "code")}


def test_an_unused_budget_does_not_exist(nexus: Any) -> None:
    """A budget that nobody used does not exist."""
    snapshot = nexus.budget("stripe", rate=5).snapshot()
    assert (snapshot.exists, snapshot.rate, snapshot.reason) == (False, 0, "unset")
    assert nexus.budgets() == []


def test_configure_changes_and_takes_away(nexus: Any) -> None:
    """`configure` changes settings and takes them away."""
    budget = nexus.budget("stripe")
    assert budget.configure(rate="100/s", burst=2).settings == {"rate": ("100", "code"), "burst": ("2", "code")}
    assert budget.configure(rate=50, burst=None).settings == {"rate": ("50", "code")}
    assert budget.snapshot().rate == 50
    assert nexus.budgets() == ["stripe"]


def test_a_new_budget_shows_one_token(nexus: Any) -> None:
    """A new budget shows one token."""
    for rate in ("100/s", "1/min", "1/d"):
        assert nexus.budget(f"at-{rate.replace('/', '-')}").configure(rate=rate).tokens == 1


def test_configure_changes_what_is_opened(open_nexus: Opener, server: Server) -> None:
    """A process opens the budget with the values that its `configure` has set."""
    budget = open_nexus(server).budget("stripe", rate=5)
    budget.configure(rate=5000)
    budget.acquire()
    server.client().flushall()
    assert eventually(lambda: budget.acquire() and budget.snapshot().exists)
    assert budget.snapshot().settings == {"rate": ("5000", "code")}


def test_impossible_settings_are_refused(nexus: Any) -> None:
    """Impossible settings are refused."""
    for settings in ({"rate": -1}, {"rate": "5/week"}, {"burst": -1}, {"law": "none"}, {"rate": 1, "min_rate": 2}):
        with pytest.raises(InvalidSetting):
            nexus.budget("stripe", **settings)
    assert refusal(lambda: nexus.budget("a b")) == ("name", error_texts.INVALID_NAME)
    misspelled = ("lossles", error_texts.unknown_field(SETTINGS))
    assert refusal(lambda: nexus.budget("stripe").configure(lossles=True)) == misspelled


def test_two_values_for_one_name_raise(nexus: Any) -> None:
    """Two values for one name in one process raise."""
    nexus.budget("stripe", rate="100/s")
    nexus.budget("stripe", rate=100)
    nexus.budget("stripe")
    contradicted = ("rate", error_texts.opened_with("stripe", 100.0))
    assert refusal(lambda: nexus.budget("stripe", rate=200)) == contradicted


def test_later_settings_are_added(nexus: Any) -> None:
    """Settings that come later are added."""
    budget = nexus.budget("stripe", rate=100)
    budget.acquire()
    nexus.budget("stripe", burst=3).acquire()
    assert eventually(lambda: bool(budget.acquire()) and "burst" in budget.snapshot().settings)


def test_an_operator_overrules_code(nexus: Any, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Code does not overrule the setting of an operator."""
    operator_sets(server, "stripe", rate=50)
    budget = nexus.budget("stripe", rate=1000)
    budget.acquire()
    with budget.producer("web") as producer:
        producer.acquire()
    snapshot = budget.snapshot()
    assert (snapshot.rate, snapshot.settings["rate"]) == (50, ("50", "operator"))
    assert logged(caplog, log_texts.SETTING_OVERRULED) == [("stripe", "rate", "stripe", "rate")]


def test_a_floor_in_code_yields_to_an_operator(nexus: Any, server: Server) -> None:
    """A floor in code gives way to an operator's ceiling."""
    operator_sets(server, "stripe", rate=5)
    budget = nexus.budget("stripe", rate=100, min_rate=10)
    budget.acquire()
    assert budget.snapshot().rate == 5


def test_a_budget_without_a_rate_warns_once(
    open_nexus: Opener, server: Server, let_pass: Pass, caplog: pytest.LogCaptureFixture
) -> None:
    """A budget without any rate warns once and gives no tokens."""
    budget = open_nexus(server).budget("stripe")
    for _ in range(5):  # however short each waits
        with pytest.raises(nexus_redis.AcquireTimeout) as late:
            budget.acquire(timeout=0.5)
        assert late.value.reason == "unset"
        let_pass(0.01)
    denied = budget.try_acquire()
    assert (bool(denied), denied.reason) == (False, "unset")
    assert logged(caplog, log_texts.NO_RATE) == [{"name": "stripe"}]


# --- pausing


def test_a_paused_budget_gives_nothing(nexus: Any) -> None:
    """A paused budget gives no tokens until it is resumed."""
    budget = nexus.budget("stripe", rate=1000)
    budget.acquire()
    budget.pause(reason="429 Retry-After")
    snapshot = budget.snapshot()
    assert (snapshot.rate, snapshot.level, snapshot.reason) == (0, 3, "paused")
    assert (snapshot.paused_for, snapshot.pause_reason) == (float("inf"), "429 Retry-After")
    budget.resume()
    assert (budget.snapshot().rate, budget.snapshot().paused_for) == (1000, None)


def test_a_long_reason_is_cut_at_a_character(nexus: Any) -> None:
    """A long reason of a pause is cut between two characters."""
    budget = nexus.budget("stripe", rate=1000)
    budget.pause(30, reason="a" + "\N{EURO SIGN}" * 200)
    assert budget.snapshot().pause_reason == "a" + "\N{EURO SIGN}" * 66
    with pytest.raises(InvalidSetting) as refused:
        budget.pause(30, reason=5)
    assert (refused.value.field, refused.value.value) == ("reason", "5")
    assert refused.value.remedy == error_texts.NOTE_IS_NOT_TEXT


def test_a_pause_for_a_while_ends_by_itself(timed: Any, let_pass: Pass) -> None:
    """A pause for a while ends by itself."""
    budget = timed.budget("stripe", rate=1000)
    budget.acquire()
    budget.pause(0.2)
    assert budget.snapshot().paused_for == pytest.approx(0.2)
    let_pass(0.19)
    assert budget.snapshot().rate == 0
    let_pass(0.02)
    assert budget.snapshot().rate == 1000


# --- the list of budgets


@pytest.mark.fleets
def test_the_list_holds_the_budgets_that_exist(open_nexus: Opener, server: Server) -> None:
    """The list holds the budgets that exist."""
    nexus = open_nexus(server, namespace="shop")
    for name in ("b", "a"):
        nexus.budget(name, rate=1000).acquire()
    assert nexus.budgets() == ["a", "b"]
    assert open_nexus(server, namespace="other").budgets() == []
    server.client().delete("shop:{a}")
    assert nexus.budgets() == ["b"]


# --- clients


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
def test_any_redis_py_client_will_do(open_nexus: Opener, server: Server, protocol: int, decode_responses: bool) -> None:
    """Any client of redis-py will do."""
    nexus = open_nexus(server, client={"protocol": protocol, "decode_responses": decode_responses})
    budget = nexus.budget("stripe", rate=1000)
    budget.acquire()
    budget.try_acquire(200)
    with budget.consumer("es-1", capacity=400, interval=LONG) as consumer:
        assert consumer.report(load=95) == 100
        assert [c.id for c in budget.snapshot().consumers] == ["es-1"]
    assert nexus.budgets() == ["stripe"]


@pytest.mark.fleets
def test_a_given_client_stays_open(server: Server) -> None:
    """A given client stays open, and redis-py never sends a call of it again."""
    client = server.client()
    with nexus_redis.Nexus(client) as nexus:
        nexus.budget("stripe", rate=1000).acquire()
        retry = node_for(nexus._connections.client(), "nexus:{stripe}").get_retry()
        assert retry is not None
        assert retry.get_retries() == 0
    assert client.ping()


# --- a slow budget, in virtual time


@pytest.mark.parametrize("first", [0.0, 3.7])
def test_tries_at_the_rate_always_succeed(server: Server, first: float) -> None:
    """A try each six seconds always succeeds at ten a minute."""
    client, stepper = server.client(), Stepper()

    def at_the_instant(job: Job) -> Outcome:
        if isinstance(job, Call):
            at_us = 1_800_000_000_000_000 + round(stepper.now * MICRO)
            job = Call(job.script, job.keys, (at_us, *job.args[1:]), job.decode)
        return perform(lambda: client, [job])[0]

    stepper.server, stepper.round_trip = at_the_instant, 0.002
    account = producer(stepper, "cron", budget={"rate": "10/min"})
    stepper.advance(first)
    began = stepper.now
    for i in range(40):
        stepper.advance(began + 6 * i - stepper.now)
        line = join(account, whole=True)
        stepper.advance(0.5)
        assert line.is_served, f"try {i} after {stepper.now - began} s"
    assert account.ledger.used == account.ledger.granted == 40 * MICRO


# --- lossless


@pytest.mark.parametrize("mode", ["share", "open"])
def test_a_lossless_budget_refuses_to_go_on_alone(nexus: Any, mode: str) -> None:
    """A lossless budget refuses to go on alone in an outage."""
    budget = nexus.budget("ingest", lossless=True)
    refused = ("on_outage", error_texts.OUTAGE_MODE_OF_LOSSLESS)
    assert refusal(lambda: budget.producer(on_outage=mode)) == refused
    for alone in (budget.producer(), budget.producer(on_outage="closed"), budget):
        assert account_of(alone).settings.on_outage == "closed"


# --- loops, threads, sockets


def test_a_nexus_belongs_to_its_first_loop() -> None:
    """A nexus belongs to the loop that first used it."""
    nexus = AsyncNexus.from_url("redis://127.0.0.1:1/0")  # outside of any loop
    budget = nexus.budget("stripe", rate=5)

    async def use() -> None:
        with pytest.raises(nexus_redis.AcquireTimeout):
            await budget.acquire(timeout=0)

    async def use_wrongly() -> None:
        with pytest.raises(WrongLoop) as raised:
            await budget.acquire()
        assert raised.value.owner != raised.value.caller
        assert str(raised.value) == error_texts.wrong_loop(raised.value.owner, raised.value.caller)

    with asyncio.Runner() as owner:
        owner.run(use())
        in_thread(lambda: run(use_wrongly()))
        owner.run(nexus.close())


def test_another_loop_is_refused_despite_tokens(server: Server) -> None:
    """Another loop is refused, also while tokens are in hand."""
    owner = LoopInAThread()
    nexus = AsyncNexus(server.aclient())
    budget = nexus.budget("stripe", rate=1_000_000)

    async def use() -> None:
        await budget.acquire()

    try:
        owner.run(use)
        account_of(budget).ledger.cache = TokenCache(1, MICRO, 1000, math.inf)
        with pytest.raises(WrongLoop):
            run(budget.acquire())
    finally:
        owner.run(nexus.close)
        owner.stop()


def test_an_async_nexus_is_closed_in_any_loop(server: Server) -> None:
    """An async nexus is closed in any loop."""

    async def use() -> AsyncNexus:
        nexus = AsyncNexus(server.aclient())
        with pytest.raises(nexus_redis.AcquireTimeout):
            await nexus.budget("stripe", rate=5).acquire(500, timeout=0)
        return nexus

    with asyncio.Runner() as runner:
        nexus = runner.run(use())
        runner.run(nexus.close())
    run(nexus.close())

    async def reuse() -> None:
        with pytest.raises(Closed):
            await nexus.budget("stripe").try_acquire()

    with pytest.raises(WrongLoop):
        run(reuse())


def loops() -> set[threading.Thread]:
    """The threads of our loops; those that other tests have left behind are among them."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("nexus-redis")}


def test_close_leaves_no_thread_and_no_socket(open_nexus: Opener, real_server: Server) -> None:
    """`close` leaves no thread and no socket."""

    def sockets() -> set[int]:
        """Our ends of what leads to the server, by port."""
        own = psutil.Process().net_connections()
        return {each.laddr.port for each in own if each.raddr and each.raddr.port == real_server.port}

    threads, before = loops(), sockets()
    for _ in range(3):
        nexus = open_nexus(real_server)
        budget = nexus.budget("stripe", rate=1000)
        budget.acquire()
        with budget.producer("web") as producer, budget.consumer(capacity=400) as consumer:
            producer.acquire()
            consumer.report(load=5)
        budget.snapshot()
        assert loops() - threads
        assert sockets() - before
        nexus.close()
        assert eventually(lambda: not sockets() - before)
        assert eventually(lambda: not loops() - threads)


def test_opening_makes_no_call_and_no_thread(open_nexus: Opener) -> None:
    """Opening a nexus makes no call and no thread."""
    before = loops()
    nexus = open_nexus("redis://127.0.0.1:1/0")
    budget = nexus.budget("stripe", rate=5)
    budget.producer("web")
    budget.consumer("es-1", capacity=5)
    assert not loops() - before
    assert "stripe" in repr(getattr(budget, "it", budget))
    assert "127.0.0.1:1" in repr(getattr(nexus, "it", nexus))


def test_pace_takes_an_async_iterable_too(server: Server) -> None:
    """`pace` takes an async iterable too."""

    async def lines() -> Any:
        for i in range(5):
            yield i

    async def main() -> list[int]:
        async with server.aclient() as client, AsyncNexus(client) as nexus:
            return [line async for line in nexus.budget("ship", rate=1000).pace(lines())]

    assert run(main()) == list(range(5))


def test_work_is_async_too(server: Server) -> None:
    """`work` is async too."""

    async def main() -> None:
        async with server.aclient() as client, AsyncNexus(client) as nexus:
            consumer = nexus.budget("es").consumer(capacity=5)
            if server.kind == FAKE:
                nexus._connections.made_sync = server.client()
            async with consumer, consumer.work(3):
                assert consumer._session.meter.sample()["in_flight"] == 3
            assert consumer._session.meter.sample()["done"] == 3

    run(main())


def test_a_wrong_address_is_refused(open_nexus: Opener) -> None:
    """A text that is not an address is refused."""
    for url in ("http://localhost", "redis://localhost?retries=5"):
        with pytest.raises(InvalidSetting) as refused:
            open_nexus(url)
        assert refused.value.field == "url"


@pytest.mark.parametrize("module", [nexus_redis, nexus_redis.asyncio], ids=["sync", "async"])
def test_other_values_than_clients_are_refused(module: Any) -> None:
    """A value that is neither an address nor a client is refused."""
    other = redis.asyncio.Redis() if module is nexus_redis else redis.Redis()
    for act, given in ((module.Nexus.from_url, 5), (module.Nexus, 5), (module.Nexus, other)):
        with pytest.raises(InvalidSetting):
            act(given)


def test_a_strange_pool_is_used_as_it_is() -> None:
    """A client whose pool is of an unknown class is used as it is."""

    class Pool(redis.asyncio.ConnectionPool):
        pass

    client = redis.asyncio.Redis(connection_pool=Pool(port=1))
    assert AsyncNexus(client)._connections.made is client


def test_a_failed_connection_reaches_its_callers() -> None:
    """If a connection cannot be made, the callers that wait for it get the error."""

    async def main() -> None:
        async with Server(FAKE).aclient() as client, AsyncNexus(client) as nexus:
            with pytest.raises(InvalidSetting) as refused:  # no address for the thread that reports
                await nexus.budget("es").consumer(capacity=5).report(load=5)
            assert refused.value.field == "client"
            assert "Fake" in refused.value.value

    run(main())

    failure = NexusError(error_texts.EMBEDDED_NOT_INSTALLED)

    def refuse(_url: str) -> None:
        raise failure

    with pytest.MonkeyPatch.context() as patch, nexus_redis.Nexus.from_url("embedded://") as nexus:
        patch.setattr(embedded, "acquire", refuse)
        with pytest.raises(NexusError) as raised:
            nexus.budget("stripe", rate=5).acquire()
        assert str(raised.value) == str(failure)


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")
