"""What a producer may rely on, on both shells and every server."""

from __future__ import annotations

import logging
import math
import threading
from typing import Any

import pytest

from nexus_redis import GRANTED, AcquireTimeout, Closed, Denied, Grant, InvalidSetting
from nexus_redis._core.flights import Flight
from nexus_redis._core.ledger import Ledger
from nexus_redis._core.token_cache import TokenCache
from nexus_redis._protocol.calls import Claim
from nexus_redis._values import error_texts, log_texts
from nexus_redis._values.parse import MICRO
from nexus_redis.testing import ManualClock
from tests.contract.test_budgets import operator_sets
from tests.harness.faces import LONG, Opener, Pass, account_of
from tests.harness.logged import logged
from tests.harness.packing import numbers
from tests.harness.refusals import closed, refusal
from tests.harness.servers import NO_SERVER, Server
from tests.harness.stepping import is_balanced
from tests.harness.support import eventually, join


@pytest.fixture
def nexus(open_nexus: Opener, server: Server) -> Any:
    return open_nexus(server)


def waiting(account: Any) -> int:
    return len(account.ledger.waiters)


# --- acquire


@pytest.mark.fleets
def test_acquire_takes_a_granted_token(nexus: Any) -> None:
    """`acquire` takes a token that Redis has granted."""
    budget = nexus.budget("stripe", rate="100/s")
    grant = budget.acquire()
    assert (grant.cost, grant.degraded) == (1, False)
    assert grant.waited > 0
    assert budget.snapshot().granted_total >= 1
    assert is_balanced(account_of(budget))


def test_acquire_waits_when_there_are_no_tokens(timed: Any, clock: ManualClock) -> None:
    """`acquire` waits when there are no tokens."""
    budget = timed.budget("stripe", rate=100)
    waits = [budget.acquire().waited for _ in range(8)]
    assert clock.now > (8 - 1.02) / 100  # all but the first token had to be made
    assert sum(waits) == pytest.approx(clock.now)
    assert account_of(budget).ledger.used == 8 * MICRO


def test_a_warm_acquire_answers_with_the_constant(nexus: Any) -> None:
    """A warm `acquire` answers with the constant `GRANTED`."""
    budget = nexus.budget("stripe", rate=10_000)
    assert any(budget.acquire() is GRANTED for _ in range(2000))


def test_a_timeout_takes_nothing_and_says_why(timed: Any) -> None:
    """A timeout takes no tokens and says why they did not come."""
    budget = timed.budget("stripe", rate="6/min")
    budget.acquire()
    with pytest.raises(AcquireTimeout) as raised:
        budget.acquire(timeout=0.05)
    assert (raised.value.budget, raised.value.cost) == ("stripe", 1)
    assert raised.value.reason in ("rate", "learning")
    assert 8 < raised.value.retry_after <= 10
    account = account_of(budget)
    assert (account.ledger.used, waiting(account)) == (MICRO, 0)
    assert is_balanced(account)


def test_the_timeout_of_a_producer(timed: Any) -> None:
    """The timeout of a producer is the default of its acquires."""
    budget = timed.budget("stripe", rate="6/min")
    with budget.producer("web", timeout=0.05) as producer:
        producer.acquire(timeout=None)
        with pytest.raises(AcquireTimeout):
            producer.acquire()


def test_a_try_above_the_bucket_is_a_mistake(nexus: Any) -> None:
    """A try for more than the bucket ever holds is a mistake, and the error says so."""
    budget = nexus.budget("stripe", rate=100)
    with pytest.raises(InvalidSetting) as refused:
        budget.try_acquire(30)
    assert (refused.value.field, refused.value.value) == ("cost", "30.0")
    assert refused.value.remedy == error_texts.above_burst(26)
    budget.configure(burst=1)

    def is_possible() -> bool:
        try:
            budget.try_acquire(30)
        except InvalidSetting:
            return False
        return True

    assert eventually(is_possible)  # in a bucket of 101, once a claim has said so
    assert is_balanced(account_of(budget))


def test_a_try_after_a_drop_is_denied(open_nexus: Opener, server: Server, let_pass: Pass) -> None:
    """A try that fitted before the rate fell is denied, and is not a mistake."""
    budget = open_nexus(server).budget("stripe", rate=100)
    budget.acquire()
    let_pass(0.5)
    assert budget.try_acquire(10)
    operator_sets(server, "stripe", rate=5)

    def answer() -> Any:
        let_pass(0.3)
        return budget.try_acquire(10)

    assert eventually(lambda: not answer() and budget.flow.budget_rate == 5)
    denied = budget.try_acquire(10)
    assert isinstance(denied, Denied)
    assert (0.1 <= denied.retry_after <= 1, denied.reason) == (True, "rate")
    with pytest.raises(InvalidSetting) as refused:  # that never did
        budget.try_acquire(30)
    assert (refused.value.field, refused.value.value) == ("cost", "30.0")
    assert refused.value.remedy == error_texts.above_burst(26)
    operator_sets(server, "stripe", rate=100)
    assert eventually(lambda: bool(answer()))


def test_a_loop_of_tries_asks_rarely(timed: Any, clock: ManualClock, let_pass: Pass) -> None:
    """A loop of tries uses the budget, and asks Redis no more often than a loop that waits."""
    budget, granted = timed.budget("stripe", rate=1000), 0
    while granted < 500:
        if budget.try_acquire():
            granted += 1
        else:
            let_pass(0.001)
    assert granted <= 251 + 1000 * clock.now
    assert clock.now < 1
    assert account_of(budget).ledger.seq < 50  # calls to Redis
    assert is_balanced(account_of(budget))


def test_a_failed_try_blocks_no_smaller_one(open_nexus: Opener, server: Server, let_pass: Pass) -> None:
    """A large try that fails does not stand before a small one."""
    budget = open_nexus(server).budget("stripe", rate="1/s", burst=10)
    budget.acquire()
    let_pass(1.1)
    assert budget.try_acquire()
    assert not budget.try_acquire(9)
    assert not budget.try_acquire(10)  # answered here: that slot is not over
    let_pass(1.1)  # a token
    assert not budget.try_acquire(9)
    assert budget.try_acquire()


def test_a_try_after_a_late_caller_is_quick(nexus: Any) -> None:
    """A try after a caller who gave up answers at once."""
    budget = nexus.budget("stripe", rate=0.01)
    with pytest.raises(AcquireTimeout):
        budget.acquire(2, timeout=0.2)
    assert getattr(budget.try_acquire(), "reason", "") != "unavailable"


@NO_SERVER
@pytest.mark.parametrize("timeout", [-1, float("nan"), 1e9, True])
def test_a_bad_timeout_is_refused_at_once(nexus: Any, timeout: float) -> None:
    """A bad timeout is refused before the caller waits."""
    budget = nexus.budget("stripe", rate=0)
    assert refusal(lambda: budget.acquire(timeout=timeout))[0] == "timeout"
    assert waiting(account_of(budget)) == 0


@NO_SERVER
@pytest.mark.parametrize("cost", [0, -1, float("nan"), float("inf"), "5", True, 1e10])
def test_a_bad_cost_is_refused(nexus: Any, cost: Any) -> None:
    """A bad cost is refused."""
    budget = nexus.budget("stripe", rate=5)
    for act in (budget.acquire, budget.try_acquire):
        with pytest.raises(InvalidSetting) as refused:
            act(cost)
        assert refused.value.field == "cost"


def test_a_large_cost_is_collected(nexus: Any) -> None:
    """A large cost is collected over several claims."""
    budget = nexus.budget("stripe", rate=1000, burst=0.05)
    grant = budget.acquire(150)  # the bucket holds 51
    assert grant.cost == 150
    assert account_of(budget).ledger.used == 150 * MICRO


def test_parts_of_tokens_are_exact(nexus: Any) -> None:
    """Parts of tokens are exact."""
    budget = nexus.budget("llm", rate=1000)
    for _ in range(4):
        budget.acquire(0.1)
    assert account_of(budget).ledger.used == 400_000


# --- try_acquire


def test_a_try_is_all_or_nothing(timed: Any) -> None:
    """A try gets all or nothing, and is told when to come back."""
    budget = timed.budget("stripe", rate="6/min")
    assert isinstance(budget.try_acquire(), Grant)
    denied = budget.try_acquire()
    assert not denied
    assert isinstance(denied, Denied)
    assert 0 < denied.retry_after <= 10
    assert denied.reason in ("rate", "learning")
    assert account_of(budget).ledger.used == MICRO


def test_a_denied_try_asks_nobody(timed: Any) -> None:
    """While `retry_after` runs, a try makes no call."""
    budget = timed.budget("stripe", rate="6/min")
    budget.acquire()
    budget.try_acquire()
    seq = account_of(budget).ledger.seq
    assert not any(budget.try_acquire() for _ in range(100))
    assert account_of(budget).ledger.seq == seq


def test_a_try_never_overtakes_who_waits(nexus: Any) -> None:
    """A try never overtakes a caller who waits."""
    budget = nexus.budget("stripe", rate=0)
    account = account_of(budget)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            budget.acquire(5)
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert eventually(lambda: waiting(account) == 1)
    denied = budget.try_acquire()
    assert isinstance(denied, Denied)
    nexus.close()
    join(thread)
    assert len(errors) == 1


# --- pace


def test_pace_keeps_the_order(nexus: Any) -> None:
    """`pace` yields everything in order."""
    budget = nexus.budget("ship", rate=10_000)
    lines = [f"line {i}" for i in range(10)]
    assert list(budget.pace(lines)) == lines
    assert account_of(budget).ledger.used == 10 * MICRO


def test_free_items_pass_in_their_place(nexus: Any) -> None:
    """An item that costs nothing passes in its place."""
    budget = nexus.budget("stripe", rate=1000)
    assert list(budget.pace(["a", "", "bc"], cost=len)) == ["a", "", "bc"]
    assert account_of(budget).ledger.used == 3 * MICRO


@NO_SERVER
@pytest.mark.parametrize("timeout", [-1, float("nan"), "x", True])
def test_a_bad_timeout_despite_tokens(nexus: Any, timeout: Any) -> None:
    """A wrong timeout is refused, also while tokens are in hand."""
    budget = nexus.budget("stripe", rate=1_000_000)
    budget.acquire()
    account_of(budget).ledger.cache = TokenCache(1, MICRO, 1000, math.inf)
    assert refusal(lambda: budget.acquire(timeout=timeout))[0] == "timeout"


@NO_SERVER
def test_costs_that_change(nexus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are cached for a cost that comes again at once, and not for costs that change from call to call."""
    budget, cached = nexus.budget("stripe", rate=1_000_000), list[object]()
    monkeypatch.setattr(Ledger, "fill_cache", lambda _, cost, __: cached.append(cost))
    session = account_of(budget)
    session.ledger.keep(1000 * MICRO, session.scheduler.clock() + 1000)
    for cost in (1, 2.5, 1.5, 2.5, 2.5, 2.5, 1):
        budget.acquire(cost)
    budget.try_acquire(1)
    assert cached == [2.5, 2.5, 1]


def test_pausing_stops_its_own_process(open_nexus: Opener, server: Server) -> None:
    """A process that pauses a budget stops at once."""
    budget = open_nexus(server, push=False).budget("stripe", rate=1_000_000)  # a message would stop it as well
    for _ in range(100):
        budget.acquire()
    ledger = account_of(budget).ledger
    assert eventually(lambda: ledger.in_flight is None and ledger.leases.total > 0)
    ledger.flights.append(
        Flight(Claim(), account_of(budget).scheduler.clock())
    )  # nor is there an answer that would say it
    budget.pause(30)
    before = ledger.used
    assert not any(budget.try_acquire() for _ in range(100))
    assert ledger.used == before


def test_pace_can_count_bytes(nexus: Any) -> None:
    """`pace` can count bytes."""
    budget = nexus.budget("ship", rate=100_000)
    lines = ["a", "bb", "ccc"]
    assert list(budget.pace(lines, cost=len)) == lines
    assert account_of(budget).ledger.used == 6 * MICRO


def test_pace_keeps_the_item_that_waited(nexus: Any) -> None:
    """The item that waited when `acquire` raised comes first when the same items are paced again."""
    budget = nexus.budget("ship", rate=1000)
    producer = budget.producer(timeout=0.2)
    producer.acquire(timeout=60)
    source, sent, timeouts = iter(range(30)), [], 0
    for item in producer.pace(source):
        sent.append(item)
        if item == 9:
            break
    budget.pause()
    assert eventually(lambda: not producer.try_acquire())  # what is in hand may go until the pause is heard
    while len(sent) < 30:
        try:
            sent += producer.pace(source)  # nothing, while it is paused
        except AcquireTimeout:
            timeouts += 1
            if timeouts == 3:
                producer.close()  # another one goes on where this one was
                producer = budget.producer(timeout=0.2)
                budget.resume()
                producer.acquire(timeout=60)
    assert sent == list(range(30))
    assert timeouts == 3


# --- the bare protocol


@pytest.mark.fleets
def test_the_example_of_the_protocol(nexus: Any) -> None:
    """A consumer of 400/s at 95 percent answers 10,000/s with 100/s."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer(capacity=400, interval=LONG) as consumer, budget.producer("filebeat-1") as producer:
        assert consumer.report(load=95) == 100
        flow = producer.signal(requested_rate=10_000)
        assert (flow.recommended_rate, flow.backpressure_level, flow.current_load) == (100, 2, 95)
        assert flow.consumer_id == "elasticsearch"
        assert producer.flow == flow


def test_a_signal_takes_no_tokens(nexus: Any) -> None:
    """A signal takes no tokens."""
    budget = nexus.budget("stripe", rate=100)
    assert budget.flow is None
    flow = budget.signal("6000/min")
    assert (flow.recommended_rate, flow.granted, flow.reason) == (100, 0, "ok")
    assert budget.flow == flow
    assert budget.snapshot().granted_total == 0


# --- producers of one's own


def test_producers_have_names_and_weights(nexus: Any) -> None:
    """Producers that code makes have names, weights and priorities."""
    budget = nexus.budget("stripe", rate=1000)
    with budget.producer("etl", weight=2, priority="low") as etl, budget.producer("web", priority="high") as web:
        etl.acquire()
        web.acquire()
        told = {p.id: (p.weight, p.priority) for p in budget.snapshot().producers}
        assert told == {"etl": (2, "low"), "web": (1, "high")}
    assert budget.snapshot().producers == ()


def test_a_producer_id_in_use_gets_a_suffix(
    clock: ManualClock, open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A producer whose id is in use gets a suffix and goes on."""
    producers = [open_nexus(server).budget("stripe", rate=1000).producer("web") for _ in range(2)]
    for _ in range(3):
        for producer in producers:
            producer.acquire()
    assert producers[0].id == "web"
    assert producers[1].id.startswith("web.")
    assert logged(caplog, log_texts.PRODUCER_ID_TAKEN) == [("stripe", "web", producers[1].id)]


def test_a_closed_producer_frees_its_id(nexus: Any) -> None:
    """An id is free again when its producer was closed."""
    budget = nexus.budget("stripe", rate=1000)
    for _ in range(3):
        with budget.producer("web") as producer:
            producer.acquire()
            assert producer.id == "web"


def test_a_closed_producer_says_so(nexus: Any) -> None:
    """A producer that was closed raises an error that says so."""
    producer = nexus.budget("stripe", rate=1000).producer("web")
    producer.acquire()
    producer.close()
    producer.close()
    for act in (producer.acquire, producer.try_acquire, lambda: producer.signal(5)):
        assert closed(act) == "producer"


@NO_SERVER
@pytest.mark.parametrize("id", ["", "a b", "{x}", "x" * 65])
def test_a_bad_id_is_refused(nexus: Any, id: str) -> None:
    """A bad id is refused."""
    assert refusal(lambda: nexus.budget("stripe").producer(id)) == ("id", error_texts.INVALID_NAME)


def test_ten_closed_producers_are_gone(nexus: Any) -> None:
    """Ten producers that were closed are ten producers gone."""
    budget = nexus.budget("stripe", rate=10_000)
    for i in range(10):
        with budget.producer(f"p{i}") as producer:
            producer.acquire()
    assert account_of(budget).scheduler.sessions == set()
    assert budget.snapshot().producer_count == 0


# --- closing


@pytest.mark.fleets
def test_close_hands_the_tokens_back(timed: Any, server: Server) -> None:
    """`close` hands the tokens back."""
    redis: Any = server.client()
    producer = timed.budget("stripe", rate=100, burst=2).producer("web")
    account = account_of(producer)

    def tokens() -> float:
        in_bucket: float = numbers("bucket", redis.get("nexus:{stripe}:state"))[3] / MICRO
        return in_bucket

    with pytest.raises(AcquireTimeout):
        producer.acquire(1000, timeout=0.5)  # what was collected for it is in hand now
    held, before = account.ledger.held / MICRO, tokens()
    assert held > 2
    producer.close()
    assert account.ledger.returned / MICRO >= held
    assert tokens() - before >= held - 1e-6
    assert is_balanced(account)


def test_close_ends_every_use(nexus: Any) -> None:
    """`close` fails the callers who wait and ends every use."""
    budget = nexus.budget("stripe", rate=0)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            budget.acquire()
        except Closed as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert eventually(lambda: waiting(account_of(budget)) == 3)
    nexus.close()
    nexus.close()
    join(*threads)
    assert len(errors) == 3
    for act in (budget.acquire, budget.try_acquire, budget.snapshot, nexus.budgets):
        with pytest.raises(Closed):
            act()


def test_closing_leaves_no_producer(open_nexus: Opener, server: Server) -> None:
    """A producer that is closed leaves nothing behind."""
    with open_nexus(server) as nexus:
        nexus.budget("stripe", rate=1000).acquire()
    assert open_nexus(server).budget("stripe").snapshot().producers == ()


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")
