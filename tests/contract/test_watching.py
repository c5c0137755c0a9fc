"""Queues, streams and lists that are looked at from outside, on both shells and every server."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import queue
from typing import Any

import pytest

from nexus_redis import InvalidSetting
from nexus_redis._core.meter import Meter
from nexus_redis._core.sources import UNKNOWN, Look, StreamSource
from nexus_redis._protocol.explain import MISSING
from nexus_redis._values import error_texts, log_texts
from nexus_redis.errors import COUNT
from tests.harness.faces import Opener
from tests.harness.logged import logged
from tests.harness.refusals import refusal
from tests.harness.servers import NO_SERVER, Server
from tests.harness.support import eventually

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def fields(budget: Any) -> dict[str, str]:
    """Of its one consumer, as Redis has them."""
    told = budget.snapshot().consumers
    return dict(told[0].fields) if told else {}


def shows(budget: Any, **wanted: str) -> bool:
    return eventually(lambda: fields(budget).items() >= wanted.items())


# --- queues


@pytest.mark.parametrize("make", [queue.Queue, asyncio.Queue, multiprocessing.Queue, multiprocessing.JoinableQueue])
def test_every_queue_has_a_depth(make: Any) -> None:
    """Every kind of queue tells its depth and its limit."""
    meter, watched = Meter(None), make(50)
    meter.watch(watched)
    watched.put_nowait(1)
    assert eventually(lambda: meter.sample()["queue_depth"] == 1)
    assert meter.sample()["queue_limit"] == 50
    unbounded = Meter(None)
    unbounded.watch(make())
    assert "queue_limit" not in unbounded.sample()
    unbounded.watch(make(), limit=5)
    assert unbounded.sample()["queue_limit"] == 5


@pytest.mark.parametrize(
    ("limit", "field"),
    [(-5, "queue_limit"), (0, "limit"), (float("nan"), "queue_limit"), ("9", "queue_limit"), (True, "queue_limit")],
)
def test_a_bad_limit_is_refused(limit: Any, field: str) -> None:
    """A limit that no queue can have is refused."""
    assert refusal(lambda: Meter(None).watch(queue.Queue(5), limit=limit))[0] == field


def test_a_queue_without_a_depth_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A queue that cannot tell its depth on this system is refused, and the error says what to do."""
    watched: Any = multiprocessing.Queue(5)

    def as_on_macos() -> int:
        raise NotImplementedError

    monkeypatch.setattr(watched, "qsize", as_on_macos)
    assert refusal(lambda: Meter(None).watch(watched)) == ("watch", error_texts.QUEUE_WITHOUT_SIZE)
    unwatchable: Any = multiprocessing.SimpleQueue()
    assert refusal(lambda: Meter(None).watch(unwatchable)) == ("watch", error_texts.NOT_A_QUEUE)


# --- streams


def test_a_group_tells_depth_in_flight_and_done(open_nexus: Opener, server: Server) -> None:
    """A consumer group's lag, pending and acknowledged entries are its depth, in flight and done."""
    client: Any = server.client()
    budget = open_nexus(server).budget("index")
    ids = [client.xadd("orders", {"n": i}) for i in range(10)]
    client.xgroup_create("orders", "index", id="0")
    budget.watch_stream("orders", group="index", limit=1000, interval=0.02)
    assert shows(budget, queue_depth="10", queue_limit="1000", in_flight="0", done="0")
    client.xreadgroup("index", "worker", {"orders": ">"}, count=6)
    assert shows(budget, queue_depth="4", in_flight="6", done="0")
    client.xack("orders", "index", *ids[:5])
    assert shows(budget, queue_depth="4", in_flight="1", done="5")
    (told,) = budget.snapshot().consumers
    assert (told.id, told.law) == ("stream.orders.index", "drain")


def test_a_missing_stream_is_an_empty_queue(open_nexus: Opener, server: Server) -> None:
    """A stream or group that is not there yet is an empty queue, so that producers may begin."""
    client: Any = server.client()
    budget = open_nexus(server).budget("index")
    budget.watch_stream("orders", group="index", limit=1000, interval=0.02)
    assert shows(budget, queue_depth="0", done="0")
    assert budget.acquire(timeout=5)
    client.xadd("orders", {"n": 1})
    assert shows(budget, queue_depth="1")


def test_a_missing_stream_is_said_once(open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A missing stream or group is logged once with the remedy, and explained until it is there."""
    caplog.set_level(logging.INFO, "nexus_redis")
    client: Any = server.client()
    budget = open_nexus(server).budget("index")
    budget.watch_stream("ordrs", group="indx", limit=1000, interval=0.02)
    assert eventually(lambda: MISSING.format(missing="stream ordrs") in str(budget.explain()))
    client.xadd("ordrs", {"n": 1})
    assert eventually(lambda: MISSING.format(missing="group indx of stream ordrs") in str(budget.explain()))
    client.xgroup_create("ordrs", "indx", id="0")
    assert eventually(lambda: MISSING.partition("{")[0] not in str(budget.explain()))
    assert logged(caplog, log_texts.STREAM_MISSING) == [("stream ordrs", "ordrs", "indx")]
    assert logged(caplog, log_texts.STREAM_FOUND, "INFO") == [("indx", "ordrs")]


def test_entries_are_counted_without_a_lag(open_nexus: Opener, server: Server) -> None:
    """Where Redis knows no lag, the entries are counted."""
    client: Any = server.client()
    budget = open_nexus(server).budget("index")
    ids = [client.xadd("orders", {"n": i}) for i in range(10)]
    client.xgroup_create("orders", "index", id="0")
    client.xreadgroup("index", "worker", {"orders": ">"}, count=2)
    client.xdel("orders", ids[5])  # from here no Redis knows the lag
    budget.watch_stream("orders", group="index", limit=1000, interval=0.02)
    assert shows(budget, queue_depth="7", in_flight="2")
    done = int(fields(budget)["done"])
    client.xreadgroup("index", "worker", {"orders": ">"}, count=4)
    client.xack("orders", "index", *ids[:2])
    assert shows(budget, queue_depth="3", in_flight="4", done=str(done + 2))


def test_done_never_jumps() -> None:
    """`done` never jumps when Redis begins or ceases to know how many entries were read."""
    source = StreamSource("orders", "index", 100)
    looks = [
        Look("", pending=1, length=15, last="1-0", read=10, added=15, lag=5, depth=5, since=0),
        Look("", pending=2, length=16, last="2-0", read=UNKNOWN, added=17, lag=UNKNOWN, depth=4, since=3),
        Look("", pending=0, length=16, last="2-0", read=UNKNOWN, added=17, lag=UNKNOWN, depth=4, since=0),
        Look("", pending=0, length=16, last="2-0", read=700, added=17, lag=4, depth=4, since=0),
        Look("", pending=1, length=16, last="3-0", read=702, added=17, lag=2, depth=2, since=0),
    ]
    assert [source.see([look])["done"] for look in looks] == [9, 11, 13, 13, 14]


def test_one_of_two_watchers_stands_by(open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Of two consumers that watch one group, one stands by and takes over later."""
    caplog.set_level(logging.INFO, "nexus_redis")
    client: Any = server.client()
    client.xadd("orders", {"n": 1})
    client.xgroup_create("orders", "index", id="0")
    budgets = [open_nexus(server).budget("index") for _ in range(2)]
    first = budgets[0].watch_stream("orders", group="index", limit=1000, interval=0.02)
    assert shows(budgets[0], queue_depth="1")
    second = budgets[1].watch_stream("orders", group="index", limit=1000, interval=0.02)
    assert eventually(lambda: logged(caplog, log_texts.SOURCE_STANDS_BY, "INFO"))
    assert [consumer.id for consumer in budgets[0].snapshot().consumers] == ["stream.orders.index"]
    assert second.rate is None
    first.close()
    assert eventually(lambda: second.rate is not None)
    assert second.id == "stream.orders.index"
    assert logged(caplog, log_texts.SOURCE_STANDS_BY, "INFO") == [("index", "stream.orders.index")]


@NO_SERVER
@pytest.mark.parametrize(
    ("wrong", "refused"),
    [
        ({"key": ""}, ("key", error_texts.NO_KEY)),
        ({"group": None}, ("group", error_texts.NO_KEY)),
        ({"limit": 0}, ("limit", error_texts.EMPTY_QUEUE_LIMIT)),
        ({"limit": float("nan")}, ("queue_limit", COUNT.remedy)),
    ],
)
def test_a_bad_stream_is_refused(
    open_nexus: Opener, server: Server, wrong: dict[str, Any], refused: tuple[str, str]
) -> None:
    """Arguments that no stream can have are refused."""
    given = {"key": "orders", "group": "index", "limit": 10, **wrong}
    budget = open_nexus(server).budget("index")
    assert refusal(lambda: budget.watch_stream(given.pop("key"), **given)) == refused


def test_a_key_of_another_type_is_said_once(
    open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A key of another type is logged once and asked for again."""
    client: Any = server.client()
    client.set("orders", "text")
    budget = open_nexus(server).budget("index")
    budget.watch_stream("orders", group="index", limit=10, interval=0.02)
    assert eventually(lambda: logged(caplog, log_texts.REPORT_REFUSED))
    client.delete("orders")
    assert shows(budget, queue_depth="0")
    assert len(logged(caplog, log_texts.REPORT_REFUSED)) == 1


# --- lists


def test_the_length_of_a_list_rules(open_nexus: Opener, server: Server) -> None:
    """A list with a capacity is ruled by its length."""
    client: Any = server.client()
    client.rpush("jobs", *range(90))
    budget = open_nexus(server).budget("work")
    budget.watch_list("jobs", limit=100, capacity=50, interval=0.02)
    assert shows(budget, queue_depth="90", law="range")
    assert budget.snapshot().rate == 25


def test_a_bad_counter_is_read_again(open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A counter that is not a number is logged and read again."""
    client = server.client()
    client.set("jobs:done", "soon")
    budget = open_nexus(server).budget("work", rate=50)
    budget.watch_list("jobs", limit=100, done="jobs:done", interval=0.02)
    refusal_of_soon = str(InvalidSetting("done", "soon", error_texts.malformed_counter("jobs:done")))
    assert eventually(lambda: refusal_of_soon in [said for _, _, said in logged(caplog, log_texts.REPORT_REFUSED)])
    client.set("jobs:done", 7)
    assert shows(budget, done="7")


def test_a_counter_of_done_work_rules(open_nexus: Opener, server: Server) -> None:
    """A list with a counter of finished work is ruled by that counter."""
    client: Any = server.client()
    client.rpush("jobs", *range(9))
    budget = open_nexus(server).budget("work")
    budget.watch_list("jobs", limit=100, done="jobs:done", interval=0.02)
    assert shows(budget, queue_depth="9", law="drain", done="0")
    client.incrby("jobs:done", 7)
    assert shows(budget, done="7")


def test_a_list_alone_is_too_little(open_nexus: Opener, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A list alone reports too little, and the log says what is missing."""
    budget = open_nexus(server).budget("work")
    budget.watch_list("jobs", limit=100, interval=0.02)
    refused = str(InvalidSetting("load", remedy=error_texts.LOAD_WITHOUT_RATE))
    assert eventually(lambda: refused in [said for _, _, said in logged(caplog, log_texts.REPORT_REFUSED)])
