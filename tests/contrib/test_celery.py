"""Celery workers on one budget, with a real Redis as their broker."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import nexus_redis
import nexus_redis.asyncio
from nexus_redis import InvalidSetting
from nexus_redis.contrib.celery import NexusTask
from nexus_redis.testing import assert_never_exceeded
from tests.contrib.workers import Workers, noted
from tests.servers import Server
from tests.support import eventually

APP = "tests.contrib.celery_app"
RATE = 40


@pytest.fixture
def app(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application, as the one who sends tasks has it."""
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


@pytest.mark.slow
def test_two_workers_on_one_budget_of_40_run_40_together_and_others_before_the_end(
    one_server: Server, app: Any, work: Callable[..., None]
) -> None:
    for number in range(240):
        app.limited.delay(number)
    work(2)
    assert eventually(lambda: len(noted(one_server, "limited")) >= 40, within_s=60)
    app.free.delay()
    assert eventually(lambda: bool(noted(one_server, "free")), within_s=60)
    assert eventually(lambda: len(noted(one_server, "limited")) == 240, within_s=60)
    log = noted(one_server, "limited")
    assert_never_exceeded(log, RATE)
    middle = log[40:120]  # while every process has work
    assert (len(middle) - 1) / (middle[-1][0] - middle[0][0]) > 0.5 * RATE  # it makes 0.95 and more on two idle cores
    assert noted(one_server, "free")[0][0] < log[-1][0]  # it did not queue behind all of those over budget


def test_being_put_off_is_no_attempt_and_a_real_retry_is(
    one_server: Server, app: Any, work: Callable[..., None]
) -> None:
    answers = [app.limited.delay(number) for number in range(60)]
    result = app.failing.delay()
    work(1)
    with pytest.raises(LookupError):
        result.get(timeout=60)
    with one_server.client() as client:
        lines: Any = client.lrange("failing", 0, -1)
    assert [line.split()[1] for line in lines] == [b"0", b"1"]
    assert sorted(answer.get(timeout=60) for answer in answers) == list(range(60))


def test_the_cost_is_a_function_of_the_arguments(one_server: Server, app: Any, work: Callable[..., None]) -> None:
    answers = [app.weighty.delay(number, each=5) for number in (0, 1, 2)]
    work(1, "-P", "solo")
    assert [answer.get(timeout=60) for answer in answers] == [0, 1, 2]
    assert int(app.budget.snapshot().granted_total) >= 15


def idle() -> None:
    """Does nothing."""


def test_a_task_that_cannot_work_is_refused_where_it_is_made() -> None:
    own, nexus = Celery("own", broker="memory://"), nexus_redis.Nexus.from_url("redis://nowhere.example")
    other = nexus_redis.asyncio.Nexus.from_url("redis://nowhere.example")
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, r"budget=None: name it: @app\.task"),
        ({"budget": "stripe"}, "budget='stripe': give a Budget of `nexus_redis`"),
        ({"budget": other.budget("x")}, "budget=.*: give a Budget of `nexus_redis`$"),
        ({"budget": nexus.budget("x"), "cost": -1}, "cost=-1: use"),
        ({"budget": nexus.budget("x"), "cost": "3"}, "cost='3': use"),
    ]
    for options, says in cases:
        with pytest.raises(InvalidSetting, match=says):
            own.task(base=NexusTask, lazy=False, shared=False, name=says, **options)(idle)


# Celery shares tasks among the applications of a process, and other tests have made some.
@pytest.mark.filterwarnings("ignore:.*already registered to a different callable")
def test_as_the_base_of_all_tasks_it_leaves_those_without_a_budget_alone() -> None:
    own = Celery("own", broker="memory://", task_cls=NexusTask)
    own.finalize()
    assert "celery.backend_cleanup" in own.tasks


def test_an_eager_task_waits_and_a_direct_call_takes_nothing(app: Any, one_server: Server) -> None:
    assert app.limited(7) == 7
    assert not app.budget.snapshot().exists
    assert [app.limited.apply((number,)).get() for number in range(20)] == list(range(20))
    assert app.budget.snapshot().granted_total >= 20
