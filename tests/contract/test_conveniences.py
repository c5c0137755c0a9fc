"""Decorators, per-key budgets, reservations and several budgets at once, on both shells and every server."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from nexus_redis import AcquireTimeout, Closed, InvalidSetting, Nexus
from nexus_redis import asyncio as nexus_asyncio
from nexus_redis._api import nexus as api_nexus
from nexus_redis._core.producer import ProducerSession
from nexus_redis._core.registration import Registration
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis.testing import ManualClock
from tests.contract.test_budgets import operator_sets
from tests.harness.accounting import granted_by, spent
from tests.harness.faces import Opener, account_of, it_of
from tests.harness.logged import logged
from tests.harness.refusals import closed, refusal
from tests.harness.servers import NO_SERVER, Server
from tests.harness.support import PATIENCE, eventually, join, run


@pytest.fixture
def nexus(open_nexus: Opener, server: Server) -> Any:
    return open_nexus(server)


# --- limited


def test_a_limited_function_costs_by_arguments(open_nexus: Opener, nexus: Any) -> None:
    """A limited function takes the tokens that its arguments cost."""
    budget = nexus.budget("store", rate=10_000)

    async def insert_async(rows: list[int]) -> int:
        return len(rows)

    async def each_async(rows: list[int]) -> AsyncIterator[int]:
        for row in rows:
            yield row

    def insert(rows: list[int]) -> int:
        return len(rows)

    def each(rows: list[int]) -> Iterator[int]:
        yield from rows

    if open_nexus.shell == "async":
        loop = open_nexus._loop
        assert loop is not None
        limited, limited_each = budget.limited(cost=len)(insert_async), budget.limited(each_async)

        async def collect() -> list[int]:
            return [row async for row in limited_each([1, 2])]

        assert loop.run(lambda: limited([1, 2, 3])) == 3
        assert loop.run(collect) == [1, 2]
    else:
        assert budget.limited(cost=len)(insert)([1, 2, 3]) == 3
        assert list(budget.limited(each)([1, 2])) == [1, 2]
    assert account_of(budget).ledger.used == 4 * MICRO


def test_a_limited_function_times_out(open_nexus: Opener, nexus: Any) -> None:
    """A limited function gives up after its timeout."""
    budget = nexus.budget("store", rate=0)
    ran: list[bool] = []

    async def send_async() -> None:
        ran.append(True)

    def send() -> None:
        ran.append(True)

    limited = budget.limited(timeout=0.05)(send if open_nexus._loop is None else send_async)
    with pytest.raises(AcquireTimeout):
        limited() if open_nexus._loop is None else open_nexus._loop.run(limited)
    assert ran == []


# --- per-key budgets


def test_a_key_has_its_own_budget(nexus: Any) -> None:
    """The budget of a key is a budget of its own with the settings of its parent."""
    nexus.budget("stripe", rate="100/s", burst=2)
    tenant, other = nexus.budget("stripe", key="cust-42"), nexus.budget("stripe", key="Zoë & Co", rate=5)
    tenant.acquire()
    other.acquire()
    assert tenant.name == "stripe/cust-42"
    assert tenant.snapshot().settings == {"rate": ("100", "code"), "burst": ("2", "code")}
    assert other.snapshot().settings == {"rate": ("5", "code"), "burst": ("2", "code")}
    assert nexus.budgets() == sorted(["stripe/cust-42", other.name])
    assert nexus.budget("stripe").snapshot().settings == {"rate": ("100", "code"), "burst": ("2", "code")}


def test_a_contradicting_setting_is_left_out(nexus: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A setting of a key that does not go with its parent's settings is left out, and a log line says so."""
    nexus.budget("stripe", rate=7)
    tenant = nexus.budget("stripe", key="a", min_rate=50)
    tenant.acquire()
    assert tenant.snapshot().rate == 7
    assert logged(caplog, log_texts.SETTING_LEFT_OUT) == [("stripe/a", "min_rate", "stripe")]


def test_an_operator_sets_parents_and_keys(nexus: Any, server: Server) -> None:
    """An operator sets the budgets of all keys by their parent, and the budget of one key by its name."""
    operator_sets(server, "stripe", rate=50)
    operator_sets(server, "stripe/vip", rate=500)
    rates = {}
    for key in ("a", "vip"):
        budget = nexus.budget("stripe", key=key)
        budget.acquire()
        rates[key] = budget.snapshot().rate
    assert rates == {"a": 50, "vip": 500}


def test_configure_on_a_key_overrides_the_parent(nexus: Any) -> None:
    """`configure` on a key gives the key a value, and None brings the parent's value back."""
    nexus.budget("stripe", rate=1000)
    tenant = nexus.budget("stripe", key="a")
    tenant.acquire()
    assert tenant.configure(rate=500).rate == 500
    tenant.configure(rate=None)
    tenant.acquire(50)
    assert eventually(lambda: bool(tenant.acquire(10)) and tenant.snapshot().rate == 1000)


def test_settings_of_a_key_outlive_its_object(nexus: Any) -> None:
    """The settings that code gives a key hold although no object of its budget is kept."""
    nexus.budget("customer", rate=5)
    nexus.budget("customer", key="big", rate=50)
    nexus.budget("customer", key="huge").configure(rate=500)
    nexus.budget("customer", key="usual").configure(rate=500)
    nexus.budget("customer", key="usual").configure(rate=None)
    gc.collect()
    for key, rate in (("big", 50), ("huge", 500), ("usual", 5)):
        nexus.budget("customer", key=key).acquire()
        assert nexus.budget("customer", key=key).snapshot().rate == rate
    with pytest.raises(InvalidSetting) as refused:
        nexus.budget("customer", key="big", rate=6)
    assert (refused.value.field, float(refused.value.value)) == ("rate", 6)
    assert refused.value.remedy == error_texts.opened_with("customer/big", 50.0)


def test_budgets_of_one_key_share_a_producer(nexus: Any) -> None:
    """All budget objects of a key in one process share one producer, as long as it is in use."""
    nexus.budget("stripe", rate=1000)
    for _ in range(5):
        nexus.budget("stripe", key="a").acquire()
    (told,) = nexus.budget("stripe", key="a").snapshot().producers
    assert told.id == account_of(nexus.budget("stripe", key="a")).id
    nexus.budget("stripe", key="b", rate=5)
    with pytest.raises(InvalidSetting) as refused:
        nexus.budget("stripe", key="b", rate=6)
    assert (refused.value.field, float(refused.value.value)) == ("rate", 6)
    assert refused.value.remedy == error_texts.opened_with("stripe/b", 5.0)


def test_threads_share_the_producer_of_a_key(nexus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that name a key at the same time share one producer."""
    nexus = getattr(nexus, "it", nexus)
    start, found = threading.Barrier(8), []

    class Slow(Registration):
        __slots__ = ()

        def __init__(self, *given: Any) -> None:
            threading.Event().wait(0.01)  # another thread's turn
            super().__init__(*given)

    class SlowAccount(ProducerSession):
        def __init__(self, *given: Any) -> None:
            threading.Event().wait(0.01)
            super().__init__(*given)

    monkeypatch.setattr(api_nexus, "Registration", Slow)
    monkeypatch.setattr(api_nexus, "ProducerSession", SlowAccount)

    def name(i: int) -> None:
        start.wait()
        found.extend([nexus.budget("stripe", key="a", **({"burst": 7} if i else {"rate": 5})), nexus.budget("mail")])

    threads = [threading.Thread(target=name, args=[i]) for i in range(8)]
    for thread in threads:
        thread.start()
    join(*threads)
    for each in ("stripe/a", "mail"):
        budgets = [budget for budget in found if budget.name == each]
        assert len(budgets) == 8
        assert len({id(budget._registration) for budget in budgets}) == 1
        assert len({id(budget._session) for budget in budgets}) == 1
    assert nexus.budget("stripe", key="a")._registration.settings.given() == {"rate": 5, "burst": 7}


def test_idle_budgets_cost_no_thread_and_no_calls(
    one_server: Server,
) -> None:
    """Ten thousand budgets, of which a hundred are used, take no threads of their own and no calls."""

    def loops() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "nexus-redis"}

    before = loops()
    with Nexus.from_url(one_server.url) as nexus:
        nexus.budget("stripe", rate=1000)
        nexus.budget("stripe", key="first").acquire()
        gc.collect()
        tracemalloc.start()
        budgets = [nexus.budget("stripe", key=f"cust-{i}") for i in range(10_000)]
        gc.collect()
        each = tracemalloc.get_traced_memory()[0] / len(budgets)
        tracemalloc.stop()
        assert each < 2_500  # bytes; docs/how-it-works.md says 2.4 kB
        for budget in budgets[::100]:
            budget.acquire()
        assert loops() - before == nexus._loop._threads
        assert len(nexus._scheduler.sessions) <= 101  # the first may have left, if this took a minute
        assert len(nexus.budgets()) == 101
        del budget, budgets
        gc.collect()
        assert len(nexus._keyed) == 101  # those that Redis knows, until they leave


# --- reserve and settle


def reserving(open_nexus: Opener, budget: Any, cost: float, body: Callable[[Any], None], **options: Any) -> None:
    """`with budget.reserve(cost) as r: body(r)`, in either shell."""
    reservation = budget.reserve(cost, **options)
    if open_nexus._loop is None:
        with reservation as held:
            body(held)
        return

    async def go() -> None:
        async with reservation as held:
            body(held)

    open_nexus._loop.run(go)


def test_a_denial_knows_the_debt(open_nexus: Opener, timed: Any) -> None:
    """A denial behind a debt says when the debt will be paid."""
    budget = timed.budget("llm", rate="10/s")
    reserving(open_nexus, budget, 1, lambda r: r.settle(100))
    assert 9 < budget.try_acquire().retry_after < 12


def test_a_settlement_returns_or_owes(open_nexus: Opener, server: Server, nexus: Any) -> None:
    """What the estimate took too much goes back, and what it took too little is owed."""
    budget = nexus.budget("llm", rate=2000, burst=1)
    budget.acquire()
    book = account_of(budget).ledger
    reserving(open_nexus, budget, 400, lambda r: r.settle(100))
    assert book.used == 101 * MICRO
    reserving(open_nexus, budget, 100, lambda r: r.settle(500))
    assert book.used + book.owed == 601 * MICRO
    assert budget.acquire(1)
    assert (book.used, book.owed, book.settlement.written_off) == (602 * MICRO, 0, 0)
    assert eventually(lambda: spent(account_of(budget)) == granted_by(server, "llm"))


def test_the_estimate_stands_without_a_settlement(open_nexus: Opener, nexus: Any) -> None:
    """The estimate stands where nothing is settled, and where the block raises."""
    budget = nexus.budget("llm", rate=2000)
    book = account_of(budget).ledger
    reserving(open_nexus, budget, 30, lambda _: None)

    def fail(_: Any) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        reserving(open_nexus, budget, 20, fail)
    assert book.used == 50 * MICRO

    def settle_and_fail(reservation: Any) -> None:
        reservation.settle(5)
        raise KeyError

    with pytest.raises(KeyError):
        reserving(open_nexus, budget, 20, settle_and_fail)
    assert book.used == 55 * MICRO


@NO_SERVER
@pytest.mark.parametrize("used", [-1, float("nan"), float("inf"), "5", True, None])
def test_a_bad_settlement_keeps_the_estimate(open_nexus: Opener, nexus: Any, used: Any) -> None:
    """A bad settlement is refused, and the estimate stands."""
    budget = nexus.budget("llm", rate=2000)
    assert refusal(lambda: reserving(open_nexus, budget, 30, lambda r: r.settle(used)))[0] == "used"
    assert account_of(budget).ledger.used == 30 * MICRO


def test_a_late_reservation_takes_nothing(open_nexus: Opener, nexus: Any) -> None:
    """A reservation that times out takes no tokens, and its block never runs."""
    budget = nexus.budget("llm", rate=0)
    ran: list[Any] = []
    with pytest.raises(AcquireTimeout):
        reserving(open_nexus, budget, 1, ran.append, timeout=0.05)
    assert (ran, account_of(budget).ledger.used) == ([], 0)


def test_a_reservation_is_used_once(open_nexus: Opener, nexus: Any) -> None:
    """A reservation is settled inside or after its block, and is used once."""
    budget = nexus.budget("llm", rate=2000)
    held: list[Any] = []
    reserving(open_nexus, budget, 30, held.append)
    (reservation,) = held
    again = type("Again", (), {"reserve": lambda *_, **__: reservation})()
    assert closed(lambda: reserving(open_nexus, again, 30, held.append)) == "reservation"
    reservation.settle(10)
    assert account_of(budget).ledger.used == 10 * MICRO
    assert "10 tokens" in repr(reservation)
    unused = budget.reserve(5)
    assert "not reserved yet" in repr(unused)
    assert refusal(lambda: unused.settle(5)) == ("used", error_texts.NOT_RESERVED)
    nexus.close()
    reservation.settle(500)  # nobody is left to pay it
    assert account_of(budget).ledger.settlement.written_off == 490 * MICRO


# --- several budgets at once


def test_several_budgets_are_taken_together(timed: Any, clock: ManualClock) -> None:
    """Several budgets are taken together."""
    requests, tokens = timed.budget("requests", rate=100), timed.budget("tokens", rate=10_000)
    wanted = {it_of(requests): 1, it_of(tokens): 400}
    for _ in range(10):
        assert timed.acquire(wanted).cost == 401
    assert clock.now < 1  # 0.4 s of tokens, and the first steps of a producer that nobody knows
    assert account_of(requests).ledger.used == 10 * MICRO
    assert account_of(tokens).ledger.used == 4000 * MICRO


def test_several_time_out_as_one(nexus: Any) -> None:
    """A timeout of several budgets takes from none of them and names the slowest."""
    requests, tokens = nexus.budget("requests", rate=100), nexus.budget("tokens", rate=100)
    requests.acquire()
    with pytest.raises(AcquireTimeout) as raised:
        nexus.acquire({it_of(requests): 1, it_of(tokens): 4000}, timeout=0.3)
    assert (raised.value.budget, raised.value.cost) == ("tokens", 4000)
    for budget, used in ((requests, 1), (tokens, 0)):
        book = account_of(budget).ledger
        assert (book.used, len(book.waiters), book.reserved) == (used * MICRO, 0, 0)
        assert spent(account_of(budget)) >= 0
    assert requests.acquire(timeout=PATIENCE)


def test_several_use_the_shortest_timeout(timed: Any) -> None:
    """Where no timeout is given, the shortest one of the producers counts."""
    requests, tokens = timed.budget("requests", rate=100), timed.budget("tokens", rate="1/min")
    patient, hasty = requests.producer(timeout=3600), tokens.producer(timeout=0.2)
    wanted = {it_of(patient): 1, it_of(hasty): 2, it_of(requests): 1}
    with pytest.raises(AcquireTimeout) as raised:
        timed.acquire(wanted)
    assert raised.value.budget == "tokens"
    with pytest.raises(AcquireTimeout) as raised:
        timed.acquire(wanted, timeout=0.4)
    assert raised.value.waited == pytest.approx(0.4)
    assert account_of(patient).ledger.used == 0


@NO_SERVER
def test_other_objects_than_budgets_are_refused(open_nexus: Opener, server: Server, nexus: Any) -> None:
    """What is not a budget of this nexus is refused."""
    other = open_nexus(server).budget("requests", rate=5)
    for wanted in ({}, {"requests": 1}, {it_of(other): 1}):
        with pytest.raises(InvalidSetting) as refused:
            nexus.acquire(wanted)
        assert refused.value.field == "budgets"
    mine = nexus.budget("requests", rate=5)
    assert refusal(lambda: nexus.acquire({it_of(mine): -1}))[0] == "cost"
    assert refusal(lambda: nexus.acquire({it_of(mine): 1}, timeout=-1))[0] == "timeout"


def test_a_budget_named_twice_counts_twice(nexus: Any) -> None:
    """A budget that is named twice counts twice."""
    one, two = nexus.budget("requests", rate=100), nexus.budget("requests")
    nexus.acquire({it_of(one): 2, it_of(two): 3})
    assert account_of(one).ledger.used == 5 * MICRO


def test_close_reaches_who_waits_for_several(nexus: Any) -> None:
    """Closing the nexus raises `Closed` for a caller who waits for several budgets."""
    requests, tokens = nexus.budget("requests", rate=100), nexus.budget("tokens", rate=1)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            nexus.acquire({it_of(requests): 1, it_of(tokens): 4000})
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: account_of(tokens).ledger.parts == 1)
    nexus.close()
    join(thread)
    assert len(errors) == 1


def test_threads_on_two_budgets_are_all_served(one_server: Server) -> None:
    """Twenty threads that want two budgets, and one thread that wants one of them, all get their tokens."""
    with Nexus.from_url(one_server.url) as nexus:
        a, b = nexus.budget("a", rate=300), nexus.budget("b", rate=3000)
        counts = [0] * 21
        stop = threading.Event()

        def both(i: int) -> None:
            while not stop.is_set():
                nexus.acquire({a: 1, b: 20} if i % 2 else {b: 20, a: 1})
                counts[i] += 1

        def one() -> None:
            while not stop.is_set():
                a.acquire()
                counts[20] += 1

        threads = [threading.Thread(target=both, args=[i]) for i in range(20)] + [threading.Thread(target=one)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: min(counts) > 5)
        stop.set()
        join(*threads)
        assert account_of(a).ledger.used == sum(counts) * MICRO
        assert account_of(b).ledger.used == 20 * sum(counts[:20]) * MICRO
        assert spent(account_of(a)) + spent(account_of(b)) > 0


def test_two_budgets_together_are_used_up(one_server: Server, clock: ManualClock) -> None:
    """Twenty tasks that want two budgets use all of the smaller one."""

    async def main() -> None:
        async with nexus_asyncio.Nexus.from_url(one_server.url) as nexus:
            a, b, counts = nexus.budget("a", rate=300), nexus.budget("b", rate=3000), [0] * 21

            async def both(i: int) -> None:
                while clock.now < 10:
                    await nexus.acquire({a: 1, b: 20} if i % 2 else {b: 20, a: 1})
                    counts[i] += 1

            async def one() -> None:
                while clock.now < 10:
                    await a.acquire()
                    counts[20] += 1

            await asyncio.gather(one(), *(both(i) for i in range(20)))
            assert sum(counts[:20]) > 0.9 * 10 * 3000 / 20  # of what b allows
            assert min(counts[:20]) > 0.5 * max(counts[:20])

    run(main())
