"""What a consumer may rely on, on both shells and every server."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

import pytest

from nexus_redis import AcquireTimeout, InvalidSetting
from nexus_redis._protocol import calls, explain
from nexus_redis._protocol.keys import BudgetKeys
from nexus_redis._protocol.snapshot import ConsumerSnapshot
from nexus_redis._values import error_texts, log_texts
from tests.harness.faces import LONG, Opener
from tests.harness.logged import logged
from tests.harness.refusals import closed, refusal
from tests.harness.servers import NO_SERVER, Server
from tests.harness.support import PATIENCE, eventually


@pytest.fixture
def nexus(open_nexus: Opener, server: Server) -> Any:
    return open_nexus(server)


def only(budget: Any) -> ConsumerSnapshot:
    """The budget's one consumer."""
    (consumer,) = budget.snapshot().consumers
    assert isinstance(consumer, ConsumerSnapshot)
    return consumer


def said(budget: Any) -> dict[str, str]:
    """What its one consumer has said last, as Redis has it; nothing where it is silent."""
    told = budget.snapshot().consumers
    return dict(told[0].fields) if told else {}


def test_a_report_answers_with_the_rate(nexus: Any) -> None:
    """The answer of a report is the rate that the consumer has now."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer("es-1", capacity=400, interval=LONG) as consumer:
        assert consumer.rate == 400
        assert [consumer.report(load=load) for load in (50, 90, 95)] == [400, 200, 100]
        assert consumer.rate == 100
        snapshot = budget.snapshot()
        assert (snapshot.rate, snapshot.level, snapshot.load, snapshot.reason) == (100, 2, 95, "load")
        told = only(budget)
        assert (told.id, told.rate, told.capacity, told.load, told.law, told.is_live) == (
            "es-1", 100, 400, 95, "range", True,
        )  # fmt: skip


@pytest.mark.fleets
def test_consumers_that_pull_add_up(nexus: Any) -> None:
    """The rates of consumers that pull add up, and a consumer that leaves counts no longer at once."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer("es-1", capacity=400, interval=LONG) as first:
        first.report(load=0)
        with budget.consumer("es-2", capacity=100, interval=LONG) as second:
            second.report(load=0)
            assert budget.snapshot().rate == 500
        assert budget.snapshot().rate == 400
    snapshot = budget.snapshot()
    assert snapshot.consumers == ()
    assert snapshot.last_consumer_end == "left"


def test_the_rate_returns_after_the_grace(nexus: Any) -> None:
    """After a consumer has left in order and its grace is over, the budget has its own rate again."""
    budget = nexus.budget("elasticsearch", rate=250)
    with budget.consumer(capacity=400, interval=LONG) as consumer:
        consumer.report(load=95)
        assert budget.snapshot().rate == 100
    assert budget.snapshot().rate == 100
    assert budget.explain().because[0] == explain.JUST_LEFT.format(grace="10 s")
    budget.configure(grace=0)
    assert budget.snapshot().rate == 250
    assert budget.acquire()


def test_work_is_counted_by_itself(nexus: Any) -> None:
    """Work is counted by itself."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer("es-1", interval=0.05) as consumer:
        with consumer.work(5):
            assert eventually(lambda: said(budget).get("in_flight") == "5")
        with pytest.raises(KeyError), consumer.work(2):
            raise KeyError
        counted = {"done": "5", "errors": "2", "in_flight": "0"}
        assert eventually(lambda: said(budget).items() >= counted.items() and float(said(budget)["latency_ms"]) >= 0)


@pytest.mark.parametrize("capacity", [None, 400])
def test_an_entered_consumer_is_known(nexus: Any, capacity: float | None) -> None:
    """A consumer that was entered is known before its first work."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer(capacity=capacity, interval=LONG) as consumer:
        assert budget.snapshot().rate == (10 if capacity is None else 400)
        assert (consumer.rate, only(budget).law) == (budget.snapshot().rate, "aimd")
        budget.acquire()
    with budget.consumer(capacity=capacity, interval=LONG):  # as after a redeploy: there were consumers before
        budget.acquire()


def test_the_first_use_makes_a_consumer_known(nexus: Any) -> None:
    """The first use makes a consumer known that was not entered."""
    budget = nexus.budget("elasticsearch")
    consumer = budget.consumer(interval=0.05)
    with consumer.work(2):
        pass
    assert eventually(lambda: said(budget).get("done") == "2")


def test_an_idle_consumer_has_no_load(nexus: Any) -> None:
    """An idle consumer that watches a queue has no load."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer(interval=0.05) as consumer:
        consumer.watch(queue.Queue(maxsize=1000))
        assert eventually(lambda: only(budget).law == "drain")
        assert (budget.snapshot().level, budget.snapshot().load) == (0, 0)


def test_a_bulk_has_failed_parts(nexus: Any) -> None:
    """A bulk says which part of it failed."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer(interval=0.05) as consumer:
        with consumer.work(500) as work:
            work.failed(3)
        with consumer.work(10) as work:
            work.done(4)
        assert eventually(lambda: said(budget).items() >= {"done": "501", "errors": "9"}.items())


def test_a_watched_queue_tells_its_depth(nexus: Any) -> None:
    """A watched queue tells its depth."""
    budget = nexus.budget("elasticsearch")
    watched: queue.Queue[int] = queue.Queue(maxsize=50)
    with budget.consumer("es-1", interval=0.05) as consumer:
        watched.put(1)
        consumer.watch(watched)
        assert eventually(lambda: said(budget).items() >= {"queue_depth": "1", "queue_limit": "50"}.items())
        watched.put(2)
        assert eventually(lambda: said(budget).get("queue_depth") == "2")
        assert eventually(lambda: [each.law for each in budget.snapshot().consumers] == ["drain"])


@pytest.mark.hurried  # the loop stands still as long as the lock is held: the try waits as long as it may
def test_a_depth_behind_the_callers_own_lock(nexus: Any) -> None:
    """A queue whose depth needs a lock that the caller holds does no harm."""
    budget, lock = nexus.budget("elasticsearch", rate=10_000), threading.Lock()
    asked = threading.Event()

    def depth() -> float:
        asked.set()
        with lock:
            return 0

    with budget.consumer("es-1", interval=0.02) as consumer:
        with lock:
            consumer.watch(depth=depth, limit=5)
            assert asked.wait(PATIENCE)
            budget.try_acquire(0.001)  # the point is that it answers
        budget.acquire()


def test_a_pause_takes_the_part_of_a_consumer_out(nexus: Any) -> None:
    """`pause` takes a consumer's part out of the rate, and `pause(0)` brings it back."""
    budget = nexus.budget("elasticsearch")
    with budget.consumer(capacity=400, interval=LONG) as first, budget.consumer(capacity=100, interval=LONG) as second:
        first.report(load=0)
        second.report(load=0)
        first.pause(30)
        assert (budget.snapshot().rate, first.rate) == (100, 0)
        first.pause(0)
        assert budget.snapshot().rate == 500


def test_too_little_in_a_report_is_refused(nexus: Any) -> None:
    """A report from which no rate follows is refused with the remedy."""
    with nexus.budget("elasticsearch").consumer() as consumer:
        assert refusal(lambda: consumer.report(load=95)) == ("load", error_texts.LOAD_WITHOUT_RATE)


@NO_SERVER
@pytest.mark.parametrize("said", [{"load": 101}, {"load": -1}, {"load": True}, {"done": float("nan")}, {"lode": 5}])
def test_a_bad_report_is_not_sent(nexus: Any, said: dict[str, Any]) -> None:
    """A bad report is refused before it is sent."""
    budget = nexus.budget("elasticsearch")
    consumer = budget.consumer(capacity=400)
    assert refusal(lambda: consumer.report(**said))[0] == next(iter(said))
    assert not budget.snapshot().exists


def test_a_consumer_id_in_use_gets_a_suffix(
    open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A consumer whose id is in use goes on under another id."""
    consumers = [
        open_nexus(server).budget("elasticsearch").consumer("es-1", capacity=100, interval=LONG) for _ in range(2)
    ]
    for consumer in consumers:
        consumer.report(load=0)
    assert consumers[0].id == "es-1"
    assert consumers[1].id.startswith("es-1.")
    assert open_nexus(server).budget("elasticsearch").snapshot().rate == 200
    assert logged(caplog, log_texts.CONSUMER_ID_TAKEN) == [("elasticsearch", "es-1", consumers[1].id)]


def test_close_withdraws_the_consumers(open_nexus: Opener, server: Server) -> None:
    """Closing the nexus withdraws its consumers."""
    nexus = open_nexus(server)
    nexus.budget("elasticsearch").consumer(capacity=400).report(load=0)
    nexus.close()
    snapshot = open_nexus(server).budget("elasticsearch").snapshot()
    assert (snapshot.consumers, snapshot.last_consumer_end) == ((), "left")


def test_a_closed_consumer_says_so(nexus: Any) -> None:
    """A consumer that was closed raises an error that says so."""
    consumer = nexus.budget("elasticsearch").consumer(capacity=400)
    consumer.report(load=0)
    consumer.close()
    consumer.close()
    assert closed(lambda: consumer.report(load=5)) == "consumer"
    assert closed(lambda: consumer.pause(5)) == "consumer"
    assert closed(lambda: consumer.watch(queue.Queue(5))) == "consumer"
    nexus.close()
    assert closed(lambda: consumer.report(load=5)) == "nexus"
    assert closed(lambda: nexus.budget("elasticsearch").watch_list("jobs", limit=5, capacity=5)) == "nexus"


def test_work_after_the_end_is_harmless(nexus: Any) -> None:
    """Work after the end of the consumer is harmless and silent."""
    budget = nexus.budget("elasticsearch")
    consumer = budget.consumer(capacity=400)
    consumer.report(load=0)
    consumer.close()
    with consumer.work(5):
        pass
    assert budget.snapshot().consumers == ()


def test_a_busy_reporter_leaves_for_good(nexus: Any) -> None:
    """A consumer that leaves while it reports all the time is gone."""
    budget = nexus.budget("elasticsearch")
    for _ in range(5):
        with budget.consumer("es-1", capacity=400, interval=0.01) as consumer:
            consumer.report(load=0)
        snapshot = budget.snapshot()
        assert (snapshot.consumers, snapshot.last_consumer_end) == ((), "left")


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nexus_redis")


def test_a_cost_above_a_lossless_bucket(nexus: Any) -> None:
    """A lossless budget refuses a cost that no bucket holds.

    It collects nothing beyond a lease, so the caller would wait forever; a larger burst takes the cost.
    """
    budget = nexus.budget("es", rate=100, lossless=True)
    with budget.consumer(capacity=1000, interval=LONG) as consumer:
        consumer.report(queue_limit=1000, queue_depth=0, done=0, errors=0, in_flight=0)
        with pytest.raises(InvalidSetting) as refused:
            budget.acquire(27)
        assert (refused.value.field, float(refused.value.value)) == ("cost", 27)
        assert refused.value.remedy == error_texts.above_lossless_burst(26)
        budget.configure(burst=1)
        with pytest.raises(AcquireTimeout):
            budget.acquire(27, timeout=0.01)


def test_a_lossless_budget_warns_once(timed: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A lossless budget without a consumer warns once."""
    budget = timed.budget("es", rate=100, lossless=True)
    for _ in range(2):
        with pytest.raises(AcquireTimeout) as late:
            budget.acquire(timeout=1.5)
        assert late.value.reason == "window"
    assert logged(caplog, log_texts.NO_REPORT) == [{"name": "es"}]
    assert budget.snapshot().rate == 0


def test_a_wrong_report_keeps_the_consumer(nexus: Any) -> None:
    """A report with a mistake in it does not take the consumer out."""
    budget = nexus.budget("es")
    with budget.consumer(interval=LONG) as consumer:
        consumer.report(load=10, capacity=100)
        assert refusal(lambda: consumer.report(queue_depth=0, queue_limit=0)) == ("queue_limit", error_texts.ZERO_LIMIT)
        assert consumer.report(load=10) == 100


def test_a_pause_by_code_ends_no_other_pause(nexus: Any, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A pause by code neither shortens a longer pause nor ends an operator's pause."""
    budget = nexus.budget("es", rate=100)
    budget.pause(3600, reason="429")
    budget.pause(1, reason="429")
    assert budget.snapshot().paused_for > 1800
    budget.resume()
    assert budget.snapshot().paused_for is None
    call = calls.configure(BudgetKeys("nexus", "es"), source="operator", pause=3600.0)
    server.client().eval(call.script.text, len(call.keys), *call.keys, *call.args)
    budget.resume()
    assert budget.snapshot().paused_for > 1800
    assert logged(caplog, log_texts.PAUSE_OVERRULED) == [("es", "es")]
