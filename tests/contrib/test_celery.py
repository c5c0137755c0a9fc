"""Celery workers on one budget, with a real Redis as their broker."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from celery import Celery

import nexus_redis
import nexus_redis.asyncio
from nexus_redis.contrib import _texts
from nexus_redis.contrib.celery import NexusTask
from nexus_redis.errors import COST
from nexus_redis.testing import assert_never_exceeded
from tests.contrib.refusals import wrong_kind
from tests.contrib.workers import Workers, noted, operator_sets
from tests.harness.refusals import refusal
from tests.harness.servers import Server
from tests.harness.support import LONG_PATIENCE, eventually

APP = "tests.contrib.celery_app"
RATE = 40


@pytest.fixture
def app(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application in the process that sends tasks."""
    monkeypatch.setenv("NEXUS_REDIS_URL", one_server.url)
    module = importlib.import_module(APP)
    yield module
    module.nexus.close()
    module.app.close()
    sys.modules.pop(APP)


@pytest.fixture
def work(workers: Workers) -> Callable[..., None]:
    """`work(2)` starts two workers."""

    def start(count: int, *options: str) -> None:
        for number in range(count):
            lean = ("--without-gossip", "--without-mingle", "--without-heartbeat", *(options or ("-c", "2")))
            workers.start("celery", "-A", APP, "worker", "-n", f"w{number}", "-l", "WARNING", *lean)

    return start


def results(answers: list[Any]) -> list[Any]:
    """Return what tasks returned or raised. Polls, because a `get` that misses Celery's message waits for minutes."""
    assert eventually(lambda: all(answer.ready() for answer in answers), within_s=LONG_PATIENCE)
    return [answer.result for answer in answers]


@pytest.mark.slow
def test_two_workers(one_server: Server, app: Any, work: Callable[..., None]) -> None:
    """Tasks over the budget of two workers are deferred, and each runs once when there are tokens.

    test_deferral.py tests by the clock how much of the budget the workers use.
    """
    operator_sets(one_server, rate=0)
    answers = [app.limited.delay(number) for number in range(40)]
    app.free.delay()
    work(2)
    assert eventually(
        lambda: noted(one_server, "free"), within_s=LONG_PATIENCE
    )  # it did not wait behind the tasks over budget
    assert noted(one_server, "limited") == []
    operator_sets(one_server, rate=RATE)
    assert results(answers) == list(range(40))
    log = noted(one_server, "limited")
    assert len(log) == 40
    assert_never_exceeded(log, RATE, largest=4)  # two times two processes may note a task late
    with one_server.client() as client:
        lines: Any = client.lrange("limited", 0, -1)
    assert {line.split()[2] for line in lines} == {b"0"}  # a deferral is not an attempt


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["prefork", "threads", "solo", "gevent", "eventlet"])
def test_pools(one_server: Server, app: Any, work: Callable[..., None], workers: Workers, pool: str) -> None:
    """Tasks acquire their tokens in each kind of pool, and the end of the pool returns the tokens."""
    answers = [app.paid.delay() for _ in range(12)]
    work(1, "-P", pool, "-c", "2")
    assert results(answers) == [None] * 12
    workers.stop()
    with one_server.client() as client:
        assert not list(client.scan_iter("*:producer:*"))


def test_retry(one_server: Server, app: Any, work: Callable[..., None]) -> None:
    """A real retry counts as an attempt."""
    result = app.failing.delay()
    work(1, "-P", "solo")
    assert [type(error) for error in results([result])] == [LookupError]
    with one_server.client() as client:
        lines: Any = client.lrange("failing", 0, -1)
    assert [line.split()[1] for line in lines] == [b"0", b"1"]


def test_cost_function(one_server: Server, app: Any, work: Callable[..., None]) -> None:
    """The cost may be a function of the task's arguments."""
    answers = [app.weighty.delay(number, each=5) for number in (0, 1, 2)]
    work(1, "-P", "solo")
    assert results(answers) == [0, 1, 2]
    assert int(app.budget.snapshot().granted_total) >= 15


def idle() -> None:
    """Do nothing."""


def test_wrong_task() -> None:
    """A task that cannot work is refused where it is made."""
    own, nexus = Celery("own", broker="memory://"), nexus_redis.Nexus.from_url("redis://nowhere.example")
    other = nexus_redis.asyncio.Nexus.from_url("redis://nowhere.example")
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "budget", _texts.task_without_budget("0")),
        ({"budget": "stripe"}, "budget", wrong_kind("Budget", "sync")),
        ({"budget": other.budget("x")}, "budget", wrong_kind("Budget", "sync")),
        ({"budget": nexus.budget("x"), "cost": -1}, "cost", COST.remedy),
        ({"budget": nexus.budget("x"), "cost": "3"}, "cost", COST.remedy),
    ]
    for number, (options, field, remedy) in enumerate(cases):
        task = own.task(base=NexusTask, lazy=False, shared=False, name=str(number), **options)
        assert refusal(partial(task, idle)) == (field, remedy)


# Celery shares tasks among the applications of a process, and other tests have made some.
@pytest.mark.filterwarnings("ignore:.*already registered to a different callable")
def test_task_cls() -> None:
    """As the base of all tasks, it does not limit tasks without a budget."""
    own = Celery("own", broker="memory://", task_cls=NexusTask)
    own.finalize()
    assert "celery.backend_cleanup" in own.tasks


def test_eager(app: Any, one_server: Server) -> None:
    """An eager task waits for its token, and a direct call acquires none."""
    assert app.limited(7) == 7
    assert not app.budget.snapshot().exists
    assert [app.limited.apply((number,)).get() for number in range(20)] == list(range(20))
    assert app.budget.snapshot().granted_total >= 20
