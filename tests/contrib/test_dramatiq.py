"""Dramatiq workers on one budget, with a real Redis as their broker."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from dramatiq.results.errors import ResultFailure

from nexus_redis.testing import assert_never_exceeded
from tests.contrib.workers import Workers, noted
from tests.servers import Server
from tests.support import eventually

APP = "tests.contrib.dramatiq_app"
RATE = 40
PATIENCE_MS = 60_000


@pytest.fixture
def app(one_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The application, as the one who sends messages has it."""
    monkeypatch.setenv("NEXUS_REDIS_URL", one_server.url)
    module = importlib.import_module(APP)
    yield module
    module.nexus.close()
    module.broker.close()
    module.broker.client.close()
    module.backend.client.close()
    sys.modules.pop(APP)


def work(workers: Workers, count: int) -> None:
    """Start workers, of one process and two threads each."""
    for _ in range(count):
        workers.start("dramatiq", APP, "--processes", "1", "--threads", "2", "--skip-logging")


@pytest.mark.slow
def test_two_workers_on_one_budget_of_40_run_40_together_and_others_before_the_end(
    one_server: Server, app: Any, workers: Workers
) -> None:
    messages = [app.limited.send(number) for number in range(200)]
    work(workers, 2)
    assert eventually(lambda: len(noted(one_server, "limited")) >= 40, within_s=60)
    app.free.send()
    results = [message.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS) for message in messages]
    assert results == list(range(200))  # and no None, which a skipped message would leave as its result
    log = noted(one_server, "limited")
    assert_never_exceeded(log, RATE)
    middle = log[40:120]  # while every process has work
    assert (len(middle) - 1) / (middle[-1][0] - middle[0][0]) > 0.5 * RATE  # it makes 0.95 and more on two idle cores
    assert noted(one_server, "free")[0][0] < log[-1][0]  # it did not queue behind those over budget


def test_being_put_off_is_no_attempt_and_a_real_retry_is(one_server: Server, app: Any, workers: Workers) -> None:
    messages = [app.limited.send(number) for number in range(40)]
    app.failing.send()
    work(workers, 1)
    for message in messages:
        message.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS)
    assert eventually(lambda: len(noted(one_server, "failing")) == 2, within_s=60)


def test_a_cost_may_be_a_function_and_only_one_that_can_never_be_had_is_a_failure(
    one_server: Server, app: Any, workers: Workers
) -> None:
    app.limited.send(0)
    weighty = [app.weighty.send(number) for number in (0, 1, 2)]
    never, puzzling = app.too_much.send(), app.puzzling.send({"tokenz": 1})
    work(workers, 1)
    assert [m.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS) for m in weighty] == [0, 1, 2]
    with pytest.raises(ResultFailure, match="above the burst"):
        never.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS)
    assert puzzling.get_result(backend=app.backend, block=True, timeout=PATIENCE_MS) == 1
    assert app.budget.snapshot().granted_total >= 15
    assert noted(one_server, "too_much") == []
